
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger against a model that is slow and simple: an array of tickets
 * that is searched for everything.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "ledger_check.h"


#define STEPS   100000
#define KEYS    12
#define TEAMS   4
#define NAMES   (KEYS + TEAMS)
#define OWNERS  5
#define ROWS    48


typedef struct {
    llm_ticket_t   id;
    int            state;
    unsigned       key;
    unsigned       team;             /* NAMES: none */
    unsigned       owner;
    int64_t        score;
    unsigned long  seq;
} model_ticket_t;


typedef struct {
    int64_t        level;
    uint64_t       time;
    uint64_t       rpm;
} model_bucket_t;


static model_ticket_t  tickets[ROWS];
static model_bucket_t  buckets[NAMES];
static unsigned        adopted[NAMES];    /* the concurrency in force */
static llm_limit_t     names[NAMES];
static char            text[NAMES][8];
static unsigned        mixed;             /* keys change their teams */
static unsigned        ran;
static unsigned long   seq;
static uint64_t        now, seed;
static llm_ledger_t   *lg;
static llm_owners_t    expected;          /* to be woken */
static llm_ticket_t    last[64];          /* ended, to be ended again */


static unsigned
any(unsigned n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (unsigned) ((seed >> 11) % n);
}


static unsigned
model_count(unsigned name, int waiting)
{
    unsigned         n;
    model_ticket_t  *t;

    n = 0;

    for (t = tickets; t < tickets + ROWS; t++) {
        n += t->state != LLM_TICKET_FREE
             && (t->key == name || t->team == name)
             && (t->state == LLM_TICKET_WAITING) == waiting;
    }

    return n;
}


static int
model_room(unsigned name)
{
    return name == NAMES || adopted[name] == 0
           || model_count(name, 0) < adopted[name];
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
        || !model_room(w->key) || !model_room(w->team))
    {
        return 0;
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state == LLM_TICKET_WAITING && t->key == w->key
            && model_before(t, w))
        {
            return 0;
        }
    }

    return 1;
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

        first->state = LLM_TICKET_GRANTED;
        expected.bits[0] |= (uint64_t) 1 << first->owner;
    }
}


/*
 * Waiters of one key and two teams: which team is looked at first may be
 * either way, so what the ledger did is taken over and only has to be right.
 */

static void
model_follow(void)
{
    uint32_t         i;
    model_ticket_t  *t;

    for (t = tickets; t < tickets + ROWS; t++) {
        i = (uint32_t) (t->id & LLM_LEDGER_INDEX_MASK);

        if (t->state == LLM_TICKET_WAITING
            && llm_ledger_ticket(lg, i)->state == LLM_TICKET_GRANTED)
        {
            t->state = LLM_TICKET_GRANTED;
            expected.bits[0] |= (uint64_t) 1 << t->owner;

            assert_true(adopted[t->key] == 0
                        || model_count(t->key, 0) <= adopted[t->key]);
            assert_true(t->team == NAMES || adopted[t->team] == 0
                        || model_count(t->team, 0) <= adopted[t->team]);
        }
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        assert_false(model_can(t));
    }
}


static void
model_told(void)
{
    model_ticket_t  *t;

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state == LLM_TICKET_GRANTED) {
            expected.bits[0] |= (uint64_t) 1 << t->owner;
        }
    }
}


static void
step_enter(void)
{
    int              rc, right, priority;
    unsigned         k, queue;
    llm_limits_t     ls;
    llm_ticket_t     id;
    llm_reading_t    rd;
    model_ticket_t  *t, *free, w;

    memset(&w, 0, sizeof(model_ticket_t));

    w.key = any(KEYS);
    w.team = (mixed ? any(TEAMS + 1) : w.key % (TEAMS + 1)) + KEYS;
    w.owner = any(OWNERS);

    ls.limit[0] = &names[w.key];
    ls.limit[1] = w.team < NAMES ? &names[w.team] : NULL;
    ls.n = w.team < NAMES ? 2 : 1;

    queue = any(8) == 0 ? any(3) : 12;
    priority = any(4) == 0 ? (int) any(5) - 2 : 0;

    for (k = 0; k < ls.n; k++) {
        adopted[ls.limit[k] - names] = ls.limit[k]->concurrency;
    }

    w.score = (int64_t) now + priority * 10000;
    w.seq = seq++;
    w.state = LLM_TICKET_HOLDING;
    free = NULL;

    for (t = tickets; t < tickets + ROWS; t++) {

        if (t->state == LLM_TICKET_FREE) {
            free = t;
        }

        if (t->state == LLM_TICKET_WAITING
            && (t->key == w.key
                || (t->team == w.team && w.team < NAMES && model_can(t))))
        {
            w.state = LLM_TICKET_WAITING;
        }
    }

    if (!model_room(w.key) || !model_room(w.team)) {
        w.state = LLM_TICKET_WAITING;
    }

    right = w.state == LLM_TICKET_HOLDING ? LLM_OK : LLM_AGAIN;
    rd.why = LLM_WHY_REQUESTS;

    if (w.state == LLM_TICKET_WAITING && model_count(w.key, 1) >= queue) {
        right = LLM_WHY_QUEUE_FULL;

    } else if (free == NULL) {
        right = LLM_WHY_MEMORY;
    }

    rc = llm_ledger_enter(lg, &ls, w.owner, free, priority, queue, now, &id,
                          &rd);

    if (rc == LLM_DECLINED) {
        assert_int_equal(rd.why, right);
        return;
    }

    assert_int_equal(rc, right);
    assert_int_equal(rd.why, LLM_WHY_NONE);

    for (k = 0; k < 64; k++) {
        assert_true(last[k] != id);
    }

    w.id = id;
    *free = w;
}


static void
step_leave(llm_owners_t *wake)
{
    model_ticket_t  *t;

    if (any(10) == 0) {
        llm_ledger_leave(lg, last[any(64)], wake);
        return;
    }

    t = &tickets[any(ROWS)];

    if (t->state == LLM_TICKET_FREE) {
        return;
    }

    llm_ledger_leave(lg, t->id, wake);

    last[any(64)] = t->id;
    t->state = LLM_TICKET_FREE;
    model_run();
}


static void
step_granted(void)
{
    void            *data;
    unsigned         owner, n;
    llm_ticket_t     id;
    model_ticket_t  *t;

    owner = any(OWNERS);
    n = 0;

    for (t = tickets; t < tickets + ROWS; t++) {
        n += t->state == LLM_TICKET_GRANTED && t->owner == owner;
    }

    while ((data = llm_ledger_granted(lg, owner, &id)) != NULL) {
        t = data;
        assert_int_equal(t->id, id);
        assert_int_equal(t->owner, owner);
        assert_int_equal(t->state, LLM_TICKET_GRANTED);
        t->state = LLM_TICKET_HOLDING;
        n--;
    }

    assert_int_equal(n, 0);
}


static void
step_reap(llm_owners_t *wake)
{
    unsigned         owner, n;
    model_ticket_t  *t;

    owner = any(OWNERS);
    n = 0;

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state != LLM_TICKET_FREE && t->owner == owner) {
            t->state = LLM_TICKET_FREE;
            n++;
        }
    }

    model_told();
    model_run();

    assert_int_equal(llm_ledger_reap(lg, owner, wake), n);
}


static void
step_limit(llm_owners_t *wake)
{
    unsigned  i;

    i = any(NAMES);

    names[i].concurrency = any(10) == 0 ? 0 : 1 + any(i < KEYS ? 4 : 8);
    names[i].rpm = any(10) == 0 ? 0 : 1 + any(200000);
    names[i].burst = 1 + any(20);

    if (any(2)) {
        adopted[i] = names[i].concurrency;
        model_run();
        llm_ledger_update(lg, &names[i], wake);
    }
}


static int64_t
model_level(unsigned i)
{
    int64_t          leaked;
    uint64_t         rate;
    model_bucket_t  *b;

    b = &buckets[i];
    rate = b->rpm != 0 ? b->rpm : names[i].rpm;
    leaked = now > b->time ? (int64_t) ((now - b->time) * rate) : 0;

    return b->level > leaked ? b->level - leaked : 0;
}


static void
model_set(unsigned i, int64_t level)
{
    buckets[i].level = level > 0 ? level : 0;
    buckets[i].time = now > buckets[i].time ? now : buckets[i].time;
    buckets[i].rpm = names[i].rpm;
}


static void
step_take(void)
{
    int            rc, ok;
    int64_t        level[2], room, wait, w;
    uint64_t       left, least;
    unsigned       k, i[2], n;
    llm_limits_t   ls;
    llm_reading_t  rd;

    i[0] = any(KEYS);
    i[1] = KEYS + any(TEAMS);
    n = 1 + any(2);
    ls.limit[0] = &names[i[0]];
    ls.limit[1] = &names[i[1]];
    ls.n = n;

    if (any(4) == 0) {
        llm_ledger_untake(lg, &ls, now);

        for (k = 0; k < n; k++) {
            /* the rate of a bucket is changed by those who take alone */
            if (names[i[k]].rpm != 0 && buckets[i[k]].rpm != 0) {
                level[0] = model_level(i[k]) - 60000;
                left = buckets[i[k]].rpm;
                model_set(i[k], level[0]);
                buckets[i[k]].rpm = left;
            }
        }

        return;
    }

    rc = llm_ledger_take(lg, &ls, now, &rd);
    ok = 1;
    wait = 0;
    least = UINT64_MAX;

    for (k = 0; k < n; k++) {
        if (names[i[k]].rpm != 0) {
            level[k] = model_level(i[k]);
            room = (int64_t) names[i[k]].burst * 60000 - level[k] - 60000;
            w = room >= 0 ? 0 : (-room + (int64_t) names[i[k]].rpm - 1)
                                / (int64_t) names[i[k]].rpm;
            wait = w > wait ? w : wait;
            left = room >= 0 ? (uint64_t) room / 60000 : 0;
            least = left < least ? left : least;
            ok &= room >= 0;
        }
    }

    for (k = 0; k < n; k++) {
        if (names[i[k]].rpm != 0) {
            model_set(i[k], level[k] + (ok ? 60000 : 0));
        }
    }

    assert_int_equal(rc, ok ? LLM_OK : LLM_DECLINED);
    assert_int_equal(rd.wait_ms, wait);

    if (least != UINT64_MAX) {
        assert_int_equal(rd.remaining, ok ? least : 0);
        assert_int_equal(rd.limit, names[i[rd.index]].burst);
    }
}


static void
step_check(void)
{
    unsigned         i, held, waiting;
    const char      *e;
    model_ticket_t  *t;

    e = ledger_check(lg, 0);

    if (e != NULL) {
        fail_msg("%s", e);
    }

    for (i = 0; i < NAMES; i++) {
        (void) llm_ledger_look(lg, &names[i], &held, &waiting);
        assert_int_equal(held, model_count(i, 0));
        assert_int_equal(waiting, model_count(i, 1));
    }

    for (t = tickets; t < tickets + ROWS; t++) {
        if (t->state != LLM_TICKET_FREE) {
            i = (unsigned) (t->id & LLM_LEDGER_INDEX_MASK);
            assert_int_equal(llm_ledger_ticket(lg, i)->state, t->state);
        }
    }
}


static void
run(uint64_t from)
{
    void          *mem;
    size_t         size;
    unsigned       i, step, what;
    llm_owners_t   wake;

    seed = from;
    now = 1000000;
    seq = 0;

    memset(tickets, 0, sizeof(tickets));
    memset(buckets, 0, sizeof(buckets));
    memset(last, 0, sizeof(last));

    for (i = 0; i < NAMES; i++) {
        snprintf(text[i], sizeof(text[i]), "%c:%u", i < KEYS ? 'k' : 't', i);
        names[i].name.data = (unsigned char *) text[i];
        names[i].name.len = strlen(text[i]);
        names[i].hash = i % 5;           /* some share theirs */
        names[i].concurrency = 1 + i % 4;
        names[i].rpm = 60000;
        names[i].burst = 5;
        adopted[i] = names[i].concurrency;
    }

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

        now += any(3) == 0 ? any(40) : 0;
        now -= any(20) == 0 ? any(20) : 0;
        what = any(1000);

        if (what < 380) {
            step_enter();

        } else if (what < 700) {
            step_leave(&wake);

        } else if (what < 800) {
            step_granted();

        } else if (what < 960) {
            step_take();

        } else if (what < 985) {
            step_limit(&wake);

        } else if (what < 993) {
            step_reap(&wake);

        } else {
            model_told();
            model_run();
            llm_ledger_rebuild(lg, &wake);
        }

        if (mixed && ran) {
            model_follow();
        }

        assert_memory_equal(&wake, &expected, sizeof(llm_owners_t));

        if (step % 16 == 0) {
            step_check();
        }
    }

    free(mem);
}


static void
test_model(void **state)
{
    uint64_t  i;

    (void) state;

    mixed = 0;

    for (i = 1; i <= 5; i++) {
        run(i * 0x9e3779b97f4a7c15);
    }
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
