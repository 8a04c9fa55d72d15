
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


/* commands without a reply in time in a row that end a connection, and ms */
#define NGX_HTTP_LLM_REDIS_LATE         5
#define NGX_HTTP_LLM_REDIS_LATE_TIME    1000

/* reads before commands are said to be late: their replies may have come */
#define NGX_HTTP_LLM_REDIS_DRAIN        64

/* the command buffer that is kept, a larger one is for its command only */
#define NGX_HTTP_LLM_REDIS_BUFFER       65536


static ngx_http_llm_redis_op_t *ngx_http_llm_redis_op(
    ngx_http_llm_redis_t *rd, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data);
static void ngx_http_llm_redis_op_free(ngx_http_llm_redis_op_t *op);
static ngx_int_t ngx_http_llm_redis_send(ngx_http_llm_redis_op_t *op,
    u_char *command, size_t len);
static ngx_int_t ngx_http_llm_redis_resend(ngx_http_llm_redis_op_t *op);
static void ngx_http_llm_redis_reply(redisAsyncContext *ac, void *reply,
    void *data);
static ngx_msec_t ngx_http_llm_redis_expire(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_arm(ngx_http_llm_redis_t *rd, ngx_msec_t at);


ngx_http_llm_redis_op_t *
ngx_http_llm_redis_command(ngx_http_llm_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    u_char                   *p, *buffer;
    size_t                    size;
    ngx_http_llm_redis_op_t  *op;

    op = ngx_http_llm_redis_op(rd, timeout, handler, data);
    if (op == NULL) {
        return NULL;
    }

    size = NGX_HTTP_LLM_REDIS_HEADER
           + ngx_http_llm_redis_args_size(argc, argv);

    buffer = ngx_http_llm_redis_buffer(rd, size);
    if (buffer == NULL) {
        goto failed;
    }

    p = ngx_sprintf(buffer, "*%ui" CRLF, argc);
    p = ngx_http_llm_redis_args(p, argc, argv);

    if (ngx_http_llm_redis_send(op, buffer, p - buffer) != NGX_OK) {
        goto failed;
    }

    return op;

failed:

    rd->stat.refused++;
    ngx_http_llm_redis_op_free(op);

    return NULL;
}


ngx_http_llm_redis_op_t *
ngx_http_llm_redis_eval(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_script_t *script, ngx_uint_t nkeys, ngx_uint_t argc,
    ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    u_char                   *p, keys[NGX_INT_T_LEN];
    size_t                    size;
    ngx_str_t                 head[3];
    ngx_http_llm_redis_op_t  *op;

    op = ngx_http_llm_redis_op(rd, timeout, handler, data);
    if (op == NULL) {
        return NULL;
    }

    ngx_str_set(&head[0], "EVALSHA");
    head[1] = script->sha1;
    head[2].data = keys;
    head[2].len = ngx_sprintf(keys, "%ui", nkeys) - keys;

    size = NGX_HTTP_LLM_REDIS_HEADER + ngx_http_llm_redis_args_size(3, head)
           + ngx_http_llm_redis_args_size(argc, argv);

    op->buffer = ngx_alloc(size, rd->log);
    if (op->buffer == NULL) {
        goto failed;
    }

    p = ngx_sprintf(op->buffer, "*%ui" CRLF, argc + 3);
    p = ngx_http_llm_redis_args(p, 2, head);

    op->script = script;
    op->argc = argc + 1;
    op->args.data = p;

    p = ngx_http_llm_redis_args(p, 1, &head[2]);
    p = ngx_http_llm_redis_args(p, argc, argv);

    op->args.len = p - op->args.data;

    if (ngx_http_llm_redis_send(op, op->buffer, p - op->buffer) != NGX_OK) {
        goto failed;
    }

    return op;

failed:

    rd->stat.refused++;
    ngx_http_llm_redis_op_free(op);

    return NULL;
}


void
ngx_http_llm_redis_detach(ngx_http_llm_redis_op_t *op)
{
    op->handler = NULL;
}


static ngx_http_llm_redis_op_t *
ngx_http_llm_redis_op(ngx_http_llm_redis_t *rd, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    ngx_queue_t              *q;
    ngx_http_llm_redis_op_t  *op;

    if (rd->state != NGX_HTTP_LLM_REDIS_UP
        || rd->npending >= rd->options.max_pending)
    {
        rd->stat.refused++;
        return NULL;
    }

    if (ngx_queue_empty(&rd->free)) {
        op = ngx_alloc(sizeof(ngx_http_llm_redis_op_t), rd->log);
        if (op == NULL) {
            rd->stat.refused++;
            return NULL;
        }

    } else {
        q = ngx_queue_head(&rd->free);
        ngx_queue_remove(q);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);
    }

    ngx_memzero(op, sizeof(ngx_http_llm_redis_op_t));

    op->redis = rd;
    op->handler = handler;
    op->data = data;
    op->deadline = ngx_current_msec
                   + (timeout ? timeout : rd->options.timeout);

    return op;
}


static void
ngx_http_llm_redis_op_free(ngx_http_llm_redis_op_t *op)
{
    if (op->buffer != NULL) {
        ngx_free(op->buffer);
        op->buffer = NULL;
    }

    ngx_queue_insert_head(&op->redis->free, &op->queue);
}


static ngx_int_t
ngx_http_llm_redis_send(ngx_http_llm_redis_op_t *op, u_char *command,
    size_t len)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    if (ngx_http_llm_redis_event_send(&rd->event, ngx_http_llm_redis_reply,
                                      op, command, len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&rd->pending, &op->queue);

    rd->stat.commands++;
    rd->npending++;
    rd->live++;
    rd->deadline.cancelable = 0;

    ngx_http_llm_redis_arm(rd, op->deadline);

    return NGX_OK;
}


static void
ngx_http_llm_redis_reply(redisAsyncContext *ac, void *reply, void *data)
{
    ngx_http_llm_redis_op_t *op = data;

    ngx_http_llm_redis_t        *rd;
    ngx_http_llm_redis_reply_t   view;

    rd = op->redis;

    if (reply != NULL) {
        rd->stat.replies++;
        ngx_http_llm_redis_view(&view, reply);

    } else {
        ngx_memzero(&view, sizeof(ngx_http_llm_redis_reply_t));
        view.type = NGX_HTTP_LLM_REDIS_GONE;
        rd->stat.gone += !op->expired;
    }

    if (view.type == NGX_HTTP_LLM_REDIS_ERROR) {
        ngx_http_llm_redis_error(rd, &view);

        if (view.error == NGX_HTTP_LLM_REDIS_ERR_NOSCRIPT
            && op->script != NULL && !op->expired
            && ngx_http_llm_redis_resend(op) == NGX_OK)
        {
            return;
        }
    }

    ngx_queue_remove(&op->queue);
    rd->npending--;

    if (!op->expired) {
        rd->live--;
        rd->deadline.cancelable = (rd->live == 0);

        if (reply != NULL) {
            rd->late = 0;
        }
    }

    if (op->handler != NULL) {
        op->handler(op->data, &view);
    }

    ngx_http_llm_redis_op_free(op);
}


/* the server has forgotten the script: the same again with its text */

static ngx_int_t
ngx_http_llm_redis_resend(ngx_http_llm_redis_op_t *op)
{
    u_char                *p, *buffer;
    size_t                 size;
    ngx_str_t              head[2];
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    ngx_str_set(&head[0], "EVAL");
    head[1] = op->script->text;

    size = NGX_HTTP_LLM_REDIS_HEADER + ngx_http_llm_redis_args_size(2, head)
           + op->args.len;

    buffer = ngx_http_llm_redis_buffer(rd, size);
    if (buffer == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(buffer, "*%ui" CRLF, op->argc + 2);
    p = ngx_http_llm_redis_args(p, 2, head);
    p = ngx_cpymem(p, op->args.data, op->args.len);

    if (ngx_http_llm_redis_event_send(&rd->event, ngx_http_llm_redis_reply,
                                      op, buffer, p - buffer)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis sends a script");

    op->script = NULL;
    rd->stat.resent++;

    ngx_queue_remove(&op->queue);
    ngx_queue_insert_tail(&rd->pending, &op->queue);

    return NGX_OK;
}


void
ngx_http_llm_redis_deadline(ngx_event_t *ev)
{
    ngx_uint_t                n;
    ngx_msec_t                next;
    ngx_queue_t              *q;
    ngx_msec_int_t            late;
    ngx_http_llm_redis_t     *rd;
    ngx_http_llm_redis_op_t  *op;

    rd = ev->data;

    for (n = 0; n < NGX_HTTP_LLM_REDIS_DRAIN; n++) {

        if (ngx_queue_empty(&rd->pending)) {
            return;
        }

        q = ngx_queue_head(&rd->pending);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        /* that this process was busy makes no reply late that has come */

        if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0
            || ngx_http_llm_redis_event_drain(&rd->event) != NGX_OK)
        {
            break;
        }
    }

    next = ngx_http_llm_redis_expire(rd);

    ev->cancelable = (rd->live == 0);

    if (ngx_queue_empty(&rd->pending)) {
        return;
    }

    q = ngx_queue_head(&rd->pending);
    op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

    late = ngx_current_msec - op->deadline;

    if (rd->late >= NGX_HTTP_LLM_REDIS_LATE
        || late >= NGX_HTTP_LLM_REDIS_LATE_TIME)
    {
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL,
                                "no answer in time");
        return;
    }

    ngx_http_llm_redis_arm(rd, next);
}


/* answers what is late; returns when the next one will be */

static ngx_msec_t
ngx_http_llm_redis_expire(ngx_http_llm_redis_t *rd)
{
    ngx_msec_t                      next;
    ngx_queue_t                    *q;
    ngx_http_llm_redis_op_t        *op;
    ngx_http_llm_redis_reply_t      view;
    ngx_http_llm_redis_handler_pt   handler;

    next = ngx_current_msec + NGX_HTTP_LLM_REDIS_LATE_TIME;

    for (q = ngx_queue_head(&rd->pending);
         q != ngx_queue_sentinel(&rd->pending);
         q = ngx_queue_next(q))
    {
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        if (op->expired) {
            continue;
        }

        if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0) {

            if ((ngx_msec_int_t) (op->deadline - next) < 0) {
                next = op->deadline;
            }

            continue;
        }

        op->expired = 1;

        rd->stat.timeouts++;
        rd->live--;
        rd->late++;

        if (op->handler == NULL) {
            continue;
        }

        /* the place in the queue is kept for the reply that may come */

        handler = op->handler;
        op->handler = NULL;

        ngx_memzero(&view, sizeof(ngx_http_llm_redis_reply_t));
        view.type = NGX_HTTP_LLM_REDIS_TIMEOUT;

        handler(op->data, &view);
    }

    return next;
}


static void
ngx_http_llm_redis_arm(ngx_http_llm_redis_t *rd, ngx_msec_t at)
{
    /*
     * A timer that is set may fire too early, it then looks at the commands
     * and is set again: that is cheaper than moving it with every reply
     */

    if (rd->deadline.timer_set) {

        if ((ngx_msec_int_t) (at - rd->deadline.timer.key) >= 0) {
            return;
        }

        ngx_del_timer(&rd->deadline);
    }

    ngx_add_timer(&rd->deadline, ngx_max((ngx_msec_int_t)
                                         (at - ngx_current_msec), 0));
}


/* room for one command, valid until the next call */

u_char *
ngx_http_llm_redis_buffer(ngx_http_llm_redis_t *rd, size_t size)
{
    if (size <= rd->size && rd->size <= NGX_HTTP_LLM_REDIS_BUFFER) {
        return rd->buffer;
    }

    if (rd->buffer != NULL) {
        ngx_free(rd->buffer);
    }

    rd->size = ngx_max(size, ngx_pagesize);
    rd->buffer = ngx_alloc(rd->size, rd->log);

    if (rd->buffer == NULL) {
        rd->size = 0;
    }

    return rd->buffer;
}


size_t
ngx_http_llm_redis_args_size(ngx_uint_t argc, ngx_str_t *argv)
{
    size_t      size;
    ngx_uint_t  i;

    size = 0;

    for (i = 0; i < argc; i++) {
        size += NGX_HTTP_LLM_REDIS_HEADER + argv[i].len + sizeof(CRLF) - 1;
    }

    return size;
}


u_char *
ngx_http_llm_redis_args(u_char *p, ngx_uint_t argc, ngx_str_t *argv)
{
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        p = ngx_sprintf(p, "$%uz" CRLF, argv[i].len);

        if (argv[i].len != 0) {
            p = ngx_cpymem(p, argv[i].data, argv[i].len);
        }

        *p++ = CR; *p++ = LF;
    }

    return p;
}
