
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the table of targets promises, one promise after the other.
 */


#include "target_fixture.h"


static void
test_size(void **state)
{
    void  *mem;

    (void) state;

    mem = malloc(SIZE);
    assert_null(llm_target_create(mem, SIZE - 1));
    assert_non_null(llm_target_create(mem, SIZE));
    free(mem);
}


static void
test_names(void **state)
{
    char               name[LLM_TARGET_NAME + 2];
    uint32_t           i, n, got, first;
    llm_target_call_t  c;

    (void) state;

    assert_int_equal(find(tg, "openai:gpt-4o"), one);
    assert_int_not_equal(find(tg, "openai:gpt-4"), one);
    assert_int_equal(find(tg, ""), LLM_TARGET_NONE);

    memset(name, 'a', sizeof(name));
    name[LLM_TARGET_NAME + 1] = '\0';
    assert_int_equal(find(tg, name), LLM_TARGET_NONE);

    name[LLM_TARGET_NAME] = '\0';
    got = find(tg, name);
    assert_int_not_equal(got, LLM_TARGET_NONE);
    assert_int_equal(find(tg, name), got);

    /* the one with a call stays, those that were not used for longest go */

    assert_int_equal(begin(&c, 1), LLM_OK);

    n = tg->size;
    first = 0;

    for (i = 0; i < n; i++) {
        snprintf(name, sizeof(name), "other:%u", i);
        got = find(tg, name);
        assert_int_not_equal(got, LLM_TARGET_NONE);
        assert_int_not_equal(got, one);

        /* one that is looked for again and again stays */

        first = i == 0 ? got : first;
        assert_int_equal(find(tg, "other:0"), first);
    }

    assert_int_equal(find(tg, "openai:gpt-4o"), one);
    assert_int_equal(look(1).running, 1);

    /* all have calls */

    for (i = 0; i < n; i++) {
        llm_target_start(tg, i, &conf, 3, 0, 0, 1, &wait_ms, &c);
    }

    assert_int_equal(find(tg, "one:more"), LLM_TARGET_NONE);

    llm_target_reap(tg, 3, 1);

    assert_int_not_equal(find(tg, "one:more"), LLM_TARGET_NONE);
}


/* nothing is known: everything may start, nothing is counted */

static void
test_none(void **state)
{
    llm_target_call_t  c;
    llm_target_stat_t  st;

    (void) state;

    assert_int_equal(llm_target_start(tg, LLM_TARGET_NONE, &conf, 0, 0, 0, 1,
                                      &wait_ms, &c), LLM_OK);
    assert_int_equal(llm_target_look(tg, LLM_TARGET_NONE, &conf, 0, 1,
                                     &wait_ms), LLM_OK);
    assert_int_equal(llm_target_retry(tg, LLM_TARGET_NONE, &conf, 1), LLM_OK);
    llm_target_client_retried(tg, LLM_TARGET_NONE, &conf, 1);
    llm_target_first(tg, LLM_TARGET_NONE, &conf, 1, 1);
    llm_target_told(tg, LLM_TARGET_NONE, &conf, &c, NULL, NULL, 1);
    llm_target_end(tg, LLM_TARGET_NONE, &conf, &c, LLM_TARGET_BAD, 1, 1, 1);
    llm_target_stat(tg, LLM_TARGET_NONE, 1, &st);
    llm_target_grant(tg, LLM_TARGET_NONE);

    assert_int_equal(llm_target_hedge(tg, LLM_TARGET_NONE, 0), LLM_DECLINED);
    assert_int_equal(llm_target_late(tg, LLM_TARGET_NONE),
                     LLM_TARGET_UNKNOWN);

    assert_int_equal(st.running, 0);
    assert_int_equal(st.first_ms, LLM_TARGET_UNKNOWN);

    /* an owner that cannot be */

    assert_int_equal(llm_target_start(tg, one, &conf, LLM_LEDGER_OWNERS, 0, 0,
                                      1, &wait_ms, &c), LLM_OK);
    end(&c, LLM_TARGET_BAD, 1);
    assert_int_equal(look(1).running, 0);
}


static void
test_limited(void **state)
{
    uint64_t           now, ms, least, most;
    unsigned           i;
    llm_target_call_t  c, d, e;

    (void) state;

    /* what it asks for, and the longest of several */

    assert_int_equal(begin(&c, 1000), LLM_OK);
    assert_int_equal(begin(&d, 1000), LLM_OK);
    assert_int_equal(begin(&e, 1000), LLM_OK);

    llm_target_end(tg, one, &conf, &c, LLM_TARGET_LIMITED, 5000, -1, 1100);
    llm_target_end(tg, one, &conf, &d, LLM_TARGET_LIMITED, 2000, -1, 1200);
    assert_int_equal(look(1200).until, 6100);
    assert_int_equal(look(1200).cooled, 1);
    assert_int_equal(begin(&c, 1200), LLM_AGAIN);
    assert_int_equal(wait_ms, 4900);
    assert_int_equal(llm_target_look(tg, one, &conf, 0, 6099, &wait_ms),
                     LLM_AGAIN);

    /* by force it is not asked */

    assert_int_equal(llm_target_start(tg, one, &conf, 3, 0, 1, 1200,
                                      &wait_ms, &c), LLM_OK);
    end(&c, LLM_TARGET_GOOD, 1200);
    end(&e, LLM_TARGET_LIMITED, 1300);
    assert_int_equal(look(1300).until, 6100);
    assert_int_equal(look(1300).state, LLM_TARGET_CLOSED);

    /* it does not say: doubled while it goes on, +- 20 % */

    now = 100000;
    ms = 1000;
    least = UINT64_MAX;
    most = 0;

    for (i = 0; i < 60; i++) {
        call(LLM_TARGET_LIMITED, now);
        assert_int_equal(begin(&c, now), LLM_AGAIN);
        assert_in_range(wait_ms, ms * 8 / 10, ms * 12 / 10);

        if (ms == 30000) {
            least = wait_ms < least ? wait_ms : least;
            most = wait_ms > most ? wait_ms : most;
        }

        ms = ms * 2 < 30000 ? ms * 2 : 30000;
        now += wait_ms;
    }

    assert_true(most - least > 5000);

    /* never a failure, and a good end begins anew */

    assert_int_equal(look(now).state, LLM_TARGET_CLOSED);
    call(LLM_TARGET_GOOD, now);
    call(LLM_TARGET_LIMITED, now);
    assert_int_equal(begin(&c, now), LLM_AGAIN);
    assert_in_range(wait_ms, 800, 1200);
}


/* the count of bad ones in a row is left alone */

static void
test_limited_in_a_row(void **state)
{
    unsigned           i;
    llm_target_call_t  c;

    (void) state;

    for (i = 0; i < 4; i++) {
        call(LLM_TARGET_BAD, 1000);
    }

    assert_int_equal(begin(&c, 1000), LLM_OK);
    llm_target_end(tg, one, &conf, &c, LLM_TARGET_LIMITED, 0, -1, 1000);
    assert_int_equal(look(1000).state, LLM_TARGET_CLOSED);
    call(LLM_TARGET_BAD, 1000);
    assert_int_equal(look(1000).state, LLM_TARGET_OPEN);
}


/* many answers of one burst are one cool-down, not five times as long */

static void
test_limited_burst(void **state)
{
    unsigned           i;
    llm_target_call_t  c[20];

    (void) state;

    for (i = 0; i < 20; i++) {
        assert_int_equal(begin(&c[i], 1000), LLM_OK);
    }

    for (i = 0; i < 20; i++) {
        end(&c[i], LLM_TARGET_LIMITED, 1100 + i);
    }

    assert_int_equal(look(1200).cooled, 1);
    assert_in_range(look(1200).until, 1900, 2320);
}


static unsigned
retries(uint64_t now)
{
    unsigned           n;
    llm_target_call_t  c;

    for (n = 0; llm_target_retry(tg, one, &conf, now) == LLM_OK; n++) {
        assert_int_equal(begin(&c, now), LLM_OK);
        end(&c, LLM_TARGET_NEUTRAL, now);
    }

    return n;
}


static void
test_budget(void **state)
{
    uint64_t  now;
    unsigned  i;

    (void) state;

    /* the floor */

    assert_int_equal(retries(1000), 1);
    assert_int_equal(retries(1999), 0);
    assert_int_equal(retries(2000), 1);
    assert_int_equal(look(2000).retries, 2);
    assert_int_equal(look(2000).denied, 3);

    /* 20 % of the first ones; the retries' own starts earn nothing */

    for (i = 0; i < 25; i++) {
        call(LLM_TARGET_GOOD, 2000);
    }

    assert_int_equal(retries(2000), 5);

    /* ten at most, and one of the floor */

    for (i = 0; i < 1000; i++) {
        call(LLM_TARGET_GOOD, 2000);
    }

    assert_int_equal(retries(3000), 11);

    /* a client's take half */

    for (i = 0; i < 20; i++) {
        call(LLM_TARGET_GOOD, 3000);
    }

    for (i = 0; i < 4; i++) {
        llm_target_client_retried(tg, one, &conf, 3000);
    }

    assert_int_equal(retries(3000), 2);

    for (i = 0; i < 10; i++) {
        llm_target_client_retried(tg, one, &conf, 4000);
    }

    assert_int_equal(retries(4000), 0);

    /* a high floor is the cap */

    conf.budget_floor = 50;
    now = 5000;
    assert_int_equal(retries(now), 50);

    for (i = 0; i < 1000; i++) {
        call(LLM_TARGET_GOOD, now);
    }

    assert_int_equal(retries(now), 50);
    assert_int_equal(retries(now + 100), 5);

    conf.budget_floor = 0;
    assert_int_equal(retries(now + 10000), 0);

    /* of the floor no more than a second's is kept */

    conf.budget_floor = 2;
    now = 20000;
    assert_int_equal(retries(now), 2);
    llm_target_client_retried(tg, one, &conf, now + 900);
    llm_target_client_retried(tg, one, &conf, now + 1800);
    llm_target_client_retried(tg, one, &conf, now + 2700);
    assert_int_equal(retries(now + 3600), 2);
}


static void
test_running(void **state)
{
    unsigned           i;
    llm_target_call_t  c[4], d;

    (void) state;

    conf.most = 4;

    for (i = 0; i < 4; i++) {
        assert_int_equal(llm_target_start(tg, one, &conf, i, 0, 0, 1000,
                                          &wait_ms, &c[i]), LLM_OK);
    }

    assert_int_equal(look(1000).running, 4);
    assert_int_equal(begin(&d, 1000), LLM_AGAIN);
    assert_true(wait_ms > 0);
    assert_int_equal(llm_target_start(tg, one, &conf, 0, 0, 1, 1000,
                                      &wait_ms, &d), LLM_AGAIN);

    /* each is given back once */

    end(&c[0], LLM_TARGET_GOOD, 1000);
    end(&c[0], LLM_TARGET_GOOD, 1000);
    assert_int_equal(look(1000).running, 3);

    llm_target_reap(tg, 1, 1000);
    llm_target_reap(tg, 1, 1000);
    assert_int_equal(look(1000).running, 2);
    end(&c[1], LLM_TARGET_GOOD, 1000);
    assert_int_equal(look(1000).running, 2);

    end(&c[2], LLM_TARGET_NEUTRAL, 1000);
    end(&c[3], LLM_TARGET_BAD, 1000);
    assert_int_equal(look(1000).running, 0);
}


static void
test_bound(void **state)
{
    unsigned           i, n;
    llm_target_call_t  c[200];

    (void) state;

    conf.adaptive = 1;
    conf.consecutive = 0;
    conf.ratio = 0;

    for (n = 0; begin(&c[n], 1000) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 64);
    assert_int_equal(look(1000).most, 64);

    /* one less in ten, once per 100 ms */

    llm_target_end(tg, one, &conf, &c[--n], LLM_TARGET_LIMITED, 0, -1, 1000);
    end(&c[--n], LLM_TARGET_SILENT, 1099);
    assert_int_equal(look(1099).most, 57);
    end(&c[--n], LLM_TARGET_SILENT, 1100);
    assert_int_equal(look(1100).most, 51);
    end(&c[--n], LLM_TARGET_BAD, 1300);
    assert_int_equal(look(1300).most, 51);

    while (n != 0) {
        end(&c[--n], LLM_TARGET_NEUTRAL, 1300);
    }

    /* never below one */

    for (i = 0; i < 100; i++) {
        call(LLM_TARGET_SILENT, 2000 + i * 100);
    }

    assert_int_equal(look(20000).most, 1);

    /* one more for a bound full of good ones, while more than half run */

    call(LLM_TARGET_GOOD, 20000);
    assert_int_equal(look(20000).most, 2);

    for (i = 0; i < 50; i++) {
        call(LLM_TARGET_GOOD, 20000);
    }

    assert_int_equal(look(20000).most, 2);

    /* two at a time: the second good end of both, not the first */

    assert_int_equal(begin(&c[0], 20000), LLM_OK);
    assert_int_equal(begin(&c[1], 20000), LLM_OK);
    end(&c[0], LLM_TARGET_GOOD, 20000);
    assert_int_equal(look(20000).most, 2);
    assert_int_equal(begin(&c[0], 20000), LLM_OK);
    end(&c[1], LLM_TARGET_GOOD, 20000);
    assert_int_equal(look(20000).most, 3);
    end(&c[0], LLM_TARGET_NEUTRAL, 20000);

    conf.most = 10;

    for (i = 0; i < 1000; i++) {
        for (n = 0; begin(&c[n], 30000) == LLM_OK; n++) { /* void */ }

        while (n != 0) {
            end(&c[--n], LLM_TARGET_GOOD, 30000);
        }
    }

    assert_int_equal(look(30000).most, 10);
}


static void
test_bound_slow(void **state)
{
    unsigned           i, n;
    llm_target_call_t  c[100];

    (void) state;

    conf.adaptive = 1;
    conf.most = 100;

    for (i = 0; i < 200; i++) {
        llm_target_first(tg, one, &conf, 100, 1000);
    }

    /* slow, but there are few */

    for (i = 0; i < 20; i++) {
        llm_target_first(tg, one, &conf, 400, 2000);
    }

    assert_int_equal(look(2000).most, 0);

    for (i = 0; i < 400; i++) {
        llm_target_first(tg, one, &conf, 100, 2000);
    }

    for (n = 0; n < 60; n++) {
        assert_int_equal(begin(&c[n], 3000), LLM_OK);
    }

    for (i = 0; i < 10; i++) {
        llm_target_first(tg, one, &conf, 190, 3000);
    }

    assert_int_equal(look(3000).most, 100);

    for (i = 0; i < 10; i++) {
        llm_target_first(tg, one, &conf, 400, 3000);
    }

    assert_int_equal(look(3000).most, 95);
    llm_target_first(tg, one, &conf, 400, 3999);
    assert_int_equal(look(3999).most, 95);
    llm_target_first(tg, one, &conf, 400, 4000);
    assert_int_equal(look(4000).most, 90);

    while (n != 0) {
        end(&c[--n], LLM_TARGET_GOOD, 4000);
    }
}


static void
test_latency(void **state)
{
    unsigned  i;

    (void) state;

    assert_int_equal(look(1).first_ms, LLM_TARGET_UNKNOWN);
    assert_int_equal(look(1).first_p95, LLM_TARGET_UNKNOWN);

    seed = 99;

    for (i = 0; i < 2000; i++) {
        llm_target_first(tg, one, &conf, 100 + any(900), 1000);
    }

    assert_in_range(look(1000).first_ms, 480, 620);
    assert_in_range(look(1000).first_p95, 870, 1030);

    /* what was long ago counts less and less */

    for (i = 0; i < 1500; i++) {
        llm_target_first(tg, one, &conf, 20, 1000);
    }

    assert_in_range(look(1000).first_ms, 15, 24);
    assert_in_range(look(1000).first_p95, 15, 24);

    llm_target_first(tg, one, &conf, 0, 1000 + 40 * 300000);
    assert_in_range(look(1000).first_p95, 0, 2);

    llm_target_first(tg, one, &conf, UINT64_MAX, 1000 + 80 * 300000);
    assert_in_range(look(1000).first_p95, 40000, 70000);
}


/* names keep their places, all else is forgotten */

static void
test_reset(void **state)
{
    char               name[16];
    uint32_t           i, places[20], kept;
    llm_target_call_t  c;

    (void) state;

    for (i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "p%u:m", i);
        places[i] = find(tg, name);
    }

    assert_int_equal(begin(&c, 1000), LLM_OK);
    eject(1000);

    /* all that can be derived is rubbish */

    memset((unsigned char *) tg + LLM_TARGET_HEAD, 0x3c,
           (tg->mask + 1) * sizeof(uint32_t));
    tg->newest = 77777;
    tg->oldest = 12345;
    tg->fresh = 3;

    for (i = 0; i < tg->size; i++) {
        llm_target_at(tg, i)->chain = 0x41414141;
        llm_target_at(tg, i)->newer = 0x41414141;
        llm_target_at(tg, i)->older = 0x41414141;
        memset(&llm_target_at(tg, i)->breaker, 0x41,
               sizeof(llm_target_breaker_t));
    }

    llm_target_at(tg, places[7])->len = 100000;

    llm_target_reset(tg);

    assert_int_equal(look(1000).state, LLM_TARGET_CLOSED);
    assert_int_equal(look(1000).running, 0);

    end(&c, LLM_TARGET_GOOD, 1000);
    assert_int_equal(look(1000).running, 0);

    for (kept = 0, i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "p%u:m", i);
        kept += find(tg, name) == places[i];
    }

    assert_true(kept >= 19);
    assert_int_equal(find(tg, "openai:gpt-4o"), one);

    for (i = 0; i < 3 * tg->size; i++) {
        snprintf(name, sizeof(name), "q%u:m", i);
        assert_int_not_equal(find(tg, name), LLM_TARGET_NONE);
    }
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        unit(size),
        unit(names),
        unit(none),
        unit(limited),
        unit(limited_in_a_row),
        unit(limited_burst),
        unit(budget),
        unit(running),
        unit(bound),
        unit(bound_slow),
        unit(latency),
        unit(reset)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
