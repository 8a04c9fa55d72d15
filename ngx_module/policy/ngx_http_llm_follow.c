
/*
 * Copyright (C) the ngx-llm authors
 *
 * Those who follow a flight: what its leader wrote down, in the shape that
 * each of them asked for.
 */


#include "policy/ngx_http_llm_flight_private.h"
#include "policy/ngx_http_llm_limit.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_gather.h"


#define NGX_HTTP_LLM_FOLLOW_BUF     (16 * 1024)

/* what may come of one answer, and the memory to put it together */

#define NGX_HTTP_LLM_FOLLOW_BODY    (16 * 1024 * 1024)
#define NGX_HTTP_LLM_FOLLOW_GATHER  (32 * 1024 * 1024)


static ngx_int_t ngx_http_llm_follow_on(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_head(ngx_http_llm_ctx_t *ctx,
    llm_flight_piece_t *pc);
static ngx_int_t ngx_http_llm_follow_stream(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_ready(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_pass(ngx_http_llm_ctx_t *ctx,
    llm_flight_piece_t *pc);
static ngx_int_t ngx_http_llm_follow_send(ngx_http_llm_ctx_t *ctx,
    size_t size);
static ngx_int_t ngx_http_llm_follow_skip(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_body(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_keep(ngx_http_llm_flight_t *f,
    u_char *p, size_t size);
static ngx_int_t ngx_http_llm_follow_whole(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_follow_over(ngx_http_llm_ctx_t *ctx,
    llm_flight_state_e state);
static void ngx_http_llm_follow_forget(ngx_http_llm_ctx_t *ctx,
    llm_flight_state_e state);
static void ngx_http_llm_follow_broken(ngx_http_llm_ctx_t *ctx,
    llm_flight_state_e state);
static ngx_int_t ngx_http_llm_follow_late(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_follow_read(ngx_http_llm_ctx_t *ctx, unsigned kinds,
    u_char *p, size_t size, llm_flight_piece_t *pc);


ngx_int_t
ngx_http_llm_follow(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t               rc;
    ngx_msec_int_t          left;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    /* who joins another's call takes one request, and no more */

    if (!ctx->taken) {
        rc = ngx_http_llm_limit_take(ctx);

        if (rc != NGX_OK) {

            if (rc != NGX_AGAIN) {
                ngx_http_llm_flight_quit(f);
            }

            return rc;
        }
    }

    rc = ngx_http_llm_follow_on(ctx);

    if (rc != NGX_AGAIN) {
        return rc;
    }

    left = (ngx_msec_int_t) (ctx->deadline - ngx_current_msec);

    if (left <= 0) {
        return ngx_http_llm_follow_late(ctx);
    }

    if (!ctx->timer.timer_set) {
        ngx_add_timer(&ctx->timer, (ngx_msec_t) left);
    }

    return NGX_AGAIN;
}


/* all that there is to read, and what it comes to */

static ngx_int_t
ngx_http_llm_follow_on(ngx_http_llm_ctx_t *ctx)
{
    u_char                  head[NGX_HTTP_LLM_FLIGHT_HEAD];
    ngx_int_t               rc;
    llm_flight_piece_t      pc;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (!f->headed) {
        ngx_http_llm_follow_read(ctx, LLM_FLIGHT_HEAD|LLM_FLIGHT_ONE, head,
                                 sizeof(head), &pc);

        if (pc.kind == 0) {
            return pc.state == LLM_FLIGHT_OPEN
                   ? NGX_AGAIN : ngx_http_llm_follow_over(ctx, pc.state);
        }

        f->head = head;
        rc = ngx_http_llm_follow_head(ctx, &pc);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return f->streams && ctx->rq.stream ? ngx_http_llm_follow_stream(ctx)
                                        : ngx_http_llm_follow_body(ctx);
}


static ngx_int_t
ngx_http_llm_follow_head(ngx_http_llm_ctx_t *ctx, llm_flight_piece_t *pc)
{
    u_char                 *p;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    p = ngx_pnalloc(ctx->request->pool, pc->size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, f->head, pc->size);

    f->head = p;
    f->head_len = pc->size;
    f->headed = 1;

    if (ngx_http_llm_flight_tell(f) != NGX_OK) {
        return ngx_http_llm_follow_over(ctx, LLM_FLIGHT_FAILED);
    }

    ctx->cache = NGX_HTTP_LLM_CACHE_JOINED;

    return NGX_OK;
}


/* reads as fast as the client does: a slow one falls behind by itself */

static ngx_int_t
ngx_http_llm_follow_stream(ngx_http_llm_ctx_t *ctx)
{
    unsigned            kinds;
    ngx_int_t           rc;
    llm_flight_piece_t  pc;

    kinds = LLM_FLIGHT_DATA
            | (ctx->rq.include_usage ? LLM_FLIGHT_USAGE : 0);

    for ( ;; ) {
        rc = ngx_http_llm_follow_ready(ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        ngx_http_llm_follow_read(ctx, kinds, ctx->flight->buf->start,
                                 NGX_HTTP_LLM_FOLLOW_BUF, &pc);

        if (pc.size) {
            rc = ngx_http_llm_follow_pass(ctx, &pc);

            if (rc != NGX_OK) {
                return rc;
            }

            continue;
        }

        if (pc.state == LLM_FLIGHT_OPEN) {
            return NGX_AGAIN;
        }

        return ngx_http_llm_follow_over(ctx, pc.state);
    }
}


/* all that was read before is sent, and there is a buffer to read into */

static ngx_int_t
ngx_http_llm_follow_ready(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t               rc;
    ngx_http_request_t     *r;
    ngx_http_llm_flight_t  *f;

    r = ctx->request;
    f = ctx->flight;

    if (f->buf && (f->buf->pos < f->buf->last || r->connection->buffered)) {
        rc = ngx_http_llm_follow_send(ctx, 0);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (f->skip) {
        rc = ngx_http_llm_follow_skip(ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (f->buf == NULL) {
        f->buf = ngx_create_temp_buf(r->pool, NGX_HTTP_LLM_FOLLOW_BUF);
        if (f->buf == NULL) {
            return NGX_ERROR;
        }

        f->buf->tag = (ngx_buf_tag_t) &ngx_http_llm_module;
    }

    return NGX_OK;
}


/* what was read, to the client */

static ngx_int_t
ngx_http_llm_follow_pass(ngx_http_llm_ctx_t *ctx, llm_flight_piece_t *pc)
{
    if (!ctx->committed
        && ngx_http_llm_reply_begin(ctx, &ctx->flight->type) != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* no heartbeat inside an event, nor behind the last one */
    ctx->quiet = !pc->end || pc->whole;
    ctx->last_out = ngx_current_msec;

    return ngx_http_llm_follow_send(ctx, pc->size);
}


/* NGX_AGAIN: the client has to read first; "size": new bytes, 0: the rest */

static ngx_int_t
ngx_http_llm_follow_send(ngx_http_llm_ctx_t *ctx, size_t size)
{
    ngx_int_t               rc;
    ngx_chain_t            *out;
    ngx_http_request_t     *r;
    ngx_http_llm_flight_t  *f;

    r = ctx->request;
    f = ctx->flight;
    out = NULL;

    if (size) {
        f->buf->pos = f->buf->start;
        f->buf->last = f->buf->start + size;
        f->buf->flush = 1;

        f->out.buf = f->buf;
        f->out.next = NULL;
        out = &f->out;
    }

    rc = ngx_http_output_filter(r, out);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    /* its bytes may have gone into buffers that are not full yet */

    return f->buf->pos == f->buf->last && !r->connection->buffered
           ? NGX_OK : ngx_http_llm_reply_flush(r);
}


/* the events that the client of a resumed stream has read before */

static ngx_int_t
ngx_http_llm_follow_skip(ngx_http_llm_ctx_t *ctx)
{
    u_char                  dummy[1024];
    unsigned                kinds;
    llm_flight_piece_t      pc;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    kinds = LLM_FLIGHT_DATA|LLM_FLIGHT_ONE
            | (ctx->rq.include_usage ? LLM_FLIGHT_USAGE : 0);

    while (f->skip) {

        ngx_http_llm_follow_read(ctx, kinds, dummy, sizeof(dummy), &pc);

        if (pc.size == 0) {
            return pc.state == LLM_FLIGHT_OPEN
                   ? NGX_AGAIN : ngx_http_llm_follow_over(ctx, pc.state);
        }

        f->skip -= pc.pieces;
    }

    return NGX_OK;
}


/* a JSON body, or all the events that make one */

static ngx_int_t
ngx_http_llm_follow_body(ngx_http_llm_ctx_t *ctx)
{
    llm_flight_piece_t      pc;
    ngx_http_llm_flight_t  *f;

    static u_char  buf[64 * 1024];

    f = ctx->flight;

    for ( ;; ) {
        ngx_http_llm_follow_read(ctx, LLM_FLIGHT_DATA|LLM_FLIGHT_USAGE, buf,
                                 sizeof(buf), &pc);

        if (pc.size) {
            if (ngx_http_llm_follow_keep(f, buf, pc.size) != NGX_OK) {
                return NGX_ERROR;
            }

            continue;
        }

        if (pc.state == LLM_FLIGHT_OPEN) {
            return NGX_AGAIN;
        }

        if (pc.state == LLM_FLIGHT_DONE) {
            return ngx_http_llm_follow_whole(ctx);
        }

        return ngx_http_llm_follow_over(ctx, pc.state);
    }
}


static ngx_int_t
ngx_http_llm_follow_keep(ngx_http_llm_flight_t *f, u_char *p, size_t size)
{
    size_t       room;
    u_char      *body;
    ngx_pool_t  *pool;

    pool = f->ctx->request->pool;

    if (f->body_len + size > NGX_HTTP_LLM_FOLLOW_BODY) {
        return NGX_ERROR;
    }

    if (f->body_len + size > f->body_size) {
        room = ngx_max(2 * f->body_size, f->body_len + size);

        body = ngx_pnalloc(pool, room);
        if (body == NULL) {
            return NGX_ERROR;
        }

        if (f->body) {
            ngx_memcpy(body, f->body, f->body_len);
            (void) ngx_pfree(pool, f->body);
        }

        f->body = body;
        f->body_size = room;
    }

    ngx_memcpy(f->body + f->body_len, p, size);
    f->body_len += size;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_follow_whole(ngx_http_llm_ctx_t *ctx)
{
    llm_str_t               text;
    llm_arena_t             arena;
    llm_usage_t             usage;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f->streams) {

        ngx_memzero(&arena, sizeof(llm_arena_t));

        arena.left = NGX_HTTP_LLM_FOLLOW_GATHER;
        arena.alloc = ngx_http_llm_arena_alloc;
        arena.data = ctx->request->pool;

        if (llm_gather(ctx->endpoint, f->body, f->body_len, &arena, &text,
                       &usage)
            != LLM_OK)
        {
            return ngx_http_llm_follow_over(ctx, LLM_FLIGHT_FAILED);
        }

        ngx_str_set(&ctx->answer.content_type, "application/json");

    } else {
        text.data = f->body;
        text.len = f->body_len;

        ctx->answer.content_type = f->type;
    }

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.body.data = text.data;
    ctx->answer.body.len = text.len;
    ctx->answer.from = NULL;
    ctx->answered = 1;

    ngx_http_llm_flight_quit(f);

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    return NGX_OK;
}


/* the flight has ended, and all that can be read has been */

static ngx_int_t
ngx_http_llm_follow_over(ngx_http_llm_ctx_t *ctx, llm_flight_state_e state)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    ngx_http_llm_flight_quit(f);

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm follow over: %ui committed:%d", (ngx_uint_t) state,
                   ctx->committed);

    /* once the last event is there, it does not matter how the call ended */

    if ((state == LLM_FLIGHT_DONE || (f->terminal && ctx->committed))
        && f->headed)
    {

        if (!ctx->committed
            && ngx_http_llm_reply_begin(ctx, &f->type) != NGX_OK)
        {
            return NGX_ERROR;
        }

        ctx->rc = ngx_http_send_special(ctx->request, NGX_HTTP_LAST);
        return NGX_DONE;
    }

    if (!ctx->committed) {
        ngx_http_llm_follow_forget(ctx, state);
        return NGX_DECLINED;
    }

    ngx_http_llm_follow_broken(ctx, state);

    ctx->rc = ngx_http_llm_reply_break(ctx, 1);

    return NGX_DONE;
}


/* nothing of it has been sent: the request finds its own way */

static void
ngx_http_llm_follow_forget(ngx_http_llm_ctx_t *ctx, llm_flight_state_e state)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    /*
     * Another follower may lead, unless it is the provider that failed: then
     * each tries for itself.
     */

    ctx->alone = state != LLM_FLIGHT_LEFT;
    ctx->cache = ctx->keyed ? NGX_HTTP_LLM_CACHE_MISS
                            : NGX_HTTP_LLM_CACHE_OFF;
    ctx->fetched = 0;

    f->headed = 0;
    f->head_len = 0;
    f->body_len = 0;
}


/* in the middle of the answer: said in the log, and made the error */

static void
ngx_http_llm_follow_broken(ngx_http_llm_ctx_t *ctx, llm_flight_state_e state)
{
    const char  *more;

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_FOLLOW, ctx->model.data,
                              ctx->model.len);

    if (more) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "llm: a call that others follow broke off%s%s",
                      state == LLM_FLIGHT_LAGGED
                      ? ": the client was too slow" : "", more);
    }

    (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                              "upstream_error",
                              state == LLM_FLIGHT_LAGGED
                              ? "The answer could not be kept for a client "
                                "that reads so slowly."
                              : "The provider broke off its answer.");
}


static ngx_int_t
ngx_http_llm_follow_late(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->flight->terminal && ctx->committed) {
        return ngx_http_llm_follow_over(ctx, LLM_FLIGHT_DONE);
    }

    ngx_http_llm_flight_quit(ctx->flight);

    (void) ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                              "upstream_timeout",
                              "The request's time was up before the answer "
                              "was there.");

    if (!ctx->committed) {
        return NGX_HTTP_GATEWAY_TIME_OUT;
    }

    ctx->rc = ngx_http_llm_reply_break(ctx, 1);

    return NGX_DONE;
}


static void
ngx_http_llm_follow_read(ngx_http_llm_ctx_t *ctx, unsigned kinds, u_char *p,
    size_t size, llm_flight_piece_t *pc)
{
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    area = ctx->mcf->flights;

    fl = ngx_http_llm_area_lock(area);
    llm_flight_read(fl, ctx->flight->id, kinds, p, size, pc);
    ngx_http_llm_area_unlock(area);

    ctx->flight->terminal = pc->whole;

    if (pc->state == LLM_FLIGHT_DONE) {
        ctx->saved_tokens = pc->note[0];
        ctx->saved_cost = pc->note[1];
    }
}
