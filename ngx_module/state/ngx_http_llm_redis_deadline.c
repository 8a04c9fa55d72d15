
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


/* commands without a reply in time in a row that end a connection, and ms */
#define NGX_HTTP_LLM_REDIS_LATE       5
#define NGX_HTTP_LLM_REDIS_LATE_TIME  1000

/* reads before commands are said to be late: their replies may have come */
#define NGX_HTTP_LLM_REDIS_DRAIN      64


static ngx_msec_t ngx_http_llm_redis_expire(ngx_http_llm_redis_t *rd);
static ngx_msec_t ngx_http_llm_redis_expire_held(ngx_http_llm_redis_t *rd,
    ngx_msec_t next);


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
            break;
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

    ngx_http_llm_redis_keep(rd);

    if (ngx_queue_empty(&rd->pending)) {

        if (!ngx_queue_empty(&rd->held)) {
            ngx_http_llm_redis_arm(rd, next);
        }

        return;
    }

    q = ngx_queue_head(&rd->pending);
    op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

    late = ngx_current_msec - op->deadline;

    if (rd->late >= NGX_HTTP_LLM_REDIS_LATE
        || late >= NGX_HTTP_LLM_REDIS_LATE_TIME
        || (rd->late > 0 && rd->options.beside != NULL))
    {
        ngx_http_llm_redis_breaker_open(rd);
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

    return ngx_http_llm_redis_expire_held(rd, next);
}


/* no reply will come to these */

static ngx_msec_t
ngx_http_llm_redis_expire_held(ngx_http_llm_redis_t *rd, ngx_msec_t next)
{
    ngx_queue_t                 *q, *after;
    ngx_http_llm_redis_op_t     *op;
    ngx_http_llm_redis_reply_t   view;

    for (q = ngx_queue_head(&rd->held);
         q != ngx_queue_sentinel(&rd->held);
         q = after)
    {
        after = ngx_queue_next(q);
        op = ngx_queue_data(q, ngx_http_llm_redis_op_t, queue);

        if ((ngx_msec_int_t) (op->deadline - ngx_current_msec) > 0) {

            if ((ngx_msec_int_t) (op->deadline - next) < 0) {
                next = op->deadline;
            }

            continue;
        }

        ngx_memzero(&view, sizeof(ngx_http_llm_redis_reply_t));
        view.type = NGX_HTTP_LLM_REDIS_TIMEOUT;
        rd->stat.timeouts++;

        ngx_http_llm_redis_done(op, &view);
    }

    return next;
}


void
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


void
ngx_http_llm_redis_keep(ngx_http_llm_redis_t *rd)
{
    rd->deadline.cancelable = (rd->live == 0 || rd->options.beside != NULL);
}
