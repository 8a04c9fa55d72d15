
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_cache_private.h"
#include "policy/ngx_http_llm_flight.h"
#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_inbox.h"
#include "state/ngx_http_llm_parcel.h"
#include "state/ngx_http_llm_zone.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_id.h"

#include "core/llm_backoff.h"
#include "core/llm_replay.h"


/* what a replay may take of memory */

#define NGX_HTTP_LLM_CACHE_REPLAY  (32 * 1024 * 1024)


static void *ngx_http_llm_cache_store_create(void *mem, size_t size);
static void ngx_http_llm_cache_store_reset(void *data);
static ngx_int_t ngx_http_llm_cache_fresh(ngx_http_llm_ctx_t *ctx,
    time_t age);
static ngx_int_t ngx_http_llm_cache_answer(ngx_http_llm_ctx_t *ctx);
static ngx_uint_t ngx_http_llm_cache_resolved(ngx_http_llm_ctx_t *ctx);


static ngx_http_llm_area_type_t  ngx_http_llm_cache_area = {
    ngx_http_llm_cache_store_create,
    ngx_http_llm_cache_store_reset,
    NULL
};

static ngx_str_t  ngx_http_llm_cache_events =
                      ngx_string("text/event-stream; charset=utf-8");

/* this worker's, for what comes without a request */
static ngx_http_llm_main_conf_t  *ngx_http_llm_cache_conf;


ngx_int_t
ngx_http_llm_cache_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    ngx_str_t             *name;
    ngx_http_llm_redis_t  *rd;

    if (!mcf->caches) {
        return NGX_OK;
    }

    name = &mcf->zone->shm_zone->shm.name;
    rd = ngx_http_llm_cache_redis(mcf);

    if (rd) {
        mcf->inbox = ngx_http_llm_inbox_create(cf, mcf->redis_cache
                                               ? &mcf->redis_cache_url
                                               : &mcf->redis_url, rd);
        if (mcf->inbox == NULL) {
            return NGX_ERROR;
        }
    }

    if (mcf->cache_size) {
        mcf->store = ngx_http_llm_area_create(cf, name, "cache",
                                              mcf->cache_size,
                                              &ngx_http_llm_cache_area,
                                              &ngx_http_llm_module);
        if (mcf->store == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_cache_scripts(cf, mcf);
}


static void *
ngx_http_llm_cache_store_create(void *mem, size_t size)
{
    return llm_store_create(mem, size);
}


static void
ngx_http_llm_cache_store_reset(void *data)
{
    llm_store_reset(data);
}


ngx_int_t
ngx_http_llm_cache_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_http_llm_cache_conf = mcf;

    if (ngx_http_llm_secret_init_process(mcf->secret, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_parcel_init_process(cycle);
}


ngx_uint_t
ngx_http_llm_cache_usable(ngx_http_llm_ctx_t *ctx)
{
    return ctx->conf->cache
           && (ctx->mcf->store || ngx_http_llm_cache_redis(ctx->mcf))
           && ctx->key->terms.cache_use;
}


/* the tenant's own first, then the route's, then the location's */

time_t
ngx_http_llm_cache_ttl(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->key->terms.cache_ttl >= 0) {
        return (time_t) ctx->key->terms.cache_ttl;
    }

    return ctx->route->cache_ttl >= 0 ? ctx->route->cache_ttl
                                      : ctx->conf->cache_ttl;
}


ngx_int_t
ngx_http_llm_cache_recall(ngx_http_llm_ctx_t *ctx)
{
    u_char       *p;
    size_t        len;
    llm_store_t  *st;

    if (!ctx->keyed || ctx->mcf->store == NULL
        || ctx->cache == NGX_HTTP_LLM_CACHE_RELOAD)
    {
        return NGX_OK;
    }

    p = NULL;

    st = ngx_http_llm_area_lock(ctx->mcf->store);

    len = llm_store_find(st, ctx->digest, (uint64_t) ngx_time());

    if (len) {
        p = ngx_pnalloc(ctx->request->pool, len);

        if (p) {
            llm_store_copy(st, ctx->digest, p);
        }
    }

    ngx_http_llm_area_unlock(ctx->mcf->store);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm cache recall: %uz bytes", len);

    if (p) {
        (void) ngx_http_llm_cache_found(ctx, p, len);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_cache_found(ngx_http_llm_ctx_t *ctx, u_char *p, size_t len)
{
    time_t       age;
    llm_entry_t  e;

    if (llm_entry_decode(&e, p, len) != LLM_OK
        || e.endpoint != (uint32_t) ctx->endpoint)
    {
        return NGX_DECLINED;
    }

    age = ngx_time() - (time_t) e.created;

    ctx->entry = e;

    if (ngx_http_llm_cache_fresh(ctx, age) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_cache_answer(ctx) != NGX_OK) {
        ctx->stale = 0;
        ctx->renew = 0;
        return NGX_DECLINED;
    }

    if (ctx->renew) {
        /* it will do, while somebody asks for a new one */
        return NGX_OK;
    }

    ctx->cache = NGX_HTTP_LLM_CACHE_HIT;
    ctx->answered = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_cache_fresh(ngx_http_llm_ctx_t *ctx, time_t age)
{
    llm_entry_t  *e;

    e = &ctx->entry;

    ctx->stale = 0;
    ctx->renew = 0;

    if (ctx->max_age >= 0 && age > ctx->max_age) {
        return NGX_DECLINED;
    }

    if (age < (time_t) e->ttl) {
        return NGX_OK;
    }

    age -= (time_t) e->ttl;

    ctx->stale = age < (time_t) e->stale_error;
    ctx->renew = age < (time_t) e->stale_renew;

    return ctx->renew ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_cache_stale(ngx_http_llm_ctx_t *ctx)
{
    if ((!ctx->stale && !ctx->renew)
        || ngx_http_llm_cache_answer(ctx) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ctx->cache = NGX_HTTP_LLM_CACHE_STALE;
    ctx->answered = 1;
    ctx->failed = 0;

    return NGX_OK;
}


/* one entry, both shapes */

static ngx_int_t
ngx_http_llm_cache_answer(ngx_http_llm_ctx_t *ctx)
{
    llm_str_t     events;
    llm_arena_t   arena;
    llm_entry_t  *e;

    e = &ctx->entry;

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.from = NULL;

    if (!ctx->rq.stream) {
        ctx->answer.content_type.data = e->content_type.data;
        ctx->answer.content_type.len = e->content_type.len;
        ctx->answer.body.data = e->body.data;
        ctx->answer.body.len = e->body.len;

    } else {
        ngx_memzero(&arena, sizeof(llm_arena_t));

        arena.left = NGX_HTTP_LLM_CACHE_REPLAY;
        arena.alloc = ngx_http_llm_arena_alloc;
        arena.data = ctx->request->pool;

        if (llm_replay(ctx->endpoint, &e->body, ctx->rq.include_usage, &arena,
                       &events)
            != LLM_OK)
        {
            return NGX_DECLINED;
        }

        ctx->answer.content_type = ngx_http_llm_cache_events;
        ctx->answer.body.data = events.data;
        ctx->answer.body.len = events.len;
    }

    ctx->saved_tokens = ngx_max(e->usage.prompt_tokens, 0)
                        + ngx_max(e->usage.completion_tokens, 0);
    ctx->saved_cost = e->cost;

    return NGX_OK;
}


void
ngx_http_llm_cache_store(ngx_http_llm_ctx_t *ctx, ngx_str_t *body,
    ngx_str_t *content_type, llm_usage_t *usage)
{
    time_t                  sec;
    ngx_str_t               piece[2];
    llm_str_t               part[2];
    llm_entry_t             e;
    ngx_http_llm_target_t  *target;

    sec = ngx_http_llm_cache_ttl(ctx);

    /* what was cut to what was left is not what was asked for */

    /* … and another model's answer is not the one that the name stands for */

    if (!ctx->keyed || ctx->no_store || sec <= 0 || ctx->clamp > 0
        || body->len > ctx->conf->cache_max
        || !ngx_http_llm_cache_resolved(ctx))
    {
        ngx_http_llm_flight_unlock(ctx);
        return;
    }

    /* entries made together should not all end together */

    sec = sec - (time_t) llm_backoff_delay(sec / 10, sec / 10, 0,
                                           ngx_http_llm_random());
    sec = ngx_max(sec, 1);

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    ngx_memzero(&e, sizeof(llm_entry_t));

    e.created = ngx_time();
    e.ttl = (uint32_t) sec;
    e.stale_error = (uint32_t) ctx->conf->cache_stale_error;
    e.stale_renew = (uint32_t) ctx->conf->cache_stale_renew;
    e.endpoint = ctx->endpoint;
    e.usage = *usage;
    e.cost = ctx->charged ? ngx_max(ctx->cost, 0) : 0;
    e.content_type.data = content_type->data;
    e.content_type.len = content_type->len;
    e.provider.data = target->provider->name.data;
    e.provider.len = target->provider->name.len;
    e.model.data = target->model.len ? target->model.data : ctx->model.data;
    e.model.len = target->model.len ? target->model.len : ctx->model.len;
    e.body.data = body->data;
    e.body.len = body->len;

    piece[0].len = llm_entry_head_size(&e);
    piece[0].data = ngx_pnalloc(ctx->request->pool, piece[0].len);

    if (piece[0].data == NULL) {
        ngx_http_llm_flight_unlock(ctx);
        return;
    }

    (void) llm_entry_encode_head(&e, piece[0].data);

    piece[1] = *body;

    part[0].data = piece[0].data;
    part[0].len = piece[0].len;
    part[1].data = body->data;
    part[1].len = body->len;

    ngx_http_llm_cache_put(ctx, &e, part, 2);
    ngx_http_llm_cache_send(ctx, &e, piece, 2);

    (void) ngx_atomic_fetch_add(&ctx->mcf->zone->sh->count.stored, 1);
}


/* is it the model of the first target that has answered? */

static ngx_uint_t
ngx_http_llm_cache_resolved(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t              *a, *b;
    ngx_http_llm_target_t  *target;

    target = ctx->route->targets.elts;

    a = target[0].model.len ? &target[0].model : &ctx->model;
    b = target[ctx->target].model.len ? &target[ctx->target].model
                                      : &ctx->model;

    return a->len == b->len && ngx_memcmp(a->data, b->data, a->len) == 0;
}


void
ngx_http_llm_cache_put(ngx_http_llm_ctx_t *ctx, llm_entry_t *e,
    llm_str_t *piece, ngx_uint_t n)
{
    size_t        len;
    uint64_t      until;
    ngx_uint_t    i;
    llm_store_t  *st;

    len = 0;

    for (i = 0; i < n; i++) {
        len += piece[i].len;
    }

    if (ctx->mcf->store == NULL) {
        return;
    }

    if (len > ctx->conf->cache_memory) {
        /* an older one must not be found in its place */
        ngx_http_llm_cache_forget(ctx->digest);
        return;
    }

    until = e->created + e->ttl + ngx_max(e->stale_error, e->stale_renew);

    st = ngx_http_llm_area_lock(ctx->mcf->store);

    (void) llm_store_put(st, ctx->digest, until, piece, n);

    ngx_http_llm_area_unlock(ctx->mcf->store);
}


void
ngx_http_llm_cache_cancel(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->op) {
        ngx_http_llm_redis_detach(ctx->op);
        ctx->op = NULL;
    }
}


void
ngx_http_llm_cache_forget(const u_char *name)
{
    llm_store_t          *st;
    ngx_http_llm_area_t  *area;

    area = ngx_http_llm_cache_conf->store;

    if (area == NULL) {
        return;
    }

    st = ngx_http_llm_area_lock(area);

    (void) llm_store_remove(st, name);

    ngx_http_llm_area_unlock(area);
}


ngx_int_t
ngx_http_llm_cache_stat(ngx_http_llm_main_conf_t *mcf,
    llm_store_stat_t *store, llm_flight_stat_t *flight)
{
    void  *p;

    ngx_memzero(store, sizeof(llm_store_stat_t));
    ngx_memzero(flight, sizeof(llm_flight_stat_t));

    if (mcf->store == NULL && mcf->flights == NULL) {
        return NGX_DECLINED;
    }

    if (mcf->store) {
        p = ngx_http_llm_area_lock(mcf->store);
        llm_store_stat(p, store);
        ngx_http_llm_area_unlock(mcf->store);
    }

    if (mcf->flights) {
        p = ngx_http_llm_area_lock(mcf->flights);
        llm_flight_stat(p, flight);
        ngx_http_llm_area_unlock(mcf->flights);
    }

    return NGX_OK;
}


void
ngx_http_llm_cache_count(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t             name;
    ngx_atomic_t         *count;
    ngx_http_llm_team_t  *team;

    if (ctx->cache == NGX_HTTP_LLM_CACHE_OFF || ctx->key == NULL) {
        return;
    }

    ngx_str_null(&name);

    if (ctx->key->team) {
        name.data = ctx->key->team->name.data;
        name.len = ctx->key->team->name.len;
    }

    team = ngx_http_llm_team_find(ctx->mcf->zone, &name);

    count = ctx->cache == NGX_HTTP_LLM_CACHE_HIT ? &team->hits
            : ctx->cache == NGX_HTTP_LLM_CACHE_JOINED ? &team->joined
            : ctx->cache == NGX_HTTP_LLM_CACHE_STALE ? &team->stale
            : ctx->cache == NGX_HTTP_LLM_CACHE_BYPASS ? &team->bypassed
            : &team->misses;

    (void) ngx_atomic_fetch_add(count, 1);

    if (ctx->saved_tokens) {
        (void) ngx_atomic_fetch_add(&team->tokens_saved, ctx->saved_tokens);
    }

    if (ctx->saved_cost) {
        (void) ngx_atomic_fetch_add(&team->money_saved, ctx->saved_cost);
    }
}
