
/*
 * Copyright (C) the ngx-llm authors
 *
 * A ticket's way from its turn to its end.
 */


#include "core/llm_ledger_private.h"


static int llm_ledger_fetch(llm_ledger_t *lg, uint32_t i, llm_reading_t *rd);
static void llm_ledger_resume(llm_ledger_t *lg, uint32_t i,
    const llm_now_t *now, llm_owners_t *wake);


void *
llm_ledger_granted(llm_ledger_t *lg, unsigned owner, llm_ticket_t *id,
    llm_reading_t *rd)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    *id = 0;
    llm_ledger_blank(rd);

    i = lg->granted[owner].first;

    if (i == LLM_LEDGER_NONE) {
        return NULL;
    }

    t = llm_ledger_ticket(lg, i);

    *id = t->id;
    rd->verdict = llm_ledger_fetch(lg, i, rd);

    return t->data;
}


/* takes a ticket whose wait ended out of its owner's list */

static int
llm_ledger_fetch(llm_ledger_t *lg, uint32_t i, llm_reading_t *rd)
{
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    llm_ledger_gauge(lg, t->node, &lg->now, rd);

    if (t->state == LLM_TICKET_GRANTED) {
        llm_ledger_store(&t->state, LLM_TICKET_HOLDING);
        llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->granted[t->owner],
                               i);
        return LLM_OK;
    }

    rd->refusal = t->refusal;
    rd->index = t->refused_by;

    if (t->state == LLM_TICKET_PARKED) {
        llm_ledger_store(&t->notice, 0);
        llm_ledger_list_remove(lg, LLM_LEDGER_LINE, &lg->granted[t->owner],
                               i);
        return LLM_AGAIN;
    }

    llm_ledger_end(lg, i, NULL, &lg->now);

    return LLM_DECLINED;
}


int
llm_ledger_retry(llm_ledger_t *lg, llm_ticket_t id, const llm_now_t *now,
    llm_reading_t *rd, llm_owners_t *wake)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    llm_ledger_blank(rd);

    i = llm_ledger_ticket_find(lg, id);
    if (i == LLM_LEDGER_NONE) {
        return LLM_DECLINED;
    }

    t = llm_ledger_ticket(lg, i);
    lg->now = *now;

    if (t->state == LLM_TICKET_PARKED && !t->notice) {
        llm_ledger_resume(lg, i, now, wake);
    }

    llm_ledger_run(lg, now, wake);

    switch (t->state) {

    case LLM_TICKET_HOLDING:
        return LLM_OK;

    case LLM_TICKET_WAITING:
    case LLM_TICKET_ASKING:
        llm_ledger_gauge(lg, t->node, now, rd);
        return LLM_AGAIN;

    default:
        return llm_ledger_fetch(lg, i, rd);
    }
}


/* with a slot it takes nothing before it has one: it goes into its line */

static void
llm_ledger_resume(llm_ledger_t *lg, uint32_t i, const llm_now_t *now,
    llm_owners_t *wake)
{
    int                   rc;
    llm_ledger_ticket_t  *t;

    t = llm_ledger_ticket(lg, i);

    llm_ledger_unpark(lg, i);

    rc = llm_ledger_turn(lg, i, t->slot ? LLM_DRAW_CHECK : LLM_DRAW_TAKE,
                         now);

    if (rc == LLM_AGAIN) {
        llm_ledger_store(&t->state, LLM_TICKET_ASKING);

    } else if (rc == LLM_OK) {
        t->wall = now->wall;
        llm_ledger_store(&t->state, t->slot ? LLM_TICKET_WAITING
                                            : LLM_TICKET_GRANTED);
    }

    llm_ledger_commit(lg);

    llm_ledger_shift(lg, i, LLM_TICKET_PARKED);
    llm_ledger_place(lg, i, wake);
}


int
llm_ledger_charge(llm_ledger_t *lg, llm_ticket_t id,
    const llm_amount_t *used, int force, const llm_now_t *now)
{
    int                   rc;
    uint32_t              i;
    llm_amount_t          more, most;
    llm_reading_t         rd;
    llm_ledger_ticket_t  *t;

    i = llm_ledger_ticket_find(lg, id);
    if (i == LLM_LEDGER_NONE) {
        return LLM_OK;
    }

    t = llm_ledger_ticket(lg, i);

    if (!llm_ledger_reserved(t)) {
        return LLM_OK;
    }

    most = llm_ledger_bounded(used);

    more.requests = llm_ledger_bound(most.requests - t->need.requests);
    more.tokens = llm_ledger_bound(most.tokens - t->need.tokens);
    more.money = llm_ledger_bound(most.money - t->need.money);

    llm_ledger_blank(&rd);
    llm_ledger_begin(lg, t->node, i);

    rc = llm_ledger_draw(lg, t->node, &more,
                         force ? LLM_DRAW_FORCE : LLM_DRAW_TAKE, NULL, now,
                         &rd);

    if (rc == LLM_AGAIN) {
        /* who runs cannot wait for the store: it is told of the debt */
        rc = llm_ledger_draw(lg, t->node, &more, LLM_DRAW_FORCE, NULL, now,
                             &rd);
    }

    if (rc == LLM_OK) {
        t->need.requests += more.requests;
        t->need.tokens += more.tokens;
        t->need.money += more.money;
    }

    t->floor = most;

    llm_ledger_commit(lg);

    return rc;
}


/* what was not used goes back with the end itself, under one undo */

void
llm_ledger_close(llm_ledger_t *lg, llm_ticket_t id, const llm_amount_t *used,
    const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t              i;
    llm_amount_t          all, back;
    llm_ledger_ticket_t  *t;

    i = llm_ledger_ticket_find(lg, id);
    if (i == LLM_LEDGER_NONE) {
        return;
    }

    t = llm_ledger_ticket(lg, i);

    if (llm_ledger_reserved(t)) {
        all = llm_ledger_bounded(used);

        back.requests = t->need.requests - all.requests;
        back.tokens = t->need.tokens - all.tokens;
        back.money = t->need.money - all.money;

        llm_ledger_end(lg, i, &back, now);

    } else {
        llm_ledger_end(lg, i, NULL, now);
    }

    llm_ledger_run(lg, now, wake);
}


void
llm_ledger_leave(llm_ledger_t *lg, llm_ticket_t id, int undo,
    const llm_now_t *now, llm_owners_t *wake)
{
    uint32_t              i;
    llm_ledger_ticket_t  *t;

    i = llm_ledger_ticket_find(lg, id);
    if (i == LLM_LEDGER_NONE) {
        return;
    }

    t = llm_ledger_ticket(lg, i);

    llm_ledger_end(lg, i, undo && llm_ledger_reserved(t) ? &t->need : NULL,
                   now);
    llm_ledger_run(lg, now, wake);
}
