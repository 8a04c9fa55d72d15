
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts of what the store has allowed: what they make of the limits,
 * what stands in for the store while it is away, and what is to be said.
 */


#include "core/llm_quota_private.h"


static uint64_t llm_quota_split(uint64_t limit, uint32_t gateways);
static void llm_quota_view_tally(llm_tally_t *own, const llm_tally_t *fleet,
    uint32_t period, const llm_amount_t *owed, uint32_t gateways);
static void llm_quota_view_bucket(llm_bucket_t *b, uint64_t rate,
    uint64_t now, int64_t owed);


void
llm_ledger_quota_part(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    llm_rates_t *part)
{
    uint32_t  gateways;

    *part = n->rates;

    if (lg->conf.mode != LLM_QUOTA_ALONE) {
        return;
    }

    gateways = lg->conf.gateways;

    part->rpm = llm_quota_split(part->rpm, gateways);
    part->burst = llm_quota_split(part->burst, gateways);
    part->tpm = llm_quota_split(part->tpm, gateways);
    part->burst_tokens = llm_quota_split(part->burst_tokens, gateways);

    /* what the others spend meanwhile is not known: a small grace is */

    part->budget += part->budget / 50;
}


void
llm_ledger_quota_view(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_now_t *now, llm_meter_t *m)
{
    uint32_t            day, month, gateways;
    llm_period_t        p;
    llm_amount_t        owed;
    const llm_quota_t  *q;

    *m = n->meter;

    if (!llm_quota_counted(&n->rates)) {
        return;
    }

    q = &n->quota;
    p = llm_meter_period(now->wall);
    day = p.day;
    month = p.month;

    owed.requests = 0;
    owed.tokens = 0;
    owed.money = 0;

    if (q->day == day) {
        owed.requests = llm_quota_max(0, -q->tally.requests);
        owed.tokens = llm_quota_max(0, -q->tally.tokens);
        owed.money = llm_quota_max(0, -q->tally.money);
    }

    /* alone: the others are taken to use as much as this one does */

    gateways = lg->conf.mode == LLM_QUOTA_ALONE ? lg->conf.gateways : 1;

    llm_quota_view_tally(&m->day[day & 1], &q->fleet_day, day, &owed,
                         gateways);

    if (q->month == month && q->day == day && q->old_month == month) {
        owed.money = llm_quota_sum(owed.money,
                                   llm_quota_max(0, -q->old.money));
    }

    llm_quota_view_tally(&m->month[month & 1], &q->fleet_month, month, &owed,
                         1);

    if (lg->conf.mode == LLM_QUOTA_ALONE || q->told_at == 0) {
        return;
    }

    m->requests = q->fleet_requests;
    m->tokens = q->fleet_tokens;

    llm_quota_view_bucket(&m->requests, n->rates.rpm, now->ms,
                          -q->bucket.requests);
    llm_quota_view_bucket(&m->tokens, n->rates.tpm, now->ms,
                          -q->bucket.tokens);
}


uint32_t
llm_ledger_slots(const llm_ledger_t *lg, const llm_ledger_node_t *n)
{
    uint32_t  slots;

    switch (lg->conf.mode) {

    case LLM_QUOTA_LOCAL:
        return n->concurrency;

    case LLM_QUOTA_ALONE:
        return (n->concurrency - 1) / lg->conf.gateways + 1;

    default:
        slots = n->quota.share;

        if (n->quota.batch != 0
            && lg->batch.name[n->quota.batch - 1].held < slots)
        {
            slots = lg->batch.name[n->quota.batch - 1].held;
        }

        return slots < n->concurrency ? slots : n->concurrency;
    }
}


void
llm_ledger_quota_slots(llm_ledger_t *lg, uint32_t node)
{
    uint32_t            want;
    llm_quota_t        *q;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);
    q = &n->quota;

    if (n->concurrency == LLM_UNLIMITED) {
        return;
    }

    llm_quota_starved(lg, node);

    want = llm_quota_wanted(n);

    if (want > q->share && want > q->wanted) {
        llm_quota_dirty(lg, node, q->starved);
        return;
    }

    /* others wait for what we spare; and what we hold alone is to be told */

    if (((q->share < q->claim
          || ((q->tight || q->yield_until != 0) && want < q->claim))
         && n->held < q->held)
        || (lg->conf.mode == LLM_QUOTA_ALONE && n->held != q->held))
    {
        llm_quota_dirty(lg, node, 0);
    }
}


void
llm_ledger_quota_node(llm_ledger_t *lg, uint32_t node, const llm_now_t *now)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);

    n->quota.day = llm_meter_day(now->wall);
    n->quota.month = llm_meter_month(now->wall);
    n->quota.used_at = now->ms;
    n->quota.slots_at = now->ms;
    n->quota.epoch = lg->conf.epoch;
    n->quota.lives = lg->batch.lives;
    n->quota.next = 0;
}


/*
 * What is dirty or urgent is not known for sure after a death: whoever has
 * anything in its account says so.
 */

void
llm_ledger_quota_rebuild(llm_ledger_t *lg)
{
    uint32_t            i;
    llm_quota_t        *q;
    llm_ledger_node_t  *n;

    lg->batch.first = 0;
    lg->batch.last = 0;
    lg->batch.urgent = 0;
    lg->dirty = 0;
    lg->batch.starved = 0;

    for (i = 0; i < lg->nodes; i++) {
        q = &llm_ledger_node(lg, i)->quota;

        q->next = 0;
        q->batch = 0;
        q->starved = 0;
    }

    if (lg->batch.seq != 0) {

        for (i = 0; i < lg->batch.names; i++) {
            n = llm_ledger_node(lg, lg->batch.name[i].node);
            n->quota.batch = i + 1;
        }
    }

    if (lg->conf.mode == LLM_QUOTA_LOCAL) {
        return;
    }

    for (i = 0; i < lg->nodes; i++) {
        n = llm_ledger_node(lg, i);
        q = &n->quota;

        if (n->used && (q->dirty || llm_quota_due(lg, n)
                        || (n->concurrency != LLM_UNLIMITED
                            && (q->claim != 0 || n->held != 0
                                || n->waiting != 0))))
        {
            q->dirty = 0;
            q->urgent = 0;
            llm_quota_dirty(lg, i, 0);
            llm_ledger_quota_slots(lg, i);

        } else {
            q->dirty = 0;
            q->urgent = 0;
        }
    }
}


int
llm_ledger_quota_idle(const llm_ledger_t *lg, const llm_ledger_node_t *n)
{
    const llm_quota_t  *q;

    q = &n->quota;

    return lg->conf.mode == LLM_QUOTA_LOCAL
           || (!q->dirty && q->batch == 0 && q->claim == 0
               && llm_quota_zero(&q->bucket) && llm_quota_zero(&q->tally)
               && llm_quota_zero(&q->old));
}


int
llm_ledger_quota_asked(const llm_ledger_t *lg, llm_ticket_t id)
{
    uint32_t  i;

    if (lg->batch.seq == 0) {
        return 0;
    }

    for (i = 0; i < lg->batch.asks; i++) {

        if (lg->batch.ask[i].ticket == id) {
            return 1;
        }
    }

    return 0;
}


/* the list is in order of arrival, so that everybody's turn comes */

void
llm_quota_dirty(llm_ledger_t *lg, uint32_t node, int urgent)
{
    llm_quota_t  *q;

    q = &llm_ledger_node(lg, node)->quota;

    if (urgent && !q->urgent) {
        q->urgent = 1;
        lg->batch.urgent++;
    }

    if (q->dirty) {
        return;
    }

    q->dirty = 1;
    q->next = 0;

    if (lg->batch.last == 0) {
        lg->batch.first = node + 1;

    } else {
        llm_ledger_node(lg, lg->batch.last - 1)->quota.next = node + 1;
    }

    lg->batch.last = node + 1;
    lg->dirty++;
}


/* takes the first of the list off it */

uint32_t
llm_quota_shift(llm_ledger_t *lg)
{
    uint32_t      node;
    llm_quota_t  *q;

    node = lg->batch.first - 1;
    q = &llm_ledger_node(lg, node)->quota;

    lg->batch.first = q->next;

    if (lg->batch.first == 0) {
        lg->batch.last = 0;
    }

    if (q->urgent) {
        q->urgent = 0;
        lg->batch.urgent--;
    }

    q->next = 0;
    q->dirty = 0;
    lg->dirty--;

    return node;
}


uint32_t
llm_quota_wanted(const llm_ledger_node_t *n)
{
    uint64_t  want;

    want = (uint64_t) n->held + n->waiting;

    return want < n->concurrency ? (uint32_t) want : n->concurrency;
}


void
llm_quota_starved(llm_ledger_t *lg, uint32_t node)
{
    uint32_t            starved;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);

    starved = n->concurrency != LLM_UNLIMITED && n->waiting != 0
              && n->held >= n->quota.share
              && n->quota.share < n->concurrency;

    lg->batch.starved += starved - n->quota.starved;
    n->quota.starved = starved;
}


static uint64_t
llm_quota_split(uint64_t limit, uint32_t gateways)
{
    if (limit == LLM_UNLIMITED) {
        return LLM_UNLIMITED;
    }

    return limit > gateways ? limit / gateways : 1;
}


static void
llm_quota_view_tally(llm_tally_t *own, const llm_tally_t *fleet,
    uint32_t period, const llm_amount_t *owed, uint32_t gateways)
{
    llm_tally_t  t;

    t.period = period;
    t.requests = 0;
    t.tokens = 0;
    t.money = 0;

    if (fleet->period == period) {
        t = *fleet;
    }

    /* money is never guessed */

    t.requests = llm_quota_sum(t.requests, (int64_t) gateways
                               * llm_quota_min(owed->requests, INT32_MAX));
    t.tokens = llm_quota_sum(t.tokens, (int64_t) gateways
                             * llm_quota_min(owed->tokens, INT32_MAX));
    t.money = llm_quota_sum(t.money, owed->money);

    if (own->period == period) {
        t.requests = llm_quota_max(t.requests, own->requests);
        t.tokens = llm_quota_max(t.tokens, own->tokens);
        t.money = llm_quota_max(t.money, own->money);
    }

    *own = t;
}


static void
llm_quota_view_bucket(llm_bucket_t *b, uint64_t rate, uint64_t now,
    int64_t owed)
{
    llm_bucket_leak(b, rate, now);

    if (owed > 0) {
        llm_bucket_take(b, owed);
    }
}
