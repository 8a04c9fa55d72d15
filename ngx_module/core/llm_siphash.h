
/*
 * Copyright (C) the ngx-llm authors
 *
 * SipHash-2-4 with 128 bits (J.-P. Aumasson, D. J. Bernstein, "SipHash: a
 * fast short-input PRF", 2012): a keyed hash that cannot be forged without
 * its key.
 */


#ifndef _LLM_SIPHASH_H_INCLUDED_
#define _LLM_SIPHASH_H_INCLUDED_


#include "core/llm_core.h"


void llm_siphash(const uint64_t key[2], const unsigned char *p, size_t len,
    uint64_t out[2]);


#endif /* _LLM_SIPHASH_H_INCLUDED_ */
