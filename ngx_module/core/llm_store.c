
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_store_private.h"


#define LLM_STORE_MIN    (64 * 1024)
#define LLM_STORE_ALIGN  64
#define LLM_STORE_SHARE  8                /* of all blocks, for one entry */


static uint32_t *llm_store_lookup(const llm_store_t *st,
    const unsigned char *key);
static void llm_store_fill(llm_store_t *st, uint32_t i, const llm_str_t *piece,
    unsigned n);
static uint32_t llm_store_take(llm_store_t *st);
static void llm_store_drop(llm_store_t *st, uint32_t *at);
static void llm_store_evict(llm_store_t *st, uint32_t blocks);
static void llm_store_enter(llm_store_t *st, uint32_t i);
static void llm_store_leave(llm_store_t *st, uint32_t i);


_Static_assert(sizeof(llm_store_t) <= LLM_STORE_HEAD, "store header");
_Static_assert(sizeof(llm_store_row_t) == LLM_STORE_ALIGN, "store row");


static inline uint32_t
llm_store_blocks(size_t len)
{
    return (uint32_t) ((len + LLM_STORE_BLOCK - 1) / LLM_STORE_BLOCK);
}


llm_store_t *
llm_store_create(void *mem, size_t size)
{
    size_t        pad, one, n, buckets;
    llm_store_t  *st;

    if (size < LLM_STORE_MIN) {
        return NULL;
    }

    pad = -(uintptr_t) mem & (LLM_STORE_ALIGN - 1);
    size -= pad + LLM_STORE_HEAD;
    one = sizeof(llm_store_row_t) + LLM_STORE_BLOCK;

    for (buckets = 1; buckets < size / one; buckets *= 2) { /* void */ }

    n = (size - buckets * sizeof(uint32_t)) / one;

    if (n > LLM_STORE_NONE - 1) {
        return NULL;
    }

    st = (llm_store_t *) (void *) ((unsigned char *) mem + pad);

    memset(st, 0, sizeof(llm_store_t));

    st->rows = LLM_STORE_HEAD + buckets * sizeof(uint32_t);
    st->data = st->rows + n * sizeof(llm_store_row_t);
    st->size = (uint32_t) n;
    st->mask = (uint32_t) (buckets - 1);

    llm_store_reset(st);

    return st;
}


/* rows are written before they are read: those of no entry may be anything */

void
llm_store_reset(llm_store_t *st)
{
    memset((unsigned char *) st + LLM_STORE_HEAD, 0xff,
           ((size_t) st->mask + 1) * sizeof(uint32_t));

    st->now = 0;
    st->entries = 0;
    st->blocks = 0;
    st->fresh = 0;
    st->free = LLM_STORE_NONE;
    st->newest = LLM_STORE_NONE;
    st->oldest = LLM_STORE_NONE;
}


int
llm_store_put(llm_store_t *st, const unsigned char *key, uint64_t until,
    const llm_str_t *piece, unsigned n)
{
    size_t            len, max;
    uint32_t          i, blocks, *at, *bucket;
    unsigned          k;
    llm_store_row_t  *row;

    at = llm_store_lookup(st, key);

    if (at != NULL) {
        llm_store_drop(st, at);
    }

    /* a length must be a 32-bit number, however large the memory is */

    max = st->size / LLM_STORE_SHARE;

    if (max > UINT32_MAX / LLM_STORE_BLOCK) {
        max = UINT32_MAX / LLM_STORE_BLOCK;
    }

    max *= LLM_STORE_BLOCK;
    len = 0;

    for (k = 0; k < n; k++) {

        if (piece[k].len > max - len) {
            st->refused++;
            return LLM_DECLINED;
        }

        len += piece[k].len;
    }

    if (len == 0) {
        st->refused++;
        return LLM_DECLINED;
    }

    blocks = llm_store_blocks(len);

    llm_store_evict(st, blocks);

    i = llm_store_take(st);

    row = llm_store_row(st, i);
    row->len = (uint32_t) len;
    row->until = until;
    memcpy(row->key, key, LLM_STORE_KEY);

    llm_store_fill(st, i, piece, n);

    bucket = llm_store_bucket(st, key);
    row->chain = *bucket;
    *bucket = i;

    llm_store_enter(st, i);

    st->entries++;
    st->blocks += blocks;
    st->put++;

    return LLM_OK;
}


void
llm_store_expect(const llm_store_t *st, const unsigned char *key)
{
    __builtin_prefetch(llm_store_bucket(st, key));
}


size_t
llm_store_find(llm_store_t *st, const unsigned char *key, uint64_t now)
{
    uint32_t          i, *at;
    llm_store_row_t  *row;

    st->now = now;

    at = llm_store_lookup(st, key);

    if (at == NULL) {
        return 0;
    }

    i = *at;
    row = llm_store_row(st, i);

    if (row->until <= now) {
        llm_store_drop(st, at);
        st->expired++;
        return 0;
    }

    if (st->newest != i) {
        llm_store_leave(st, i);
        llm_store_enter(st, i);
    }

    return row->len;
}


void
llm_store_copy(const llm_store_t *st, const unsigned char *key,
    unsigned char *p)
{
    size_t            len;
    uint32_t          i, *at;
    llm_store_row_t  *row;

    at = llm_store_lookup(st, key);

    if (at == NULL) {
        return;
    }

    i = *at;
    row = llm_store_row(st, i);

    for (len = row->len; len > LLM_STORE_BLOCK; len -= LLM_STORE_BLOCK) {
        memcpy(p, llm_store_data(st, i), LLM_STORE_BLOCK);
        p += LLM_STORE_BLOCK;
        i = llm_store_row(st, i)->link;
    }

    memcpy(p, llm_store_data(st, i), len);
}


int
llm_store_remove(llm_store_t *st, const unsigned char *key)
{
    uint32_t  *at;

    at = llm_store_lookup(st, key);

    if (at == NULL) {
        return LLM_DECLINED;
    }

    llm_store_drop(st, at);

    return LLM_OK;
}


void
llm_store_stat(const llm_store_t *st, llm_store_stat_t *stat)
{
    stat->entries = st->entries;
    stat->blocks = st->blocks;
    stat->size = st->size;
    stat->put = st->put;
    stat->evicted = st->evicted;
    stat->expired = st->expired;
    stat->refused = st->refused;
}


/* the link that leads to the entry, or NULL */

static uint32_t *
llm_store_lookup(const llm_store_t *st, const unsigned char *key)
{
    uint32_t         *at;
    llm_store_row_t  *row;

    for (at = llm_store_bucket(st, key);
         *at != LLM_STORE_NONE;
         at = &row->chain)
    {
        row = llm_store_row(st, *at);

        if (memcmp(row->key, key, LLM_STORE_KEY) == 0) {
            return at;
        }
    }

    return NULL;
}


/* the pieces into the entry's first block and others, as they are needed */

static void
llm_store_fill(llm_store_t *st, uint32_t i, const llm_str_t *piece, unsigned n)
{
    size_t                len, part, room;
    uint32_t              first, next;
    unsigned char        *p;
    const unsigned char  *from;

    first = i;
    p = llm_store_data(st, i);
    room = LLM_STORE_BLOCK;

    for ( /* void */ ; n != 0; n--, piece++) {
        from = piece->data;

        for (len = piece->len; len != 0; len -= part) {

            if (room == 0) {
                next = llm_store_take(st);
                llm_store_row(st, i)->link = next;

                i = next;
                p = llm_store_data(st, i);
                room = LLM_STORE_BLOCK;
            }

            part = len < room ? len : room;

            memcpy(p, from, part);

            p += part;
            from += part;
            room -= part;
        }
    }

    llm_store_row(st, first)->last = i;
}


/* a free block, which there is */

static uint32_t
llm_store_take(llm_store_t *st)
{
    uint32_t  i;

    i = st->free;

    if (i == LLM_STORE_NONE) {
        return st->fresh++;
    }

    st->free = llm_store_row(st, i)->link;

    return i;
}


/* the entry that this link leads to is no more */

static void
llm_store_drop(llm_store_t *st, uint32_t *at)
{
    uint32_t          i;
    llm_store_row_t  *row;

    i = *at;
    row = llm_store_row(st, i);

    *at = row->chain;

    llm_store_leave(st, i);

    llm_store_row(st, row->last)->link = st->free;
    st->free = i;

    st->entries--;
    st->blocks -= llm_store_blocks(row->len);
}


static void
llm_store_evict(llm_store_t *st, uint32_t blocks)
{
    uint32_t         *at;
    llm_store_row_t  *row;

    while (st->size - st->blocks < blocks) {
        row = llm_store_row(st, st->oldest);

        if (row->until <= st->now) {
            st->expired++;

        } else {
            st->evicted++;
        }

        at = llm_store_bucket(st, row->key);

        while (*at != st->oldest) {
            at = &llm_store_row(st, *at)->chain;
        }

        llm_store_drop(st, at);
    }
}


/* as the one used last */

static void
llm_store_enter(llm_store_t *st, uint32_t i)
{
    llm_store_row_t  *row;

    row = llm_store_row(st, i);

    row->newer = LLM_STORE_NONE;
    row->older = st->newest;

    if (st->newest == LLM_STORE_NONE) {
        st->oldest = i;

    } else {
        llm_store_row(st, st->newest)->newer = i;
    }

    st->newest = i;
}


static void
llm_store_leave(llm_store_t *st, uint32_t i)
{
    llm_store_row_t  *row;

    row = llm_store_row(st, i);

    if (row->newer == LLM_STORE_NONE) {
        st->newest = row->older;

    } else {
        llm_store_row(st, row->newer)->older = row->older;
    }

    if (row->older == LLM_STORE_NONE) {
        st->oldest = row->newer;

    } else {
        llm_store_row(st, row->older)->newer = row->newer;
    }
}
