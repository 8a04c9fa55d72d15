
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_forward_private.h"
#include "upstream/ngx_http_llm_affinity.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_hedge.h"
#include "upstream/ngx_http_llm_relay.h"
#include "upstream/ngx_http_llm_retry.h"
#include "upstream/ngx_http_llm_stream.h"
#include "http/ngx_http_llm_reply.h"
#include "operate/ngx_http_llm_trace.h"
#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_limit.h"

#include "core/llm_answer.h"


static ngx_int_t ngx_http_llm_forward_start(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_target(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_hold(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_wait(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_ended(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_forward_stop(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_hedged(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_stream(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_good(ngx_http_llm_ctx_t *ctx,
    llm_answer_t *an);
static void ngx_http_llm_forward_drop(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);


ngx_int_t
ngx_http_llm_forward(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_attempt_t  *at;

    if (ctx->answered) {
        return NGX_OK;
    }

    at = ctx->attempt;

    if (at && at->running) {
        return at->done ? ngx_http_llm_forward_ended(ctx)
               : ngx_http_llm_hedge_ended(ctx) == NGX_OK
                 ? ngx_http_llm_forward_hedged(ctx)
               : ngx_http_llm_forward_wait(ctx);
    }

    if (ctx->pausing) {

        if ((ngx_msec_int_t) (ctx->pause_until - ngx_current_msec) > 0) {
            return NGX_AGAIN;
        }

        ctx->pausing = 0;
    }

    return ngx_http_llm_forward_start(ctx);
}


static ngx_int_t
ngx_http_llm_forward_start(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t       rc;
    ngx_msec_int_t  left;

    left = ngx_http_llm_forward_left(ctx);

    if (left <= 0) {
        return ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                                  "upstream_timeout",
                                  "The request's time was up before a "
                                  "provider could be asked.");
    }

    rc = ngx_http_llm_forward_target(ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_llm_attempt_start(ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->chosen = 0;

    ngx_http_llm_hedge_plan(ctx);

    left = ngx_http_llm_forward_patience(ctx);

    ngx_add_timer(&ctx->timer, (ngx_msec_t) ngx_max(left, 1));

    return NGX_AGAIN;
}


/* a target that is well, one of its slots, and its own limits' leave */

static ngx_int_t
ngx_http_llm_forward_target(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    for ( ;; ) {

        if (!ctx->chosen) {
            rc = ngx_http_llm_choose(ctx);

            if (rc == NGX_AGAIN) {
                return ngx_http_llm_forward_hold(ctx);
            }

            if (rc != NGX_OK) {
                return ngx_http_llm_forward_unavailable(ctx, -1);
            }

            ctx->chosen = 1;
        }

        rc = ngx_http_llm_limit_gate(ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        rc = ngx_http_llm_choose_start(ctx);

        if (rc == NGX_OK) {
            return NGX_OK;
        }

        /* it is not what it was when it was chosen */

        ngx_http_llm_limit_gate_leave(ctx);
        ctx->chosen = 0;

        if (rc == NGX_AGAIN && !ngx_http_llm_choose_other(ctx, 0)) {
            return ngx_http_llm_forward_hold(ctx);
        }
    }
}


/* no target may be asked before a while */

static ngx_int_t
ngx_http_llm_forward_hold(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t  wait;

    wait = ngx_max(ctx->choose_wait, 1);

    if (wait > ctx->conf->retry_max_wait
        || (ngx_msec_int_t) wait >= ngx_http_llm_forward_left(ctx))
    {
        return ngx_http_llm_forward_unavailable(ctx, (ngx_int_t) wait);
    }

    return ngx_http_llm_forward_pause(ctx, wait);
}


/* woken while the attempt runs: by its timer, or for nothing */

static ngx_int_t
ngx_http_llm_forward_wait(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_int_t           left;
    ngx_http_llm_attempt_t  *at;

    if (ctx->gone && !ngx_http_llm_flight_needed(ctx)
        && (ngx_msec_int_t) (ctx->drain_until - ngx_current_msec) <= 0)
    {
        /* nobody is there any more who would read the answer */
        ngx_http_llm_attempt_cancel(ctx);
        return NGX_AGAIN;
    }

    if (ctx->attempt->sent) {
        ngx_http_llm_attempt_buffer(ctx->attempt);
    }

    if (ctx->timer.timer_set) {
        return NGX_AGAIN;
    }

    if (ctx->hedge_at
        && (ngx_msec_int_t) (ctx->hedge_at - ngx_current_msec) <= 0)
    {
        ngx_http_llm_hedge_start(ctx);
    }

    left = ngx_http_llm_forward_patience(ctx);

    if (left > 0) {
        ngx_add_timer(&ctx->timer, (ngx_msec_t) left);
        return NGX_AGAIN;
    }

    at = ctx->attempt;

    at->timedout = 1;
    at->silent = at->sent && ngx_http_llm_forward_left(ctx) > 0;
    at->hurried = ngx_http_llm_forward_hurried(ctx);

    ngx_http_llm_attempt_cancel(ctx);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_forward_ended(ngx_http_llm_ctx_t *ctx)
{
    llm_answer_t             an;
    ngx_http_llm_attempt_t  *at;
    ngx_http_llm_outcome_t   oc;

    at = ctx->attempt;

    ngx_http_llm_forward_stop(ctx);

    if (at->sent) {
        ngx_http_llm_hedge_clear(ctx);
        return ngx_http_llm_forward_stream(ctx);
    }

    ngx_http_llm_judge(ctx, &an, &oc);
    ngx_http_llm_forward_count(ctx, oc.result);
    ngx_http_llm_choose_end(ctx, at->hurried ? LLM_TARGET_NEUTRAL
                                 : ngx_http_llm_judge_health(oc.result),
                            oc.good ? ngx_http_llm_judge_used(&an.usage)
                                    : LLM_TARGET_UNKNOWN);

    /* what another provider would refuse as well is not waited for */

    if (!oc.good && oc.retry && !ctx->gone
        && ngx_http_llm_hedge_next(ctx) == NGX_OK)
    {
        return ngx_http_llm_forward(ctx);
    }

    ngx_http_llm_hedge_clear(ctx);
    ngx_http_llm_hedge_count(ctx, oc.good);

    if (oc.good) {
        return ngx_http_llm_forward_good(ctx, &an);
    }

    if (ctx->gone) {
        /* what nobody waits for is not tried again */
        ngx_http_llm_flight_fail(ctx, 0);
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
        return NGX_DONE;
    }

    if (oc.retry && ngx_http_llm_affinity_again(ctx, oc.result)) {
        switch (ngx_http_llm_retry(ctx, &oc)) {

        case NGX_OK:
            return ngx_http_llm_forward_start(ctx);

        case NGX_AGAIN:
            return NGX_AGAIN;

        default:
            break;
        }
    }

    return ngx_http_llm_forward_failed(ctx, &oc);
}


/* nothing that watched over the attempt is needed any more */

static void
ngx_http_llm_forward_stop(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;
    at->running = 0;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (at->cancel.posted) {
        ngx_delete_posted_event(&at->cancel);
    }

    ngx_http_llm_limit_gate_leave(ctx);

    ctx->hedge_at = 0;
}


/* of two attempts the later one: its failure is nobody's */

static ngx_int_t
ngx_http_llm_forward_hedged(ngx_http_llm_ctx_t *ctx)
{
    llm_answer_t            an;
    ngx_http_llm_outcome_t  oc;

    ngx_http_llm_limit_gate_leave(ctx);

    ngx_http_llm_judge(ctx, &an, &oc);
    ngx_http_llm_forward_count(ctx, oc.result);
    ngx_http_llm_choose_end(ctx, ngx_http_llm_judge_health(oc.result),
                            oc.good ? ngx_http_llm_judge_used(&an.usage)
                                    : LLM_TARGET_UNKNOWN);

    ngx_http_llm_hedge_judged(ctx, oc.good);

    if (!oc.good) {
        return ngx_http_llm_forward_wait(ctx);
    }

    ctx->attempt->running = 0;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    return ngx_http_llm_forward_good(ctx, &an);
}


static ngx_int_t
ngx_http_llm_forward_stream(ngx_http_llm_ctx_t *ctx)
{
    ngx_uint_t               whole;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    /* its last event may lack the end and say what was used */

    ctx->rc = ngx_http_llm_stream_finish(ctx);

    ngx_http_llm_charge_settle(ctx, &at->usage, at->text_bytes, 1);

    whole = ngx_http_llm_stream_complete(at) && !at->error_event
            && (!at->timedout || at->terminal);

    if (whole && !at->cut) {
        ngx_http_llm_flight_streamed(ctx);

    } else if (at->error_event && !at->timedout) {
        ngx_http_llm_flight_over(ctx);

        /* the client has it in the provider's words, and the log in ours */

        (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                                  "upstream_error",
                                  "The provider ended its answer with an "
                                  "error.");

    } else {
        ngx_http_llm_flight_flush(ctx);
        ngx_http_llm_flight_fail(ctx, 0);
    }

    ngx_http_llm_forward_count(ctx,
                               at->silent ? NGX_HTTP_LLM_ATTEMPT_SILENT
                               : at->timedout ? NGX_HTTP_LLM_ATTEMPT_TIMEOUT
                               : whole ? NGX_HTTP_LLM_ATTEMPT_OK
                                       : NGX_HTTP_LLM_ATTEMPT_BROKEN);

    /* the deadline is the client's: it says nothing of a provider's health */

    ngx_http_llm_choose_end(ctx, whole ? LLM_TARGET_GOOD
                                 : at->hurried ? LLM_TARGET_NEUTRAL
                                 : at->silent ? LLM_TARGET_SILENT
                                 : at->timedout ? LLM_TARGET_NEUTRAL
                                                : LLM_TARGET_BAD,
                            ngx_http_llm_judge_used(&at->usage));

    ngx_http_llm_hedge_count(ctx, whole);

    if (ctx->gone) {
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
    }

    return NGX_DONE;
}


ngx_int_t
ngx_http_llm_forward_pause(ngx_http_llm_ctx_t *ctx, ngx_msec_t delay)
{
    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm attempt %ui ended with %ui, again in %M ms",
                   ctx->attempts,
                   ctx->attempt ? ctx->attempt->status : (ngx_uint_t) 0,
                   delay);

    if (delay == 0) {
        return NGX_OK;
    }

    ctx->pausing = 1;
    ctx->pause_until = ngx_current_msec + delay;

    ngx_add_timer(&ctx->timer, delay);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_forward_good(ngx_http_llm_ctx_t *ctx, llm_answer_t *an)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    /* what a provider does not count is charged as if all were text */

    ngx_http_llm_charge_settle(ctx, &an->usage,
                               an->usage.completion_tokens < 0
                               && an->usage.total_tokens < 0
                               ? at->held : 0, 1);

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.content_type = at->sr->headers_out.content_type;
    ctx->answer.body.data = at->hold;
    ctx->answer.body.len = at->held;
    ctx->answer.from = at->sr;
    ctx->answered = 1;

    ctx->headed = 1;
    ctx->ttft = at->start + at->first_ms - ctx->start;

    ngx_http_llm_affinity_answer(ctx);

    if (at->overflow) {
        ngx_http_llm_flight_fail(ctx, 0);

    } else {
        ngx_http_llm_flight_answer(ctx, an);
    }

    if (ctx->served && !ctx->gone) {
        ctx->rc = NGX_OK;
        return NGX_DONE;
    }

    if (ctx->gone) {
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
        return NGX_DONE;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_forward_detach(ngx_http_llm_ctx_t *ctx)
{
    ngx_uint_t               drain;
    ngx_msec_int_t           left;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (at == NULL || !at->running || at->done) {
        return NGX_DECLINED;
    }

    /*
     * Some providers are not to be left alone.  Else, without followers, only
     * an answer that can still be stored is of use.
     */

    drain = at->target->provider->drain;

    if (!drain && !ngx_http_llm_flight_needed(ctx)
        && (ctx->conf->timeout_drain == 0 || ctx->committed
            || ctx->rq.stream))
    {
        return NGX_DECLINED;
    }

    ctx->gone = 1;
    ctx->detached = 1;

    ngx_http_llm_hedge_settled(ctx);
    ngx_http_llm_flight_abandon(ctx);

    if (drain) {
        ctx->drain_until = ctx->deadline;
    }

    ngx_http_llm_forward_drop(ctx, at);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm client left, the attempt goes on for %M ms",
                   ctx->drain_until - ngx_current_msec);

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    left = (ngx_msec_int_t) (ctx->drain_until - ngx_current_msec);
    left = ngx_min(left, ngx_http_llm_forward_patience(ctx));

    ngx_add_timer(&ctx->timer, (ngx_msec_t) ngx_max(left, 1));

    return NGX_OK;
}


/* what the client did not take is of no use, and the reader waits */

static void
ngx_http_llm_forward_drop(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at)
{
    ngx_connection_t  *c;

    c = ctx->request->connection;

    ngx_http_llm_relay_drop(ctx->request->out);
    ctx->request->out = NULL;
    ngx_http_llm_relay_drop(at->busy);

    c->buffered &= ~NGX_HTTP_WRITE_BUFFERED;

    if (c->write->timer_set) {
        ngx_del_timer(c->write);
    }

    c->write->ready = 1;
    c->write->delayed = 0;

    ngx_post_event(c->write, &ngx_posted_events);
}


void
ngx_http_llm_forward_count(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_e result)
{
    ngx_uint_t             slot;
    ngx_http_llm_count_t  *count;

    count = &ctx->mcf->zone->sh->count;
    slot = ctx->attempt->target->provider->slot;

    (void) ngx_atomic_fetch_add(&count->provider[slot].attempts[result], 1);

    ngx_http_llm_trace_called(ctx->attempt, result);
}
