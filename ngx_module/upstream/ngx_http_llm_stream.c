
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_stream.h"
#include "upstream/ngx_http_llm_relay.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_sse.h"


static ngx_int_t ngx_http_llm_stream_window(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_held(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_give_up(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ssize_t ngx_http_llm_stream_scan(ngx_http_llm_attempt_t *at, u_char *p,
    size_t len);
static void ngx_http_llm_stream_mark(ngx_http_llm_attempt_t *at,
    unsigned bits);
static ngx_int_t ngx_http_llm_stream_refuse(ngx_http_llm_attempt_t *at,
    u_char *event, size_t len);
static ngx_int_t ngx_http_llm_stream_break(ngx_http_llm_ctx_t *ctx);


/* what a window of the stream came to, beside NGX_OK and NGX_ERROR */

#define NGX_HTTP_LLM_STREAM_REFUSED  NGX_DECLINED


/*
 * Whole events go out, in the provider's own buffers where possible so that
 * a slow client stops the reader; what has begun of the next one is kept.
 */

ngx_int_t
ngx_http_llm_stream_events(ngx_http_llm_attempt_t *at, ngx_chain_t *in)
{
    ngx_int_t      rc;
    ngx_buf_t     *b;
    ngx_chain_t   *cl, *out, **ll;

    if (in == NULL) {
        return at->relay == NGX_HTTP_LLM_RELAY_STREAM
               ? ngx_http_llm_relay_pass(at, NULL) : NGX_OK;
    }

    out = NULL;
    ll = &out;

    for (cl = in; cl; cl = cl->next) {

        b = cl->buf;

        if (b->pos == b->last) {

            /* a flush, or the end: means nothing before the commit */

            if (at->relay != NGX_HTTP_LLM_RELAY_EVENTS
                && ngx_http_llm_relay_link(at, b, &ll) != NGX_OK)
            {
                return NGX_ERROR;
            }

            continue;
        }

        if (at->relay == NGX_HTTP_LLM_RELAY_PASS) {

            /* an event too large was met in an earlier buffer */

            if (ngx_http_llm_relay_link(at, b, &ll) != NGX_OK) {
                return NGX_ERROR;
            }

            continue;
        }

        rc = at->held ? ngx_http_llm_stream_held(at, b, &ll)
                      : ngx_http_llm_stream_window(at, b, &ll);

        if (rc == NGX_HTTP_LLM_STREAM_REFUSED) {
            ngx_http_llm_relay_drop(cl);
            return NGX_OK;
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return out ? ngx_http_llm_relay_out(at, out) : NGX_OK;
}


/* nothing is held: the events are where the reader put them */

static ngx_int_t
ngx_http_llm_stream_window(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    ssize_t  whole, size;

    size = b->last - b->pos;

    at->scan = 0;
    whole = ngx_http_llm_stream_scan(at, b->pos, size);

    if (whole < 0) {
        return whole;
    }

    if (whole < size) {

        if ((size_t) (size - whole) > at->hold_max) {
            return ngx_http_llm_stream_give_up(at, b, ll);
        }

        if (ngx_http_llm_relay_keep(at, b->pos + whole, size - whole)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        b->last = b->pos + whole;
    }

    return whole ? ngx_http_llm_relay_link(at, b, ll) : NGX_OK;
}


/*
 * An event began in an earlier window.  The joined copy is only looked at:
 * what is sent is the beginning that was kept and the rest in place.
 */

static ngx_int_t
ngx_http_llm_stream_held(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    size_t   begun, size;
    ssize_t  whole;

    begun = at->held;
    size = b->last - b->pos;

    if (begun + size > at->hold_max) {
        return ngx_http_llm_stream_give_up(at, b, ll);
    }

    if (ngx_http_llm_relay_keep(at, b->pos, size) != NGX_OK) {
        return NGX_ERROR;
    }

    whole = ngx_http_llm_stream_scan(at, at->hold, at->held);

    if (whole < 0) {
        return whole;
    }

    if (whole == 0) {
        b->pos = b->last;
        return NGX_OK;
    }

    /* had it been whole without this window, it would not be held */

    if (ngx_http_llm_relay_copy(at, at->hold, begun, ll) != NGX_OK) {
        return NGX_ERROR;
    }

    b->last = b->pos + (whole - begun);

    at->held -= whole;
    ngx_memmove(at->hold, at->hold + whole, at->held);

    return ngx_http_llm_relay_link(at, b, ll);
}


/* an event larger than all bounds passes unread, and all behind it */

static ngx_int_t
ngx_http_llm_stream_give_up(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    ngx_log_error(NGX_LOG_WARN, at->sr->connection->log, 0,
                  "llm: provider \"%V\" sent an event of more than %uz bytes, "
                  "the rest of the stream is passed on unread",
                  &at->target->provider->name, at->hold_max);

    if (at->relay == NGX_HTTP_LLM_RELAY_EVENTS
        && ngx_http_llm_relay_commit(at) != NGX_OK)
    {
        return NGX_ERROR;
    }

    at->relay = NGX_HTTP_LLM_RELAY_PASS;
    at->overflow = 1;

    if (at->held
        && ngx_http_llm_relay_copy(at, at->hold, at->held, ll) != NGX_OK)
    {
        return NGX_ERROR;
    }

    at->held = 0;

    return ngx_http_llm_relay_link(at, b, ll);
}


/*
 * Bytes of whole events at the front of p that may go out; commits at the
 * first one, unless it is an error.  Comments alone wait for it.
 */

static ssize_t
ngx_http_llm_stream_scan(ngx_http_llm_attempt_t *at, u_char *p, size_t len)
{
    size_t    n, whole;
    unsigned  bits;

    whole = 0;

    for ( ;; ) {
        n = llm_sse_next(p + whole, len - whole, &at->scan);

        if (n == 0) {
            break;
        }

        bits = llm_sse_classify(at->ctx->endpoint, p + whole, n, &at->usage);

        if (at->relay == NGX_HTTP_LLM_RELAY_EVENTS
            && (bits & (LLM_SSE_DATA|LLM_SSE_ERROR)))
        {

            if (bits & LLM_SSE_ERROR) {
                return ngx_http_llm_stream_refuse(at, p + whole, n);
            }

            if (ngx_http_llm_relay_commit(at) != NGX_OK) {
                return NGX_ERROR;
            }

            at->relay = NGX_HTTP_LLM_RELAY_STREAM;
        }

        ngx_http_llm_stream_mark(at, bits);

        whole += n;
        at->scan = 0;
    }

    if (at->relay == NGX_HTTP_LLM_RELAY_EVENTS) {
        at->scan = 0;
        return 0;
    }

    return whole;
}


static void
ngx_http_llm_stream_mark(ngx_http_llm_attempt_t *at, unsigned bits)
{
    if (bits & LLM_SSE_FINISH) {
        at->finish = 1;
    }

    if (bits & LLM_SSE_DONE) {
        at->terminal = 1;
    }

    if (bits & LLM_SSE_ERROR) {
        at->error_event = 1;
    }
}


/* the first event is an error: no client has seen anything, so try again */

static ngx_int_t
ngx_http_llm_stream_refuse(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len)
{
    llm_str_t    data;
    llm_arena_t  none;

    ngx_memzero(&none, sizeof(llm_arena_t));

    at->error_event = 1;
    at->relay = NGX_HTTP_LLM_RELAY_DROP;

    if (llm_sse_data(event, len, &none, &data) == LLM_OK) {

        /* the event may be in the very memory that keeps it */

        if (at->held == 0) {
            if (ngx_http_llm_relay_keep(at, data.data, data.len) != NGX_OK) {
                return NGX_ERROR;
            }

        } else {
            ngx_memmove(at->hold, data.data, data.len);
            at->held = data.len;
        }

    } else {
        at->held = 0;
    }

    /* an upstream must not be taken away from under its own reader */

    ngx_post_event(&at->cancel, &ngx_posted_events);

    return NGX_HTTP_LLM_STREAM_REFUSED;
}


ngx_uint_t
ngx_http_llm_stream_complete(ngx_http_llm_attempt_t *at)
{
    if (!at->stream || at->overflow) {
        return at->last;
    }

    /* some providers give a finish_reason, but no [DONE] */

    return at->terminal || (at->last && at->finish);
}


ngx_int_t
ngx_http_llm_stream_finish(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_chain_t             *out, **ll;
    ngx_http_request_t      *r;
    ngx_http_llm_attempt_t  *at;

    r = ctx->request;
    at = ctx->attempt;

    if (at->held && at->last) {

        /* the end of the stream ends its last event, too */

        ngx_http_llm_stream_mark(at, llm_sse_classify(ctx->endpoint, at->hold,
                                                     at->held, &at->usage));
    }

    if (!ngx_http_llm_stream_complete(at) && !at->error_event) {
        return ngx_http_llm_stream_break(ctx);
    }

    if (at->held && at->last) {

        out = NULL;
        ll = &out;

        if (ngx_http_llm_relay_copy(at, at->hold, at->held, &ll) != NGX_OK) {
            return NGX_ERROR;
        }

        rc = ngx_http_output_filter(r, out);

        if (rc == NGX_ERROR || rc > NGX_OK) {
            return rc;
        }
    }

    return ngx_http_send_special(r, NGX_HTTP_LAST);
}


/* says so in the stream and then does not end it as a whole one would end */

static ngx_int_t
ngx_http_llm_stream_break(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_str_t                body;
    ngx_buf_t               *b;
    ngx_chain_t              out;
    ngx_http_request_t      *r;
    ngx_http_llm_attempt_t  *at;

    r = ctx->request;
    at = ctx->attempt;

    r->keepalive = 0;

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "llm: provider \"%V\" broke off a stream%s",
                  &at->target->provider->name,
                  at->timedout ? ": its time was up" : "");

    if (at->timedout) {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                                  "upstream_timeout",
                                  "The provider's answer was cut off: its "
                                  "time was up.");
    } else {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                                  "upstream_error",
                                  "The provider broke off its answer.");
    }

    if (!at->stream) {
        return ngx_http_send_special(r, NGX_HTTP_FLUSH);
    }

    if (ngx_http_llm_reply_error_body(r, &ctx->error, &body) != NGX_OK) {
        return NGX_ERROR;
    }

    b = ngx_create_temp_buf(r->pool, 256 + body.len + ctx->error.message.len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    if (ctx->endpoint == LLM_RESPONSES) {
        b->last = ngx_sprintf(b->last, "event: error\ndata: {\"type\":"
                              "\"error\",\"code\":\"%s\",\"message\":\"%V\","
                              "\"param\":null,\"sequence_number\":0,%*s"
                              "\n\n", ctx->error.code, &ctx->error.message,
                              body.len - 1, body.data + 1);
    } else {
        b->last = ngx_sprintf(b->last, "data: %V\n\n", &body);
    }

    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    rc = ngx_http_output_filter(r, &out);

    return rc;
}
