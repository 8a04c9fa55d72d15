
/*
 * Copyright (C) the ngx-llm authors
 *
 * The headers of answers: a provider's that may pass, and our own.
 */


#include "http/ngx_http_llm_reply.h"
#include "http/ngx_http_llm_compat.h"

#include "core/llm_duration.h"


/* all that ngx_http_llm_reply_headers() writes: 16 numbers, 2 durations */

#define NGX_HTTP_LLM_REPLY_TEXT  512


static ngx_uint_t ngx_http_llm_reply_hidden(ngx_table_elt_t *h);
static ngx_int_t ngx_http_llm_reply_source(ngx_http_request_t *r,
    ngx_http_llm_ctx_t *ctx);
static u_char *ngx_http_llm_reply_limits(ngx_http_request_t *r,
    ngx_http_llm_ctx_t *ctx, u_char *p);
static u_char *ngx_http_llm_reply_gauge(ngx_http_request_t *r,
    llm_gauge_t *g, ngx_str_t *name, u_char *p);
static u_char *ngx_http_llm_reply_cache(ngx_http_request_t *r,
    ngx_http_llm_ctx_t *ctx, u_char *p);
static u_char *ngx_http_llm_reply_timing(ngx_http_llm_ctx_t *ctx,
    u_char *p);
static ngx_int_t ngx_http_llm_reply_header(ngx_http_request_t *r,
    const char *name, size_t len, u_char *value, size_t vlen);
static u_char *ngx_http_llm_reply_number(u_char *p, uint64_t n,
    ngx_uint_t width);


#define ngx_http_llm_header(r, name, value, vlen)                            \
    ngx_http_llm_reply_header(r, name, sizeof(name) - 1, value, vlen)


/* a provider's headers that say nothing to our client, or a wrong thing; in
   order of their first letters */

typedef struct {
    ngx_str_t   name;
    ngx_uint_t  prefix;
} ngx_http_llm_reply_hide_t;


static ngx_http_llm_reply_hide_t  ngx_http_llm_reply_hide[] = {
    { ngx_string("access-control-"), 1 },
    { ngx_string("age"), 0 },
    { ngx_string("alt-svc"), 0 },
    { ngx_string("cache-status"), 0 },
    { ngx_string("cf-"), 1 },
    { ngx_string("clear-site-data"), 0 },
    { ngx_string("location"), 0 },
    { ngx_string("nel"), 0 },
    { ngx_string("openai-organization"), 0 },
    { ngx_string("openai-project"), 0 },
    { ngx_string("proxy-authenticate"), 0 },
    { ngx_string("refresh"), 0 },
    { ngx_string("report-to"), 0 },
    { ngx_string("retry-after"), 0 },
    { ngx_string("retry-after-ms"), 0 },
    { ngx_string("server-timing"), 0 },
    { ngx_string("set-cookie"), 0 },
    { ngx_string("strict-transport-security"), 0 },
    { ngx_string("trailer"), 0 },
    { ngx_string("upgrade"), 0 },
    { ngx_string("via"), 0 },
    { ngx_string("www-authenticate"), 0 },
    { ngx_string("x-llm-"), 1 },
    { ngx_string("x-ratelimit-"), 1 },
    { ngx_string("x-request-id"), 0 },
    { ngx_string("x-should-retry"), 0 },
    { ngx_null_string, 0 }
};


/* by the first letter of a name: where its like begin */

static ngx_http_llm_reply_hide_t  *ngx_http_llm_reply_first[256];


void
ngx_http_llm_reply_init(void)
{
    u_char                      c;
    ngx_http_llm_reply_hide_t  *hide;

    for (hide = ngx_http_llm_reply_hide; hide->name.len; hide++) {
        c = hide->name.data[0];

        if (ngx_http_llm_reply_first[c] == NULL) {
            ngx_http_llm_reply_first[c] = hide;
        }
    }
}


ngx_int_t
ngx_http_llm_reply_hoist(ngx_http_llm_ctx_t *ctx, ngx_http_request_t *sr)
{
    ngx_uint_t           i;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = ctx->request;

    r->headers_out = sr->headers_out;

    /* a list knows its own first part by address */

    if (r->headers_out.headers.last == &sr->headers_out.headers.part) {
        r->headers_out.headers.last = &r->headers_out.headers.part;
    }

    if (r->headers_out.trailers.last == &sr->headers_out.trailers.part) {
        r->headers_out.trailers.last = &r->headers_out.trailers.part;
    }

    for (part = &r->headers_out.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (h[i].hash && ngx_http_llm_reply_hidden(&h[i])) {
                h[i].hash = 0;
            }
        }
    }

    /* nginx writes a path of its own host there, hidden or not */

    ngx_http_clear_location(r);

    /* ranges and conditions were the client's and are not answered here */

    r->disable_not_modified = 1;
    r->allow_ranges = 0;

    return ngx_http_llm_reply_headers(r, ctx);
}


static ngx_uint_t
ngx_http_llm_reply_hidden(ngx_table_elt_t *h)
{
    u_char                      c;
    ngx_http_llm_reply_hide_t  *hide;

    if (h->lowcase_key == NULL) {
        return 0;
    }

    c = h->lowcase_key[0];
    hide = ngx_http_llm_reply_first[c];

    if (hide == NULL) {
        return 0;
    }

    for ( /* void */ ; hide->name.len && hide->name.data[0] == c; hide++) {

        if (h->key.len < hide->name.len
            || (!hide->prefix && h->key.len != hide->name.len))
        {
            continue;
        }

        if (ngx_memcmp(h->lowcase_key, hide->name.data, hide->name.len) == 0) {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_llm_reply_headers(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx)
{
    u_char  *p, *v, *end;

    p = ngx_pnalloc(r->pool, NGX_HTTP_LLM_REPLY_TEXT);
    if (p == NULL) {
        return NGX_ERROR;
    }

    end = p + NGX_HTTP_LLM_REPLY_TEXT;

    if (ngx_http_llm_header(r, "x-request-id", ctx->id.data, ctx->id.len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    p = ngx_http_llm_reply_limits(r, ctx, p);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (ctx->cache != NGX_HTTP_LLM_CACHE_OFF) {
        p = ngx_http_llm_reply_cache(r, ctx, p);
        if (p == NULL) {
            return NGX_ERROR;
        }
    }

    if (ngx_http_llm_reply_source(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->charged && ctx->mcf->prices) {
        v = p;
        p = ngx_http_llm_reply_number(p, (uint64_t) ctx->cost / 1000000, 1);
        *p++ = '.';
        p = ngx_http_llm_reply_number(p, (uint64_t) ctx->cost % 1000000, 6);

        if (ngx_http_llm_header(r, "x-llm-cost-usd", v, p - v) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    v = p;
    p = ngx_http_llm_reply_number(p, ctx->attempts, 1);

    if (ngx_http_llm_header(r, "x-llm-attempts", v, p - v) != NGX_OK) {
        return NGX_ERROR;
    }

    v = p;
    p = ngx_http_llm_reply_number(p, ctx->queued, 1);

    if (ngx_http_llm_header(r, "x-llm-queue-ms", v, p - v) != NGX_OK) {
        return NGX_ERROR;
    }

    v = p;
    p = ngx_http_llm_reply_timing(ctx, p);

    /* what is left, unless the pool has gone on behind it */

    if (r->pool->current->d.last == end) {
        r->pool->current->d.last = p;
    }

    return ngx_http_llm_header(r, "Server-Timing", v, p - v);
}


/* where the time went until now, in ms; what did not happen is left out */

static u_char *
ngx_http_llm_reply_timing(ngx_http_llm_ctx_t *ctx, u_char *p)
{
    ngx_msec_t  now;

    now = ngx_current_msec;

    p = ngx_cpymem(p, "queue;dur=", 10);
    p = ngx_http_llm_reply_number(p, ctx->queued, 1);

    if (ctx->looking) {
        p = ngx_cpymem(p, ", cache;dur=", 12);
        p = ngx_http_llm_reply_number(p, ctx->looked ? ctx->look_ms
                                                     : now - ctx->look_since,
                                      1);
    }

    if (ctx->attempts) {
        p = ngx_cpymem(p, ", upstream;dur=", 15);
        p = ngx_http_llm_reply_number(p, ctx->answered || ctx->failed
                                         ? ctx->ask_ms
                                         : now - ctx->ask_since, 1);
    }

    if (ctx->mcf) {
        p = ngx_cpymem(p, ", total;dur=", 12);
        p = ngx_http_llm_reply_number(p, now - ctx->start, 1);
    }

    return p;
}


/* who answered: the provider just asked, or that of the stored answer */

static ngx_int_t
ngx_http_llm_reply_source(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t               provider, model, *name;
    ngx_http_llm_target_t  *target;

    if (ctx->cache == NGX_HTTP_LLM_CACHE_HIT
        || ctx->cache == NGX_HTTP_LLM_CACHE_STALE
        || ctx->cache == NGX_HTTP_LLM_CACHE_JOINED)
    {
        if (!ctx->headed && !ctx->failed) {
            ctx->headed = 1;
            ctx->ttft = ngx_current_msec - ctx->start;
        }

        provider.data = ctx->entry.provider.data;
        provider.len = ctx->entry.provider.len;
        model.data = ctx->entry.model.data;
        model.len = ctx->entry.model.len;

    } else if (ctx->route && ctx->attempts) {

        target = (ngx_http_llm_target_t *) ctx->route->targets.elts
                 + ctx->target;
        name = target->model.len ? &target->model : &ctx->model;

        provider = target->provider->name;
        model = *name;

    } else {
        return NGX_OK;
    }

    if (ngx_http_llm_header(r, "x-llm-provider", provider.data, provider.len)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_llm_header(r, "x-llm-model", model.data, model.len);
}


static u_char *
ngx_http_llm_reply_limits(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx,
    u_char *p)
{
    ngx_uint_t    i;
    llm_gauge_t  *g;

    static ngx_str_t  names[] = {
        ngx_string("x-ratelimit-limit-requests"),
        ngx_string("x-ratelimit-remaining-requests"),
        ngx_string("x-ratelimit-reset-requests"),
        ngx_string("x-ratelimit-limit-tokens"),
        ngx_string("x-ratelimit-remaining-tokens"),
        ngx_string("x-ratelimit-reset-tokens")
    };

    for (i = 0; i < 2; i++) {
        g = i ? &ctx->reading.tokens : &ctx->reading.requests;

        if (g->limit == LLM_UNLIMITED) {
            continue;
        }

        p = ngx_http_llm_reply_gauge(r, g, &names[3 * i], p);
        if (p == NULL) {
            return NULL;
        }
    }

    return p;
}


static u_char *
ngx_http_llm_reply_gauge(ngx_http_request_t *r, llm_gauge_t *g,
    ngx_str_t *name, u_char *p)
{
    u_char  *limit, *remaining, *reset;

    limit = p;
    remaining = ngx_http_llm_reply_number(limit, g->limit, 1);
    reset = ngx_http_llm_reply_number(remaining, g->remaining, 1);
    p = reset + llm_duration_format(reset, g->reset_ms);

    if (ngx_http_llm_reply_header(r, (char *) name[0].data, name[0].len,
                                  limit, remaining - limit)
        != NGX_OK
        || ngx_http_llm_reply_header(r, (char *) name[1].data, name[1].len,
                                     remaining, reset - remaining)
           != NGX_OK
        || ngx_http_llm_reply_header(r, (char *) name[2].data, name[2].len,
                                     reset, p - reset)
           != NGX_OK)
    {
        return NULL;
    }

    return p;
}


/* RFC 9211: how the cache handled the request */

static u_char *
ngx_http_llm_reply_cache(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx,
    u_char *p)
{
    time_t     age, ttl;
    u_char    *v;
    ngx_str_t  status;

    switch (ctx->cache) {

    case NGX_HTTP_LLM_CACHE_HIT:
    case NGX_HTTP_LLM_CACHE_STALE:
        age = ngx_time() - (time_t) ctx->entry.created;
        age = ngx_max(age, 0);

        v = p;
        p = ngx_http_llm_reply_number(p, (uint64_t) age, 1);

        if (ngx_http_llm_header(r, "Age", v, p - v) != NGX_OK) {
            return NULL;
        }

        ttl = (time_t) ctx->entry.ttl - age;

        status.data = p;
        p = ngx_cpymem(p, "ngx-llm; hit; ttl=", 18);

        if (ttl < 0) {
            /* the answer is stale */
            *p++ = '-';
            ttl = -ttl;
        }

        p = ngx_http_llm_reply_number(p, (uint64_t) ttl, 1);
        status.len = p - status.data;
        break;

    case NGX_HTTP_LLM_CACHE_JOINED:
        ngx_str_set(&status, "ngx-llm; fwd=uri-miss; collapsed");
        break;

    case NGX_HTTP_LLM_CACHE_MISS:
        ngx_str_set(&status, "ngx-llm; fwd=uri-miss");
        break;

    case NGX_HTTP_LLM_CACHE_RELOAD:
        ngx_str_set(&status, "ngx-llm; fwd=request");
        break;

    default:
        ngx_str_set(&status, "ngx-llm; fwd=bypass");
    }

    if (ngx_http_llm_header(r, "Cache-Status", status.data, status.len)
        != NGX_OK)
    {
        return NULL;
    }

    return p;
}


ngx_int_t
ngx_http_llm_reply_wait(ngx_http_request_t *r, ngx_http_llm_error_t *e)
{
    u_char     *p, *v;
    ngx_int_t   sec;

    if (e->no_retry || e->wait > 60 * 1000) {
        if (ngx_http_llm_header(r, "x-should-retry", (u_char *) "false", 5)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    if (e->wait < 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(r->pool, 2 * NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    /* who obeys must not be refused again: rounded up, and never "now" */

    sec = (e->wait + 999) / 1000;
    sec = ngx_max(sec, 1);

    v = p;
    p = ngx_sprintf(p, "%i", sec);

    if (ngx_http_llm_header(r, "retry-after", v, p - v) != NGX_OK) {
        return NGX_ERROR;
    }

    v = p;
    p = ngx_sprintf(p, "%i", ngx_max(e->wait, 1));

    return ngx_http_llm_header(r, "retry-after-ms", v, p - v);
}


static ngx_int_t
ngx_http_llm_reply_header(ngx_http_request_t *r, const char *name, size_t len,
    u_char *value, size_t vlen)
{
    ngx_list_t       *list;
    ngx_table_elt_t  *h;

    list = &r->headers_out.headers;

    if (list->last->nelts < list->nalloc) {
        h = list->last->elts;
        h += list->last->nelts++;

    } else {
        h = ngx_list_push(list);
        if (h == NULL) {
            return NGX_ERROR;
        }
    }

    h->hash = 1;
    h->key.data = (u_char *) name;
    h->key.len = len;
    h->value.data = value;
    h->value.len = vlen;
    h->lowcase_key = NULL;
    ngx_http_llm_header_unlink(h);

    return NGX_OK;
}


/* a dozen for each answer, so not by ngx_sprintf(); "width": least digits */

static u_char *
ngx_http_llm_reply_number(u_char *p, uint64_t n, ngx_uint_t width)
{
    u_char  *v, *end, text[NGX_INT64_LEN];

    end = text + sizeof(text);
    v = end;

    do {
        *--v = (u_char) ('0' + n % 10);
        n /= 10;
    } while (n);

    while ((ngx_uint_t) (end - v) < width) {
        *--v = '0';
    }

    return ngx_cpymem(p, v, end - v);
}


ngx_int_t
ngx_http_llm_reply_allow(ngx_http_request_t *r, const char *methods)
{
    return ngx_http_llm_header(r, "Allow", (u_char *) methods,
                               ngx_strlen(methods));
}
