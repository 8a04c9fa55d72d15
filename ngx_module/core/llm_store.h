
/*
 * Copyright (C) the ngx-llm authors
 *
 * Stored answers in a block of memory that processes share: a hash table over
 * chains of small blocks of one size, so that nothing is ever fragmented, and
 * one order of use for all.  What is in the way of a new entry goes, the one
 * that was not used for longest first.
 *
 * Whoever calls holds the lock.  All links are indices: the memory may be
 * mapped anywhere.  If a process dies in the middle, llm_store_reset().
 */


#ifndef _LLM_STORE_H_INCLUDED_
#define _LLM_STORE_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_STORE_KEY    32
#define LLM_STORE_BLOCK  1024


typedef struct llm_store_s  llm_store_t;


typedef struct {
    uint64_t              entries;          /* now */
    uint64_t              blocks;           /* in use now */
    uint64_t              size;             /* blocks there are */
    uint64_t              put;              /* since the start */
    uint64_t              evicted;          /* … for want of room */
    uint64_t              expired;          /* … found too old */
    uint64_t              refused;          /* … larger than may be, or
                                               empty */
} llm_store_stat_t;


/* NULL: "size" is too small to be of use (less than 64 KB) */
llm_store_t *llm_store_create(void *mem, size_t size);

/* forgets all entries, whatever state they are in; statistics stay */
void llm_store_reset(llm_store_t *st);

/*
 * Puts an entry, its value in "n" pieces that are copied, in the place of an
 * older one of that key; it is gone from "until" on (s, the caller's clock).
 * LLM_DECLINED: larger than an eighth of all blocks, or empty; the older one
 * is gone all the same.
 */
int llm_store_put(llm_store_t *st, const unsigned char *key, uint64_t until,
    const llm_str_t *piece, unsigned n);

/*
 * The length of the entry's value, which is now the last one to go; 0: there
 * is none, or its time is over.
 */
size_t llm_store_find(llm_store_t *st, const unsigned char *key,
    uint64_t now);

/*
 * The key will soon be looked for: what is then read first is fetched into
 * the cache of the processor.  Needs no lock.
 */
void llm_store_expect(const llm_store_t *st, const unsigned char *key);

/* copies the value that llm_store_find() has just found, or nothing */
void llm_store_copy(const llm_store_t *st, const unsigned char *key,
    unsigned char *p);

/* LLM_OK, or LLM_DECLINED: there was none */
int llm_store_remove(llm_store_t *st, const unsigned char *key);

void llm_store_stat(const llm_store_t *st, llm_store_stat_t *stat);


#endif /* _LLM_STORE_H_INCLUDED_ */
