
/*
 * Copyright (C) the ngx-llm authors
 *
 * A token bucket in its level form: what was taken leaks out again.  One unit
 * is 60000 parts, so that a rate per minute leaks a whole number of parts per
 * millisecond and no rounding error can add up.
 */


#ifndef _LLM_BUCKET_H_INCLUDED_
#define _LLM_BUCKET_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_BUCKET_UNIT  60000


typedef struct {
    int64_t               level;        /* parts taken and not leaked yet;
                                           may exceed the capacity: debt */
    uint64_t              time;         /* ms, the clock's last reading */
} llm_bucket_t;


/* far above any burst, and far enough from the end of int64_t to add to */

#define LLM_BUCKET_MAX  ((int64_t) 1 << 61)


static inline int64_t
llm_bucket_parts(uint64_t n)
{
    if (n > LLM_BUCKET_MAX / LLM_BUCKET_UNIT) {
        return LLM_BUCKET_MAX;
    }

    return (int64_t) (n * LLM_BUCKET_UNIT);
}


/*
 * "rate" is in units per minute and also the speed of the leak, "burst" in
 * units the capacity.  The clocks of two processes may differ a little: a
 * clock that steps back stands still, for going back with it would let the
 * same milliseconds leak twice.
 */

static inline void
llm_bucket_leak(llm_bucket_t *b, uint64_t rate, uint64_t now)
{
    int64_t   parts;
    uint64_t  elapsed;

    if (now <= b->time) {
        return;
    }

    elapsed = now - b->time;
    b->time = now;

    if (__builtin_mul_overflow(rate, elapsed, &parts) || parts >= b->level) {
        b->level = 0;
        return;
    }

    b->level -= parts;
}


/* do "n" units fit now? */

static inline int
llm_bucket_fits(const llm_bucket_t *b, uint64_t burst, uint64_t n)
{
    return n <= burst
           && b->level + llm_bucket_parts(n) <= llm_bucket_parts(burst);
}


/* ms until "n" units fit (0: now, -1: never, n is above the burst) */
int64_t llm_bucket_wait(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, uint64_t n);


/*
 * Parts that "n" units taken in the background must leave to others: a
 * quarter of the capacity, or, of more than three quarters, all of the rest:
 * only a full bucket has that.
 */

static inline int64_t
llm_bucket_keep(uint64_t burst, uint64_t n)
{
    int64_t  all, rest;

    if (n > burst) {
        return 0;
    }

    all = llm_bucket_parts(burst);
    rest = all - llm_bucket_parts(n);

    return all / 4 < rest ? all / 4 : rest;
}


/* n < 0: gives back */

static inline void
llm_bucket_take(llm_bucket_t *b, int64_t n)
{
    int64_t        level;
    const int64_t  most = LLM_BUCKET_MAX / LLM_BUCKET_UNIT + 1;

    n = n < most ? n : most;
    n = n > -most ? n : -most;

    level = b->level + n * LLM_BUCKET_UNIT;

    level = level < LLM_BUCKET_MAX ? level : LLM_BUCKET_MAX;
    b->level = level > 0 ? level : 0;
}


static inline uint64_t
llm_bucket_remaining(const llm_bucket_t *b, uint64_t burst)
{
    int64_t  left;

    left = llm_bucket_parts(burst) - b->level;

    return left > 0 ? (uint64_t) left / LLM_BUCKET_UNIT : 0;
}


/* the same with a sign: below 0 in debt */

static inline int64_t
llm_bucket_left(const llm_bucket_t *b, uint64_t burst)
{
    int64_t  left;

    left = llm_bucket_parts(burst) - b->level;

    if (left >= 0) {
        return (int64_t) ((uint64_t) left / LLM_BUCKET_UNIT);
    }

    return -((-left - 1) / LLM_BUCKET_UNIT + 1);
}


/* units taken and not leaked yet, a part of one counts as one */
uint64_t llm_bucket_used(const llm_bucket_t *b);

/* ms until the bucket is full again, as x-ratelimit-reset-* tells it */
uint64_t llm_bucket_reset(const llm_bucket_t *b, uint64_t rate);


#endif /* _LLM_BUCKET_H_INCLUDED_ */
