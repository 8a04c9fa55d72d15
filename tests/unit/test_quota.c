
/*
 * Copyright (C) the ngx-llm authors
 *
 * A ledger with a store: accounts, modes, faults.
 */


#define _GNU_SOURCE

#include "quota_help.h"


static void
test_exact(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 50, &t), LLM_AGAIN);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 2);
    assert_int_equal(granted(0, &u), 1);

    assert_int_equal(turn(0, 0, 0), 1);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(u, t);
    assert_int_equal(tally("k:a", now.wall, 1), 1000);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);

    settle(0, t, 300, 20);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 1);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 1);
    assert_int_equal(tally("k:a", now.wall, 1), 300);
    assert_int_equal(tally("k:a", now.wall, 2), 20);

    /* the others see it, and what it used beyond its estimate */

    assert_int_equal(enter(1, &l, 1, 1, 9000, 0, &t), LLM_AGAIN);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_OK);
    settle(1, t, 12000, 0);
    drain(1);
    assert_int_equal(tally("k:a", now.wall, 1), 12300);

    assert_int_equal(enter(2, &l, 1, 1, 1, 0, &t), LLM_AGAIN);
    drain(2);
    assert_int_equal(granted(2, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);
    assert_int_equal(rd.refusal.used, 12300);
    assert_int_equal(rd.refusal.limit, 10000);
}


static void
test_denied(void **state)
{
    int           i, asked;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    for (i = 0; i < 3; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
        drain(0);
        assert_int_equal(granted(0, &t), LLM_OK);
    }

    /* a flood for half a second asks the store five times */

    for (i = 0, asked = 0; i < 500; i++) {

        if (enter(0, &l, 1, 1, 10, 0, &t) == LLM_AGAIN) {
            asked++;
            drain(0);
            assert_int_equal(granted(0, &t), LLM_DECLINED);
        }

        assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
        assert_true(rd.refusal.wait_ms > 0 && rd.refusal.wait_ms <= 1000);
        tick(1);
    }

    assert_int_equal(asked, 5);

    /* and when its time has come there is one */

    tick(500);
    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
}


static void
test_gone(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    assert_int_equal(turn(0, 0, 1), 1);
    assert_int_equal(tally("k:a", now.wall, 1), 1000);

    llm_ledger_leave(gw[0].lg, t, 1, &now, &wake);
    drain(0);
    assert_int_equal(granted(0, &t), 1);
    assert_int_equal(tally("k:a", now.wall, 0), 0);
    assert_int_equal(tally("k:a", now.wall, 1), 0);
    assert_int_equal(tally("k:a", now.wall, 2), 0);
    assert_int_equal(stored("k:a", 1), 0);

    /* before it was asked for */

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    llm_ledger_leave(gw[0].lg, t, 1, &now, &wake);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 0);
}


static void
test_lost(void **state)
{
    int           i;
    uint64_t      seq;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);

    for (i = 0; i < 3; i++) {
        assert_int_equal(turn(0, 0, 1), 1);
        seq = gw[0].lg->batch.seq;
        tick(10);
    }

    assert_int_equal(turn(0, 0, 0), 1);
    assert_int_equal(gw[0].lg->batch_seq, seq);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 1);

    settle(0, t, 10, 1);
    assert_int_equal(turn(0, 0, 1), 1);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 10);

    /* a reply to another batch, and no reply at all */

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    assert_int_equal(turn(0, 0, 1), 1);
    seq = gw[0].lg->batch.seq;
    assert_int_equal(llm_ledger_apply(gw[0].lg, seq - 1, "1 2 3", 5, &now,
                                      &wake), LLM_OK);
    assert_int_equal(llm_ledger_apply(gw[0].lg, seq, "1 2 3", 5, &now,
                                      &wake), LLM_ERROR);
    assert_int_equal(gw[0].lg->batch.seq, seq);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
}


static void
test_late(void **state)
{
    void         *old;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    /* the same name with a fresh ledger, which counts from the time on */

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    settle(0, t, 10, 0);
    drain(0);

    old = gw[0].lg;
    gw[0].lg = llm_ledger_create(malloc(size), size);
    free(old);
    mode(0, LLM_QUOTA_EXACT);
    tick(1000);

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 2);

    /* and one whose clock was behind */

    gw[0].lg->batch_seq = 5;

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 3);
    assert_true(gw[0].lg->batch_seq > 1000);
}


static void
test_leased(void **state)
{
    int           i, again;
    uint64_t      batches;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    mode(0, LLM_QUOTA_LEASED);

    l = limit("k:a");
    l.rates.rpm = 60000;
    l.rates.burst = 60000;
    l.rates.tpd = 1000000000;

    batches = store_calls(st);
    again = 0;

    for (i = 0; i < 4000; i++) {

        if (enter(0, &l, 1, 1, 100, 0, &t) == LLM_AGAIN) {
            again++;
            drain(0);
            assert_int_equal(granted(0, &t), LLM_OK);
        }

        settle(0, t, 50, 0);

        if (i % 20 == 0) {
            drain(0);
        }

        tick(5);
    }

    /* most needed no answer, and a batch served many */

    assert_true(again < 200);
    assert_true(store_calls(st) - batches < 400);
    assert_true(tally("k:a", now.wall, 0) >= 4000);
    assert_true(tally("k:a", now.wall, 0) < 4000 + 1000);

    /* when it is idle, all is given back, and is not used on its way */

    tick(5000);
    llm_ledger_sweep(gw[0].lg, 100, &now);
    assert_int_equal(turn(0, 0, 1), 1);
    assert_int_equal(enter(0, &l, 1, 1, 100, 0, &t), LLM_AGAIN);
    llm_ledger_leave(gw[0].lg, t, 1, &now, &wake);
    drain(0);
    tick(5000);
    llm_ledger_sweep(gw[0].lg, 100, &now);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 4000);
    assert_int_equal(tally("k:a", now.wall, 1), 200000);
    llm_ledger_sweep(gw[0].lg, 100, &now);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);
}


static void
test_alone(void **state)
{
    int           i, n;
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = limit("k:a");
    l.rates.rpm = 60;
    l.rates.burst = 30;
    l.rates.budget = 1000;
    l.rates.month = 1;

    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    /* who waits for the store is served when it goes */

    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &t), LLM_AGAIN);
    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &u), LLM_AGAIN);
    (void) llm_ledger_collect(gw[0].lg, 0, &now);
    mode(0, LLM_QUOTA_ALONE);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);

    /* a third of the burst, and of the rate */

    for (n = 3; enter(0, &l, 0, 1, 0, 1, &t) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 10);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);

    for (i = 0; i < 600; i++) {
        tick(100);
        n += enter(0, &l, 0, 1, 0, 1, &t) == LLM_OK;
    }

    assert_int_equal(n, 30);

    /* money: what was known of the fleet's and its own, and 2 % */

    tick(60000);
    assert_int_equal(enter(0, &l, 1, 1, 0, 694, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUDGET);
    assert_int_equal(enter(0, &l, 1, 1, 0, 693, &t), LLM_OK);
    assert_int_equal(enter(0, &l, 1, 1, 0, 1, &t), LLM_DECLINED);

    /* back: all of it is told, the bucket only what has not leaked */

    mode(0, LLM_QUOTA_EXACT);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 31);
    assert_int_equal(tally("k:a", now.wall, 2), 1020);
    assert_true(stored("k:a", 1) <= 2 * 60000);
}


static void
test_forgot(void **state)
{
    int           i;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();
    l.rates.rpm = 0;

    for (i = 0; i < 5; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 100, 7, &t), LLM_AGAIN);
        drain(0);
        assert_int_equal(granted(0, &t), LLM_OK);
        settle(0, t, 100, 7);
        drain(0);
    }

    store_flush(st);
    tick(1);

    /* another one asks at once; then the first one knows better */

    (void) enter(1, &l, 1, 1, 10, 0, &t);
    drain(1);

    assert_int_equal(enter(0, &l, 1, 1, 100, 7, &t), LLM_AGAIN);
    assert_int_equal(turn(0, 0, 0), 1);
    assert_int_equal(granted(0, &t), 1);
    assert_int_equal(tally("k:a", now.wall, 1), 10);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 1), 600);
    assert_int_equal(tally("k:a", now.wall, 2), 42);
}


static void
test_midnight(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();
    tick(43199000);

    assert_int_equal(enter(0, &l, 1, 1, 1000, 50, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    tick(2000);

    assert_int_equal(enter(0, &l, 1, 1, 9500, 1, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_OK);

    settle(0, t, 100, 5);
    drain(0);
    assert_int_equal(tally("k:a", now.wall - 3, 1), 100);
    assert_int_equal(tally("k:a", now.wall - 3, 2), 5);
    assert_int_equal(tally("k:a", now.wall, 1), 9500);
    assert_int_equal(tally("k:a", now.wall, 2), 1);
}


static void
test_full(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 4000, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    /* judged here, by what the store said last; debts are told all the same */

    store_full(st, 1);

    assert_int_equal(enter(0, &l, 1, 1, 6001, 0, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);

    assert_int_equal(enter(0, &l, 1, 1, 6000, 0, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 1), 10000);

    settle(0, t, 10, 0);
    settle(0, u, 10, 0);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 20);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_denied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leased, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forgot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_midnight, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
