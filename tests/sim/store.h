
/*
 * Copyright (C) the ngx-llm authors
 *
 * A store for tests: the real script in Lua 5.1, with as much of Redis around
 * it as it calls and a clock that the test sets.
 */


#ifndef _STORE_H_INCLUDED_
#define _STORE_H_INCLUDED_


#include "core/llm_quota.h"


typedef struct store_s  store_t;


/* NULL: no such file, or it does not compile; says why on stderr */
store_t *store_create(const char *script);
void store_destroy(store_t *st);

/* Redis' clock, in microseconds since the epoch */
void store_clock(store_t *st, uint64_t us);
/* refuses writes that need memory, as at "maxmemory" */
void store_full(store_t *st, int full);
void store_flush(store_t *st);

/* the batch by the script: the reply, until the next call; NULL: an error,
   which is on stderr */
const char *store_batch(store_t *st, llm_ledger_t *lg,
    const llm_quota_batch_t *b, const char *gateway, size_t *len);

/* the same of keys and arguments as they stand, keys first */
const char *store_run(store_t *st, unsigned nkeys, unsigned n,
    const char *const *arg, size_t *len);

/* one command's arguments, for looking and for harm: an integer, the length
   of a string, of a list, or -1: nil */
int64_t store_command(store_t *st, unsigned n, const char **arg);
/* a string's value, or NULL */
const char *store_get(store_t *st, const char *key);

uint64_t store_calls(store_t *st);


#endif /* _STORE_H_INCLUDED_ */
