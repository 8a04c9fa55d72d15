
/*
 * Copyright (C) the ngx-llm authors
 *
 * A ledger that is slow and simple: an array of tickets that is searched for
 * everything, and a meter for each name.
 */


#ifndef _LEDGER_MODEL_H_INCLUDED_
#define _LEDGER_MODEL_H_INCLUDED_


#include "ledger_check.h"

#include <string.h>


#define KEYS    12
#define TEAMS   4
#define NAMES   (KEYS + TEAMS)
#define OWNERS  5
#define ROWS    48


typedef struct {
    llm_ticket_t   id;
    int            state;
    unsigned       name[2];          /* key and team; NAMES: none */
    unsigned       owner;
    unsigned       slot;
    unsigned       park;
    unsigned       background;
    unsigned       notice;
    unsigned       blocked;
    int64_t        score;
    unsigned long  seq;
    int64_t        wall;
    llm_amount_t   need;
    llm_amount_t   floor;
} model_ticket_t;


static model_ticket_t  tickets[ROWS];
static llm_meter_t     meters[NAMES];
static unsigned        known[NAMES];
static llm_limit_t     names[NAMES];      /* as the policy says … */
static llm_limit_t     adopted[NAMES];    /* … and as the ledger has heard */
static unsigned        mixed;             /* keys change their teams */
static unsigned        ran;
static llm_ledger_t   *lg;
static llm_now_t       now;
static llm_owners_t    expected;          /* to be woken */


static int
model_holds(const model_ticket_t *t)
{
    return t->slot && (t->state == LLM_TICKET_HOLDING
                       || t->state == LLM_TICKET_GRANTED);
}


static int
model_waits(const model_ticket_t *t)
{
    return t->state == LLM_TICKET_WAITING || t->state == LLM_TICKET_PARKED;
}


static unsigned
model_count(unsigned name, int waiting)
{
    unsigned         n;
    model_ticket_t  *t;

    n = 0;

    for (t = tickets; t < tickets + ROWS; t++) {

        if (t->name[0] == name || t->name[1] == name) {
            n += (unsigned) (waiting ? model_waits(t) : model_holds(t));
        }
    }

    return n;
}


static int
model_room(unsigned name)
{
    return name == NAMES || adopted[name].concurrency == 0
           || model_count(name, 0) < adopted[name].concurrency;
}


static int
model_before(const model_ticket_t *a, const model_ticket_t *b)
{
    return a->score != b->score ? a->score < b->score : a->seq < b->seq;
}


/* could this waiter go now?  the first of its key, with room for both */

static int
model_can(const model_ticket_t *w)
{
    model_ticket_t  *t;

    if (w->state != LLM_TICKET_WAITING
        || !model_room(w->name[0]) || !model_room(w->name[1]))
    {
        return 0;
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state == LLM_TICKET_WAITING && t->name[0] == w->name[0]
            && model_before(t, w))
        {
            return 0;
        }
    }

    return 1;
}


static void
model_roll(const model_ticket_t *w)
{
    unsigned  k;

    for (k = 0; k < 2; k++) {
        if (w->name[k] < NAMES) {
            llm_meter_roll(&meters[w->name[k]], &adopted[w->name[k]].rates,
                           &now);
        }
    }
}


static int
model_nothing(const llm_amount_t *need)
{
    return need->requests <= 0 && need->tokens <= 0 && need->money <= 0;
}


/* what is left to others counts as used: a quarter, or the rest of it all */

static void
model_keep(llm_meter_t *m, const llm_rates_t *rt, const llm_amount_t *need)
{
    double  all, n;

    all = (double) rt->burst * LLM_BUCKET_UNIT;
    n = (double) need->requests * LLM_BUCKET_UNIT;

    if (rt->rpm && n > 0 && n <= all) {
        m->requests.level += (int64_t) (n > all * 0.75 ? all - n : all * 0.25);
    }

    all = (double) rt->burst_tokens * LLM_BUCKET_UNIT;
    n = (double) need->tokens * LLM_BUCKET_UNIT;

    if (rt->tpm && n > 0 && n <= all) {
        m->tokens.level += (int64_t) (n > all * 0.75 ? all - n : all * 0.25);
    }
}


/* … but is not told as such; what the parked will take is */

static void
model_used(const model_ticket_t *w, unsigned k, llm_refusal_t *rf)
{
    llm_meter_t      m;
    model_ticket_t  *t;

    m = meters[w->name[k]];

    for (t = tickets; t < tickets + ROWS; t++) {

        if (t->state == LLM_TICKET_PARKED
            && (((t->blocked & 1) && t->name[0] == w->name[k])
                || ((t->blocked & 2) && t->name[1] == w->name[k])))
        {
            llm_meter_add(&m, &t->need, now.wall);
        }
    }

    if (rf->why == LLM_WHY_REQUESTS) {
        rf->used = llm_bucket_used(&m.requests);
    }

    if (rf->why == LLM_WHY_TOKENS) {
        rf->used = llm_bucket_used(&m.tokens);
    }
}


/*
 * Does a need fit at this place in the order?  NULL: of one that runs.  Fills
 * the worst refusal and the bits of those who refuse.
 */

static int
model_check(const model_ticket_t *w, const llm_amount_t *need, int turn,
    llm_refusal_t *worst, unsigned *index, unsigned *blocked)
{
    unsigned         k;
    llm_meter_t      m;
    llm_refusal_t    rf;
    model_ticket_t  *t;

    memset(worst, 0, sizeof(llm_refusal_t));
    *blocked = 0;
    *index = 0;

    if (model_nothing(need)) {
        return 1;
    }

    model_roll(w);

    for (k = 0; k < 2; k++) {

        if (w->name[k] == NAMES) {
            continue;
        }

        m = meters[w->name[k]];

        if (w->background && turn) {
            model_keep(&m, &adopted[w->name[k]].rates, need);
        }

        for (t = tickets; t < tickets + ROWS && turn; t++) {

            if (t->state == LLM_TICKET_PARKED
                && (w->background || model_before(t, w))
                && (((t->blocked & 1) && t->name[0] == w->name[k])
                    || ((t->blocked & 2) && t->name[1] == w->name[k])))
            {
                llm_meter_add(&m, &t->need, now.wall);
            }
        }

        llm_meter_check(&m, &adopted[w->name[k]].rates, need, &now, &rf);

        if (rf.why == LLM_WHY_NONE) {
            continue;
        }

        if (w->background && turn) {
            model_used(w, k, &rf);
        }

        if (*blocked == 0 || (worst->wait_ms != -1
                              && (rf.wait_ms == -1
                                  || rf.wait_ms > worst->wait_ms)))
        {
            *worst = rf;
            *index = k;
        }

        *blocked |= 1u << k;
    }

    return *blocked == 0;
}


/* "sign" times an amount into all meters of a ticket */

static void
model_add(const model_ticket_t *w, const llm_amount_t *amount, int sign,
    int64_t wall)
{
    unsigned      k;
    llm_amount_t  a;

    a.requests = sign * amount->requests;
    a.tokens = sign * amount->tokens;
    a.money = sign * amount->money;

    for (k = 0; k < 2; k++) {
        if (w->name[k] < NAMES) {
            llm_meter_add(&meters[w->name[k]], &a, wall);
        }
    }
}


static void
model_hand(model_ticket_t *t)
{
    expected.bits[0] |= (uint64_t) 1 << t->owner;
}


/* its turn: granted, refused or parked */

static void
model_turn(model_ticket_t *t)
{
    unsigned       index, blocked;
    llm_refusal_t  rf;

    if (model_check(t, &t->need, 1, &rf, &index, &blocked)) {
        model_add(t, &t->need, 1, now.wall);
        t->wall = now.wall;
        t->state = LLM_TICKET_GRANTED;

    } else if (t->park && rf.wait_ms > 0) {
        t->state = LLM_TICKET_PARKED;
        t->blocked = blocked;
        t->notice = 1;

    } else {
        t->state = LLM_TICKET_REFUSED;
    }

    model_hand(t);
}


static void
model_run(void)
{
    model_ticket_t  *t, *first;

    ran = 1;

    while (!mixed) {
        first = NULL;

        for (t = tickets; t < tickets + ROWS; t++) {
            if (model_can(t) && (first == NULL || model_before(t, first))) {
                first = t;
            }
        }

        if (first == NULL) {
            return;
        }

        model_turn(first);
    }
}


static int
model_fetchable(const model_ticket_t *t)
{
    return t->state == LLM_TICKET_GRANTED || t->state == LLM_TICKET_REFUSED
           || (t->state == LLM_TICKET_PARKED && t->notice);
}


static void
model_told(void)
{
    model_ticket_t  *t;

    for (t = tickets; t < tickets + ROWS; t++) {
        if (model_fetchable(t)) {
            model_hand(t);
        }
    }
}


/* gives back what was reserved, less "keep" */

static void
model_back(model_ticket_t *t, const llm_amount_t *keep)
{
    if (t->state != LLM_TICKET_HOLDING && t->state != LLM_TICKET_GRANTED) {
        return;
    }

    model_roll(t);

    /* in one step: nothing falls below 0 in between */
    {
        llm_amount_t  back = t->need;

        back.requests -= keep->requests;
        back.tokens -= keep->tokens;
        back.money -= keep->money;

        model_add(t, &back, -1, t->wall);
    }
}


/* could it have a slot at once? */

static int
way(const model_ticket_t *w)
{
    model_ticket_t  *t;

    for (t = tickets; t < tickets + ROWS; t++) {

        if (t->state == LLM_TICKET_WAITING
            && (t->name[0] == w->name[0]
                || (t->name[1] == w->name[1] && w->name[1] < NAMES
                    && model_can(t))))
        {
            return 0;
        }
    }

    return model_room(w->name[0]) && model_room(w->name[1]);
}


/* in the background: would enough be left? */

static int
model_leaves(const model_ticket_t *w)
{
    unsigned  k, all, kept;

    for (k = 0; k < 2; k++) {

        if (w->name[k] == NAMES || adopted[w->name[k]].concurrency == 0) {
            continue;
        }

        all = adopted[w->name[k]].concurrency;
        kept = all == 1 ? 0 : all / 4 > 1 ? all / 4 : 1;

        if (model_count(w->name[k], 0) + 1 + kept > all) {
            return 0;
        }
    }

    return 1;
}


/* what becomes of it: the state, or FREE and why */

static unsigned
model_enter(model_ticket_t *w, const llm_ask_t *ask, int room,
    llm_refusal_t *rf, unsigned *index)
{
    int          go;
    llm_meter_t  saved[NAMES];

    memcpy(saved, meters, sizeof(meters));

    go = !w->slot || (room && way(w)
                      && (!w->background || model_leaves(w)));

    if (model_check(w, &w->need, 1, rf, index, &w->blocked)) {
        w->state = go ? LLM_TICKET_HOLDING : LLM_TICKET_WAITING;

    } else if (w->park && rf->wait_ms > 0) {
        w->state = LLM_TICKET_PARKED;

    } else {
        w->state = LLM_TICKET_FREE;
        return rf->why;
    }

    if (w->background && w->state == LLM_TICKET_WAITING && room) {
        w->state = LLM_TICKET_FREE;
        memcpy(meters, saved, sizeof(meters));
        return LLM_WHY_BUSY;
    }

    if ((w->state == LLM_TICKET_HOLDING && (room || !w->slot))
        || (room && model_count(w->name[0], 1) < ask->queue))
    {
        return LLM_WHY_NONE;
    }

    memcpy(meters, saved, sizeof(meters));

    w->state = LLM_TICKET_FREE;

    return model_count(w->name[0], 1) >= ask->queue ? LLM_WHY_QUEUE_FULL
                                                    : LLM_WHY_MEMORY;
}


/*
 * Waiters of one key and two teams: which team is looked at first may be
 * either way, and so it is at fair gates, so what the ledger did is taken
 * over and only has to be right.
 */

static void
model_follow(void)
{
    uint32_t         i;
    model_ticket_t  *t;

    for (t = tickets; t < tickets + ROWS; t++) {
        i = (uint32_t) (t->id & LLM_LEDGER_INDEX_MASK);

        if (t->state == LLM_TICKET_WAITING
            && llm_ledger_ticket(lg, i)->state >= LLM_TICKET_GRANTED)
        {
            t->state = LLM_TICKET_GRANTED;
            model_hand(t);

            assert_true(adopted[t->name[0]].concurrency == 0
                        || model_count(t->name[0], 0)
                           <= adopted[t->name[0]].concurrency);
            assert_true(t->name[1] == NAMES
                        || adopted[t->name[1]].concurrency == 0
                        || model_count(t->name[1], 0)
                           <= adopted[t->name[1]].concurrency);
        }
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        assert_false(model_can(t));
    }
}


#endif /* _LEDGER_MODEL_H_INCLUDED_ */
