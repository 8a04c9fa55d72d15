
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the agent has to say: making a batch, and when.
 */


#include "core/llm_quota_private.h"


/* rows looked at for each batch after the store has lost something */

#define LLM_QUOTA_WALK  4096

/*
 * A fresh ledger counts from the time on, so that even one that has the name
 * of another by mistake does not get the replies to the other's batches.
 */

#define LLM_QUOTA_SEQ   20


static void llm_quota_walk(llm_ledger_t *lg);
static int llm_quota_collect_ask(llm_ledger_t *lg, uint32_t i);
static uint32_t llm_quota_place(llm_ledger_t *lg, uint32_t node);
static void llm_quota_fill(llm_ledger_t *lg, llm_quota_name_t *nm,
    const llm_now_t *now);
static void llm_quota_fill_side(const llm_amount_t *account,
    const llm_amount_t *chunk, llm_amount_t *told, llm_amount_t *kept);
static int64_t llm_quota_side(int64_t have, int64_t chunk, int64_t *kept);
static void llm_quota_fill_wish(llm_ledger_node_t *n, llm_quota_name_t *nm,
    const llm_now_t *now);
static void llm_quota_fill_share(const llm_ledger_t *lg,
    llm_ledger_node_t *n, llm_quota_name_t *nm, const llm_now_t *now);
static int llm_quota_is_idle(const llm_ledger_t *lg, uint64_t since,
    const llm_now_t *now);
static int llm_quota_stale(const llm_ledger_t *lg, llm_ledger_node_t *n,
    const llm_now_t *now);


const llm_quota_conf_t *
llm_ledger_quota(llm_ledger_t *lg)
{
    return &lg->conf;
}


int
llm_ledger_pending(llm_ledger_t *lg)
{
    if (!llm_quota_shared(lg)) {
        return 0;
    }

    if (lg->asking.first != LLM_LEDGER_NONE || lg->batch.urgent != 0) {
        return 2;
    }

    /* who waits for a share asks for hints */

    return lg->dirty != 0 || lg->batch.starved != 0 || lg->batch.walk != 0;
}


const llm_quota_batch_t *
llm_ledger_collect(llm_ledger_t *lg, int force, const llm_now_t *now)
{
    uint32_t            i;
    llm_quota_batch_t  *b;

    b = &lg->batch;

    if (b->seq != 0) {
        return b;
    }

    if (!force && llm_ledger_pending(lg) == 0) {
        return NULL;
    }

    b->names = 0;
    b->asks = 0;
    b->applied = 0;
    b->wall = now->wall;
    b->epoch = lg->conf.epoch;

    if (b->walk != 0) {
        llm_quota_walk(lg);
    }

    /* who waits goes first, in order */

    while (lg->asking.first != LLM_LEDGER_NONE) {

        if (llm_quota_collect_ask(lg, lg->asking.first) != LLM_OK) {
            break;
        }
    }

    while (b->first != 0 && b->names < LLM_QUOTA_NAMES) {
        (void) llm_quota_place(lg, llm_quota_shift(lg));
    }

    for (i = 0; i < b->names; i++) {
        llm_quota_fill(lg, &b->name[i], now);
    }

    /* from here on it is on its way */

    if (lg->batch_seq == 0 && now->wall > 0) {
        lg->batch_seq = (uint64_t) now->wall << LLM_QUOTA_SEQ;
    }

    lg->batch_seq++;

    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *(volatile uint64_t *) &b->seq = lg->batch_seq;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);

    return b;
}


void
llm_ledger_sweep(llm_ledger_t *lg, unsigned rows, const llm_now_t *now)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    if (!llm_quota_shared(lg)) {
        return;
    }

    if (rows > lg->nodes) {
        rows = lg->nodes;
    }

    while (rows--) {

        if (lg->sweep >= lg->nodes) {
            lg->sweep = 0;
        }

        i = lg->sweep++;
        n = llm_ledger_node(lg, i);

        if (n->used && llm_quota_stale(lg, n, now)) {
            llm_quota_dirty(lg, i, 0);
        }
    }
}


/* is there something to be said that no visit has marked? */

static int
llm_quota_stale(const llm_ledger_t *lg, llm_ledger_node_t *n,
    const llm_now_t *now)
{
    uint32_t      want;
    llm_quota_t  *q;

    q = &n->quota;
    want = n->concurrency != LLM_UNLIMITED ? llm_quota_wanted(n) : 0;

    if (want != 0) {
        q->slots_at = now->ms;
    }

    if (q->starved || llm_quota_due(lg, n)) {
        return 1;
    }

    if (q->tally.requests < 0 || q->tally.tokens < 0 || q->tally.money < 0) {
        return 1;
    }

    if (q->claim > want && (q->tight
                            || llm_quota_is_idle(lg, q->slots_at, now)))
    {
        return 1;
    }

    if (q->claim != 0 && now->ms >= q->told_at + LLM_QUOTA_RENEW) {
        return 1;
    }

    return llm_quota_is_idle(lg, q->used_at, now)
           && (!llm_quota_zero(&q->bucket) || !llm_quota_zero(&q->tally));
}


/* the store, or our life in it, was lost: all that it kept is said again */

static void
llm_quota_walk(llm_ledger_t *lg)
{
    uint32_t            rows;
    llm_ledger_node_t  *n;

    for (rows = LLM_QUOTA_WALK; rows != 0 && lg->batch.walk != 0; rows--) {

        lg->batch.walk--;
        n = llm_ledger_node(lg, lg->batch.walk);

        if (n->used && n->quota.told_at != 0
            && n->quota.lives != lg->batch.lives)
        {
            llm_quota_dirty(lg, lg->batch.walk, 0);
        }
    }
}


static int
llm_quota_collect_ask(llm_ledger_t *lg, uint32_t i)
{
    unsigned              k;
    llm_quota_ask_t      *ask;
    llm_quota_batch_t    *b;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    b = &lg->batch;

    if (b->asks == LLM_QUOTA_ASKS
        || b->names > LLM_QUOTA_NAMES - LLM_LEDGER_LIMITS)
    {
        return LLM_DECLINED;
    }

    t = llm_ledger_ticket(lg, i);
    ask = &b->ask[b->asks];

    ask->ticket = t->id;
    ask->need = t->need;
    ask->background = t->background;

    /* whatever counts a name's use is told of it, limited or not */

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        ask->name[k] = LLM_LEDGER_NONE;

        if (t->node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        if (llm_quota_counted(&n->rates)) {
            ask->name[k] = llm_quota_place(lg, t->node[k]);
        }
    }

    llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->asking, i);
    b->asks++;

    return LLM_OK;
}


static uint32_t
llm_quota_place(llm_ledger_t *lg, uint32_t node)
{
    llm_quota_t        *q;
    llm_quota_batch_t  *b;

    b = &lg->batch;
    q = &llm_ledger_node(lg, node)->quota;

    if (q->batch == 0) {
        b->name[b->names].node = node;
        b->names++;
        q->batch = b->names;
    }

    return q->batch - 1;
}


/*
 * The account is not changed before the reply: until then the batch says what
 * of it has been promised.
 */

static void
llm_quota_fill(llm_ledger_t *lg, llm_quota_name_t *nm, const llm_now_t *now)
{
    llm_quota_t        *q;
    llm_amount_t        chunk, bucket, tally, none;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, nm->node);
    q = &n->quota;

    llm_quota_roll(q, now->wall);

    nm->day = q->day;
    nm->month = q->month;
    nm->old_day = q->old_day;
    nm->old_month = q->old_month;

    none.requests = 0;
    none.tokens = 0;
    none.money = 0;

    if (llm_quota_is_idle(lg, q->used_at, now)) {
        q->rate = 0;
        q->rate_tokens = 0;
        q->rate_money = 0;
    }

    llm_quota_chunk(lg, n, &chunk);

    llm_quota_fill_side(&q->bucket, &chunk, &nm->bucket, &bucket);
    llm_quota_fill_side(&q->tally, &chunk, &nm->tally, &tally);
    llm_quota_fill_side(&q->old, &none, &nm->old, &nm->prefetch);

    if (llm_quota_zero(&q->old)) {
        nm->old_day = 0;
        nm->old_month = 0;
    }

    nm->prefetch.requests = chunk.requests
                            - llm_quota_min(bucket.requests, tally.requests);
    nm->prefetch.tokens = chunk.tokens
                          - llm_quota_min(bucket.tokens, tally.tokens);
    nm->prefetch.money = chunk.money - tally.money;

    nm->held = n->held;
    nm->share = 0;
    nm->wish = 0;
    nm->press = 0;

    if (q->wish != 0) {
        llm_quota_fill_wish(n, nm, now);
    }

    if (n->concurrency != LLM_UNLIMITED) {
        llm_quota_fill_share(lg, n, nm, now);
    }

    nm->repair = q->told_at != 0 && q->epoch != lg->conf.epoch;
}


static void
llm_quota_fill_side(const llm_amount_t *account, const llm_amount_t *chunk,
    llm_amount_t *told, llm_amount_t *kept)
{
    told->requests = llm_quota_side(account->requests, chunk->requests,
                                    &kept->requests);
    told->tokens = llm_quota_side(account->tokens, chunk->tokens,
                                  &kept->tokens);
    told->money = llm_quota_side(account->money, chunk->money, &kept->money);
}


/* a debt is told, what is above the chunk is given back */

static int64_t
llm_quota_side(int64_t have, int64_t chunk, int64_t *kept)
{
    *kept = llm_quota_min(llm_quota_max(have, 0), chunk);

    return *kept - have;
}


/* not said again: who still wants it comes again */

static void
llm_quota_fill_wish(llm_ledger_node_t *n, llm_quota_name_t *nm,
    const llm_now_t *now)
{
    uint64_t      want;
    llm_quota_t  *q;

    q = &n->quota;
    want = (uint64_t) llm_quota_wanted(n) + q->wish;

    nm->wish = want < n->concurrency ? (uint32_t) want : n->concurrency;
    q->wish = 0;

    /* what is given is kept until who wished for it comes again */

    q->slots_at = now->ms;

    if (q->pressed_at == 0 || now->ms >= q->pressed_at + LLM_QUOTA_PRESS) {
        q->pressed_at = now->ms != 0 ? now->ms : 1;
        nm->press = 1;
    }
}


/*
 * What is in use and waited for; as long as nobody else waits, what was ours
 * is kept, and a little more is asked for, so that not every request asks.
 *
 * The store may lower the share to what is told as held, so that until the
 * reply no more may be: nothing starts beyond it meanwhile.
 */

static void
llm_quota_fill_share(const llm_ledger_t *lg, llm_ledger_node_t *n,
    llm_quota_name_t *nm, const llm_now_t *now)
{
    uint32_t      want;
    llm_quota_t  *q;

    q = &n->quota;
    want = llm_quota_wanted(n);

    if (want != 0) {
        q->slots_at = now->ms;
    }

    nm->share = want;

    if (q->hinted || q->tight || now->ms < q->yield_until
        || q->lives != lg->batch.lives
        || llm_quota_is_idle(lg, q->slots_at, now))
    {
        return;
    }

    if (want > q->share) {
        want += want / 4 + 1;

    } else {
        want = q->share;
    }

    nm->share = want < n->concurrency ? want : n->concurrency;

    if (nm->held < q->share) {
        nm->held = q->share;
    }
}


static int
llm_quota_is_idle(const llm_ledger_t *lg, uint64_t since,
    const llm_now_t *now)
{
    return now->ms >= since && now->ms - since >= lg->conf.idle;
}
