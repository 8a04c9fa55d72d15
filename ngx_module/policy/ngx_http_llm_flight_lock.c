
/*
 * Copyright (C) the ngx-llm authors
 *
 * The fleet's lock on a flight, as the cache asks for it with its own command
 * and gives it back with another.
 */


#include "policy/ngx_http_llm_flight_private.h"

#include "core/llm_siphash.h"


static u_char *ngx_http_llm_flight_gateway(ngx_http_llm_ctx_t *ctx);


ngx_int_t
ngx_http_llm_flight_holder(ngx_http_llm_ctx_t *ctx, ngx_str_t *holder)
{
    u_char                 *p;
    ngx_str_t              *name;
    ngx_http_llm_flight_t  *f;
    ngx_http_llm_inbox_t   *ib;

    f = ctx->flight;
    ib = ctx->mcf->inbox;

    if (f == NULL || !f->leader || !f->equal || f->id == 0 || ib == NULL
        || ctx->alone
        || !ngx_http_llm_inbox_ready(ib))
    {
        return NGX_DECLINED;
    }

    name = ngx_http_llm_inbox_name(ib);

    p = ngx_cpymem(f->holder, name->data, name->len);
    *p++ = ':';
    p = ngx_cpymem(p, ngx_http_llm_flight_gateway(ctx),
                   NGX_HTTP_LLM_FLIGHT_GATEWAY);
    p = ngx_sprintf(p, ":%uL", f->id);

    f->holder_len = p - f->holder;

    holder->data = f->holder;
    holder->len = f->holder_len;

    return NGX_OK;
}


/* random, of this memory: all workers of this gateway have it, no others */

static u_char *
ngx_http_llm_flight_gateway(ngx_http_llm_ctx_t *ctx)
{
    uint64_t  *seed, sum[2];

    static u_char    name[NGX_HTTP_LLM_FLIGHT_GATEWAY];
    static uint64_t  of[2];

    seed = ctx->mcf->flights->sh->seed;

    /* made once by a worker; a single process may get other memory */

    if (of[0] != seed[0] || of[1] != seed[1]) {
        of[0] = seed[0];
        of[1] = seed[1];

        llm_siphash(seed, (u_char *) "gateway", 7, sum);

        (void) ngx_hex_dump(name, (u_char *) sum, sizeof(name) / 2);
    }

    return name;
}


ngx_int_t
ngx_http_llm_flight_holds(ngx_http_llm_ctx_t *ctx, ngx_str_t *holder)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL || !f->locked) {
        return NGX_DECLINED;
    }

    holder->data = f->holder;
    holder->len = f->holder_len;

    return NGX_OK;
}


u_char *
ngx_http_llm_flight_named(ngx_http_llm_ctx_t *ctx)
{
    return ctx->flight->name[NGX_HTTP_LLM_FLIGHT_EQUAL];
}


void
ngx_http_llm_flight_locked(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->flight) {
        ngx_http_llm_fleet_hold(ctx->flight);
    }
}


void
ngx_http_llm_flight_elsewhere(ngx_http_llm_ctx_t *ctx, ngx_str_t *holder)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    /*
     * What this gateway itself holds could be followed without Redis: it is
     * closed, or over, and the lock is but left behind.
     */

    if (f && holder->len > NGX_HTTP_LLM_INBOX_NAME + 1
                           + NGX_HTTP_LLM_FLIGHT_GATEWAY
        && holder->len <= NGX_HTTP_LLM_FLIGHT_HOLDER
        && ngx_memcmp(holder->data + NGX_HTTP_LLM_INBOX_NAME + 1,
                      ngx_http_llm_flight_gateway(ctx),
                      NGX_HTTP_LLM_FLIGHT_GATEWAY)
           != 0)
    {
        f->elsewhere.data = ngx_pstrdup(ctx->request->pool, holder);
        f->elsewhere.len = f->elsewhere.data ? holder->len : 0;
    }
}


void
ngx_http_llm_flight_freed(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    f->locked = 0;
    ngx_queue_remove(&f->queue);
}


void
ngx_http_llm_flight_unlock(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->flight && ctx->flight->locked) {
        ngx_http_llm_fleet_let_go(ctx->flight);
    }
}
