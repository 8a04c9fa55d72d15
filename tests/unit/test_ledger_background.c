
/*
 * Copyright (C) the ngx-llm authors
 *
 * What runs in the background leaves room to others and stands in no line.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "ledger_help.h"


static llm_ticket_t   held[64];
static llm_amount_t   nothing;


static int
admit(const llm_limits_t *ls, uint64_t ms, int background, llm_ticket_t *t)
{
    llm_ask_t  a;
    llm_now_t  now = at(ms);

    a = ask(ls, 1);
    a.background = background & 1;
    a.need.requests = ls->limit[0]->rates.rpm != 0;

    return llm_ledger_enter(lg, &a, &now, t, &rd);
}


/* so many are admitted one after another */

static unsigned
fill(const llm_limits_t *ls, int background)
{
    unsigned  n;

    for (n = 0; n < 64; n++) {

        if (admit(ls, NOW, background, &held[n]) != LLM_OK) {
            break;
        }
    }

    return n;
}


static void
end(llm_ticket_t t, uint64_t ms)
{
    llm_now_t  now = at(ms);

    llm_ledger_close(lg, t, &nothing, &now, &wake);
}


/* a quarter of the slots, at least one, is left; of one: none */

static void
test_slots(void **state)
{
    unsigned      i;
    char          name[16];
    llm_limit_t   key;
    llm_limits_t  ls;

    static const unsigned  n[][2] = {
        { 1, 1 }, { 2, 1 }, { 3, 2 }, { 4, 3 }, { 7, 6 }, { 8, 6 }, { 9, 7 },
        { 12, 9 }, { 16, 12 }, { 40, 30 }, { 0, 64 }
    };

    (void) state;

    for (i = 0; i < sizeof(n) / sizeof(n[0]); i++) {
        (void) snprintf(name, sizeof(name), "k:%u", n[i][0]);
        key = limit(name, n[i][0], 0, 0);
        ls = limits(&key, NULL);

        assert_int_equal(fill(&ls, 1), n[i][1]);

        if (n[i][0] == 0) {
            continue;
        }

        assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);
        assert_int_equal(rd.refusal.limit, n[i][0]);
        assert_int_equal(rd.refusal.used, n[i][1]);
        assert_int_equal(held[n[i][1]], 0);

        /* the others have the rest */

        assert_int_equal(fill(&ls, 0), n[i][0] - n[i][1]);
    }
}


/* key and team: whoever has too few refuses, and is told */

static void
test_team(void **state)
{
    llm_limit_t   a, b, team;
    llm_limits_t  la, lb;
    llm_ticket_t  t;

    (void) state;

    a = limit("k:a", 2, 0, 0);
    b = limit("k:b", 0, 0, 0);
    team = limit("t:t", 4, 0, 0);
    la = limits(&a, &team);
    lb = limits(&b, &team);

    assert_int_equal(admit(&la, NOW, 1, &held[0]), LLM_OK);
    assert_int_equal(admit(&la, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);
    assert_int_equal(rd.index, 0);

    assert_int_equal(admit(&lb, NOW, 1, &held[1]), LLM_OK);
    assert_int_equal(admit(&lb, NOW, 1, &held[2]), LLM_OK);
    assert_int_equal(admit(&lb, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.index, 1);
    assert_int_equal(rd.refusal.used, 3);

    /* what was kept is for these */

    assert_int_equal(admit(&la, NOW, 0, &t), LLM_OK);
    end(t, NOW);
    assert_int_equal(admit(&lb, NOW, 0, &t), LLM_OK);
}


/* as long as somebody waits, nobody comes in past the line; at once after */

static void
test_line(void **state)
{
    unsigned      h, w;
    llm_now_t     now = at(NOW);
    llm_limit_t   a, b, team;
    llm_limits_t  la, lb;
    llm_ticket_t  t, waits, one;

    (void) state;

    a = limit("k:a", 0, 0, 0);
    b = limit("k:b", 0, 0, 0);
    team = limit("t:t", 1, 0, 0);
    la = limits(&a, &team);
    lb = limits(&b, &team);

    assert_int_equal(admit(&la, NOW, 0, &one), LLM_OK);
    assert_int_equal(admit(&la, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(t, 0);
    assert_int_equal(admit(&la, NOW, 0, &waits), LLM_AGAIN);

    (void) llm_ledger_look(lg, &team, &h, &w);
    assert_int_equal(h, 1);
    assert_int_equal(w, 1);

    /* raised, but nobody has been let in yet: he is first, by either key */

    team.concurrency = 8;

    assert_int_equal(admit(&la, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);
    assert_int_equal(admit(&lb, NOW, 1, &t), LLM_DECLINED);

    llm_ledger_update(lg, &team, &now, &wake);
    assert_int_equal(admit(&lb, NOW, 1, &t), LLM_OK);

    /* full, but for one, and it waits itself for nothing */

    (void) llm_ledger_look(lg, &team, &h, &w);
    assert_int_equal(h, 3);
    assert_int_equal(w, 0);
}


/* others of the team do not wait for what only its key lacks */

static void
test_blocked(void **state)
{
    llm_limit_t   a, b, team;
    llm_limits_t  la, lb;
    llm_ticket_t  t;

    (void) state;

    a = limit("k:a", 1, 0, 0);
    b = limit("k:b", 0, 0, 0);
    team = limit("t:t", 8, 0, 0);
    la = limits(&a, &team);
    lb = limits(&b, &team);

    assert_int_equal(admit(&la, NOW, 0, &t), LLM_OK);
    assert_int_equal(admit(&la, NOW, 0, &t), LLM_AGAIN);
    assert_int_equal(admit(&lb, NOW, 1, &t), LLM_OK);
    assert_int_equal(admit(&la, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.index, 0);
}


/* a quarter of the bucket is left, and the wait is exact to the ms */

static void
test_rate(void **state)
{
    unsigned      i;
    uint64_t      wait;
    llm_limit_t   key;
    llm_limits_t  ls;
    llm_ticket_t  t;

    (void) state;

    key = limit("k:a", 0, 60, 8);
    ls = limits(&key, NULL);

    assert_int_equal(fill(&ls, 1), 6);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
    assert_int_equal(rd.refusal.used, 6);
    assert_int_equal(rd.refusal.limit, 8);
    assert_int_equal(rd.refusal.wait_ms, 1000);

    assert_int_equal(admit(&ls, NOW + 999, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1);
    assert_int_equal(admit(&ls, NOW + 1000, 1, &t), LLM_OK);

    /* others have the quarter, and then it takes longer */

    assert_int_equal(admit(&ls, NOW + 1000, 0, &t), LLM_OK);
    assert_int_equal(admit(&ls, NOW + 1000, 0, &t), LLM_OK);
    assert_int_equal(admit(&ls, NOW + 1000, 0, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1000);
    assert_int_equal(admit(&ls, NOW + 1000, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 3000);
    assert_int_equal(rd.refusal.used, 8);

    /* sizes of which a quarter is no whole number */

    for (i = 1; i < 12; i++) {
        char  name[16];

        (void) snprintf(name, sizeof(name), "k:b%u", i);
        key = limit(name, 0, 60, i);
        ls = limits(&key, NULL);

        assert_int_equal(fill(&ls, 1), i == 1 ? 1 : i * 3 / 4);

        wait = (uint64_t) rd.refusal.wait_ms;
        assert_int_equal(admit(&ls, NOW + wait - 1, 1, &t), LLM_DECLINED);
        assert_int_equal(admit(&ls, NOW + wait, 1, &t), LLM_OK);
    }
}


static int
tokens(const llm_limits_t *ls, uint64_t ms, int64_t n, int64_t money)
{
    llm_ask_t     a;
    llm_now_t     now = at(ms);
    llm_ticket_t  t;

    a = ask(ls, 1);
    a.background = 1;
    a.park = 1;
    a.need.requests = 0;
    a.need.tokens = n;
    a.need.money = money;

    return llm_ledger_enter(lg, &a, &now, &t, &rd);
}


/* a need above three quarters: only a full bucket; above all of it: never */

static void
test_large(void **state)
{
    llm_limit_t   key;
    llm_limits_t  ls;

    (void) state;

    key = limit("k:a", 0, 0, 0);
    key.rates.tpm = 60000;
    key.rates.burst_tokens = 1000;
    ls = limits(&key, NULL);

    assert_int_equal(tokens(&ls, NOW, 751, 0), LLM_OK);
    assert_int_equal(tokens(&ls, NOW, 751, 0), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS);
    assert_int_equal(rd.refusal.wait_ms, 751);
    assert_int_equal(tokens(&ls, NOW + 750, 751, 0), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1);
    assert_int_equal(tokens(&ls, NOW + 751, 1000, 0), LLM_OK);
    assert_int_equal(tokens(&ls, NOW + 751, 1001, 0), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, -1);

    /* three quarters leave a quarter of an empty one */

    assert_int_equal(tokens(&ls, NOW + 5000, 750, 0), LLM_OK);
    assert_int_equal(tokens(&ls, NOW + 5000, 1, 0), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1);
}


/* days and money have no part that is kept */

static void
test_hard(void **state)
{
    llm_limit_t   key;
    llm_limits_t  ls;

    (void) state;

    key = limit("k:a", 0, 0, 0);
    key.rates.tpd = 100;
    key.rates.budget = 100;
    ls = limits(&key, NULL);

    assert_int_equal(tokens(&ls, NOW, 50, 50), LLM_OK);
    assert_int_equal(tokens(&ls, NOW, 50, 50), LLM_OK);
    assert_int_equal(tokens(&ls, NOW, 1, 0), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);
    assert_int_equal(tokens(&ls, NOW, 0, 1), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUDGET);
}


/* it is never parked, and comes behind all who are */

static void
test_park(void **state)
{
    unsigned      h, w;
    llm_ask_t     a;
    llm_now_t     now = at(NOW);
    llm_limit_t   key;
    llm_limits_t  ls;
    llm_ticket_t  t;

    (void) state;

    key = limit("k:a", 0, 60, 4);
    ls = limits(&key, NULL);

    assert_int_equal(fill(&ls, 0), 4);

    a = ask(&ls, 1);
    a.park = 1;
    a.priority = 5;
    a.need.requests = 2;
    assert_int_equal(llm_ledger_enter(lg, &a, &now, &t, &rd), LLM_AGAIN);

    a.background = 1;
    a.need.requests = 1;
    a.priority = -5;
    assert_int_equal(llm_ledger_enter(lg, &a, &now, &t, &rd), LLM_DECLINED);

    /* two who wait, one of its own, one that is kept: all of four */

    assert_int_equal(rd.refusal.wait_ms, 4000);
    assert_int_equal(rd.refusal.used, 6);

    (void) llm_ledger_look(lg, &key, &h, &w);
    assert_int_equal(w, 1);
}


/* rates alone, as for a hit in the cache */

static void
test_rates_alone(void **state)
{
    unsigned      i;
    llm_ask_t     a;
    llm_now_t     now = at(NOW);
    llm_limit_t   key;
    llm_limits_t  ls;
    llm_ticket_t  t;

    (void) state;

    key = limit("k:a", 1, 60, 4);
    ls = limits(&key, NULL);

    a = ask(&ls, 1);
    assert_int_equal(llm_ledger_enter(lg, &a, &now, &t, &rd), LLM_OK);

    a.slot = 0;
    a.background = 1;

    for (i = 0; i < 2; i++) {
        assert_int_equal(llm_ledger_enter(lg, &a, &now, &t, &rd), LLM_OK);
        assert_int_equal(t, 0);
    }

    assert_int_equal(llm_ledger_enter(lg, &a, &now, &t, &rd), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
}


/* a refusal takes nothing, and rates are told before slots */

static void
test_order(void **state)
{
    llm_now_t           now = at(NOW);
    llm_limit_t         key;
    llm_limits_t        ls;
    llm_ticket_t        t;
    const llm_meter_t  *m;

    (void) state;

    key = limit("k:a", 2, 60, 4);
    ls = limits(&key, NULL);

    assert_int_equal(admit(&ls, NOW, 1, &t), LLM_OK);
    assert_int_equal(admit(&ls, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);

    m = llm_ledger_meter(lg, &key, &now);
    assert_int_equal(m->requests.level, LLM_BUCKET_UNIT);

    assert_int_equal(admit(&ls, NOW, 0, &t), LLM_OK);
    end(t, NOW);
    m = llm_ledger_meter(lg, &key, &now);
    assert_true(m->requests.level >= LLM_BUCKET_UNIT);

    key.rates.burst = 1;
    assert_int_equal(admit(&ls, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
}


/* at a fair gate it sets nobody of its flow back */

static void
test_fair(void **state)
{
    unsigned      i;
    llm_now_t     now = at(NOW);
    llm_limit_t   a, b, gate;
    llm_limits_t  la, lb;
    llm_ticket_t  t, ta, tb, one[4];

    (void) state;

    a = limit("f:a", 0, 0, 0);
    b = limit("f:b", 0, 0, 0);
    gate = limit("p:p", 4, 0, 0);
    gate.fair = 1;
    la = limits(&a, &gate);
    lb = limits(&b, &gate);

    /* of b is served one of the usual kind, of a three in the background */

    for (i = 0; i < 3; i++) {
        assert_int_equal(admit(&la, NOW, 1, &one[i]), LLM_OK);
    }

    assert_int_equal(admit(&lb, NOW, 0, &one[3]), LLM_OK);
    assert_int_equal(admit(&lb, NOW, 0, &tb), LLM_AGAIN);
    assert_int_equal(admit(&la, NOW, 0, &ta), LLM_AGAIN);

    llm_ledger_close(lg, one[3], &nothing, &now, &wake);

    assert_non_null(llm_ledger_granted(lg, 1, &t, &rd));
    assert_int_equal(t, ta);
    assert_null(llm_ledger_granted(lg, 1, &t, &rd));
}


/* a table that is full is not what slots are */

static void
test_memory(void **state)
{
    size_t         size;
    llm_limit_t    key;
    llm_limits_t   ls;
    llm_ticket_t   t;
    unsigned char  small[4 * (sizeof(llm_ledger_ticket_t)
                              + sizeof(llm_ledger_node_t) + 8)
                         + sizeof(llm_ledger_t)]
                   __attribute__((aligned(8)));

    (void) state;

    size = sizeof(small);
    lg = llm_ledger_create(small, size);

    key = limit("k:a", 0, 0, 0);
    ls = limits(&key, NULL);

    while (admit(&ls, NOW, 0, &t) == LLM_OK) { /* void */ }

    assert_int_equal(admit(&ls, NOW, 1, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_MEMORY);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_slots, setup, teardown),
        cmocka_unit_test_setup_teardown(test_team, setup, teardown),
        cmocka_unit_test_setup_teardown(test_line, setup, teardown),
        cmocka_unit_test_setup_teardown(test_blocked, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rate, setup, teardown),
        cmocka_unit_test_setup_teardown(test_large, setup, teardown),
        cmocka_unit_test_setup_teardown(test_hard, setup, teardown),
        cmocka_unit_test_setup_teardown(test_park, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rates_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_order, setup, teardown),
        cmocka_unit_test_setup_teardown(test_fair, setup, teardown),
        cmocka_unit_test_setup_teardown(test_memory, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
