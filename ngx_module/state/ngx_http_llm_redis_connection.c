
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


#define NGX_HTTP_LLM_REDIS_BACKOFF_MIN  50
#define NGX_HTTP_LLM_REDIS_BACKOFF_MAX  1000
#define NGX_HTTP_LLM_REDIS_PAUSE_MIN    100

/* what is up for so long is back; longer if an operator had to see to it */
#define NGX_HTTP_LLM_REDIS_PROBATION    1000
#define NGX_HTTP_LLM_REDIS_PATIENCE     10000

/* until the operator may have seen to it */
#define NGX_HTTP_LLM_REDIS_DENIED_TIME  5000

/* another worker asks: how often to look whether it had an answer */
#define NGX_HTTP_LLM_REDIS_POLL         100

/* a Sentinel is given less: there are others */
#define NGX_HTTP_LLM_REDIS_SENTINEL_TIME  300


static void ngx_http_llm_redis_open(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_aim(ngx_http_llm_redis_t *rd);
static ngx_uint_t ngx_http_llm_redis_next(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_trust(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_fault(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why);
static void ngx_http_llm_redis_tell(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why);
static void ngx_http_llm_redis_timer(ngx_http_llm_redis_t *rd,
    ngx_msec_t delay);


/* the timer of all states but the commands' */

void
ngx_http_llm_redis_connect(ngx_event_t *ev)
{
    ngx_http_llm_redis_t  *rd;

    rd = ev->data;

    switch (rd->state) {

    case NGX_HTTP_LLM_REDIS_UP:
        ngx_http_llm_redis_trust(rd);
        return;

    case NGX_HTTP_LLM_REDIS_OPENING:
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                rd->event.connected ? "no answer in time"
                                                    : "connect timed out");
        return;

    case NGX_HTTP_LLM_REDIS_PAUSED:
        rd->state = NGX_HTTP_LLM_REDIS_OPENING;
        ngx_add_timer(ev, rd->options.connect_timeout);

        /* it may be another process by now: all is said once more */
        ngx_http_llm_redis_opened(rd);
        return;

    case NGX_HTTP_LLM_REDIS_LEAVING:
        ngx_http_llm_redis_again(rd);
        return;

    default: /* NGX_HTTP_LLM_REDIS_CLOSED */
        break;
    }

    /* one probe goes by way of all addresses, and from Sentinel to master */

    if (!rd->probing && !ngx_http_llm_redis_breaker_probe(rd)) {

        if (rd->options.beside != NULL) {
            /* whatever it was, the other one has met it, too */
            rd->backoff = 0;
            rd->reason[0] = '\0';
        }

        ngx_add_timer(ev, NGX_HTTP_LLM_REDIS_POLL);
        return;
    }

    rd->probing = 1;

    if (rd->reason[0] != '\0'
        && rd->backoff >= NGX_HTTP_LLM_REDIS_BACKOFF_MAX)
    {
        ngx_http_llm_redis_tell(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                rd->reason);
        rd->reason[0] = '\0';
    }

    ngx_http_llm_redis_open(rd);
}


static void
ngx_http_llm_redis_open(ngx_http_llm_redis_t *rd)
{
    ngx_msec_t   timeout;
    ngx_addr_t   addr;

    ngx_http_llm_redis_aim(rd);

    if (rd->current.socklen == 0) {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                "no address");
        return;
    }

    addr.sockaddr = &rd->current.sockaddr.sockaddr;
    addr.socklen = rd->current.socklen;
    ngx_str_null(&addr.name);

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis connect, target:%d host:%ui addr:%ui",
                   rd->target, rd->host, rd->addr);

    if (ngx_http_llm_redis_event_open(&rd->event, &addr) != NGX_OK) {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                rd->event.text);
        return;
    }

    rd->state = NGX_HTTP_LLM_REDIS_OPENING;

    timeout = rd->options.connect_timeout;

    if (rd->target == NGX_HTTP_LLM_REDIS_TO_SENTINEL) {
        timeout = ngx_min(timeout, NGX_HTTP_LLM_REDIS_SENTINEL_TIME);
    }

    ngx_http_llm_redis_timer(rd, timeout);
}


/* where to connect to next */

static void
ngx_http_llm_redis_aim(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t                  addr;
    ngx_http_llm_redis_host_t  *host;

    if (rd->named) {
        rd->target = NGX_HTTP_LLM_REDIS_TO_NODE;
        host = &rd->node;
        addr = 0;

    } else {
        rd->target = rd->url.master.len ? NGX_HTTP_LLM_REDIS_TO_SENTINEL
                                        : NGX_HTTP_LLM_REDIS_TO_HOST;
        host = &rd->url.hosts[rd->host];
        addr = rd->addr;
    }

    rd->current.socklen = 0;

    if (addr < host->naddrs) {
        rd->current = host->addrs[addr];
    }
}


/* the next address; 1: all have been tried in a row */

static ngx_uint_t
ngx_http_llm_redis_next(ngx_http_llm_redis_t *rd)
{
    if (++rd->addr < rd->url.hosts[rd->host].naddrs) {
        return 0;
    }

    rd->addr = 0;
    rd->host = (rd->host + 1) % rd->url.nhosts;

    return ++rd->tried >= rd->url.nhosts;
}


void
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
    rd->probing = 0;

    if (rd->backoff != 0
        || *ngx_http_llm_redis_known(rd) != NGX_HTTP_LLM_REDIS_FINE)
    {

        /*
         * commands are taken from now on; that it is back is only said, and
         * the next wait is only a short one, if it stays up for a while
         */

        ngx_add_timer(&rd->connect,
                      rd->fault == NGX_HTTP_LLM_REDIS_DENIED
                      ? NGX_HTTP_LLM_REDIS_PATIENCE
                      : NGX_HTTP_LLM_REDIS_PROBATION);
    }

    ngx_http_llm_redis_held_send(rd);

    if (rd->options.up != NULL) {
        rd->options.up(rd->options.data);
    }
}


static void
ngx_http_llm_redis_trust(ngx_http_llm_redis_t *rd)
{
    ngx_atomic_t       *known;
    ngx_atomic_uint_t   fault;

    rd->backoff = 0;
    rd->logged = 0;

    rd->fault = NGX_HTTP_LLM_REDIS_FINE;
    rd->reason[0] = '\0';

    /* one of the workers says it, not always the one that said the other */

    known = ngx_http_llm_redis_known(rd);
    fault = *known;

    if (fault != NGX_HTTP_LLM_REDIS_FINE
        && ngx_atomic_cmp_set(known, fault, NGX_HTTP_LLM_REDIS_FINE)
        && ngx_http_llm_redis_may_log(rd, NGX_HTTP_LLM_REDIS_FAULTS))
    {
        /* as severe as its counterpart, so that a log shows both or none */
        ngx_log_error(NGX_LOG_ERR, rd->log, 0, "redis \"%V\" %s",
                      &rd->url.name, rd->options.beside != NULL
                                     ? "serves commands that wait again"
                                     : "is back");
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
    ngx_uint_t  round;

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis down, state:%d, %s", rd->state, why);

    /* a connection that was good, or the last address: then there is a wait */

    round = 1;

    if (rd->target == NGX_HTTP_LLM_REDIS_TO_NODE) {

        if (rd->state != NGX_HTTP_LLM_REDIS_UP || rd->url.master.len != 0) {
            /* back to the configuration; the next Sentinel may know better */
            rd->named = 0;

            /* a Cluster that names the dead until it has an heir: following
               it there was no turn between nodes */
            rd->moves = 0;

            (void) ngx_http_llm_redis_next(rd);
        }

    } else if (rd->state != NGX_HTTP_LLM_REDIS_UP) {
        round = ngx_http_llm_redis_next(rd);
        ngx_http_llm_redis_names_refresh(rd);
    }

    delay = 1;

    if (round || fault == NGX_HTTP_LLM_REDIS_DENIED) {
        rd->tried = 0;
        rd->probing = 0;

        rd->backoff = ngx_min(ngx_max(rd->backoff * 2,
                                      NGX_HTTP_LLM_REDIS_BACKOFF_MIN),
                              NGX_HTTP_LLM_REDIS_BACKOFF_MAX);

        delay = rd->backoff - (ngx_msec_t) ngx_random() % (rd->backoff / 4);

        if (fault == NGX_HTTP_LLM_REDIS_DENIED) {
            delay = NGX_HTTP_LLM_REDIS_DENIED_TIME;
        }

        ngx_http_llm_redis_fault(rd, fault, what, why);
    }

    /* no commands from the handlers that are told now that theirs are gone */
    rd->state = NGX_HTTP_LLM_REDIS_CLOSED;

    ngx_http_llm_redis_timer(rd, delay);

    ngx_http_llm_redis_event_close(&rd->event);
    ngx_http_llm_redis_held_gone(rd);
}


void
ngx_http_llm_redis_again(ngx_http_llm_redis_t *rd)
{
    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis goes elsewhere, state:%d", rd->state);

    rd->state = NGX_HTTP_LLM_REDIS_CLOSED;

    if (rd->connect.timer_set) {
        ngx_del_timer(&rd->connect);
    }

    /* else the end of the resolve sets it */

    if (rd->node.ctx == NULL) {
        ngx_add_timer(&rd->connect, 1);
    }

    ngx_http_llm_redis_event_close(&rd->event);
}


void
ngx_http_llm_redis_pause(ngx_http_llm_redis_t *rd, const char *why)
{
    rd->backoff = ngx_min(ngx_max(rd->backoff * 2,
                                  NGX_HTTP_LLM_REDIS_PAUSE_MIN),
                          NGX_HTTP_LLM_REDIS_BACKOFF_MAX);

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis paused for %M: %s", rd->backoff, why);

    ngx_http_llm_redis_fault(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL, why);

    rd->state = NGX_HTTP_LLM_REDIS_PAUSED;

    ngx_http_llm_redis_timer(rd, rd->backoff);
    ngx_http_llm_redis_held_gone(rd);
}


void
ngx_http_llm_redis_leave(ngx_http_llm_redis_t *rd)
{
    rd->state = NGX_HTTP_LLM_REDIS_LEAVING;

    ngx_http_llm_redis_timer(rd, rd->options.timeout);
    ngx_http_llm_redis_left(rd);
}


/* not at once: this may be a callback of the connection */

void
ngx_http_llm_redis_left(ngx_http_llm_redis_t *rd)
{
    if (rd->state == NGX_HTTP_LLM_REDIS_LEAVING
        && ngx_queue_empty(&rd->pending))
    {
        ngx_http_llm_redis_timer(rd, 1);
    }
}


static void
ngx_http_llm_redis_fault(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why)
{
    if (rd->options.beside != NULL && fault == NGX_HTTP_LLM_REDIS_DOWN) {

        /* to be said if the other one stays up while this one does not */

        (void) ngx_cpystrn((u_char *) rd->reason, (u_char *) why,
                           sizeof(rd->reason));
        return;
    }

    ngx_http_llm_redis_tell(rd, fault, what, why);
}


/* the log hears of it once, by one of the workers */

static void
ngx_http_llm_redis_tell(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why)
{
    ngx_atomic_t       *known;
    ngx_atomic_uint_t   before;

    if (fault <= rd->fault) {
        return;
    }

    if (rd->options.beside != NULL
        && rd->shared->fault != NGX_HTTP_LLM_REDIS_FINE)
    {
        /* that the server itself is down has been said */
        return;
    }

    rd->fault = fault;

    known = ngx_http_llm_redis_known(rd);
    before = *known;

    if (fault <= before
        || !ngx_atomic_cmp_set(known, before, fault)
        || !ngx_http_llm_redis_may_log(rd, NGX_HTTP_LLM_REDIS_FAULTS))
    {
        return;
    }

    ngx_log_error(NGX_LOG_ERR, rd->log, 0, "redis \"%V\" %s: %s%s%s",
                  &rd->url.name, rd->options.beside != NULL
                                 ? "does not serve commands that wait"
                                 : "is down",
                  what ? what : "", what ? ": " : "", why);
}


static void
ngx_http_llm_redis_timer(ngx_http_llm_redis_t *rd, ngx_msec_t delay)
{
    if (rd->connect.timer_set) {
        ngx_del_timer(&rd->connect);
    }

    ngx_add_timer(&rd->connect, delay);
}
