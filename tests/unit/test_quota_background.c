
/*
 * Copyright (C) the ngx-llm authors
 *
 * What runs in the background of others, at several gateways.
 */


#define _GNU_SOURCE

#include "quota_help.h"


static llm_ticket_t  running[GATEWAYS][32];
static int           runs[GATEWAYS];


static int
behind(int g, const llm_limit_t *l, int slot, int64_t requests,
    int64_t tokens, llm_ticket_t *t)
{
    llm_ask_t     ask;
    llm_limits_t  ls;

    ls.limit[0] = l;
    ls.n = 1;

    memset(&ask, 0, sizeof(llm_ask_t));
    ask.limits = &ls;
    ask.need.requests = requests;
    ask.need.tokens = tokens;
    ask.data = &gw[g];
    ask.queue = 64;
    ask.slot = slot != 0;
    ask.park = 1;
    ask.background = 1;

    return llm_ledger_enter(gw[g].lg, &ask, &now, t, &rd);
}


/* asks the store, and has its answer at once */

static int
asked(int g, const llm_limit_t *l, int64_t requests, int64_t tokens,
    llm_ticket_t *t)
{
    int  rc;

    rc = behind(g, l, 0, requests, tokens, t);

    if (rc != LLM_AGAIN) {
        return rc;
    }

    assert_int_equal(rd.asking, 1);
    drain(g);

    rc = granted(g, t);

    /* nothing is held: rates alone */

    llm_ledger_leave(gw[g].lg, *t, 0, &now, &wake);

    return rc;
}


/* as a caller does: it comes again every 200 ms, if it was not let in */

static int
starts(int g, const llm_limit_t *l, int n)
{
    int           i, k;
    llm_ticket_t  t;

    for (i = 0, k = 0; i < n; i++) {

        if (behind(g, l, 1, 0, 0, &t) == LLM_OK) {
            running[g][runs[g]++] = t;
            k++;
        }
    }

    return k;
}


static void
pass(int steps)
{
    int  g;

    while (steps--) {
        tick(50);

        for (g = 0; g < GATEWAYS; g++) {
            llm_ledger_sweep(gw[g].lg, 100, &now);
            (void) turn(g, 1, 0);
        }
    }
}


static void
ends(int g, int n)
{
    while (n-- != 0 && runs[g] != 0) {
        llm_ledger_leave(gw[g].lg, running[g][--runs[g]], 0, &now, &wake);
    }
}


static int
fresh(void **state)
{
    memset(runs, 0, sizeof(runs));

    return setup(state);
}


static unsigned
held(const llm_limit_t *l)
{
    int       g;
    unsigned  h, w, all;

    for (g = 0, all = 0; g < GATEWAYS; g++) {
        (void) llm_ledger_look(gw[g].lg, l, &h, &w);
        assert_int_equal(w, 0);
        all += h;
    }

    return all;
}


/* the store keeps a quarter, and its wait is exact */

static void
test_exact(void **state)
{
    int           i, g;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = limit("k:r");
    l.rates.rpm = 60;
    l.rates.burst = 8;

    for (i = 0; i < 6; i++) {
        assert_int_equal(asked(i % 3, &l, 1, 0, &t), LLM_OK);
    }

    for (g = 0; g < GATEWAYS; g++) {
        assert_int_equal(asked(g, &l, 1, 0, &t), LLM_DECLINED);
        assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
        assert_int_equal(rd.refusal.wait_ms, 1000);
        assert_int_equal(rd.refusal.used, 6);
        assert_int_equal(rd.refusal.need, 1);
    }

    /* which is not denied to others */

    assert_int_equal(enter(0, &l, 0, 1, 0, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(enter(1, &l, 0, 1, 0, 0, &t), LLM_AGAIN);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_OK);
    assert_int_equal(enter(1, &l, 0, 1, 0, 0, &t), LLM_AGAIN);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_DECLINED);

    /* what was denied to them is, and for longer */

    assert_int_equal(behind(1, &l, 0, 1, 0, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 3000);

    tick(2999);
    assert_int_equal(asked(1, &l, 1, 0, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1);
    tick(1);
    assert_int_equal(asked(1, &l, 1, 0, &t), LLM_OK);
}


static void
test_large(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = limit("k:r");
    l.rates.tpm = 60000;
    l.rates.burst_tokens = 1000;

    assert_int_equal(asked(0, &l, 0, 900, &t), LLM_OK);
    assert_int_equal(asked(1, &l, 0, 900, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 900);
    assert_int_equal(asked(1, &l, 0, 1001, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, -1);
    tick(900);
    assert_int_equal(asked(1, &l, 0, 900, &t), LLM_OK);
}


/* what was fetched ahead is for others */

static void
test_leased(void **state)
{
    int           i, n;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    mode(0, LLM_QUOTA_LEASED);

    l = limit("k:r");
    l.rates.rpm = 60000;
    l.rates.burst = 400;

    /* until others are served from it; this one asks */

    for (i = 0; enter(0, &l, 0, 1, 0, 0, &t) == LLM_AGAIN; i++) {
        assert_true(i < 40);
        drain(0);
        assert_int_equal(granted(0, &t), LLM_OK);
        tick(5);
    }

    assert_int_equal(behind(0, &l, 0, 1, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    /* all at once: a quarter is left in the store, or fetched */

    for (n = 0; asked(0, &l, 1, 0, &t) == LLM_OK; n++) {
        assert_true(n < 300);
    }

    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
    assert_true(n > 200);
}


/* no store, or a full one: by the gateway's own part */

static void
test_alone(void **state)
{
    int           n;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = limit("k:r");
    l.rates.rpm = 60;
    l.rates.burst = 24;
    l.concurrency = 24;

    assert_int_equal(asked(0, &l, 1, 0, &t), LLM_OK);

    mode(0, LLM_QUOTA_ALONE);

    /* a third of each: 8, less what was taken and a quarter */

    for (n = 0; behind(0, &l, 0, 1, 0, &t) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 5);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);

    l.rates.rpm = 0;
    assert_int_equal(starts(0, &l, 20), 6);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);
}


/* it had asked when the store went away */

static void
test_served_alone(void **state)
{
    int           i;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = limit("k:r");
    l.rates.rpm = 60;
    l.rates.burst = 12;

    for (i = 0; i < 4; i++) {
        assert_int_equal(behind(0, &l, 0, 1, 0, &t), LLM_AGAIN);
    }

    mode(0, LLM_QUOTA_ALONE);

    for (i = 0; i < 3; i++) {
        assert_int_equal(granted(0, &t), LLM_OK);
    }

    assert_int_equal(granted(0, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
}


/* nobody else uses the slots: it gets all but the part that is kept */

static void
test_share(void **state)
{
    int          i, n;
    llm_limit_t  l;

    (void) state;

    l = limit("k:s");
    l.concurrency = 8;

    assert_int_equal(starts(0, &l, 1), 0);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUSY);
    pass(4);
    assert_int_equal(starts(0, &l, 1), 1);

    for (i = 0, n = 1; i < 5; i++) {
        n += starts(0, &l, 10);
        pass(4);
    }

    assert_int_equal(n, 6);
    assert_int_equal(held(&l), 6);

    /* no claim is on the two */

    assert_int_equal(gw[0].lg->undo.n, 0);
    assert_int_equal(llm_ledger_node(gw[0].lg, 0)->quota.claim, 6);
}


/* one that has few slots in all */

static void
test_few(void **state)
{
    unsigned     i, n;
    llm_limit_t  l;
    char         name[8];

    (void) state;

    for (i = 1; i <= 4; i++) {
        (void) snprintf(name, sizeof(name), "k:%u", i);
        l = limit(name);
        l.concurrency = i;

        for (n = 0; n < 5; n++) {
            (void) starts(1, &l, 3);
            pass(4);
        }

        assert_int_equal(held(&l), i == 1 ? 1 : i - 1);
    }
}


/* three gateways at once: together no more than that, and each gets some */

static void
test_fleet(void **state)
{
    int          i, g, all[GATEWAYS];
    unsigned     most;
    llm_limit_t  l;

    (void) state;

    l = limit("k:s");
    l.concurrency = 12;

    memset(all, 0, sizeof(all));
    most = 0;

    for (i = 0; i < 100; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            all[g] += starts(g, &l, 5);
        }

        assert_true(held(&l) <= 9);
        most = held(&l) > most ? held(&l) : most;

        pass(4);

        for (g = 0; g < GATEWAYS; g++) {
            ends(g, (i + g) % 3);
        }
    }

    assert_int_equal(most, 9);

    for (g = 0; g < GATEWAYS; g++) {
        assert_true(all[g] > 30);
    }
}


/*
 * Another gateway had a crowd and kept its share, of which one is in use for
 * ever: it gives up the rest.
 */

static void
test_kept(void **state)
{
    int           i, n;
    llm_limit_t   l;
    llm_ticket_t  t[8];

    (void) state;

    l = limit("k:s");
    l.concurrency = 8;

    for (i = 0; i < 8; i++) {
        (void) enter(0, &l, 1, 0, 0, 0, &t[i]);
    }

    pass(4);

    for (i = 0; i < 8; i++) {
        assert_int_equal(granted(0, &t[i]), LLM_OK);
    }

    for (i = 1; i < 8; i++) {
        llm_ledger_leave(gw[0].lg, t[i], 0, &now, &wake);
    }

    pass(100);
    assert_true(llm_ledger_node(gw[0].lg, 0)->quota.share == 8);

    for (i = 0, n = 0; i < 25; i++) {
        n += starts(1, &l, 10);
        pass(4);
    }

    assert_int_equal(n, 5);

    /* … and a next one there has a slot at once, or soon */

    n = enter(0, &l, 1, 0, 0, 0, &t[1]);

    if (n == LLM_AGAIN) {
        assert_int_equal(rd.asking, 2);
        pass(1);
        n = granted(0, &t[1]);
    }

    assert_int_equal(n, LLM_OK);
}


/* people of any gateway take all slots, and then it has none */

static void
test_people(void **state)
{
    int           i, g, n;
    llm_limit_t   l;
    llm_ticket_t  t[16];

    (void) state;

    l = limit("k:s");
    l.concurrency = 8;

    for (i = 0; i < 5; i++) {
        (void) starts(0, &l, 10);
        pass(4);
    }

    assert_int_equal(runs[0], 6);

    for (i = 0; i < 10; i++) {
        (void) enter(1, &l, 1, 0, 0, 0, &t[i]);
    }

    pass(2);

    for (n = 0; granted(1, &t[n]) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 2);

    /* what ends in the background is theirs */

    ends(0, 4);

    for (i = 0; i < 10; i++) {
        assert_int_equal(starts(0, &l, 3), 0);
        assert_int_equal(starts(2, &l, 3), 0);
        pass(4);

        for ( /* void */ ; granted(1, &t[n]) == LLM_OK; n++) { /* void */ }
    }

    assert_int_equal(n, 6);
    ends(0, 2);
    pass(8);

    for ( /* void */ ; granted(1, &t[n]) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 8);

    /* nobody waits any more: it begins again, anywhere */

    for (i = 0; i < n; i++) {
        llm_ledger_leave(gw[1].lg, t[i], 0, &now, &wake);
    }

    pass(4);

    while (granted(1, &t[0]) == LLM_OK) {
        llm_ledger_leave(gw[1].lg, t[0], 0, &now, &wake);
    }

    for (i = 0; i < 80; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            (void) starts(g, &l, 3);
        }

        pass(4);
    }

    assert_int_equal(held(&l), 6);
}


/* a wish that was answered with nothing is not a claim for ever */

static void
test_gone(void **state)
{
    llm_limit_t  l;
    const char  *mine[] = { "HGET", "{llm}:s:k:s", "a" };

    (void) state;

    l = limit("k:s");
    l.concurrency = 8;

    assert_int_equal(starts(0, &l, 4), 0);
    pass(4);
    assert_true(store_command(st, 3, mine) != -1);

    /* who had wished never came back */

    pass(100);
    assert_int_equal(store_command(st, 3, mine), -1);
}


/* the agent died with a wish on its way, or the store forgot it */

static void
test_lost(void **state)
{
    int          i, n;
    llm_limit_t  l;

    (void) state;

    l = limit("k:s");
    l.concurrency = 8;

    for (i = 0, n = 0; i < 12; i++) {
        n += starts(0, &l, 8);
        (void) turn(0, 1, 1);

        if (i % 4 == 1) {
            llm_ledger_rebuild(gw[0].lg, &now, &wake);
        }

        pass(4);
    }

    assert_int_equal(n, 6);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_exact, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_large, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_leased, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_alone, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_served_alone, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_share, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_few, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_fleet, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_kept, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_people, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_gone, fresh, teardown),
        cmocka_unit_test_setup_teardown(test_lost, fresh, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
