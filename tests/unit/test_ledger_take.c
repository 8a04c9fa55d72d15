
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's buckets, and what it forgets when it is full.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


static void
test_take(void **state)
{
    unsigned      i;
    llm_limit_t   k = limit("k:a", 0, 60, 3);
    llm_limit_t   m = limit("t:t", 0, 600, 5);
    llm_limits_t  ls = limits(&k, &m);

    (void) state;

    for (i = 0; i < 3; i++) {
        assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd), LLM_OK);
        assert_int_equal(rd.index, 0);
        assert_int_equal(rd.limit, 3);
        assert_int_equal(rd.rate, 60);
        assert_int_equal(rd.remaining, 2 - i);
        assert_int_equal(rd.reset_ms, 1000 * (i + 1));
        assert_int_equal(rd.wait_ms, 0);
    }

    /* the refused take nothing from either bucket */
    for (i = 0; i < 10; i++) {
        assert_int_equal(llm_ledger_take(lg, &ls, NOW + i, &rd),
                         LLM_DECLINED);
        assert_int_equal(rd.why, LLM_WHY_REQUESTS);
        assert_int_equal(rd.index, 0);
        assert_int_equal(rd.remaining, 0);
        assert_int_equal(rd.wait_ms, 1000 - i);
    }

    ls = limits(&m, NULL);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd), LLM_OK);
    assert_int_equal(rd.remaining, 1);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd), LLM_OK);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 20, &rd), LLM_DECLINED);

    /* both are empty: the longer wait is told */
    ls = limits(&m, &k);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 20, &rd), LLM_DECLINED);
    assert_int_equal(rd.index, 1);
    assert_int_equal(rd.wait_ms, 980);

    /* one unit comes back to each, and not more than was taken */
    ls = limits(&k, &m);
    llm_ledger_untake(lg, &ls, NOW + 20);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 20, &rd), LLM_OK);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 20, &rd), LLM_DECLINED);

    for (i = 0; i < 20; i++) {
        llm_ledger_untake(lg, &ls, NOW + 20);
    }

    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 20, &rd), LLM_OK);
    assert_int_equal(rd.remaining, 2);
    check();
}


static void
test_take_rates(void **state)
{
    llm_limit_t   k = limit("k:a", 0, 60, 60);
    llm_limit_t   u = limit("t:u", 0, 0, 0);
    llm_limits_t  ls = limits(&k, &u);

    (void) state;

    while (llm_ledger_take(lg, &ls, NOW, &rd) == LLM_OK) {
        assert_int_equal(rd.index, 0);
    }

    /* up to its change the old rate counts, then the new one, also if the
       first to bring it is refused */
    k.rpm = 6000;
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 900, &rd), LLM_DECLINED);
    assert_int_equal(rd.wait_ms, 1);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 901, &rd), LLM_OK);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 910, &rd), LLM_DECLINED);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 911, &rd), LLM_OK);

    /* nothing is limited: nothing is kept */
    ls = limits(&u, NULL);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd), LLM_OK);
    assert_int_equal(rd.limit, 0);
    assert_int_equal(llm_ledger_look(lg, &u, &rd.index, &rd.index),
                     LLM_DECLINED);
    llm_ledger_untake(lg, &ls, NOW);
}


static void
test_full(void **state)
{
    unsigned           i, n;
    char               name[16];
    llm_limit_t        k = limit("k:a", 0, 0, 0), l;
    llm_limits_t       ls;
    llm_ticket_t       t;
    llm_ledger_stat_t  st;

    (void) state;

    lg = llm_ledger_create(mem, sizeof(llm_ledger_t) + 8 * 284);
    llm_ledger_stat(lg, &st);
    n = (unsigned) st.tickets;
    assert_int_equal(n, 8);

    t = 0;

    for (i = 0; i < n; i++) {
        t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    }

    (void) enter(&k, NULL, 0, 0, NOW, LLM_DECLINED);
    assert_int_equal(rd.why, LLM_WHY_MEMORY);
    leave(t);
    (void) enter(&k, NULL, 0, 0, NOW, LLM_OK);

    /* seven more names: each has taken, so none may be forgotten */
    for (i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60 + i, 100);
        ls = limits(&l, NULL);
        assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd),
                         i < 7 ? LLM_OK : LLM_DECLINED);
    }

    assert_int_equal(rd.why, LLM_WHY_MEMORY);

    /* one second later "k:0", slowest and idle for longest, is full again */
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 900, &rd), LLM_DECLINED);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW + 1000, &rd), LLM_OK);
    counts(&k, n, 0);
    check();
    llm_ledger_rebuild(lg, &wake);
    check();
}


static void
test_lru(void **state)
{
    unsigned      i;
    char          name[16];
    llm_limit_t   l;
    llm_limits_t  ls;

    (void) state;

    lg = llm_ledger_create(mem, sizeof(llm_ledger_t) + 8 * 284);

    for (i = 0; i < 9; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60000, 100);
        ls = limits(&l, NULL);
        assert_int_equal(llm_ledger_take(lg, &ls, NOW + i, &rd), LLM_OK);

        if (i == 7) {
            /* in use again, the order is to outlive a rebuild */
            l = limit("k:0", 0, 60000, 100);
            assert_int_equal(llm_ledger_take(lg, &ls, NOW + i, &rd), LLM_OK);
            llm_ledger_rebuild(lg, &wake);
        }
    }

    for (i = 0; i < 9; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60000, 100);
        assert_int_equal(llm_ledger_look(lg, &l, &rd.index, &rd.index),
                         i == 1 ? LLM_DECLINED : LLM_OK);
    }

    check();
}


static void
test_two_rows(void **state)
{
    llm_limit_t   a = limit("k:a", 0, 60, 100), b = limit("k:b", 0, 60, 100);
    llm_limit_t   c = limit("k:c", 0, 0, 0), m = limit("t:t", 0, 0, 0);
    llm_limits_t  ls;
    llm_ticket_t  t;

    (void) state;

    lg = llm_ledger_create(mem, sizeof(llm_ledger_t) + 2 * 284);

    ls = limits(&a, &b);
    assert_int_equal(llm_ledger_take(lg, &ls, NOW, &rd), LLM_OK);
    ls = limits(&a, NULL);
    llm_ledger_untake(lg, &ls, NOW);

    /* the team's row must not be taken from the key of the same request */
    (void) enter(&c, &m, 0, 0, NOW, LLM_DECLINED);
    assert_int_equal(rd.why, LLM_WHY_MEMORY);
    check();

    t = enter(&c, &m, 0, 0, NOW + 1000, LLM_OK);
    counts(&c, 1, 0);
    counts(&m, 1, 0);
    leave(t);
    check();
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_take, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_rates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lru, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_rows, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
