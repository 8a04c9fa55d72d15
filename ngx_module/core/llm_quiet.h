
/*
 * Copyright (C) the ngx-llm authors
 *
 * Lines of a log that clients or providers can cause at will: each thing is
 * said once in a while, with how often it was not said.
 */


#ifndef _LLM_QUIET_H_INCLUDED_
#define _LLM_QUIET_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_QUIET_SLOTS  256
#define LLM_QUIET_WAYS   4


typedef struct {
    uint64_t              what;               /* 0: free */
    uint64_t              until;              /* ms */
    uint64_t              swallowed;
} llm_quiet_slot_t;


/* all zero is a table in which nothing has been said */

typedef struct {
    llm_quiet_slot_t      slot[LLM_QUIET_SLOTS];
    uint64_t              crowded;            /* swallowed for want of room */
} llm_quiet_t;


/*
 * May "what" (a hash of who and what, not 0) be said at "now"?  LLM_OK: yes,
 * and "swallowed" says how many such lines were left out since the last one,
 * with those of others that found no room; LLM_DECLINED: no.  At most
 * LLM_QUIET_SLOTS lines come in a time of "every" ms.
 */
int llm_quiet(llm_quiet_t *qt, uint64_t what, uint64_t now, uint64_t every,
    uint64_t *swallowed);


#endif /* _LLM_QUIET_H_INCLUDED_ */
