
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_relay.h"
#include "upstream/ngx_http_llm_affinity.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_hedge.h"
#include "upstream/ngx_http_llm_stream.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_flight.h"

#include "core/llm_backoff.h"


static ngx_int_t ngx_http_llm_relay_header_filter(ngx_http_request_t *r);
static void ngx_http_llm_relay_told(ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_relay_body_filter(ngx_http_request_t *r,
    ngx_chain_t *in);
static ngx_int_t ngx_http_llm_relay_hold(ngx_http_llm_attempt_t *at,
    ngx_chain_t *in);
static ngx_int_t ngx_http_llm_relay_overflow(ngx_http_llm_attempt_t *at,
    ngx_chain_t *cl);
static ngx_int_t ngx_http_llm_relay_next(ngx_http_llm_attempt_t *at,
    ngx_chain_t *out);


static ngx_http_output_header_filter_pt  ngx_http_next_header_filter;
static ngx_http_output_body_filter_pt    ngx_http_next_body_filter;


void
ngx_http_llm_relay_init(void)
{
    ngx_http_next_header_filter = ngx_http_top_header_filter;
    ngx_http_top_header_filter = ngx_http_llm_relay_header_filter;

    ngx_http_next_body_filter = ngx_http_top_body_filter;
    ngx_http_top_body_filter = ngx_http_llm_relay_body_filter;
}


static ngx_int_t
ngx_http_llm_relay_header_filter(ngx_http_request_t *r)
{
    ngx_str_t               *type;
    ngx_http_llm_attempt_t  *at;

    at = ngx_http_llm_attempt(r);

    if (at == NULL) {
        return ngx_http_next_header_filter(r);
    }

    /* the client's header is main's, and goes out when we commit */
    r->header_sent = 1;

    at->status = r->headers_out.status;
    at->first_ms = ngx_current_msec - at->start;

    ngx_http_llm_relay_told(at);

    type = &r->headers_out.content_type;

    if (at->status != NGX_HTTP_OK) {
        at->hold_max = NGX_HTTP_LLM_HOLD_ERROR;

    } else if (type->len >= 17
               && ngx_strncasecmp(type->data, (u_char *) "text/event-stream",
                                  17)
                  == 0)
    {
        at->relay = NGX_HTTP_LLM_RELAY_EVENTS;
        at->stream = 1;
        at->hold_max = NGX_HTTP_LLM_HOLD_EVENT;

    } else {
        at->hold_max = NGX_HTTP_LLM_HOLD_ANSWER;
    }

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm relay status:%ui type:\"%V\" length:%O relay:%d",
                   at->status, type, r->headers_out.content_length_n,
                   at->relay);

    if (!at->stream) {

        /* it is JSON or is none: no browser is to take it for a page */

        ngx_str_set(type, "application/json");
        ngx_str_null(&r->headers_out.charset);

        r->headers_out.content_type_len = type->len;
        r->headers_out.content_type_lowcase = NULL;
    }

    return NGX_OK;
}


/* what its headers say of waiting, and of its limits */

static void
ngx_http_llm_relay_told(ngx_http_llm_attempt_t *at)
{
    ngx_uint_t        i;
    llm_str_t         ms, after, *pms, *pafter;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    if (at->status == NGX_HTTP_OK && !at->target->provider->pace) {
        return;
    }

    pms = NULL;
    pafter = NULL;

    for (part = &at->sr->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (h[i].key.len == sizeof("retry-after-ms") - 1
                && ngx_strncasecmp(h[i].key.data, (u_char *) "retry-after-ms",
                                   sizeof("retry-after-ms") - 1)
                   == 0)
            {
                ms.data = h[i].value.data;
                ms.len = h[i].value.len;
                pms = &ms;

            } else if (h[i].key.len == sizeof("retry-after") - 1
                       && ngx_strncasecmp(h[i].key.data,
                                          (u_char *) "retry-after",
                                          sizeof("retry-after") - 1)
                          == 0)
            {
                after.data = h[i].value.data;
                after.len = h[i].value.len;
                pafter = &after;

            } else {
                ngx_http_llm_choose_header(at, &h[i]);
            }
        }
    }

    ngx_http_llm_choose_told(at);

    if (at->status != NGX_HTTP_OK) {
        at->asked = llm_backoff_asked(pms, pafter, ngx_time());
    }
}


static ngx_int_t
ngx_http_llm_relay_body_filter(ngx_http_request_t *r, ngx_chain_t *in)
{
    ngx_chain_t             *cl;
    ngx_http_llm_attempt_t  *at;

    at = ngx_http_llm_attempt(r);

    if (at == NULL) {
        return ngx_http_next_body_filter(r, in);
    }

    /* the only proof that the body came whole: its framing ended */

    for (cl = in; cl; cl = cl->next) {
        if (cl->buf->last_in_chain || cl->buf->last_buf) {
            at->last = 1;
        }
    }

    if (at->parked) {

        if (ngx_http_llm_hedge_behind(at)) {
            return ngx_http_llm_hedge_park(at, in);
        }

        /* it leads: what has waited comes first */

        if (ngx_http_llm_hedge_park(at, in) != NGX_OK) {
            return NGX_ERROR;
        }

        in = at->parked;
        at->parked = NULL;
    }

    if (at->ctx->detached && at->relay != NGX_HTTP_LLM_RELAY_HOLD
        && !at->target->provider->drain
        && !ngx_http_llm_flight_leads(at->ctx))
    {
        at->relay = NGX_HTTP_LLM_RELAY_DROP;
    }

    switch (at->relay) {

    case NGX_HTTP_LLM_RELAY_HOLD:
        return ngx_http_llm_relay_hold(at, in);

    case NGX_HTTP_LLM_RELAY_EVENTS:
    case NGX_HTTP_LLM_RELAY_STREAM:
        return ngx_http_llm_stream_events(at, in);

    case NGX_HTTP_LLM_RELAY_PASS:
        return ngx_http_llm_relay_pass(at, in);

    default:
        ngx_http_llm_relay_drop(in);
        return NGX_OK;
    }
}


/* the reader goes on only when its buffers are used up */

void
ngx_http_llm_relay_drop(ngx_chain_t *in)
{
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {
        cl->buf->pos = cl->buf->last;
        cl->buf->file_pos = cl->buf->file_last;
    }
}


static ngx_int_t
ngx_http_llm_relay_hold(ngx_http_llm_attempt_t *at, ngx_chain_t *in)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    for (cl = in; cl; cl = cl->next) {

        b = cl->buf;
        size = b->last - b->pos;

        if (size == 0) {
            continue;
        }

        if (at->held + size > at->hold_max) {

            /* where the header promised a stream, it cannot be passed on */

            if (!at->ctx->begun || at->status != NGX_HTTP_OK
                || at->held + size > NGX_HTTP_LLM_HOLD_EVENT)
            {
                break;
            }

            at->hold_max = NGX_HTTP_LLM_HOLD_EVENT;
        }

        if (ngx_http_llm_relay_keep(at, b->pos, size) != NGX_OK) {
            return NGX_ERROR;
        }

        b->pos = b->last;
    }

    return cl ? ngx_http_llm_relay_overflow(at, cl) : NGX_OK;
}


/* more than may be held; "cl" is the first that was not kept */

static ngx_int_t
ngx_http_llm_relay_overflow(ngx_http_llm_attempt_t *at, ngx_chain_t *cl)
{
    ngx_chain_t  *out, **ll;

    if (ngx_http_llm_hedge_behind(at) && at->status == NGX_HTTP_OK) {
        return ngx_http_llm_hedge_park(at, cl);
    }

    at->overflow = 1;

    if (at->status != NGX_HTTP_OK || at->ctx->detached || at->ctx->begun
        || (at->ctx->endpoint == LLM_ENDPOINTS && !at->ctx->native))
    {

        /* of an error the beginning is enough; nobody reads the rest */

        ngx_http_llm_relay_drop(cl);
        return NGX_OK;
    }

    /* too large to be held: from here on it is the client's */

    ngx_http_llm_affinity_begun(at);

    if (ngx_http_llm_relay_commit(at) != NGX_OK) {
        return NGX_ERROR;
    }

    at->relay = NGX_HTTP_LLM_RELAY_PASS;

    out = NULL;
    ll = &out;

    if (ngx_http_llm_relay_copy(at, at->hold, at->held, &ll) != NGX_OK) {
        return NGX_ERROR;
    }

    at->held = 0;

    for ( /* void */ ; cl; cl = cl->next) {
        if (ngx_http_llm_relay_link(at, cl->buf, &ll) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_relay_out(at, out);
}


ngx_int_t
ngx_http_llm_relay_commit(ngx_http_llm_attempt_t *at)
{
    ngx_int_t            rc;
    ngx_msec_int_t       left;
    ngx_http_request_t  *r;

    r = at->ctx->request;

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm relay commit");

    at->sent = 1;
    at->last_event = ngx_current_msec;

    at->ctx->headed = 1;
    at->ctx->ttft = ngx_current_msec - at->ctx->start;

    ngx_http_llm_hedge_settled(at->ctx);

    if (at->stream) {

        /* the time to the first byte gives way to that between two events */

        left = ngx_min(ngx_http_llm_forward_left(at->ctx),
                       ngx_http_llm_forward_between(at->ctx));

        ngx_add_timer(&at->ctx->timer, (ngx_msec_t) ngx_max(left, 1));
    }

    if (at->ctx->detached || at->ctx->begun) {
        at->ctx->committed = 1;
        return NGX_OK;
    }

    if (at->stream) {
        ngx_http_llm_attempt_spare(at);
    }

    if (ngx_http_llm_reply_hoist(at->ctx, at->sr) != NGX_OK) {
        return NGX_ERROR;
    }

    if (at->stream) {
        ngx_http_clear_content_length(r);
    }

    at->ctx->committed = 1;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    at->sr->main_filter_need_in_memory = r->main_filter_need_in_memory;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_relay_keep(ngx_http_llm_attempt_t *at, u_char *p, size_t len)
{
    off_t    known;
    size_t   size;
    u_char  *hold;

    if (at->held + len > at->hold_size) {

        size = at->hold_size ? 2 * at->hold_size : 2048;

        known = at->sr->headers_out.content_length_n;

        if (known > 0 && known <= (off_t) at->hold_max) {
            size = (size_t) known;
        }

        size = ngx_max(size, at->held + len);

        hold = ngx_pnalloc(at->sr->pool, size);
        if (hold == NULL) {
            return NGX_ERROR;
        }

        if (at->hold) {
            ngx_memcpy(hold, at->hold, at->held);
            (void) ngx_pfree(at->sr->pool, at->hold);
        }

        at->hold = hold;
        at->hold_size = size;
    }

    ngx_memcpy(at->hold + at->held, p, len);
    at->held += len;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_relay_link(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    ngx_chain_t  *cl;

    cl = ngx_alloc_chain_link(at->sr->pool);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    cl->buf = b;
    cl->next = NULL;

    **ll = cl;
    *ll = &cl->next;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_relay_copy(ngx_http_llm_attempt_t *at, u_char *p, size_t len,
    ngx_chain_t ***ll)
{
    size_t        size;
    ngx_buf_t    *b;
    ngx_pool_t   *pool;
    ngx_chain_t  *cl;

    pool = at->sr->pool;

    cl = ngx_chain_get_free_buf(pool, &at->free);
    if (cl == NULL) {
        return NGX_ERROR;
    }

    b = cl->buf;

    if ((size_t) (b->end - b->start) < len) {

        if (b->start) {
            (void) ngx_pfree(pool, b->start);
        }

        size = ngx_max(len, 1024);

        b->start = ngx_pnalloc(pool, size);
        if (b->start == NULL) {
            return NGX_ERROR;
        }

        b->end = b->start + size;
    }

    b->pos = b->start;
    b->last = ngx_cpymem(b->start, p, len);
    b->temporary = 1;
    b->flush = 1;
    b->tag = (ngx_buf_tag_t) &ngx_http_llm_module;

    cl->next = NULL;
    **ll = cl;
    *ll = &cl->next;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_relay_share(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll)
{
    size_t        size;
    ngx_chain_t  *cl;

    if (!ngx_http_llm_flight_shared(at->ctx) || at->ctx->detached) {
        return ngx_http_llm_relay_link(at, b, ll);
    }

    size = 0;

    for (cl = at->busy; cl; cl = cl->next) {
        size += ngx_buf_size(cl->buf);
    }

    if (size > at->ctx->conf->join_log) {
        return ngx_http_llm_relay_link(at, b, ll);
    }

    if (ngx_http_llm_relay_copy(at, b->pos, b->last - b->pos, ll) != NGX_OK) {
        return NGX_ERROR;
    }

    b->pos = b->last;

    return NGX_OK;
}


/* a client whose connection is broken must not end a call that others need */

static ngx_int_t
ngx_http_llm_relay_next(ngx_http_llm_attempt_t *at, ngx_chain_t *out)
{
    ngx_int_t            rc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;

    if (!ctx->detached) {

        if (out) {
            ctx->last_out = ngx_current_msec;
        }

        rc = ngx_http_next_body_filter(at->sr, out);

        if (rc != NGX_ERROR || !ctx->request->connection->error
            || ngx_http_llm_forward_detach(ctx) != NGX_OK)
        {
            return rc;
        }
    }

    ngx_http_llm_relay_drop(out);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_relay_pass(ngx_http_llm_attempt_t *at, ngx_chain_t *in)
{
    ngx_int_t     rc;
    ngx_chain_t  *none;

    none = NULL;

    rc = ngx_http_llm_relay_next(at, in);

    ngx_chain_update_chains(at->sr->pool, &at->free, &at->busy, &none,
                            (ngx_buf_tag_t) &ngx_http_llm_module);

    return rc;
}


/* the links are ours, and go back as soon as what they hold is sent */

ngx_int_t
ngx_http_llm_relay_out(ngx_http_llm_attempt_t *at, ngx_chain_t *out)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_relay_next(at, out);

    ngx_chain_update_chains(at->sr->pool, &at->free, &at->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_llm_module);

    return rc;
}
