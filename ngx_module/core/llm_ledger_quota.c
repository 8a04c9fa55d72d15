
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts of what the store has allowed: how a request draws on them,
 * what stands in for the store while it is away, and what is to be said.
 */


#include "core/llm_quota_private.h"


static int llm_quota_denied(const llm_ledger_t *lg,
    const llm_ledger_node_t *node, const llm_amount_t *need, int background,
    const llm_now_t *now, llm_refusal_t *rf);
static int llm_quota_pays(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_amount_t *need);
static int llm_quota_limited(const llm_rates_t *rt, const llm_amount_t *need);
static uint64_t llm_quota_split(uint64_t limit, uint32_t gateways);
static void llm_quota_view_tally(llm_tally_t *own, const llm_tally_t *fleet,
    uint32_t period, const llm_amount_t *owed, uint32_t gateways);
static void llm_quota_view_bucket(llm_bucket_t *b, uint64_t rate,
    uint64_t now, int64_t owed);


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

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        if (!llm_quota_counted(&n->rates)) {
            continue;
        }

        llm_quota_credit(&n->quota, need, -1, now->wall);

        if (llm_quota_due(lg, n)) {
            llm_quota_dirty(lg, node[k], 0);
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
    llm_quota_credit(&n->quota, back, 1, wall);

    if (llm_quota_due(lg, n)) {
        llm_quota_dirty(lg, node, 0);
    }
}


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
    uint64_t            rate, keep;
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

    rate = LLM_UNLIMITED;

    switch (q->refusal.why) {

    case LLM_WHY_REQUESTS:
        rate = node->rates.rpm;
        n = need->requests;
        break;

    case LLM_WHY_REQUESTS_DAY:
        n = need->requests;
        break;

    case LLM_WHY_TOKENS:
        rate = node->rates.tpm;
        n = need->tokens;
        break;

    case LLM_WHY_TOKENS_DAY:
        n = need->tokens;
        break;

    default:
        n = need->money;
    }

    if (n <= 0 || n < q->denied) {
        return 0;
    }

    *rf = q->refusal;
    rf->need = (uint64_t) n;

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

    return 1;
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
