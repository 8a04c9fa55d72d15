
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_choose.h"
#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_owner.h"
#include "http/ngx_http_llm_id.h"

#include "core/llm_dialect.h"

#include <math.h>


#define NGX_HTTP_LLM_CHOOSE_SIZE  (2 * 1024 * 1024)


static void *ngx_http_llm_choose_area_create(void *mem, size_t size);
static void ngx_http_llm_choose_area_reset(void *data);
static void ngx_http_llm_choose_conf(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc);
static uint32_t ngx_http_llm_choose_place(llm_targets_t *tg,
    ngx_http_llm_target_t *target);
static void ngx_http_llm_choose_order(ngx_http_llm_ctx_t *ctx,
    llm_targets_t *tg);
static uint64_t ngx_http_llm_choose_rank(ngx_http_llm_ctx_t *ctx,
    llm_targets_t *tg, ngx_http_llm_target_t *target);
static ngx_int_t ngx_http_llm_choose_best(ngx_http_llm_ctx_t *ctx,
    llm_targets_t *tg, uint64_t *wait, ngx_uint_t *panic);
static int64_t ngx_http_llm_choose_tokens(ngx_http_llm_ctx_t *ctx);


static ngx_http_llm_area_type_t  ngx_http_llm_choose_area = {
    ngx_http_llm_choose_area_create,
    ngx_http_llm_choose_area_reset
};


ngx_int_t
ngx_http_llm_choose_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->targets = ngx_http_llm_area_create(cf,
                                            &mcf->zone->shm_zone->shm.name,
                                            "targets",
                                            NGX_HTTP_LLM_CHOOSE_SIZE,
                                            &ngx_http_llm_choose_area,
                                            &ngx_http_llm_module);

    return mcf->targets ? NGX_OK : NGX_ERROR;
}


static void *
ngx_http_llm_choose_area_create(void *mem, size_t size)
{
    return llm_target_create(mem, size);
}


static void
ngx_http_llm_choose_area_reset(void *data)
{
    llm_target_reset(data);
}


void
ngx_http_llm_choose_reaped(ngx_http_llm_main_conf_t *mcf, ngx_uint_t owner)
{
    llm_targets_t  *tg;

    tg = ngx_http_llm_area_lock(mcf->targets);
    llm_target_reap(tg, owner, ngx_current_msec);
    ngx_http_llm_area_unlock(mcf->targets);
}


static void
ngx_http_llm_choose_conf(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc)
{
    ngx_http_llm_loc_conf_t  *conf;
    ngx_http_llm_provider_t  *provider;

    conf = ctx->conf;
    provider = target->provider;

    tc->consecutive = (unsigned) conf->breaker_consecutive;
    tc->ratio = (unsigned) conf->breaker_ratio;
    tc->ratio_min = (unsigned) conf->breaker_min;
    tc->window = (uint32_t) conf->breaker_window;
    tc->eject = (uint32_t) conf->breaker_eject;
    tc->eject_max = (uint32_t) conf->breaker_max;
    tc->budget = (unsigned) conf->retry_budget;
    tc->budget_floor = (unsigned) conf->retry_floor;
    tc->adaptive = provider->adaptive ? 1 : 0;
    tc->pace = provider->pace ? 1 : 0;
    tc->windowed = provider->windowed ? 1 : 0;
    tc->margin = (unsigned) provider->margin;

    /* its slots are the ledger's; here only a bound that learns needs them */

    tc->most = !provider->adaptive
               || provider->limit.concurrency == LLM_UNLIMITED
               ? 0 : provider->limit.concurrency;
}


static uint32_t
ngx_http_llm_choose_place(llm_targets_t *tg, ngx_http_llm_target_t *target)
{
    llm_str_t  name;

    name.data = target->name.data;
    name.len = target->name.len;

    return llm_target_find(tg, &name, ngx_current_msec);
}


static int64_t
ngx_http_llm_choose_tokens(ngx_http_llm_ctx_t *ctx)
{
    return ctx->estimate_prompt + ctx->estimate_completion;
}


/* once per request: the targets in the order in which they are asked */

static void
ngx_http_llm_choose_order(ngx_http_llm_ctx_t *ctx, llm_targets_t *tg)
{
    u_char                  t;
    uint64_t                rank[NGX_HTTP_LLM_TARGETS], r;
    ngx_uint_t              i, j, n;
    ngx_http_llm_target_t  *target;

    ctx->ordered = 1;

    n = ctx->route->targets.nelts;
    target = ctx->route->targets.elts;

    for (i = 0; i < n; i++) {

        r = ctx->route->choose == NGX_HTTP_LLM_CHOOSE_ORDER
            ? 0 : ngx_http_llm_choose_rank(ctx, tg, &target[i]);

        /* equal ones stay as they are configured */

        for (j = i; j > 0 && rank[j - 1] > r; j--) {
            rank[j] = rank[j - 1];
            ctx->order[j] = ctx->order[j - 1];
        }

        t = (u_char) i;
        rank[j] = r;
        ctx->order[j] = t;
    }
}


/* the least is asked first */

static uint64_t
ngx_http_llm_choose_rank(ngx_http_llm_ctx_t *ctx, llm_targets_t *tg,
    ngx_http_llm_target_t *target)
{
    uint32_t           place;
    llm_target_stat_t  stat;

    if (ctx->route->choose == NGX_HTTP_LLM_CHOOSE_WEIGHT) {

        /* of clocks that ring at random, the first: exactly by weight */

        return (uint64_t) (-log((ngx_http_llm_random() + 1.0) / 4294967297.0)
                           * 1e9 / target->weight);
    }

    place = ngx_http_llm_choose_place(tg, target);

    if (place == LLM_TARGET_NONE) {
        return 0;
    }

    llm_target_stat(tg, place, ngx_current_msec, &stat);

    if (ctx->route->choose == NGX_HTTP_LLM_CHOOSE_LEAST) {
        return (uint64_t) (stat.running + 1) * 1000 / target->weight;
    }

    /* who has not been tried yet is */

    return stat.first_ms == LLM_TARGET_UNKNOWN ? 0
           : (uint64_t) stat.first_ms;
}


ngx_int_t
ngx_http_llm_choose(ngx_http_llm_ctx_t *ctx)
{
    uint64_t        wait;
    ngx_int_t       rc;
    ngx_uint_t      panic;
    llm_targets_t  *tg;

    if (ctx->route->targets.nelts == 1) {
        ctx->target = 0;
        return ctx->barred ? NGX_DECLINED : NGX_OK;
    }

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);

    if (!ctx->ordered) {
        ngx_http_llm_choose_order(ctx, tg);
    }

    rc = ngx_http_llm_choose_best(ctx, tg, &wait, &panic);

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    if (rc >= 0) {
        if (ctx->target != (ngx_uint_t) rc || !ctx->stick) {
            ctx->tries = 0;
        }

        ctx->target = (ngx_uint_t) rc;
        ctx->forced = panic ? 1 : 0;
        ctx->stick = 0;

        ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "llm choose target:%ui forced:%d", ctx->target,
                       ctx->forced);

        return NGX_OK;
    }

    ctx->choose_wait = (ngx_msec_t) wait;

    return rc;
}


/* the index of a target, NGX_AGAIN with *wait, or NGX_DECLINED */

static ngx_int_t
ngx_http_llm_choose_best(ngx_http_llm_ctx_t *ctx, llm_targets_t *tg,
    uint64_t *wait, ngx_uint_t *panic)
{
    int                     rc;
    uint32_t                place;
    uint64_t                ms;
    ngx_int_t               ill;
    ngx_uint_t              i, n, t, again;
    llm_target_conf_t       tc;
    ngx_http_llm_target_t  *target;

    n = ctx->route->targets.nelts;
    target = ctx->route->targets.elts;

    ill = -1;
    again = 0;
    *wait = (uint64_t) -1;
    *panic = 0;

    /* a retry at the same target was meant, if it is still well */

    for (i = ctx->stick ? 0 : 1; i <= n; i++) {

        t = i == 0 ? ctx->target : ctx->order[i - 1];

        if (ctx->barred & (1u << t)) {
            continue;
        }

        place = ngx_http_llm_choose_place(tg, &target[t]);

        if (place == LLM_TARGET_NONE) {
            return (ngx_int_t) t;
        }

        ngx_http_llm_choose_conf(ctx, &target[t], &tc);

        rc = llm_target_look(tg, place, &tc, ngx_http_llm_choose_tokens(ctx),
                             ngx_current_msec, &ms);

        if (rc == LLM_OK) {
            return (ngx_int_t) t;
        }

        if (rc == LLM_AGAIN) {
            again = 1;
            *wait = ngx_min(*wait, ms);

        } else if (ill < 0) {
            ill = (ngx_int_t) t;
        }
    }

    if (again) {
        return NGX_AGAIN;
    }

    /* better an ill one than none */

    *panic = 1;

    return ill >= 0 ? ill : NGX_DECLINED;
}


ngx_uint_t
ngx_http_llm_choose_other(ngx_http_llm_ctx_t *ctx, ngx_uint_t ill)
{
    uint64_t        wait;
    ngx_int_t       rc;
    ngx_uint_t      panic, barred, stick;
    llm_targets_t  *tg;

    if (ctx->route->targets.nelts == 1) {
        return 0;
    }

    barred = ctx->barred;
    stick = ctx->stick;

    ctx->barred |= 1u << ctx->target;
    ctx->stick = 0;

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);
    rc = ngx_http_llm_choose_best(ctx, tg, &wait, &panic);
    ngx_http_llm_area_unlock(ctx->mcf->targets);

    ctx->barred = barred;
    ctx->stick = stick;

    return rc >= 0 && (ill || !panic);
}


void
ngx_http_llm_choose_bar(ngx_http_llm_ctx_t *ctx)
{
    ctx->barred |= 1u << ctx->target;
}


ngx_int_t
ngx_http_llm_choose_larger(ngx_http_llm_ctx_t *ctx)
{
    uint64_t                window;
    ngx_uint_t              i, left;
    ngx_http_llm_target_t  *target;

    target = ctx->route->targets.elts;
    window = target[ctx->target].window;

    left = 0;

    for (i = 0; i < ctx->route->targets.nelts; i++) {

        if (window == 0 || target[i].window <= window) {
            ctx->barred |= 1u << i;

        } else if (!(ctx->barred & (1u << i))) {
            left = 1;
        }
    }

    return left ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_choose_start(ngx_http_llm_ctx_t *ctx)
{
    int                      rc;
    uint64_t                 wait;
    ngx_uint_t               force;
    llm_targets_t           *tg;
    llm_target_conf_t        tc;
    ngx_http_llm_target_t   *target;

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    /* the only one is asked even if it is ill, but not when it is full */

    force = ctx->forced;
    wait = 0;

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);

    ctx->target_place = ngx_http_llm_choose_place(tg, target);

    if (ctx->target_place == LLM_TARGET_NONE) {
        rc = LLM_OK;

    } else {
        if (ctx->attempts == 0 && ngx_http_llm_tries(ctx->request) > 0) {
            llm_target_client_retried(tg, ctx->target_place, &tc,
                                      ngx_current_msec);
        }

        rc = llm_target_start(tg, ctx->target_place, &tc,
                              ngx_http_llm_owner(),
                              ngx_http_llm_choose_tokens(ctx), force,
                              ngx_current_msec, &wait, &ctx->call);

        if (rc == LLM_DECLINED && ctx->route->targets.nelts == 1) {
            rc = llm_target_start(tg, ctx->target_place, &tc,
                                  ngx_http_llm_owner(),
                                  ngx_http_llm_choose_tokens(ctx), 1,
                                  ngx_current_msec, &wait, &ctx->call);
        }
    }

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    if (rc == LLM_OK) {
        ctx->visited |= 1u << ctx->target;
    }

    ctx->counted = rc == LLM_OK && ctx->target_place != LLM_TARGET_NONE;
    ctx->choose_wait = (ngx_msec_t) wait;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm target \"%V\": %d wait:%M", &target->name, rc,
                   ctx->choose_wait);

    return rc;
}


ngx_int_t
ngx_http_llm_choose_retry(ngx_http_llm_ctx_t *ctx)
{
    int                     rc;
    uint32_t                place;
    llm_targets_t          *tg;
    llm_target_conf_t       tc;
    ngx_http_llm_target_t  *target;

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    rc = LLM_OK;

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);

    place = ngx_http_llm_choose_place(tg, target);

    if (place != LLM_TARGET_NONE) {
        rc = llm_target_retry(tg, place, &tc, ngx_current_msec);
    }

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    return rc;
}


void
ngx_http_llm_choose_header(ngx_http_llm_attempt_t *at, ngx_table_elt_t *h)
{
    int                    tokens;
    int64_t                n;
    llm_str_t              name, value;
    llm_target_limit_t    *limit;
    llm_dialect_header_e   kind;

    if (h->lowcase_key == NULL) {
        return;
    }

    name.data = h->lowcase_key;
    name.len = h->key.len;

    kind = llm_dialect_header(&name, &tokens);

    if (kind == LLM_DIALECT_NOTHING) {
        return;
    }

    value.data = h->value.data;
    value.len = h->value.len;

    n = llm_dialect_value(kind, &value, ngx_time());
    limit = tokens ? &at->told_tokens : &at->told_requests;

    switch (kind) {

    case LLM_DIALECT_LIMIT:
        limit->limit = n;
        break;

    case LLM_DIALECT_REMAINING:
        limit->remaining = n;
        break;

    default:
        limit->reset = n;
    }

    at->told = 1;
}


void
ngx_http_llm_choose_told(ngx_http_llm_attempt_t *at)
{
    llm_targets_t       *tg;
    llm_target_conf_t    tc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;

    if (!at->told || !ctx->counted) {
        return;
    }

    ngx_http_llm_choose_conf(ctx, at->target, &tc);

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);

    llm_target_told(tg, ctx->target_place, &tc, &ctx->call,
                    &at->told_requests, &at->told_tokens, ngx_current_msec);

    ngx_http_llm_area_unlock(ctx->mcf->targets);
}


void
ngx_http_llm_choose_end(ngx_http_llm_ctx_t *ctx, llm_target_end_e end)
{
    llm_targets_t           *tg;
    llm_target_conf_t        tc;
    ngx_http_llm_target_t   *target;
    ngx_http_llm_attempt_t  *at;

    if (!ctx->counted) {
        return;
    }

    ctx->counted = 0;

    at = ctx->attempt;
    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    tg = ngx_http_llm_area_lock(ctx->mcf->targets);

    if (at && at->first_ms >= 0) {
        llm_target_first(tg, ctx->target_place, &tc, (uint64_t) at->first_ms,
                         ngx_current_msec);
    }

    llm_target_end(tg, ctx->target_place, &tc, &ctx->call, end,
                   at ? at->asked : LLM_TARGET_UNKNOWN, LLM_TARGET_UNKNOWN,
                   ngx_current_msec);

    ngx_http_llm_area_unlock(ctx->mcf->targets);
}


ngx_int_t
ngx_http_llm_choose_stat(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_target_t *target, llm_target_stat_t *stat)
{
    uint32_t        place;
    llm_targets_t  *tg;

    tg = ngx_http_llm_area_lock(mcf->targets);

    place = ngx_http_llm_choose_place(tg, target);

    if (place != LLM_TARGET_NONE) {
        llm_target_stat(tg, place, ngx_current_msec, stat);
    }

    ngx_http_llm_area_unlock(mcf->targets);

    return place == LLM_TARGET_NONE ? NGX_DECLINED : NGX_OK;
}
