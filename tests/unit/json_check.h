
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the tests of the JSON parsers share: memory that can fail, and texts
 * in blocks of exactly their size, so that a checker sees a step too far.
 */


#ifndef _JSON_CHECK_H_INCLUDED_
#define _JSON_CHECK_H_INCLUDED_


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_core.h"


#define CHECK_BLOCKS  64


typedef struct {
    llm_arena_t           arena;
    int                   fail;             /* allocation to fail, -1: none */
    int                   calls;
    int                   n;
    void                 *blocks[CHECK_BLOCKS];
} check_memory_t;


static inline void *
check_alloc(void *data, size_t size)
{
    void            *p;
    check_memory_t  *m = data;

    if (m->calls++ == m->fail || m->n == CHECK_BLOCKS) {
        return NULL;
    }

    p = malloc(size);
    m->blocks[m->n++] = p;

    return p;
}


static inline void
check_memory(check_memory_t *m, size_t limit, int fail)
{
    memset(m, 0, sizeof(check_memory_t));

    m->arena.left = limit;
    m->arena.alloc = check_alloc;
    m->arena.data = m;
    m->fail = fail;
}


static inline void
check_memory_free(check_memory_t *m)
{
    while (m->n > 0) {
        free(m->blocks[--m->n]);
    }
}


static inline unsigned char *
check_copy(const void *text, size_t len)
{
    unsigned char  *p;

    p = malloc(len != 0 ? len : 1);

    if (len != 0) {
        memcpy(p, text, len);
    }

    return p;
}


static inline uint32_t
check_random(uint32_t *seed)
{
    *seed ^= *seed << 13;
    *seed ^= *seed >> 17;
    *seed ^= *seed << 5;

    return *seed;
}


#endif /* _JSON_CHECK_H_INCLUDED_ */
