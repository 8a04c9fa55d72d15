
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_refuse.h"
#include "policy/ngx_http_llm_limit.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"


/* ms: shares of slots come from other gateways meanwhile, if there are any */

#define NGX_HTTP_LLM_REFUSE_BUSY  40


/* the order is llm_why_e's */

typedef struct {
    ngx_uint_t                  counter;
    ngx_uint_t                  status;
    const char                 *type;
    const char                 *code;
    const char                 *what;            /* is limited, or a text */
} ngx_http_llm_refuse_t;


static void ngx_http_llm_refuse_count(ngx_http_llm_ctx_t *ctx,
    const llm_limit_t *limit, const char *what, ngx_uint_t counter);
static ngx_int_t ngx_http_llm_refuse_busy(ngx_http_llm_ctx_t *ctx,
    const llm_limit_t *limit);
static u_char *ngx_http_llm_refuse_begin(ngx_http_llm_ctx_t *ctx,
    const llm_limit_t *limit, ngx_http_llm_refuse_t *rf);
static u_char *ngx_http_llm_refuse_rate(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit, ngx_http_llm_refuse_t *rf);
static u_char *ngx_http_llm_refuse_large(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit, ngx_http_llm_refuse_t *rf);
static u_char *ngx_http_llm_refuse_budget(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit);
static u_char *ngx_http_llm_refuse_name(u_char *p, const llm_limit_t *limit);
static u_char *ngx_http_llm_refuse_usd(u_char *p, uint64_t micro);


static ngx_http_llm_refuse_t  ngx_http_llm_refuse_table[] = {
    { 0, 0, NULL, NULL, NULL },

    { NGX_HTTP_LLM_REFUSED_REQUESTS, NGX_HTTP_TOO_MANY_REQUESTS,
      "requests", "rate_limit_exceeded", "requests per min (RPM)" },

    { NGX_HTTP_LLM_REFUSED_TOKENS, NGX_HTTP_TOO_MANY_REQUESTS,
      "tokens", "rate_limit_exceeded", "tokens per min (TPM)" },

    { NGX_HTTP_LLM_REFUSED_REQUESTS_DAY, NGX_HTTP_TOO_MANY_REQUESTS,
      "requests", "rate_limit_exceeded", "requests per day (RPD)" },

    { NGX_HTTP_LLM_REFUSED_TOKENS_DAY, NGX_HTTP_TOO_MANY_REQUESTS,
      "tokens", "rate_limit_exceeded", "tokens per day (TPD)" },

    { NGX_HTTP_LLM_REFUSED_BUDGET, NGX_HTTP_TOO_MANY_REQUESTS,
      "insufficient_quota", "insufficient_quota", NULL },

    { NGX_HTTP_LLM_REFUSED_QUEUE_FULL, NGX_HTTP_TOO_MANY_REQUESTS,
      "requests", "queue_full",
      "Too many requests of this key wait for a slot already." },

    { NGX_HTTP_LLM_REFUSED_MEMORY, NGX_HTTP_SERVICE_UNAVAILABLE,
      "server_error", "limits_unavailable",
      "The gateway has no room for more tenants or requests; try again." },

    /* not counted: its task waits, and nobody else */

    { 0, NGX_HTTP_TOO_MANY_REQUESTS, "requests", "background_busy", NULL }
};


/* it will never fit: not a matter of when */

static ngx_http_llm_refuse_t  ngx_http_llm_refuse_too_large = {
    NGX_HTTP_LLM_REFUSED_TOO_LARGE, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
    "invalid_request_error", "request_too_large", NULL
};


ngx_int_t
ngx_http_llm_refuse(ngx_http_llm_ctx_t *ctx, llm_limits_t *limits)
{
    u_char                 *p;
    ngx_uint_t              budget, large;
    llm_refusal_t          *why;
    const llm_limit_t      *limit;
    ngx_http_llm_refuse_t  *rf;

    why = &ctx->reading.refusal;
    rf = &ngx_http_llm_refuse_table[why->why];
    limit = limits->limit[ctx->reading.index];

    ngx_http_llm_limit_undo(ctx);

    if (why->why == LLM_WHY_BUSY) {
        return ngx_http_llm_refuse_busy(ctx, limit);
    }

    if (why->why == LLM_WHY_QUEUE_FULL || why->why == LLM_WHY_MEMORY) {
        ngx_http_llm_refuse_count(ctx, limit, rf->code, rf->counter);

        (void) ngx_http_llm_error(ctx, rf->status, rf->type, rf->code,
                                  rf->what);

        /* when a slot gets free nobody knows: soon is the honest guess */
        ctx->error.wait = 1000;

        return ctx->error.status;
    }

    budget = why->why == LLM_WHY_BUDGET;
    large = !budget && why->wait_ms < 0;

    p = ngx_http_llm_refuse_begin(ctx, limit,
                                  large ? &ngx_http_llm_refuse_too_large
                                        : rf);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.no_retry = budget || large;
    ctx->error.wait = why->wait_ms < 0 ? -1 : (ngx_int_t) why->wait_ms;

    p = budget ? ngx_http_llm_refuse_budget(ctx, p, limit)
        : large ? ngx_http_llm_refuse_large(ctx, p, limit, rf)
        : ngx_http_llm_refuse_rate(ctx, p, limit, rf);

    ctx->error.message.len = p - ctx->error.message.data;

    return ctx->error.status;
}


ngx_int_t
ngx_http_llm_refuse_timeout(ngx_http_llm_ctx_t *ctx, ngx_uint_t gate)
{
    ngx_uint_t  parked;

    parked = ctx->parked;

    ngx_http_llm_limit_undo(ctx);

    ngx_http_llm_refuse_count(ctx, NULL, "queue_timeout",
                              NGX_HTTP_LLM_REFUSED_QUEUE_TIMEOUT);

    (void) ngx_http_llm_error(ctx, NGX_HTTP_TOO_MANY_REQUESTS, "requests",
               "queue_timeout",
               gate ? "No slot got free in time: all concurrent requests that "
                      "the provider may get are still running."
               : parked ? "The rates of this key or its team did not allow "
                          "the request in time."
               : "No slot got free in time: all of this key's or its team's "
                 "concurrent requests are still running.");

    ctx->error.wait = 1000;

    return ctx->error.status;
}


/* a task's request: it comes again, so nobody is to hear of it */

static ngx_int_t
ngx_http_llm_refuse_busy(ngx_http_llm_ctx_t *ctx, const llm_limit_t *limit)
{
    u_char                 *p;
    ngx_http_llm_refuse_t  *rf;

    rf = &ngx_http_llm_refuse_table[LLM_WHY_BUSY];

    p = ngx_pnalloc(ctx->request->pool, 160 + limit->name.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_llm_error(ctx, rf->status, rf->type, rf->code, "");

    ctx->error.message.data = p;

    p = ngx_sprintf(p, "No slot of ");
    p = ngx_http_llm_refuse_name(p, limit);
    p = ngx_sprintf(p, " is free for what runs in the background: of %uL "
                    "some are kept for other requests.",
                    ctx->reading.refusal.limit);

    ctx->error.message.len = p - ctx->error.message.data;
    ctx->error.wait = NGX_HTTP_LLM_REFUSE_BUSY;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm background busy: \"%*s\" used:%uL",
                   limit->name.len, limit->name.data,
                   ctx->reading.refusal.used);

    return ctx->error.status;
}


/* counts it, and gives room for its message */

static u_char *
ngx_http_llm_refuse_begin(ngx_http_llm_ctx_t *ctx, const llm_limit_t *limit,
    ngx_http_llm_refuse_t *rf)
{
    u_char  *p;

    ngx_http_llm_refuse_count(ctx, limit, rf->what ? rf->what : rf->code,
                              rf->counter);

    (void) ngx_http_llm_error(ctx, rf->status, rf->type, rf->code, "");

    p = ngx_pnalloc(ctx->request->pool,
                    384 + ctx->model.len + limit->name.len);

    if (p != NULL) {
        ctx->error.message.data = p;
    }

    return p;
}


static u_char *
ngx_http_llm_refuse_rate(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit, ngx_http_llm_refuse_t *rf)
{
    ngx_msec_t      wait;
    llm_refusal_t  *why;

    why = &ctx->reading.refusal;

    /* clients read "try again in 3.2s" and "174ms" out of this text */

    p = ngx_sprintf(p, "Rate limit reached for %V in ", &ctx->model);
    p = ngx_http_llm_refuse_name(p, limit);
    p = ngx_sprintf(p, " on %s: Limit %uL, Used %uL, Requested %uL.%s",
                    rf->what, why->limit, why->used, why->need,
                    ctx->background && (why->why == LLM_WHY_REQUESTS
                                        || why->why == LLM_WHY_TOKENS)
                    ? " In the background a quarter is kept for others." : "");

    wait = (ngx_msec_t) why->wait_ms;

    if (wait < 1000) {
        return ngx_sprintf(p, " Please try again in %Mms.", ngx_max(wait, 1));
    }

    wait = (wait + 99) / 100;

    return ngx_sprintf(p, " Please try again in %M.%Ms.", wait / 10,
                       wait % 10);
}


static u_char *
ngx_http_llm_refuse_large(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit, ngx_http_llm_refuse_t *rf)
{
    llm_refusal_t  *why;

    why = &ctx->reading.refusal;

    p = ngx_sprintf(p, "Request too large for %V in ", &ctx->model);
    p = ngx_http_llm_refuse_name(p, limit);
    p = ngx_sprintf(p, " on %s: Limit %uL, Requested %uL", rf->what,
                    why->limit, why->need);

    if (rf->type[0] == 't') {
        p = ngx_sprintf(p, " (about %L of the prompt and up to %L of the "
                        "answer). The input or the output must be reduced",
                        ctx->estimate_prompt, ctx->estimate_completion);
    }

    *p++ = '.';

    return p;
}


static u_char *
ngx_http_llm_refuse_budget(ngx_http_llm_ctx_t *ctx, u_char *p,
    const llm_limit_t *limit)
{
    llm_refusal_t  *why;

    why = &ctx->reading.refusal;

    p = ngx_cpymem(p, "The budget of ", 14);
    p = ngx_http_llm_refuse_name(p, limit);
    p = ngx_sprintf(p, " does not allow this request: ");
    p = ngx_http_llm_refuse_usd(p, why->used);
    p = ngx_cpymem(p, " of ", 4);
    p = ngx_http_llm_refuse_usd(p, why->limit);
    p = ngx_sprintf(p, " of this %s are spent, the request may cost ",
                    limit->rates.month ? "month" : "day");
    p = ngx_http_llm_refuse_usd(p, why->need);
    *p++ = '.';

    return p;
}


/* the ledger's "k:name" and "t:name" */

static u_char *
ngx_http_llm_refuse_name(u_char *p, const llm_limit_t *limit)
{
    const char  *kind;

    kind = limit->name.data[0] == 'k' ? "key"
           : limit->name.data[0] == 't' ? "team" : "provider";

    return ngx_sprintf(p, "%s %*s", kind, limit->name.len - 2,
                       limit->name.data + 2);
}


static u_char *
ngx_http_llm_refuse_usd(u_char *p, uint64_t micro)
{
    u_char  *last;

    last = ngx_sprintf(p, "$%uL.%06uL", micro / 1000000, micro % 1000000);

    /* cents, and what is less only if there is something */

    for (p = last; last - p < 4 && p[-1] == '0'; p--) { /* void */ }

    return p;
}


/* who, what, limit and value; for each key and limit once in a while */

static void
ngx_http_llm_refuse_count(ngx_http_llm_ctx_t *ctx, const llm_limit_t *limit,
    const char *what, ngx_uint_t counter)
{
    u_char         *p, name[128];
    const char     *more;
    llm_refusal_t  *why;

    (void) ngx_atomic_fetch_add(&ctx->mcf->zone->sh->count.refused[counter],
                                1);

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_REFUSED + counter,
                              ctx->key->name.data, ctx->key->name.len);

    if (more == NULL) {
        return;
    }

    p = name;

    if (limit && limit->name.len <= sizeof(name) - sizeof(" of provider ")) {
        p = ngx_cpymem(p, " of ", 4);
        p = ngx_http_llm_refuse_name(p, limit);
    }

    why = &ctx->reading.refusal;

    ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                  "llm refused: key \"%*s\" by %s%*s, limit:%uL used:%uL "
                  "need:%uL wait:%L%s",
                  ctx->key->name.len, ctx->key->name.data, what,
                  (size_t) (p - name), name, why->limit, why->used,
                  why->need, why->wait_ms, more);
}
