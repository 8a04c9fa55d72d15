
/*
 * Copyright (C) the ngx-llm authors
 *
 * Taking over a reply, step by step, and going without a store.
 */


#include "core/llm_quota_private.h"


static void llm_quota_forgot(llm_ledger_t *lg, uint64_t epoch);
static void llm_quota_apply_name(llm_ledger_t *lg, uint32_t i,
    const llm_quota_reply_t *rp, const llm_now_t *now);
static void llm_quota_apply_slots(llm_quota_t *q, const llm_quota_name_t *nm,
    const llm_quota_told_t *told, const llm_now_t *now);
static void llm_quota_apply_ask(llm_ledger_t *lg, uint32_t i,
    const llm_quota_answer_t *a, const llm_now_t *now, llm_owners_t *wake);
static void llm_quota_asked_of(const llm_ledger_t *lg,
    const llm_quota_ask_t *ask, const llm_ledger_ticket_t *t, uint32_t *node);
static void llm_quota_allowed(llm_ledger_t *lg, uint32_t *node,
    const llm_quota_ask_t *ask, const llm_now_t *now);
static void llm_quota_deny(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *need, const llm_refusal_t *rf, const llm_now_t *now);
static void llm_quota_close(llm_ledger_t *lg, llm_owners_t *wake,
    const llm_now_t *now);
static void llm_quota_hint(llm_ledger_t *lg, uint32_t hash,
    const llm_now_t *now);
static llm_ledger_ticket_t *llm_quota_asker(llm_ledger_t *lg,
    llm_ticket_t id);
static void llm_quota_serve_alone(llm_ledger_t *lg, uint32_t i,
    const llm_now_t *now, llm_owners_t *wake);
static void llm_quota_answer_alone(llm_ledger_t *lg, uint32_t i,
    const llm_now_t *now, llm_owners_t *wake);
static void llm_quota_leaked(llm_ledger_t *lg, const llm_now_t *now);


int
llm_ledger_apply(llm_ledger_t *lg, uint64_t seq, const char *reply,
    size_t len, const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t            i;
    llm_quota_batch_t  *b;
    llm_quota_reply_t   rp;

    b = &lg->batch;

    if (b->seq == 0 || seq != b->seq) {
        return LLM_OK;
    }

    if (llm_quota_read(b, reply, len, &rp) != LLM_OK) {
        return LLM_ERROR;
    }

    if (rp.status == LLM_QUOTA_FORGOT) {
        llm_quota_forgot(lg, rp.epoch);
        return LLM_OK;
    }

    if (rp.status == LLM_QUOTA_LATE) {
        lg->batch_seq = rp.seq + 1;
        b->seq = rp.seq + 1;
        return LLM_OK;
    }

    lg->conf.gateways = rp.gateways;

    if (rp.lapsed && lg->conf.epoch != 0) {
        b->lives++;
        b->walk = lg->nodes;
    }

    lg->conf.epoch = rp.epoch;

    /* what a predecessor has done before it died is not done again */

    while (b->applied < b->names) {
        llm_quota_apply_name(lg, b->applied, &rp, now);
    }

    while (b->applied < b->names + b->asks) {
        i = b->applied - b->names;
        llm_quota_apply_ask(lg, i, &rp.ask[i], now, wake);
    }

    for (i = 0; i < rp.hints; i++) {
        llm_quota_hint(lg, rp.hint[i], now);
    }

    llm_quota_close(lg, wake, now);

    return LLM_OK;
}


void
llm_ledger_mode(llm_ledger_t *lg, const llm_quota_conf_t *conf,
    const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t              i;
    uint64_t              epoch;
    llm_ledger_ticket_t  *t;

    if (lg->conf.mode == LLM_QUOTA_ALONE && conf->mode != LLM_QUOTA_ALONE) {
        llm_quota_leaked(lg, now);
    }

    epoch = lg->conf.epoch;

    lg->conf = *conf;
    lg->conf.epoch = epoch;

    if (lg->conf.gateways == 0) {
        lg->conf.gateways = 1;
    }

    if (!llm_quota_shared(lg)) {

        while (lg->asking.first != LLM_LEDGER_NONE) {
            i = lg->asking.first;
            llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->asking, i);
            llm_quota_serve_alone(lg, i, now, wake);
        }

        for (i = 0; lg->batch.seq != 0 && i < lg->batch.asks; i++) {
            t = llm_quota_asker(lg, lg->batch.ask[i].ticket);

            if (t != NULL) {
                llm_quota_serve_alone(lg, (uint32_t)
                                      (t->id & LLM_LEDGER_INDEX_MASK), now,
                                      wake);
            }
        }
    }

    /* the slots that count have changed for whoever waits */

    for (i = 0; i < lg->tickets; i++) {
        t = llm_ledger_ticket(lg, i);

        if (t->state == LLM_TICKET_WAITING) {

            if (lg->conf.mode != LLM_QUOTA_LOCAL) {
                llm_ledger_quota_slots(lg, t->node[0]);
                llm_ledger_quota_slots(lg, llm_ledger_gate(t));
            }

            llm_ledger_front(lg, t->node[0]);
            llm_ledger_due(lg, llm_ledger_gate(t));
        }
    }

    llm_ledger_run(lg, now, wake);
}


/*
 * While nobody heard of it, what was used alone leaked all the same: the
 * buckets are told what is still in our own, the tallies are told it all.
 */

static void
llm_quota_leaked(llm_ledger_t *lg, const llm_now_t *now)
{
    uint32_t            next;
    llm_rates_t         part;
    llm_quota_t        *q;
    llm_ledger_node_t  *n;

    for (next = lg->batch.first; next != 0; next = n->quota.next) {
        n = llm_ledger_node(lg, next - 1);
        q = &n->quota;

        llm_ledger_quota_part(lg, n, &part);
        llm_meter_roll(&n->meter, &part, now);

        q->bucket.requests = llm_quota_max(q->bucket.requests,
                  -((n->meter.requests.level + LLM_BUCKET_UNIT - 1)
                    / LLM_BUCKET_UNIT));
        q->bucket.tokens = llm_quota_max(q->bucket.tokens,
                  -((n->meter.tokens.level + LLM_BUCKET_UNIT - 1)
                    / LLM_BUCKET_UNIT));
    }
}


/*
 * The batch was not taken: its names tell what they know as well, and so do
 * all others in the batches to come.
 */

static void
llm_quota_forgot(llm_ledger_t *lg, uint64_t epoch)
{
    uint32_t            i;
    llm_quota_batch_t  *b;
    llm_ledger_node_t  *n;

    b = &lg->batch;

    lg->conf.epoch = epoch;

    for (i = 0; i < b->names; i++) {
        n = llm_ledger_node(lg, b->name[i].node);

        b->name[i].repair = n->quota.told_at != 0;
        b->name[i].held = n->held;
    }

    b->lives++;
    b->walk = lg->nodes;

    b->epoch = epoch;
}


static void
llm_quota_apply_name(llm_ledger_t *lg, uint32_t i,
    const llm_quota_reply_t *rp, const llm_now_t *now)
{
    uint32_t                 node[LLM_LEDGER_LIMITS];
    llm_quota_t             *q;
    llm_amount_t             side;
    const llm_quota_name_t  *nm;
    const llm_quota_told_t  *told;

    nm = &lg->batch.name[i];
    told = &rp->name[i];
    q = &llm_ledger_node(lg, nm->node)->quota;

    node[0] = nm->node;
    node[1] = LLM_LEDGER_NONE;

    llm_ledger_begin(lg, node, LLM_LEDGER_NONE);

    lg->batch.applied++;

    llm_quota_add(&q->bucket, &nm->bucket, 1);
    llm_quota_credit_day(q, &nm->tally, nm->day);

    if (nm->old_day != 0) {
        llm_quota_credit_day(q, &nm->old, nm->old_day);
    }

    if (told->ahead) {
        side = nm->prefetch;
        side.money = 0;

        llm_quota_add(&q->bucket, &side, 1);
        llm_quota_credit_day(q, &nm->prefetch, nm->day);
    }

    q->exact = !told->ahead && !llm_quota_zero(&nm->prefetch);

    q->fleet_requests.level = told->requests;
    q->fleet_requests.time = now->ms;
    q->fleet_tokens.level = told->tokens;
    q->fleet_tokens.time = now->ms;
    q->fleet_day = told->day;
    q->fleet_month = told->month;

    q->told_at = now->ms != 0 ? now->ms : 1;
    q->epoch = rp->epoch;
    q->lives = lg->batch.lives;

    llm_quota_apply_slots(q, nm, told, now);

    llm_ledger_commit(lg);
}


static void
llm_quota_apply_slots(llm_quota_t *q, const llm_quota_name_t *nm,
    const llm_quota_told_t *told, const llm_now_t *now)
{
    /* what became ours meanwhile is nobody's no more */

    if (nm->wish != 0) {
        q->spare = told->spare;
        q->spare_at = now->ms != 0 ? now->ms : 1;

    } else if (told->claim != q->claim) {
        q->spare_at = 0;
    }

    q->share = told->share;
    q->claim = told->claim;
    q->tight = told->tight;
    q->wanted = nm->share;
    q->held = nm->held;
    q->hinted = 0;

    if (now->ms >= q->yield_until) {
        q->yield_until = 0;
    }
}


static void
llm_quota_apply_ask(llm_ledger_t *lg, uint32_t i, const llm_quota_answer_t *a,
    const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t                node[LLM_LEDGER_LIMITS], row;
    llm_now_t               then;
    llm_refusal_t           rf;
    llm_ledger_ticket_t    *t;
    const llm_quota_ask_t  *ask;

    ask = &lg->batch.ask[i];
    t = llm_quota_asker(lg, ask->ticket);
    row = t != NULL ? (uint32_t) (t->id & LLM_LEDGER_INDEX_MASK)
                    : LLM_LEDGER_NONE;

    llm_quota_asked_of(lg, ask, t, node);

    llm_ledger_begin(lg, node, row);

    lg->batch.applied++;

    /* it was counted on the day of the batch */

    then = *now;
    then.wall = lg->batch.wall;
    rf = a->refusal;

    switch (a->verdict) {

    case LLM_QUOTA_ALLOWED:

        if (t != NULL) {
            llm_ledger_answer(lg, row, LLM_OK, 0, &rf, &then, wake);

        } else {
            llm_quota_allowed(lg, node, ask, &then);
        }

        break;

    case LLM_QUOTA_REFUSED:

        rf.need = (uint64_t) llm_quota_max(0, llm_quota_needed(&ask->need,
                                                               rf.why));

        /* what others may still have is not denied to them */

        if (node[a->index] != LLM_LEDGER_NONE && !ask->background) {
            llm_quota_deny(lg, node[a->index], &ask->need, &rf, now);
        }

        if (t != NULL) {
            llm_ledger_answer(lg, row, LLM_DECLINED, a->index, &rf, now,
                              wake);
        }

        break;

    default:

        if (t != NULL) {
            llm_quota_answer_alone(lg, row, now, wake);
        }
    }

    llm_ledger_commit(lg);
}


/* the nodes of the batch, or those of the ticket while there is one */

static void
llm_quota_asked_of(const llm_ledger_t *lg, const llm_quota_ask_t *ask,
    const llm_ledger_ticket_t *t, uint32_t *node)
{
    unsigned  k;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        node[k] = ask->name[k] != LLM_LEDGER_NONE
                  ? lg->batch.name[ask->name[k]].node : LLM_LEDGER_NONE;

        if (t != NULL) {
            node[k] = t->node[k];
        }
    }
}


/* the asker has gone, or was served alone: it belongs to the accounts */

static void
llm_quota_allowed(llm_ledger_t *lg, uint32_t *node,
    const llm_quota_ask_t *ask, const llm_now_t *now)
{
    unsigned      k;
    llm_quota_t  *q;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] != LLM_LEDGER_NONE) {
            q = &llm_ledger_node(lg, node[k])->quota;
            llm_quota_credit(q, &ask->need, 1, now->wall);
        }
    }
}


static void
llm_quota_deny(llm_ledger_t *lg, uint32_t node, const llm_amount_t *need,
    const llm_refusal_t *rf, const llm_now_t *now)
{
    llm_quota_t  *q;

    q = &llm_ledger_node(lg, node)->quota;

    q->denied = llm_quota_needed(need, rf->why);
    q->denied_at = now->ms;
    q->denied_until = now->ms + LLM_QUOTA_DENIED;

    if (rf->wait_ms >= 0 && rf->wait_ms < LLM_QUOTA_DENIED) {
        q->denied_until = now->ms + (uint64_t) rf->wait_ms;
    }

    q->refusal = *rf;
}


static void
llm_quota_close(llm_ledger_t *lg, llm_owners_t *wake, const llm_now_t *now)
{
    uint32_t            i, node;
    llm_quota_batch_t  *b;
    llm_ledger_node_t  *n;

    b = &lg->batch;

    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *(volatile uint64_t *) &b->seq = 0;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);

    for (i = 0; i < b->names; i++) {
        node = b->name[i].node;
        n = llm_ledger_node(lg, node);

        n->quota.batch = 0;

        if (llm_quota_due(lg, n)) {
            llm_quota_dirty(lg, node, 0);
        }

        if (n->concurrency != LLM_UNLIMITED) {
            llm_ledger_quota_slots(lg, node);
            llm_ledger_front(lg, node);
            llm_ledger_due(lg, node);
        }
    }

    llm_ledger_run(lg, now, wake);
}


static void
llm_quota_hint(llm_ledger_t *lg, uint32_t hash, const llm_now_t *now)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    for (i = *llm_ledger_head(lg, hash); i != LLM_LEDGER_NONE; i = n->chain) {
        n = llm_ledger_node(lg, i);

        if (n->hash == hash && n->concurrency != LLM_UNLIMITED) {
            n->quota.hinted = 1;
            n->quota.yield_until = now->ms + LLM_QUOTA_YIELD;
            llm_quota_dirty(lg, i, n->quota.starved);
        }
    }
}


/* a ticket that still waits for the store's answer, or NULL */

static llm_ledger_ticket_t *
llm_quota_asker(llm_ledger_t *lg, llm_ticket_t id)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    i = (uint32_t) (id & LLM_LEDGER_INDEX_MASK);

    if (i >= lg->tickets) {
        return NULL;
    }

    t = llm_ledger_ticket(lg, i);

    return t->id == id && t->state == LLM_TICKET_ASKING ? t : NULL;
}


static void
llm_quota_serve_alone(llm_ledger_t *lg, uint32_t i, const llm_now_t *now,
    llm_owners_t *wake)
{
    llm_ledger_begin(lg, llm_ledger_ticket(lg, i)->node, i);
    llm_quota_answer_alone(lg, i, now, wake);
    llm_ledger_commit(lg);
}


/*
 * Judges by what is known here; what is taken is a debt.  In LLM_QUOTA_LOCAL,
 * which comes after a store only when it is no longer configured, alike.
 */

static void
llm_quota_answer_alone(llm_ledger_t *lg, uint32_t i, const llm_now_t *now,
    llm_owners_t *wake)
{
    unsigned              k;
    llm_meter_t           m;
    llm_rates_t           part;
    llm_reading_t         rd;
    llm_refusal_t         rf;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    rd.index = 0;
    rd.refusal.why = LLM_WHY_NONE;
    rd.refusal.wait_ms = 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (t->node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        llm_ledger_quota_part(lg, n, &part);
        llm_meter_roll(&n->meter, &part, now);
        llm_ledger_quota_view(lg, n, now, &m);

        if (t->background) {
            llm_meter_check_background(&m, &part, &t->need, now, &rf);

        } else {
            llm_meter_check(&m, &part, &t->need, now, &rf);
        }

        if (rf.why != LLM_WHY_NONE
            && (rd.refusal.why == LLM_WHY_NONE
                || (rd.refusal.wait_ms != -1
                    && (rf.wait_ms == -1
                        || rf.wait_ms > rd.refusal.wait_ms))))
        {
            rd.refusal = rf;
            rd.index = k;
        }
    }

    if (rd.refusal.why != LLM_WHY_NONE) {
        llm_ledger_answer(lg, i, LLM_DECLINED, rd.index, &rd.refusal, now,
                          wake);
        return;
    }

    (void) llm_ledger_quota_draw(lg, t->node, &t->need, 1,
                                 (int) t->background, now, &rd);
    llm_ledger_answer(lg, i, LLM_OK, 0, &rd.refusal, now, wake);
}
