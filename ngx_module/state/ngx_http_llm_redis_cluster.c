
/*
 * Copyright (C) the ngx-llm authors
 *
 * Cluster: the keys of all scripts stand in one slot, so one connection is
 * enough: it goes where that slot is.  A command for another slot, like that
 * of a cache beside the limits, does not take the connection along.  ASK is
 * not followed but told to the caller, like TRYAGAIN: both are only seen
 * while the slot is on its way, when a script with several keys finds them
 * apart on either node; MOVED comes after that.
 */


#include "state/ngx_http_llm_redis_connection.h"


/* nodes that are followed in a while: more are keys without one hash tag */
#define NGX_HTTP_LLM_REDIS_FOLLOWS      4
#define NGX_HTTP_LLM_REDIS_FOLLOW_TIME  10000


static ngx_int_t ngx_http_llm_redis_follow_to(ngx_http_llm_redis_op_t *op,
    ngx_str_t *error);
static ngx_uint_t ngx_http_llm_redis_follow_slot(ngx_http_llm_redis_op_t *op,
    ngx_int_t slot);
static ngx_uint_t ngx_http_llm_redis_follow_often(ngx_http_llm_redis_t *rd);
static void ngx_http_llm_redis_held_end(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_op_t *op);


ngx_int_t
ngx_http_llm_redis_follow(ngx_http_llm_redis_op_t *op,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    if (op->len == 0 || op->expired || op->moves >= NGX_HTTP_LLM_REDIS_MOVES
        || rd->url.master.len != 0)
    {
        return NGX_DECLINED;
    }

    /* the first one decides, those behind it were sent to the same node */

    if (rd->state == NGX_HTTP_LLM_REDIS_UP
        && ngx_http_llm_redis_follow_to(op, &reply->str) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    if (rd->state != NGX_HTTP_LLM_REDIS_LEAVING) {
        return NGX_DECLINED;
    }

    op->moves++;
    rd->stat.moved++;

    ngx_queue_remove(&op->queue);
    ngx_queue_insert_tail(&rd->held, &op->queue);

    return NGX_OK;
}


/* "MOVED slot host:port"; without a host: the one that said it */

static ngx_int_t
ngx_http_llm_redis_follow_to(ngx_http_llm_redis_op_t *op, ngx_str_t *error)
{
    u_char                *p, *last, *slot, text[NGX_SOCKADDR_STRLEN];
    ngx_str_t              name, port;
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    slot = error->data + sizeof("MOVED ") - 1;
    last = error->data + error->len;

    p = ngx_strlchr(slot, last, ' ');

    if (p == NULL
        || !ngx_http_llm_redis_follow_slot(op, ngx_atoi(slot, p - slot))
        || ngx_http_llm_redis_follow_often(rd))
    {
        return NGX_DECLINED;
    }

    name.data = p + 1;

    for (p = last; p > name.data && p[-1] != ':'; p--) { /* void */ }

    if (p == name.data) {
        return NGX_DECLINED;
    }

    name.len = p - 1 - name.data;
    port.data = p;
    port.len = last - p;

    if (name.len == 0) {
        name.data = text;
        name.len = ngx_sock_ntop(&rd->current.sockaddr.sockaddr,
                                 rd->current.socklen, text,
                                 NGX_SOCKADDR_STRLEN, 0);

        if (text[0] == '[') {
            name.data++;
            name.len -= 2;
        }
    }

    if (ngx_http_llm_redis_names_node(rd, &name, &port) == NGX_ERROR) {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_redis_may_log(rd, 6)) {
        ngx_log_error(NGX_LOG_NOTICE, rd->log, 0,
                      "redis \"%V\" moved to %V:%V", &rd->url.name, &name,
                      &port);
    }

    ngx_http_llm_redis_leave(rd);

    return NGX_OK;
}


/* 1: the slot is that of the scripts, or there are none */

static ngx_uint_t
ngx_http_llm_redis_follow_slot(ngx_http_llm_redis_op_t *op, ngx_int_t slot)
{
    ngx_http_llm_redis_t  *rd;

    rd = op->redis;

    if (op->argc != 0) {
        rd->slot = slot;
        return 1;
    }

    return rd->scripts.nelts == 0 || slot == rd->slot;
}


static ngx_uint_t
ngx_http_llm_redis_follow_often(ngx_http_llm_redis_t *rd)
{
    if (rd->moves == 0
        || ngx_current_msec - rd->moved > NGX_HTTP_LLM_REDIS_FOLLOW_TIME)
    {
        rd->moved = ngx_current_msec;
        rd->moves = 0;
    }

    return rd->moves++ >= NGX_HTTP_LLM_REDIS_FOLLOWS;
}


/* connected: in the order in which they came */

void
ngx_http_llm_redis_held_send(ngx_http_llm_redis_t *rd)
{
    ngx_queue_t              *q;
    ngx_http_llm_redis_op_t  *op;

    while (!ngx_queue_empty(&rd->held)) {

        q = ngx_queue_head(&rd->held);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        if (ngx_http_llm_redis_event_send(&rd->event, ngx_http_llm_redis_reply,
                                          op, op->buffer, op->len)
            != NGX_OK)
        {
            ngx_http_llm_redis_held_end(rd, op);
            continue;
        }

        ngx_queue_remove(q);
        ngx_queue_insert_tail(&rd->pending, q);
    }
}


void
ngx_http_llm_redis_held_gone(ngx_http_llm_redis_t *rd)
{
    ngx_queue_t              *q;
    ngx_http_llm_redis_op_t  *op;

    while (!ngx_queue_empty(&rd->held)) {

        q = ngx_queue_head(&rd->held);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        ngx_http_llm_redis_held_end(rd, op);
    }
}


static void
ngx_http_llm_redis_held_end(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_op_t *op)
{
    ngx_http_llm_redis_reply_t  view;

    ngx_memzero(&view, sizeof(ngx_http_llm_redis_reply_t));
    view.type = NGX_HTTP_LLM_REDIS_GONE;
    rd->stat.gone++;

    ngx_http_llm_redis_done(op, &view);
}
