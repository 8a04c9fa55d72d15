
/*
 * Copyright (C) the ngx-llm authors
 *
 * A meter's daily work, for whoever does it for each request; llm_meter.h
 * says what the functions do that are named alike there.
 */


#ifndef _LLM_METER_INLINE_H_INCLUDED_
#define _LLM_METER_INLINE_H_INCLUDED_


#include "core/llm_meter.h"

#include <string.h>


#define LLM_METER_MAX  ((int64_t) 1 << 61)


/* the numbers of a day and of its month, worked out once for a visit */

typedef struct {
    uint32_t              month;
    uint32_t              day;
} llm_period_t;


llm_period_t llm_meter_period(int64_t wall);

/* makes room for a period that has no tally yet */
void llm_meter_begin(llm_tally_t *two, uint32_t period);


static inline void
llm_meter_pass(llm_meter_t *m, const llm_rates_t *rt, uint64_t ms,
    llm_period_t p)
{
    /* until now the rates were the old; what is unlimited keeps nothing */

    llm_bucket_leak(&m->requests, m->rpm, ms);
    llm_bucket_leak(&m->tokens, m->tpm, ms);

    if (m->rpm == LLM_UNLIMITED || rt->rpm == LLM_UNLIMITED) {
        m->requests.level = 0;
    }

    if (m->tpm == LLM_UNLIMITED || rt->tpm == LLM_UNLIMITED) {
        m->tokens.level = 0;
    }

    m->rpm = rt->rpm;
    m->tpm = rt->tpm;

    if (m->day[p.day & 1].period != p.day) {
        llm_meter_begin(m->day, p.day);
    }

    if (m->month[p.month & 1].period != p.month) {
        llm_meter_begin(m->month, p.month);
    }
}


/* the period's, or, of a clock that went back behind both, the latest */

static inline const llm_tally_t *
llm_meter_tally(const llm_tally_t *two, uint32_t period)
{
    const llm_tally_t  *t;

    t = &two[period & 1];

    if (t->period == period) {
        return t;
    }

    return two[0].period > two[1].period ? &two[0] : &two[1];
}


static inline int
llm_meter_fits_tally(int64_t used, uint64_t limit, int64_t need)
{
    return limit == LLM_UNLIMITED || need <= 0
           || ((uint64_t) need <= limit
               && (uint64_t) used <= limit - (uint64_t) need);
}


/* llm_meter_check() without the reason */

static inline int
llm_meter_fits(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_amount_t *need, llm_period_t p)
{
    const llm_tally_t  *day, *money;

    if (rt->rpm != LLM_UNLIMITED && need->requests > 0
        && !llm_bucket_fits(&m->requests, rt->burst,
                            (uint64_t) need->requests))
    {
        return 0;
    }

    if (rt->tpm != LLM_UNLIMITED && need->tokens > 0
        && !llm_bucket_fits(&m->tokens, rt->burst_tokens,
                            (uint64_t) need->tokens))
    {
        return 0;
    }

    if ((rt->rpd | rt->tpd | rt->budget) == 0) {
        return 1;
    }

    day = llm_meter_tally(m->day, p.day);
    money = rt->month ? llm_meter_tally(m->month, p.month) : day;

    return llm_meter_fits_tally(day->requests, rt->rpd, need->requests)
           && llm_meter_fits_tally(day->tokens, rt->tpd, need->tokens)
           && llm_meter_fits_tally(money->money, rt->budget, need->money);
}


static inline int64_t
llm_meter_sum(int64_t a, int64_t b)
{
    uint64_t  sum;

    /* "a" is from 0 to the largest: no sum comes round to a right one */

    sum = (uint64_t) a + (uint64_t) b;

    if (sum <= (uint64_t) LLM_METER_MAX) {
        return (int64_t) sum;
    }

    return b < 0 ? 0 : LLM_METER_MAX;
}


static inline void
llm_meter_count(llm_tally_t *two, uint32_t period, const llm_amount_t *amount)
{
    llm_tally_t  *t;

    t = &two[period & 1];

    if (t->period != period) {
        return;
    }

    t->requests = llm_meter_sum(t->requests, amount->requests);
    t->tokens = llm_meter_sum(t->tokens, amount->tokens);
    t->money = llm_meter_sum(t->money, amount->money);
}


/* llm_meter_add(): "p" is of when it was reserved */

static inline void
llm_meter_charge(llm_meter_t *m, const llm_amount_t *amount, llm_period_t p)
{
    llm_bucket_take(&m->requests, amount->requests);
    llm_bucket_take(&m->tokens, amount->tokens);

    llm_meter_count(m->day, p.day, amount);
    llm_meter_count(m->month, p.month, amount);
}


static inline int64_t
llm_meter_least(int64_t least, uint64_t limit, int64_t used)
{
    int64_t  left;

    left = (limit < INT64_MAX ? (int64_t) limit : INT64_MAX) - used;

    return left < least ? left : least;
}


/* the smaller of "least" and what is left of the day's tokens, of money */

static inline int64_t
llm_meter_least_day(int64_t least, const llm_meter_t *m,
    const llm_rates_t *rt, llm_period_t p)
{
    if (rt->tpd == LLM_UNLIMITED) {
        return least;
    }

    return llm_meter_least(least, rt->tpd,
                           llm_meter_tally(m->day, p.day)->tokens);
}


static inline int64_t
llm_meter_least_money(int64_t least, const llm_meter_t *m,
    const llm_rates_t *rt, llm_period_t p)
{
    const llm_tally_t  *t;

    if (rt->budget == LLM_UNLIMITED) {
        return least;
    }

    t = rt->month ? llm_meter_tally(m->month, p.month)
                  : llm_meter_tally(m->day, p.day);

    return llm_meter_least(least, rt->budget, t->money);
}


#endif /* _LLM_METER_INLINE_H_INCLUDED_ */
