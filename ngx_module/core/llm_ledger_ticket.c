
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's tickets: rows, and what follows when one changes its state.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


uint32_t
llm_ledger_new_ticket(llm_ledger_t *lg)
{
    uint32_t  i;

    i = lg->free_ticket;

    if (i != LLM_LEDGER_NONE) {
        lg->free_ticket = llm_ledger_ticket(lg, i)->line.next;
        return i;
    }

    if (lg->tickets < lg->size) {
        i = lg->tickets;
        memset(llm_ledger_ticket(lg, i), 0, sizeof(llm_ledger_ticket_t));
        llm_ledger_store(&lg->tickets, i + 1);
        return i;
    }

    return LLM_LEDGER_NONE;
}


void
llm_ledger_free_ticket(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    /* a row that has no number left is not used again */

    if (t->id >= LLM_LEDGER_ID_LAST) {
        return;
    }

    t->line.next = lg->free_ticket;
    lg->free_ticket = i;
}


uint32_t
llm_ledger_ticket_find(llm_ledger_t *lg, llm_ticket_t id)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    i = (uint32_t) (id & LLM_LEDGER_INDEX_MASK);

    if (i >= lg->tickets) {
        return LLM_LEDGER_NONE;
    }

    t = llm_ledger_ticket(lg, i);

    return t->id == id && t->state != LLM_TICKET_FREE ? i : LLM_LEDGER_NONE;
}


void
llm_ledger_shift(llm_ledger_t *lg, uint32_t i, uint32_t from)
{
    int                   slots;
    unsigned              k;
    uint32_t              held, waiting, tickets;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    /* differences: of 1 or, in unsigned numbers, of -1 */

    held = (uint32_t) llm_ledger_holds(t, t->state)
           - (uint32_t) llm_ledger_holds(t, from);
    waiting = (uint32_t) llm_ledger_waits(t->state)
              - (uint32_t) llm_ledger_waits(from);
    tickets = (uint32_t) (t->state != LLM_TICKET_FREE)
              - (uint32_t) (from != LLM_TICKET_FREE);

    lg->held += held;
    lg->waiting += waiting;
    lg->tickets_used += tickets;

    slots = lg->conf.mode != LLM_QUOTA_LOCAL && (held | waiting) != 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (t->node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        if (n->tickets == 0) {
            llm_ledger_list_remove(lg, LLM_LEDGER_IDLE, &lg->idle,
                                   t->node[k]);
        }

        n->held += held;
        n->waiting += waiting;
        n->tickets += tickets;

        if (n->tickets == 0) {
            n->seq = lg->seq++;
            llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle,
                                   t->node[k]);
        }

        if (slots && n->concurrency != LLM_UNLIMITED) {
            llm_ledger_quota_slots(lg, t->node[k]);
        }
    }
}


void
llm_ledger_open(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    llm_ledger_shift(lg, i, LLM_TICKET_FREE);

    switch (t->state) {

    case LLM_TICKET_WAITING:
        llm_ledger_line(lg, i);
        break;

    case LLM_TICKET_PARKED:
        llm_ledger_park(lg, i);
        break;

    case LLM_TICKET_ASKING:
        llm_ledger_list_append(lg, LLM_LEDGER_LINE, &lg->asking, i);
        llm_ledger_serve(lg, t);
        break;

    default:
        llm_ledger_serve(lg, t);
    }
}


void
llm_ledger_end(llm_ledger_t *lg, uint32_t i, const llm_amount_t *back,
    const llm_now_t *now)
{
    uint32_t              state;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);
    state = t->state;

    if (back != NULL) {
        llm_ledger_begin(lg, t->node, i);
        llm_ledger_refund(lg, t->node, back, t->wall, now);
    }

    llm_ledger_store(&t->state, LLM_TICKET_FREE);

    if (back != NULL) {
        llm_ledger_commit(lg);
    }

    switch (state) {

    case LLM_TICKET_WAITING:
        llm_ledger_unline(lg, i);
        break;

    case LLM_TICKET_PARKED:
        llm_ledger_unpark(lg, i);

        if (!t->notice) {
            break;
        }

        /* fall through */

    case LLM_TICKET_GRANTED:
    case LLM_TICKET_REFUSED:
        llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->granted[t->owner],
                               i);
        break;

    case LLM_TICKET_ASKING:
        if (!llm_ledger_quota_asked(lg, t->id)) {
            llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->asking, i);
        }

        break;

    default:
        break;
    }

    llm_ledger_shift(lg, i, state);

    llm_ledger_front(lg, t->node[0]);
    llm_ledger_due(lg, llm_ledger_gate(t));

    llm_ledger_free_ticket(lg, i);
}


void
llm_ledger_refuse(llm_ledger_ticket_t *t, const llm_refusal_t *refusal,
    unsigned index, uint32_t blocked, const llm_now_t *now)
{
    t->refusal = *refusal;
    t->refused_by = index;

    if (t->park && refusal->wait_ms > 0) {
        t->until = now->ms + (uint64_t) refusal->wait_ms;
        t->blocked = blocked;
        t->notice = 1;

        llm_ledger_store(&t->state, LLM_TICKET_PARKED);
        return;
    }

    llm_ledger_store(&t->state, LLM_TICKET_REFUSED);
}


void
llm_ledger_answer(llm_ledger_t *lg, uint32_t i, int verdict, unsigned index,
    const llm_refusal_t *refusal, const llm_now_t *now, llm_owners_t *wake)
{
    unsigned              k;
    llm_rates_t           part;
    llm_period_t          p;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    if (verdict == LLM_OK) {
        p = llm_meter_period(now->wall);

        for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

            if (t->node[k] != LLM_LEDGER_NONE) {
                n = llm_ledger_node(lg, t->node[k]);
                (void) llm_ledger_roll(lg, n, now, p, &part);
                llm_meter_charge(&n->meter, &t->need, p);
            }
        }

        t->wall = now->wall;
        llm_ledger_store(&t->state, LLM_TICKET_GRANTED);

    } else {

        if (t->node[index] == LLM_LEDGER_NONE) {
            index = 0;
        }

        llm_ledger_refuse(t, refusal, index, (uint32_t) 1 << index, now);
    }

    lg->now = *now;

    llm_ledger_shift(lg, i, LLM_TICKET_ASKING);
    llm_ledger_place(lg, i, wake);

    /* the refused one's slot is free */

    llm_ledger_front(lg, t->node[0]);
    llm_ledger_due(lg, llm_ledger_gate(t));
}
