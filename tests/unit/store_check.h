
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the tests of the store share: values that can be told from each other,
 * and that no block is lost.
 */


#ifndef _STORE_CHECK_H_INCLUDED_
#define _STORE_CHECK_H_INCLUDED_


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_store_private.h"


#define SIZE   (64 * 1024)
#define NAMES  97                           /* more than there is room for */
#define TIME   1000


static uint32_t  rnd = 7;


static inline uint32_t
draw(uint32_t n)
{
    rnd = rnd * 1664525 + 1013904223;

    return (rnd >> 8) % n;
}


/* a few keys share a bucket in any table: the first four bytes are equal */

static inline void
name(unsigned char *key, unsigned i)
{
    unsigned  k;

    for (k = 0; k < LLM_STORE_KEY; k++) {
        key[k] = (unsigned char) ((i % (NAMES / 3) + 1) * 0x9d * (k + 1));
    }

    key[LLM_STORE_KEY - 1] = (unsigned char) i;
}


static inline unsigned char
byte(size_t at, unsigned char seed)
{
    return (unsigned char) (at * 31 + (at >> 8) + seed);
}


/* exactly as large as it says, for the address sanitizer */

static inline llm_store_t *
make(void **mem, size_t size)
{
    llm_store_t  *st;

    *mem = malloc(size);
    memset(*mem, 0xa5, size);

    st = llm_store_create(*mem, size);
    assert_non_null(st);

    return st;
}


static inline int
put(llm_store_t *st, unsigned i, uint64_t until, size_t len,
    unsigned char seed)
{
    int             rc;
    size_t          at, part;
    unsigned        n;
    llm_str_t       piece[4];
    unsigned char   key[LLM_STORE_KEY], *p;

    p = malloc(len + 1);

    for (at = 0; at < len; at++) {
        p[at] = byte(at, seed);
    }

    /* in pieces of any length, some of them empty */

    at = 0;

    for (n = 0; n < 3; n++) {
        part = draw(3) ? draw((uint32_t) (len - at + 1)) : 0;
        piece[n].data = part ? p + at : NULL;
        piece[n].len = part;
        at += part;
    }

    piece[3].data = p + at;
    piece[3].len = len - at;

    name(key, i);
    rc = llm_store_put(st, key, until, piece, 4);

    memset(p, 0, len + 1);
    free(p);

    return rc;
}


static inline size_t
find(llm_store_t *st, unsigned i, uint64_t now)
{
    unsigned char  key[LLM_STORE_KEY];

    name(key, i);

    return llm_store_find(st, key, now);
}


static inline int
drop(llm_store_t *st, unsigned i)
{
    unsigned char  key[LLM_STORE_KEY];

    name(key, i);

    return llm_store_remove(st, key);
}


static inline void
assert_value(llm_store_t *st, unsigned i, size_t len, unsigned char seed)
{
    size_t          at;
    unsigned char   key[LLM_STORE_KEY], *p;

    p = malloc(len);
    memset(p, 0, len);

    name(key, i);
    llm_store_copy(st, key, p);

    for (at = 0; at < len; at++) {
        if (p[at] != byte(at, seed)) {
            fail_msg("key %u, byte %zu of %zu", i, at, len);
        }
    }

    free(p);
}


static inline llm_store_stat_t
stat_of(llm_store_t *st)
{
    llm_store_stat_t  stat;

    llm_store_stat(st, &stat);

    return stat;
}


/* each block is in one entry or free, each entry in its bucket and in order */

static inline void
conserved(llm_store_t *st)
{
    uint32_t          i, k, n, blocks, entries, older, bucket;
    unsigned char    *seen;
    llm_store_row_t  *row;

    seen = calloc(st->size, 1);
    blocks = 0;
    entries = 0;
    older = LLM_STORE_NONE;

    for (i = st->oldest; i != LLM_STORE_NONE; i = row->newer) {
        assert_true(i < st->size);
        row = llm_store_row(st, i);

        assert_int_equal(row->older, older);
        older = i;
        entries++;

        n = (row->len + LLM_STORE_BLOCK - 1) / LLM_STORE_BLOCK;
        blocks += n;

        for (k = i; /* void */ ; k = llm_store_row(st, k)->link) {
            assert_true(k < st->fresh);
            assert_int_equal(seen[k], 0);
            seen[k] = 1;

            if (--n == 0) {
                break;
            }
        }

        assert_int_equal(row->last, k);

        for (k = *llm_store_bucket(st, row->key); k != i;
             k = llm_store_row(st, k)->chain)
        {
            assert_true(k < st->fresh);
        }
    }

    assert_int_equal(st->newest, older);
    assert_int_equal(entries, st->entries);
    assert_int_equal(blocks, st->blocks);

    for (i = st->free; i != LLM_STORE_NONE; i = llm_store_row(st, i)->link) {
        assert_true(i < st->fresh);
        assert_int_equal(seen[i], 0);
        seen[i] = 1;
        blocks++;
    }

    assert_true(st->fresh <= st->size);
    assert_int_equal(blocks, st->fresh);

    for (bucket = 0; bucket <= st->mask; bucket++) {
        i = ((uint32_t *) (void *) ((unsigned char *) st
                                    + LLM_STORE_HEAD))[bucket];

        for ( /* void */ ; i != LLM_STORE_NONE;
              i = llm_store_row(st, i)->chain)
        {
            assert_true(entries-- != 0);
        }
    }

    assert_int_equal(entries, 0);

    free(seen);
}


#endif /* _STORE_CHECK_H_INCLUDED_ */
