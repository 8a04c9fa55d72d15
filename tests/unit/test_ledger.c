
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <stdio.h>
#include <cmocka.h>

#include "ledger_check.h"


#define NOW       1000000


static llm_ledger_t   *lg;
static void           *mem;
static llm_owners_t    wake;
static llm_reading_t   rd;


static int
setup(void **state)
{
    size_t  size;

    (void) state;

    size = 64 * 1024;
    mem = malloc(size);
    memset(mem, 0xa5, size);
    lg = llm_ledger_create(mem, size);
    memset(&wake, 0, sizeof(llm_owners_t));

    return lg == NULL;
}


static int
teardown(void **state)
{
    (void) state;

    free(mem);

    return 0;
}


static llm_limit_t
limit(const char *name, uint32_t concurrency, uint64_t rpm, uint64_t burst)
{
    const char   *p;
    llm_limit_t   l;

    l.name.data = (unsigned char *) name;
    l.name.len = strlen(name);
    l.concurrency = concurrency;
    l.rpm = rpm;
    l.burst = burst;
    l.hash = 2166136261u;

    for (p = name; *p != '\0'; p++) {
        l.hash = (l.hash ^ (unsigned char) *p) * 16777619;
    }

    return l;
}


static llm_limits_t
limits(const llm_limit_t *key, const llm_limit_t *team)
{
    llm_limits_t  ls;

    ls.limit[0] = key;
    ls.limit[1] = team;
    ls.n = team != NULL ? 2 : 1;

    return ls;
}


static llm_ticket_t
enter(const llm_limit_t *key, const llm_limit_t *team, unsigned owner,
    int priority, uint64_t now, int expected)
{
    llm_limits_t  ls;
    llm_ticket_t  t;

    ls = limits(key, team);

    assert_int_equal(llm_ledger_enter(lg, &ls, owner, (void *) key, priority,
                                      128, now, &t, &rd), expected);
    assert_true((t == 0) == (expected == LLM_DECLINED));

    return t;
}


static void
leave(llm_ticket_t t)
{
    memset(&wake, 0, sizeof(llm_owners_t));
    llm_ledger_leave(lg, t, &wake);
}


static llm_ticket_t
granted(unsigned owner)
{
    llm_ticket_t  t;

    (void) llm_ledger_granted(lg, owner, &t);

    return t;
}


static void
check(void)
{
    const char  *e;

    e = ledger_check(lg, 1);

    if (e != NULL) {
        fail_msg("%s", e);
    }
}


static void
counts(const llm_limit_t *l, unsigned held, unsigned waiting)
{
    unsigned  h, w;

    (void) llm_ledger_look(lg, l, &h, &w);
    assert_int_equal(h, held);
    assert_int_equal(w, waiting);
}


static void
test_create(void **state)
{
    size_t             size;
    llm_ledger_t      *l;
    unsigned char     *p;
    llm_ledger_stat_t  st;

    (void) state;

    for (size = 0; size < 8192; size += 8) {
        p = malloc(size + 1);
        p[size] = 0x5a;

        l = llm_ledger_create(p, size);

        assert_int_equal(p[size], 0x5a);

        if (l != NULL) {
            llm_ledger_stat(l, &st);
            assert_true(st.tickets >= 2);
            assert_true(size - sizeof(llm_ledger_t) < (st.tickets + 1) * 300);
            llm_ledger_rebuild(l, &wake);
            assert_null(ledger_check(l, 1));
        }

        free(p);
    }
}


static void
test_slots(void **state)
{
    llm_ticket_t       t[4];
    llm_limit_t        k = limit("k:a", 2, 0, 0);
    llm_ledger_stat_t  st;

    (void) state;

    t[0] = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    t[1] = enter(&k, NULL, 1, 0, NOW, LLM_OK);
    t[2] = enter(&k, NULL, 2, 0, NOW, LLM_AGAIN);
    t[3] = enter(&k, NULL, 3, 0, NOW, LLM_AGAIN);
    counts(&k, 2, 2);
    check();

    assert_int_equal(granted(2), 0);
    leave(t[0]);
    assert_int_equal(wake.bits[0], 1 << 2);
    assert_int_equal(granted(3), 0);
    assert_int_equal(granted(2), t[2]);
    assert_int_equal(granted(2), 0);
    counts(&k, 2, 1);

    /* a second leave of the same ticket frees nothing */
    leave(t[0]);
    assert_int_equal(wake.bits[0], 0);
    counts(&k, 2, 1);

    /* nor when its row has a new ticket */
    leave(t[1]);
    leave(t[2]);
    leave(t[3]);
    counts(&k, 0, 0);
    assert_int_not_equal(enter(&k, NULL, 0, 0, NOW, LLM_OK), t[0]);
    leave(t[0]);
    leave(t[1]);
    leave(t[2]);
    leave(t[3]);
    leave(0);
    leave(UINT64_MAX);
    counts(&k, 1, 0);

    llm_ledger_stat(lg, &st);
    assert_int_equal(st.held, 1);
    assert_int_equal(st.waiting, 0);
    assert_int_equal(st.tickets_used, 1);
    assert_int_equal(st.nodes_used, 1);
    check();
}


static void
test_owners(void **state)
{
    llm_ticket_t  t;
    llm_limit_t   k = limit("k:a", 1, 0, 0);

    (void) state;

    t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    (void) enter(&k, NULL, LLM_LEDGER_OWNERS - 1, 0, NOW, LLM_AGAIN);

    leave(t);
    assert_int_equal(wake.bits[0], 0);
    assert_true(wake.bits[1] == (uint64_t) 1 << 63);
    assert_int_not_equal(granted(LLM_LEDGER_OWNERS - 1), 0);
}


static void
test_unlimited(void **state)
{
    unsigned      i;
    llm_limit_t   k = limit("k:a", 0, 0, 0);
    llm_limit_t   t = limit("t:a", 0, 0, 0);
    llm_ticket_t  id[100];

    (void) state;

    for (i = 0; i < 100; i++) {
        id[i] = enter(&k, &t, 0, 0, NOW, LLM_OK);
        counts(&k, i + 1, 0);
        counts(&t, i + 1, 0);
    }

    for (i = 0; i < 100; i++) {
        leave(id[i]);
    }

    counts(&t, 0, 0);
    check();
}


static void
test_order(void **state)
{
    unsigned      i;
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_ticket_t  t[8], g;

    (void) state;

    t[0] = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    t[5] = enter(&k, NULL, 0, 1, NOW, LLM_AGAIN);
    t[2] = enter(&k, NULL, 0, 0, NOW, LLM_AGAIN);
    t[3] = enter(&k, NULL, 0, 0, NOW, LLM_AGAIN);
    t[1] = enter(&k, NULL, 0, -1, NOW + 5, LLM_AGAIN);
    t[4] = enter(&k, NULL, 0, 0, NOW + 9999, LLM_AGAIN);

    /* ten seconds make up for a step of priority */
    t[6] = enter(&k, NULL, 0, 0, NOW + 10000, LLM_AGAIN);
    t[7] = enter(&k, NULL, 0, -1, NOW + 20001, LLM_AGAIN);
    check();

    for (i = 0; i < 7; i++) {
        leave(t[i]);
        g = granted(0);
        assert_int_equal(g, t[i + 1]);
    }
}


static void
test_queue(void **state)
{
    llm_ticket_t  t;
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_limit_t   j = limit("k:b", 1, 0, 0);
    llm_limit_t   m = limit("t:t", 1, 0, 0);
    llm_limits_t  ls = limits(&k, &m);

    (void) state;

    /* an empty line of length 0 does not hinder who need not wait */
    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 0, NOW, &t, &rd),
                     LLM_OK);
    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 0, NOW, &t, &rd),
                     LLM_DECLINED);
    assert_int_equal(rd.why, LLM_WHY_QUEUE_FULL);
    assert_int_equal(t, 0);

    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 2, NOW, &t, &rd),
                     LLM_AGAIN);
    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 2, NOW, &t, &rd),
                     LLM_AGAIN);
    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 2, NOW, &t, &rd),
                     LLM_DECLINED);

    /* the line is the key's own */
    ls = limits(&j, &m);
    assert_int_equal(llm_ledger_enter(lg, &ls, 0, mem, 0, 2, NOW, &t, &rd),
                     LLM_AGAIN);
    counts(&m, 1, 3);
    check();
}


static void
test_team(void **state)
{
    llm_limit_t   a = limit("k:a", 1, 0, 0);
    llm_limit_t   b = limit("k:b", 0, 0, 0);
    llm_limit_t   m = limit("t:t", 2, 0, 0);
    llm_ticket_t  a1, a2, b1, b2, b3;

    (void) state;

    a1 = enter(&a, &m, 0, 0, NOW, LLM_OK);
    a2 = enter(&a, &m, 1, 0, NOW, LLM_AGAIN);

    /* a2 waits for its own key alone: b passes it by */
    b1 = enter(&b, &m, 2, 0, NOW + 1, LLM_OK);
    b2 = enter(&b, &m, 3, 0, NOW + 2, LLM_AGAIN);
    b3 = enter(&b, &m, 4, 0, NOW + 3, LLM_AGAIN);
    check();

    leave(b1);
    assert_int_equal(wake.bits[0], 1 << 3);
    counts(&m, 2, 2);

    /* now that both wait for the team a2 is first */
    leave(a1);
    assert_int_equal(wake.bits[0], 1 << 1);
    leave(a2);
    assert_int_equal(wake.bits[0], 1 << 4);
    leave(b2);
    leave(b3);
    counts(&m, 0, 0);

    /* a waiter that leaves, and one that was granted and not fetched */
    a1 = enter(&a, &m, 0, 0, NOW, LLM_OK);
    a2 = enter(&a, &m, 1, 0, NOW, LLM_AGAIN);
    b1 = enter(&a, &m, 2, 0, NOW, LLM_AGAIN);
    leave(a2);
    assert_int_equal(wake.bits[0], 0);
    leave(a1);
    assert_int_equal(wake.bits[0], 1 << 2);
    leave(b1);
    assert_int_equal(granted(2), 0);
    counts(&a, 0, 0);
    counts(&m, 0, 0);
    check();
}


static void
test_update(void **state)
{
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_limit_t   m = limit("t:t", 1, 0, 0);
    llm_ticket_t  t[6];

    (void) state;

    t[0] = enter(&k, &m, 0, 0, NOW, LLM_OK);
    t[1] = enter(&k, &m, 1, 0, NOW, LLM_AGAIN);
    t[2] = enter(&k, &m, 2, 0, NOW, LLM_AGAIN);
    t[3] = enter(&k, &m, 3, 0, NOW, LLM_AGAIN);

    k.concurrency = 3;
    llm_ledger_update(lg, &k, &wake);
    assert_int_equal(wake.bits[0], 0);
    m.concurrency = 2;
    llm_ledger_update(lg, &m, &wake);
    assert_int_equal(wake.bits[0], 1 << 1);
    m.concurrency = LLM_UNLIMITED;
    llm_ledger_update(lg, &m, &wake);
    assert_int_equal(wake.bits[0], (1 << 1) + (1 << 2));
    counts(&k, 3, 1);
    check();

    /* lowered: nobody is thrown out, and nobody let in */
    k.concurrency = 1;
    llm_ledger_update(lg, &k, &wake);
    leave(t[0]);
    leave(t[1]);
    assert_int_equal(wake.bits[0], 0);
    counts(&k, 1, 1);
    check();

    /* a newcomer that brings a higher limit does not overtake */
    k.concurrency = 2;
    t[4] = enter(&k, &m, 4, 0, NOW, LLM_AGAIN);
    assert_null(ledger_check(lg, 0));
    leave(t[2]);
    assert_int_equal(wake.bits[0], (1 << 3) + (1 << 4));
    counts(&k, 2, 0);
    leave(t[3]);
    leave(t[4]);
    check();
}


static void
test_reap(void **state)
{
    llm_limit_t   k = limit("k:a", 2, 0, 0);
    llm_limit_t   m = limit("t:t", 3, 0, 0);
    llm_ticket_t  t;

    (void) state;

    (void) enter(&k, &m, 1, 0, NOW, LLM_OK);
    t = enter(&k, &m, 2, 0, NOW, LLM_OK);
    (void) enter(&k, &m, 3, 0, NOW, LLM_AGAIN);
    (void) enter(&k, &m, 1, 0, NOW, LLM_AGAIN);
    (void) enter(&k, &m, 4, 0, NOW, LLM_AGAIN);

    leave(t);
    assert_int_equal(wake.bits[0], 1 << 3);

    /* owner 3 is told again: the dead may not have come to it */
    memset(&wake, 0, sizeof(llm_owners_t));
    assert_int_equal(llm_ledger_reap(lg, 1, &wake), 2);
    assert_int_equal(wake.bits[0], (1 << 3) + (1 << 4));
    assert_int_equal(granted(1), 0);
    counts(&k, 2, 0);

    assert_int_equal(llm_ledger_reap(lg, 1, &wake), 0);
    assert_int_equal(llm_ledger_reap(lg, 3, &wake), 1);
    assert_int_equal(llm_ledger_reap(lg, 4, &wake), 1);
    counts(&k, 0, 0);
    check();
}


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


static void
test_numbers(void **state)
{
    llm_limit_t   k = limit("k:a", 0, 0, 0);
    llm_ticket_t  t;

    (void) state;

    t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    leave(t);

    /* the last number of a row: after it the row is not used again */
    llm_ledger_ticket(lg, 0)->id = LLM_LEDGER_ID_LAST - 1;
    t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    assert_true(t == LLM_LEDGER_ID_LAST);
    leave(t);
    llm_ledger_rebuild(lg, &wake);
    t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    assert_int_equal(t & LLM_LEDGER_INDEX_MASK, 1);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_create, setup, teardown),
        cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unlimited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_team, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take, setup, teardown),
        cmocka_unit_test_setup_teardown(test_take_rates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lru, setup, teardown),
        cmocka_unit_test_setup_teardown(test_two_rows, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
