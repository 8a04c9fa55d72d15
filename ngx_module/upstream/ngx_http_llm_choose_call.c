
/*
 * Copyright (C) the ngx-llm authors
 *
 * The calls of targets, and of models: what is counted of them, and what each
 * says of who answered it.
 */


#include "upstream/ngx_http_llm_choose_private.h"
#include "upstream/ngx_http_llm_hedge.h"
#include "upstream/ngx_http_llm_share.h"
#include "state/ngx_http_llm_owner.h"
#include "http/ngx_http_llm_id.h"

#include "core/llm_dialect.h"


static ngx_http_llm_target_t *ngx_http_llm_choose_target(
    ngx_http_llm_ctx_t *ctx);
static int64_t ngx_http_llm_choose_tokens(ngx_http_llm_ctx_t *ctx);
static int ngx_http_llm_choose_begin(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target,
    ngx_uint_t force, uint64_t *wait);
static void ngx_http_llm_choose_late(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb);
static ngx_http_llm_call_t *ngx_http_llm_choose_call(
    ngx_http_llm_attempt_t *at);
static void ngx_http_llm_choose_meet(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_call_t *call, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc);
static llm_target_end_e ngx_http_llm_choose_blame(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target,
    llm_target_conf_t *tc, llm_target_end_e *end);
static void ngx_http_llm_choose_close(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, llm_targets_t *table, uint32_t place,
    llm_target_conf_t *tc, llm_target_call_t *call, llm_target_end_e end,
    int64_t used);


static ngx_http_llm_target_t *
ngx_http_llm_choose_target(ngx_http_llm_ctx_t *ctx)
{
    return (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;
}


static int64_t
ngx_http_llm_choose_tokens(ngx_http_llm_ctx_t *ctx)
{
    return ctx->estimate_prompt + ctx->estimate_completion;
}


int
ngx_http_llm_choose_look(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target, uint64_t *wait)
{
    int                rc, more;
    uint32_t           place;
    uint64_t           ms;
    llm_target_conf_t  tc;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    more = LLM_OK;
    ms = 0;

    if (target->model.len == 0) {
        place = ngx_http_llm_choose_model(ctx, tb, target);

        if (place != LLM_TARGET_NONE) {
            more = llm_target_look(tb->models, place, &tc,
                                   ngx_http_llm_choose_tokens(ctx),
                                   ngx_current_msec, &ms);
        }

        ngx_http_llm_choose_general(&tc);
    }

    place = ngx_http_llm_choose_place(tb, target);

    rc = llm_target_look(tb->named, place, &tc,
                         ngx_http_llm_choose_tokens(ctx), ngx_current_msec,
                         wait);

    if (more == LLM_OK) {
        return rc;
    }

    *wait = ngx_max(*wait, ms);

    return rc == LLM_DECLINED ? rc : more;
}


ngx_int_t
ngx_http_llm_choose_start(ngx_http_llm_ctx_t *ctx)
{
    int                      rc;
    uint64_t                 wait;
    llm_target_conf_t        tc;
    ngx_http_llm_target_t   *target;
    ngx_http_llm_tables_t   *tb;

    target = ngx_http_llm_choose_target(ctx);
    wait = 0;

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    ctx->call.place = ngx_http_llm_choose_place(tb, target);

    if (ctx->attempts == 0 && ngx_http_llm_tries(ctx->request) > 0) {
        ngx_http_llm_choose_conf(ctx, target, &tc);
        llm_target_client_retried(tb->named, ctx->call.place, &tc,
                                  ngx_current_msec);
    }

    rc = ngx_http_llm_choose_begin(ctx, tb, target, ctx->forced, &wait);

    if (rc == LLM_DECLINED && ctx->route->targets.nelts == 1) {

        /* the only one is asked even if it is ill, but not when it is full */

        rc = ngx_http_llm_choose_begin(ctx, tb, target, 1, &wait);
    }

    if (rc == LLM_OK) {
        ngx_http_llm_choose_late(ctx, tb);
    }

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    if (rc == LLM_OK) {
        ctx->visited |= 1u << ctx->target;
    }

    ctx->call.counted = rc == LLM_OK;
    ctx->choose_wait = (ngx_msec_t) wait;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm target \"%V\": %d wait:%M", &target->name, rc,
                   ctx->choose_wait);

    return rc;
}


/* the target and the model, or neither of them */

static int
ngx_http_llm_choose_begin(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target, ngx_uint_t force, uint64_t *wait)
{
    int                   rc;
    llm_target_conf_t     tc, general;
    ngx_http_llm_call_t  *call;

    call = &ctx->call;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    general = tc;
    call->model.running = 0;
    call->model_place = ngx_http_llm_choose_model(ctx, tb, target);

    if (target->model.len == 0) {
        ngx_http_llm_choose_general(&general);
    }

    if (call->model_place != LLM_TARGET_NONE) {

        rc = force ? LLM_OK
             : llm_target_look(tb->named, call->place, &general, 0,
                               ngx_current_msec, wait);

        if (rc != LLM_OK) {
            return rc;
        }

        rc = llm_target_start(tb->models, call->model_place, &tc,
                              ngx_http_llm_owner(),
                              ngx_http_llm_choose_tokens(ctx), force,
                              ngx_current_msec, wait, &call->model);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    return llm_target_start(tb->named, call->place, &general,
                            ngx_http_llm_owner(),
                            ngx_http_llm_choose_tokens(ctx), force,
                            ngx_current_msec, wait, &call->target);
}


/* when it is said to be slow */

static void
ngx_http_llm_choose_late(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb)
{
    ngx_http_llm_call_t  *call;

    if (ctx->conf->hedge_budget == 0) {
        return;
    }

    call = &ctx->call;

    call->late = call->model_place != LLM_TARGET_NONE
                 ? llm_target_late(tb->models, call->model_place)
                 : llm_target_late(tb->named, call->place);
}


ngx_int_t
ngx_http_llm_choose_hedge(ngx_http_llm_ctx_t *ctx, ngx_http_llm_call_t *slow)
{
    int                     rc;
    uint64_t                wait;
    ngx_http_llm_target_t  *target;
    ngx_http_llm_tables_t  *tb;

    wait = 0;

    target = ngx_http_llm_choose_target(ctx);

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    ctx->call.place = ngx_http_llm_choose_place(tb, target);

    rc = llm_target_hedge(tb->named, slow->place, 0);

    if (rc == LLM_OK) {
        rc = ngx_http_llm_choose_look(ctx, tb, target, &wait);
    }

    if (rc == LLM_OK) {
        (void) llm_target_hedge(tb->named, slow->place, 1);

        llm_target_grant(tb->named, ctx->call.place);

        rc = ngx_http_llm_choose_begin(ctx, tb, target, 0, &wait);
    }

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    ctx->call.counted = rc == LLM_OK;

    return rc == LLM_OK ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_choose_retry(ngx_http_llm_ctx_t *ctx)
{
    int                     rc;
    llm_target_conf_t       tc;
    ngx_http_llm_target_t  *target;
    ngx_http_llm_tables_t  *tb;

    target = ngx_http_llm_choose_target(ctx);

    ngx_http_llm_choose_conf(ctx, target, &tc);

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    rc = llm_target_retry(tb->named, ngx_http_llm_choose_place(tb, target),
                          &tc, ngx_current_msec);

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


/* of two attempts that run, each has its own */

static ngx_http_llm_call_t *
ngx_http_llm_choose_call(ngx_http_llm_attempt_t *at)
{
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;

    return ctx->hedged && at != ctx->attempt ? &ctx->hedge->call : &ctx->call;
}


void
ngx_http_llm_choose_told(ngx_http_llm_attempt_t *at)
{
    llm_target_conf_t       tc;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_call_t    *call;
    ngx_http_llm_tables_t  *tb;

    ctx = at->ctx;
    call = ngx_http_llm_choose_call(at);

    if (!at->told || !call->counted) {
        return;
    }

    ngx_http_llm_choose_conf(ctx, at->target, &tc);

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    if (at->target->model.len) {
        llm_target_told(tb->named, call->place, &tc, &call->target,
                        &at->told_requests, &at->told_tokens,
                        ngx_current_msec);

        ngx_http_llm_share_told(ctx->mcf, tb, tb->named, call->place,
                                &call->target, at);

    } else {
        if (at->status == NGX_HTTP_OK) {
            ngx_http_llm_choose_meet(ctx, call, tb, at->target, &tc);
        }

        llm_target_told(tb->models, call->model_place, &tc, &call->model,
                        &at->told_requests, &at->told_tokens,
                        ngx_current_msec);

        ngx_http_llm_share_told(ctx->mcf, tb, tb->models, call->model_place,
                                &call->model, at);
    }

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    ngx_http_llm_share_post(ctx->mcf);
}


/* there is such a model: this call is the first that counts for it */

static void
ngx_http_llm_choose_meet(ngx_http_llm_ctx_t *ctx, ngx_http_llm_call_t *call,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target,
    llm_target_conf_t *tc)
{
    uint64_t  wait;

    if (call->model_place != LLM_TARGET_NONE) {
        return;
    }

    call->model_place = ngx_http_llm_choose_model_new(ctx, tb, target);

    if (call->model_place != LLM_TARGET_NONE) {
        tc->pace = 0;
        (void) llm_target_start(tb->models, call->model_place, tc,
                                ngx_http_llm_owner(),
                                ngx_http_llm_choose_tokens(ctx), 1,
                                ngx_current_msec, &wait, &call->model);
        tc->pace = target->provider->pace ? 1 : 0;
    }
}


void
ngx_http_llm_choose_end(ngx_http_llm_ctx_t *ctx, llm_target_end_e end,
    int64_t used)
{
    llm_target_end_e        general;
    llm_target_conf_t       tc;
    ngx_http_llm_call_t    *call;
    ngx_http_llm_target_t  *target;
    ngx_http_llm_tables_t  *tb;

    call = &ctx->call;

    if (!call->counted) {
        return;
    }

    call->counted = 0;

    target = ngx_http_llm_choose_target(ctx);
    general = end;

    ngx_http_llm_choose_conf(ctx, target, &tc);

    tb = ngx_http_llm_area_lock(ctx->mcf->targets);

    if (target->model.len == 0) {
        general = ngx_http_llm_choose_blame(ctx, tb, target, &tc, &end);

        ngx_http_llm_choose_close(ctx, tb, tb->models, call->model_place, &tc,
                                  &call->model, end, used);

        ngx_http_llm_choose_general(&tc);
    }

    ngx_http_llm_choose_close(ctx, tb, tb->named, call->place, &tc,
                              &call->target, general, used);

    ngx_http_llm_area_unlock(ctx->mcf->targets);

    ngx_http_llm_share_post(ctx->mcf);
}


/*
 * Of a target that names no model: returns how the call ended for it, and sets
 * *end to how it did for the model.
 */

static llm_target_end_e
ngx_http_llm_choose_blame(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc,
    llm_target_end_e *end)
{
    ngx_uint_t               bad;
    llm_target_end_e         general;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;
    general = *end;
    bad = *end == LLM_TARGET_BAD || *end == LLM_TARGET_SILENT;

    /* who cannot be reached is for no model */

    if (bad && at && !at->connected) {
        *end = LLM_TARGET_NEUTRAL;
        return general;
    }

    if (*end == LLM_TARGET_NEUTRAL) {
        return general;
    }

    if (bad || *end == LLM_TARGET_LIMITED
        || (at && at->status == NGX_HTTP_OK))
    {
        ngx_http_llm_choose_meet(ctx, &ctx->call, tb, target, tc);
    }

    return LLM_TARGET_GOOD;
}


static void
ngx_http_llm_choose_close(ngx_http_llm_ctx_t *ctx, ngx_http_llm_tables_t *tb,
    llm_targets_t *table, uint32_t place, llm_target_conf_t *tc,
    llm_target_call_t *call, llm_target_end_e end, int64_t used)
{
    int64_t                  asked;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;
    asked = at ? at->asked : LLM_TARGET_UNKNOWN;

    if (at && at->first_ms >= 0) {
        llm_target_first(table, place, tc, (uint64_t) at->first_ms,
                         ngx_current_msec);
    }

    llm_target_end(table, place, tc, call, end, asked, used,
                   ngx_current_msec);

    if (end == LLM_TARGET_LIMITED && asked >= 0) {
        ngx_http_llm_share_cool(ctx->mcf, tb, table, place);
    }
}
