
/*
 * Copyright (C) the ngx-llm authors
 *
 * When a target is ejected, and how it comes back.
 */


#include "target_fixture.h"


static void
test_consecutive(void **state)
{
    unsigned  i;

    (void) state;

    conf.ratio = 0;

    for (i = 0; i < 4; i++) {
        call(i % 2 ? LLM_TARGET_BAD : LLM_TARGET_SILENT, 1000);
    }

    /* what says nothing does not count, and a good one begins anew */

    call(LLM_TARGET_NEUTRAL, 1000);
    assert_int_equal(look(1000).state, LLM_TARGET_CLOSED);
    call(LLM_TARGET_GOOD, 1000);

    for (i = 0; i < 4; i++) {
        call(LLM_TARGET_BAD, 1000);
        call(LLM_TARGET_NEUTRAL, 1000);
        assert_int_equal(look(1000).state, LLM_TARGET_CLOSED);
    }

    call(LLM_TARGET_BAD, 1000);
    assert_int_equal(look(1000).state, LLM_TARGET_OPEN);
    assert_int_equal(look(1000).until, 31000);
    assert_int_equal(look(1000).ejections, 1);
}


static void
test_ratio(void **state)
{
    unsigned  i;

    (void) state;

    conf.consecutive = 0;

    /* 10 of 19: too few ends */

    for (i = 0; i < 9; i++) {
        call(LLM_TARGET_BAD, 5000);
        call(LLM_TARGET_GOOD, 5000);
    }

    call(LLM_TARGET_BAD, 5000);
    assert_int_equal(look(5000).state, LLM_TARGET_CLOSED);

    /* the window has passed: only this one is left */

    call(LLM_TARGET_BAD, 15000);
    assert_int_equal(look(15000).state, LLM_TARGET_CLOSED);

    /* 9 of 20 over several steps, then 10 of 21 and 11 of 22 */

    for (i = 0; i < 11; i++) {
        call(LLM_TARGET_GOOD, 16000 + i * 500);
    }

    for (i = 0; i < 9; i++) {
        call(LLM_TARGET_BAD, 22000);
        assert_int_equal(look(22000).state, LLM_TARGET_CLOSED);
    }

    call(LLM_TARGET_BAD, 22000);
    assert_int_equal(look(22000).state, LLM_TARGET_OPEN);
}


static void
test_probe(void **state)
{
    uint64_t           until;
    llm_target_call_t  c, d, late;

    (void) state;

    assert_int_equal(begin(&late, 500), LLM_OK);

    until = eject(1000);

    assert_int_equal(begin(&c, 1000), LLM_DECLINED);
    assert_int_equal(wait_ms, 30000);
    assert_int_equal(begin(&c, until - 1), LLM_DECLINED);
    assert_int_equal(wait_ms, 1);

    /* by force, and what was started before: they have no say */

    assert_int_equal(llm_target_start(tg, one, &conf, 3, 0, 1, 1000,
                                      &wait_ms, &d), LLM_OK);
    assert_int_equal(d.probe, 0);
    end(&d, LLM_TARGET_BAD, 1000);
    end(&late, LLM_TARGET_GOOD, 1001);
    assert_int_equal(look(1001).until, until);

    /* one at a time; to look takes nothing */

    assert_int_equal(llm_target_look(tg, one, &conf, 0, until, &wait_ms),
                     LLM_OK);
    assert_int_equal(look(until).state, LLM_TARGET_HALF);
    assert_int_equal(begin(&c, until), LLM_OK);
    assert_int_not_equal(c.probe, 0);
    assert_int_equal(begin(&d, until), LLM_DECLINED);
    assert_true(wait_ms > 0);
    assert_int_equal(llm_target_look(tg, one, &conf, 0, until, &wait_ms),
                     LLM_DECLINED);

    /* cancelled: another one */

    end(&c, LLM_TARGET_NEUTRAL, until);
    assert_int_equal(look(until).state, LLM_TARGET_HALF);
    assert_int_equal(begin(&c, until), LLM_OK);
    assert_int_not_equal(c.probe, 0);

    /* bad: ejected for twice as long */

    end(&c, LLM_TARGET_BAD, until);
    assert_int_equal(look(until).until, until + 60000);
    assert_int_equal(look(until).ejections, 2);
    until += 60000;

    /* limited: still half open, but it cools down */

    assert_int_equal(begin(&c, until), LLM_OK);
    llm_target_end(tg, one, &conf, &c, LLM_TARGET_LIMITED, 700,
                   LLM_TARGET_UNKNOWN, until);
    assert_int_equal(begin(&c, until), LLM_AGAIN);
    assert_int_equal(wait_ms, 700);
    until += 700;

    /* good: well, and nobody is a probe any more */

    assert_int_equal(begin(&c, until), LLM_OK);
    assert_int_not_equal(c.probe, 0);
    end(&c, LLM_TARGET_GOOD, until);
    assert_int_equal(look(until).state, LLM_TARGET_CLOSED);
    assert_int_equal(begin(&c, until), LLM_OK);
    assert_int_equal(c.probe, 0);
    end(&c, LLM_TARGET_GOOD, until);
}


static void
test_probe_lost(void **state)
{
    uint64_t           until;
    llm_target_call_t  c, d;

    (void) state;

    until = eject(1000);

    /* its owner dies */

    assert_int_equal(begin(&c, until), LLM_OK);
    llm_target_reap(tg, 2, until);
    assert_int_equal(begin(&d, until), LLM_DECLINED);
    llm_target_reap(tg, 3, until);
    assert_int_equal(begin(&c, until), LLM_OK);

    /* it never ends; when it does it is not asked any more */

    assert_int_equal(begin(&d, until + 59999), LLM_DECLINED);
    assert_int_equal(wait_ms, 1);
    assert_int_equal(begin(&d, until + 60000), LLM_OK);
    assert_int_not_equal(d.probe, c.probe);

    end(&c, LLM_TARGET_GOOD, until + 60001);
    assert_int_equal(look(until + 60001).state, LLM_TARGET_HALF);
    assert_int_equal(begin(&c, until + 60001), LLM_DECLINED);

    end(&d, LLM_TARGET_GOOD, until + 60002);
    assert_int_equal(look(until + 60002).state, LLM_TARGET_CLOSED);
}


static void
test_ejections_grow_and_heal(void **state)
{
    uint64_t  now, until;
    unsigned  i;

    (void) state;

    now = 1000;

    for (i = 1; i <= 12; i++) {
        until = eject(now);
        assert_int_equal(until - now, i < 10 ? i * 30000 : 300000);
        call(LLM_TARGET_GOOD, until);
        now = until;
    }

    /* ten times 300 s of health take ten away: the third time again */

    now += 10 * 300000;
    assert_int_equal(eject(now) - now, 90000);
    now += 90000;
    call(LLM_TARGET_GOOD, now);

    /* not quite one */

    now += 299999;
    assert_int_equal(eject(now) - now, 120000);
    now += 120000;
    call(LLM_TARGET_GOOD, now);

    now += 100 * 300000;
    assert_int_equal(eject(now) - now, 30000);
}


/* many that were under way at the ejection end long after the recovery */

static void
test_late_ends(void **state)
{
    uint64_t           until;
    unsigned           i;
    llm_target_call_t  c[20];

    (void) state;

    for (i = 0; i < 20; i++) {
        assert_int_equal(begin(&c[i], 900), LLM_OK);
    }

    until = eject(1000);
    call(LLM_TARGET_GOOD, until);

    for (i = 0; i < 20; i++) {
        end(&c[i], LLM_TARGET_BAD, until + 1);
    }

    assert_int_equal(look(until + 1).state, LLM_TARGET_CLOSED);
    assert_int_equal(look(until + 1).running, 0);
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        unit(consecutive),
        unit(ratio),
        unit(probe),
        unit(probe_lost),
        unit(ejections_grow_and_heal),
        unit(late_ends)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
