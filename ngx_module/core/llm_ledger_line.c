
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's lines: who goes next.
 */


#include "core/llm_ledger_private.h"


/* what a flow of weight 1 takes of a fair gate's round for one request */

#define LLM_LEDGER_SCALE  ((uint64_t) 1 << 20)


static void llm_ledger_grant(llm_ledger_t *lg, uint32_t i,
    const llm_now_t *now, llm_owners_t *wake);
static void llm_ledger_rank(llm_ledger_t *lg, llm_ledger_ticket_t *t);
static uint64_t llm_ledger_start(llm_ledger_node_t *flow,
    const llm_ledger_node_t *gate);


void
llm_ledger_front(llm_ledger_t *lg, uint32_t key)
{
    uint32_t              first, gate;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    n = llm_ledger_node(lg, key);

    first = n->line.first;

    if (first != LLM_LEDGER_NONE && !llm_ledger_room(lg, n)) {
        first = LLM_LEDGER_NONE;
    }

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
        t = llm_ledger_ticket(lg, first);
        gate = llm_ledger_gate(t);

        llm_ledger_rank(lg, t);
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

    if (n->due || n->ready.first == LLM_LEDGER_NONE
        || !llm_ledger_room(lg, n))
    {
        return;
    }

    n->due = 1;
    n->todo = lg->todo;
    lg->todo = gate;
}


void
llm_ledger_run(llm_ledger_t *lg, const llm_now_t *now, llm_owners_t *wake)
{
    llm_ledger_node_t  *n;

    while (lg->todo != LLM_LEDGER_NONE) {

        n = llm_ledger_node(lg, lg->todo);

        if (n->ready.first == LLM_LEDGER_NONE || !llm_ledger_room(lg, n)) {
            lg->todo = n->todo;
            n->due = 0;
            continue;
        }

        /* this may put another gate in front: a key's waiters of two teams */

        llm_ledger_grant(lg, n->ready.first, now, wake);
    }
}


/* its turn has come: it is granted, asks the store, or is refused */

static void
llm_ledger_grant(llm_ledger_t *lg, uint32_t i, const llm_now_t *now,
    llm_owners_t *wake)
{
    int                   rc;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    rc = llm_ledger_turn(lg, i, LLM_DRAW_TAKE, now);

    if (rc != LLM_DECLINED) {
        t->wall = now->wall;
        llm_ledger_store(&t->state, rc == LLM_OK ? LLM_TICKET_GRANTED
                                                 : LLM_TICKET_ASKING);
    }

    llm_ledger_commit(lg);

    lg->now = *now;

    if (rc != LLM_DECLINED) {
        llm_ledger_serve(lg, t);
    }

    llm_ledger_unline(lg, i);
    llm_ledger_shift(lg, i, LLM_TICKET_WAITING);
    llm_ledger_place(lg, i, wake);

    llm_ledger_front(lg, t->node[0]);
}


void
llm_ledger_place(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake)
{
    switch (llm_ledger_ticket(lg, i)->state) {

    case LLM_TICKET_WAITING:
        llm_ledger_line(lg, i);
        return;

    case LLM_TICKET_ASKING:
        llm_ledger_list_append(lg, LLM_LEDGER_LINE, &lg->asking, i);
        return;

    case LLM_TICKET_PARKED:
        llm_ledger_park(lg, i);
        break;

    default:
        break;
    }

    llm_ledger_hand(lg, i, wake);
}


void
llm_ledger_hand(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake)
{
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    llm_ledger_list_append(lg, LLM_LEDGER_LINE, &lg->granted[t->owner], i);
    llm_ledger_wake(wake, t->owner);
}


void
llm_ledger_wake(llm_owners_t *wake, unsigned owner)
{
    wake->bits[owner / 64] |= (uint64_t) 1 << (owner % 64);
}


void
llm_ledger_line(llm_ledger_t *lg, uint32_t i)
{
    uint32_t  key;

    key = llm_ledger_ticket(lg, i)->node[0];

    llm_ledger_list_insert(lg, LLM_LEDGER_LINE,
                           &llm_ledger_node(lg, key)->line, i);
    llm_ledger_front(lg, key);
}


/* out of its line and, if it is there, of the ready one */

void
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

    if (key->line.first == LLM_LEDGER_NONE) {
        key->start = 0;
    }
}


void
llm_ledger_regate(llm_ledger_t *lg, uint32_t gate)
{
    uint32_t              i, next;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    n = llm_ledger_node(lg, gate);
    i = n->ready.first;

    llm_ledger_list_reset(&n->ready);

    for ( /* void */ ; i != LLM_LEDGER_NONE; i = next) {
        t = llm_ledger_ticket(lg, i);
        next = t->ready.next;

        llm_ledger_rank(lg, t);
        llm_ledger_list_insert(lg, LLM_LEDGER_READY, &n->ready, i);
    }
}


void
llm_ledger_serve(llm_ledger_t *lg, const llm_ledger_ticket_t *t)
{
    uint64_t            start;
    llm_ledger_node_t  *flow, *gate;

    /* nobody of its flow pays for what runs in the background */

    if (!t->slot || t->node[1] == LLM_LEDGER_NONE || t->background) {
        return;
    }

    gate = llm_ledger_node(lg, t->node[1]);

    if (!gate->fair) {
        return;
    }

    flow = llm_ledger_node(lg, t->node[0]);
    start = llm_ledger_start(flow, gate);

    if (start > gate->round) {
        gate->round = start;
    }

    flow->finish = start + LLM_LEDGER_SCALE / flow->weight;
    flow->start = 0;
}


static void
llm_ledger_rank(llm_ledger_t *lg, llm_ledger_ticket_t *t)
{
    llm_ledger_node_t  *flow, *gate;

    t->rank = t->score;

    if (t->node[1] == LLM_LEDGER_NONE) {
        return;
    }

    gate = llm_ledger_node(lg, t->node[1]);

    if (gate->fair) {
        flow = llm_ledger_node(lg, t->node[0]);
        flow->start = llm_ledger_start(flow, gate);
        t->rank = (int64_t) flow->start;
    }
}


/*
 * A flow that stands in line keeps its start, whoever of it is first.  A
 * number from another gate, or from before a death, is at most one request
 * ahead.
 */

static uint64_t
llm_ledger_start(llm_ledger_node_t *flow, const llm_ledger_node_t *gate)
{
    uint64_t  start;

    start = flow->start;

    if (start == 0) {
        start = flow->finish > gate->round ? flow->finish : gate->round;
    }

    if (start > gate->round + LLM_LEDGER_SCALE) {
        start = gate->round + LLM_LEDGER_SCALE;
    }

    return start;
}
