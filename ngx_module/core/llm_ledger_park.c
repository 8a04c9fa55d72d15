
/*
 * Copyright (C) the ngx-llm authors
 *
 * Tickets that wait for rates.  Each stands, in order of arrival, in the list
 * of every limit that refuses it, and of no other: a key's own limits do not
 * hinder others of its team.  Who comes later finds these needs before its
 * own, so that waits end in order of arrival.
 */


#include "core/llm_ledger_private.h"


static void llm_ledger_park_move(llm_ledger_t *lg, uint32_t i, int sign);
static void llm_ledger_park_add(llm_amount_t *sum, const llm_amount_t *need,
    int sign);
static int llm_ledger_park_before(const llm_ledger_ticket_t *t,
    const llm_ledger_turn_t *turn);


void
llm_ledger_park(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_park_move(lg, i, 1);
}


void
llm_ledger_unpark(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_park_move(lg, i, -1);
}


/* into the lists of all limits that refuse it, or out of them */

static void
llm_ledger_park_move(llm_ledger_t *lg, uint32_t i, int sign)
{
    unsigned              k;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (!(t->blocked & ((uint32_t) 1 << k))) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        if (sign > 0) {
            llm_ledger_list_insert(lg, LLM_LEDGER_AHEAD + k, &n->ahead[k], i);

        } else {
            llm_ledger_list_remove(lg, LLM_LEDGER_AHEAD + k, &n->ahead[k], i);
        }

        llm_ledger_park_add(&n->parked, &t->need, sign);
    }
}


int
llm_ledger_ahead(llm_ledger_t *lg, uint32_t node,
    const llm_ledger_turn_t *turn, llm_amount_t *sum)
{
    uint32_t              i;
    unsigned              k;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    n = llm_ledger_node(lg, node);

    if (n->ahead[0].first == LLM_LEDGER_NONE
        && n->ahead[1].first == LLM_LEDGER_NONE)
    {
        return 0;
    }

    /* mostly all of them, or, of one whose time has come, none */

    *sum = n->parked;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        i = n->ahead[k].first;

        if (i == LLM_LEDGER_NONE) {
            continue;
        }

        if (!llm_ledger_park_before(llm_ledger_ticket(lg, i), turn)
            && n->ahead[k ^ 1].first == LLM_LEDGER_NONE)
        {
            return 0;
        }

        for (i = n->ahead[k].last;
             i != LLM_LEDGER_NONE;
             i = llm_ledger_link(lg, LLM_LEDGER_AHEAD + k, i)->prev)
        {
            t = llm_ledger_ticket(lg, i);

            if (llm_ledger_park_before(t, turn)) {
                break;
            }

            llm_ledger_park_add(sum, &t->need, -1);
        }
    }

    return 1;
}


const llm_ledger_ticket_t *
llm_ledger_behind(llm_ledger_t *lg, uint32_t node, const llm_amount_t *need,
    const llm_ledger_turn_t *turn)
{
    uint32_t              i;
    unsigned              k;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    n = llm_ledger_node(lg, node);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        for (i = n->ahead[k].last;
             i != LLM_LEDGER_NONE;
             i = llm_ledger_link(lg, LLM_LEDGER_AHEAD + k, i)->prev)
        {
            t = llm_ledger_ticket(lg, i);

            if (llm_ledger_park_before(t, turn)
                && ((need->requests > 0 && t->need.requests > 0)
                    || (need->tokens > 0 && t->need.tokens > 0)
                    || (need->money > 0 && t->need.money > 0)))
            {
                return t;
            }
        }
    }

    return NULL;
}


/* needs are bounded, so that all of them together do not overflow */

static void
llm_ledger_park_add(llm_amount_t *sum, const llm_amount_t *need, int sign)
{
    if (sign > 0) {
        sum->requests += need->requests;
        sum->tokens += need->tokens;
        sum->money += need->money;
        return;
    }

    sum->requests -= need->requests;
    sum->tokens -= need->tokens;
    sum->money -= need->money;
}


static int
llm_ledger_park_before(const llm_ledger_ticket_t *t,
    const llm_ledger_turn_t *turn)
{
    if (t->score != turn->score) {
        return t->score < turn->score;
    }

    return t->seq < turn->seq;
}
