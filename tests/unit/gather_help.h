
/*
 * Copyright (C) the ngx-llm authors
 *
 * For the tests of what turns streams into answers and back.
 */


#ifndef _GATHER_HELP_H_INCLUDED_
#define _GATHER_HELP_H_INCLUDED_


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_gather.h"
#include "core/llm_replay.h"


#define BLOCKS  512


/* an arena whose blocks are remembered; the one of number "fail" is refused */

typedef struct {
    llm_arena_t     arena;
    void           *block[BLOCKS];
    unsigned        n;
    unsigned        fail;
} pool_t;


static void *
pool_alloc(void *data, size_t size)
{
    pool_t  *pool = data;

    if (pool->n == pool->fail) {
        return NULL;
    }

    assert_true(pool->n < BLOCKS);

    pool->block[pool->n] = malloc(size);

    return pool->block[pool->n++];
}


#define POOL_LIMIT  ((size_t) 1 << 30)


static inline void
pool_init(pool_t *pool, unsigned fail)
{
    memset(pool, 0, sizeof(pool_t));

    pool->fail = fail;
    pool->arena.left = POOL_LIMIT;
    pool->arena.alloc = pool_alloc;
    pool->arena.data = pool;
}


static inline void
pool_free(pool_t *pool)
{
    while (pool->n != 0) {
        free(pool->block[--pool->n]);
    }
}


static inline unsigned char *
own(const char *text, size_t len)
{
    unsigned char  *p;

    p = malloc(len == 0 ? 1 : len);
    memcpy(p, text, len);

    return p;
}


static inline char *
string(const llm_str_t *s)
{
    char  *p;

    p = malloc(s->len + 1);
    memcpy(p, s->data, s->len);
    p[s->len] = '\0';

    return p;
}


/* the end of the copy */

static inline char *
copy(char *d, const char *s)
{
    size_t  len;

    len = strlen(s);
    memcpy(d, s, len + 1);

    return d + len;
}


/* the answer as a string to be freed, or NULL: "*rc" says why */

static inline char *
gather(llm_endpoint_e endpoint, const char *events, llm_usage_t *usage,
    unsigned fail, int *rc)
{
    char           *text;
    pool_t          pool;
    size_t          len;
    llm_str_t       body;
    llm_usage_t     us;
    unsigned char  *p;

    len = strlen(events);
    p = own(events, len);
    pool_init(&pool, fail);

    *rc = llm_gather(endpoint, p, len, &pool.arena, &body, &us);

    assert_memory_equal(p, events, len);

    text = *rc == LLM_OK ? string(&body) : NULL;

    if (usage != NULL && *rc == LLM_OK) {
        *usage = us;
    }

    pool_free(&pool);
    free(p);

    return text;
}


static inline char *
replay(llm_endpoint_e endpoint, const char *answer, int usage, unsigned fail,
    int *rc)
{
    char       *text;
    pool_t      pool;
    llm_str_t   body, events;

    body.len = strlen(answer);
    body.data = own(answer, body.len);
    pool_init(&pool, fail);

    *rc = llm_replay(endpoint, &body, usage, &pool.arena, &events);

    assert_memory_equal(body.data, answer, body.len);

    text = *rc == LLM_OK ? string(&events) : NULL;

    pool_free(&pool);
    free(body.data);

    return text;
}


#endif /* _GATHER_HELP_H_INCLUDED_ */
