
/*
 * Copyright (C) the ngx-llm authors
 *
 * Several ledgers and one store: the real script in embedded Lua, and a clock
 * that the test sets.
 */


#ifndef _QUOTA_HELP_H_INCLUDED_
#define _QUOTA_HELP_H_INCLUDED_


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


static inline void
tick(uint64_t ms)
{
    int64_t  before;

    before = (int64_t) (now.ms / 1000);
    now.ms += ms;
    now.wall += (int64_t) (now.ms / 1000) - before;

    store_clock(st, (uint64_t) now.wall * 1000000 + now.ms % 1000 * 1000);
}


static inline void
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


static inline int
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


static inline int
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


static inline llm_limit_t
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


static inline int
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


static inline void
settle(int g, llm_ticket_t t, int64_t tokens, int64_t money)
{
    llm_amount_t  used;

    used.requests = 1;
    used.tokens = tokens;
    used.money = money;

    llm_ledger_close(gw[g].lg, t, &used, &now, &wake);
}


/* one batch there; "lost": its reply never came */

static inline int
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

static inline void
drain(int g)
{
    int  i;

    for (i = 0; llm_ledger_pending(gw[g].lg) || gw[g].lg->batch.seq; i++) {
        assert_true(turn(g, 0, 0));
        assert_true(i < 20);
    }
}


static inline int
granted(int g, llm_ticket_t *t)
{
    return llm_ledger_granted(gw[g].lg, 0, t, &rd) != NULL ? rd.verdict : 1;
}


/* a number of what the store knows of a name */

static inline int64_t
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

static inline int64_t
tally(const char *name, int64_t wall, int k)
{
    int       i;
    uint32_t  day;

    day = llm_meter_day(wall);
    i = 5 + (int) (day & 1) * 4;

    return stored(name, i) == day ? stored(name, i + 1 + k) : 0;
}


static inline llm_limit_t
common(void)
{
    llm_limit_t  l;

    l = limit("k:a");
    l.rates.rpm = 60;
    l.rates.burst = 3;
    l.rates.tpd = 10000;

    return l;
}


#endif /* _QUOTA_HELP_H_INCLUDED_ */
