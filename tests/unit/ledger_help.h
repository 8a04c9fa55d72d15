
/*
 * Copyright (C) the ngx-llm authors
 *
 * A ledger, limits and short calls for the tests of it.
 */


#ifndef _LEDGER_HELP_H_INCLUDED_
#define _LEDGER_HELP_H_INCLUDED_


#include "ledger_check.h"

#include <stdio.h>
#include <string.h>


#define NOW       1000000
#define WALL      1767225600           /* 1 January 2026, 00:00 UTC */


static llm_ledger_t   *lg;
static void           *mem;
static llm_owners_t    wake;
static llm_reading_t   rd;


static inline int
setup(void **state)
{
    size_t  size;

    (void) state;

    size = 256 * 1024;
    mem = malloc(size);
    memset(mem, 0xa5, size);
    lg = llm_ledger_create(mem, size);
    memset(&wake, 0, sizeof(llm_owners_t));

    return lg == NULL;
}


static inline int
teardown(void **state)
{
    (void) state;

    free(mem);

    return 0;
}


/* the wall clock goes with the other one */

static inline llm_now_t
at(uint64_t ms)
{
    llm_now_t  now;

    now.ms = ms;
    now.wall = WALL + ((int64_t) ms - NOW) / 1000;

    return now;
}


static inline llm_limit_t
limit(const char *name, uint32_t concurrency, uint64_t rpm, uint64_t burst)
{
    const char   *p;
    llm_limit_t   l;

    memset(&l, 0, sizeof(llm_limit_t));

    l.name.data = (unsigned char *) name;
    l.name.len = strlen(name);
    l.concurrency = concurrency;
    l.weight = 1;
    l.rates.rpm = rpm;
    l.rates.burst = burst;
    l.hash = 2166136261u;

    for (p = name; *p != '\0'; p++) {
        l.hash = (l.hash ^ (unsigned char) *p) * 16777619;
    }

    return l;
}


static inline llm_limits_t
limits(const llm_limit_t *key, const llm_limit_t *team)
{
    llm_limits_t  ls;

    ls.limit[0] = key;
    ls.limit[1] = team;
    ls.n = team != NULL ? 2 : 1;

    return ls;
}


/* a request of one slot, one unit of the bucket; changed by tests */

static inline llm_ask_t
ask(const llm_limits_t *ls, unsigned owner)
{
    llm_ask_t  a;

    memset(&a, 0, sizeof(llm_ask_t));

    a.limits = ls;
    a.need.requests = 1;
    a.data = mem;
    a.owner = owner;
    a.queue = 128;
    a.slot = 1;

    return a;
}


static inline llm_ticket_t
try(const llm_ask_t *a, uint64_t ms, int expected)
{
    int           rc;
    llm_now_t     now = at(ms);
    llm_ticket_t  t;

    rc = llm_ledger_enter(lg, a, &now, &t, &rd);

    assert_int_equal(rc, expected);
    assert_true((t == 0) == (expected == LLM_DECLINED
                             || (expected == LLM_OK && !a->slot)));
    assert_true((rd.refusal.why == LLM_WHY_NONE)
                == (rc == LLM_OK || rd.refusal.wait_ms == 0)
                || rc == LLM_DECLINED);

    return t;
}


static inline llm_ticket_t
enter(const llm_limit_t *key, const llm_limit_t *team, unsigned owner,
    int priority, uint64_t ms, int expected)
{
    llm_ask_t     a;
    llm_limits_t  ls;

    ls = limits(key, team);
    a = ask(&ls, owner);
    a.need.requests = 0;
    a.priority = priority;

    return try(&a, ms, expected);
}


/* one unit of the buckets and no slot */

static inline void
take(const llm_limits_t *ls, uint64_t ms, int expected)
{
    llm_ask_t  a;

    a = ask(ls, 0);
    a.slot = 0;

    (void) try(&a, ms, expected);
}


static inline void
untake(const llm_limits_t *ls, uint64_t ms)
{
    llm_now_t     now = at(ms);
    llm_amount_t  one = { 1, 0, 0 };

    llm_ledger_untake(lg, ls, &one, &now);
}


static inline void
leave_at(llm_ticket_t t, int undo, uint64_t ms)
{
    llm_now_t  now = at(ms);

    memset(&wake, 0, sizeof(llm_owners_t));
    llm_ledger_leave(lg, t, undo, &now, &wake);
}


static inline void
leave(llm_ticket_t t)
{
    leave_at(t, 0, NOW);
}


static inline llm_ticket_t
granted(unsigned owner)
{
    llm_ticket_t  t;

    (void) llm_ledger_granted(lg, owner, &t, &rd);

    return t;
}


static inline void
update(const llm_limit_t *l)
{
    llm_now_t  now = at(NOW);

    llm_ledger_update(lg, l, &now, &wake);
}


static inline unsigned
reap(unsigned owner)
{
    llm_now_t  now = at(NOW);

    return llm_ledger_reap(lg, owner, &now, &wake);
}


static inline void
rebuild(void)
{
    llm_now_t  now = at(NOW);

    llm_ledger_rebuild(lg, &now, &wake);
}


/* room for so many rows */

static inline size_t
room_for(unsigned rows)
{
    return sizeof(llm_ledger_t)
           + rows * (sizeof(llm_ledger_ticket_t) + sizeof(llm_ledger_node_t)
                     + sizeof(uint32_t));
}


static inline void
check(void)
{
    const char  *e;

    e = ledger_check(lg, 1);

    if (e != NULL) {
        fail_msg("%s", e);
    }
}


static inline void
counts(const llm_limit_t *l, unsigned held, unsigned waiting)
{
    unsigned  h, w;

    (void) llm_ledger_look(lg, l, &h, &w);
    assert_int_equal(h, held);
    assert_int_equal(w, waiting);
}


#endif /* _LEDGER_HELP_H_INCLUDED_ */
