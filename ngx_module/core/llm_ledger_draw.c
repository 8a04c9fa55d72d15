
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's meters: taking and giving back, all or nothing.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


static int llm_ledger_weigh(llm_ledger_t *lg, const uint32_t *node,
    unsigned k, const llm_amount_t *need, llm_ledger_turn_t *turn,
    const llm_rates_t *rt, const llm_now_t *now, llm_refusal_t *rf);
static int llm_ledger_queued(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *need, const llm_ledger_turn_t *turn,
    const llm_now_t *now, llm_refusal_t *rf);
static void llm_ledger_worse(llm_reading_t *rd, const llm_refusal_t *rf,
    unsigned k);


void
llm_ledger_begin(llm_ledger_t *lg, const uint32_t *node, uint32_t ticket)
{
    uint32_t                 n;
    unsigned                 k;
    llm_ledger_undo_t       *u;
    const llm_ledger_node_t  *row;
    const llm_ledger_ticket_t  *t;

    u = &lg->undo;
    u->shared = lg->conf.mode != LLM_QUOTA_LOCAL;
    u->applied = lg->batch.applied;
    u->ticket = ticket;
    n = 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        row = llm_ledger_node(lg, node[k]);

        u->row[n].node = node[k];
        u->row[n].meter = row->meter;

        if (u->shared) {
            u->row[n].quota = row->quota;
        }

        n++;
    }

    if (ticket != LLM_LEDGER_NONE) {
        t = llm_ledger_ticket(lg, ticket);

        u->state = t->state;
        u->settled = t->settled;
        u->need = t->need;
        u->floor = t->floor;
        u->wall = t->wall;
    }

    llm_ledger_store(&u->n, n + 1);
}


void
llm_ledger_commit(llm_ledger_t *lg)
{
    llm_ledger_store(&lg->undo.n, 0);
}


void
llm_ledger_rollback(llm_ledger_t *lg)
{
    uint32_t              k;
    llm_ledger_node_t    *n;
    llm_ledger_undo_t    *u;
    llm_ledger_ticket_t  *t;

    u = &lg->undo;

    if (u->n == 0) {
        return;
    }

    for (k = 0; k < u->n - 1; k++) {
        n = llm_ledger_node(lg, u->row[k].node);
        n->meter = u->row[k].meter;

        if (u->shared) {
            n->quota = u->row[k].quota;
        }
    }

    lg->batch.applied = u->applied;

    if (u->ticket != LLM_LEDGER_NONE) {
        t = llm_ledger_ticket(lg, u->ticket);

        t->settled = u->settled;
        t->need = u->need;
        t->floor = u->floor;
        t->wall = u->wall;
        t->state = u->state;
    }

    llm_ledger_commit(lg);
}


int
llm_ledger_draw(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *need, llm_ledger_draw_e how, llm_ledger_turn_t *turn,
    const llm_now_t *now, llm_reading_t *rd)
{
    int                 rc, refused;
    unsigned            k;
    llm_rates_t         part;
    llm_refusal_t       rf;
    const llm_rates_t  *rt;

    if (need->requests <= 0 && need->tokens <= 0 && need->money <= 0) {
        return LLM_OK;
    }

    refused = 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        rt = llm_ledger_roll(lg, llm_ledger_node(lg, node[k]), now, &part);

        if (how != LLM_DRAW_FORCE
            && llm_ledger_weigh(lg, node, k, need, turn, rt, now, &rf))
        {
            llm_ledger_worse(rd, &rf, k);
            refused = 1;

            if (turn != NULL) {
                turn->blocked |= (uint32_t) 1 << k;
            }
        }
    }

    if (refused) {
        return LLM_DECLINED;
    }

    if (how == LLM_DRAW_CHECK) {
        return LLM_OK;
    }

    if (lg->conf.mode != LLM_QUOTA_LOCAL) {

        rc = llm_ledger_quota_draw(lg, node, need, how == LLM_DRAW_FORCE, now,
                                   rd);
        if (rc != LLM_OK) {

            if (rc == LLM_DECLINED && turn != NULL) {
                turn->blocked |= (uint32_t) 1 << rd->index;
            }

            return rc;
        }
    }

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] != LLM_LEDGER_NONE) {
            llm_meter_add(&llm_ledger_node(lg, node[k])->meter, need,
                          now->wall);
        }
    }

    return LLM_OK;
}


void
llm_ledger_refund(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *back, int64_t wall, const llm_now_t *now)
{
    unsigned            k;
    llm_rates_t         part;
    llm_amount_t        minus;
    llm_ledger_node_t  *n;

    minus.requests = -back->requests;
    minus.tokens = -back->tokens;
    minus.money = -back->money;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        (void) llm_ledger_roll(lg, n, now, &part);

        llm_meter_add(&n->meter, &minus, wall);

        if (lg->conf.mode != LLM_QUOTA_LOCAL) {
            llm_ledger_quota_refund(lg, node[k], back, wall, now);
        }
    }
}


const llm_rates_t *
llm_ledger_roll(llm_ledger_t *lg, llm_ledger_node_t *n, const llm_now_t *now,
    llm_rates_t *part)
{
    const llm_rates_t  *rt;

    rt = &n->rates;

    if (lg->conf.mode != LLM_QUOTA_LOCAL) {
        llm_ledger_quota_part(lg, n, part);
        rt = part;
    }

    llm_meter_roll(&n->meter, rt, now);

    return rt;
}


/* does this node refuse? */

static int
llm_ledger_weigh(llm_ledger_t *lg, const uint32_t *node, unsigned k,
    const llm_amount_t *need, llm_ledger_turn_t *turn, const llm_rates_t *rt,
    const llm_now_t *now, llm_refusal_t *rf)
{
    llm_meter_t         copy;
    llm_amount_t        ahead;
    const llm_meter_t  *m;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node[k]);

    if (lg->conf.mode == LLM_QUOTA_EXACT || lg->conf.mode == LLM_QUOTA_LEASED)
    {
        return turn != NULL
               && llm_ledger_queued(lg, node[k], need, turn, now, rf);
    }

    m = &n->meter;

    if (lg->conf.mode != LLM_QUOTA_LOCAL) {
        llm_ledger_quota_view(lg, n, now, &copy);
        m = &copy;
    }

    if (turn != NULL && llm_ledger_ahead(lg, node[k], turn, &ahead)) {

        if (m != &copy) {
            copy = *m;
            m = &copy;
        }

        llm_meter_add(&copy, &ahead, now->wall);
    }

    llm_meter_check(m, rt, need, now, rf);

    return rf->why != LLM_WHY_NONE;
}


/* the store is not asked by who would overtake somebody that it refused */

static int
llm_ledger_queued(llm_ledger_t *lg, uint32_t node, const llm_amount_t *need,
    const llm_ledger_turn_t *turn, const llm_now_t *now, llm_refusal_t *rf)
{
    const llm_ledger_ticket_t  *t;

    t = llm_ledger_behind(lg, node, need, turn);

    if (t == NULL) {
        return 0;
    }

    *rf = t->refusal;
    rf->wait_ms = t->until > now->ms ? (int64_t) (t->until - now->ms) : 1;

    return 1;
}


/* the longest wait is told, "never" is the longest */

static void
llm_ledger_worse(llm_reading_t *rd, const llm_refusal_t *rf, unsigned k)
{
    if (rd->refusal.why != LLM_WHY_NONE
        && (rd->refusal.wait_ms == -1
            || (rf->wait_ms != -1 && rf->wait_ms <= rd->refusal.wait_ms)))
    {
        return;
    }

    rd->refusal = *rf;
    rd->index = k;
}


void
llm_ledger_blank(llm_reading_t *rd)
{
    memset(rd, 0, sizeof(llm_reading_t));

    rd->verdict = LLM_OK;
    rd->tokens_left = INT64_MAX;
    rd->money_left = INT64_MAX;
}
