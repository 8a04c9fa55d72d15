
/*
 * Copyright (C) the ngx-llm authors
 *
 * Times, and a check that changes nothing, for the tests of meters.
 */


#ifndef _METER_HELP_H_INCLUDED_
#define _METER_HELP_H_INCLUDED_


#include <stdarg.h>
#include <stddef.h>
#include <setjmp.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_meter.h"
#include "unit_random.h"


#define DAY    86400
#define WALL   1767225600              /* 1 January 2026, 00:00 UTC */


static inline llm_now_t
at(uint64_t ms, int64_t wall)
{
    llm_now_t  now;

    now.ms = ms;
    now.wall = wall;

    return now;
}


static inline llm_refusal_t
check(llm_meter_t *m, const llm_rates_t *rt, int64_t requests,
    int64_t tokens, int64_t money, const llm_now_t *now)
{
    llm_meter_t    before;
    llm_amount_t   need = { requests, tokens, money };
    llm_refusal_t  rf;

    llm_meter_roll(m, rt, now);
    before = *m;
    llm_meter_check(m, rt, &need, now, &rf);
    assert_memory_equal(m, &before, sizeof(llm_meter_t));

    return rf;
}


#endif /* _METER_HELP_H_INCLUDED_ */
