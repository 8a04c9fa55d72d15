
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random operations on the ledger and on a model of it.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "ledger_model.h"


#define STEPS   60000
#define WALL    1767225600


static char            text[NAMES][8];
static unsigned long   seq;
static uint64_t        seed;
static llm_ticket_t    last[64];          /* ended, to be ended again */
static unsigned long   outcome[16];


static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (unsigned) ((seed >> 11) % n);
}


static model_ticket_t *
pick(void)
{
    unsigned         i;
    model_ticket_t  *t;

    for (i = 0; i < 8; i++) {
        t = &tickets[any(ROWS)];

        if (t->state != LLM_TICKET_FREE) {
            return t;
        }
    }

    return NULL;
}


static llm_amount_t
some(void)
{
    llm_amount_t  a = { 0, 0, 0 };

    if (!mixed && any(4)) {
        a.requests = any(4) ? 1 : (int64_t) any(3);
        a.tokens = any(3) ? (int64_t) any(500) : 0;
        a.money = any(3) ? (int64_t) any(500) : 0;
    }

    return a;
}


static void
adopt(unsigned name)
{
    adopted[name] = names[name];

    if (!known[name]) {
        known[name] = 1;
        llm_meter_init(&meters[name], &now);
    }
}


/* who asks, for what */

static void
choose(model_ticket_t *w, llm_ask_t *ask, llm_limits_t *ls)
{
    memset(w, 0, sizeof(model_ticket_t));
    memset(ask, 0, sizeof(llm_ask_t));

    w->name[0] = any(KEYS);
    w->name[1] = (mixed ? any(TEAMS + 1) : w->name[0] % (TEAMS + 1)) + KEYS;
    w->owner = any(OWNERS);
    w->slot = any(8) != 0;
    w->background = any(5) == 0;
    w->park = !w->background && any(3) == 0;
    w->need = some();
    w->floor = some();
    w->seq = seq++;
    w->wall = now.wall;

    ls->limit[0] = &names[w->name[0]];
    ls->limit[1] = w->name[1] < NAMES ? &names[w->name[1]] : NULL;
    ls->n = w->name[1] < NAMES ? 2 : 1;

    ask->limits = ls;
    ask->need = w->need;
    ask->floor = w->floor;
    ask->owner = w->owner;
    ask->priority = any(4) == 0 ? (int) any(5) - 2 : 0;
    ask->queue = any(8) == 0 ? any(3) : 12;
    ask->slot = w->slot & 1;
    ask->park = w->background ? any(2) & 1 : w->park & 1;
    ask->background = w->background & 1;
    ask->since = any(10) == 0 ? now.ms - any(100) : 0;

    w->score = (int64_t) (ask->since ? ask->since : now.ms)
               + ask->priority * 10000;
}


static void
step_enter(void)
{
    int              rc;
    unsigned         k, index, why;
    llm_ask_t        ask;
    llm_limits_t     ls;
    llm_ticket_t     id;
    llm_refusal_t    rf;
    llm_reading_t    rd;
    model_ticket_t  *t, *free, w;

    choose(&w, &ask, &ls);

    for (k = 0; k < ls.n; k++) {
        adopt(w.name[k]);
    }

    free = NULL;

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state == LLM_TICKET_FREE) {
            free = t;
        }
    }

    why = model_enter(&w, &ask, free != NULL, &rf, &index);
    outcome[w.state == LLM_TICKET_FREE ? why : 8 + (unsigned) w.state]++;

    ask.data = free;
    rc = llm_ledger_enter(lg, &ask, &now, &id, &rd);

    assert_int_equal(rc, w.state == LLM_TICKET_FREE ? LLM_DECLINED
                         : w.state == LLM_TICKET_HOLDING ? LLM_OK
                         : LLM_AGAIN);

    if (why == LLM_WHY_QUEUE_FULL || why == LLM_WHY_MEMORY
        || why == LLM_WHY_BUSY)
    {
        assert_int_equal(rd.refusal.why, why);

    } else {
        assert_memory_equal(&rd.refusal, &rf, sizeof(llm_refusal_t));
        assert_int_equal(rd.index, index);
    }

    if (rc == LLM_OK) {
        model_add(&w, &w.need, 1, now.wall);
    }

    if (rc == LLM_DECLINED || (rc == LLM_OK && !w.slot)) {
        assert_int_equal(id, 0);
        return;
    }

    for (k = 0; k < 64; k++) {
        assert_true(last[k] != id);
    }

    w.id = id;
    *free = w;
}


static void
step_leave(llm_owners_t *wake)
{
    int              how;
    llm_ticket_t     id;
    llm_amount_t     used;
    model_ticket_t  *t;

    /* 0: leaves, 1: with undo, 2: with what was used */
    how = (int) any(3);
    memset(&used, 0, sizeof(llm_amount_t));

    if (how == 2) {
        used = some();
    }

    t = pick();
    id = t == NULL || any(10) == 0 ? last[any(64)] : t->id;

    if (how == 2) {
        llm_ledger_close(lg, id, &used, &now, wake);

    } else {
        llm_ledger_leave(lg, id, how, &now, wake);
    }

    if (t == NULL || t->id != id) {
        return;
    }

    if (how != 0) {
        model_back(t, &used);
    }

    last[any(64)] = t->id;
    t->state = LLM_TICKET_FREE;
    model_run();
}


static void
step_charge(void)
{
    int              force, rc, right;
    unsigned         index, blocked;
    llm_amount_t     used, more;
    llm_refusal_t    rf;
    model_ticket_t  *t;

    t = pick();

    if (t == NULL) {
        return;
    }

    force = (int) any(2);
    used = some();
    used.tokens *= 2;

    rc = llm_ledger_charge(lg, t->id, &used, force, &now);
    right = LLM_OK;

    if (t->state == LLM_TICKET_HOLDING || t->state == LLM_TICKET_GRANTED) {
        more.requests = used.requests - t->need.requests;
        more.tokens = used.tokens - t->need.tokens;
        more.money = used.money - t->need.money;
        more.requests = more.requests > 0 ? more.requests : 0;
        more.tokens = more.tokens > 0 ? more.tokens : 0;
        more.money = more.money > 0 ? more.money : 0;

        t->floor = used;

        if (!model_check(t, &more, 0, &rf, &index, &blocked) && !force) {
            right = LLM_DECLINED;

        } else {
            model_add(t, &more, 1, now.wall);
            t->need.requests += more.requests;
            t->need.tokens += more.tokens;
            t->need.money += more.money;
        }
    }

    assert_int_equal(rc, right);
}


/* what the owner finds, and what it makes of the ticket */

static void
fetched(model_ticket_t *t, int verdict)
{
    switch (t->state) {

    case LLM_TICKET_GRANTED:
        assert_int_equal(verdict, LLM_OK);
        t->state = LLM_TICKET_HOLDING;
        break;

    case LLM_TICKET_PARKED:
        assert_int_equal(verdict, LLM_AGAIN);
        assert_int_equal(t->notice, 1);
        t->notice = 0;
        break;

    default:
        assert_int_equal(t->state, LLM_TICKET_REFUSED);
        assert_int_equal(verdict, LLM_DECLINED);
        last[any(64)] = t->id;
        t->state = LLM_TICKET_FREE;
    }
}


static void
step_granted(void)
{
    void            *data;
    unsigned         owner, n;
    llm_ticket_t     id;
    llm_reading_t    rd;
    model_ticket_t  *t;

    owner = any(OWNERS);
    n = 0;

    for (t = tickets; t < tickets + ROWS; t++) {
        n += model_fetchable(t) && t->owner == owner;
    }

    while ((data = llm_ledger_granted(lg, owner, &id, &rd)) != NULL) {
        t = data;
        assert_int_equal(t->id, id);
        assert_int_equal(t->owner, owner);
        fetched(t, rd.verdict);
        n--;
    }

    assert_int_equal(n, 0);
}


static void
step_retry(llm_owners_t *wake)
{
    int              rc;
    unsigned         i, index, blocked;
    llm_refusal_t    rf;
    llm_reading_t    rd;
    model_ticket_t  *t;

    t = pick();

    for (i = 0; i < 20 && (t == NULL || t->state != LLM_TICKET_PARKED); i++) {
        t = pick();
    }

    if (t == NULL) {
        return;
    }

    rc = llm_ledger_retry(lg, t->id, &now, &rd, wake);

    if (t->state == LLM_TICKET_PARKED && !t->notice) {

        if (!model_check(t, &t->need, 1, &rf, &index, &blocked)) {
            t->blocked = blocked;
            t->notice = rf.wait_ms > 0;
            t->state = rf.wait_ms > 0 ? LLM_TICKET_PARKED
                                      : LLM_TICKET_REFUSED;
            model_hand(t);

        } else if (t->slot) {
            t->state = LLM_TICKET_WAITING;

        } else {
            model_add(t, &t->need, 1, now.wall);
            t->wall = now.wall;
            t->state = LLM_TICKET_GRANTED;
            model_hand(t);
        }
    }

    model_run();

    if (mixed) {
        model_follow();
    }

    if (t->state == LLM_TICKET_HOLDING) {
        assert_int_equal(rc, LLM_OK);

    } else if (t->state == LLM_TICKET_WAITING) {
        assert_int_equal(rc, LLM_AGAIN);
        assert_int_equal(rd.refusal.wait_ms, 0);

    } else {
        fetched(t, rc);
    }
}


static void
step_reap(llm_owners_t *wake)
{
    unsigned             owner, n, i;
    model_ticket_t      *t;
    const llm_amount_t   nothing = { 0, 0, 0 };

    owner = any(OWNERS);
    n = 0;

    /* row by row: what is below 0 in between depends on the order */

    for (i = 0; i < ROWS * ROWS; i++) {
        t = &tickets[i % ROWS];

        if (t->state != LLM_TICKET_FREE && t->owner == owner
            && (t->id & LLM_LEDGER_INDEX_MASK) == i / ROWS)
        {
            model_back(t, t->state == LLM_TICKET_HOLDING ? &t->floor
                                                         : &nothing);
            t->state = LLM_TICKET_FREE;
            n++;
        }
    }

    model_told();
    model_run();

    assert_int_equal(llm_ledger_reap(lg, owner, &now, wake), n);
}


static void
step_limit(llm_owners_t *wake)
{
    unsigned      i;
    llm_rates_t  *rt;

    i = any(NAMES);
    rt = &names[i].rates;

    names[i].concurrency = any(10) == 0 ? 0 : 1 + any(i < KEYS ? 4 : 8);
    names[i].weight = any(4);
    names[i].fair = mixed && any(2);
    rt->rpm = any(3) == 0 ? 0 : 1 + any(200000);
    rt->burst = 1 + any(20);
    rt->tpm = any(3) == 0 ? 0 : 1 + any(2000000);
    rt->burst_tokens = 1 + any(3000);
    rt->rpd = any(3) ? 0 : 1 + any(60);
    rt->tpd = any(3) ? 0 : 1 + any(100000);
    rt->budget = any(3) ? 0 : 1 + any(100000);
    rt->month = any(2);

    if (any(2)) {
        if (known[i]) {
            adopt(i);
        }

        model_run();
        llm_ledger_update(lg, &names[i], &now, wake);
    }
}


static void
step_untake(void)
{
    unsigned        k;
    llm_limits_t    ls;
    llm_amount_t    a;
    model_ticket_t  w;

    w.name[0] = any(KEYS);
    w.name[1] = KEYS + any(TEAMS);
    a = some();

    ls.limit[0] = &names[w.name[0]];
    ls.limit[1] = &names[w.name[1]];
    ls.n = 2;

    llm_ledger_untake(lg, &ls, &a, &now);

    for (k = 0; k < 2; k++) {
        if (!known[w.name[k]]) {
            w.name[k] = NAMES;
        }
    }

    model_roll(&w);
    model_add(&w, &a, -1, now.wall);
}


static void
step_check(void)
{
    unsigned            i, held, waiting;
    const char         *e;
    model_ticket_t     *t;
    const llm_meter_t  *m;

    e = ledger_check(lg, 0);

    if (e != NULL) {
        fail_msg("%s", e);
    }

    for (i = 0; i < NAMES; i++) {
        (void) llm_ledger_look(lg, &names[i], &held, &waiting);
        assert_int_equal(held, model_count(i, 0));
        assert_int_equal(waiting, model_count(i, 1));

        m = llm_ledger_meter(lg, &names[i], &now);
        assert_true((m != NULL) == known[i]);

        if (m != NULL) {
            llm_meter_roll(&meters[i], &adopted[i].rates, &now);
            assert_memory_equal(m, &meters[i], sizeof(llm_meter_t));
        }
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state != LLM_TICKET_FREE) {
            i = (unsigned) (t->id & LLM_LEDGER_INDEX_MASK);
            assert_int_equal(llm_ledger_ticket(lg, i)->state, t->state);
        }
    }
}


static void
prepare(uint64_t from)
{
    unsigned  i;

    seed = from;
    now.ms = 1000000;
    now.wall = WALL + 20 * 86400;
    seq = 0;

    memset(tickets, 0, sizeof(tickets));
    memset(known, 0, sizeof(known));
    memset(last, 0, sizeof(last));

    for (i = 0; i < NAMES; i++) {
        memset(&names[i], 0, sizeof(llm_limit_t));
        snprintf(text[i], sizeof(text[i]), "%c:%u", i < KEYS ? 'k' : 't', i);
        names[i].name.data = (unsigned char *) text[i];
        names[i].name.len = strlen(text[i]);
        names[i].hash = i % 5;           /* some share theirs */
        names[i].concurrency = 1 + i % 4;
        names[i].rates.rpm = 60000;
        names[i].rates.burst = 5;
        adopted[i] = names[i];
    }
}


static void
run(uint64_t from)
{
    void          *mem;
    size_t         size;
    unsigned       step, what;
    llm_owners_t   wake;

    prepare(from);

    size = sizeof(llm_ledger_t) + ROWS * (sizeof(llm_ledger_node_t)
           + sizeof(llm_ledger_ticket_t) + sizeof(uint32_t));
    mem = malloc(size);
    lg = llm_ledger_create(mem, size);
    assert_non_null(lg);
    assert_int_equal(lg->size, ROWS);

    for (step = 0; step < STEPS; step++) {
        memset(&wake, 0, sizeof(llm_owners_t));
        memset(&expected, 0, sizeof(llm_owners_t));
        ran = 0;

        now.ms += any(3) == 0 ? any(40) : 0;
        now.ms -= any(20) == 0 ? any(20) : 0;
        now.wall += any(20) == 0 ? (int64_t) any(2000) : 0;
        what = any(1000);

        if (what < 380) {
            step_enter();

        } else if (what < 630) {
            step_leave(&wake);

        } else if (what < 740) {
            step_granted();

        } else if (what < 860) {
            step_charge();

        } else if (what < 940) {
            step_retry(&wake);

        } else if (what < 960) {
            step_untake();

        } else if (what < 985) {
            step_limit(&wake);

        } else if (what < 993) {
            step_reap(&wake);

        } else {
            model_told();
            model_run();
            llm_ledger_rebuild(lg, &now, &wake);
        }

        if (mixed && ran) {
            model_follow();
        }

        assert_memory_equal(&wake, &expected, sizeof(llm_owners_t));

        if (step % 8 == 0) {
            step_check();
        }
    }

    free(mem);
}


static void
test_model(void **state)
{
    unsigned  i;

    (void) state;

    mixed = 0;

    for (i = 1; i <= 5; i++) {
        run(i * 0x9e3779b97f4a7c15);
    }

    /* everything that can become of an ask did */

    for (i = LLM_WHY_REQUESTS; i <= LLM_WHY_BUSY; i++) {
        assert_true(outcome[i] > 20);
    }

    assert_true(outcome[8 + LLM_TICKET_WAITING] > 1000);
    assert_true(outcome[8 + LLM_TICKET_PARKED] > 1000);
    assert_true(outcome[8 + LLM_TICKET_HOLDING] > 1000);
}


static void
test_mixed(void **state)
{
    uint64_t  i;

    (void) state;

    mixed = 1;

    for (i = 1; i <= 5; i++) {
        run(i * 0x9e3779b97f4a7c15);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_mixed),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
