
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


/*
 * "rate" is in units per minute and also the speed of the leak, "burst" in
 * units the capacity.  A clock that steps back stands still instead.
 */

void    llm_bucket_leak(llm_bucket_t *b, uint64_t rate, uint64_t now);

/* ms until "n" units fit (0: now, -1: never, n is above the burst) */
int64_t llm_bucket_wait(const llm_bucket_t *b, uint64_t rate,
    uint64_t burst, uint64_t n);

void    llm_bucket_take(llm_bucket_t *b, int64_t n);     /* n < 0: give back */

uint64_t llm_bucket_remaining(const llm_bucket_t *b, uint64_t burst);

/* the same with a sign: below 0 in debt */
int64_t llm_bucket_left(const llm_bucket_t *b, uint64_t burst);

/* units taken and not leaked yet, a part of one counts as one */
uint64_t llm_bucket_used(const llm_bucket_t *b);

/* ms until the bucket is full again, as x-ratelimit-reset-* tells it */
uint64_t llm_bucket_reset(const llm_bucket_t *b, uint64_t rate);


#endif /* _LLM_BUCKET_H_INCLUDED_ */
