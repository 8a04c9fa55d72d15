
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


/* a larger command is not kept to follow its slot */
#define NGX_HTTP_LLM_REDIS_KEEP         16384

/* what stays allocated for the next ones: bytes of a command, commands */
#define NGX_HTTP_LLM_REDIS_SPARE        4096
#define NGX_HTTP_LLM_REDIS_SPARES       512


static ngx_http_llm_redis_op_t *ngx_http_llm_redis_op(
    ngx_http_llm_redis_t *rd, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data);
static ngx_int_t ngx_http_llm_redis_op_room(ngx_http_llm_redis_op_t *op,
    size_t size);
static void ngx_http_llm_redis_op_free(ngx_http_llm_redis_op_t *op);
static ngx_int_t ngx_http_llm_redis_send(ngx_http_llm_redis_op_t *op,
    u_char *last);
static ngx_int_t ngx_http_llm_redis_resend(ngx_http_llm_redis_op_t *op);
static void ngx_http_llm_redis_after(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_action_e action, ngx_http_llm_redis_reply_t *error);


ngx_http_llm_redis_op_t *
ngx_http_llm_redis_command(ngx_http_llm_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    u_char                   *p;
    ngx_http_llm_redis_op_t  *op;

    op = ngx_http_llm_redis_op(rd, timeout, handler, data);
    if (op == NULL) {
        return NULL;
    }

    if (ngx_http_llm_redis_op_room(op, NGX_HTTP_LLM_REDIS_HEADER
                                   + ngx_http_llm_redis_args_size(argc, argv))
        != NGX_OK)
    {
        goto failed;
    }

    p = ngx_http_llm_redis_count(op->buffer, '*', argc);
    p = ngx_http_llm_redis_args(p, argc, argv);

    if (ngx_http_llm_redis_send(op, p) != NGX_OK) {
        goto failed;
    }

    if (op->size > NGX_HTTP_LLM_REDIS_KEEP) {
        ngx_free(op->buffer);
        op->buffer = NULL;
        op->size = 0;
        op->len = 0;
    }

    return op;

failed:

    rd->stat.refused++;
    ngx_http_llm_redis_op_free(op);

    return NULL;
}


ngx_int_t
ngx_http_llm_redis_offer(ngx_http_llm_redis_t *rd, ngx_uint_t argc,
    ngx_str_t *argv)
{
    ngx_http_llm_redis_op_t  *op;

    if (ngx_http_llm_redis_event_unsent(&rd->event) > rd->options.max_offer) {
        rd->stat.refused++;
        return NGX_DECLINED;
    }

    op = ngx_http_llm_redis_command(rd, argc, argv, 0, NULL, NULL);
    if (op == NULL) {
        return NGX_DECLINED;
    }

    op->offer = 1;

    return NGX_OK;
}


ngx_http_llm_redis_op_t *
ngx_http_llm_redis_eval(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_script_t *script, ngx_uint_t nkeys, ngx_uint_t argc,
    ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    size_t                    size;
    u_char                   *p, temp[NGX_INT_T_LEN];
    ngx_str_t                 keys;
    ngx_http_llm_redis_op_t  *op;

    op = ngx_http_llm_redis_op(rd, timeout, handler, data);
    if (op == NULL) {
        return NULL;
    }

    size = 2 * NGX_HTTP_LLM_REDIS_HEADER + script->head.len + sizeof(temp)
           + sizeof(CRLF) - 1 + ngx_http_llm_redis_args_size(argc, argv);

    if (ngx_http_llm_redis_op_room(op, size) != NGX_OK) {
        goto failed;
    }

    p = ngx_http_llm_redis_count(op->buffer, '*', argc + 3);
    p = ngx_cpymem(p, script->head.data, script->head.len);

    op->script = script;
    op->argc = argc + 1;
    op->args.data = p;

    /* the line of a number is the number behind its type */

    keys.data = temp + 1;
    keys.len = ngx_http_llm_redis_count(temp, ':', nkeys) - temp
               - sizeof(":" CRLF) + 1;

    p = ngx_http_llm_redis_args(p, 1, &keys);
    p = ngx_http_llm_redis_args(p, argc, argv);

    op->args.len = p - op->args.data;

    if (ngx_http_llm_redis_send(op, p) != NGX_OK) {
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


ngx_uint_t
ngx_http_llm_redis_connected(ngx_http_llm_redis_t *rd)
{
    /*
     * replies come in order: behind one that is overdue a command would be
     * late, too, so that a silent server costs one deadline and not one each
     */

    return rd->state == NGX_HTTP_LLM_REDIS_UP
           && (rd->shared->down == 0 || rd->options.beside != NULL)
           && rd->live == rd->npending;
}


ngx_uint_t
ngx_http_llm_redis_begins(ngx_http_llm_redis_t *rd)
{
    return !rd->before && rd->backoff == 0;
}


static ngx_http_llm_redis_op_t *
ngx_http_llm_redis_op(ngx_http_llm_redis_t *rd, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    ngx_queue_t              *q;
    ngx_http_llm_redis_op_t  *op;

    if (!ngx_http_llm_redis_connected(rd)
        || rd->npending >= rd->options.max_pending)
    {
        if (rd->state == NGX_HTTP_LLM_REDIS_UP
            && rd->live == rd->npending
            && rd->shared->down != 0
            && ngx_http_llm_redis_breaker_probe(rd))
        {
            ngx_http_llm_redis_ping(rd);
        }

        goto refused;
    }

    if (ngx_queue_empty(&rd->free)) {
        op = ngx_alloc(sizeof(ngx_http_llm_redis_op_t), rd->log);
        if (op == NULL) {
            goto refused;
        }

        op->redis = rd;
        op->buffer = NULL;
        op->size = 0;

    } else {
        q = ngx_queue_head(&rd->free);
        ngx_queue_remove(q);
        rd->nfree--;
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);
    }

    op->handler = handler;
    op->data = data;
    op->script = NULL;
    op->argc = 0;
    op->expired = 0;
    op->offer = 0;
    op->moves = 0;
    op->deadline = ngx_current_msec
                   + (timeout ? timeout : rd->options.timeout);

    return op;

refused:

    rd->stat.refused++;

    return NULL;
}


static ngx_int_t
ngx_http_llm_redis_op_room(ngx_http_llm_redis_op_t *op, size_t size)
{
    if (size <= op->size) {
        return NGX_OK;
    }

    if (op->buffer != NULL) {
        ngx_free(op->buffer);
    }

    op->size = ngx_max(size, 512);
    op->buffer = ngx_alloc(op->size, op->redis->log);

    if (op->buffer == NULL) {
        op->size = 0;
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_redis_op_free(ngx_http_llm_redis_op_t *op)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    if (op->size > NGX_HTTP_LLM_REDIS_SPARE
        || rd->nfree >= NGX_HTTP_LLM_REDIS_SPARES)
    {
        if (op->buffer != NULL) {
            ngx_free(op->buffer);
        }

        op->buffer = NULL;
        op->size = 0;
    }

    if (rd->nfree >= NGX_HTTP_LLM_REDIS_SPARES) {
        ngx_free(op);
        return;
    }

    rd->nfree++;
    ngx_queue_insert_head(&rd->free, &op->queue);
}


static ngx_int_t
ngx_http_llm_redis_send(ngx_http_llm_redis_op_t *op, u_char *last)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;
    op->len = last - op->buffer;

    if (ngx_http_llm_redis_event_send(&rd->event, ngx_http_llm_redis_reply,
                                      op, op->buffer, op->len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_queue_insert_tail(&rd->pending, &op->queue);

    rd->stat.commands++;
    rd->npending++;
    rd->live++;

    ngx_http_llm_redis_keep(rd);
    ngx_http_llm_redis_arm(rd, op->deadline);

    return NGX_OK;
}


void
ngx_http_llm_redis_reply(redisAsyncContext *ac, void *reply, void *data)
{
    ngx_http_llm_redis_op_t *op = data;

    ngx_http_llm_redis_t         *rd;
    ngx_http_llm_redis_reply_t    view;
    ngx_http_llm_redis_action_e   action;

    rd = op->redis;

    if (reply != NULL) {
        rd->stat.replies++;
        ngx_http_llm_redis_view(&view, reply);

        if (!op->expired) {
            rd->late = 0;
        }

    } else {
        ngx_memzero(&view, sizeof(ngx_http_llm_redis_reply_t));
        view.type = NGX_HTTP_LLM_REDIS_GONE;
        rd->stat.gone += !op->expired;
    }

    if (view.type == NGX_HTTP_LLM_REDIS_ERROR) {
        action = ngx_http_llm_redis_error(rd, &view);

        if (action == NGX_HTTP_LLM_REDIS_RESEND
            && ngx_http_llm_redis_resend(op) == NGX_OK)
        {
            return;
        }

        if (action == NGX_HTTP_LLM_REDIS_FOLLOW
            && ngx_http_llm_redis_follow(op, &view) == NGX_OK)
        {
            ngx_http_llm_redis_left(rd);
            return;
        }

        if (op->offer && action == NGX_HTTP_LLM_REDIS_DENY) {
            action = NGX_HTTP_LLM_REDIS_TELL;
        }

        /* before the caller is told, so that it cannot send another one */
        ngx_http_llm_redis_after(rd, action, &view);
    }

    ngx_http_llm_redis_done(op, &view);
    ngx_http_llm_redis_left(rd);
}


static void
ngx_http_llm_redis_after(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_action_e action, ngx_http_llm_redis_reply_t *error)
{
    char  *why;

    if (rd->state != NGX_HTTP_LLM_REDIS_UP) {
        return;
    }

    /* hiredis ends what it gives with a zero */
    why = (char *) error->str.data;

    if (rd->options.beside != NULL
        && error->error == NGX_HTTP_LLM_REDIS_ERR_OTHER
        && action == NGX_HTTP_LLM_REDIS_TELL)
    {
        /* its few commands are not known there */
        action = NGX_HTTP_LLM_REDIS_DENY;
    }

    switch (action) {

    case NGX_HTTP_LLM_REDIS_PAUSE:
        ngx_http_llm_redis_pause(rd, why);
        return;

    case NGX_HTTP_LLM_REDIS_LEAVE:
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DOWN, NULL, why);
        return;

    case NGX_HTTP_LLM_REDIS_DENY:
        ngx_http_llm_redis_down(rd, NGX_HTTP_LLM_REDIS_DENIED, NULL, why);
        return;

    default:
        ngx_http_llm_redis_complain(rd, error);
        return;
    }
}


/* the end of a command that waits for an answer or for another node */

void
ngx_http_llm_redis_done(ngx_http_llm_redis_op_t *op,
    ngx_http_llm_redis_reply_t *view)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    ngx_queue_remove(&op->queue);
    rd->npending--;

    if (!op->expired) {
        rd->live--;
        ngx_http_llm_redis_keep(rd);
    }

    if (op->handler != NULL) {
        op->handler(op->data, view);
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

    if (op->script == NULL || op->expired) {
        return NGX_DECLINED;
    }

    ngx_str_set(&head[0], "EVAL");
    head[1] = op->script->text;

    size = NGX_HTTP_LLM_REDIS_HEADER + ngx_http_llm_redis_args_size(2, head)
           + op->args.len;

    buffer = ngx_http_llm_redis_buffer(rd, size);
    if (buffer == NULL) {
        return NGX_ERROR;
    }

    p = ngx_http_llm_redis_count(buffer, '*', op->argc + 2);
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
