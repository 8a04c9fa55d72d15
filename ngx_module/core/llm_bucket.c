
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_bucket.h"


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
