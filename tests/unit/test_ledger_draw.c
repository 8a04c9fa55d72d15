
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's meters: what is taken, settled, given back and charged.
 */


#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

#include "ledger_help.h"


static llm_amount_t
amount(int64_t requests, int64_t tokens, int64_t money)
{
    llm_amount_t  a = { requests, tokens, money };

    return a;
}


/* tokens and money of a name, of the whole day */

static void
used(const llm_limit_t *l, int64_t requests, int64_t tokens, int64_t money)
{
    llm_now_t           now = at(NOW);
    const llm_tally_t  *t;
    const llm_meter_t  *m;

    m = llm_ledger_meter(lg, l, &now);
    assert_non_null(m);

    t = &m->day[llm_meter_day(now.wall) & 1];

    assert_int_equal(t->requests, requests);
    assert_int_equal(t->tokens, tokens);
    assert_int_equal(t->money, money);
}


static void
end(llm_ticket_t t, int64_t requests, int64_t tokens, int64_t money)
{
    llm_now_t     now = at(NOW);
    llm_amount_t  a = amount(requests, tokens, money);

    memset(&wake, 0, sizeof(llm_owners_t));
    llm_ledger_close(lg, t, &a, &now, &wake);
}


static int
charge(llm_ticket_t t, int64_t requests, int64_t tokens, int force)
{
    llm_now_t     now = at(NOW);
    llm_amount_t  a = amount(requests, tokens, 0);

    return llm_ledger_charge(lg, t, &a, force, &now);
}


static void
test_requests(void **state)
{
    unsigned      i;
    llm_limit_t   k = limit("k:a", 0, 60, 3);
    llm_limit_t   m = limit("t:t", 0, 600, 5);
    llm_limits_t  ls = limits(&k, &m);

    (void) state;

    for (i = 0; i < 3; i++) {
        take(&ls, NOW, LLM_OK);
        assert_int_equal(rd.requests.limit, 3);
        assert_int_equal(rd.requests.rate, 60);
        assert_int_equal(rd.requests.remaining, 2 - i);
        assert_int_equal(rd.requests.reset_ms, 1000 * (i + 1));
        assert_int_equal(rd.refusal.why, LLM_WHY_NONE);
        assert_int_equal(rd.tokens.limit, 0);
        assert_true(rd.tokens_left == INT64_MAX);
    }

    /* the refused take nothing from either bucket */
    for (i = 0; i < 10; i++) {
        take(&ls, NOW + i, LLM_DECLINED);
        assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
        assert_int_equal(rd.index, 0);
        assert_int_equal(rd.requests.remaining, 0);
        assert_int_equal(rd.refusal.wait_ms, 1000 - i);
    }

    ls = limits(&m, NULL);
    take(&ls, NOW, LLM_OK);
    assert_int_equal(rd.requests.remaining, 1);
    take(&ls, NOW, LLM_OK);
    take(&ls, NOW + 20, LLM_DECLINED);

    /* both are empty: the longer wait is told */
    ls = limits(&m, &k);
    take(&ls, NOW + 20, LLM_DECLINED);
    assert_int_equal(rd.index, 1);
    assert_int_equal(rd.refusal.wait_ms, 980);

    /* one unit comes back to each, and not more than was taken */
    ls = limits(&k, &m);
    untake(&ls, NOW + 20);
    take(&ls, NOW + 20, LLM_OK);
    take(&ls, NOW + 20, LLM_DECLINED);

    for (i = 0; i < 20; i++) {
        untake(&ls, NOW + 20);
    }

    take(&ls, NOW + 20, LLM_OK);
    assert_int_equal(rd.requests.remaining, 2);
    check();
}


static void
test_rates(void **state)
{
    llm_now_t     now = at(NOW);
    llm_limit_t   k = limit("k:a", 0, 60, 60);
    llm_limit_t   u = limit("t:u", 0, 0, 0);
    llm_limits_t  ls = limits(&k, &u);

    (void) state;

    do {
        take(&ls, NOW, LLM_OK);
    } while (rd.requests.remaining);

    take(&ls, NOW, LLM_DECLINED);

    /* up to its change the old rate counts, then the new one, also if the
       first to bring it is refused */
    k.rates.rpm = 6000;
    take(&ls, NOW + 900, LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 1);
    take(&ls, NOW + 901, LLM_OK);
    take(&ls, NOW + 910, LLM_DECLINED);
    take(&ls, NOW + 911, LLM_OK);

    /* what is shown changes nothing, of a name that is not known neither */
    now.ms = NOW + 931;
    llm_ledger_peek(lg, &ls, &now, &rd);
    assert_int_equal(rd.requests.remaining, 2);
    assert_int_equal(llm_ledger_node(lg, 0)->meter.requests.time, NOW + 911);
    take(&ls, NOW + 931, LLM_OK);
    k = limit("k:new", 0, 60, 7);
    k.rates.tpd = 9;
    llm_ledger_peek(lg, &ls, &now, &rd);
    assert_int_equal(rd.requests.remaining, 7);
    assert_int_equal(rd.tokens_left, 9);
    assert_null(llm_ledger_meter(lg, &k, &now));
    check();
}


static void
test_settle(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 2, 60, 10);
    llm_limit_t   m = limit("t:t", 3, 600, 100);
    llm_limits_t  ls = limits(&k, &m);
    llm_ticket_t  t, u;

    (void) state;

    k.rates.tpm = 6000;
    k.rates.burst_tokens = 1000;
    m.rates.budget = 10000;

    a = ask(&ls, 1);
    a.need = amount(1, 800, 3000);
    a.floor = amount(1, 100, 500);

    t = try(&a, NOW, LLM_OK);
    assert_int_equal(rd.tokens_left, 200);
    assert_int_equal(rd.money_left, 7000);
    assert_int_equal(rd.tokens.limit, 1000);
    used(&k, 1, 800, 3000);
    used(&m, 1, 800, 3000);

    (void) try(&a, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS);
    assert_int_equal(rd.refusal.wait_ms, 6000);
    assert_int_equal(rd.tokens_left, 200);
    used(&m, 1, 800, 3000);

    /* less than reserved, once */
    end(t, 1, 300, 1000);
    used(&k, 1, 300, 1000);
    end(t, 1, 0, 0);
    leave_at(t, 1, NOW);
    used(&k, 1, 300, 1000);
    used(&m, 1, 300, 1000);
    counts(&m, 0, 0);

    /* more than reserved: debt */
    a.need.tokens = 700;
    t = try(&a, NOW, LLM_OK);
    end(t, 1, 2300, 4000);
    used(&k, 2, 2600, 5000);
    a.need.tokens = 1;
    (void) try(&a, NOW, LLM_DECLINED);
    assert_int_equal(rd.refusal.wait_ms, 16010);
    assert_int_equal(rd.tokens_left, -1600);

    /* left: stays, or is given back */
    a.need = amount(1, 0, 700);
    t = try(&a, NOW, LLM_OK);
    u = try(&a, NOW, LLM_OK);
    used(&m, 4, 2600, 6400);
    leave_at(t, 0, NOW);
    leave_at(u, 1, NOW);
    used(&m, 3, 2600, 5700);
    used(&k, 3, 2600, 5700);

    /* a waiter has nothing to settle or give back */
    k.concurrency = 1;
    a.need = amount(1, 0, 5);
    t = try(&a, NOW, LLM_OK);
    u = try(&a, NOW, LLM_AGAIN);
    used(&k, 4, 2600, 5705);
    assert_int_equal(charge(u, 1, 900, 1), LLM_OK);
    leave_at(u, 1, NOW);
    used(&k, 4, 2600, 5705);
    u = try(&a, NOW, LLM_AGAIN);
    end(u, 1, 900, 900);
    used(&k, 4, 2600, 5705);
    counts(&k, 1, 0);
    leave(t);
    check();
}


/* what was used is settled and the slot goes on, in one visit */

static void
test_close(void **state)
{
    llm_ask_t     a;
    llm_now_t     now = at(NOW);
    llm_limit_t   k = limit("k:a", 1, 60, 10);
    llm_limit_t   m = limit("t:a", 0, 0, 0);
    llm_limits_t  ls = limits(&k, &m);
    llm_amount_t  less = amount(1, 300, 70), more = amount(1, 900, 200);
    llm_ticket_t  t, u;

    (void) state;

    a = ask(&ls, 0);
    a.need = amount(1, 500, 100);

    t = try(&a, NOW, LLM_OK);
    a.owner = 1;
    u = try(&a, NOW, LLM_AGAIN);

    memset(&wake, 0, sizeof(llm_owners_t));
    llm_ledger_close(lg, t, &less, &now, &wake);
    assert_int_equal(wake.bits[0], 2);
    check();

    /* its slot went on: both have been counted */
    assert_true(granted(1) == u);
    used(&k, 2, 800, 170);
    used(&m, 2, 800, 170);

    /* a second time it is a no-op */
    llm_ledger_close(lg, t, &more, &now, &wake);
    used(&k, 2, 800, 170);
    counts(&k, 1, 0);

    /* more than was reserved */
    llm_ledger_close(lg, u, &more, &now, &wake);
    used(&k, 2, 1200, 270);
    used(&m, 2, 1200, 270);
    counts(&k, 0, 0);

    /* of a waiter nothing, and its holder's is still to come */
    t = try(&a, NOW, LLM_OK);
    u = try(&a, NOW, LLM_AGAIN);
    llm_ledger_close(lg, u, &more, &now, &wake);
    used(&k, 3, 1700, 370);
    llm_ledger_close(lg, t, &more, &now, &wake);
    used(&k, 3, 2100, 470);
    counts(&k, 0, 0);
    check();
}


/* what was reserved before midnight is settled on that day */

static void
test_midnight(void **state)
{
    uint64_t      night = NOW + (86400 - 5) * 1000;
    llm_ask_t     a;
    llm_now_t     now;
    llm_limit_t   k = limit("k:a", 0, 0, 0);
    llm_limits_t  ls = limits(&k, NULL);
    llm_amount_t  all = amount(1, 900, 0);
    llm_ticket_t  t, u;

    (void) state;

    k.rates.tpd = 1000;
    a = ask(&ls, 0);
    a.need = amount(1, 400, 0);

    t = try(&a, night, LLM_OK);
    u = try(&a, night, LLM_OK);
    a.need.tokens = 201;
    (void) try(&a, night, LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);
    assert_int_equal(rd.refusal.wait_ms, 5000);

    now = at(night + 6000);
    llm_ledger_close(lg, t, &all, &now, &wake);
    leave_at(u, 1, night + 6000);
    a.need.tokens = 1000;
    t = try(&a, night + 6000, LLM_OK);
    assert_int_equal(rd.tokens_left, 0);
    leave_at(t, 1, night + 6000);

    /* the clock is set back: there it is */
    now.wall -= 10;
    llm_ledger_peek(lg, &ls, &now, &rd);
    assert_int_equal(rd.tokens_left, 100);
}


static void
test_charge(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 0, 60, 10);
    llm_limits_t  ls = limits(&k, NULL);
    llm_ticket_t  t;

    (void) state;

    k.rates.tpm = 6000;
    k.rates.burst_tokens = 1000;

    a = ask(&ls, 3);
    a.need = amount(1, 400, 0);
    a.floor = amount(1, 50, 0);

    t = try(&a, NOW, LLM_OK);

    /* within what is reserved, beyond it, beyond the limit */
    assert_int_equal(charge(t, 1, 300, 0), LLM_OK);
    used(&k, 1, 400, 0);
    assert_int_equal(charge(t, 1, 900, 0), LLM_OK);
    used(&k, 1, 900, 0);
    assert_int_equal(charge(t, 1, 1100, 0), LLM_DECLINED);
    used(&k, 1, 900, 0);
    assert_int_equal(charge(t, 1, 1100, 1), LLM_OK);
    used(&k, 1, 1100, 0);
    end(t, 1, 1000, 0);
    assert_int_equal(charge(t, 1, 5000, 1), LLM_OK);
    used(&k, 1, 1000, 0);

    /* a holder that dies is charged what it said last, or its floor */
    k.rates.tpm = 0;
    t = try(&a, NOW, LLM_OK);
    (void) try(&a, NOW, LLM_OK);
    assert_int_equal(charge(t, 1, 300, 0), LLM_OK);
    used(&k, 3, 1800, 0);
    assert_int_equal(reap(3), 2);
    used(&k, 3, 1350, 0);

    /* ended: as it was settled */
    t = try(&a, NOW, LLM_OK);
    end(t, 1, 7, 0);
    assert_int_equal(reap(3), 0);
    used(&k, 4, 1357, 0);

    /* more than it reserved is known of the dead */
    a.floor.tokens = 700;
    t = try(&a, NOW, LLM_OK);
    assert_int_equal(reap(3), 1);
    used(&k, 5, 2057, 0);

    /* a waiter nothing, nor who was granted and did not come for it */
    k.concurrency = 1;
    a.owner = 1;
    t = try(&a, NOW, LLM_OK);
    a.owner = 3;
    (void) try(&a, NOW, LLM_AGAIN);
    (void) try(&a, NOW, LLM_AGAIN);
    used(&k, 6, 2457, 0);
    leave_at(t, 1, NOW);
    used(&k, 6, 2457, 0);
    assert_int_equal(reap(3), 2);
    used(&k, 5, 2057, 0);
    check();
}


/* everything is limited, and nothing of it is near its end */

static void
generous(llm_limit_t *l, const char *name, unsigned team)
{
    llm_rates_t  *rt;

    *l = team ? limit("t:t", 3, 600, 50) : limit(name, 2, 60, 5);
    l->name.data = (unsigned char *) name;
    l->name.len = strlen(name);
    l->hash += team;

    rt = &l->rates;
    rt->tpm = 60000;
    rt->burst_tokens = 10000;
    rt->rpd = 100;
    rt->tpd = 100000;
    rt->budget = 100000;
    rt->month = team;
}


/* what was taken by one request is all there is */

static void
tighten(llm_limit_t *l, llm_ask_t *a, unsigned which)
{
    switch (which) {

    case 0:
        l->rates.burst = 1;
        break;

    case 1:
        l->rates.burst_tokens = 199;
        break;

    case 2:
        l->rates.rpd = 1;
        break;

    case 3:
        l->rates.tpd = 199;
        break;

    case 4:
        l->rates.budget = 199;
        break;

    default:
        l->concurrency = 1;
        a->queue = 0;
    }
}


/* each limit in turn is the one that refuses: all other numbers stay */

static void
test_all_or_nothing(void **state)
{
    char               name[2][8];
    unsigned           which;
    llm_ask_t          a;
    llm_now_t          now = at(NOW);
    llm_limit_t        l[2];
    llm_limits_t       ls = limits(&l[0], &l[1]);
    llm_meter_t        before[2];
    llm_ticket_t       t;
    llm_ledger_stat_t  st, now_st;

    (void) state;

    for (which = 0; which < 12; which++) {

        snprintf(name[0], sizeof(name[0]), "k:%u", which);
        snprintf(name[1], sizeof(name[1]), "t:%u", which);
        generous(&l[0], name[0], 0);
        generous(&l[1], name[1], 1);

        a = ask(&ls, 0);
        a.need = amount(1, 100, 100);
        t = try(&a, NOW, LLM_OK);

        tighten(&l[which % 2], &a, which / 2);

        before[0] = *llm_ledger_meter(lg, &l[0], &now);
        before[1] = *llm_ledger_meter(lg, &l[1], &now);
        llm_ledger_stat(lg, &st);

        (void) try(&a, NOW, LLM_DECLINED);

        if (which < 10) {
            assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS + which / 2);
            assert_int_equal(rd.index, which % 2);
            assert_true(rd.refusal.wait_ms > 0);

        } else {
            assert_int_equal(rd.refusal.why, LLM_WHY_QUEUE_FULL);
        }

        assert_memory_equal(llm_ledger_meter(lg, &l[0], &now), &before[0],
                            sizeof(llm_meter_t));
        assert_memory_equal(llm_ledger_meter(lg, &l[1], &now), &before[1],
                            sizeof(llm_meter_t));
        llm_ledger_stat(lg, &now_st);
        assert_memory_equal(&st, &now_st, sizeof(llm_ledger_stat_t));
        counts(&l[1], 1, 0);

        leave(t);
        check();
    }
}


/* a waiter's turn comes when a limit is spent: the next one gets the slot */

static void
test_refused_in_turn(void **state)
{
    llm_ask_t     a;
    llm_limit_t   k = limit("k:a", 1, 60, 10);
    llm_limit_t   j = limit("k:b", 0, 60, 10);
    llm_limit_t   m = limit("t:t", 1, 600, 10);
    llm_limits_t  ls = limits(&k, &m);
    llm_limits_t  other = limits(&j, &m);
    llm_ticket_t  t[5];

    (void) state;

    m.rates.tpm = 6000;
    m.rates.burst_tokens = 1000;

    a = ask(&ls, 1);
    a.need = amount(1, 500, 0);
    t[0] = try(&a, NOW, LLM_OK);

    a.need.tokens = 400;
    t[1] = try(&a, NOW, LLM_AGAIN);
    a.owner = 2;
    t[2] = try(&a, NOW, LLM_AGAIN);
    a.limits = &other;
    a.need.tokens = 100;
    a.owner = 3;
    t[3] = try(&a, NOW, LLM_AGAIN);
    counts(&m, 1, 3);

    /* t[0] used more than it said: only the last one fits */
    end(t[0], 1, 850, 0);
    assert_int_equal(wake.bits[0], (1 << 1) + (1 << 2) + (1 << 3));
    counts(&m, 1, 0);

    assert_int_equal(granted(1), t[1]);
    assert_int_equal(rd.verdict, LLM_DECLINED);
    assert_int_equal(rd.index, 1);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS);
    assert_int_equal(rd.refusal.need, 400);
    assert_int_equal(rd.refusal.used, 850);
    assert_int_equal(rd.tokens_left, 50);
    assert_int_equal(granted(1), 0);

    assert_int_equal(granted(3), t[3]);
    assert_int_equal(rd.verdict, LLM_OK);

    /* it has ended, or ends when it leaves, and took nothing */
    leave_at(t[1], 1, NOW);
    leave_at(t[2], 1, NOW);
    assert_int_equal(granted(2), 0);
    used(&m, 2, 950, 0);
    used(&k, 1, 850, 0);
    counts(&m, 1, 0);
    check();
    leave(t[3]);
    check();
}


/* what was used without having been asked for: in debt, as a whole */

static void
test_add(void **state)
{
    llm_now_t           now;
    llm_limit_t         key, team;
    llm_limits_t        ls;
    llm_amount_t        used;
    const llm_meter_t  *m;

    (void) state;

    memset(&key, 0, sizeof(llm_limit_t));
    memset(&used, 0, sizeof(llm_amount_t));

    key.name.data = (unsigned char *) "k:a";
    key.name.len = 3;
    key.hash = 1;
    key.weight = 1;
    key.concurrency = LLM_UNLIMITED;

    team = key;
    team.name.data = (unsigned char *) "t:b";
    team.hash = 2;

    key.rates.budget = 100;
    team.rates.budget = 10000;

    ls.limit[0] = &key;
    ls.limit[1] = &team;
    ls.n = 2;

    now = at(NOW);
    used.money = 250;

    assert_int_equal(llm_ledger_add(lg, &ls, &used, &now), LLM_OK);
    assert_int_equal(llm_ledger_add(lg, &ls, &used, &now), LLM_OK);

    m = llm_ledger_meter(lg, &key, &now);
    assert_non_null(m);
    assert_int_equal(m->day[0].money + m->day[1].money, 500);

    m = llm_ledger_meter(lg, &team, &now);
    assert_non_null(m);
    assert_int_equal(m->day[0].money + m->day[1].money, 500);

    llm_ledger_peek(lg, &ls, &now, &rd);
    assert_true(rd.money_left <= 0);

    assert_null(ledger_check(lg, 0));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test_setup_teardown(test_requests, setup, teardown),
        cmocka_unit_test_setup_teardown(test_rates, setup, teardown),
        cmocka_unit_test_setup_teardown(test_settle, setup, teardown),
        cmocka_unit_test_setup_teardown(test_close, setup, teardown),
        cmocka_unit_test_setup_teardown(test_midnight, setup, teardown),
        cmocka_unit_test_setup_teardown(test_charge, setup, teardown),
        cmocka_unit_test_setup_teardown(test_all_or_nothing, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_refused_in_turn, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(test_add, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
