
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_heart.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "upstream/ngx_http_llm_relay.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_dialect.h"
#include "core/llm_json.h"
#include "core/llm_replay.h"


/* what the events of a whole answer may take of memory */

#define NGX_HTTP_LLM_HEART_REPLAY  (32 * 1024 * 1024)


struct ngx_http_llm_heart_s {
    ngx_event_t                 event;
    ngx_buf_t                   buf;
};


static void ngx_http_llm_heart_event(ngx_event_t *ev);
static ngx_msec_int_t ngx_http_llm_heart_due(ngx_http_llm_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_heart_may(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_heart_beat(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_heart_out(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_heart_flush(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_heart_events(ngx_http_llm_ctx_t *ctx,
    llm_str_t *events);
static ngx_int_t ngx_http_llm_heart_error(ngx_http_llm_ctx_t *ctx);
static const char *ngx_http_llm_heart_word(ngx_http_llm_ctx_t *ctx,
    llm_str_t *word, const char *none);


/* one line feed: some clients take a blank line for the end of an event */

static ngx_str_t  ngx_http_llm_heart_text = ngx_string(": keepalive\n");

static ngx_str_t  ngx_http_llm_heart_type =
                      ngx_string("text/event-stream; charset=utf-8");


void
ngx_http_llm_heart_start(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_int_t         wait;
    ngx_http_llm_heart_t  *h;

    if (ctx->heart || ctx->conf->heartbeat == 0 || !ctx->rq.stream
        || ctx->background || ctx->endpoint == LLM_EMBEDDINGS || ctx->served
        || ctx->detached)
    {
        return;
    }

    h = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_heart_t));
    if (h == NULL) {
        return;
    }

    h->event.handler = ngx_http_llm_heart_event;
    h->event.data = ctx;
    h->event.log = ctx->request->connection->log;

    ctx->heart = h;

    wait = ngx_http_llm_heart_due(ctx);

    ngx_add_timer(&h->event, (ngx_msec_t) ngx_max(wait, 1));
}


void
ngx_http_llm_heart_stop(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->heart && ctx->heart->event.timer_set) {
        ngx_del_timer(&ctx->heart->event);
    }
}


static void
ngx_http_llm_heart_event(ngx_event_t *ev)
{
    ngx_msec_int_t       wait;
    ngx_connection_t    *c;
    ngx_http_llm_ctx_t  *ctx;

    ctx = ev->data;
    c = ctx->request->connection;

    if (ctx->gone || ctx->detached || ctx->served) {
        return;
    }

    ngx_http_set_log_request(c->log, ctx->request);

    wait = ngx_http_llm_heart_due(ctx);

    if (wait <= 0) {
        wait = (ngx_msec_int_t) ctx->conf->heartbeat;

        if (ngx_http_llm_heart_may(ctx)
            && ngx_http_llm_heart_beat(ctx) != NGX_OK)
        {
            /* the line looks what has become of the client */

            ctx->wake(ctx);
            return;
        }
    }

    if (!ctx->detached) {
        ngx_add_timer(ev, (ngx_msec_t) wait);
    }

    ngx_http_run_posted_requests(c);
}


/* ms until the client has waited long enough for a sign of life */

static ngx_msec_int_t
ngx_http_llm_heart_due(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t  at;

    at = ctx->begun || ctx->committed
         ? ctx->last_out + ctx->conf->heartbeat
         : ctx->start + ctx->conf->heartbeat_grace;

    return (ngx_msec_int_t) (at - ngx_current_msec);
}


/* does the client stand between two events, and is another to come? */

static ngx_uint_t
ngx_http_llm_heart_may(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (at == NULL || !at->running) {
        return !ctx->quiet;
    }

    if (at->done || !at->sent) {
        return !at->done;
    }

    return at->relay == NGX_HTTP_LLM_RELAY_STREAM && !at->cut
           && !at->terminal && !at->error_event;
}


static ngx_int_t
ngx_http_llm_heart_beat(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    /* who has not read the last one does not need another */

    if (r->connection->buffered) {
        return ngx_http_llm_heart_flush(ctx);
    }

    if (!ctx->begun && !ctx->committed) {

        /* not committed: attempts are judged and repeated as before */

        ctx->begun = 1;

        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                       "llm heart: header");

        if (ngx_http_llm_reply_begin(ctx, &ngx_http_llm_heart_type)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm heart: beat");

    ctx->last_out = ngx_current_msec;

    return ngx_http_llm_heart_out(ctx);
}


/* main's output waits for its subrequest's: while there is one, it is that */

static ngx_int_t
ngx_http_llm_heart_out(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_buf_t               *b;
    ngx_str_t               *text;
    ngx_chain_t             *cl, **ll, out;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;
    text = &ngx_http_llm_heart_text;

    if (at && at->running) {
        cl = NULL;
        ll = &cl;

        if (ngx_http_llm_relay_copy(at, text->data, text->len, &ll)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_relay_out(at, cl);

    } else {
        b = &ctx->heart->buf;

        b->start = text->data;
        b->pos = text->data;
        b->last = text->data + text->len;
        b->end = b->last;
        b->memory = 1;
        b->flush = 1;

        out.buf = b;
        out.next = NULL;

        rc = ngx_http_output_filter(ctx->request, &out);
    }

    return rc == NGX_ERROR || rc > NGX_OK ? NGX_ERROR : NGX_OK;
}


/* what the client had no room for; nobody else sends it while all wait */

static ngx_int_t
ngx_http_llm_heart_flush(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    rc = at && at->running ? ngx_http_llm_relay_out(at, NULL)
                           : ngx_http_output_filter(ctx->request, NULL);

    return rc == NGX_ERROR || rc > NGX_OK ? NGX_ERROR : NGX_OK;
}


ngx_int_t
ngx_http_llm_heart_answer(ngx_http_llm_ctx_t *ctx)
{
    ngx_buf_t           *b;
    llm_str_t            events;
    const char          *more;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->answer.status != NGX_HTTP_OK) {
        return ngx_http_llm_heart_error(ctx);
    }

    if (ngx_http_llm_heart_events(ctx, &events) != NGX_OK) {

        more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_HEART, ctx->model.data,
                                  ctx->model.len);

        if (more) {
            ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                          "llm: the answer to a stream is none, and cannot "
                          "be told as one%s", more);
        }

        (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                                  "upstream_error",
                                  "The provider's answer is no stream.");

        return ngx_http_llm_reply_break(ctx, 1);
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = events.data;
    b->pos = events.data;
    b->last = events.data + events.len;
    b->end = b->last;
    b->memory = events.len ? 1 : 0;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* a provider may have ignored that a stream was asked for */

static ngx_int_t
ngx_http_llm_heart_events(ngx_http_llm_ctx_t *ctx, llm_str_t *events)
{
    llm_str_t    body;
    ngx_str_t   *type;
    llm_arena_t  arena;

    type = &ctx->answer.content_type;

    body.data = ctx->answer.body.data;
    body.len = ctx->answer.body.len;

    if (type->len >= 17
        && ngx_strncasecmp(type->data, (u_char *) "text/event-stream", 17)
           == 0)
    {
        *events = body;
        return NGX_OK;
    }

    ngx_memzero(&arena, sizeof(llm_arena_t));

    arena.left = NGX_HTTP_LLM_HEART_REPLAY;
    arena.alloc = ngx_http_llm_arena_alloc;
    arena.data = ctx->request->pool;

    return llm_replay(ctx->endpoint, &body, ctx->rq.include_usage, &arena,
                      events)
           == LLM_OK ? NGX_OK : NGX_DECLINED;
}


/* the provider's own words; types and codes stay as JSON spells them */

static ngx_int_t
ngx_http_llm_heart_error(ngx_http_llm_ctx_t *ctx)
{
    u_char               *p;
    llm_dialect_error_t   e;
    ngx_http_llm_error_t *error;

    error = &ctx->error;

    llm_dialect_error(&e, (unsigned) ctx->answer.status,
                      ctx->answer.body.data, ctx->answer.body.len);

    error->type = ngx_http_llm_heart_word(ctx, &e.type, "server_error");
    error->code = ngx_http_llm_heart_word(ctx, &e.code, NULL);
    error->param = ngx_http_llm_heart_word(ctx, &e.param, NULL);

    p = e.message.len ? ngx_pnalloc(ctx->request->pool, e.message.len) : NULL;

    if (p) {
        error->message.data = p;
        error->message.len = llm_json_decode(e.message.data,
                                             e.message.data + e.message.len,
                                             p);
    } else {
        ngx_str_set(&error->message, "The provider answered with an error.");
    }

    return ngx_http_llm_reply_break(ctx, 1);
}


static const char *
ngx_http_llm_heart_word(ngx_http_llm_ctx_t *ctx, llm_str_t *word,
    const char *none)
{
    u_char  *p;

    if (word->len == 0) {
        return none;
    }

    p = ngx_pnalloc(ctx->request->pool, word->len + 1);
    if (p == NULL) {
        return none;
    }

    *ngx_cpymem(p, word->data, word->len) = '\0';

    return (const char *) p;
}
