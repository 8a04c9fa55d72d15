
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


static llm_ledger_t   *lg;
static void           *mem;
static llm_owners_t    wake;
static llm_reading_t   rd;


static inline int
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


static inline int
teardown(void **state)
{
    (void) state;

    free(mem);

    return 0;
}


static inline llm_limit_t
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


static inline llm_limits_t
limits(const llm_limit_t *key, const llm_limit_t *team)
{
    llm_limits_t  ls;

    ls.limit[0] = key;
    ls.limit[1] = team;
    ls.n = team != NULL ? 2 : 1;

    return ls;
}


static inline llm_ticket_t
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


static inline void
leave(llm_ticket_t t)
{
    memset(&wake, 0, sizeof(llm_owners_t));
    llm_ledger_leave(lg, t, &wake);
}


static inline llm_ticket_t
granted(unsigned owner)
{
    llm_ticket_t  t;

    (void) llm_ledger_granted(lg, owner, &t);

    return t;
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
