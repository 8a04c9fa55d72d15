
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the ledger forgets when it is full, and what it keeps for a restart.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


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

    lg = llm_ledger_create(mem, room_for(8));
    llm_ledger_stat(lg, &st);
    n = (unsigned) st.tickets;
    assert_int_equal(n, 8);

    t = 0;

    for (i = 0; i < n; i++) {
        t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    }

    (void) enter(&k, NULL, 0, 0, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);
    leave(t);
    (void) enter(&k, NULL, 0, 0, NOW, LLM_OK);

    /* seven more names: each has taken, so none may be forgotten; without a
       slot no ticket is needed */
    for (i = 0; i < 8; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60 + i, 100);
        ls = limits(&l, NULL);
        take(&ls, NOW, i < 7 ? LLM_OK : LLM_DECLINED);
    }

    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);

    /* one second later "k:0", slowest and idle for longest, is full again */
    take(&ls, NOW + 900, LLM_DECLINED);
    take(&ls, NOW + 1000, LLM_OK);
    counts(&k, n, 0);
    check();
    rebuild();
    check();
}


/* what was used of a day or a month is remembered until it ends */

static void
test_full_day(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 0, 60, 10), l = limit("k:b", 0, 60, 10);
    llm_limit_t   m = limit("k:c", 0, 60, 10);
    llm_limits_t  ls;

    (void) state;

    lg = llm_ledger_create(mem, room_for(2));

    k.rates.tpd = 100;
    l.rates.budget = 100;
    l.rates.month = 1;

    ls = limits(&k, NULL);
    a = ask(&ls, 0);
    a.need.tokens = 1;
    a.need.money = 1;
    a.slot = 0;
    (void) try(&a, NOW, LLM_OK);
    ls = limits(&l, NULL);
    (void) try(&a, NOW, LLM_OK);

    ls = limits(&m, NULL);
    (void) try(&a, NOW + 86399 * 1000, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);
    (void) try(&a, NOW + 86400 * 1000, LLM_OK);
    ls = limits(&k, NULL);
    (void) try(&a, NOW + 86400 * 1000, LLM_DECLINED);
    (void) try(&a, NOW + 86401 * 1000, LLM_OK);
    ls = limits(&l, NULL);
    (void) try(&a, NOW + 86401 * 1000, LLM_OK);
    assert_int_equal(rd.money_left, 98);
}


static void
test_lru(void **state)
{
    unsigned      i, none;
    char          name[16];
    llm_limit_t   l;
    llm_limits_t  ls;

    (void) state;

    lg = llm_ledger_create(mem, room_for(8));

    for (i = 0; i < 9; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60000, 100);
        ls = limits(&l, NULL);
        take(&ls, NOW + i, LLM_OK);

        if (i == 7) {
            /* in use again, the order is to outlive a rebuild */
            l = limit("k:0", 0, 60000, 100);
            take(&ls, NOW + i, LLM_OK);
            rebuild();
        }
    }

    for (i = 0; i < 9; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60000, 100);
        assert_int_equal(llm_ledger_look(lg, &l, &none, &none),
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

    lg = llm_ledger_create(mem, room_for(2));

    ls = limits(&a, &b);
    take(&ls, NOW, LLM_OK);
    ls = limits(&a, NULL);
    untake(&ls, NOW);

    /* the team's row must not be taken from the key of the same request */
    (void) enter(&c, &m, 0, 0, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);
    check();

    t = enter(&c, &m, 0, 0, NOW + 1000, LLM_OK);
    counts(&c, 1, 0);
    counts(&m, 1, 0);
    leave(t);
    check();
}


static void
test_name(void **state)
{
    char         name[LLM_LEDGER_NAME + 2];
    llm_limit_t  l;

    (void) state;

    memset(name, 'x', sizeof(name));
    name[LLM_LEDGER_NAME] = '\0';
    l = limit(name, 0, 0, 0);
    (void) enter(&l, NULL, 0, 0, NOW, LLM_OK);

    name[LLM_LEDGER_NAME] = 'y';
    name[LLM_LEDGER_NAME + 1] = '\0';
    l = limit(name, 0, 0, 0);
    (void) enter(&l, NULL, 0, 0, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);
}


static void
test_walk(void **state)
{
    void               *other;
    uint32_t            row, rows;
    unsigned            i;
    char                name[16];
    llm_ask_t           a;
    llm_now_t           now = at(NOW);
    llm_str_t           s;
    llm_limit_t         l;
    llm_limits_t        ls = limits(&l, NULL);
    llm_ledger_t       *to;
    const llm_meter_t  *m;

    (void) state;

    a = ask(&ls, 0);
    a.slot = 0;

    for (i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 0, 0);
        l.rates.budget = 1000;
        l.rates.month = i % 2;
        a.need.money = 10 + i;
        (void) try(&a, NOW, LLM_OK);
    }

    other = malloc(room_for(32));
    to = llm_ledger_create(other, room_for(32));
    rows = 0;

    for (row = llm_ledger_walk(lg, 0, &s, &m);
         row != 0;
         row = llm_ledger_walk(lg, row, &s, &m))
    {
        snprintf(name, sizeof(name), "%.*s", (int) s.len, s.data);
        l = limit(name, 0, 0, 0);

        /* twice: the larger counts, nothing is added */
        assert_int_equal(llm_ledger_restore(to, &s, l.hash, m->day, m->month,
                                            &now), LLM_OK);
        assert_int_equal(llm_ledger_restore(to, &s, l.hash, m->day, m->month,
                                            &now), LLM_OK);
        rows++;
    }

    assert_int_equal(rows, 20);

    /* not forgotten before the policy has said what counts */
    for (i = 20; i < 40; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 60000, 10);
        lg = to;
        take(&ls, NOW + i, LLM_OK);
    }

    for (i = 0; i < 20; i++) {
        snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name, 0, 0, 0);
        l.rates.budget = 1000;
        l.rates.month = i % 2;
        llm_ledger_peek(to, &ls, &now, &rd);
        assert_int_equal(rd.money_left, 1000 - 10 - i);
    }

    /* a file that says less, or something older, changes nothing */
    {
        llm_tally_t  day[2] = { { 0, 0, 0, 0 }, { 0, 0, 0, 0 } };

        day[0].period = llm_meter_day(now.wall);
        day[0].money = 3;
        day[1].period = llm_meter_day(now.wall) - 2;
        day[1].money = INT64_MAX;

        snprintf(name, sizeof(name), "k:2");
        l = limit(name, 0, 0, 0);
        l.rates.budget = 1000;
        assert_int_equal(llm_ledger_restore(to, &l.name, l.hash, day, day,
                                            &now), LLM_OK);
        llm_ledger_peek(to, &ls, &now, &rd);
        assert_int_equal(rd.money_left, 988);

        day[0].money = 30;
        (void) llm_ledger_restore(to, &l.name, l.hash, day, day, &now);
        llm_ledger_peek(to, &ls, &now, &rd);
        assert_int_equal(rd.money_left, 970);
    }

    check();
    free(other);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full_day, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lru, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_name, setup, teardown),
        cmocka_unit_test_setup_teardown(test_walk, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
