
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_hedge.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_forward.h"
#include "policy/ngx_http_llm_limit.h"
#include "state/ngx_http_llm_owner.h"


/* what must not be done twice: it is stored, or has effects elsewhere */

#define NGX_HTTP_LLM_HEDGE_BYPASS                                             \
    (LLM_BYPASS_STORE|LLM_BYPASS_BACKGROUND|LLM_BYPASS_PREVIOUS               \
     |LLM_BYPASS_HOSTED)


static ngx_int_t ngx_http_llm_hedge_launch(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_hedge_gate(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_hedge_ungate(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_hedge_swap(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_hedge_event(ngx_event_t *ev);
static void ngx_http_llm_hedge_leave(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t stop);
static void ngx_http_llm_hedge_bump(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_hedge_e result);


void
ngx_http_llm_hedge_plan(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t  after;

    ctx->hedge_at = 0;

    if (ctx->conf->hedge_budget == 0 || ctx->hedge || ctx->stored
        || ctx->detached || ctx->background || ctx->affinity
        || ctx->route->targets.nelts == 1
        || (ctx->rq.bypass & NGX_HTTP_LLM_HEDGE_BYPASS))
    {
        return;
    }

    after = ctx->conf->hedge_after;

    if (ctx->call.late > (int64_t) after) {
        after = (ngx_msec_t) ctx->call.late;
    }

    ctx->hedge_at = ngx_current_msec + ngx_max(after, 1);

    if (ctx->hedge_at == 0) {
        ctx->hedge_at = 1;
    }
}


void
ngx_http_llm_hedge_start(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc, target;
    ngx_uint_t               panic;
    ngx_http_llm_hedge_t    *hg;
    ngx_http_llm_attempt_t  *at;

    ctx->hedge_at = 0;
    at = ctx->attempt;

    /* an answer has begun, or nobody waits for it */

    if (at->done || at->sent || ctx->detached || ctx->gone
        || (at->status != 0 && !at->stream))
    {
        return;
    }

    target = ngx_http_llm_choose_beside(ctx, &panic);

    if (target < 0 || panic) {
        ngx_http_llm_hedge_bump(ctx, NGX_HTTP_LLM_HEDGE_DENIED);
        return;
    }

    hg = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_hedge_t));
    if (hg == NULL) {
        return;
    }

    hg->event.handler = ngx_http_llm_hedge_event;
    hg->event.data = ctx;
    hg->event.log = ctx->request->connection->log;

    hg->target = (ngx_uint_t) target;
    hg->attempt = ngx_http_llm_attempt_create(ctx);

    if (hg->attempt == NULL) {
        return;
    }

    ctx->hedge = hg;

    ngx_http_llm_hedge_swap(ctx);
    rc = ngx_http_llm_hedge_launch(ctx);
    ngx_http_llm_hedge_swap(ctx);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm hedge: %i at target %i", rc, target);

    if (rc == NGX_OK) {
        ctx->hedged = 1;
        return;
    }

    ctx->hedge = NULL;
    ctx->beside = NULL;

    ngx_http_llm_hedge_bump(ctx, NGX_HTTP_LLM_HEDGE_DENIED);
}


/* now or never: a hedge waits for nothing */

static ngx_int_t
ngx_http_llm_hedge_launch(ngx_http_llm_ctx_t *ctx)
{
    if (ngx_http_llm_hedge_gate(ctx) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_choose_hedge(ctx, &ctx->hedge->call) == NGX_OK) {

        (void) ngx_http_llm_attempt_launch(ctx->attempt, ctx->target);

        if (ctx->attempt->running) {
            ctx->visited |= 1u << ctx->target;
            return NGX_OK;
        }

        ngx_http_llm_choose_end(ctx, LLM_TARGET_NEUTRAL, LLM_TARGET_UNKNOWN);
    }

    ngx_http_llm_hedge_ungate(ctx);

    return NGX_DECLINED;
}


/* a slot of the provider that is free, and its own rates' leave */

static ngx_int_t
ngx_http_llm_hedge_gate(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t             rc;
    llm_ask_t             ask;
    llm_now_t             now;
    llm_owners_t          wake;
    llm_reading_t         rd;
    ngx_http_llm_zone_t  *zone;

    rc = ngx_http_llm_limit_flow(ctx);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : rc;
    }

    zone = ctx->mcf->zone;

    ngx_memzero(&ask, sizeof(llm_ask_t));

    ask.limits = &ctx->gate_limits;
    ask.data = ctx;
    ask.owner = ngx_http_llm_owner();
    ask.priority = ctx->key->terms.priority;
    ask.slot = 1;
    ask.need.requests = 1;
    ask.need.tokens = ctx->estimate_prompt + ctx->estimate_completion;
    ask.floor = ask.need;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    rc = llm_ledger_enter(zone->sh->ledger, &ask, &now, &ctx->gate, &rd);

    if (rc == LLM_AGAIN) {
        llm_ledger_leave(zone->sh->ledger, ctx->gate, 1, &now, &wake);
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    if (rc != LLM_OK) {
        ctx->gate = 0;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static void
ngx_http_llm_hedge_ungate(ngx_http_llm_ctx_t *ctx)
{
    llm_now_t             now;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (ctx->gate == 0) {
        return;
    }

    zone = ctx->mcf->zone;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);
    llm_ledger_leave(zone->sh->ledger, ctx->gate, 1, &now, &wake);
    ngx_http_llm_zone_unlock(zone, &wake);

    ctx->gate = 0;
}


static void
ngx_http_llm_hedge_swap(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_hedge_t  *hg, ours;

    hg = ctx->hedge;

    ours.attempt = ctx->attempt;
    ours.target = ctx->target;
    ours.tries = ctx->tries;
    ours.call = ctx->call;
    ours.gate = ctx->gate;

    ctx->attempt = hg->attempt;
    ctx->target = hg->target;
    ctx->tries = hg->tries;
    ctx->call = hg->call;
    ctx->gate = hg->gate;

    hg->attempt = ours.attempt;
    hg->target = ours.target;
    hg->tries = ours.tries;
    hg->call = ours.call;
    hg->gate = ours.gate;
    hg->second = !hg->second;

    ctx->beside = hg->attempt->sr;
    ctx->beside_target = hg->target;
}


ngx_uint_t
ngx_http_llm_hedge_behind(ngx_http_llm_attempt_t *at)
{
    return at->ctx->hedged && at != at->ctx->attempt;
}


ngx_int_t
ngx_http_llm_hedge_park(ngx_http_llm_attempt_t *at, ngx_chain_t *in)
{
    ngx_chain_t  *cl, **ll;

    for (ll = &at->parked; *ll; ll = &(*ll)->next) { /* void */ }

    for ( /* void */ ; in; in = in->next) {

        cl = ngx_alloc_chain_link(at->sr->pool);
        if (cl == NULL) {
            return NGX_ERROR;
        }

        cl->buf = in->buf;
        cl->next = NULL;

        *ll = cl;
        ll = &cl->next;
    }

    ngx_http_llm_hedge_settled(at->ctx);

    return NGX_OK;
}


void
ngx_http_llm_hedge_settled(ngx_http_llm_ctx_t *ctx)
{
    ctx->hedge_at = 0;

    if (ctx->hedged && !ctx->hedge->event.posted) {
        ngx_post_event(&ctx->hedge->event, &ngx_posted_events);
    }
}


/* the turn in which it was decided is over: nobody's reader is on the stack */

static void
ngx_http_llm_hedge_event(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_llm_ctx_t      *ctx;
    ngx_http_llm_attempt_t  *at;

    ctx = ev->data;
    c = ctx->request->connection;

    if (!ctx->hedged) {
        return;
    }

    ngx_http_set_log_request(c->log, ctx->request);

    at = ctx->hedge->attempt;

    if (ctx->attempt->sent || ctx->detached || ctx->gone) {
        ngx_http_llm_hedge_drop(ctx);

    } else if (at->parked && !at->done && !ctx->attempt->done) {

        ngx_log_debug0(NGX_LOG_DEBUG_HTTP, c->log, 0, "llm hedge: won");

        ngx_http_llm_hedge_swap(ctx);
        ngx_http_llm_hedge_drop(ctx);
        ngx_http_llm_attempt_succeed(at);
    }

    ngx_http_run_posted_requests(c);
}


void
ngx_http_llm_hedge_drop(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->hedged) {
        ngx_http_llm_hedge_leave(ctx, 1);
        ngx_http_llm_hedge_count(ctx, 1);
    }
}


/* the attempt that does not lead ends, and says nothing of its target */

static void
ngx_http_llm_hedge_leave(ngx_http_llm_ctx_t *ctx, ngx_uint_t stop)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->hedge->attempt;

    /* the first one is so late at least; the other had no time to be */

    if (at->first_ms < 0 && ctx->hedge->second) {
        at->first_ms = ngx_current_msec - at->start;
    }

    if (at->cancel.posted) {
        ngx_delete_posted_event(&at->cancel);
    }

    if (stop) {
        ngx_http_llm_attempt_stop(at);
    }

    at->running = 0;
    ctx->hedged = 0;

    ngx_http_llm_hedge_swap(ctx);

    ngx_http_llm_forward_count(ctx, NGX_HTTP_LLM_ATTEMPT_CANCELLED);
    ngx_http_llm_choose_end(ctx, LLM_TARGET_NEUTRAL, LLM_TARGET_UNKNOWN);
    ngx_http_llm_limit_gate_leave(ctx);

    ngx_http_llm_hedge_swap(ctx);

    ctx->beside = NULL;
}


ngx_int_t
ngx_http_llm_hedge_next(ngx_http_llm_ctx_t *ctx)
{
    if (!ctx->hedged) {
        return NGX_DECLINED;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm hedge: goes on alone");

    ctx->hedged = 0;

    ngx_http_llm_hedge_swap(ctx);
    ngx_http_llm_attempt_succeed(ctx->attempt);

    ctx->beside = NULL;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_hedge_ended(ngx_http_llm_ctx_t *ctx)
{
    if (!ctx->hedged || !ctx->hedge->attempt->done) {
        return NGX_DECLINED;
    }

    ngx_http_llm_hedge_swap(ctx);

    return NGX_OK;
}


void
ngx_http_llm_hedge_judged(ngx_http_llm_ctx_t *ctx, ngx_uint_t good)
{
    if (good) {
        ngx_http_llm_hedge_drop(ctx);
        ngx_http_llm_attempt_succeed(ctx->attempt);
        return;
    }

    ctx->attempt->running = 0;
    ctx->hedged = 0;

    ngx_http_llm_hedge_count(ctx, 0);
    ngx_http_llm_hedge_swap(ctx);

    ctx->beside = NULL;
}


void
ngx_http_llm_hedge_clear(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->hedge == NULL) {
        return;
    }

    ngx_http_llm_hedge_drop(ctx);
    ngx_http_llm_attempt_succeed(ctx->hedge->attempt);
}


void
ngx_http_llm_hedge_count(ngx_http_llm_ctx_t *ctx, ngx_uint_t good)
{
    ngx_http_llm_hedge_t  *hg;

    hg = ctx->hedge;

    if (hg == NULL || hg->counted) {
        return;
    }

    hg->counted = 1;

    ngx_http_llm_hedge_bump(ctx, !hg->second ? NGX_HTTP_LLM_HEDGE_LOST
                                 : good ? NGX_HTTP_LLM_HEDGE_WON
                                        : NGX_HTTP_LLM_HEDGE_FAILED);
}


static void
ngx_http_llm_hedge_bump(ngx_http_llm_ctx_t *ctx, ngx_http_llm_hedge_e result)
{
    (void) ngx_atomic_fetch_add(&ctx->mcf->zone->sh->count.hedge[result], 1);
}


/* the connection is going down: core leaves the providers itself */

void
ngx_http_llm_hedge_cleanup(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->hedge == NULL) {
        return;
    }

    if (ctx->hedge->event.posted) {
        ngx_delete_posted_event(&ctx->hedge->event);
    }

    if (ctx->hedged) {
        ngx_http_llm_hedge_leave(ctx, 0);
    }

    ngx_http_llm_hedge_count(ctx, 0);
}
