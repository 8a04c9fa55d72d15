
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's lines: who goes next, and the end of a ticket.
 */


#include "core/llm_ledger_private.h"


static void llm_ledger_grant(llm_ledger_t *lg, uint32_t i,
    llm_owners_t *wake);
static void llm_ledger_unline(llm_ledger_t *lg, uint32_t i);


void
llm_ledger_front(llm_ledger_t *lg, uint32_t key)
{
    uint32_t            first, gate;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, key);

    first = llm_ledger_room(n) ? n->line.first : LLM_LEDGER_NONE;

    if (first == n->front) {
        return;
    }

    if (n->front != LLM_LEDGER_NONE) {
        gate = llm_ledger_gate(llm_ledger_ticket(lg, n->front));
        llm_ledger_list_remove(lg, LLM_LEDGER_READY,
                               &llm_ledger_node(lg, gate)->ready, n->front);
    }

    n->front = first;

    if (first != LLM_LEDGER_NONE) {
        gate = llm_ledger_gate(llm_ledger_ticket(lg, first));
        llm_ledger_list_insert(lg, LLM_LEDGER_READY,
                               &llm_ledger_node(lg, gate)->ready, first);
        llm_ledger_due(lg, gate);
    }
}


void
llm_ledger_due(llm_ledger_t *lg, uint32_t gate)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, gate);

    if (n->due || n->ready.first == LLM_LEDGER_NONE || !llm_ledger_room(n)) {
        return;
    }

    n->due = 1;
    n->todo = lg->todo;
    lg->todo = gate;
}


void
llm_ledger_run(llm_ledger_t *lg, llm_owners_t *wake)
{
    llm_ledger_node_t  *n;

    while (lg->todo != LLM_LEDGER_NONE) {

        n = llm_ledger_node(lg, lg->todo);

        if (n->ready.first == LLM_LEDGER_NONE || !llm_ledger_room(n)) {
            lg->todo = n->todo;
            n->due = 0;
            continue;
        }

        /* this may put another gate in front: a key's waiters of two teams */

        llm_ledger_grant(lg, n->ready.first, wake);
    }
}


static void
llm_ledger_grant(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake)
{
    uint32_t              k;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    llm_ledger_store(&t->state, LLM_TICKET_GRANTED);

    llm_ledger_unline(lg, i);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
        if (t->node[k] != LLM_LEDGER_NONE) {
            n = llm_ledger_node(lg, t->node[k]);
            n->waiting--;
            n->held++;
        }
    }

    lg->waiting--;
    lg->held++;

    llm_ledger_list_append(lg, LLM_LEDGER_LINE, &lg->granted[t->owner], i);
    llm_ledger_wake(wake, t->owner);

    llm_ledger_front(lg, t->node[0]);
}


void
llm_ledger_end(llm_ledger_t *lg, uint32_t i)
{
    uint32_t              k, state;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);
    state = t->state;

    llm_ledger_store(&t->state, LLM_TICKET_FREE);

    if (state == LLM_TICKET_WAITING) {
        llm_ledger_unline(lg, i);
        lg->waiting--;

    } else {
        lg->held--;
    }

    if (state == LLM_TICKET_GRANTED) {
        llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->granted[t->owner],
                               i);
    }

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (t->node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        if (state == LLM_TICKET_WAITING) {
            n->waiting--;

        } else {
            n->held--;
        }

        if (n->held == 0 && n->waiting == 0) {
            n->seq = lg->seq++;
            llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle,
                                   t->node[k]);
        }
    }

    llm_ledger_front(lg, t->node[0]);
    llm_ledger_due(lg, llm_ledger_gate(t));

    llm_ledger_free_ticket(lg, i);
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


void
llm_ledger_wake(llm_owners_t *wake, unsigned owner)
{
    wake->bits[owner / 64] |= (uint64_t) 1 << (owner % 64);
}


/* takes a waiter out of its line and, if it is there, of the ready one */

static void
llm_ledger_unline(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_node_t    *key, *gate;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);
    key = llm_ledger_node(lg, t->node[0]);

    if (key->front == i) {
        gate = llm_ledger_node(lg, llm_ledger_gate(t));
        llm_ledger_list_remove(lg, LLM_LEDGER_READY, &gate->ready, i);
        key->front = LLM_LEDGER_NONE;
    }

    llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &key->line, i);
}
