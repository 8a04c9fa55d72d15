
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /api/tasks/ID/events: what becomes of a task, as server-sent events.
 *
 * The id of an event is a number that grows with what it tells, so that a
 * client that comes again with the last one misses nothing and, in general,
 * gets nothing twice:
 *
 *     1000 * attempts + 500              queued
 *     1000 * attempts + 1 + progress     processing
 *     1000000000                         the end
 *
 * A task that was given back uncounted goes back in this order; within a
 * stream the ids grow all the same.
 */


#include "tasks/ngx_http_llm_tasks_api_private.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"


#define NGX_HTTP_LLM_TASKS_END    1000000000
#define NGX_HTTP_LLM_TASKS_ALIVE  15000       /* ms without a word */


struct ngx_http_llm_tasks_stream_s {
    int64_t                       last;       /* id that went out, -1: none */
    int64_t                       seen;       /* what was told last */
    ngx_msec_t                    spoke;
    ngx_buf_t                     buf;
    ngx_chain_t                   out;
    unsigned                      flushing:1;
    unsigned                      over:1;     /* that was the last one */
};


static ngx_int_t ngx_http_llm_tasks_stream_step(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_look(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_seen(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_begin(
    ngx_http_llm_tasks_api_t *api, int64_t id);
static ngx_int_t ngx_http_llm_tasks_stream_tell(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_idle(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_send(
    ngx_http_llm_tasks_api_t *api, u_char *p, size_t len);
static ngx_int_t ngx_http_llm_tasks_stream_flush(
    ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_stream_over(
    ngx_http_llm_tasks_api_t *api);
static int64_t ngx_http_llm_tasks_stream_last(ngx_http_llm_tasks_api_t *api);
static int64_t ngx_http_llm_tasks_stream_id(llm_tasks_task_t *task);


static ngx_str_t  ngx_http_llm_tasks_stream_type =
                      ngx_string("text/event-stream; charset=utf-8");

static u_char  ngx_http_llm_tasks_stream_alive[] = ": keepalive\n";


ngx_int_t
ngx_http_llm_tasks_events(ngx_http_llm_tasks_api_t *api, ngx_str_t *id)
{
    ngx_http_llm_tasks_stream_t  *st;

    st = ngx_pcalloc(api->ctx->request->pool,
                     sizeof(ngx_http_llm_tasks_stream_t));

    if (st == NULL || ngx_http_llm_tasks_one(api, id) != NGX_OK) {
        return NGX_ERROR;
    }

    st->last = ngx_http_llm_tasks_stream_last(api);
    st->seen = -1;
    st->spoke = ngx_current_msec;

    api->stream = st;
    api->pause = NGX_HTTP_LLM_TASKS_PAUSE;

    return api->item->valid ? ngx_http_llm_tasks_stream_look(api)
                            : ngx_http_llm_tasks_stream_seen(api);
}


/* asks once more, if the client has read what was told before */

static ngx_int_t
ngx_http_llm_tasks_stream_step(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    ngx_http_llm_tasks_stream_t  *st;

    st = api->stream;

    if (st->flushing) {
        rc = ngx_http_output_filter(api->ctx->request, NULL);

        if (rc != NGX_ERROR) {
            rc = ngx_http_llm_tasks_stream_flush(api);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (st->over) {
        return ngx_http_llm_tasks_stream_over(api);
    }

    if (ngx_http_llm_tasks_left(api) == 0 || ngx_http_llm_tasks_leaving()) {

        if (api->ctx->revoked) {
            (void) ngx_http_llm_error(api->ctx, NGX_HTTP_FORBIDDEN, NULL,
                                      NULL, "");

            api->ctx->rc = ngx_http_llm_reply_break(api->ctx, 1);

            return NGX_DONE;
        }

        /* the client comes again, with the id of the last event */

        return ngx_http_llm_tasks_stream_over(api);
    }

    return ngx_http_llm_tasks_stream_look(api);
}


static ngx_int_t
ngx_http_llm_tasks_stream_look(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t  rc;

    if (api->hold) {
        ngx_destroy_pool(api->hold);
        api->hold = NULL;
    }

    api->ask[0] = 0;
    api->asked = 1;
    api->step = ngx_http_llm_tasks_stream_seen;

    rc = ngx_http_llm_tasks_ask_states(api);

    return rc == NGX_ABORT ? ngx_http_llm_tasks_stream_seen(api) : rc;
}


static ngx_int_t
ngx_http_llm_tasks_stream_seen(ngx_http_llm_tasks_api_t *api)
{
    int64_t                       id;
    ngx_int_t                     rc;
    llm_tasks_task_t             *task;
    ngx_http_llm_ctx_t           *ctx;
    ngx_http_llm_tasks_stream_t  *st;

    ctx = api->ctx;
    st = api->stream;
    task = &api->item->task;

    if (api->rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (api->rc == NGX_ABORT) {
        /* a stream outlives a Redis that is away for a while */

        return ctx->committed ? ngx_http_llm_tasks_stream_idle(api)
                              : ngx_http_llm_tasks_unavailable(ctx);
    }

    id = ngx_http_llm_tasks_stream_id(task);

    if (!ctx->committed) {
        rc = ngx_http_llm_tasks_stream_begin(api, id);

        if (rc != NGX_OK || !ctx->committed) {
            return rc;
        }
    }

    if (id == st->seen) {
        return ngx_http_llm_tasks_stream_idle(api);
    }

    st->seen = id;

    if (task->state == LLM_TASKS_COMPLETED) {
        api->step = ngx_http_llm_tasks_stream_tell;

        rc = ngx_http_llm_tasks_ask_results(api);

        if (rc != NGX_ABORT) {
            return rc;
        }
    }

    return ngx_http_llm_tasks_stream_tell(api);
}


/* the header, or an answer without a stream */

static ngx_int_t
ngx_http_llm_tasks_stream_begin(ngx_http_llm_tasks_api_t *api, int64_t id)
{
    ngx_http_llm_ctx_t           *ctx;
    ngx_http_llm_tasks_stream_t  *st;

    ctx = api->ctx;
    st = api->stream;

    if (api->item->task.state == LLM_TASKS_NOT_FOUND) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_NOT_FOUND,
                                         "task_not_found", NULL,
                                         "There is no such task.");
    }

    if (id <= st->last) {
        st->seen = id;
    }

    if (id == st->last && id == NGX_HTTP_LLM_TASKS_END) {
        /* by which a client knows that it need not come again */

        ctx->answer.status = NGX_HTTP_NO_CONTENT;
        ctx->answered = 1;

        return NGX_OK;
    }

    if (ngx_http_llm_reply_begin(ctx, &ngx_http_llm_tasks_stream_type)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (id == st->seen
        && ngx_http_send_special(ctx->request, NGX_HTTP_FLUSH) == NGX_ERROR)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_stream_tell(ngx_http_llm_tasks_api_t *api)
{
    u_char                        head[64];
    int64_t                       id;
    ngx_http_llm_tasks_stream_t  *st;

    st = api->stream;

    if (api->rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (api->rc == NGX_ABORT) {
        /* all of it once more, when Redis is there again */

        st->seen = -1;

        return ngx_http_llm_tasks_stream_idle(api);
    }

    id = ngx_max(st->seen, st->last + 1);
    st->last = id;
    st->over = st->seen == NGX_HTTP_LLM_TASKS_END;

    api->out.len = 0;
    api->pause = NGX_HTTP_LLM_TASKS_PAUSE;

    if (ngx_http_llm_tasks_put_text(api, head,
                                    ngx_sprintf(head, "id: %L\nevent: status"
                                                      "\ndata: ", id)
                                    - head)
        != NGX_OK
        || ngx_http_llm_tasks_put(api, 0) != NGX_OK
        || ngx_http_llm_tasks_put_text(api, "\n\n", 2) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_llm_tasks_stream_send(api, api->out.data, api->out.len);
}


static ngx_int_t
ngx_http_llm_tasks_stream_idle(ngx_http_llm_tasks_api_t *api)
{
    ngx_msec_t  ms;

    if (ngx_current_msec - api->stream->spoke >= NGX_HTTP_LLM_TASKS_ALIVE) {
        return ngx_http_llm_tasks_stream_send(api,
                                  ngx_http_llm_tasks_stream_alive,
                                  sizeof(ngx_http_llm_tasks_stream_alive)
                                  - 1);
    }

    api->rc = NGX_OK;
    api->step = ngx_http_llm_tasks_stream_step;

    ms = ngx_min(api->pause, ngx_http_llm_tasks_left(api));
    api->pause = ngx_min(2 * api->pause, NGX_HTTP_LLM_TASKS_PAUSE_MAX);

    return ngx_http_llm_tasks_sleep(api, ms);
}


static ngx_int_t
ngx_http_llm_tasks_stream_send(ngx_http_llm_tasks_api_t *api, u_char *p,
    size_t len)
{
    ngx_int_t                     rc;
    ngx_http_llm_tasks_stream_t  *st;

    st = api->stream;

    ngx_memzero(&st->buf, sizeof(ngx_buf_t));

    st->buf.start = p;
    st->buf.pos = p;
    st->buf.last = p + len;
    st->buf.end = st->buf.last;
    st->buf.memory = 1;
    st->buf.flush = 1;
    st->buf.tag = (ngx_buf_tag_t) &ngx_http_llm_tasks_events;

    st->out.buf = &st->buf;
    st->out.next = NULL;
    st->spoke = ngx_current_msec;
    st->flushing = 1;

    api->rc = NGX_OK;
    api->step = ngx_http_llm_tasks_stream_step;

    if (ngx_http_output_filter(api->ctx->request, &st->out) == NGX_ERROR) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_tasks_stream_flush(api);

    if (rc != NGX_OK) {
        return rc;
    }

    return st->over ? ngx_http_llm_tasks_stream_over(api)
                    : ngx_http_llm_tasks_stream_idle(api);
}


/* the memory of an event is used again: NGX_OK only when all of it is out */

static ngx_int_t
ngx_http_llm_tasks_stream_flush(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = api->ctx->request;

    if (api->stream->buf.pos == api->stream->buf.last
        && !r->connection->buffered)
    {
        rc = NGX_OK;

    } else {
        rc = ngx_http_llm_reply_flush(r);
    }

    if (rc == NGX_OK) {
        api->stream->flushing = 0;
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_tasks_stream_over(ngx_http_llm_tasks_api_t *api)
{
    api->ctx->rc = ngx_http_send_special(api->ctx->request, NGX_HTTP_LAST);

    return NGX_DONE;
}


/* -1: the client has seen nothing */

static int64_t
ngx_http_llm_tasks_stream_last(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t         n;
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(api->ctx->request, "last-event-id",
                               sizeof("last-event-id") - 1);
    if (h == NULL) {
        return -1;
    }

    n = ngx_atoi(h->value.data, h->value.len);

    return n == NGX_ERROR || n > NGX_HTTP_LLM_TASKS_END ? -1 : n;
}


static int64_t
ngx_http_llm_tasks_stream_id(llm_tasks_task_t *task)
{
    if (ngx_http_llm_tasks_terminal(task->state)) {
        return NGX_HTTP_LLM_TASKS_END;
    }

    return 1000 * (int64_t) task->attempts
           + (task->state == LLM_TASKS_QUEUED ? 500
                                              : 1 + (int64_t) task->progress);
}
