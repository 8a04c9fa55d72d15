
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


static void ngx_http_llm_redis_load(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_greeted(redisAsyncContext *ac, void *reply,
    void *data);
static void ngx_http_llm_redis_refused(ngx_http_llm_redis_t *rd,
    const char *name, ngx_http_llm_redis_reply_t *error);
static void ngx_http_llm_redis_ponged(ngx_http_llm_redis_t *rd);


/* all that is to be said first goes out in one write */

void
ngx_http_llm_redis_opened(void *data)
{
    ngx_http_llm_redis_t  *rd = data;

    u_char      db[NGX_INT_T_LEN];
    ngx_str_t   argv[3];
    ngx_uint_t  n;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis connected fd:%d", rd->event.connection->fd);

    if (rd->target == NGX_HTTP_LLM_REDIS_TO_SENTINEL) {
        ngx_http_llm_redis_sentinel(rd);
        return;
    }

    if (rd->url.password.len != 0) {
        ngx_str_set(&argv[0], "AUTH");
        n = 1;

        if (rd->url.user.len != 0) {
            argv[n++] = rd->url.user;
        }

        argv[n++] = rd->url.password;
        ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "AUTH", n,
                               argv);
    }

    if (rd->url.master.len != 0) {
        ngx_str_set(&argv[0], "ROLE");
        ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "ROLE", 1,
                               argv);
    }

    if (rd->url.db != 0) {
        ngx_str_set(&argv[0], "SELECT");
        argv[1].data = db;
        argv[1].len = ngx_sprintf(db, "%ui", rd->url.db) - db;
        ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "SELECT", 2,
                               argv);
    }

    ngx_http_llm_redis_ping(rd);

    /* what follows goes before any command, but it may fail */

    ngx_str_set(&argv[0], "CLIENT");
    ngx_str_set(&argv[1], "SETNAME");
    ngx_str_set(&argv[2], "ngx-llm");
    ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "CLIENT", 3, argv);

    ngx_http_llm_redis_load(rd);
}


static void
ngx_http_llm_redis_load(ngx_http_llm_redis_t *rd)
{
    ngx_str_t                      argv[3];
    ngx_uint_t                     i;
    ngx_http_llm_redis_script_t  **script;

    script = rd->scripts.elts;

    for (i = 0; i < rd->scripts.nelts; i++) {
        ngx_str_set(&argv[0], "SCRIPT");
        ngx_str_set(&argv[1], "LOAD");
        argv[2] = script[i]->text;
        ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "SCRIPT", 3,
                               argv);
    }
}


void
ngx_http_llm_redis_ping(ngx_http_llm_redis_t *rd)
{
    ngx_str_t  ping = ngx_string("PING");

    rd->probe = ngx_current_msec;

    ngx_http_llm_redis_say(rd, ngx_http_llm_redis_greeted, "PING", 1, &ping);
}


/* what fails to be sent here is found by the connection's timer */

void
ngx_http_llm_redis_say(ngx_http_llm_redis_t *rd, redisCallbackFn *fn,
    const char *name, ngx_uint_t argc, ngx_str_t *argv)
{
    u_char  *p, *buffer;
    size_t   size;

    size = NGX_HTTP_LLM_REDIS_HEADER
           + ngx_http_llm_redis_args_size(argc, argv);

    buffer = ngx_http_llm_redis_buffer(rd, size);
    if (buffer == NULL) {
        return;
    }

    p = ngx_http_llm_redis_count(buffer, '*', argc);
    p = ngx_http_llm_redis_args(p, argc, argv);

    (void) ngx_http_llm_redis_event_send(&rd->event, fn, (void *) name,
                                         buffer, p - buffer);
}


static void
ngx_http_llm_redis_greeted(redisAsyncContext *ac, void *reply, void *data)
{
    const char *name = data;

    ngx_http_llm_redis_t        *rd;
    ngx_http_llm_redis_event_t  *event;
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
        ngx_http_llm_redis_refused(rd, name, &view);
        return;
    }

    if (ngx_strcmp(name, "ROLE") == 0) {

        if (rd->state == NGX_HTTP_LLM_REDIS_OPENING
            && !ngx_http_llm_redis_is_master(&view))
        {
            ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                    "the server is not the master");
        }

        return;
    }

    if (ngx_strcmp(name, "PING") == 0) {
        ngx_http_llm_redis_ponged(rd);
    }
}


static void
ngx_http_llm_redis_refused(ngx_http_llm_redis_t *rd, const char *name,
    ngx_http_llm_redis_reply_t *error)
{
    char                         *why;
    ngx_http_llm_redis_fault_e    fault;
    ngx_http_llm_redis_action_e   action;

    if (ngx_strcmp(name, "CLIENT") == 0) {
        return;
    }

    action = ngx_http_llm_redis_error(rd, error);
    why = (char *) error->str.data;

    if (ngx_strcmp(name, "SCRIPT") == 0) {

        /* EVAL may still do */

        if (action != NGX_HTTP_LLM_REDIS_PAUSE) {
            ngx_http_llm_redis_complain(rd, error);
        }

        return;
    }

    if (rd->state != NGX_HTTP_LLM_REDIS_OPENING) {
        /* said by a probe, or after another one of these */
        return;
    }

    if (action == NGX_HTTP_LLM_REDIS_PAUSE) {
        ngx_http_llm_redis_pause(rd, why);
        return;
    }

    fault = NGX_HTTP_LLM_REDIS_DOWN;

    if (action == NGX_HTTP_LLM_REDIS_DENY || ngx_strcmp(name, "PING") != 0) {
        fault = NGX_HTTP_LLM_REDIS_DENIED;
    }

    ngx_http_llm_redis_down(rd, fault, name, why);
}


static void
ngx_http_llm_redis_ponged(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t  late;

    /* so late a command would be, too */
    late = (ngx_current_msec - rd->probe > rd->options.timeout);

    if (rd->state == NGX_HTTP_LLM_REDIS_UP) {

        if (!late) {
            ngx_http_llm_redis_breaker_close(rd);
        }

        return;
    }

    if (rd->state != NGX_HTTP_LLM_REDIS_OPENING) {
        return;
    }

    if (late) {
        /* again, until the timer ends it */
        ngx_http_llm_redis_ping(rd);
        return;
    }

    ngx_http_llm_redis_breaker_close(rd);
    ngx_http_llm_redis_up(rd);
}
