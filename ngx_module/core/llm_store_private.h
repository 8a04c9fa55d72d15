
/*
 * Copyright (C) the ngx-llm authors
 *
 * What lies in the memory of a store, one behind the other: this header, the
 * buckets, a row for each block and the blocks.  An entry is the row of its
 * first block; as none is without a block, there is always a row for it.
 */


#ifndef _LLM_STORE_PRIVATE_H_INCLUDED_
#define _LLM_STORE_PRIVATE_H_INCLUDED_


#include "core/llm_store.h"


#define LLM_STORE_NONE  UINT32_MAX


typedef struct {
    uint32_t              link;             /* next block, used or free */

    /* of an entry's first block alone */

    uint32_t              last;             /* block */
    uint32_t              len;
    uint32_t              chain;            /* next entry of the bucket */
    uint32_t              newer;            /* in the order of use */
    uint32_t              older;
    uint64_t              until;
    unsigned char         key[LLM_STORE_KEY];
} llm_store_row_t;


struct llm_store_s {
    uint64_t              rows;             /* offsets from here */
    uint64_t              data;
    uint32_t              size;             /* blocks */
    uint32_t              mask;             /* of the buckets */

    uint64_t              put;
    uint64_t              evicted;
    uint64_t              expired;
    uint64_t              refused;

    /* from here on made new by a reset */

    uint64_t              now;              /* as it was told last */
    uint32_t              entries;
    uint32_t              blocks;           /* in use */
    uint32_t              fresh;            /* this and behind: never used */
    uint32_t              free;
    uint32_t              newest;
    uint32_t              oldest;
};


#define LLM_STORE_HEAD    128               /* the header with its padding */


static inline uint32_t *
llm_store_bucket(const llm_store_t *st, const unsigned char *key)
{
    uint32_t  hash;

    hash = (uint32_t) key[0] | (uint32_t) key[1] << 8
           | (uint32_t) key[2] << 16 | (uint32_t) key[3] << 24;

    return (uint32_t *) (void *) ((unsigned char *) st + LLM_STORE_HEAD)
           + (hash & st->mask);
}


static inline llm_store_row_t *
llm_store_row(const llm_store_t *st, uint32_t i)
{
    return (llm_store_row_t *) (void *) ((unsigned char *) st + st->rows) + i;
}


static inline unsigned char *
llm_store_data(const llm_store_t *st, uint32_t i)
{
    return (unsigned char *) st + st->data + (size_t) i * LLM_STORE_BLOCK;
}


#endif /* _LLM_STORE_PRIVATE_H_INCLUDED_ */
