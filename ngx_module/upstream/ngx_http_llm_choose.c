
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_choose_private.h"
#include "http/ngx_http_llm_id.h"

#include <math.h>


static void ngx_http_llm_choose_order(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb);
static uint64_t ngx_http_llm_choose_rank(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target);
static ngx_int_t ngx_http_llm_choose_best(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, uint64_t *wait, ngx_uint_t *panic);


/* once per request: the targets in the order in which they are asked */

static void
ngx_http_llm_choose_order(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb)
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
            ? 0 : ngx_http_llm_choose_rank(ctx, tb, &target[i]);

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
ngx_http_llm_choose_rank(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target)
{
    uint32_t           place;
    llm_target_stat_t  stat;

    if (ctx->route->choose == NGX_HTTP_LLM_CHOOSE_WEIGHT) {

        /* of clocks that ring at random, the first: exactly by weight */

        return (uint64_t) (-log((ngx_http_llm_random() + 1.0) / 4294967297.0)
                           * 1e9 / target->weight);
    }

    place = ngx_http_llm_choose_place(tb, target);

    if (place == LLM_TARGET_NONE) {
        return 0;
    }

    llm_target_stat(tb->named, place, ngx_current_msec, &stat);

    if (ctx->route->choose == NGX_HTTP_LLM_CHOOSE_LEAST) {
        return (uint64_t) (stat.running + 1) * 1000 / target->weight;
    }

    place = ngx_http_llm_choose_model(ctx, tb, target);

    if (place != LLM_TARGET_NONE) {
        llm_target_stat(tb->models, place, ngx_current_msec, &stat);
    }

    /* who has not been tried yet is */

    return stat.first_ms == LLM_TARGET_UNKNOWN ? 0
           : (uint64_t) stat.first_ms;
}


ngx_int_t
ngx_http_llm_choose(ngx_http_llm_ctx_t *ctx)
{
    uint64_t                wait;
    ngx_int_t               rc;
    ngx_uint_t              panic;
    ngx_http_llm_tables_t  *tb;

    if (ctx->route->targets.nelts == 1) {
        ctx->target = 0;
        return ctx->barred ? NGX_DECLINED : NGX_OK;
    }

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    if (!ctx->ordered) {
        ngx_http_llm_choose_order(ctx, tb);
    }

    rc = ngx_http_llm_choose_best(ctx, tb, &wait, &panic);

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
ngx_http_llm_choose_best(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    uint64_t *wait, ngx_uint_t *panic)
{
    int                     rc;
    uint64_t                ms;
    ngx_int_t               ill;
    ngx_uint_t              i, n, t, again;
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

        rc = ngx_http_llm_choose_look(ctx, tb, &target[t], &ms);

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
    ngx_int_t   rc;
    ngx_uint_t  panic;

    rc = ngx_http_llm_choose_beside(ctx, &panic);

    return rc >= 0 && (ill || !panic);
}


ngx_int_t
ngx_http_llm_choose_beside(ngx_http_llm_ctx_t *ctx, ngx_uint_t *panic)
{
    uint64_t                wait;
    ngx_int_t               rc;
    ngx_uint_t              barred, stick;
    ngx_http_llm_tables_t  *tb;

    *panic = 0;

    if (ctx->route->targets.nelts == 1) {
        return NGX_DECLINED;
    }

    barred = ctx->barred;
    stick = ctx->stick;

    ctx->barred |= 1u << ctx->target;
    ctx->stick = 0;

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);
    rc = ngx_http_llm_choose_best(ctx, tb, &wait, panic);
    ngx_http_llm_area_unlock(ctx->mcf->targets);

    ctx->barred = barred;
    ctx->stick = stick;

    return rc;
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
