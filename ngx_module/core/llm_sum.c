
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_sum.h"


#define LLM_SUM_SEED   0x9e3779b97f4a7c15ULL
#define LLM_SUM_PRIME  0xd6e8feb86659fd93ULL


/* written out, this is one load where the machine allows it */

static inline uint64_t
llm_sum_get(const unsigned char *p)
{
    return (uint64_t) p[0] | (uint64_t) p[1] << 8 | (uint64_t) p[2] << 16
           | (uint64_t) p[3] << 24 | (uint64_t) p[4] << 32
           | (uint64_t) p[5] << 40 | (uint64_t) p[6] << 48
           | (uint64_t) p[7] << 56;
}


/*
 * Each step is a one-to-one map of the sum, so that damage within one word is
 * always found, and damage across words with all but one chance in 2^64.
 */

static inline uint64_t
llm_sum_mix(uint64_t h, uint64_t word)
{
    h = (h ^ word) * LLM_SUM_PRIME;

    return h << 29 | h >> 35;
}


/* two sums side by side, since a step waits for the one before it */

uint64_t
llm_sum(uint64_t h, const unsigned char *p, size_t len)
{
    size_t         n;
    uint64_t       g;
    unsigned char  rest[8];

    h = llm_sum_mix(h + LLM_SUM_SEED, len);
    g = LLM_SUM_SEED;

    for (n = len; n >= 16; n -= 16) {
        h = llm_sum_mix(h, llm_sum_get(p));
        g = llm_sum_mix(g, llm_sum_get(p + 8));
        p += 16;
    }

    if (n >= 8) {
        h = llm_sum_mix(h, llm_sum_get(p));
        p += 8;
        n -= 8;
    }

    if (n != 0) {
        memset(rest, 0, sizeof(rest));
        memcpy(rest, p, n);
        g = llm_sum_mix(g, llm_sum_get(rest));
    }

    h = llm_sum_mix(h, g);

    return h ^ h >> 32;
}
