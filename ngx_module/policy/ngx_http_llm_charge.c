
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_prices.h"

#include "core/llm_siphash.h"


/* what is left below this may be given to any model as its cap */

#define NGX_HTTP_LLM_CHARGE_CAP   4096

/* bytes of text between two looks at a stream, and tokens asked for ahead */

#define NGX_HTTP_LLM_CHARGE_STEP  1024
#define NGX_HTTP_LLM_CHARGE_CUT   64
#define NGX_HTTP_LLM_CHARGE_MORE  16

#define NGX_HTTP_LLM_CHARGE_MAX   ((int64_t) 1 << 40)

#define NGX_HTTP_LLM_CHARGE_NAME  64


static int64_t ngx_http_llm_charge_output(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, uint64_t model);
static void ngx_http_llm_charge_clamp(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, llm_now_t *now);
static ngx_uint_t ngx_http_llm_charge_limited(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_charge_used(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, uint64_t model, const llm_usage_t *usage,
    size_t text_bytes);
static void ngx_http_llm_charge_name(ngx_http_llm_ctx_t *ctx,
    llm_str_t *model);
static void ngx_http_llm_charge_price(ngx_http_llm_ctx_t *ctx,
    llm_price_t *price);
static uint64_t ngx_http_llm_charge_model(ngx_http_llm_ctx_t *ctx);


/* the model that was hashed last: mostly the next one's, too */

static struct {
    u_char                      name[NGX_HTTP_LLM_CHARGE_NAME];
    size_t                      len;
    uint64_t                    hash;
} ngx_http_llm_charge_last;


void
ngx_http_llm_charge_estimate(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, llm_now_t *now, llm_ask_t *ask)
{
    int64_t   prompt, output;
    uint64_t  model;

    ngx_http_llm_charge_price(ctx, &ctx->price);

    model = ngx_http_llm_charge_model(ctx);

    prompt = llm_estimate_prompt(zone->sh->estimates, model,
                                 ctx->rq.prompt_bytes, ctx->rq.media);
    ctx->estimate_prompt = prompt;
    ctx->estimate_completion = ngx_http_llm_charge_output(ctx, zone, model);

    ctx->clamp = -1;

    if (ctx->key->terms.clamp) {
        ngx_http_llm_charge_clamp(ctx, zone, now);
    }

    output = ctx->estimate_completion;

    ctx->need.requests = ctx->taken ? 0 : 1;
    ctx->need.tokens = prompt + output;
    ctx->need.money = llm_price_cost(&ctx->price, prompt, 0, output);

    ask->need = ctx->need;

    /* who dies in the middle has had its prompt read */

    ask->floor.requests = ctx->need.requests;
    ask->floor.tokens = prompt;
    ask->floor.money = llm_price_cost(&ctx->price, prompt, 0, 0);

    /* a token is at least a byte: so far the reservation surely reaches */

    ctx->charge_at = !ctx->key->terms.cut ? NGX_HTTP_LLM_CHARGE_STEP
                     : ngx_http_llm_charge_limited(ctx)
                       ? (size_t) ngx_max(output, NGX_HTTP_LLM_CHARGE_CUT)
                       : (size_t) -1;
}


/* the largest of the caps, or what is usual; for each of the n answers */

static int64_t
ngx_http_llm_charge_output(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, uint64_t model)
{
    int64_t             output;
    uint64_t            limit;
    unsigned            i;
    const llm_rates_t  *rates;

    if (ctx->endpoint == LLM_EMBEDDINGS) {
        return 0;
    }

    if (ctx->rq.max_tokens >= 0) {
        output = ngx_min(ctx->rq.max_tokens, NGX_HTTP_LLM_CHARGE_MAX / 1024);
        return output * ctx->rq.n;
    }

    limit = LLM_UNLIMITED;

    for (i = 0; i < ctx->limits.n; i++) {
        rates = &ctx->limits.limit[i]->rates;

        if (rates->tpm != LLM_UNLIMITED
            && (limit == LLM_UNLIMITED || rates->burst_tokens < limit))
        {
            limit = rates->burst_tokens;
        }

        if (rates->tpd != LLM_UNLIMITED
            && (limit == LLM_UNLIMITED || rates->tpd < limit))
        {
            limit = rates->tpd;
        }
    }

    output = llm_estimate_output(zone->sh->estimates, model, limit)
             * ctx->rq.n;

    /* a guess must not keep anybody from being served at all */

    if (limit != LLM_UNLIMITED && output > (int64_t) (limit / 4)) {
        output = (int64_t) (limit / 4);
    }

    return ngx_max(output, 1);
}


/* the answer may be as long as what is left allows, and no longer */

static void
ngx_http_llm_charge_clamp(ngx_http_llm_ctx_t *ctx, ngx_http_llm_zone_t *zone,
    llm_now_t *now)
{
    int64_t        left, tokens;
    llm_reading_t  rd;

    if (ctx->endpoint == LLM_EMBEDDINGS) {
        return;
    }

    llm_ledger_peek(zone->sh->ledger, &ctx->limits, now, &rd);

    left = INT64_MAX;

    if (rd.tokens_left != INT64_MAX) {
        left = rd.tokens_left - ctx->estimate_prompt;
    }

    if (rd.money_left != INT64_MAX) {
        tokens = rd.money_left - llm_price_cost(&ctx->price,
                                                ctx->estimate_prompt, 0, 0);
        tokens = tokens > 0 ? llm_price_tokens(&ctx->price, tokens) : 0;
        left = ngx_min(left, tokens);
    }

    if (left == INT64_MAX) {
        return;
    }

    left /= ctx->rq.n;

    if (left < 1) {
        return;
    }

    if (ctx->rq.max_tokens >= 0 ? left >= ctx->rq.max_tokens
                                : left > NGX_HTTP_LLM_CHARGE_CAP)
    {
        return;
    }

    ctx->clamp = left;
    ctx->estimate_completion = ngx_min(ctx->estimate_completion,
                                       left * ctx->rq.n);
}


static ngx_uint_t
ngx_http_llm_charge_limited(ngx_http_llm_ctx_t *ctx)
{
    unsigned            i;
    const llm_rates_t  *rates;

    for (i = 0; i < ctx->limits.n; i++) {
        rates = &ctx->limits.limit[i]->rates;

        if (rates->tpm != LLM_UNLIMITED || rates->tpd != LLM_UNLIMITED
            || rates->budget != LLM_UNLIMITED)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_llm_charge_streamed(ngx_http_llm_ctx_t *ctx, size_t text_bytes)
{
    int64_t               output, step;
    uint64_t              model;
    ngx_int_t             rc;
    llm_now_t             now;
    llm_amount_t          used;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (text_bytes < ctx->charge_at || ctx->ticket == 0) {
        return NGX_OK;
    }

    zone = ctx->mcf->zone;
    model = ngx_http_llm_charge_model(ctx);

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    output = llm_estimate_text(zone->sh->estimates, model, text_bytes);

    step = ctx->key->terms.cut ? NGX_HTTP_LLM_CHARGE_MORE : 0;

    used.requests = ctx->need.requests;
    used.tokens = ctx->estimate_prompt + output + step;
    used.money = llm_price_cost(&ctx->price, ctx->estimate_prompt, 0,
                                output + step);

    rc = llm_ledger_charge(zone->sh->ledger, ctx->ticket, &used,
                           !ctx->key->terms.cut, &now);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm streamed: %uz bytes, tokens:%L money:%L rc:%i",
                   text_bytes, used.tokens, used.money, rc);

    ctx->estimate_completion = output;

    if (rc != NGX_OK) {
        return NGX_DECLINED;
    }

    ctx->need.tokens = ngx_max(ctx->need.tokens, used.tokens);
    ctx->need.money = ngx_max(ctx->need.money, used.money);

    if (ctx->key->terms.cut) {
        step = ctx->need.tokens - ctx->estimate_prompt - output;
        ctx->charge_at = text_bytes
                         + (size_t) ngx_max(step, NGX_HTTP_LLM_CHARGE_CUT);

    } else {
        ctx->charge_at = text_bytes + ngx_max(text_bytes / 4,
                                              NGX_HTTP_LLM_CHARGE_STEP);
    }

    return NGX_OK;
}


void
ngx_http_llm_charge_settle(ngx_http_llm_ctx_t *ctx, const llm_usage_t *usage,
    size_t text_bytes, ngx_uint_t asked)
{
    uint64_t              model;
    llm_now_t             now;
    llm_price_t           other;
    llm_owners_t          wake;
    llm_amount_t          used;
    const llm_price_t    *price;
    ngx_http_llm_zone_t  *zone;

    ngx_http_llm_limit_gate_leave(ctx);

    if (ctx->ticket == 0) {
        return;
    }

    zone = ctx->mcf->zone;
    model = 0;

    /* that of the first target is known from the estimate */
    price = &ctx->price;

    if (asked) {
        model = ngx_http_llm_charge_model(ctx);

        if (ctx->target != 0) {
            ngx_http_llm_charge_price(ctx, &other);
            price = &other;
        }
    }

    used.requests = ctx->need.requests;
    used.tokens = 0;
    used.money = 0;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    if (asked) {
        ngx_http_llm_charge_used(ctx, zone, model, usage, text_bytes);

        used.tokens = ctx->usage.prompt_tokens
                      + ctx->usage.completion_tokens;
        used.money = llm_price_cost(price, ctx->usage.prompt_tokens,
                                    ctx->usage.cached_tokens,
                                    ctx->usage.completion_tokens);
        ctx->cost = used.money;
        ctx->charged = 1;
    }

    llm_ledger_close(zone->sh->ledger, ctx->ticket, &used, &now, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    ctx->ticket = 0;

    if (asked && ctx->unpriced) {
        (void) ngx_atomic_fetch_add(&zone->sh->count.unpriced, 1);
    }

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm charged tokens:%L money:%L of %L and %L, asked:%ui",
                   used.tokens, used.money, ctx->need.tokens,
                   ctx->need.money, asked);
}


/* tokens are the provider's own limits for batches, not those of requests */

void
ngx_http_llm_charge_batch(ngx_http_llm_ctx_t *ctx)
{
    int                   rc;
    llm_now_t             now;
    llm_price_t           price;
    llm_owners_t          wake;
    llm_amount_t          used;
    ngx_http_llm_zone_t  *zone;

    zone = ctx->mcf->zone;

    ngx_http_llm_charge_price(ctx, &price);

    price.input = price.batch_input;
    price.output = price.batch_output;
    price.cached_input = ngx_min(price.cached_input, price.batch_input);

    used.requests = 0;
    used.tokens = 0;
    used.money = llm_price_cost(&price, ctx->usage.prompt_tokens,
                                ctx->usage.cached_tokens,
                                ctx->usage.completion_tokens);

    ctx->cost = used.money;
    ctx->charged = 1;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);
    rc = llm_ledger_add(zone->sh->ledger, &ctx->limits, &used, &now);
    ngx_http_llm_zone_unlock(zone, &wake);

    if (rc != LLM_OK) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "llm: the cost of a batch, %L micro-dollars, could not "
                      "be taken from the budget of key \"%*s\": no room in "
                      "the zone", used.money, ctx->key->name.len,
                      ctx->key->name.data);
    }

    if (ctx->unpriced) {
        (void) ngx_atomic_fetch_add(&zone->sh->count.unpriced, 1);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm charged batch money:%L rc:%d", used.money, rc);
}


/* as reported, or as estimated from what came; and the estimates learn */

static void
ngx_http_llm_charge_used(ngx_http_llm_ctx_t *ctx, ngx_http_llm_zone_t *zone,
    uint64_t model, const llm_usage_t *usage, size_t text_bytes)
{
    llm_usage_t  *u;

    u = &ctx->usage;

    if (usage) {
        *u = *usage;

        llm_estimate_learn(zone->sh->estimates, model, usage,
                           ctx->rq.prompt_bytes, ctx->rq.media, text_bytes);
    } else {
        u->prompt_tokens = -1;
        u->cached_tokens = -1;
        u->completion_tokens = -1;
        u->reasoning_tokens = -1;
        u->total_tokens = -1;
    }

    if (u->prompt_tokens < 0) {
        u->prompt_tokens = ctx->estimate_prompt;
    }

    if (u->completion_tokens < 0) {

        if (u->total_tokens >= u->prompt_tokens) {
            u->completion_tokens = u->total_tokens - u->prompt_tokens;

        } else {
            u->completion_tokens = llm_estimate_text(zone->sh->estimates,
                                                     model, text_bytes);
        }
    }

    /* a provider's numbers are its own, but they must not break ours */

    u->prompt_tokens = ngx_min(u->prompt_tokens, NGX_HTTP_LLM_CHARGE_MAX);
    u->completion_tokens = ngx_min(u->completion_tokens,
                                   NGX_HTTP_LLM_CHARGE_MAX);
    u->cached_tokens = ngx_min(u->cached_tokens, u->prompt_tokens);
    u->cached_tokens = ngx_max(u->cached_tokens, 0);
    u->reasoning_tokens = ngx_min(u->reasoning_tokens, u->completion_tokens);
}


/* by the name that the present target knows */

static void
ngx_http_llm_charge_name(ngx_http_llm_ctx_t *ctx, llm_str_t *model)
{
    ngx_str_t              *name;
    ngx_http_llm_target_t  *target;

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;
    name = target->model.len ? &target->model : &ctx->model;

    model->data = name->data;
    model->len = name->len;
}


/* what nobody prices is free */

static void
ngx_http_llm_charge_price(ngx_http_llm_ctx_t *ctx, llm_price_t *price)
{
    llm_str_t           model;
    const llm_price_t  *p;

    p = NULL;

    if (ctx->mcf->prices) {
        ngx_http_llm_charge_name(ctx, &model);

        p = llm_prices_find(ngx_http_llm_prices(ctx->mcf->prices), &model);
        ctx->unpriced = p == NULL;
    }

    if (p) {
        *price = *p;

    } else {
        ngx_memzero(price, sizeof(llm_price_t));
    }
}


static uint64_t
ngx_http_llm_charge_model(ngx_http_llm_ctx_t *ctx)
{
    llm_str_t  model;
    uint64_t   hash[2];

    static const uint64_t  key[2] = { 0, 0 };

    if (ctx->model_of == ctx->target + 1) {
        return ctx->model_hash;
    }

    ngx_http_llm_charge_name(ctx, &model);

    ctx->model_of = ctx->target + 1;

    if (model.len && model.len == ngx_http_llm_charge_last.len
        && ngx_memcmp(model.data, ngx_http_llm_charge_last.name, model.len)
           == 0)
    {
        ctx->model_hash = ngx_http_llm_charge_last.hash;
        return ctx->model_hash;
    }

    llm_siphash(key, model.data, model.len, hash);

    ctx->model_hash = hash[0];

    if (model.len <= NGX_HTTP_LLM_CHARGE_NAME) {
        ngx_memcpy(ngx_http_llm_charge_last.name, model.data, model.len);
        ngx_http_llm_charge_last.len = model.len;
        ngx_http_llm_charge_last.hash = hash[0];
    }

    return ctx->model_hash;
}
