
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


static void
test_create(void **state)
{
    size_t             size;
    llm_ledger_t      *l;
    unsigned char     *p;
    llm_now_t          now = at(NOW);
    llm_ledger_stat_t  st;

    (void) state;

    for (size = 0; size < 32768; size += 8) {
        p = malloc(size + 1);
        p[size] = 0x5a;

        l = llm_ledger_create(p, size);

        assert_int_equal(p[size], 0x5a);

        if (l != NULL) {
            llm_ledger_stat(l, &st);
            assert_true(st.tickets >= 2);
            assert_true(size - sizeof(llm_ledger_t) < (st.tickets + 1) * 2000);
            llm_ledger_rebuild(l, &now, &wake);
            assert_null(ledger_check(l, 1));
        }

        free(p);
    }
}


/* memory that no row has used yet is not the process' */

static void
test_untouched(void **state)
{
    size_t          i, n, size;
    unsigned char  *p;

    (void) state;

    size = 1 << 20;
    p = malloc(size);
    memset(p, 0xa5, size);

    assert_non_null(llm_ledger_create(p, size));

    n = 0;

    for (i = 0; i < size; i++) {
        n += (p[i] == 0xa5);
    }

    assert_true(n > size / 10 * 9);

    free(p);
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
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 0, 0);
    llm_limit_t   j = limit("k:b", 1, 0, 0);
    llm_limit_t   m = limit("t:t", 1, 0, 0);
    llm_limits_t  ls = limits(&k, &m);

    (void) state;

    a = ask(&ls, 0);

    /* an empty line of length 0 does not hinder who need not wait */
    a.queue = 0;
    (void) try(&a, NOW, LLM_OK);
    (void) try(&a, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_QUEUE_FULL);

    a.queue = 2;
    (void) try(&a, NOW, LLM_AGAIN);
    (void) try(&a, NOW, LLM_AGAIN);
    (void) try(&a, NOW, LLM_DECLINED);

    /* the line is the key's own */
    ls = limits(&j, &m);
    (void) try(&a, NOW, LLM_AGAIN);
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
    update(&k);
    assert_int_equal(wake.bits[0], 0);
    m.concurrency = 2;
    update(&m);
    assert_int_equal(wake.bits[0], 1 << 1);
    m.concurrency = LLM_UNLIMITED;
    update(&m);
    assert_int_equal(wake.bits[0], (1 << 1) + (1 << 2));
    counts(&k, 3, 1);
    check();

    /* lowered: nobody is thrown out, and nobody let in */
    k.concurrency = 1;
    update(&k);
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
    assert_int_equal(reap(1), 2);
    assert_int_equal(wake.bits[0], (1 << 3) + (1 << 4));
    assert_int_equal(granted(1), 0);
    counts(&k, 2, 0);

    assert_int_equal(reap(1), 0);
    assert_int_equal(reap(3), 1);
    assert_int_equal(reap(4), 1);
    counts(&k, 0, 0);
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
    rebuild();
    t = enter(&k, NULL, 0, 0, NOW, LLM_OK);
    assert_int_equal(t & LLM_LEDGER_INDEX_MASK, 1);
}


/* the rows that are busy, a few looks at a time */

static void
test_busy(void **state)
{
    uint32_t           row;
    unsigned           look, turns, seen;
    llm_limit_t        a = limit("k:a", 2, 0, 0), b = limit("k:b", 1, 0, 0),
                       c = limit("k:c", 7, 0, 0);
    llm_ticket_t       t[5];
    llm_ledger_busy_t  busy;

    (void) state;

    t[0] = enter(&a, NULL, 0, 0, NOW, LLM_OK);
    t[1] = enter(&a, NULL, 0, 0, NOW, LLM_OK);
    t[2] = enter(&b, NULL, 0, 0, NOW, LLM_OK);
    t[3] = enter(&b, NULL, 0, 0, NOW, LLM_AGAIN);
    t[4] = enter(&c, NULL, 0, 0, NOW, LLM_OK);
    leave(t[4]);

    for (look = 1; look <= lg->nodes + 1; look++) {
        row = 0;
        turns = 0;
        seen = 0;

        do {
            assert_true(turns++ <= lg->nodes);
            row = llm_ledger_busy(lg, row, look, &busy);

            if (busy.name.len == 0) {
                continue;
            }

            assert_int_equal(busy.name.len, 3);

            if (busy.name.data[2] == 'a') {
                assert_int_equal(busy.held, 2);
                assert_int_equal(busy.waiting, 0);
                assert_int_equal(busy.concurrency, 2);
                seen += 1;

            } else {
                assert_int_equal(busy.name.data[2], 'b');
                assert_int_equal(busy.held, 1);
                assert_int_equal(busy.waiting, 1);
                assert_int_equal(busy.concurrency, 1);
                seen += 100;
            }

        } while (row != 0);

        assert_int_equal(seen, 101);
    }

    leave(t[3]);
    leave(t[2]);
    leave(t[1]);
    leave(t[0]);

    assert_int_equal(llm_ledger_busy(lg, 0, lg->nodes, &busy), 0);
    assert_int_equal(busy.name.len, 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_create, setup, teardown),
        cmocka_unit_test(test_untouched),
        cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_owners, setup, teardown),
        cmocka_unit_test_setup_teardown(test_unlimited, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_queue, setup, teardown),
        cmocka_unit_test_setup_teardown(test_team, setup, teardown),
        cmocka_unit_test_setup_teardown(test_update, setup, teardown),
        cmocka_unit_test_setup_teardown(test_reap, setup, teardown),
        cmocka_unit_test_setup_teardown(test_numbers, setup, teardown),
        cmocka_unit_test_setup_teardown(test_busy, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
