
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


#define NGX_HTTP_LLM_REDIS_BACKOFF_MIN  50
#define NGX_HTTP_LLM_REDIS_BACKOFF_MAX  2000
#define NGX_HTTP_LLM_REDIS_PROBATION    1000


static void ngx_http_llm_redis_ping(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_greet(ngx_http_llm_redis_t *rd,
    const char *name, ngx_uint_t argc, ngx_str_t *argv);
static void ngx_http_llm_redis_greeted(redisAsyncContext *ac, void *reply,
    void *data);
static void ngx_http_llm_redis_up(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_trust(ngx_http_llm_redis_t *rd);


/* the timer between two connections, and of one that has to prove itself */

void
ngx_http_llm_redis_connect(ngx_event_t *ev)
{
    ngx_addr_t            *addr;
    ngx_http_llm_redis_t  *rd;

    rd = ev->data;

    if (rd->state == NGX_HTTP_LLM_REDIS_UP) {
        ngx_http_llm_redis_trust(rd);
        return;
    }

    if (rd->state == NGX_HTTP_LLM_REDIS_OPENING) {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                rd->event.connected ? "no answer in time"
                                                    : "connect timed out");
        return;
    }

    addr = &rd->url.addrs[rd->addr];

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis connect to %V", &addr->name);

    if (ngx_http_llm_redis_event_open(&rd->event, addr) != NGX_OK) {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                rd->event.text);
        return;
    }

    rd->state = NGX_HTTP_LLM_REDIS_OPENING;

    ngx_add_timer(&rd->connect, rd->options.connect_timeout);
}


/* all that is to be said first goes out in one write */

void
ngx_http_llm_redis_opened(void *data)
{
    ngx_http_llm_redis_t  *rd = data;

    u_char                         db[NGX_INT_T_LEN];
    ngx_str_t                      argv[3];
    ngx_uint_t                     i, n;
    ngx_http_llm_redis_script_t  **script;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis connected fd:%d", rd->event.connection->fd);

    if (rd->url.password.len != 0) {
        ngx_str_set(&argv[0], "AUTH");
        n = 1;

        if (rd->url.user.len != 0) {
            argv[n++] = rd->url.user;
        }

        argv[n++] = rd->url.password;
        ngx_http_llm_redis_greet(rd, "AUTH", n, argv);
    }

    if (rd->url.db != 0) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1].data = db;
        argv[1].len = ngx_sprintf(db, "%ui", rd->url.db) - db;
        ngx_http_llm_redis_greet(rd, "SELECT", 2, argv);
    }

    ngx_http_llm_redis_ping(rd);

    /* what follows goes before any command, but it may fail */

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "SETNAME");
    ngx_str_set(&argv[2], "ngx-llm");
    ngx_http_llm_redis_greet(rd, "CLIENT", 3, argv);

    script = rd->scripts.elts;

    for (i = 0; i < rd->scripts.nelts; i++) {
        ngx_str_set(&argv[0], "SCRIPT");
        ngx_str_set(&argv[1], "LOAD");
        argv[2] = script[i]->text;
        ngx_http_llm_redis_greet(rd, "SCRIPT", 3, argv);
    }
}


static void
ngx_http_llm_redis_ping(ngx_http_llm_redis_t *rd)
{
    ngx_str_t  ping = ngx_string("PING");

    rd->probe = ngx_current_msec;

    ngx_http_llm_redis_greet(rd, "PING", 1, &ping);
}


/* what fails to be sent here is found by the connection's timer */

static void
ngx_http_llm_redis_greet(ngx_http_llm_redis_t *rd, const char *name,
    ngx_uint_t argc, ngx_str_t *argv)
{
    u_char  *p, *buffer;
    size_t   size;

    size = NGX_HTTP_LLM_REDIS_HEADER
           + ngx_http_llm_redis_args_size(argc, argv);

    buffer = ngx_http_llm_redis_buffer(rd, size);
    if (buffer == NULL) {
        return;
    }

    p = ngx_sprintf(buffer, "*%ui" CRLF, argc);
    p = ngx_http_llm_redis_args(p, argc, argv);

    (void) ngx_http_llm_redis_event_send(&rd->event,
                                         ngx_http_llm_redis_greeted,
                                         (void *) name, buffer, p - buffer);
}


static void
ngx_http_llm_redis_greeted(redisAsyncContext *ac, void *reply, void *data)
{
    const char *name = data;

    ngx_http_llm_redis_t        *rd;
    ngx_http_llm_redis_event_t  *event;
    ngx_http_llm_redis_fault_e   fault;
    ngx_http_llm_redis_reply_t   view;

    event = ac->data;
    rd = event->data;

    if (reply == NULL || rd->state == NGX_HTTP_LLM_REDIS_CLOSED) {
        return;
    }

    ngx_http_llm_redis_view(&view, reply);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis %s: %V", name, &view.str);

    if (view.type == NGX_HTTP_LLM_REDIS_ERROR) {

        if (ngx_strcmp(name, "CLIENT") == 0) {
            return;
        }

        if (ngx_strcmp(name, "SCRIPT") == 0) {
            /* EVAL may still do */
            ngx_http_llm_redis_error(rd, &view);
            return;
        }

        fault = NGX_HTTP_LLM_REDIS_DOWN;

        if (view.error == NGX_HTTP_LLM_REDIS_ERR_NOAUTH
            || ngx_strcmp(name, "PING") != 0)
        {
            fault = NGX_HTTP_LLM_REDIS_DENIED;
        }

        rd->stat.errors[view.error]++;

        ngx_http_llm_redis_down(rd, fault, name, ((redisReply *) reply)->str);
        return;
    }

    if (ngx_strcmp(name, "PING") != 0) {
        return;
    }

    if (ngx_current_msec - rd->probe > rd->options.timeout) {
        /* so late commands would be, too: again, until the timer ends it */
        ngx_http_llm_redis_ping(rd);
        return;
    }

    ngx_http_llm_redis_up(rd);
}


static void
ngx_http_llm_redis_up(ngx_http_llm_redis_t *rd)
{
    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis up, backoff:%M", rd->backoff);

    if (rd->connect.timer_set) {
        ngx_del_timer(&rd->connect);
    }

    if (rd->before) {
        rd->stat.reconnects++;
    }

    rd->state = NGX_HTTP_LLM_REDIS_UP;
    rd->before = 1;
    rd->late = 0;
    rd->tried = 0;

    if (rd->backoff != 0) {

        /*
         * commands are taken from now on; that it is back is only said, and
         * the next wait is only a short one, if it stays up for a while
         */

        ngx_add_timer(&rd->connect, NGX_HTTP_LLM_REDIS_PROBATION);
    }
}


static void
ngx_http_llm_redis_trust(ngx_http_llm_redis_t *rd)
{
    rd->backoff = 0;
    rd->logged = 0;

    if (rd->fault != NGX_HTTP_LLM_REDIS_FINE) {
        rd->fault = NGX_HTTP_LLM_REDIS_FINE;

        /* as severe as its counterpart, so that a log shows both or none */
        ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                      "redis \"%V\" is back", &rd->url.name);
    }
}


void
ngx_http_llm_redis_closed(void *data, char *why)
{
    ngx_http_llm_redis_t  *rd = data;

    ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL, why);
}


void
ngx_http_llm_redis_down(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why)
{
    ngx_msec_t  delay;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis down, state:%d, %s", rd->state, why);

    delay = 1;

    if (rd->state != NGX_HTTP_LLM_REDIS_UP) {
        rd->addr = (rd->addr + 1) % rd->url.naddrs;
        rd->tried++;
    }

    if (rd->state == NGX_HTTP_LLM_REDIS_UP
        || rd->tried >= rd->url.naddrs
        || fault == NGX_HTTP_LLM_REDIS_DENIED)
    {
        rd->tried = 0;

        rd->backoff = ngx_min(ngx_max(rd->backoff * 2,
                                      NGX_HTTP_LLM_REDIS_BACKOFF_MIN),
                              NGX_HTTP_LLM_REDIS_BACKOFF_MAX);

        delay = rd->backoff + (ngx_msec_t) ngx_random() % (rd->backoff / 4);

        if (fault > rd->fault) {
            rd->fault = fault;

            ngx_log_error(NGX_LOG_ERR, rd->log, 0,
                          "redis \"%V\" is down: %s%s%s", &rd->url.name,
                          what ? what : "", what ? ": " : "", why);
        }
    }

    /* no commands from the handlers that are told now that theirs are gone */
    rd->state = NGX_HTTP_LLM_REDIS_CLOSED;

    if (rd->connect.timer_set) {
        ngx_del_timer(&rd->connect);
    }

    ngx_add_timer(&rd->connect, delay);

    ngx_http_llm_redis_event_close(&rd->event);
}
