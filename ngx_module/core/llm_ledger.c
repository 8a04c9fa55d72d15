
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_ledger_private.h"

#include <string.h>


static void llm_ledger_adopt(llm_ledger_t *lg, uint32_t i,
    const llm_limit_t *limit);
static uint32_t llm_ledger_new_ticket(llm_ledger_t *lg);
static void llm_ledger_open(llm_ledger_t *lg, uint32_t i);


llm_ledger_t *
llm_ledger_create(void *mem, size_t size)
{
    size_t         rows;
    uint32_t       heads, i;
    llm_ledger_t  *lg;

    if (size < sizeof(llm_ledger_t)) {
        return NULL;
    }

    /* as many nodes as tickets, and at most one head for each */

    rows = (size - sizeof(llm_ledger_t))
           / (sizeof(llm_ledger_ticket_t) + sizeof(llm_ledger_node_t)
              + sizeof(uint32_t));

    if (rows < LLM_LEDGER_LIMITS) {
        return NULL;
    }

    if (rows > LLM_LEDGER_INDEX_MASK) {
        rows = LLM_LEDGER_INDEX_MASK;
    }

    for (heads = 1; heads <= rows / 2; heads *= 2) { /* void */ }

    lg = mem;

    memset(lg, 0, sizeof(llm_ledger_t)
                  + rows * (sizeof(llm_ledger_ticket_t)
                            + sizeof(llm_ledger_node_t)));

    lg->size = (uint32_t) rows;
    lg->mask = heads - 1;

    lg->offset[LLM_LEDGER_LINE] = sizeof(llm_ledger_t);
    lg->stride[LLM_LEDGER_LINE] = sizeof(llm_ledger_ticket_t);

    lg->offset[LLM_LEDGER_READY] = sizeof(llm_ledger_t)
                                   + offsetof(llm_ledger_ticket_t, ready);
    lg->stride[LLM_LEDGER_READY] = sizeof(llm_ledger_ticket_t);

    lg->offset[LLM_LEDGER_IDLE] = sizeof(llm_ledger_t)
                                  + rows * sizeof(llm_ledger_ticket_t);
    lg->stride[LLM_LEDGER_IDLE] = sizeof(llm_ledger_node_t);

    lg->heads = lg->offset[LLM_LEDGER_IDLE] + rows * sizeof(llm_ledger_node_t);

    for (i = 0; i < heads; i++) {
        *llm_ledger_head(lg, i) = LLM_LEDGER_NONE;
    }

    lg->free_node = LLM_LEDGER_NONE;
    lg->free_ticket = LLM_LEDGER_NONE;
    lg->todo = LLM_LEDGER_NONE;

    llm_ledger_list_reset(&lg->idle);

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        llm_ledger_list_reset(&lg->granted[i]);
    }

    return lg;
}


int
llm_ledger_enter(llm_ledger_t *lg, const llm_limits_t *ls, unsigned owner,
    void *data, int priority, unsigned queue, uint64_t now, llm_ticket_t *id,
    llm_reading_t *rd)
{
    uint32_t              i, k, node[LLM_LEDGER_LIMITS], state;
    llm_ledger_node_t    *key, *gate;
    llm_ledger_ticket_t  *t;

    *id = 0;
    rd->why = LLM_WHY_MEMORY;

    node[0] = LLM_LEDGER_NONE;
    node[1] = LLM_LEDGER_NONE;

    for (k = 0; k < ls->n; k++) {
        node[k] = llm_ledger_node_get(lg, ls->limit[k], now,
                                      k ? node[0] : LLM_LEDGER_NONE);
        if (node[k] == LLM_LEDGER_NONE) {
            return LLM_DECLINED;
        }
    }

    for (k = 0; k < ls->n; k++) {
        llm_ledger_adopt(lg, node[k], ls->limit[k]);
    }

    key = llm_ledger_node(lg, node[0]);
    gate = ls->n > 1 ? llm_ledger_node(lg, node[1]) : key;

    /* after a limit was raised there may be waiters although there is room */

    state = LLM_TICKET_WAITING;

    if (llm_ledger_room(key) && key->line.first == LLM_LEDGER_NONE
        && llm_ledger_room(gate) && gate->ready.first == LLM_LEDGER_NONE)
    {
        state = LLM_TICKET_HOLDING;

    } else if (key->waiting >= queue) {
        rd->why = LLM_WHY_QUEUE_FULL;
        return LLM_DECLINED;
    }

    i = llm_ledger_new_ticket(lg);
    if (i == LLM_LEDGER_NONE) {
        return LLM_DECLINED;
    }

    t = llm_ledger_ticket(lg, i);

    t->score = (int64_t) now + (int64_t) priority * LLM_LEDGER_AGING;
    t->seq = lg->seq++;
    t->id = (t->id & ~LLM_LEDGER_INDEX_MASK) + LLM_LEDGER_INDEX_MASK + 1 + i;
    t->data = data;
    t->node[0] = node[0];
    t->node[1] = node[1];
    t->owner = owner;

    llm_ledger_store(&t->state, state);

    llm_ledger_open(lg, i);

    rd->why = LLM_WHY_NONE;
    *id = t->id;

    return state == LLM_TICKET_HOLDING ? LLM_OK : LLM_AGAIN;
}


void
llm_ledger_leave(llm_ledger_t *lg, llm_ticket_t id, llm_owners_t *wake)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    i = (uint32_t) (id & LLM_LEDGER_INDEX_MASK);

    if (i >= lg->tickets) {
        return;
    }

    t = llm_ledger_ticket(lg, i);

    if (t->id != id || t->state == LLM_TICKET_FREE) {
        return;
    }

    llm_ledger_end(lg, i);
    llm_ledger_run(lg, wake);
}


void *
llm_ledger_granted(llm_ledger_t *lg, unsigned owner, llm_ticket_t *id)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    i = lg->granted[owner].first;

    if (i == LLM_LEDGER_NONE) {
        *id = 0;
        return NULL;
    }

    t = llm_ledger_ticket(lg, i);

    llm_ledger_store(&t->state, LLM_TICKET_HOLDING);
    llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->granted[owner], i);

    *id = t->id;

    return t->data;
}


void
llm_ledger_update(llm_ledger_t *lg, const llm_limit_t *limit,
    llm_owners_t *wake)
{
    uint32_t  i;

    i = llm_ledger_node_find(lg, limit);

    if (i != LLM_LEDGER_NONE) {
        llm_ledger_adopt(lg, i, limit);
    }

    llm_ledger_run(lg, wake);
}


int
llm_ledger_look(llm_ledger_t *lg, const llm_limit_t *limit, unsigned *held,
    unsigned *waiting)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    *held = 0;
    *waiting = 0;

    i = llm_ledger_node_find(lg, limit);
    if (i == LLM_LEDGER_NONE) {
        return LLM_DECLINED;
    }

    n = llm_ledger_node(lg, i);

    *held = n->held;
    *waiting = n->waiting;

    return LLM_OK;
}


void
llm_ledger_stat(llm_ledger_t *lg, llm_ledger_stat_t *st)
{
    st->tickets = lg->size;
    st->nodes = lg->size;
    st->tickets_used = (uint64_t) lg->held + lg->waiting;
    st->nodes_used = lg->nodes_used;
    st->held = lg->held;
    st->waiting = lg->waiting;
}


static void
llm_ledger_adopt(llm_ledger_t *lg, uint32_t i, const llm_limit_t *limit)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, i);

    if (n->concurrency == limit->concurrency) {
        return;
    }

    n->concurrency = limit->concurrency;

    /* as a key, and as a gate */

    llm_ledger_front(lg, i);
    llm_ledger_due(lg, i);
}


static uint32_t
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
        llm_ledger_store(&lg->tickets, i + 1);
        return i;
    }

    return LLM_LEDGER_NONE;
}


/* what follows from a new ticket */

static void
llm_ledger_open(llm_ledger_t *lg, uint32_t i)
{
    uint32_t              k;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (t->node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, t->node[k]);

        if (n->held == 0 && n->waiting == 0) {
            llm_ledger_list_remove(lg, LLM_LEDGER_IDLE, &lg->idle,
                                   t->node[k]);
        }

        if (t->state == LLM_TICKET_WAITING) {
            n->waiting++;

        } else {
            n->held++;
        }
    }

    if (t->state == LLM_TICKET_HOLDING) {
        lg->held++;
        return;
    }

    lg->waiting++;

    n = llm_ledger_node(lg, t->node[0]);

    llm_ledger_list_insert(lg, LLM_LEDGER_LINE, &n->line, i);
    llm_ledger_front(lg, t->node[0]);
}
