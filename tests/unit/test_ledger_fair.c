
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who goes next: by score, and by weight where a gate is fair.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


#define FLOWS  5


static llm_limit_t   gate, flow[FLOWS];
static llm_ticket_t  running;
static unsigned      line[FLOWS];          /* waiters of each */


static void
start(uint32_t concurrency)
{
    unsigned            i;
    static const char  *name[FLOWS] = {
        "f:0:t:a", "f:0:t:b", "f:0:t:c", "f:0:t:d", "f:0:t:e"
    };

    gate = limit("p:openai", concurrency, 0, 0);
    gate.fair = 1;

    for (i = 0; i < FLOWS; i++) {
        flow[i] = limit(name[i], 0, 0, 0);
        line[i] = 0;
    }
}


static llm_ticket_t
join(unsigned f, uint64_t ms, int priority, int expected)
{
    llm_ask_t     a;
    llm_limits_t  ls = limits(&flow[f], &gate);

    a = ask(&ls, 0);
    a.need.requests = 0;
    a.queue = 1000;
    a.data = &flow[f];
    a.priority = priority;

    line[f] += expected == LLM_AGAIN;

    return try(&a, ms, expected);
}


/* the running one ends: whose turn is it? */

static unsigned
next(uint64_t ms)
{
    unsigned      f;
    void         *data;
    llm_ticket_t  t;

    leave_at(running, 0, ms);

    data = llm_ledger_granted(lg, 0, &t, &rd);
    assert_non_null(data);
    assert_int_equal(rd.verdict, LLM_OK);

    running = t;
    f = (unsigned) ((llm_limit_t *) data - flow);
    assert_true(line[f]-- > 0);

    return f;
}


/* as long as all have waiters each gets its weight's part */

static void
test_weights(void **state)
{
    unsigned  i, f, k, got[FLOWS];

    (void) state;

    start(1);
    flow[1].weight = 3;

    running = join(0, NOW, 0, LLM_OK);

    for (i = 0; i < 100; i++) {
        (void) join(0, NOW + i, 0, LLM_AGAIN);
    }

    for (i = 0; i < 90; i++) {
        (void) join(1, NOW + 200 + i, 0, LLM_AGAIN);
    }

    check();
    memset(got, 0, sizeof(got));

    for (i = 1; i <= 100; i++) {
        got[next(NOW + 1000)]++;

        /* at any time within one grant of it */
        assert_true(got[0] * 4 + 4 >= i && got[0] * 4 <= i + 4);

        if (i == 50) {
            rebuild();
            check();
        }
    }

    check();

    /* five flows, weights 1 to 5, who leave and come back */
    while (line[0] + line[1]) {
        (void) next(NOW + 2000);
    }

    for (f = 0; f < FLOWS; f++) {
        flow[f].weight = f + 1;

        for (k = 0; k < 20; k++) {
            (void) join(f, NOW + 3000 + f, 0, LLM_AGAIN);
        }
    }

    memset(got, 0, sizeof(got));

    for (i = 1; i <= 150; i++) {
        f = next(NOW + 4000);
        got[f]++;
        (void) join(f, NOW + 4000 + i, (int) (i % 3), LLM_AGAIN);

        for (k = 0; k < FLOWS; k++) {
            assert_in_range(got[k] * 15 + 30, i * (k + 1), i * (k + 1) + 60);
        }
    }

    check();
}


/* who was alone has no debt, who was away no credit */

static void
test_history(void **state)
{
    unsigned  i, got[FLOWS];

    (void) state;

    start(1);
    running = join(0, NOW, 0, LLM_OK);

    for (i = 0; i < 500; i++) {
        (void) join(0, NOW, 0, LLM_AGAIN);
        (void) next(NOW);
    }

    for (i = 0; i < 40; i++) {
        (void) join(0, NOW, 0, LLM_AGAIN);
        (void) join(1, NOW, 0, LLM_AGAIN);
    }

    memset(got, 0, sizeof(got));

    for (i = 1; i <= 40; i++) {
        got[next(NOW)]++;
        assert_in_range(got[0] * 2 + 2, i, i + 4);
    }

    /* at once, too, each is counted: one after the other with two slots */
    gate.concurrency = 2;
    gate.fair = 0;
    update(&gate);
    check();
    gate.fair = 1;
    update(&gate);
    check();
}


/* within a flow by score; a better one does not lose the flow's place */

static void
test_within(void **state)
{
    llm_ticket_t  t[4];

    (void) state;

    start(1);
    running = join(2, NOW, 0, LLM_OK);
    t[0] = join(0, NOW, 0, LLM_AGAIN);
    t[1] = join(0, NOW + 1, -1, LLM_AGAIN);
    t[2] = join(1, NOW + 2, -5, LLM_AGAIN);
    t[3] = join(0, NOW + 3, 2, LLM_AGAIN);
    check();

    assert_int_equal(next(NOW), 0);
    assert_int_equal(running, t[1]);
    assert_int_equal(next(NOW), 1);
    assert_int_equal(running, t[2]);
    assert_int_equal(next(NOW), 0);
    assert_int_equal(running, t[0]);

    /* fairness taken away and given: the line is in the new order */
    (void) join(3, NOW + 5, 0, LLM_AGAIN);
    gate.fair = 0;
    update(&gate);
    check();
    assert_int_equal(next(NOW), 3);
    assert_int_equal(next(NOW), 0);
    assert_int_equal(running, t[3]);
    check();
}


/* one slot, five hundred waiters: in the order they came */

static void
test_strict(void **state)
{
    void          *big;
    unsigned       i;
    llm_ask_t      a;
    llm_limit_t    k = limit("k:a", 1, 0, 0);
    llm_limits_t   ls = limits(&k, NULL);
    llm_ticket_t   t[501];

    (void) state;

    big = malloc(room_for(501));
    lg = llm_ledger_create(big, room_for(501));
    a = ask(&ls, 0);
    a.need.requests = 0;
    a.queue = 500;

    for (i = 0; i <= 500; i++) {
        a.owner = i % LLM_LEDGER_OWNERS;
        t[i] = try(&a, NOW + i / 3, i ? LLM_AGAIN : LLM_OK);
    }

    (void) try(&a, NOW, LLM_DECLINED);
    check();

    for (i = 0; i < 500; i++) {
        leave_at(t[i], 0, NOW + 1000);
        assert_int_equal(granted((i + 1) % LLM_LEDGER_OWNERS), t[i + 1]);
        counts(&k, 1, 499 - i);
    }

    check();
    free(big);
}


/*
 * A lower priority ages: whoever came (priority + 1) * 10 s before all that
 * wait is next, however many of a higher one come.
 */

static void
test_aging(void **state)
{
    unsigned      i;
    uint64_t      now;
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_ticket_t  low, r, g;

    (void) state;

    r = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    low = enter(&k, NULL, 0, 3, NOW, LLM_AGAIN);
    now = NOW;

    for (i = 0; i < 1000; i++) {
        now += 100;
        (void) enter(&k, NULL, 0, 0, now, LLM_AGAIN);
        leave_at(r, 0, now);
        g = granted(0);

        if (g == low) {
            break;
        }

        r = g;
    }

    assert_in_range(now, NOW + 30000, NOW + 30200);
}


/* "since": who comes again has its old place */

static void
test_since(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t[3];

    (void) state;

    a = ask(&ls, 0);
    a.need.requests = 0;
    t[0] = try(&a, NOW, LLM_OK);
    t[1] = try(&a, NOW + 10, LLM_AGAIN);
    a.since = NOW + 5;
    t[2] = try(&a, NOW + 20, LLM_AGAIN);

    leave(t[0]);
    assert_int_equal(granted(0), t[2]);
    leave(t[2]);
    assert_int_equal(granted(0), t[1]);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_weights, setup, teardown),
        cmocka_unit_test_setup_teardown(test_history, setup, teardown),
        cmocka_unit_test_setup_teardown(test_within, setup, teardown),
        cmocka_unit_test_setup_teardown(test_strict, setup, teardown),
        cmocka_unit_test_setup_teardown(test_aging, setup, teardown),
        cmocka_unit_test_setup_teardown(test_since, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
