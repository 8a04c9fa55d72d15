
/*
 * Copyright (C) the ngx-llm authors
 *
 * How a request draws on the accounts of what the store has allowed, and what
 * is refused without asking the store again.
 */


#include "core/llm_quota_private.h"


static void llm_quota_enter(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *amount, int sign, int64_t wall);
static int llm_quota_denied(const llm_ledger_t *lg,
    const llm_ledger_node_t *node, const llm_amount_t *need, int background,
    const llm_now_t *now, llm_refusal_t *rf);
static void llm_quota_denied_wait(const llm_ledger_node_t *node, int64_t n,
    int background, const llm_now_t *now, llm_refusal_t *rf);
static int llm_quota_pays(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_amount_t *need);
static int llm_quota_limited(const llm_rates_t *rt, const llm_amount_t *need);


int
llm_ledger_quota_draw(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *need, int force, int background,
    const llm_now_t *now, llm_reading_t *rd)
{
    int                 again, refused;
    unsigned            k;
    llm_refusal_t       rf;
    llm_ledger_node_t  *n;

    again = 0;
    refused = 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        llm_quota_roll(&n->quota, now->wall);

        if (!background) {
            llm_quota_use(&n->quota, need, now);
        }

        if (force || !llm_quota_shared(lg)
            || !llm_quota_limited(&n->rates, need))
        {
            continue;
        }

        if (llm_quota_denied(lg, n, need, background, now, &rf)) {

            llm_ledger_worse(rd, &rf, k);
            refused = 1;

        } else if (background || !llm_quota_pays(lg, n, need)) {
            again = 1;
        }
    }

    if (refused) {
        return LLM_DECLINED;
    }

    if (again) {
        return LLM_AGAIN;
    }

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] != LLM_LEDGER_NONE
            && llm_quota_counted(&llm_ledger_node(lg, node[k])->rates))
        {
            llm_quota_enter(lg, node[k], need, -1, now->wall);
        }
    }

    return LLM_OK;
}


void
llm_ledger_quota_refund(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *back, int64_t wall, const llm_now_t *now)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);

    if (!llm_quota_counted(&n->rates)) {
        return;
    }

    llm_quota_roll(&n->quota, now->wall);
    llm_quota_enter(lg, node, back, 1, wall);
}


static void
llm_quota_enter(llm_ledger_t *lg, uint32_t node, const llm_amount_t *amount,
    int sign, int64_t wall)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);

    llm_quota_credit(&n->quota, amount, sign, wall);

    if (llm_quota_due(lg, n)) {
        llm_quota_dirty(lg, node, 0);
    }
}


/*
 * What would not fit if nothing had been used never will.  Else what the store
 * refused lately is refused as it stands, and more of it for longer.
 */

static int
llm_quota_denied(const llm_ledger_t *lg, const llm_ledger_node_t *node,
    const llm_amount_t *need, int background, const llm_now_t *now,
    llm_refusal_t *rf)
{
    int64_t             n;
    llm_meter_t         view;
    const llm_quota_t  *q;

    static const llm_meter_t   unused;
    static const llm_period_t  any;

    if (!llm_meter_fits(&unused, &node->rates, need, any)) {

        /* that it never will is the worst that can be said; how much was
           used is still to be told */

        llm_ledger_quota_view(lg, node, now, &view);
        llm_meter_check(&view, &node->rates, need, now, rf);

        return 1;
    }

    q = &node->quota;

    if (now->ms >= q->denied_until) {
        return 0;
    }

    n = llm_quota_needed(need, q->refusal.why);

    if (n <= 0 || n < q->denied) {
        return 0;
    }

    *rf = q->refusal;
    rf->need = (uint64_t) n;

    llm_quota_denied_wait(node, n, background, now, rf);

    return 1;
}


/* the store's wait was one for less, and some of it has passed */

static void
llm_quota_denied_wait(const llm_ledger_node_t *node, int64_t n,
    int background, const llm_now_t *now, llm_refusal_t *rf)
{
    uint64_t            rate, keep;
    const llm_quota_t  *q;

    q = &node->quota;

    rate = q->refusal.why == LLM_WHY_REQUESTS ? node->rates.rpm
           : q->refusal.why == LLM_WHY_TOKENS ? node->rates.tpm
           : LLM_UNLIMITED;

    if (rate != LLM_UNLIMITED && rf->wait_ms >= 0) {
        rf->wait_ms += (int64_t) ((uint64_t) (n - q->denied) * 60000 / rate);

        if (background) {
            keep = (uint64_t) llm_bucket_keep(rf->limit, (uint64_t) n);
            rf->wait_ms += (int64_t) ((keep + rate - 1) / rate);
        }
    }

    if (rf->wait_ms > 0 && now->ms > q->denied_at) {
        rf->wait_ms = llm_quota_max(1, rf->wait_ms
                                       - (int64_t) (now->ms - q->denied_at));
    }
}


int64_t
llm_quota_needed(const llm_amount_t *need, llm_why_e why)
{
    switch (why) {

    case LLM_WHY_REQUESTS:
    case LLM_WHY_REQUESTS_DAY:
        return need->requests;

    case LLM_WHY_TOKENS:
    case LLM_WHY_TOKENS_DAY:
        return need->tokens;

    default:
        return need->money;
    }
}


/* does the account pay for it?  Not with what is being given back. */

static int
llm_quota_pays(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_amount_t *need)
{
    llm_amount_t             bucket, tally;
    const llm_quota_t       *q;
    const llm_rates_t       *rt;
    const llm_quota_name_t  *told;

    if (lg->conf.mode != LLM_QUOTA_LEASED) {
        return 0;
    }

    q = &n->quota;
    rt = &n->rates;
    bucket = q->bucket;
    tally = q->tally;

    if (q->batch != 0) {
        told = &lg->batch.name[q->batch - 1];

        bucket.requests += llm_quota_min(0, told->bucket.requests);
        bucket.tokens += llm_quota_min(0, told->bucket.tokens);

        if (told->day == q->day) {
            tally.requests += llm_quota_min(0, told->tally.requests);
            tally.tokens += llm_quota_min(0, told->tally.tokens);
            tally.money += llm_quota_min(0, told->tally.money);
        }
    }

    return ((rt->rpm | rt->rpd) == 0 || need->requests <= 0
            || llm_quota_min(bucket.requests, tally.requests)
               >= need->requests)
           && ((rt->tpm | rt->tpd) == 0 || need->tokens <= 0
               || llm_quota_min(bucket.tokens, tally.tokens) >= need->tokens)
           && (rt->budget == 0 || need->money <= 0
               || tally.money >= need->money);
}


static int
llm_quota_limited(const llm_rates_t *rt, const llm_amount_t *need)
{
    return ((rt->rpm | rt->rpd) != 0 && need->requests > 0)
           || ((rt->tpm | rt->tpd) != 0 && need->tokens > 0)
           || (rt->budget != 0 && need->money > 0);
}
