
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's meters: taking and giving back, all or nothing.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


static inline void llm_ledger_copy_quota(llm_quota_t *to,
    const llm_quota_t *from);
static int llm_ledger_weigh(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *need, llm_ledger_turn_t *turn,
    const llm_rates_t *rt, const llm_now_t *now, llm_period_t p,
    llm_refusal_t *rf);
static int llm_ledger_queued(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *need, const llm_ledger_turn_t *turn,
    const llm_now_t *now, llm_refusal_t *rf);


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
            llm_ledger_copy_quota(&u->row[n].quota, &row->quota);
        }

        n++;
    }

    if (ticket != LLM_LEDGER_NONE) {
        t = llm_ledger_ticket(lg, ticket);

        u->state = t->state;
        u->need = t->need;
        u->floor = t->floor;
        u->wall = t->wall;
    }

    llm_ledger_store(&u->n, n + 1);
}


/* in two parts: of so much at once the compiler makes a slow "rep movs" */

static inline void
llm_ledger_copy_quota(llm_quota_t *to, const llm_quota_t *from)
{
    const size_t  half = offsetof(llm_quota_t, fleet_day);

    memcpy(to, from, half);
    memcpy((unsigned char *) to + half, (const unsigned char *) from + half,
           sizeof(llm_quota_t) - half);
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
            llm_ledger_copy_quota(&n->quota, &u->row[k].quota);
        }
    }

    lg->batch.applied = u->applied;

    if (u->ticket != LLM_LEDGER_NONE) {
        t = llm_ledger_ticket(lg, u->ticket);

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
    llm_period_t        p;
    llm_refusal_t       rf;
    const llm_rates_t  *rt;

    if (need->requests <= 0 && need->tokens <= 0 && need->money <= 0) {
        return LLM_OK;
    }

    refused = 0;
    p = llm_meter_period(now->wall);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        rt = llm_ledger_roll(lg, llm_ledger_node(lg, node[k]), now, p,
                             &part);

        if (how != LLM_DRAW_FORCE
            && llm_ledger_weigh(lg, node[k], need, turn, rt, now, p, &rf))
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

        rc = llm_ledger_quota_draw(lg, node, need, how == LLM_DRAW_FORCE,
                                   turn != NULL && turn->background, now, rd);
        if (rc != LLM_OK) {

            if (rc == LLM_DECLINED && turn != NULL) {
                turn->blocked |= (uint32_t) 1 << rd->index;
            }

            return rc;
        }
    }

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] != LLM_LEDGER_NONE) {
            llm_meter_charge(&llm_ledger_node(lg, node[k])->meter, need, p);
        }
    }

    return LLM_OK;
}


int
llm_ledger_turn(llm_ledger_t *lg, uint32_t i, llm_ledger_draw_e how,
    const llm_now_t *now)
{
    int                   rc;
    llm_reading_t         rd;
    llm_ledger_turn_t     turn;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    turn.score = t->score;
    turn.seq = t->seq;
    turn.blocked = 0;
    turn.background = 0;

    llm_ledger_blank(&rd);
    llm_ledger_begin(lg, t->node, i);

    rc = llm_ledger_draw(lg, t->node, &t->need, how, &turn, now, &rd);

    if (rc == LLM_DECLINED) {
        llm_ledger_refuse(t, &rd.refusal, rd.index, turn.blocked, now);
    }

    return rc;
}


void
llm_ledger_refund(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *back, int64_t wall, const llm_now_t *now)
{
    unsigned            k;
    llm_rates_t         part;
    llm_period_t        p, then;
    llm_amount_t        minus;
    llm_ledger_node_t  *n;

    p = llm_meter_period(now->wall);
    then = wall == now->wall ? p : llm_meter_period(wall);

    minus.requests = -back->requests;
    minus.tokens = -back->tokens;
    minus.money = -back->money;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        (void) llm_ledger_roll(lg, n, now, p, &part);

        llm_meter_charge(&n->meter, &minus, then);

        if (lg->conf.mode != LLM_QUOTA_LOCAL) {
            llm_ledger_quota_refund(lg, node[k], back, wall, now);
        }
    }
}


/* does this node refuse? */

static int
llm_ledger_weigh(llm_ledger_t *lg, uint32_t node, const llm_amount_t *need,
    llm_ledger_turn_t *turn, const llm_rates_t *rt, const llm_now_t *now,
    llm_period_t p, llm_refusal_t *rf)
{
    llm_meter_t         copy;
    llm_amount_t        ahead;
    const llm_meter_t  *m;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, node);

    if (lg->conf.mode == LLM_QUOTA_EXACT || lg->conf.mode == LLM_QUOTA_LEASED)
    {
        return turn != NULL
               && llm_ledger_queued(lg, node, need, turn, now, rf);
    }

    m = &n->meter;

    if (lg->conf.mode != LLM_QUOTA_LOCAL) {
        llm_ledger_quota_view(lg, n, now, &copy);
        m = &copy;
    }

    if (turn != NULL && llm_ledger_ahead(lg, node, turn, &ahead)) {

        if (m != &copy) {
            copy = *m;
            m = &copy;
        }

        llm_meter_charge(&copy, &ahead, p);
    }

    if (turn != NULL && turn->background) {
        llm_meter_check_background(m, rt, need, now, rf);
        return rf->why != LLM_WHY_NONE;
    }

    if (llm_meter_fits(m, rt, need, p)) {
        return 0;
    }

    llm_meter_check(m, rt, need, now, rf);

    return 1;
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


void
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
