
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whether and when to try again.
 */


#ifndef _LLM_BACKOFF_H_INCLUDED_
#define _LLM_BACKOFF_H_INCLUDED_


#include "core/llm_core.h"


/* may an attempt that ended with this status be repeated? (CONTRACT 6) */
int llm_backoff_retryable(unsigned status);

/*
 * Full jitter: a random time up to base * 2^retry, at most cap (ms);
 * "retry" counts from 0, "random" is any 32-bit number
 */
uint64_t llm_backoff_delay(uint64_t base, uint64_t cap, unsigned retry,
    uint32_t random);

/*
 * What the provider asks for, in ms: retry-after-ms (may have a fraction)
 * before retry-after (seconds, may have a fraction, or an HTTP date in any of
 * its three forms, RFC 9110 5.6.7, against "now" in seconds since the
 * epoch).  -1: nothing readable.  A date in the past is 0.  Either may be
 * NULL.  Capped at one day.
 */
int64_t llm_backoff_asked(const llm_str_t *after_ms, const llm_str_t *after,
    int64_t now);


#endif /* _LLM_BACKOFF_H_INCLUDED_ */
