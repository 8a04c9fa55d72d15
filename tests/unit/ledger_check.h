
/*
 * Copyright (C) the ngx-llm authors
 *
 * What must hold of every ledger between two operations, worked out from its
 * two tables in the simplest way.
 */


#ifndef _LEDGER_CHECK_H_INCLUDED_
#define _LEDGER_CHECK_H_INCLUDED_


#include "core/llm_ledger_private.h"

#include <stdlib.h>


#define CHECK(c)  if (!(c)) return #c


static const char *
ledger_check_list(llm_ledger_t *lg, llm_ledger_kind_e kind,
    const llm_ledger_list_t *list, unsigned *n)
{
    uint32_t            i, prev;
    llm_ledger_link_t  *link;

    prev = LLM_LEDGER_NONE;

    for (i = list->first; i != LLM_LEDGER_NONE; i = link->next) {
        CHECK(i < (kind == LLM_LEDGER_IDLE ? lg->nodes : lg->tickets));
        link = llm_ledger_link(lg, kind, i);
        CHECK(link->prev == prev);
        prev = i;
        CHECK(++*n <= lg->size);
    }

    CHECK(list->last == prev);

    return NULL;
}


static const char *
ledger_check_line(llm_ledger_t *lg, llm_ledger_kind_e kind,
    const llm_ledger_list_t *list, uint32_t node, unsigned *n)
{
    uint32_t              i, next;
    const char           *e;
    llm_ledger_ticket_t  *t, *u;

    e = ledger_check_list(lg, kind, list, n);
    if (e != NULL) {
        return e;
    }

    for (i = list->first; i != LLM_LEDGER_NONE; i = next) {
        t = llm_ledger_ticket(lg, i);
        next = llm_ledger_link(lg, kind, i)->next;

        if (kind >= LLM_LEDGER_AHEAD) {
            CHECK(t->state == LLM_TICKET_PARKED);
            CHECK(t->node[kind - LLM_LEDGER_AHEAD] == node);
            CHECK(t->blocked & (1 << (kind - LLM_LEDGER_AHEAD)));

        } else {
            CHECK(t->state == LLM_TICKET_WAITING);
        }

        if (kind >= LLM_LEDGER_AHEAD) {
            /* void */

        } else if (kind == LLM_LEDGER_LINE) {
            CHECK(t->node[0] == node);

        } else {
            CHECK(llm_ledger_gate(t) == node);
            CHECK(llm_ledger_node(lg, t->node[0])->front == i);
        }

        if (next != LLM_LEDGER_NONE) {
            u = llm_ledger_ticket(lg, next);

            if (kind == LLM_LEDGER_READY) {
                CHECK(t->rank < u->rank
                      || (t->rank == u->rank && t->seq < u->seq));
                continue;
            }

            CHECK(t->score < u->score
                  || (t->score == u->score && t->seq < u->seq));
        }
    }

    return NULL;
}


/* what is parked at a node, and the sum of it */

static const char *
ledger_check_parked(llm_ledger_t *lg, uint32_t i)
{
    uint32_t              j, k;
    unsigned              n[LLM_LEDGER_LIMITS], right;
    const char           *e;
    llm_amount_t          sum;
    llm_ledger_node_t    *node;
    llm_ledger_ticket_t  *t;

    node = llm_ledger_node(lg, i);
    sum = node->parked;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
        n[k] = 0;
        right = 0;

        e = ledger_check_line(lg, LLM_LEDGER_AHEAD + k, &node->ahead[k], i,
                              &n[k]);
        if (e != NULL) {
            return e;
        }

        for (j = 0; j < lg->tickets; j++) {
            t = llm_ledger_ticket(lg, j);

            if (t->state == LLM_TICKET_PARKED && t->node[k] == i
                && (t->blocked & (1 << k)))
            {
                right++;
                sum.requests -= t->need.requests;
                sum.tokens -= t->need.tokens;
                sum.money -= t->need.money;
            }
        }

        CHECK(n[k] == right);
    }

    CHECK(sum.requests == 0 && sum.tokens == 0 && sum.money == 0);

    return NULL;
}


static const char *
ledger_check_node(llm_ledger_t *lg, uint32_t i, unsigned *lined,
    unsigned *fronts, unsigned *ready)
{
    uint32_t              j, k, held, waiting, tickets, found;
    const char           *e;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    n = llm_ledger_node(lg, i);
    held = 0;
    waiting = 0;
    tickets = 0;
    found = 0;

    for (j = 0; j < lg->tickets; j++) {
        t = llm_ledger_ticket(lg, j);

        for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
            if (t->state != LLM_TICKET_FREE && t->node[k] == i) {
                tickets++;
                waiting += t->state == LLM_TICKET_WAITING
                           || t->state == LLM_TICKET_PARKED;
                held += t->slot && (t->state == LLM_TICKET_HOLDING
                                    || t->state == LLM_TICKET_GRANTED
                                    || t->state == LLM_TICKET_ASKING);
            }
        }
    }

    CHECK(n->held == held);
    CHECK(n->waiting == waiting);
    CHECK(n->tickets == tickets);

    k = 0;

    for (j = *llm_ledger_head(lg, n->hash);
         j != LLM_LEDGER_NONE;
         j = llm_ledger_node(lg, j)->chain)
    {
        CHECK(llm_ledger_node(lg, j)->used);
        CHECK(k++ < lg->size);
        found += j == i;
    }

    CHECK(found == 1);

    CHECK(n->front == (llm_ledger_room(lg, n) ? n->line.first
                                              : LLM_LEDGER_NONE));
    *fronts += n->front != LLM_LEDGER_NONE;

    e = ledger_check_line(lg, LLM_LEDGER_LINE, &n->line, i, lined);

    if (e == NULL) {
        e = ledger_check_line(lg, LLM_LEDGER_READY, &n->ready, i, ready);
    }

    if (e == NULL) {
        e = ledger_check_parked(lg, i);
    }

    return e;
}


static const char *
ledger_check_rows(llm_ledger_t *lg)
{
    uint32_t              i, k, held, waiting, used;
    llm_ledger_ticket_t  *t;

    held = 0;
    waiting = 0;
    used = 0;

    CHECK(lg->undo.n == 0);

    for (i = 0; i < lg->tickets; i++) {
        t = llm_ledger_ticket(lg, i);

        CHECK(t->state <= LLM_TICKET_HOLDING);

        if (t->state == LLM_TICKET_FREE) {
            continue;
        }

        used++;
        waiting += t->state == LLM_TICKET_WAITING
                   || t->state == LLM_TICKET_PARKED;
        held += t->slot && (t->state == LLM_TICKET_HOLDING
                            || t->state == LLM_TICKET_GRANTED
                            || t->state == LLM_TICKET_ASKING);

        CHECK((t->id & LLM_LEDGER_INDEX_MASK) == i);
        CHECK(t->id > LLM_LEDGER_INDEX_MASK);
        CHECK(t->owner < LLM_LEDGER_OWNERS);
        CHECK(t->seq < lg->seq);
        CHECK(t->node[0] < lg->nodes);

        for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
            CHECK(t->node[k] == LLM_LEDGER_NONE
                  || llm_ledger_node(lg, t->node[k])->used == 1);
        }
    }

    CHECK(lg->held == held);
    CHECK(lg->waiting == waiting);
    CHECK(lg->tickets_used == used);

    k = 0;

    for (i = lg->free_ticket;
         i != LLM_LEDGER_NONE;
         i = llm_ledger_ticket(lg, i)->line.next)
    {
        CHECK(i < lg->tickets);
        CHECK(llm_ledger_ticket(lg, i)->state == LLM_TICKET_FREE);
        CHECK(k++ < lg->tickets);
    }

    CHECK(k + used == lg->tickets);

    k = 0;

    for (i = lg->free_node;
         i != LLM_LEDGER_NONE;
         i = llm_ledger_link(lg, LLM_LEDGER_IDLE, i)->next)
    {
        CHECK(i < lg->nodes);
        CHECK(llm_ledger_node(lg, i)->used == 0);
        CHECK(k++ < lg->nodes);
    }

    CHECK(k + lg->nodes_used == lg->nodes);

    return NULL;
}


static const char *
ledger_check_granted(llm_ledger_t *lg)
{
    uint32_t              i, owner;
    unsigned              n, granted;
    const char           *e;
    llm_ledger_ticket_t  *t;

    n = 0;

    for (owner = 0; owner < LLM_LEDGER_OWNERS; owner++) {
        e = ledger_check_list(lg, LLM_LEDGER_LINE, &lg->granted[owner], &n);
        if (e != NULL) {
            return e;
        }

        for (i = lg->granted[owner].first;
             i != LLM_LEDGER_NONE;
             i = t->line.next)
        {
            t = llm_ledger_ticket(lg, i);
            CHECK(t->state == LLM_TICKET_GRANTED
                  || t->state == LLM_TICKET_REFUSED
                  || (t->state == LLM_TICKET_PARKED && t->notice));
            CHECK(t->owner == owner);
        }
    }

    granted = 0;

    for (i = 0; i < lg->tickets; i++) {
        t = llm_ledger_ticket(lg, i);
        granted += t->state == LLM_TICKET_GRANTED
                   || t->state == LLM_TICKET_REFUSED
                   || (t->state == LLM_TICKET_PARKED && t->notice);
    }

    CHECK(n == granted);

    return NULL;
}


/* NULL, or what does not hold; "settled": nobody who could go still waits */

static const char *
ledger_check(llm_ledger_t *lg, int settled)
{
    uint32_t            i, used;
    unsigned            lined, fronts, ready, idle, tickets, waiting;
    uint64_t            seq;
    const char         *e;
    llm_ledger_node_t  *n;

    e = ledger_check_rows(lg);

    if (e == NULL) {
        e = ledger_check_granted(lg);
    }

    lined = 0;
    fronts = 0;
    ready = 0;
    idle = 0;
    tickets = 0;
    used = 0;

    for (i = 0; i < lg->nodes && e == NULL; i++) {
        n = llm_ledger_node(lg, i);

        if (!n->used) {
            continue;
        }

        used++;
        tickets += n->tickets != 0;

        e = ledger_check_node(lg, i, &lined, &fronts, &ready);

        if (settled) {
            CHECK(n->due == 0);
            CHECK(n->ready.first == LLM_LEDGER_NONE
                  || !llm_ledger_room(lg, n));
        }
    }

    if (e == NULL) {
        e = ledger_check_list(lg, LLM_LEDGER_IDLE, &lg->idle, &idle);
    }

    if (e != NULL) {
        return e;
    }

    CHECK(used == lg->nodes_used);
    waiting = 0;

    for (i = 0; i < lg->tickets; i++) {
        waiting += llm_ledger_ticket(lg, i)->state == LLM_TICKET_WAITING;
    }

    CHECK(lined == waiting);
    CHECK(fronts == ready);
    CHECK(idle + tickets == used);
    CHECK(!settled || lg->todo == LLM_LEDGER_NONE);

    seq = 0;

    for (i = lg->idle.first; i != LLM_LEDGER_NONE; i = n->idle.next) {
        n = llm_ledger_node(lg, i);
        CHECK(n->used && n->tickets == 0);
        CHECK(n->seq >= seq && n->seq < lg->seq);
        seq = n->seq;
    }

    return NULL;
}


#endif /* _LEDGER_CHECK_H_INCLUDED_ */
