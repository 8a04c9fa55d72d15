
/*
 * Copyright (C) the ngx-llm authors
 *
 * A name's account with the store: two sides, days, and how much is worth
 * keeping ahead.
 */


#include "core/llm_quota_private.h"


/* ms over which the rate of use is smoothed */

#define LLM_QUOTA_SMOOTH  10000


static uint64_t llm_quota_rate(uint64_t rate, int64_t n, uint64_t elapsed);
static int64_t llm_quota_part_of(uint64_t rate_use, uint64_t ahead,
    uint64_t rate, uint64_t most, uint32_t gateways);
static int llm_quota_off(int64_t have, int64_t chunk, int exact);


int64_t
llm_quota_sum(int64_t a, int64_t b)
{
    int64_t  c;

    if (__builtin_add_overflow(a, b, &c) || c > LLM_QUOTA_MOST
        || c < -LLM_QUOTA_MOST)
    {
        return b > 0 ? LLM_QUOTA_MOST : -LLM_QUOTA_MOST;
    }

    return c;
}


void
llm_quota_add(llm_amount_t *to, const llm_amount_t *amount, int sign)
{
    to->requests = llm_quota_sum(to->requests, sign * amount->requests);
    to->tokens = llm_quota_sum(to->tokens, sign * amount->tokens);
    to->money = llm_quota_sum(to->money, sign * amount->money);
}


int
llm_quota_zero(const llm_amount_t *a)
{
    return a->requests == 0 && a->tokens == 0 && a->money == 0;
}


/*
 * At midnight what is left of the day that ends becomes "old", to be given
 * back to that day, or told.  If there is still something older, both belong
 * to the later of the two days: none of them is checked against any more.
 */

void
llm_quota_roll(llm_quota_t *q, int64_t wall)
{
    uint32_t  day;

    day = llm_meter_day(wall);

    if (day == q->day) {
        return;
    }

    if (!llm_quota_zero(&q->tally)) {

        if (llm_quota_zero(&q->old) || q->old_day < q->day) {
            q->old_day = q->day;
            q->old_month = q->month;
        }

        llm_quota_add(&q->old, &q->tally, 1);

        q->tally.requests = 0;
        q->tally.tokens = 0;
        q->tally.money = 0;
    }

    q->day = day;
    q->month = llm_meter_month(wall);
}


void
llm_quota_credit(llm_quota_t *q, const llm_amount_t *amount, int sign,
    int64_t wall)
{
    uint32_t      day;
    llm_amount_t  side;

    side = *amount;
    side.money = 0;

    llm_quota_add(&q->bucket, &side, sign);

    day = llm_meter_day(wall);

    if (day == q->day) {
        llm_quota_add(&q->tally, amount, sign);
        return;
    }

    if (llm_quota_zero(&q->old)) {
        q->old_day = day;
        q->old_month = llm_meter_month(wall);
    }

    llm_quota_add(&q->old, amount, sign);
}


void
llm_quota_credit_day(llm_quota_t *q, const llm_amount_t *amount, uint32_t day)
{
    llm_quota_add(day == q->day ? &q->tally : &q->old, amount, 1);
}


/*
 * The use of "ahead" ms, at most the gateway's part of what the limit gives
 * in that time.  If it does not serve even one request, nothing is kept.
 */

void
llm_quota_chunk(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    llm_amount_t *chunk)
{
    uint32_t            gateways;
    uint64_t            ahead;
    const llm_quota_t  *q;
    const llm_rates_t  *rt;

    chunk->requests = 0;
    chunk->tokens = 0;
    chunk->money = 0;

    if (lg->conf.mode != LLM_QUOTA_LEASED || n->quota.rate == 0) {
        return;
    }

    q = &n->quota;
    rt = &n->rates;
    ahead = lg->conf.ahead;
    gateways = lg->conf.gateways;

    if (rt->rpm || rt->rpd) {
        chunk->requests = llm_quota_part_of(q->rate, ahead, rt->rpm, rt->rpd,
                                            gateways);
        if (chunk->requests == 0) {
            return;
        }
    }

    if (rt->tpm || rt->tpd) {
        chunk->tokens = llm_quota_part_of(q->rate_tokens, ahead, rt->tpm,
                                          rt->tpd, gateways);

        if ((uint64_t) chunk->tokens < q->rate_tokens / q->rate) {
            chunk->requests = 0;
            chunk->tokens = 0;
            return;
        }
    }

    if (rt->budget) {
        chunk->money = llm_quota_part_of(q->rate_money, ahead, 0, rt->budget,
                                         gateways);

        if ((uint64_t) chunk->money < q->rate_money / q->rate) {
            chunk->requests = 0;
            chunk->tokens = 0;
            chunk->money = 0;
        }
    }
}


int
llm_quota_due(const llm_ledger_t *lg, const llm_ledger_node_t *n)
{
    llm_amount_t        chunk;
    const llm_quota_t  *q;
    const llm_rates_t  *rt;

    q = &n->quota;
    rt = &n->rates;

    if (lg->conf.mode != LLM_QUOTA_LEASED || !llm_quota_zero(&q->old)) {
        return !llm_quota_zero(&q->bucket) || !llm_quota_zero(&q->tally)
               || !llm_quota_zero(&q->old);
    }

    llm_quota_chunk(lg, n, &chunk);

    /* what no limit counts goes with the next one that does */

    return ((rt->rpm || rt->rpd)
            && (llm_quota_off(q->bucket.requests, chunk.requests, q->exact)
                || llm_quota_off(q->tally.requests, chunk.requests,
                                 q->exact)))
           || ((rt->tpm || rt->tpd)
               && (llm_quota_off(q->bucket.tokens, chunk.tokens, q->exact)
                   || llm_quota_off(q->tally.tokens, chunk.tokens,
                                    q->exact)))
           || (rt->budget
               && llm_quota_off(q->tally.money, chunk.money, q->exact));
}


/* below a half it is filled again, above the double given back; where nothing
   is given ahead it is asked for with what is said anyway */

static int
llm_quota_off(int64_t have, int64_t chunk, int exact)
{
    return have < 0 || have > chunk * 2 || (have * 2 < chunk && !exact);
}


void
llm_quota_use(llm_quota_t *q, const llm_amount_t *need, const llm_now_t *now)
{
    uint64_t  elapsed;

    elapsed = now->ms > q->used_at ? now->ms - q->used_at : 0;

    q->rate = llm_quota_rate(q->rate, need->requests, elapsed);
    q->rate_tokens = llm_quota_rate(q->rate_tokens, need->tokens, elapsed);
    q->rate_money = llm_quota_rate(q->rate_money, need->money, elapsed);

    if (now->ms > q->used_at) {
        q->used_at = now->ms;
    }
}


/* so many per minute, in 1/1000, if "n" came now and the last one before */

static uint64_t
llm_quota_rate(uint64_t rate, int64_t n, uint64_t elapsed)
{
    if (elapsed >= LLM_QUOTA_SMOOTH) {
        rate = 0;

    } else {
        rate -= rate / LLM_QUOTA_SMOOTH * elapsed
                + rate % LLM_QUOTA_SMOOTH * elapsed / LLM_QUOTA_SMOOTH;
    }

    if (n > 0) {
        n = llm_quota_min(n, LLM_QUOTA_MOST / 60000000);
        rate += (uint64_t) n * 60000 * 1000 / LLM_QUOTA_SMOOTH;
    }

    return rate < (uint64_t) LLM_QUOTA_MOST ? rate : (uint64_t) LLM_QUOTA_MOST;
}


/* of what the use needs, what a rate gives, a hundredth of a day's limit */

static int64_t
llm_quota_part_of(uint64_t rate_use, uint64_t ahead, uint64_t rate,
    uint64_t most, uint32_t gateways)
{
    double  n, part;

    n = (double) rate_use * (double) ahead / 60000 / 1000;

    if (rate != LLM_UNLIMITED) {
        part = (double) rate * (double) ahead / 60000 / gateways;
        n = part < n ? part : n;
    }

    if (most != LLM_UNLIMITED) {
        part = (double) most / 100 / gateways;
        n = part < n ? part : n;
    }

    return n < (double) LLM_QUOTA_MOST ? (int64_t) n : LLM_QUOTA_MOST;
}
