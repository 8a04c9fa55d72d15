
/*
 * Copyright (C) the ngx-llm authors
 *
 * How long a provider is waited for.
 */


#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_attempt.h"


/* so much later than its client an attempt is given up */

#define NGX_HTTP_LLM_FORWARD_GRACE  250      /* ms */


ngx_msec_int_t
ngx_http_llm_forward_patience(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_int_t           left, most;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;
    left = ngx_http_llm_forward_left(ctx);

    if (at->sent && at->stream) {
        most = (ngx_msec_int_t) (at->last_event - ngx_current_msec)
               + ngx_http_llm_forward_between(ctx);

    } else if (at->status == 0 || (at->stream && !at->error_event)) {

        /* a stream begins with its first event, not with its header */

        most = (ngx_msec_int_t) (at->start + ctx->conf->timeout_first_byte
                                 - ngx_current_msec);

    } else {
        /* the header came in time, now only the deadline counts */
        most = left;
    }

    most = ngx_min(left, most);

    if (ctx->hedge_at) {
        left = (ngx_msec_int_t) (ctx->hedge_at - ngx_current_msec);
        most = ngx_min(left, most);
    }

    if (ctx->gone) {
        left = (ngx_msec_int_t) (ctx->drain_until - ngx_current_msec);

        if (left > 0) {
            most = ngx_min(left, most);
        }
    }

    return most;
}


ngx_uint_t
ngx_http_llm_forward_hurried(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (at->silent) {
        return ngx_http_llm_forward_between(ctx)
               < (ngx_msec_int_t) ctx->conf->timeout_between;
    }

    return ngx_http_llm_forward_left(ctx) <= 0
           && (ctx->hurried
               || (ngx_msec_int_t) (ctx->deadline - ngx_current_msec) > 0);
}


/*
 * A client that tells how long it bears silence tries again by itself then.
 * It may leave first, as its call can be kept for that (llm_join linger=);
 * heartbeats are no silence.
 */

ngx_msec_int_t
ngx_http_llm_forward_left(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_int_t  left, most;

    left = (ngx_msec_int_t) (ctx->deadline - ngx_current_msec);

    if (ctx->bears == 0 || ctx->begun || ctx->detached
        || (ctx->attempt && ctx->attempt->sent))
    {
        return left;
    }

    most = (ngx_msec_int_t) (ctx->start + ctx->bears
                             + NGX_HTTP_LLM_FORWARD_GRACE - ngx_current_msec);

    return ngx_min(left, most);
}


ngx_msec_int_t
ngx_http_llm_forward_between(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t  most;

    most = ctx->conf->timeout_between;

    if (ctx->bears && !ctx->detached
        && (ctx->heart == NULL || ctx->conf->heartbeat > ctx->bears))
    {
        most = ngx_min(most, ctx->bears + NGX_HTTP_LLM_FORWARD_GRACE);
    }

    return (ngx_msec_int_t) most;
}
