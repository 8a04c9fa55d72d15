
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who leads, who follows: the stage, and the names of flights.
 */


#include "policy/ngx_http_llm_flight_private.h"
#include "policy/ngx_http_llm_cache.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_siphash.h"


/* times that a request tries to follow before it goes alone */

#define NGX_HTTP_LLM_FLIGHT_TRIES   5


#define ngx_http_llm_flight_bit(n)  (1u << (n))


static ngx_http_llm_flight_t *ngx_http_llm_flight_part(
    ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_flight_mine(ngx_http_llm_ctx_t *ctx, u_char *name,
    const char *kind, ngx_str_t *a, ngx_str_t *b);
static ngx_int_t ngx_http_llm_flight_fetch(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_flight_lead(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_flight_try(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_flight_equal(ngx_http_llm_ctx_t *ctx,
    unsigned *follow, unsigned *lead);
static ngx_int_t ngx_http_llm_flight_renew(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_flight_wake(ngx_http_llm_flight_t *f);
static ngx_int_t ngx_http_llm_flight_again(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_flight_after(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_flight_unknown(ngx_http_llm_ctx_t *ctx);


/* two letters each: what a name of one client's own is about */

static const char  *ngx_http_llm_flight_kinds[] = {
    "ch", "co", "em", "re"
};


void
ngx_http_llm_flight_tag(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t               tries;
    ngx_str_t               idem;
    ngx_uint_t              again;
    ngx_table_elt_t        *key;
    ngx_http_request_t     *r;
    ngx_http_llm_flight_t  *f;

    if (!ctx->conf->join) {
        return;
    }

    r = ctx->request;

    /* the official clients count their tries, from 0 */

    tries = ngx_http_llm_tries(r);
    key = ngx_http_llm_header_in(r, "idempotency-key",
                                 sizeof("idempotency-key") - 1);

    if (tries < 0 && key == NULL
        && (ctx->conf->join_resume == 0 || !ctx->rq.stream))
    {
        return;
    }

    f = ngx_http_llm_flight_part(ctx);
    if (f == NULL) {
        return;
    }

    if (tries >= 0 || key) {
        ngx_str_null(&idem);

        if (key) {
            idem = key->value;
        }

        again = key || tries > 0;

        ngx_http_llm_flight_mine(ctx, f->name[NGX_HTTP_LLM_FLIGHT_OWN],
                                 ngx_http_llm_flight_kinds[ctx->endpoint],
                                 &ctx->body, &idem);

        f->tagged = 1;
        f->lead |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_OWN);

        if (again) {
            f->follow |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_OWN);
        }
    }

    if (ctx->conf->join_resume && ctx->rq.stream) {

        ngx_http_llm_flight_mine(ctx, f->name[NGX_HTTP_LLM_FLIGHT_ID], "id",
                                 &ctx->id, NULL);

        f->resumable = 1;
        f->lead |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_ID);
    }
}


static ngx_http_llm_flight_t *
ngx_http_llm_flight_part(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL) {
        f = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_flight_t));
        if (f == NULL) {
            return NULL;
        }

        f->ctx = ctx;
        f->news = ngx_http_llm_flight_wake;
        f->limits.log = ctx->conf->join_log;
        f->limits.followers = (unsigned) ctx->conf->join_followers;

        ctx->flight = f;
    }

    return f;
}


/* a name that only this key's requests can have, in this memory */

static void
ngx_http_llm_flight_mine(ngx_http_llm_ctx_t *ctx, u_char *name,
    const char *kind, ngx_str_t *a, ngx_str_t *b)
{
    u_char                 *p, text[256];
    uint64_t               *seed, sum[2];
    const llm_str_t        *key;
    ngx_http_llm_area_sh_t *sh;

    sh = ctx->mcf->flights->sh;
    seed = sh->seed;
    key = &ctx->key->limit.name;

    p = ngx_cpymem(text, kind, 2);

    llm_siphash(seed, key->data, key->len, sum);
    p = ngx_cpymem(p, sum, sizeof(sum));

    llm_siphash(seed, a->data, a->len, sum);
    p = ngx_cpymem(p, sum, sizeof(sum));

    if (b && b->len) {
        llm_siphash(seed, b->data, b->len, sum);
        p = ngx_cpymem(p, sum, sizeof(sum));
    }

    llm_siphash(seed, text, p - text, sum);
    ngx_memcpy(name, sum, sizeof(sum));

    llm_siphash(seed + 2, text, p - text, sum);
    ngx_memcpy(name + sizeof(sum), sum, sizeof(sum));
}


ngx_int_t
ngx_http_llm_join(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (ctx->flight && !ctx->flight->leader && ctx->flight->id) {

            rc = ngx_http_llm_follow(ctx);

            if (rc != NGX_DECLINED) {
                return rc;
            }

            /* what it led to may have been stored meanwhile */

            (void) ngx_http_llm_cache_recall(ctx);
        }

        if (ctx->answered) {
            return NGX_OK;
        }

        if (ctx->op) {
            return NGX_AGAIN;
        }

        if (ngx_http_llm_flight_try(ctx) == NGX_AGAIN) {

            if (ctx->renew) {

                /* somebody asks for a new one already */

                ngx_http_llm_flight_quit(ctx->flight);
                return ngx_http_llm_cache_stale(ctx);
            }

            if (ngx_http_llm_flight_fetch(ctx) == NGX_AGAIN) {
                return NGX_AGAIN;
            }

            continue;
        }

        rc = ngx_http_llm_flight_lead(ctx);

        if (rc != NGX_DECLINED) {
            return rc;
        }
    }
}


/* what the other one renews may lie in Redis alone: looks there, once */

static ngx_int_t
ngx_http_llm_flight_fetch(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->conf->cache_stale_renew == 0 || ctx->fetched) {
        return NGX_OK;
    }

    ngx_http_llm_flight_quit(ctx->flight);

    if (ngx_http_llm_cache_fetch(ctx) == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    ctx->fetched = 1;

    return NGX_OK;
}


/* leads, or goes alone; NGX_DECLINED: follows what another gateway leads */

static ngx_int_t
ngx_http_llm_flight_lead(ngx_http_llm_ctx_t *ctx)
{
    if (ngx_http_llm_cache_fetch(ctx) == NGX_AGAIN) {
        return NGX_AGAIN;
    }

    if (ctx->answered) {
        /* those who follow find it where it was put just now */
        ngx_http_llm_flight_fail(ctx, 1);
        return NGX_OK;
    }

    if (ctx->renew) {

        /* at most one of the fleet does */

        if (ngx_http_llm_cache_lock(ctx) == NGX_AGAIN) {
            return NGX_AGAIN;
        }

        return ngx_http_llm_flight_renew(ctx);
    }

    if (ctx->flight && ctx->flight->elsewhere.len
        && ngx_http_llm_fleet_follow(ctx) == NGX_AGAIN)
    {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


/* NGX_AGAIN: follows; NGX_OK: leads, or has no part in a flight */

static ngx_int_t
ngx_http_llm_flight_try(ngx_http_llm_ctx_t *ctx)
{
    unsigned                follow, lead;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f && f->leader) {
        return NGX_OK;
    }

    if (!ctx->keyed && f == NULL) {
        return NGX_OK;
    }

    f = ngx_http_llm_flight_part(ctx);
    if (f == NULL) {
        return NGX_OK;
    }

    follow = f->follow;
    lead = f->lead;

    if (ctx->keyed && ctx->conf->join) {
        ngx_http_llm_flight_equal(ctx, &follow, &lead);
    }

    if (ctx->alone || ctx->cache == NGX_HTTP_LLM_CACHE_RELOAD
        || ctx->joins++ >= NGX_HTTP_LLM_FLIGHT_TRIES)
    {
        follow = 0;
    }

    if (follow || lead) {
        return ngx_http_llm_flight_enter(f, follow, lead);
    }

    /* no flight, but its events may be kept */

    f->leader = 1;

    return NGX_OK;
}


/* the names of what is equal, in either shape */

static void
ngx_http_llm_flight_equal(ngx_http_llm_ctx_t *ctx, unsigned *follow,
    unsigned *lead)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    ngx_memcpy(f->name[NGX_HTTP_LLM_FLIGHT_EQUAL], ctx->digest,
               LLM_FLIGHT_NAME);
    ngx_memcpy(f->name[NGX_HTTP_LLM_FLIGHT_STREAM], ctx->digest,
               LLM_FLIGHT_NAME);

    f->name[NGX_HTTP_LLM_FLIGHT_STREAM][LLM_FLIGHT_NAME - 1] ^= 1;

    if (ctx->rq.stream) {
        f->name[NGX_HTTP_LLM_FLIGHT_EQUAL][LLM_FLIGHT_NAME - 1] ^= 1;

    } else {
        *follow |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_STREAM);
    }

    *follow |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_EQUAL);

    /*
     * Who may be cut off or cut short, or has less time than others, does not
     * call for them.
     */

    if (!ctx->key->terms.cut && !ctx->key->terms.clamp
        && ctx->deadline - ctx->start >= ctx->conf->timeout_total)
    {
        *lead |= ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_EQUAL);
        f->equal = 1;
    }
}


/*
 * The stale answer does, since somebody asks for a new one: this request, once
 * it has been served, or another gateway's.
 */

static ngx_int_t
ngx_http_llm_flight_renew(ngx_http_llm_ctx_t *ctx)
{
    if (ngx_http_llm_cache_stale(ctx) != NGX_OK) {
        return NGX_OK;
    }

    if (ctx->denied) {
        ngx_http_llm_flight_fail(ctx, 1);
        return NGX_OK;
    }

    /* the line serves it, and goes on to the provider */

    ctx->answered = 0;

    return NGX_OK;
}


static void
ngx_http_llm_flight_wake(ngx_http_llm_flight_t *f)
{
    if (f->leader && f->shared) {
        ngx_http_llm_flight_flush(f->ctx);
    }

    f->ctx->wake(f->ctx);
}


void
ngx_http_llm_flight_leave(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL) {
        return;
    }

    if (f->leader) {
        ngx_http_llm_flight_fail(ctx, 1);

    } else {
        ngx_http_llm_flight_quit(f);
    }
}


ngx_int_t
ngx_http_llm_resume(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->flight == NULL) {
        rc = ngx_http_llm_flight_again(ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    rc = ngx_http_llm_follow(ctx);

    return rc == NGX_DECLINED ? ngx_http_llm_flight_unknown(ctx) : rc;
}


/* joins the stream whose id ends the URI */

static ngx_int_t
ngx_http_llm_flight_again(ngx_http_llm_ctx_t *ctx)
{
    u_char                 *p;
    ngx_int_t               rc;
    ngx_str_t               id;
    ngx_http_request_t     *r;
    ngx_http_llm_flight_t  *f;

    r = ctx->request;

    if (!ctx->conf->join || ctx->conf->join_resume == 0) {
        return ngx_http_llm_flight_unknown(ctx);
    }

    f = ngx_http_llm_flight_part(ctx);
    if (f == NULL) {
        return NGX_ERROR;
    }

    for (p = r->uri.data + r->uri.len; p[-1] != '/'; p--) { /* void */ }

    id.data = p;
    id.len = r->uri.data + r->uri.len - p;

    rc = ngx_http_llm_flight_after(ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->rq.stream = 1;
    f->resumes = 1;

    ngx_http_llm_flight_mine(ctx, f->name[NGX_HTTP_LLM_FLIGHT_ID], "id", &id,
                             NULL);

    if (ngx_http_llm_flight_enter(f,
            ngx_http_llm_flight_bit(NGX_HTTP_LLM_FLIGHT_ID), 0)
        != NGX_AGAIN)
    {
        return ngx_http_llm_flight_unknown(ctx);
    }

    return NGX_OK;
}


/* how many events the client has: ?after=, or else the header */

static ngx_int_t
ngx_http_llm_flight_after(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t            n;
    ngx_str_t            after;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = ctx->request;

    h = ngx_http_llm_header_in(r, "last-event-id",
                               sizeof("last-event-id") - 1);

    if (ngx_http_arg(r, (u_char *) "after", 5, &after) != NGX_OK) {
        ngx_str_null(&after);

        if (h) {
            after = h->value;
        }
    }

    if (after.len == 0) {
        return NGX_OK;
    }

    n = ngx_atoi(after.data, after.len);

    if (n == NGX_ERROR) {
        return ngx_http_llm_error(ctx, NGX_HTTP_BAD_REQUEST,
                                  "invalid_request_error", NULL,
                                  "Expected the number of events that have "
                                  "been read.");
    }

    ctx->flight->skip = n;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_flight_unknown(ngx_http_llm_ctx_t *ctx)
{
    return ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                              "invalid_request_error", "stream_not_found",
                              "There is no stream of this id that could be "
                              "taken up again.");
}
