
/*
 * Copyright (C) the ngx-llm authors
 *
 * Several gateways and one limit of slots; and the death of an agent.
 */


#define _GNU_SOURCE

#include "quota_help.h"


static int           held[GATEWAYS];
static llm_ticket_t  running[GATEWAYS][8];
static llm_limit_t   slots;


/* forty wait at each of three gateways for four slots */

static int
crowd(void **state)
{
    int           i, g;
    llm_ticket_t  t;

    if (setup(state) != 0) {
        return 1;
    }

    slots = limit("k:a");
    slots.concurrency = 4;
    memset(held, 0, sizeof(held));

    for (i = 0; i < 40; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            (void) enter(g, &slots, 1, 1, 0, 0, &t);
        }
    }

    return 0;
}


static void
start(int g)
{
    llm_ticket_t  t;

    while (granted(g, &t) == LLM_OK) {
        running[g][held[g]++] = t;
    }
}


static void
finish(int g, int n)
{
    while (n-- != 0 && held[g] != 0) {
        llm_ledger_leave(gw[g].lg, running[g][--held[g]], 0, &now, &wake);
    }
}


/* more waiters than slots: never above, nobody is left out */

static void
test_shares(void **state)
{
    int       i, g, sum, all;
    unsigned  h, w;

    (void) state;

    for (i = 0, all = 0; i < 60; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            (void) turn(g, 1, 0);
            start(g);
        }

        for (g = 0, sum = 0; g < GATEWAYS; g++) {
            (void) llm_ledger_look(gw[g].lg, &slots, &h, &w);
            sum += (int) h;
        }

        assert_true(sum <= 4);
        all += sum;

        /* one ends at a time */

        for (g = 0; g < GATEWAYS; g++) {

            if ((i + g) % 3 == 0) {
                finish(g, 1);
                start(g);
            }
        }

        tick(50);
    }

    assert_true(all > 60 * 3);

    for (g = 0; g < GATEWAYS; g++) {
        (void) llm_ledger_look(gw[g].lg, &slots, &h, &w);
        assert_true(w < 38);
    }
}


/* one goes without a word: its slots are the others' after its life */

static void
test_vanish(void **state)
{
    int          i, g, most;
    const char  *mine[] = { "HGET", "{llm}:s:k:a", "a" };

    (void) state;

    for (i = 0; held[2] == 0; i++) {
        assert_true(i < 20);

        for (g = 0; g < GATEWAYS; g++) {
            finish(g, 1);
            (void) turn(g, 1, 0);
            start(g);
        }
    }

    most = 0;

    for (i = 0; i < 40; i++) {

        for (g = 0; g < 2; g++) {
            finish(g, 1);
            llm_ledger_sweep(gw[g].lg, 100, &now);
            (void) turn(g, 1, 0);
            start(g);
        }

        /* until then the one that has gone keeps what it had */

        if (i < 14) {
            assert_true(held[0] + held[1] <= 4 - held[2]);
        }

        most = held[0] + held[1] > most ? held[0] + held[1] : most;
        tick(1000);
    }

    assert_int_equal(llm_ledger_quota(gw[0].lg)->gateways, 2);
    assert_int_equal(most, 4);

    /* when all is done, nothing is claimed */

    for (i = 0; i < 20; i++) {

        for (g = 0; g < 2; g++) {
            finish(g, 8);
            start(g);
            (void) turn(g, 1, 0);
            start(g);
        }
    }

    tick(4000);

    for (g = 0; g < 2; g++) {
        llm_ledger_sweep(gw[g].lg, 100, &now);
        drain(g);
    }

    assert_int_equal(store_command(st, 3, mine), -1);
    mine[2] = "b";
    assert_int_equal(store_command(st, 3, mine), -1);
}


/* what was told as held is all that may run until the reply is here */

static void
test_freeze(void **state)
{
    int           i;
    char         *reply;
    size_t        len;
    uint64_t      seq;
    llm_limit_t   l;
    llm_ticket_t  t, u[4];

    (void) state;

    l = limit("k:f");
    l.concurrency = 4;

    for (i = 0; i < 4; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 0, 0, &u[i]), LLM_AGAIN);
    }

    drain(0);

    for (i = 0; i < 4; i++) {
        assert_int_equal(granted(0, &t), LLM_OK);
    }

    for (i = 0; i < 3; i++) {
        llm_ledger_leave(gw[0].lg, u[i], 0, &now, &wake);
    }

    /* it keeps its share until it hears of others */

    assert_int_equal(enter(0, &l, 1, 1, 0, 0, &t), LLM_OK);
    llm_ledger_leave(gw[0].lg, t, 0, &now, &wake);

    for (i = 0; i < 3; i++) {
        assert_int_equal(enter(1, &l, 1, 1, 0, 0, &t), LLM_AGAIN);
    }

    assert_int_equal(turn(1, 0, 0), 1);
    assert_int_equal(granted(1, &t), 1);
    assert_int_equal(turn(0, 1, 0), 1);

    seq = llm_ledger_collect(gw[0].lg, 0, &now)->seq;
    reply = strdup(store_batch(st, gw[0].lg, &gw[0].lg->batch, gw[0].name,
                               &len));

    assert_int_equal(enter(0, &l, 1, 1, 0, 0, &t), LLM_AGAIN);

    for (i = 0; i < 3; i++) {
        assert_int_equal(turn(1, 1, 0), 1);
    }

    for (i = 0; i < 3; i++) {
        assert_int_equal(granted(1, &t), LLM_OK);
    }

    assert_int_equal(llm_ledger_apply(gw[0].lg, seq, reply, len, &now, &wake),
                     LLM_OK);
    assert_int_equal(granted(0, &t), 1);

    free(reply);
}


/* one slot: when it gets free, it goes to who waits elsewhere, whatever the
   second */

static void
test_handover(void **state)
{
    int           i;
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = limit("k:f");
    l.concurrency = 1;

    for (i = 0; i < 4; i++) {
        assert_int_equal(enter(i % 2, &l, 1, 1, 0, 0, &t), LLM_AGAIN);
        drain(i % 2);
        assert_int_equal(granted(i % 2, &t), LLM_OK);

        assert_int_equal(enter((i + 1) % 2, &l, 1, 1, 0, 0, &u), LLM_AGAIN);
        assert_int_equal(turn((i + 1) % 2, 0, 0), 1);
        assert_int_equal(turn(i % 2, 1, 0), 1);
        assert_int_equal(turn(i % 2, 1, 0), 1);
        assert_int_equal(granted((i + 1) % 2, &u), 1);

        llm_ledger_leave(gw[i % 2].lg, t, 0, &now, &wake);
        assert_int_equal(llm_ledger_pending(gw[i % 2].lg), 1);
        assert_int_equal(turn(i % 2, 0, 0), 1);
        assert_int_equal(turn((i + 1) % 2, 0, 0), 1);
        assert_int_equal(turn((i + 1) % 2, 0, 0), 1);
        assert_int_equal(granted((i + 1) % 2, &u), LLM_OK);

        llm_ledger_leave(gw[(i + 1) % 2].lg, u, 0, &now, &wake);
        tick(4000);
        llm_ledger_sweep(gw[0].lg, 100, &now);
        llm_ledger_sweep(gw[1].lg, 100, &now);
        drain(0);
        drain(1);
        tick(1000 + 500 * (uint64_t) i);
    }
}


/* Redis' clock steps: nobody's slots are freed, buckets stand still */

static void
test_clock(void **state)
{
    int           i;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = limit("k:f");
    l.concurrency = 2;
    l.rates.rpm = 60;
    l.rates.burst = 2;

    for (i = 0; i < 2; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 0, 0, &t), LLM_AGAIN);
    }

    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(granted(0, &t), LLM_OK);

    assert_int_equal(enter(1, &l, 0, 1, 0, 0, &t), LLM_AGAIN);
    store_clock(st, (uint64_t) (now.wall - 3600) * 1000000);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_DECLINED);
    tick(200);

    assert_int_equal(enter(1, &l, 0, 1, 0, 0, &t), LLM_AGAIN);
    store_clock(st, (uint64_t) (now.wall - 3600) * 1000000 + 1000000);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_OK);

    assert_int_equal(enter(1, &l, 1, 1, 0, 0, &t), LLM_AGAIN);
    store_clock(st, (uint64_t) (now.wall + 7200) * 1000000);
    (void) turn(1, 1, 0);
    (void) turn(1, 1, 0);
    assert_int_equal(granted(1, &t), 1);
    assert_int_equal(llm_ledger_quota(gw[1].lg)->gateways, 2);
}


/* death after every single store of apply(): the next agent makes it whole */

#if (__x86_64__)

static llm_ledger_t  *live, *seen, *other;
static const char    *reply;
static size_t         reply_len;
static uint64_t       reply_seq;
static unsigned       deaths;
static llm_limit_t    crash_limit;


#define TRAP(change)                                                          \
    __asm__ volatile ("lea -128(%%rsp), %%rsp\n\t"                            \
                      "pushfq\n\t"                                            \
                      change "\n\t"                                           \
                      "popfq\n\t"                                             \
                      "lea 128(%%rsp), %%rsp"                                 \
                      : : : "memory", "cc")


/* accounts and what was told, held slots, and who has been answered */

static int
whole(llm_ledger_t *lg)
{
    int                   n;
    uint32_t              i;
    llm_reading_t         r;
    llm_ticket_t          t;
    llm_ledger_node_t    *node;

    node = llm_ledger_node(lg, llm_ledger_node_find(lg, &crash_limit));

    for (n = 0; llm_ledger_granted(lg, 0, &t, &r) != NULL; n++) {
        /* void */
    }

    for (i = 0; i < lg->tickets; i++) {

        if (llm_ledger_ticket(lg, i)->state == LLM_TICKET_ASKING) {
            return 0;
        }
    }

    /* 600 are given back; 4 asked: one had gone (700 are its), two fit, one
       was refused */

    return lg->batch.seq == 0 && n == 3
           && node->quota.tally.tokens == 700
           && node->quota.tally.requests == 1
           && node->meter.day[llm_meter_day(now.wall) & 1].tokens == 2400
           && node->quota.dirty;
}


static void
trapped(int signo)
{
    (void) signo;

    if (memcmp(live, seen, size) == 0) {
        return;
    }

    memcpy(seen, live, size);
    memcpy(other, live, size);

    deaths++;

    llm_ledger_rebuild(other, &now, &wake);

    if (other->batch.seq == reply_seq) {
        (void) llm_ledger_apply(other, reply_seq, reply, reply_len, &now,
                                &wake);
    }

    assert_true(whole(other));
}

#endif


static void
test_crash(void **state)
{
#if (__x86_64__)

    int               i;
    llm_ticket_t      t[4];
    struct sigaction  sa;

    (void) state;

    live = gw[0].lg;
    seen = malloc(size);
    other = malloc(size);

    crash_limit = limit("k:a");
    crash_limit.rates.rpm = 60;
    crash_limit.rates.burst = 4;
    crash_limit.rates.tpd = 100000;

    assert_int_equal(enter(0, &crash_limit, 1, 1, 1000, 0, &t[0]), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t[0]), LLM_OK);
    settle(0, t[0], 400, 0);

    for (i = 0; i < 4; i++) {
        assert_int_equal(enter(0, &crash_limit, 1, 1,
                               i == 1 ? 700 : 1000, 0, &t[i]), LLM_AGAIN);
    }

    assert_int_equal(turn(0, 0, 1), 1);
    reply_seq = live->batch.seq;
    reply = strdup(store_batch(st, live, &live->batch, gw[0].name,
                               &reply_len));

    llm_ledger_leave(live, t[1], 1, &now, &wake);

    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = trapped;
    sigaction(SIGTRAP, &sa, NULL);
    memcpy(seen, live, size);

    TRAP("orq $0x100, (%%rsp)");
    (void) llm_ledger_apply(live, reply_seq, reply, reply_len, &now, &wake);
    TRAP("andq $~0x100, (%%rsp)");

    signal(SIGTRAP, SIG_DFL);

    print_message("%u deaths\n", deaths);
    assert_true(deaths > 50);
    assert_true(whole(live));

    free(seen);
    free(other);
    free((void *) reply);

#else

    (void) state;
    skip();

#endif
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_shares, crowd, teardown),
        cmocka_unit_test_setup_teardown(test_vanish, crowd, teardown),
        cmocka_unit_test_setup_teardown(test_freeze, setup, teardown),
        cmocka_unit_test_setup_teardown(test_handover, setup, teardown),
        cmocka_unit_test_setup_teardown(test_clock, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
