
/*
 * Copyright (C) the ngx-llm authors
 *
 * A checksum of 64 bits.  It finds accidents: anybody can make it, and two
 * texts of the same sum, too.
 */


#ifndef _LLM_SUM_H_INCLUDED_
#define _LLM_SUM_H_INCLUDED_


#include "core/llm_core.h"


/*
 * The sum of "len" bytes behind all that "h" is the sum of, 0: behind nothing.
 * Where one piece ends and the next begins counts.  The same on any machine.
 */
uint64_t llm_sum(uint64_t h, const unsigned char *p, size_t len);


#endif /* _LLM_SUM_H_INCLUDED_ */
