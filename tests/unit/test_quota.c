
/*
 * Copyright (C) the ngx-llm authors
 *
 * Several ledgers and one store: the real script in embedded Lua, a clock
 * that the test sets.
 */


#define _GNU_SOURCE

#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_quota_private.h"
#include "../sim/store.c"
#include "../sim/store_command.c"


#define SCRIPT    "ngx_module/policy/quota.lua"
#define GATEWAYS  3
#define ROWS      64

/* 2026-06-15, noon */
#define NOON      1781524800


typedef struct {
    llm_ledger_t  *lg;
    char           name[8];
} gateway_t;


static store_t        *st;
static gateway_t       gw[GATEWAYS];
static size_t          size;
static llm_now_t       now;
static llm_owners_t    wake;
static llm_reading_t   rd;


static void
tick(uint64_t ms)
{
    int64_t  before;

    before = (int64_t) (now.ms / 1000);
    now.ms += ms;
    now.wall += (int64_t) (now.ms / 1000) - before;

    store_clock(st, (uint64_t) now.wall * 1000000 + now.ms % 1000 * 1000);
}


static void
mode(int g, llm_quota_mode_e m)
{
    llm_quota_conf_t  conf;

    memset(&conf, 0, sizeof(llm_quota_conf_t));
    conf.mode = m;
    conf.gateways = GATEWAYS;
    conf.ahead = 1000;
    conf.idle = 3000;

    llm_ledger_mode(gw[g].lg, &conf, &now, &wake);
}


static int
setup(void **state)
{
    int  g;

    (void) state;

    st = store_create(SCRIPT);

    if (st == NULL) {
        return 1;
    }

    now.ms = 1000000;
    now.wall = NOON;
    tick(0);

    size = sizeof(llm_ledger_t) + ROWS * (sizeof(llm_ledger_node_t)
           + sizeof(llm_ledger_ticket_t) + sizeof(uint32_t));

    for (g = 0; g < GATEWAYS; g++) {
        gw[g].lg = llm_ledger_create(malloc(size), size);
        gw[g].name[0] = (char) ('a' + g);
        gw[g].name[1] = '\0';
        mode(g, LLM_QUOTA_EXACT);
    }

    return 0;
}


static int
teardown(void **state)
{
    int  g;

    (void) state;

    for (g = 0; g < GATEWAYS; g++) {
        free(gw[g].lg);
    }

    store_destroy(st);

    return 0;
}


static llm_limit_t
limit(const char *name)
{
    const char   *p;
    llm_limit_t   l;

    memset(&l, 0, sizeof(llm_limit_t));
    l.name.data = (unsigned char *) name;
    l.name.len = strlen(name);
    l.weight = 1;
    l.hash = 2166136261u;

    for (p = name; *p != '\0'; p++) {
        l.hash = (l.hash ^ (unsigned char) *p) * 16777619;
    }

    return l;
}


static int
enter(int g, const llm_limit_t *l, int slot, int64_t requests, int64_t tokens,
    int64_t money, llm_ticket_t *t)
{
    llm_ask_t     ask;
    llm_limits_t  ls;

    ls.limit[0] = l;
    ls.n = 1;

    memset(&ask, 0, sizeof(llm_ask_t));
    ask.limits = &ls;
    ask.need.requests = requests;
    ask.need.tokens = tokens;
    ask.need.money = money;
    ask.data = &gw[g];
    ask.queue = 64;
    ask.slot = slot != 0;

    return llm_ledger_enter(gw[g].lg, &ask, &now, t, &rd);
}


static void
settle(int g, llm_ticket_t t, int64_t tokens, int64_t money)
{
    llm_amount_t  used;

    used.requests = 1;
    used.tokens = tokens;
    used.money = money;

    llm_ledger_settle(gw[g].lg, t, &used, &now);
    llm_ledger_leave(gw[g].lg, t, 0, &now, &wake);
}


/* one batch there; "lost": its reply never came */

static int
turn(int g, int force, int lost)
{
    size_t                    len;
    uint64_t                  seq;
    const char               *reply;
    const llm_quota_batch_t  *b;

    b = llm_ledger_collect(gw[g].lg, force, &now);

    if (b == NULL) {
        return 0;
    }

    seq = b->seq;
    reply = store_batch(st, gw[g].lg, b, gw[g].name, &len);
    assert_non_null(reply);

    if (!lost) {
        assert_int_equal(llm_ledger_apply(gw[g].lg, seq, reply, len, &now,
                                          &wake), LLM_OK);
    }

    return 1;
}


/* until there is nothing to say */

static void
drain(int g)
{
    int  i;

    for (i = 0; llm_ledger_pending(gw[g].lg) || gw[g].lg->batch.seq; i++) {
        assert_true(turn(g, 0, 0));
        assert_true(i < 20);
    }
}


static int
granted(int g, llm_ticket_t *t)
{
    return llm_ledger_granted(gw[g].lg, 0, t, &rd) != NULL ? rd.verdict : 1;
}


/* a number of what the store knows of a name */

static int64_t
stored(const char *name, int i)
{
    char         key[64];
    const char  *p;

    snprintf(key, sizeof(key), "{llm}:l:%s", name);
    p = store_get(st, key);
    assert_non_null(p);

    for ( /* void */ ; i != 0; i--) {
        p = strchr(p, ' ') + 1;
    }

    return strtoll(p, NULL, 10);
}


/* requests, tokens, money of a day */

static int64_t
tally(const char *name, int64_t wall, int k)
{
    int       i;
    uint32_t  day;

    day = llm_meter_day(wall);
    i = 5 + (int) (day & 1) * 4;

    return stored(name, i) == day ? stored(name, i + 1 + k) : 0;
}


static llm_limit_t
common(void)
{
    llm_limit_t  l;

    l = limit("k:a");
    l.rates.rpm = 60;
    l.rates.burst = 3;
    l.rates.tpd = 10000;

    return l;
}


static void
test_exact(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 50, &t), LLM_AGAIN);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 2);
    assert_int_equal(granted(0, &u), 1);

    assert_int_equal(turn(0, 0, 0), 1);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(u, t);
    assert_int_equal(tally("k:a", now.wall, 1), 1000);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);

    settle(0, t, 300, 20);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 1);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 1);
    assert_int_equal(tally("k:a", now.wall, 1), 300);
    assert_int_equal(tally("k:a", now.wall, 2), 20);

    /* the others see it, and what it used beyond its estimate */

    assert_int_equal(enter(1, &l, 1, 1, 9000, 0, &t), LLM_AGAIN);
    drain(1);
    assert_int_equal(granted(1, &t), LLM_OK);
    settle(1, t, 12000, 0);
    drain(1);
    assert_int_equal(tally("k:a", now.wall, 1), 12300);

    assert_int_equal(enter(2, &l, 1, 1, 1, 0, &t), LLM_AGAIN);
    drain(2);
    assert_int_equal(granted(2, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);
    assert_int_equal(rd.refusal.used, 12300);
    assert_int_equal(rd.refusal.limit, 10000);
}


static void
test_denied(void **state)
{
    int           i, asked;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    for (i = 0; i < 3; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
        drain(0);
        assert_int_equal(granted(0, &t), LLM_OK);
    }

    /* a flood for half a second asks the store five times */

    for (i = 0, asked = 0; i < 500; i++) {

        if (enter(0, &l, 1, 1, 10, 0, &t) == LLM_AGAIN) {
            asked++;
            drain(0);
            assert_int_equal(granted(0, &t), LLM_DECLINED);
        }

        assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);
        assert_true(rd.refusal.wait_ms > 0 && rd.refusal.wait_ms <= 1000);
        tick(1);
    }

    assert_int_equal(asked, 5);

    /* and when its time has come there is one */

    tick(500);
    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
}


static void
test_gone(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    assert_int_equal(turn(0, 0, 1), 1);
    assert_int_equal(tally("k:a", now.wall, 1), 1000);

    llm_ledger_leave(gw[0].lg, t, 1, &now, &wake);
    drain(0);
    assert_int_equal(granted(0, &t), 1);
    assert_int_equal(tally("k:a", now.wall, 0), 0);
    assert_int_equal(tally("k:a", now.wall, 1), 0);
    assert_int_equal(tally("k:a", now.wall, 2), 0);
    assert_int_equal(stored("k:a", 1), 0);

    /* before it was asked for */

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    llm_ledger_leave(gw[0].lg, t, 1, &now, &wake);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 0);
}


static void
test_lost(void **state)
{
    int           i;
    uint64_t      seq;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);

    for (i = 0; i < 3; i++) {
        assert_int_equal(turn(0, 0, 1), 1);
        seq = gw[0].lg->batch.seq;
        tick(10);
    }

    assert_int_equal(turn(0, 0, 0), 1);
    assert_int_equal(gw[0].lg->batch_seq, seq);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 1);

    settle(0, t, 10, 1);
    assert_int_equal(turn(0, 0, 1), 1);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 10);

    /* a reply to another batch, and no reply at all */

    assert_int_equal(enter(0, &l, 1, 1, 1000, 5, &t), LLM_AGAIN);
    assert_int_equal(turn(0, 0, 1), 1);
    seq = gw[0].lg->batch.seq;
    assert_int_equal(llm_ledger_apply(gw[0].lg, seq - 1, "1 2 3", 5, &now,
                                      &wake), LLM_OK);
    assert_int_equal(llm_ledger_apply(gw[0].lg, seq, "1 2 3", 5, &now,
                                      &wake), LLM_ERROR);
    assert_int_equal(gw[0].lg->batch.seq, seq);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
}


static void
test_late(void **state)
{
    void         *old;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();

    /* the same name with a fresh ledger, which counts from the time on */

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    settle(0, t, 10, 0);
    drain(0);

    old = gw[0].lg;
    gw[0].lg = llm_ledger_create(malloc(size), size);
    free(old);
    mode(0, LLM_QUOTA_EXACT);
    tick(1000);

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 2);

    /* and one whose clock was behind */

    gw[0].lg->batch_seq = 5;

    assert_int_equal(enter(0, &l, 1, 1, 10, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 0), 3);
    assert_true(gw[0].lg->batch_seq > 1000);
}


static void
test_leased(void **state)
{
    int           i, again;
    uint64_t      batches;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    mode(0, LLM_QUOTA_LEASED);

    l = limit("k:a");
    l.rates.rpm = 60000;
    l.rates.burst = 60000;
    l.rates.tpd = 1000000000;

    batches = store_calls(st);
    again = 0;

    for (i = 0; i < 4000; i++) {

        if (enter(0, &l, 1, 1, 100, 0, &t) == LLM_AGAIN) {
            again++;
            drain(0);
            assert_int_equal(granted(0, &t), LLM_OK);
        }

        settle(0, t, 50, 0);

        if (i % 20 == 0) {
            drain(0);
        }

        tick(5);
    }

    /* most needed no answer, and a batch served many */

    assert_true(again < 200);
    assert_true(store_calls(st) - batches < 400);
    assert_true(tally("k:a", now.wall, 0) >= 4000);
    assert_true(tally("k:a", now.wall, 0) < 4000 + 1000);

    /* when it is idle, all is given back */

    tick(5000);
    llm_ledger_sweep(gw[0].lg, 100, &now);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 4000);
    assert_int_equal(tally("k:a", now.wall, 1), 200000);
    llm_ledger_sweep(gw[0].lg, 100, &now);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);
}


static void
test_alone(void **state)
{
    int           i, n;
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = limit("k:a");
    l.rates.rpm = 60;
    l.rates.burst = 30;
    l.rates.budget = 1000;
    l.rates.month = 1;

    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    /* who waits for the store is served when it goes */

    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &t), LLM_AGAIN);
    assert_int_equal(enter(0, &l, 1, 1, 0, 100, &u), LLM_AGAIN);
    (void) llm_ledger_collect(gw[0].lg, 0, &now);
    mode(0, LLM_QUOTA_ALONE);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(llm_ledger_pending(gw[0].lg), 0);

    /* a third of the burst, and of the rate */

    for (n = 3; enter(0, &l, 0, 1, 0, 1, &t) == LLM_OK; n++) { /* void */ }

    assert_int_equal(n, 10);
    assert_int_equal(rd.refusal.why, LLM_WHY_REQUESTS);

    for (i = 0; i < 600; i++) {
        tick(100);
        n += enter(0, &l, 0, 1, 0, 1, &t) == LLM_OK;
    }

    assert_int_equal(n, 30);

    /* money: what was known of the fleet's and its own, and 2 % */

    tick(60000);
    assert_int_equal(enter(0, &l, 1, 1, 0, 694, &t), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_BUDGET);
    assert_int_equal(enter(0, &l, 1, 1, 0, 693, &t), LLM_OK);
    assert_int_equal(enter(0, &l, 1, 1, 0, 1, &t), LLM_DECLINED);

    /* back: all of it is told, the bucket only what has not leaked */

    mode(0, LLM_QUOTA_EXACT);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 0), 31);
    assert_int_equal(tally("k:a", now.wall, 2), 1020);
    assert_true(stored("k:a", 1) <= 2 * 60000);
}


static void
test_forgot(void **state)
{
    int           i;
    llm_limit_t   l;
    llm_ticket_t  t;

    (void) state;

    l = common();
    l.rates.rpm = 0;

    for (i = 0; i < 5; i++) {
        assert_int_equal(enter(0, &l, 1, 1, 100, 7, &t), LLM_AGAIN);
        drain(0);
        assert_int_equal(granted(0, &t), LLM_OK);
        settle(0, t, 100, 7);
        drain(0);
    }

    store_flush(st);
    tick(1);

    /* another one asks at once; then the first one knows better */

    (void) enter(1, &l, 1, 1, 10, 0, &t);
    drain(1);

    assert_int_equal(turn(0, 1, 0), 1);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 500);
    assert_int_equal(tally("k:a", now.wall, 2), 35);
}


static void
test_midnight(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();
    tick(43199000);

    assert_int_equal(enter(0, &l, 1, 1, 1000, 50, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    tick(2000);

    assert_int_equal(enter(0, &l, 1, 1, 9500, 1, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_OK);

    settle(0, t, 100, 5);
    drain(0);
    assert_int_equal(tally("k:a", now.wall - 3, 1), 100);
    assert_int_equal(tally("k:a", now.wall - 3, 2), 5);
    assert_int_equal(tally("k:a", now.wall, 1), 9500);
    assert_int_equal(tally("k:a", now.wall, 2), 1);
}


static void
test_full(void **state)
{
    llm_limit_t   l;
    llm_ticket_t  t, u;

    (void) state;

    l = common();

    assert_int_equal(enter(0, &l, 1, 1, 4000, 0, &t), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &t), LLM_OK);

    /* judged here, by what the store said last; debts are told all the same */

    store_full(st, 1);

    assert_int_equal(enter(0, &l, 1, 1, 6001, 0, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_DECLINED);
    assert_int_equal(rd.refusal.why, LLM_WHY_TOKENS_DAY);

    assert_int_equal(enter(0, &l, 1, 1, 6000, 0, &u), LLM_AGAIN);
    drain(0);
    assert_int_equal(granted(0, &u), LLM_OK);
    assert_int_equal(tally("k:a", now.wall, 1), 10000);

    settle(0, t, 10, 0);
    settle(0, u, 10, 0);
    drain(0);
    assert_int_equal(tally("k:a", now.wall, 1), 20);
}


/* three gateways, more waiters than slots: never above, all served */

static void
test_shares(void **state)
{
    int           i, g, k, held[GATEWAYS], sum;
    unsigned      h, w;
    const char   *mine[] = { "HGET", "{llm}:s:k:a", "a" };
    llm_limit_t   l;
    llm_ticket_t  t, running[GATEWAYS][8];

    (void) state;

    l = limit("k:a");
    l.concurrency = 4;
    memset(held, 0, sizeof(held));

    for (i = 0; i < 20; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            assert_int_equal(enter(g, &l, 1, 1, 0, 0, &t), LLM_AGAIN);
        }
    }

    k = 0;

    for (i = 0; i < 60; i++) {

        for (g = 0; g < GATEWAYS; g++) {
            (void) turn(g, 1, 0);

            while (granted(g, &t) == LLM_OK) {
                running[g][held[g]++] = t;
            }
        }

        for (g = 0, sum = 0; g < GATEWAYS; g++) {
            (void) llm_ledger_look(gw[g].lg, &l, &h, &w);
            sum += (int) h;
        }

        assert_true(sum <= 4);
        k += sum;

        /* one ends at a time */

        for (g = 0; g < GATEWAYS; g++) {

            if ((i + g) % 3 == 0 && held[g] != 0) {
                llm_ledger_leave(gw[g].lg, running[g][--held[g]], 0, &now,
                                 &wake);

                while (granted(g, &t) == LLM_OK) {
                    running[g][held[g]++] = t;
                }
            }
        }

        tick(50);
    }

    assert_true(k > 60 * 3);

    for (g = 0; g < GATEWAYS; g++) {
        (void) llm_ledger_look(gw[g].lg, &l, &h, &w);
        assert_true(w < 18);
    }

    /* a gateway that goes away without a word: its slots after its life */

    for (i = 0; i < 40; i++) {

        for (g = 0; g < 2; g++) {

            while (held[g] != 0) {
                llm_ledger_leave(gw[g].lg, running[g][--held[g]], 0, &now,
                                 &wake);
            }

            llm_ledger_sweep(gw[g].lg, 100, &now);
            (void) turn(g, 1, 0);

            while (granted(g, &t) == LLM_OK) {
                running[g][held[g]++] = t;
            }
        }

        tick(1000);
    }

    assert_int_equal(llm_ledger_quota(gw[0].lg)->gateways, 2);

    for (g = 0; g < 2; g++) {

        while (held[g] != 0) {
            llm_ledger_leave(gw[g].lg, running[g][--held[g]], 0, &now, &wake);
        }
    }

    tick(4000);

    for (g = 0; g < 2; g++) {
        llm_ledger_sweep(gw[g].lg, 100, &now);
        drain(g);
    }

    /* the dead one's stands until somebody wants a slot, or for an hour */

    assert_int_equal(store_command(st, 3, mine), -1);
    mine[2] = "b";
    assert_int_equal(store_command(st, 3, mine), -1);
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

    /* 4 asked: one had gone (700 are its), two fit, one was refused */

    return lg->batch.seq == 0 && n == 3
           && node->quota.tally.tokens == 700
           && node->quota.tally.requests == 1
           && node->meter.day[llm_meter_day(now.wall) & 1].tokens == 2000
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
    crash_limit.rates.burst = 3;
    crash_limit.rates.tpd = 100000;

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
        cmocka_unit_test_setup_teardown(test_exact, setup, teardown),
        cmocka_unit_test_setup_teardown(test_denied, setup, teardown),
        cmocka_unit_test_setup_teardown(test_gone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_lost, setup, teardown),
        cmocka_unit_test_setup_teardown(test_late, setup, teardown),
        cmocka_unit_test_setup_teardown(test_leased, setup, teardown),
        cmocka_unit_test_setup_teardown(test_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(test_forgot, setup, teardown),
        cmocka_unit_test_setup_teardown(test_midnight, setup, teardown),
        cmocka_unit_test_setup_teardown(test_full, setup, teardown),
        cmocka_unit_test_setup_teardown(test_shares, setup, teardown),
        cmocka_unit_test_setup_teardown(test_crash, setup, teardown)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
