
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_bucket.h"


/* far above any burst, and far enough from the end of int64_t to add to */

#define LLM_BUCKET_MAX  ((int64_t) 1 << 61)


static int64_t llm_bucket_parts(uint64_t n);


void
llm_bucket_leak(llm_bucket_t *b, uint64_t rate, uint64_t now)
{
    int64_t   parts;
    uint64_t  elapsed;

    /*
     * The clocks of two processes may differ a little: going back with one
     * of them would let the same milliseconds leak twice.
     */

    if (now <= b->time) {
        return;
    }

    elapsed = now - b->time;
    b->time = now;

    if (b->level == 0) {
        return;
    }

    if (__builtin_mul_overflow(rate, elapsed, &parts) || parts >= b->level) {
        b->level = 0;
        return;
    }

    b->level -= parts;
}


int64_t
llm_bucket_wait(const llm_bucket_t *b, uint64_t rate, uint64_t burst,
    uint64_t n)
{
    int64_t   over;
    uint64_t  ms;

    if (n > burst) {
        return -1;
    }

    over = b->level + llm_bucket_parts(n) - llm_bucket_parts(burst);

    if (over <= 0) {
        return 0;
    }

    if (rate == 0) {
        return -1;
    }

    ms = ((uint64_t) over - 1) / rate + 1;

    return (int64_t) ms;
}


void
llm_bucket_take(llm_bucket_t *b, int64_t n)
{
    if (n < 0) {
        /* -(n + 1) + 1: the smallest number has no counterpart */
        b->level -= llm_bucket_parts((uint64_t) -(n + 1) + 1);

        if (b->level < 0) {
            b->level = 0;
        }

        return;
    }

    b->level += llm_bucket_parts((uint64_t) n);

    if (b->level > LLM_BUCKET_MAX) {
        b->level = LLM_BUCKET_MAX;
    }
}


uint64_t
llm_bucket_remaining(const llm_bucket_t *b, uint64_t burst)
{
    int64_t  left;

    left = llm_bucket_parts(burst) - b->level;

    return left > 0 ? (uint64_t) left / LLM_BUCKET_UNIT : 0;
}


int64_t
llm_bucket_left(const llm_bucket_t *b, uint64_t burst)
{
    int64_t  left;

    left = llm_bucket_parts(burst) - b->level;

    if (left >= 0) {
        return left / LLM_BUCKET_UNIT;
    }

    return -((-left - 1) / LLM_BUCKET_UNIT + 1);
}


uint64_t
llm_bucket_used(const llm_bucket_t *b)
{
    return ((uint64_t) b->level + LLM_BUCKET_UNIT - 1) / LLM_BUCKET_UNIT;
}


uint64_t
llm_bucket_reset(const llm_bucket_t *b, uint64_t rate)
{
    if (b->level == 0) {
        return 0;
    }

    if (rate == 0) {
        return INT64_MAX;
    }

    return ((uint64_t) b->level - 1) / rate + 1;
}


static int64_t
llm_bucket_parts(uint64_t n)
{
    if (n > LLM_BUCKET_MAX / LLM_BUCKET_UNIT) {
        return LLM_BUCKET_MAX;
    }

    return (int64_t) (n * LLM_BUCKET_UNIT);
}
