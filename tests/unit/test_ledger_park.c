
/*
 * Copyright (C) the ngx-llm authors
 *
 * Tickets that wait for rates.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


static int
retry(llm_ticket_t t, uint64_t ms)
{
    llm_now_t  now = at(ms);

    memset(&wake, 0, sizeof(llm_owners_t));

    return llm_ledger_retry(lg, t, &now, &rd, &wake);
}


/* waits come out in order of arrival, and nobody overtakes */

static void
test_order(void **state)
{
    unsigned      i;
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 0, 0, 0);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t[5];

    (void) state;

    k.rates.tpm = 60000;
    k.rates.burst_tokens = 1000;

    a = ask(&ls, 1);
    a.park = 1;
    a.need.tokens = 800;
    (void) try(&a, NOW, LLM_OK);

    /* one token per ms */
    for (i = 0; i < 4; i++) {
        t[i] = try(&a, NOW, LLM_AGAIN);
        assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS);
        assert_int_equal(rd.refusal.wait_ms, 600 + 800 * i);
        check();
    }

    counts(&k, 1, 4);

    /* it would fit, but for those before it */
    a.need.tokens = 100;
    a.park = 0;
    (void) try(&a, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 3100);
    a.need.tokens = 1001;
    (void) try(&a, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, -1);
    a.park = 1;
    (void) try(&a, NOW, LLM_DECLINED);

    /* who asks for no tokens does not wait for those who do */
    a.need.tokens = 0;
    (void) try(&a, NOW, LLM_OK);

    /* each in its turn, too early is told so */
    assert_int_equal(retry(t[0], NOW + 599), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 1);
    assert_int_equal(retry(t[1], NOW + 600), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 800);
    assert_int_equal(retry(t[0], NOW + 600), LLM_OK);
    assert_int_equal(retry(t[0], NOW + 600), LLM_OK);
    check();

    /* one that leaves lets the others go earlier, who asks again */
    leave_at(t[1], 1, NOW + 700);
    assert_int_equal(retry(t[3], NOW + 1400), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 800);
    assert_int_equal(retry(t[2], NOW + 1400), LLM_OK);
    assert_int_equal(retry(t[1], NOW + 1400), LLM_DECLINED);
    assert_int_equal(retry(t[3], NOW + 2200), LLM_OK);
    counts(&k, 5, 0);
    check();
}


/* a key's own rates hinder nobody else of its team */

static void
test_team(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 0, 60, 1), j = limit("k:b", 0, 0, 0);
    llm_limit_t   m = limit("t:t", 0, 60, 4);
    llm_limits_t  ls = limits(&k, &m), other = limits(&j, &m);
    llm_ticket_t  t[4];

    (void) state;

    a = ask(&ls, 1);
    a.park = 1;

    (void) try(&a, NOW, LLM_OK);
    t[0] = try(&a, NOW, LLM_AGAIN);
    t[1] = try(&a, NOW, LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 2000);
    assert_int_equal(rd.index, 0);

    a.limits = &other;
    (void) try(&a, NOW, LLM_OK);
    (void) try(&a, NOW, LLM_OK);
    (void) try(&a, NOW, LLM_OK);
    t[2] = try(&a, NOW, LLM_AGAIN);
    assert_int_equal(rd.index, 1);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    t[3] = try(&a, NOW, LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 2000);
    check();

    /* who came first goes first at the team, too */
    assert_int_equal(retry(t[0], NOW + 1000), LLM_OK);
    assert_int_equal(retry(t[2], NOW + 1000), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    assert_int_equal(retry(t[3], NOW + 2000), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    rebuild();
    check();
    assert_int_equal(retry(t[2], NOW + 2000), LLM_OK);

    assert_int_equal(reap(1), 8);
    counts(&m, 0, 0);
    check();
}


/* from the parked to the line, with its place by arrival, and back */

static void
test_slots(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 60, 2);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t[5];

    (void) state;

    a = ask(&ls, 1);
    a.park = 1;
    a.queue = 3;

    t[0] = try(&a, NOW, LLM_OK);
    t[1] = try(&a, NOW + 1, LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 0);
    assert_int_equal(rd.refusal.why, LLM_WHY_NONE);

    /* t[1] waits and holds nothing: there is one more unit */
    k.concurrency = 0;
    t[4] = try(&a, NOW + 2, LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 0);
    update(&k);
    assert_int_equal(granted(1), t[1]);
    assert_int_equal(granted(1), t[4]);
    assert_int_equal(rd.verdict, LLM_AGAIN);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
    assert_int_equal(rd.refusal.wait_ms, 998);
    assert_int_equal(granted(1), 0);
    check();

    k.concurrency = 2;
    update(&k);
    t[2] = try(&a, NOW + 10, LLM_AGAIN);
    assert_true(rd.refusal.wait_ms > 1900);
    t[3] = try(&a, NOW + 10, LLM_AGAIN);

    /* a parked one counts as waiting */
    (void) try(&a, NOW + 10, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_QUEUE_FULL);
    counts(&k, 2, 3);

    /* its rates fit, but there is no slot: now it stands in line, … */
    assert_int_equal(retry(t[4], NOW + 4000), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 0);
    assert_int_equal(retry(t[4], NOW + 4000), LLM_AGAIN);
    check();

    /* … and who came later behind it, also if it is ready sooner */
    assert_int_equal(retry(t[2], NOW + 4000), LLM_AGAIN);
    leave_at(t[0], 0, NOW + 4000);
    assert_int_equal(wake.bits[0], 1 << 1);
    assert_int_equal(granted(1), t[4]);
    assert_int_equal(rd.verdict, LLM_OK);
    assert_int_equal(granted(1), 0);

    /* granted, but not fetched yet: a retry fetches it */
    leave_at(t[4], 0, NOW + 4000);
    assert_int_equal(retry(t[2], NOW + 4000), LLM_OK);
    assert_int_equal(granted(1), 0);

    leave_at(t[3], 0, NOW + 4000);
    leave_at(t[2], 0, NOW + 4000);
    leave_at(t[1], 0, NOW + 4000);
    counts(&k, 0, 0);
    check();
}


/* parked again in its turn, and told once; a death in between is no loss */

static void
test_parked_in_turn(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 60, 2);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t[4];

    (void) state;

    a = ask(&ls, 1);
    a.park = 1;

    t[0] = try(&a, NOW, LLM_OK);
    t[1] = try(&a, NOW, LLM_AGAIN);
    t[2] = try(&a, NOW, LLM_AGAIN);
    a.owner = 2;
    t[3] = try(&a, NOW, LLM_AGAIN);
    leave(t[0]);
    leave(t[1]);
    rebuild();
    check();

    assert_int_equal(granted(1), t[2]);
    assert_int_equal(rd.verdict, LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    assert_int_equal(granted(1), 0);
    rebuild();
    assert_int_equal(granted(1), 0);

    /* one not fetched yet is not lost by a retry, nor by its owner's death */
    assert_int_equal(retry(t[3], NOW + 1000), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 2000);
    assert_int_equal(granted(2), 0);
    assert_int_equal(retry(t[3], NOW + 1000), LLM_AGAIN);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    assert_int_equal(retry(t[2], NOW + 1000), LLM_OK);
    assert_int_equal(reap(2), 1);
    assert_int_equal(reap(1), 1);
    counts(&k, 0, 0);
    check();
}


/* without a slot: the request's own bucket before the cache is asked */

static void
test_no_slot(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 60, 1);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t;

    (void) state;

    (void) enter(&k, NULL, 0, 0, NOW, LLM_OK);

    a = ask(&ls, 1);
    a.slot = 0;
    a.park = 1;

    (void) try(&a, NOW, LLM_OK);
    t = try(&a, NOW, LLM_AGAIN);
    counts(&k, 1, 1);
    assert_int_equal(retry(t, NOW + 1000), LLM_OK);
    counts(&k, 1, 0);
    check();
    rebuild();
    check();
    leave_at(t, 0, NOW + 1000);
    leave_at(t, 1, NOW + 1000);
    take(&ls, NOW + 1000, LLM_DECLINED);
    counts(&k, 1, 0);

    /* a limit that has become too small for it refuses it for good */
    t = try(&a, NOW + 1000, LLM_AGAIN);
    k.rates.burst = 0;
    update(&k);
    assert_int_equal(retry(t, NOW + 9000), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, -1);
    counts(&k, 1, 0);
    check();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_team, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_parked_in_turn, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_no_slot, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
