
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger after a death: what the dead held, and what it left half done.
 */


#include "core/llm_ledger_private.h"


static void llm_ledger_bury(llm_ledger_t *lg, uint32_t i,
    const llm_now_t *now);
static int llm_ledger_fetchable(const llm_ledger_ticket_t *t);
static void llm_ledger_reset(llm_ledger_t *lg);
static void llm_ledger_derive_nodes(llm_ledger_t *lg);
static uint32_t llm_ledger_derive_tickets(llm_ledger_t *lg);
static void llm_ledger_derive_lines(llm_ledger_t *lg, uint32_t i,
    llm_owners_t *wake);
static void llm_ledger_derive_idle(llm_ledger_t *lg);


unsigned
llm_ledger_reap(llm_ledger_t *lg, unsigned owner, const llm_now_t *now,
    llm_owners_t *wake)
{
    uint32_t              i;
    unsigned              n;
    llm_ledger_ticket_t  *t;

    n = 0;

    for (i = 0; i < lg->tickets; i++) {
        t = llm_ledger_ticket(lg, i);

        if (t->state == LLM_TICKET_FREE) {
            continue;
        }

        if (t->owner == owner) {
            llm_ledger_bury(lg, i, now);
            n++;
            continue;
        }

        /* the dead may have ended its wait and not come to wake its owner */

        if (llm_ledger_fetchable(t)) {
            llm_ledger_wake(wake, t->owner);
        }
    }

    llm_ledger_run(lg, now, wake);

    return n;
}


/* charged its floor; nothing, if it had not begun */

static void
llm_ledger_bury(llm_ledger_t *lg, uint32_t i, const llm_now_t *now)
{
    llm_amount_t          back;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    if (!llm_ledger_reserved(t)) {
        llm_ledger_end(lg, i, NULL, now);
        return;
    }

    back = t->need;

    if (t->state == LLM_TICKET_HOLDING) {
        back.requests -= t->floor.requests;
        back.tokens -= t->floor.tokens;
        back.money -= t->floor.money;
    }

    llm_ledger_end(lg, i, &back, now);
}


void
llm_ledger_rebuild(llm_ledger_t *lg, const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t  i;

    llm_ledger_rollback(lg);

    llm_ledger_reset(lg);
    llm_ledger_derive_nodes(lg);

    i = llm_ledger_derive_tickets(lg);
    i = llm_ledger_list_sort(lg, LLM_LEDGER_LINE, i);

    llm_ledger_derive_lines(lg, i, wake);
    llm_ledger_derive_idle(lg);

    llm_ledger_quota_rebuild(lg);

    llm_ledger_run(lg, now, wake);
}


static void
llm_ledger_reset(llm_ledger_t *lg)
{
    uint32_t  i;

    for (i = 0; i <= lg->mask; i++) {
        *llm_ledger_head(lg, i) = LLM_LEDGER_NONE;
    }

    lg->seq = 0;
    lg->nodes_used = 0;
    lg->tickets_used = 0;
    lg->held = 0;
    lg->waiting = 0;
    lg->free_node = LLM_LEDGER_NONE;
    lg->free_ticket = LLM_LEDGER_NONE;
    lg->todo = LLM_LEDGER_NONE;

    llm_ledger_list_reset(&lg->asking);
    llm_ledger_list_reset(&lg->idle);

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        llm_ledger_list_reset(&lg->granted[i]);
    }
}


static void
llm_ledger_derive_nodes(llm_ledger_t *lg)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    for (i = lg->nodes; i-- > 0; /* void */ ) {
        n = llm_ledger_node(lg, i);

        if (!n->used) {
            n->idle.next = lg->free_node;
            lg->free_node = i;
            continue;
        }

        llm_ledger_node_derive(lg, i);

        if (n->seq >= lg->seq) {
            lg->seq = n->seq + 1;
        }
    }
}


/* counts; a chain of the tickets that stand in any list */

static uint32_t
llm_ledger_derive_tickets(llm_ledger_t *lg)
{
    uint32_t              i, k, first;
    llm_ledger_node_t    *n;
    llm_ledger_ticket_t  *t;

    first = LLM_LEDGER_NONE;

    for (i = lg->tickets; i-- > 0; /* void */ ) {
        t = llm_ledger_ticket(lg, i);

        if (t->state == LLM_TICKET_FREE) {
            llm_ledger_free_ticket(lg, i);
            continue;
        }

        for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

            if (t->node[k] == LLM_LEDGER_NONE) {
                continue;
            }

            n = llm_ledger_node(lg, t->node[k]);

            n->tickets++;
            n->held += (uint32_t) llm_ledger_holds(t, t->state);
            n->waiting += (uint32_t) llm_ledger_waits(t->state);
        }

        lg->tickets_used++;
        lg->held += (uint32_t) llm_ledger_holds(t, t->state);
        lg->waiting += (uint32_t) llm_ledger_waits(t->state);

        if (t->state != LLM_TICKET_HOLDING) {
            t->line.next = first;
            first = i;
        }

        if (t->seq >= lg->seq) {
            lg->seq = t->seq + 1;
        }
    }

    return first;
}


static void
llm_ledger_derive_lines(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake)
{
    uint32_t              next;
    llm_ledger_ticket_t  *t;

    for ( /* void */ ; i != LLM_LEDGER_NONE; i = next) {
        t = llm_ledger_ticket(lg, i);
        next = t->line.next;

        switch (t->state) {

        case LLM_TICKET_WAITING:
            llm_ledger_line(lg, i);
            break;

        case LLM_TICKET_ASKING:
            if (!llm_ledger_quota_asked(lg, t->id)) {
                llm_ledger_list_append(lg, LLM_LEDGER_LINE, &lg->asking, i);
            }

            break;

        case LLM_TICKET_PARKED:
            llm_ledger_park(lg, i);
            break;

        default:
            break;
        }

        if (llm_ledger_fetchable(t)) {
            llm_ledger_hand(lg, i, wake);
        }
    }
}


static int
llm_ledger_fetchable(const llm_ledger_ticket_t *t)
{
    return t->state == LLM_TICKET_GRANTED || t->state == LLM_TICKET_REFUSED
           || (t->state == LLM_TICKET_PARKED && t->notice);
}


static void
llm_ledger_derive_idle(llm_ledger_t *lg)
{
    uint32_t            i, next, first;
    llm_ledger_node_t  *n;

    first = LLM_LEDGER_NONE;

    for (i = 0; i < lg->nodes; i++) {
        n = llm_ledger_node(lg, i);

        if (n->line.first == LLM_LEDGER_NONE) {
            n->start = 0;
        }

        if (n->used && n->tickets == 0) {
            n->idle.next = first;
            first = i;
        }
    }

    i = llm_ledger_list_sort(lg, LLM_LEDGER_IDLE, first);

    for ( /* void */ ; i != LLM_LEDGER_NONE; i = next) {
        next = llm_ledger_link(lg, LLM_LEDGER_IDLE, i)->next;
        llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle, i);
    }
}
