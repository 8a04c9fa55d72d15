
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whatever is told as a stream must be an answer again, and be told in the
 * same way.  The first byte of the input says which endpoint.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_gather.h"
#include "core/llm_replay.h"
#include "fuzz_main.h"


#define BLOCKS  1024


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


typedef struct {
    llm_arena_t     arena;
    void           *block[BLOCKS];
    unsigned        n;
    unsigned        fail;
} pool_t;


static void *
get(void *data, size_t size)
{
    pool_t  *pool = data;

    if (pool->n == pool->fail) {
        return NULL;
    }

    pool->block[pool->n] = malloc(size);

    return pool->block[pool->n++];
}


static void
pool_init(pool_t *pool, unsigned fail)
{
    memset(pool, 0, sizeof(pool_t));

    pool->fail = fail;
    pool->arena.left = (size_t) 1 << 26;
    pool->arena.alloc = get;
    pool->arena.data = pool;
}


static void
pool_free(pool_t *pool)
{
    while (pool->n != 0) {
        free(pool->block[--pool->n]);
    }
}


/* events end in a blank line, and hold one line of data each */

static void
lines(const llm_str_t *events)
{
    const unsigned char  *p, *end, *eol;

    p = events->data;
    end = p + events->len;

    check(events->len > 2 && end[-1] == '\n' && end[-2] == '\n');
    check(memchr(p, '\r', events->len) == NULL);

    while (p < end) {

        if (memcmp(p, "event: ", 7) == 0) {
            p = (const unsigned char *) memchr(p, '\n', (size_t) (end - p))
                + 1;
        }

        check(memcmp(p, "data: ", 6) == 0);

        eol = memchr(p, '\n', (size_t) (end - p));
        check(eol + 1 < end && eol[1] == '\n');

        p = eol + 2;
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int              rc, usage;
    pool_t           pool, back, twice;
    unsigned         fail;
    llm_str_t        body, events, text, again;
    llm_usage_t      us;
    unsigned char   *own;
    llm_endpoint_e   endpoint;

    if (size < 1) {
        return 0;
    }

    endpoint = (llm_endpoint_e) (p[0] & 3);
    usage = (p[0] >> 2) & 1;
    fail = p[0] >> 3;

    own = malloc(size);
    memcpy(own, p + 1, size - 1);

    body.data = own;
    body.len = size - 1;

    pool_init(&pool, fail);
    rc = llm_replay(endpoint, &body, usage, &pool.arena, &events);
    check(rc == LLM_OK || rc == LLM_DECLINED || rc == LLM_ERROR);
    pool_free(&pool);

    pool_init(&pool, BLOCKS);
    rc = llm_replay(endpoint, &body, usage, &pool.arena, &events);

    check(memcmp(own, p + 1, size - 1) == 0);

    if (rc == LLM_OK) {
        lines(&events);

        pool_init(&back, BLOCKS);
        rc = llm_gather(endpoint, events.data, events.len, &back.arena, &text,
                        &us);
        check(rc != LLM_DECLINED);

        if (rc == LLM_OK) {
            pool_init(&twice, BLOCKS);
            rc = llm_replay(endpoint, &text, usage, &twice.arena, &again);
            check(rc != LLM_DECLINED);
            pool_free(&twice);
        }

        pool_free(&back);
    }

    pool_free(&pool);
    free(own);

    return 0;
}
