
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a client is told when no provider has an answer for it.
 */


#include "upstream/ngx_http_llm_forward_private.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_flight.h"

#include "core/llm_dialect.h"


static void ngx_http_llm_forward_complain(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);
static ngx_uint_t ngx_http_llm_forward_tried(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);
static ngx_int_t ngx_http_llm_forward_rewrite(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc, ngx_str_t *body);


ngx_int_t
ngx_http_llm_forward_unavailable(ngx_http_llm_ctx_t *ctx, ngx_int_t wait)
{
    ngx_http_llm_flight_fail(ctx, 0);

    if (ctx->stale && !ctx->served
        && ngx_http_llm_cache_stale(ctx) == NGX_OK)
    {
        return NGX_OK;
    }

    (void) ngx_http_llm_error(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                              "server_error", "upstream_unavailable",
                              wait < 0
                              ? "No provider of this model could be asked."
                              : "The providers of this model take no more "
                                "requests at the moment.");

    ctx->error.wait = wait;

    return NGX_HTTP_SERVICE_UNAVAILABLE;
}


ngx_int_t
ngx_http_llm_forward_failed(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    ngx_http_llm_charge_settle(ctx, NULL, 0, 0);

    ngx_http_llm_forward_complain(ctx, oc);

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
    ctx->error.no_retry = ngx_http_llm_forward_tried(ctx, oc);

    if (oc->own) {
        return oc->status;
    }

    /* its own words: byte for byte, or as the API would put them */

    ngx_str_set(&ctx->answer.content_type, "application/json");

    ctx->answer.status = oc->status;
    ctx->answer.body.data = at->hold;
    ctx->answer.body.len = at->held;

    if (oc->wrote
        && ngx_http_llm_forward_rewrite(ctx, oc, &ctx->answer.body) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->answer.from = at->status ? at->sr : NULL;
    ctx->answered = 1;

    return NGX_OK;
}


static void
ngx_http_llm_forward_complain(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    const char              *more;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_FAILED + (at->status << 8),
                              at->target->provider->name.data,
                              at->target->provider->name.len);

    if (more) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "llm: provider \"%V\" failed, attempts:%ui status:%ui"
                      "%s%s%s", &at->target->provider->name, ctx->attempts,
                      at->status, oc->own ? ": " : "",
                      oc->own ? oc->message : "", more);
    }
}


/*
 * Whether a client should leave it at that: what no repetition heals, and what
 * was repeated here, which a client's own tries would multiply.  A wait that
 * the provider asked for and that was too long for us is the client's to keep.
 */

static ngx_uint_t
ngx_http_llm_forward_tried(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    ngx_uint_t  tries;

    if (!oc->retry) {
        return oc->status == NGX_HTTP_TOO_MANY_REQUESTS;
    }

    tries = ctx->conf->retry_tries;

    if (tries == 1) {
        return 0;
    }

    return ctx->attempt->asked < 0
           || ctx->attempts - (ctx->hedge ? 1 : 0)
              >= tries * ctx->route->targets.nelts;
}


static ngx_int_t
ngx_http_llm_forward_rewrite(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc, ngx_str_t *body)
{
    u_char  *p;

    p = ngx_pnalloc(ctx->request->pool, llm_dialect_size(&oc->error));
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;
    body->len = llm_dialect_write(&oc->error,
                                  (unsigned) ctx->attempt->status, p)
                - p;

    return NGX_OK;
}
