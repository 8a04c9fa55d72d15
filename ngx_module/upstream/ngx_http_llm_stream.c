
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_stream_private.h"
#include "upstream/ngx_http_llm_stream.h"
#include "upstream/ngx_http_llm_affinity.h"
#include "upstream/ngx_http_llm_ahead.h"
#include "upstream/ngx_http_llm_cut.h"
#include "upstream/ngx_http_llm_hedge.h"
#include "upstream/ngx_http_llm_relay.h"
#include "http/ngx_http_llm_quiet.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_usage.h"

#include "core/llm_sse.h"


static void ngx_http_llm_stream_room(ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_stream_buffer(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_window(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_held(ngx_http_llm_attempt_t *at,
    ngx_buf_t *b, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_large(ngx_http_llm_attempt_t *at);
static ssize_t ngx_http_llm_stream_scan(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w);
static size_t ngx_http_llm_stream_next(ngx_http_llm_attempt_t *at, u_char *p,
    size_t len, unsigned *bits);
static ngx_int_t ngx_http_llm_stream_first(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits);
static u_char *ngx_http_llm_stream_place(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits);
static ngx_int_t ngx_http_llm_stream_cut(ngx_http_llm_attempt_t *at,
    ngx_chain_t *in, ngx_chain_t ***ll);
static ngx_int_t ngx_http_llm_stream_refuse(ngx_http_llm_attempt_t *at,
    u_char *event, size_t len);


/* what a window of the stream came to, beside NGX_OK and NGX_ERROR */

#define NGX_HTTP_LLM_STREAM_REFUSED  NGX_DECLINED
#define NGX_HTTP_LLM_STREAM_BEHIND   NGX_BUSY


/*
 * Whole events go out, in the provider's own buffers where possible so that
 * a slow client stops the reader; what has begun of the next one is kept.
 */

ngx_int_t
ngx_http_llm_stream_events(ngx_http_llm_attempt_t *at, ngx_chain_t *in)
{
    ngx_int_t     rc;
    ngx_chain_t  *cl, *out, **ll;

    if (in == NULL) {
        return at->relay == NGX_HTTP_LLM_RELAY_STREAM
               ? ngx_http_llm_relay_pass(at, NULL) : NGX_OK;
    }

    if (at->sent) {
        ngx_http_llm_usage_between(at->ctx,
                                   ngx_current_msec - at->last_event);
    }

    ngx_http_llm_stream_room(at);

    out = NULL;
    ll = &out;

    for (cl = in; cl; cl = cl->next) {

        rc = ngx_http_llm_stream_buffer(at, cl->buf, &ll);

        if (rc == NGX_HTTP_LLM_STREAM_REFUSED) {
            ngx_http_llm_relay_drop(cl);
            break;
        }

        if (rc == NGX_HTTP_LLM_STREAM_BEHIND) {
            return ngx_http_llm_hedge_park(at, cl);
        }

        if (rc != NGX_OK) {
            return NGX_ERROR;
        }

        if (at->cut) {
            if (ngx_http_llm_stream_cut(at, cl->next, &ll) != NGX_OK) {
                return NGX_ERROR;
            }

            break;
        }
    }

    at->last_event = ngx_current_msec;

    ngx_http_llm_flight_flush(at->ctx);

    return out ? ngx_http_llm_relay_out(at, out) : NGX_OK;
}


/* a read has filled the little memory that was enough so far */

static void
ngx_http_llm_stream_room(ngx_http_llm_attempt_t *at)
{
    ngx_buf_t  *b;

    b = &at->sr->upstream->buffer;

    if (at->spare && b->start == at->spare && b->last == b->end
        && !at->filled)
    {
        at->filled = 1;
        at->ctx->wake(at->ctx);
    }
}


static ngx_int_t
ngx_http_llm_stream_buffer(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    if (b->pos == b->last) {

        /* a flush, or the end: means nothing before the commit */

        return at->relay != NGX_HTTP_LLM_RELAY_EVENTS
               ? ngx_http_llm_relay_link(at, b, ll) : NGX_OK;
    }

    if (at->skip_lf) {
        at->skip_lf = 0;

        if (*b->pos == LF && ++b->pos == b->last) {
            return NGX_OK;
        }
    }

    return at->held ? ngx_http_llm_stream_held(at, b, ll)
                    : ngx_http_llm_stream_window(at, b, ll);
}


/* nothing is held: the events are where the reader put them */

static ngx_int_t
ngx_http_llm_stream_window(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    ssize_t                whole, size;
    ngx_http_llm_window_t  w;

    size = b->last - b->pos;

    w.pos = b->pos;
    w.len = size;
    w.begun = 0;
    w.front = 0;
    w.buf = b;
    w.out = 0;

    at->scan = 0;
    whole = ngx_http_llm_stream_scan(at, &w);

    if (whole < 0) {
        return whole;
    }

    if (whole < size && !at->cut) {

        if (ngx_http_llm_relay_keep(at, b->pos + whole, size - whole)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    b->last = b->pos + whole - w.out;

    return b->pos < b->last ? ngx_http_llm_relay_share(at, b, ll) : NGX_OK;
}


/*
 * An event began in an earlier window.  The joined copy is only looked at:
 * what is sent is the beginning that was kept and the rest in place.
 */

static ngx_int_t
ngx_http_llm_stream_held(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    size_t                 size;
    ssize_t                whole;
    ngx_http_llm_window_t  w;

    size = b->last - b->pos;

    if (at->held + size > at->hold_max) {
        return ngx_http_llm_stream_large(at);
    }

    w.begun = at->held;
    w.front = at->held;
    w.buf = b;
    w.out = 0;

    if (ngx_http_llm_relay_keep(at, b->pos, size) != NGX_OK) {
        return NGX_ERROR;
    }

    w.pos = at->hold;
    w.len = at->held;

    whole = ngx_http_llm_stream_scan(at, &w);

    if (whole == NGX_HTTP_LLM_STREAM_BEHIND) {
        at->held = w.begun;
    }

    if (whole < 0) {
        return whole;
    }

    if (whole == 0) {
        b->pos = b->last;
        return NGX_OK;
    }

    /* had it been whole without this window, it would not be held */

    if (w.front
        && ngx_http_llm_relay_copy(at, at->hold, w.front, ll) != NGX_OK)
    {
        return NGX_ERROR;
    }

    b->last = b->pos + (whole - w.begun) - w.out;

    at->held -= whole;
    ngx_memmove(at->hold, at->hold + whole, at->held);

    return b->pos < b->last ? ngx_http_llm_relay_share(at, b, ll) : NGX_OK;
}


/* no client could read it either */

static ngx_int_t
ngx_http_llm_stream_large(ngx_http_llm_attempt_t *at)
{
    const char  *more;

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_LARGE,
                              at->target->provider->name.data,
                              at->target->provider->name.len);

    if (more) {
        ngx_log_error(NGX_LOG_ERR, at->sr->connection->log, 0,
                      "llm: provider \"%V\" sent an event of more than %uz "
                      "bytes%s", &at->target->provider->name, at->hold_max,
                      more);
    }

    at->held = 0;
    at->overflow = 1;
    at->relay = NGX_HTTP_LLM_RELAY_DROP;

    /* an upstream must not be taken away from under its own reader */

    ngx_post_event(&at->cancel, &ngx_posted_events);

    return NGX_HTTP_LLM_STREAM_REFUSED;
}


/*
 * Bytes of whole events at the front of the window that may go out; commits
 * at the first one, unless it is an error.  Comments alone wait for it.
 */

static ssize_t
ngx_http_llm_stream_scan(ngx_http_llm_attempt_t *at, ngx_http_llm_window_t *w)
{
    size_t     n, whole, size;
    u_char    *p, *last;
    unsigned   bits;
    ngx_int_t  rc;

    whole = 0;
    last = NULL;
    size = 0;

    for ( ;; ) {
        p = w->pos + whole;

        n = ngx_http_llm_stream_next(at, p, w->len - whole, &bits);

        if (n == 0) {
            break;
        }

        if (at->relay == NGX_HTTP_LLM_RELAY_EVENTS
            && (bits & (LLM_SSE_DATA|LLM_SSE_ERROR)))
        {
            rc = ngx_http_llm_stream_first(at, w, whole, n, bits);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        ngx_http_llm_stream_mark(at, bits);
        ngx_http_llm_stream_clean(at, w, whole, n, bits);

        if (at->relay != NGX_HTTP_LLM_RELAY_EVENTS
            && ngx_http_llm_flight_event(at->ctx, p, n, bits) != NGX_OK)
        {
            return NGX_ERROR;
        }

        p = ngx_http_llm_stream_place(at, w, whole, n, bits);

        if (at->text.bytes != at->text_bytes) {
            at->text_bytes = at->text.bytes;
            last = p;
            size = n;
        }

        whole += n;
        at->scan = 0;
    }

    if (at->relay == NGX_HTTP_LLM_RELAY_EVENTS) {
        at->scan = 0;
        return 0;
    }

    if (last
        && ngx_http_llm_cut_check(at, last, size, w->pos[whole - 1] == CR)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return whole;
}


/* the next whole event and what it says; nearly all are of one shape */

static size_t
ngx_http_llm_stream_next(ngx_http_llm_attempt_t *at, u_char *p, size_t len,
    unsigned *bits)
{
    size_t  n;

    if (at->scan == 0) {
        n = llm_sse_same(p, len, &at->text);

        if (n) {
            *bits = LLM_SSE_DATA;
            return n;
        }
    }

    n = llm_sse_next(p, len, &at->scan);

    if (n) {
        *bits = llm_sse_classify(at->ctx->endpoint, p, n, &at->usage,
                                 &at->text);
    }

    return n;
}


static ngx_int_t
ngx_http_llm_stream_first(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits)
{
    u_char  *event;

    event = w->pos + start;

    if (bits & LLM_SSE_ERROR) {
        return ngx_http_llm_stream_refuse(at, event, len);
    }

    if (ngx_http_llm_hedge_behind(at)) {

        /* it will be read again, by who may send it */

        ngx_http_llm_attempt_unread(at);

        return NGX_HTTP_LLM_STREAM_BEHIND;
    }

    ngx_http_llm_affinity_event(at, event, len);

    if (ngx_http_llm_relay_commit(at) != NGX_OK
        || ngx_http_llm_flight_head(at->ctx, &at->sr->headers_out.content_type)
           != NGX_OK
        || ngx_http_llm_cut_begin(at, event, len) != NGX_OK
        || ngx_http_llm_attempt_forget(at) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_ahead(at);

    at->relay = NGX_HTTP_LLM_RELAY_STREAM;
    at->first_ms = ngx_current_msec - at->start;

    /* the comments in front of it have been waiting for it */

    return start ? ngx_http_llm_flight_event(at->ctx, w->pos, start, 0)
                 : NGX_OK;
}


/* where an event is when those in front of it have been taken out */

static u_char *
ngx_http_llm_stream_place(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits)
{
    u_char  *p;

    p = w->pos + start;

    if ((bits & LLM_SSE_USAGE_ONLY) && !at->ctx->rq.include_usage) {
        ngx_http_llm_stream_remove(at, w, start, len);

    } else if (w->out) {
        ngx_http_llm_stream_move(w, start, len);
        p -= w->begun ? 0 : w->out;
    }

    return p;
}


/* the end is ours: what the provider has sent behind it is of no use */

static ngx_int_t
ngx_http_llm_stream_cut(ngx_http_llm_attempt_t *at, ngx_chain_t *in,
    ngx_chain_t ***ll)
{
    ngx_http_llm_relay_drop(in);

    at->held = 0;
    at->relay = NGX_HTTP_LLM_RELAY_DROP;

    return ngx_http_llm_relay_link(at, at->final, ll);
}


void
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
