
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "upstream/ngx_http_llm_relay.h"
#include "upstream/ngx_http_llm_stream.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_limit.h"

#include "core/llm_answer.h"
#include "core/llm_backoff.h"


/* how an attempt ended, and whether another may help */

typedef struct {
    ngx_http_llm_attempt_e      result;
    ngx_uint_t                  status;      /* for the client */
    unsigned                    good:1;
    unsigned                    retry:1;
    unsigned                    elsewhere:1; /* not at this target again */
    unsigned                    own:1;       /* the error is in our words */
    const char                 *code;
    const char                 *message;
} ngx_http_llm_outcome_t;


static ngx_int_t ngx_http_llm_forward_start(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_wait(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_ended(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_forward_stream(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_forward_judge(ngx_http_llm_ctx_t *ctx,
    llm_answer_t *an, ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_forward_judge_local(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_forward_judge_error(ngx_http_llm_attempt_t *at,
    llm_answer_t *an, ngx_http_llm_outcome_t *oc);
static void ngx_http_llm_forward_own(ngx_http_llm_outcome_t *oc,
    ngx_uint_t status, const char *code, const char *message);
static ngx_int_t ngx_http_llm_forward_again(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);
static ngx_int_t ngx_http_llm_forward_pause(ngx_http_llm_ctx_t *ctx,
    ngx_msec_t delay);
static ngx_int_t ngx_http_llm_forward_good(ngx_http_llm_ctx_t *ctx,
    llm_answer_t *an);
static ngx_int_t ngx_http_llm_forward_failed(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);
static ngx_msec_int_t ngx_http_llm_forward_left(ngx_http_llm_ctx_t *ctx);


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
    ngx_msec_t      timer;
    ngx_msec_int_t  left;

    left = ngx_http_llm_forward_left(ctx);

    if (left <= 0) {
        return ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                                  "upstream_timeout",
                                  "The request's time was up before a "
                                  "provider could be asked.");
    }

    rc = ngx_http_llm_limit_gate(ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    if (ngx_http_llm_attempt_start(ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    timer = ngx_min((ngx_msec_t) left, ctx->conf->timeout_first_byte);

    ngx_add_timer(&ctx->timer, timer);

    return NGX_AGAIN;
}


/* woken while the attempt runs: by its timer, or for nothing */

static ngx_int_t
ngx_http_llm_forward_wait(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t               spent;
    ngx_msec_int_t           left;
    ngx_http_llm_attempt_t  *at;

    if (ctx->gone && !ngx_http_llm_flight_needed(ctx)
        && (ngx_msec_int_t) (ctx->drain_until - ngx_current_msec) <= 0)
    {
        /* nobody is there any more who would read the answer */
        ngx_http_llm_attempt_cancel(ctx);
        return NGX_AGAIN;
    }

    if (ctx->timer.timer_set) {
        return NGX_AGAIN;
    }

    at = ctx->attempt;
    left = ngx_http_llm_forward_left(ctx);
    spent = ngx_current_msec - at->start;

    if (left > 0 && at->status) {
        /* the header came in time, now only the deadline counts */
        ngx_add_timer(&ctx->timer, (ngx_msec_t) left);
        return NGX_AGAIN;
    }

    if (left > 0 && spent < ctx->conf->timeout_first_byte) {
        ngx_add_timer(&ctx->timer,
                      ngx_min((ngx_msec_t) left,
                              ctx->conf->timeout_first_byte - spent));
        return NGX_AGAIN;
    }

    at->timedout = 1;

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
    at->running = 0;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (at->cancel.posted) {
        ngx_delete_posted_event(&at->cancel);
    }

    ngx_http_llm_limit_gate_leave(ctx);

    if (ctx->committed) {
        return ngx_http_llm_forward_stream(ctx);
    }

    ngx_http_llm_forward_judge(ctx, &an, &oc);
    ngx_http_llm_forward_count(ctx, oc.result);

    if (oc.good) {
        return ngx_http_llm_forward_good(ctx, &an);
    }

    if (ctx->gone) {
        /* what nobody waits for is not tried again */
        ngx_http_llm_flight_fail(ctx, 0);
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
        return NGX_DONE;
    }

    if (oc.retry) {
        switch (ngx_http_llm_forward_again(ctx, &oc)) {

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
            && !at->timedout;

    if (whole && !at->cut) {
        ngx_http_llm_flight_streamed(ctx);

    } else if (at->error_event && !at->timedout) {
        ngx_http_llm_flight_over(ctx);

    } else {
        ngx_http_llm_flight_flush(ctx);
        ngx_http_llm_flight_fail(ctx, 0);
    }

    ngx_http_llm_forward_count(ctx,
                               at->timedout ? NGX_HTTP_LLM_ATTEMPT_TIMEOUT
                               : whole ? NGX_HTTP_LLM_ATTEMPT_OK
                                       : NGX_HTTP_LLM_ATTEMPT_BROKEN);

    if (ctx->gone) {
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
    }

    return NGX_DONE;
}


static void
ngx_http_llm_forward_judge(ngx_http_llm_ctx_t *ctx, llm_answer_t *an,
    ngx_http_llm_outcome_t *oc)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    ngx_memzero(an, sizeof(llm_answer_t));
    ngx_memzero(oc, sizeof(ngx_http_llm_outcome_t));

    if (at->status == 0 || at->timedout) {
        ngx_http_llm_forward_judge_local(at, oc);
        return;
    }

    llm_answer_scan(an, ctx->endpoint, at->hold, at->held);

    if (at->status != NGX_HTTP_OK) {
        ngx_http_llm_forward_judge_error(at, an, oc);
        return;
    }

    if (at->error_event) {

        /* the first event of a stream was an error */

        oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;
        oc->retry = 1;

        ngx_http_llm_forward_own(oc, NGX_HTTP_BAD_GATEWAY, "upstream_error",
                                 "The provider began its stream with an "
                                 "error.");

        oc->own = !an->error_shape;
        return;
    }

    if (at->stream || !at->last || !an->valid || an->error) {

        oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;
        oc->retry = 1;

        ngx_http_llm_forward_own(oc, NGX_HTTP_BAD_GATEWAY, "upstream_error",
                                 !at->last ? "The provider broke off its "
                                             "answer."
                                 : at->stream ? "The provider's stream ended "
                                                "before it began."
                                 : an->error ? "The provider answered with an "
                                               "error."
                                 : "The provider's answer is no JSON object.");
        return;
    }

    oc->result = NGX_HTTP_LLM_ATTEMPT_OK;
    oc->good = 1;
}


/* the provider did not answer at all */

static void
ngx_http_llm_forward_judge_local(ngx_http_llm_attempt_t *at,
    ngx_http_llm_outcome_t *oc)
{
    oc->retry = 1;

    if (at->timedout || at->rc == NGX_HTTP_GATEWAY_TIME_OUT) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_TIMEOUT;

        ngx_http_llm_forward_own(oc, NGX_HTTP_GATEWAY_TIME_OUT,
                                 "upstream_timeout",
                                 "The provider did not answer in time.");
        return;
    }

    if (at->connected) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_BROKEN;

        ngx_http_llm_forward_own(oc, NGX_HTTP_BAD_GATEWAY, "upstream_error",
                                 "The provider closed the connection or "
                                 "answered with what is no HTTP.");
        return;
    }

    /* nobody is there: another target is better than another try */

    oc->result = NGX_HTTP_LLM_ATTEMPT_CONNECT;
    oc->elsewhere = 1;

    ngx_http_llm_forward_own(oc, NGX_HTTP_SERVICE_UNAVAILABLE,
                             "upstream_unavailable",
                             "The provider could not be reached.");
}


static void
ngx_http_llm_forward_judge_error(ngx_http_llm_attempt_t *at, llm_answer_t *an,
    ngx_http_llm_outcome_t *oc)
{
    oc->status = at->status;
    oc->retry = llm_backoff_retryable(at->status) ? 1 : 0;

    if (at->status == NGX_HTTP_TOO_MANY_REQUESTS) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_429;

        /* spent money does not come back by waiting */

        if (an->error_code.len == sizeof("\"insufficient_quota\"") - 1
            && ngx_memcmp(an->error_code.data, "\"insufficient_quota\"",
                          an->error_code.len)
               == 0)
        {
            oc->retry = 0;
        }

    } else if (at->status >= 500) {
        oc->result = NGX_HTTP_LLM_ATTEMPT_5XX;

    } else {
        oc->result = NGX_HTTP_LLM_ATTEMPT_4XX;
    }

    if (an->valid && an->error_shape && at->last && !at->overflow) {
        return;
    }

    /* a shape that clients cannot read gets ours, with the same status */

    ngx_http_llm_forward_own(oc, at->status, "upstream_error",
                             "The provider answered with an error that is "
                             "not in the API's shape.");

    if (at->status < 400) {
        oc->status = NGX_HTTP_BAD_GATEWAY;
    }
}


static void
ngx_http_llm_forward_own(ngx_http_llm_outcome_t *oc, ngx_uint_t status,
    const char *code, const char *message)
{
    oc->own = 1;
    oc->status = status;
    oc->code = code;
    oc->message = message;
}


/*
 * NGX_OK: start the next attempt at once, NGX_AGAIN: after a pause that has
 * begun, NGX_DECLINED: there is nothing left to try
 */

static ngx_int_t
ngx_http_llm_forward_again(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    int64_t                   delay;
    ngx_uint_t                more;
    ngx_http_llm_loc_conf_t  *conf;

    conf = ctx->conf;
    more = ctx->target + 1 < ctx->route->targets.nelts;

    delay = ctx->attempt->asked;

    if (delay < 0) {
        delay = (int64_t) llm_backoff_delay(conf->retry_base, conf->retry_cap,
                                            (unsigned) ctx->tries - 1,
                                            ngx_http_llm_random());
    }

    if (ctx->tries < conf->retry_tries
        && !(oc->elsewhere && more)
        && delay <= (int64_t) conf->retry_max_wait
        && delay < (int64_t) ngx_http_llm_forward_left(ctx))
    {
        return ngx_http_llm_forward_pause(ctx, (ngx_msec_t) delay);
    }

    if (!more) {
        return NGX_DECLINED;
    }

    ctx->target++;
    ctx->tries = 0;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm next target: %ui", ctx->target);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_forward_pause(ngx_http_llm_ctx_t *ctx, ngx_msec_t delay)
{
    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm attempt %ui ended with %ui, again in %M ms",
                   ctx->attempts, ctx->attempt->status, delay);

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


/* the last attempt's error is the client's */

static ngx_int_t
ngx_http_llm_forward_failed(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    ngx_http_llm_charge_settle(ctx, NULL, 0, 0);

    ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                  "llm: provider \"%V\" failed, attempts:%ui status:%ui%s%s",
                  &at->target->provider->name, ctx->attempts, at->status,
                  oc->own ? ": " : "", oc->own ? oc->message : "");

    (void) ngx_http_llm_error(ctx, oc->status,
                              oc->status == NGX_HTTP_GATEWAY_TIME_OUT
                              ? "timeout" : "server_error",
                              oc->own ? oc->code : "upstream_error",
                              oc->own ? oc->message : "");

    ngx_http_llm_flight_fail(ctx, 0);

    if (oc->status >= 500 && ctx->stale && !ctx->served
        && ngx_http_llm_cache_stale(ctx) == NGX_OK)
    {
        return NGX_OK;
    }

    if (ctx->served) {
        return oc->status;
    }

    ctx->error.wait = at->asked < 0 ? -1 : (ngx_int_t) at->asked;
    ctx->error.no_retry = oc->status == NGX_HTTP_TOO_MANY_REQUESTS
                          && !oc->retry;

    if (oc->own) {
        return oc->status;
    }

    /* its own words, byte for byte */

    ngx_str_set(&ctx->answer.content_type, "application/json");

    ctx->answer.status = oc->status;
    ctx->answer.body.data = at->hold;
    ctx->answer.body.len = at->held;
    ctx->answer.from = at->status ? at->sr : NULL;
    ctx->answered = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_forward_detach(ngx_http_llm_ctx_t *ctx)
{
    ngx_connection_t        *c;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (at == NULL || !at->running || at->done) {
        return NGX_DECLINED;
    }

    /* without followers only an answer that can still be stored is of use */

    if (!ngx_http_llm_flight_needed(ctx)
        && (ctx->conf->timeout_drain == 0 || ctx->committed
            || ctx->rq.stream))
    {
        return NGX_DECLINED;
    }

    ctx->gone = 1;
    ctx->detached = 1;

    ngx_http_llm_flight_abandon(ctx);

    /* what the client did not take is of no use, and the reader waits */

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

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm client left, the attempt goes on for %M ms",
                   ctx->drain_until - ngx_current_msec);

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ngx_add_timer(&ctx->timer, ngx_max(ctx->drain_until - ngx_current_msec,
                                       1));

    return NGX_OK;
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
}


static ngx_msec_int_t
ngx_http_llm_forward_left(ngx_http_llm_ctx_t *ctx)
{
    return (ngx_msec_int_t) (ctx->deadline - ngx_current_msec);
}
