
/*
 * Copyright (C) the ngx-llm authors
 *
 * Terms: what a key has from its team and from the defaults.
 */


#include "core/llm_policy_private.h"


/* the contract's own */

#define LLM_POLICY_QUEUE    128
#define LLM_POLICY_TIMEOUT  30000


static void llm_policy_terms_preset(llm_terms_t *terms);
static uint64_t llm_policy_terms_rate(int64_t n);
static void llm_policy_terms_manner(llm_terms_t *terms,
    const llm_terms_t *from);


void
llm_policy_terms_clear(llm_terms_t *terms)
{
    terms->requests_per_minute = -1;
    terms->requests_per_day = -1;
    terms->tokens_per_minute = -1;
    terms->tokens_per_day = -1;
    terms->burst_requests = -1;
    terms->burst_tokens = -1;
    terms->concurrency = -1;
    terms->budget_micro_usd = -1;
    terms->budget_month = 0;
    terms->queue_size = -1;
    terms->queue_timeout = -1;
    terms->queue_rates = -1;
    terms->priority = LLM_POLICY_UNSET;
    terms->cache_scope = -1;
    terms->cache_ttl = -1;
    terms->cache_use = -1;
    terms->cache_skip = -1;
    terms->cut = -1;
    terms->clamp = -1;
    terms->weight = -1;
}


void
llm_policy_terms_of_key(llm_terms_t *terms, const llm_terms_t *team,
    const llm_terms_t *defaults)
{
    /* a team's limits are checked besides; its manners are its keys' */

    if (team != NULL) {
        llm_policy_terms_manner(terms, team);
    }

    llm_policy_terms_manner(terms, defaults);

    if (terms->requests_per_minute == -1) {
        terms->requests_per_minute = defaults->requests_per_minute;
    }

    if (terms->burst_requests == -1) {
        terms->burst_requests = defaults->burst_requests;
    }

    if (terms->tokens_per_minute == -1) {
        terms->tokens_per_minute = defaults->tokens_per_minute;
    }

    if (terms->burst_tokens == -1) {
        terms->burst_tokens = defaults->burst_tokens;
    }

    if (terms->requests_per_day == -1) {
        terms->requests_per_day = defaults->requests_per_day;
    }

    if (terms->tokens_per_day == -1) {
        terms->tokens_per_day = defaults->tokens_per_day;
    }

    if (terms->concurrency == -1) {
        terms->concurrency = defaults->concurrency;
    }

    if (terms->budget_micro_usd == -1) {
        terms->budget_micro_usd = defaults->budget_micro_usd;
        terms->budget_month = defaults->budget_month;
    }

    llm_policy_terms_preset(terms);
}


/* what nobody said */

static void
llm_policy_terms_preset(llm_terms_t *terms)
{
    if (terms->queue_size == -1) {
        terms->queue_size = LLM_POLICY_QUEUE;
    }

    if (terms->queue_timeout == -1) {
        terms->queue_timeout = LLM_POLICY_TIMEOUT;
    }

    if (terms->queue_rates == -1) {
        terms->queue_rates = 0;
    }

    if (terms->priority == LLM_POLICY_UNSET) {
        terms->priority = 0;
    }

    if (terms->cache_use == -1) {
        terms->cache_use = 1;
    }

    if (terms->cache_skip == -1) {
        terms->cache_skip = 1;
    }

    if (terms->cut == -1) {
        terms->cut = 0;
    }

    if (terms->clamp == -1) {
        terms->clamp = 0;
    }
}


void
llm_policy_terms_of_team(llm_terms_t *terms)
{
    if (terms->priority == LLM_POLICY_UNSET) {
        terms->priority = 0;
    }
}


void
llm_policy_terms_rates(llm_limit_t *limit, const llm_terms_t *terms)
{
    llm_rates_t  *rates;

    limit->concurrency = LLM_UNLIMITED;
    limit->weight = 1;
    limit->fair = 0;

    if (terms->concurrency != -1) {
        limit->concurrency = (uint32_t) terms->concurrency;
    }

    if (terms->weight != -1) {
        limit->weight = (uint32_t) terms->weight;
    }

    rates = &limit->rates;

    rates->rpm = llm_policy_terms_rate(terms->requests_per_minute);
    rates->tpm = llm_policy_terms_rate(terms->tokens_per_minute);
    rates->rpd = llm_policy_terms_rate(terms->requests_per_day);
    rates->tpd = llm_policy_terms_rate(terms->tokens_per_day);
    rates->budget = llm_policy_terms_rate(terms->budget_micro_usd);
    rates->month = (uint32_t) terms->budget_month;

    /* a bucket's size says nothing where there is no rate */

    rates->burst = rates->rpm;
    rates->burst_tokens = rates->tpm;

    if (rates->rpm != LLM_UNLIMITED && terms->burst_requests != -1) {
        rates->burst = (uint64_t) terms->burst_requests;
    }

    if (rates->tpm != LLM_UNLIMITED && terms->burst_tokens != -1) {
        rates->burst_tokens = (uint64_t) terms->burst_tokens;
    }
}


static uint64_t
llm_policy_terms_rate(int64_t n)
{
    return n != -1 ? (uint64_t) n : LLM_UNLIMITED;
}


static void
llm_policy_terms_manner(llm_terms_t *terms, const llm_terms_t *from)
{
    if (terms->queue_size == -1) {
        terms->queue_size = from->queue_size;
    }

    if (terms->queue_timeout == -1) {
        terms->queue_timeout = from->queue_timeout;
    }

    if (terms->queue_rates == -1) {
        terms->queue_rates = from->queue_rates;
    }

    if (terms->priority == LLM_POLICY_UNSET) {
        terms->priority = from->priority;
    }

    if (terms->cache_scope == -1) {
        terms->cache_scope = from->cache_scope;
    }

    if (terms->cache_ttl == -1) {
        terms->cache_ttl = from->cache_ttl;
    }

    if (terms->cache_use == -1) {
        terms->cache_use = from->cache_use;
    }

    if (terms->cache_skip == -1) {
        terms->cache_skip = from->cache_skip;
    }

    if (terms->cut == -1) {
        terms->cut = from->cut;
    }

    if (terms->clamp == -1) {
        terms->clamp = from->clamp;
    }
}
