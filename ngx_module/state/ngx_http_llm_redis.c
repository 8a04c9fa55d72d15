
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"

#include <ngx_http.h>
#include <ngx_sha1.h>


/* ms, of all connections of a worker that exits */
#define NGX_HTTP_LLM_REDIS_PART  500


static void ngx_http_llm_redis_part(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_forget(ngx_queue_t *ops);
static void ngx_http_llm_redis_free(ngx_http_llm_redis_t *rd);


/* when the waiting of a worker that exits is over; 0: it has not begun */
static ngx_msec_t  ngx_http_llm_redis_parted;


ngx_http_llm_redis_t *
ngx_http_llm_redis_create(ngx_conf_t *cf, ngx_str_t *url)
{
    ngx_http_llm_redis_t  *rd;

    rd = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_redis_t));
    if (rd == NULL) {
        return NULL;
    }

    if (ngx_http_llm_redis_url_parse(cf, url, &rd->url) != NGX_OK) {
        return NULL;
    }

    if (ngx_array_init(&rd->scripts, cf->pool, 4,
                       sizeof(ngx_http_llm_redis_script_t *))
        != NGX_OK)
    {
        return NULL;
    }

    /* its resolver is known when all of http{} has been read */
    rd->http = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    rd->shared = &rd->own;
    rd->slot = -1;

    rd->options.timeout = 50;
    rd->options.connect_timeout = 1000;
    rd->options.max_pending = 10000;
    rd->options.max_unsent = 64 * 1024 * 1024;
    rd->options.max_offer = 1024 * 1024;
    rd->options.max_reply = 64 * 1024 * 1024;

    return rd;
}


ngx_http_llm_redis_options_t *
ngx_http_llm_redis_options(ngx_http_llm_redis_t *rd)
{
    return &rd->options;
}


ngx_http_llm_redis_script_t *
ngx_http_llm_redis_script(ngx_http_llm_redis_t *rd, ngx_str_t *lua)
{
    u_char                        *p, digest[20];
    ngx_sha1_t                     sha1;
    ngx_http_llm_redis_script_t   *script, **elt;

    script = ngx_pcalloc(rd->scripts.pool,
                         sizeof(ngx_http_llm_redis_script_t));
    if (script == NULL) {
        return NULL;
    }

    ngx_sha1_init(&sha1);
    ngx_sha1_update(&sha1, lua->data, lua->len);
    ngx_sha1_final(digest, &sha1);

    script->text = *lua;

    p = ngx_sprintf(script->data, "$7" CRLF "EVALSHA" CRLF "$%d" CRLF,
                    NGX_HTTP_LLM_REDIS_SHA1);
    p = ngx_hex_dump(p, digest, 20);

    *p++ = CR; *p++ = LF;

    script->head.data = script->data;
    script->head.len = p - script->data;

    elt = ngx_array_push(&rd->scripts);
    if (elt == NULL) {
        return NULL;
    }

    *elt = script;

    return script;
}


ngx_str_t *
ngx_http_llm_redis_name(ngx_http_llm_redis_t *rd)
{
    return &rd->url.name;
}


ngx_http_llm_redis_stat_t *
ngx_http_llm_redis_stat(ngx_http_llm_redis_t *rd)
{
    return &rd->stat;
}


ngx_int_t
ngx_http_llm_redis_init_process(ngx_http_llm_redis_t *rd, ngx_cycle_t *cycle)
{
    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    rd->log = cycle->log;

    if (rd->options.beside != NULL) {
        rd->shared = rd->options.beside->shared;
    }

    ngx_queue_init(&rd->pending);
    ngx_queue_init(&rd->held);
    ngx_queue_init(&rd->free);

    rd->event.log = cycle->log;
    rd->event.data = rd;
    rd->event.opened = ngx_http_llm_redis_opened;
    rd->event.closed = ngx_http_llm_redis_closed;
    rd->event.max_unsent = rd->options.max_unsent;
    rd->event.max_reply = rd->options.max_reply;

    /* a worker that quits waits for no server, but for pending commands */

    rd->connect.handler = ngx_http_llm_redis_connect;
    rd->connect.log = cycle->log;
    rd->connect.data = rd;
    rd->connect.cancelable = 1;

    rd->deadline.handler = ngx_http_llm_redis_deadline;
    rd->deadline.log = cycle->log;
    rd->deadline.data = rd;
    rd->deadline.cancelable = 1;

    ngx_http_llm_redis_names_init(rd);

    ngx_http_llm_redis_connect(&rd->connect);

    return NGX_OK;
}


void
ngx_http_llm_redis_flush(ngx_http_llm_redis_t *rd)
{
    ngx_http_llm_redis_event_flush(&rd->event);
}


void
ngx_http_llm_redis_exit_process(ngx_http_llm_redis_t *rd)
{
    ngx_uint_t  hears;

    if (rd->log == NULL) {
        return;
    }

    hears = ngx_http_llm_redis_connected(rd) && rd->options.beside == NULL;

    ngx_http_llm_redis_forget(&rd->pending);
    ngx_http_llm_redis_forget(&rd->held);

    rd->state = NGX_HTTP_LLM_REDIS_CLOSED;

    ngx_http_llm_redis_names_exit(rd);

    ngx_http_llm_redis_event_flush(&rd->event);

    if (hears) {
        ngx_http_llm_redis_part(rd);
    }

    ngx_http_llm_redis_event_close(&rd->event);

    ngx_http_llm_redis_held_gone(rd);

    if (rd->connect.timer_set) {
        ngx_del_timer(&rd->connect);
    }

    if (rd->deadline.timer_set) {
        ngx_del_timer(&rd->deadline);
    }

    ngx_http_llm_redis_free(rd);

    rd->log = NULL;
}


/*
 * A server whose answer finds the connection closed reads nothing more from
 * it: behind a command that it is busy with, what was said last would be lost.
 */

static void
ngx_http_llm_redis_part(ngx_http_llm_redis_t *rd)
{
    ngx_msec_int_t  left;

    ngx_time_update();

    if (ngx_http_llm_redis_parted == 0) {
        ngx_http_llm_redis_parted = ngx_current_msec + NGX_HTTP_LLM_REDIS_PART;
    }

    while (!ngx_queue_empty(&rd->pending)) {
        left = (ngx_msec_int_t) (ngx_http_llm_redis_parted - ngx_current_msec);

        if (left <= 0
            || ngx_http_llm_redis_event_wait(&rd->event, left) != NGX_OK)
        {
            break;
        }
    }

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, rd->log, 0,
                   "llm redis: gone, %ui unheard", rd->npending);
}


/* nobody is called any more */

static void
ngx_http_llm_redis_forget(ngx_queue_t *ops)
{
    ngx_queue_t              *q;
    ngx_http_llm_redis_op_t  *op;

    for (q = ngx_queue_head(ops);
         q != ngx_queue_sentinel(ops);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);
        op->handler = NULL;
    }
}


static void
ngx_http_llm_redis_free(ngx_http_llm_redis_t *rd)
{
    ngx_queue_t              *q, *next;
    ngx_http_llm_redis_op_t  *op;

    for (q = ngx_queue_head(&rd->free);
         q != ngx_queue_sentinel(&rd->free);
         q = next)
    {
        next = ngx_queue_next(q);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        if (op->buffer != NULL) {
            ngx_free(op->buffer);
        }

        ngx_free(op);
    }

    ngx_queue_init(&rd->free);
    rd->nfree = 0;

    if (rd->buffer != NULL) {
        ngx_free(rd->buffer);
        rd->buffer = NULL;
        rd->size = 0;
    }
}
