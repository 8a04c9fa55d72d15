
/*
 * Copyright (C) the ngx-llm authors
 *
 * Times to the first byte, as a histogram that forgets: two buckets for each
 * power of two of ms.
 */


#include "core/llm_target_private.h"


#define LLM_TARGET_SAMPLE   64              /* so that halves are not lost */
#define LLM_TARGET_HALVE    256             /* samples, */
#define LLM_TARGET_FORGET   300000          /* ms */
#define LLM_TARGET_WARM     32              /* samples, to compare */


static void llm_target_latency_age(llm_target_latency_t *lt, uint64_t now);


static inline unsigned
llm_target_latency_bucket(uint64_t ms)
{
    unsigned  k;

    ms = ms != 0 ? ms : 1;

    if (ms > 65535) {
        return LLM_TARGET_BUCKETS - 1;
    }

    k = 31 - (unsigned) __builtin_clz((unsigned) ms);

    return 2 * k + (ms * ms >= (uint64_t) 2 << 2 * k);
}


/* the least ms of a bucket: powers of the root of two */

static inline uint64_t
llm_target_latency_edge(unsigned bucket)
{
    uint64_t  edge;

    edge = (uint64_t) 1 << bucket / 2;

    if (bucket % 2 == 0) {
        return edge;
    }

    return (edge * 92682 + 65535) / 65536;
}


int
llm_target_latency_add(llm_target_latency_t *lt, uint64_t ms, uint64_t now)
{
    uint64_t  parts;

    llm_target_latency_age(lt, now);

    lt->count[llm_target_latency_bucket(ms)] += LLM_TARGET_SAMPLE;
    lt->samples++;

    parts = (ms < 3600000 ? ms : 3600000) * 1024;

    if (lt->warm == 0) {
        lt->brief = parts;
        lt->lasting = parts;
    }

    /* the mean of all at first, so that one odd first does not last */

    if (lt->warm < 128) {
        lt->warm++;
    }

    lt->brief = lt->brief - lt->brief / 8 + parts / 8;
    lt->lasting = lt->lasting - lt->lasting / lt->warm + parts / lt->warm;

    return lt->warm >= LLM_TARGET_WARM && lt->brief > 2 * lt->lasting;
}


uint64_t
llm_target_latency_samples(const llm_target_latency_t *lt)
{
    uint64_t  sum;
    unsigned  i;

    for (sum = 0, i = 0; i < LLM_TARGET_BUCKETS; i++) {
        sum += lt->count[i];
    }

    return sum / LLM_TARGET_SAMPLE;
}


int64_t
llm_target_latency_at(const llm_target_latency_t *lt, unsigned percent)
{
    uint64_t  sum, at, low, high;
    unsigned  i;

    for (sum = 0, i = 0; i < LLM_TARGET_BUCKETS; i++) {
        sum += lt->count[i];
    }

    if (sum == 0) {
        return LLM_TARGET_UNKNOWN;
    }

    at = sum * percent / 100;

    for (i = 0; i < LLM_TARGET_BUCKETS - 1; i++) {

        if (lt->count[i] > at) {
            break;
        }

        at -= lt->count[i];
    }

    low = llm_target_latency_edge(i);
    high = llm_target_latency_edge(i + 1);

    if (lt->count[i] == 0) {
        return (int64_t) low;
    }

    at = at < lt->count[i] ? at : lt->count[i];

    return (int64_t) (low + (high - low) * at / lt->count[i]);
}


static void
llm_target_latency_age(llm_target_latency_t *lt, uint64_t now)
{
    unsigned  i, shift;

    if (lt->halved == 0) {
        lt->halved = now;
    }

    shift = lt->samples >= LLM_TARGET_HALVE;

    if (now > lt->halved) {
        shift += now - lt->halved < (uint64_t) 31 * LLM_TARGET_FORGET
                 ? (unsigned) ((now - lt->halved) / LLM_TARGET_FORGET) : 31;
    }

    if (shift == 0) {
        return;
    }

    for (i = 0; i < LLM_TARGET_BUCKETS; i++) {
        lt->count[i] = shift < 32 ? lt->count[i] >> shift : 0;
    }

    lt->samples = 0;
    lt->halved = now;
}
