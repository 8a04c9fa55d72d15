
/*
 * Copyright (C) the ngx-llm authors
 *
 * A stream must come to the same answer with other line ends and comments,
 * and its answer, told as a stream again, to itself.  The first byte of the
 * input says which endpoint.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_gather.h"
#include "core/llm_replay.h"
#include "core/llm_sse.h"
#include "fuzz_main.h"


#define BLOCKS  256


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

    if (pool->n == BLOCKS || pool->n == pool->fail) {
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
    pool->arena.left = (size_t) 1 << 24;
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


static int
gather(pool_t *pool, unsigned fail, llm_endpoint_e endpoint,
    const unsigned char *p, size_t len, llm_str_t *body, llm_usage_t *usage)
{
    int             rc;
    unsigned char  *events;

    pool_init(pool, fail);

    memset(usage, 0, sizeof(llm_usage_t));

    /* the answer may lie in the events: they belong to the pool */

    events = get(pool, len == 0 ? 1 : len);

    if (events == NULL) {
        return LLM_ERROR;
    }

    if (len != 0) {
        memcpy(events, p, len);
    }

    rc = llm_gather(endpoint, events, len, &pool->arena, body, usage);

    check(rc == LLM_OK || rc == LLM_DECLINED || rc == LLM_ERROR);
    check(len == 0 || memcmp(events, p, len) == 0);

    if (rc == LLM_OK) {
        check(body->len != 0 && body->data[0] == '{'
              && body->data[body->len - 1] == '}');
        check(memchr(body->data, '\n', body->len) == NULL);
    }

    return rc;
}


static void
same(llm_endpoint_e endpoint, const unsigned char *p, size_t len, int rc,
    const llm_str_t *body, const llm_usage_t *usage)
{
    int          other;
    pool_t       pool;
    llm_str_t    text;
    llm_usage_t  us;

    other = gather(&pool, BLOCKS, endpoint, p, len, &text, &us);

    check(other == rc);

    if (rc == LLM_OK) {
        check(text.len == body->len);
        check(memcmp(text.data, body->data, text.len) == 0);
        check(memcmp(&us, usage, sizeof(us)) == 0);
    }

    pool_free(&pool);
}


/* the same events, ended by "eol", with a comment in front of each */

static size_t
spell(unsigned char *d, const unsigned char *p, size_t len, const char *eol)
{
    size_t          i, n, scan, end;
    unsigned char  *out;

    out = d;
    end = strlen(eol);

    while (len != 0) {
        scan = 0;
        n = llm_sse_next(p, len, &scan);
        n = n == 0 ? len : n;

        if (out == d && len >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0) {
            memcpy(d, p, 3);
            d += 3;
            p += 3;
            len -= 3;
            n -= 3;
        }

        *d++ = ':';
        memcpy(d, eol, end);
        d += end;

        for (i = 0; i < n; i++) {

            if (p[i] == '\r' && i + 1 < n && p[i + 1] == '\n') {
                continue;
            }

            if (p[i] == '\n' || p[i] == '\r') {
                memcpy(d, eol, end);
                d += end;
                continue;
            }

            *d++ = p[i];
        }

        p += n;
        len -= n;
    }

    return (size_t) (d - out);
}


/* with line feeds only and no marks, which the spelling would move */

static int
plain(const unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        if (p[i] == '\r' || p[i] == 0xef
            || (p[i] == '\n' && (i == 0 || (i > 1 && p[i - 1] == '\n'
                                            && p[i - 2] == '\n'))))
        {
            return 0;
        }
    }

    return 1;
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int              rc;
    pool_t           pool, again;
    unsigned         fail;
    size_t           len;
    llm_str_t        body, events, text;
    llm_usage_t      usage, us;
    llm_endpoint_e   endpoint;
    unsigned char   *buf;

    if (size < 1) {
        return 0;
    }

    endpoint = (llm_endpoint_e) (p[0] & 3);
    fail = p[0] >> 2;
    p++;
    size--;

    rc = gather(&pool, fail == 0 ? BLOCKS : fail, endpoint, p, size, &body,
                &usage);
    pool_free(&pool);

    rc = gather(&pool, BLOCKS, endpoint, p, size, &body, &usage);

    if (rc != LLM_ERROR && plain(p, size)) {
        buf = malloc(size * 5 + 16);

        len = spell(buf, p, size, "\n");
        same(endpoint, buf, len, rc, &body, &usage);

        len = spell(buf, p, size, "\r\n");
        same(endpoint, buf, len, rc, &body, &usage);

        len = spell(buf, p, size, "\r");
        same(endpoint, buf, len, rc, &body, &usage);

        free(buf);
    }

    if (rc == LLM_OK) {
        pool_init(&again, BLOCKS);

        if (llm_replay(endpoint, &body, 1, &again.arena, &events)
            == LLM_OK)
        {
            pool_t  third;

            check(gather(&third, BLOCKS, endpoint, events.data, events.len,
                         &text, &us)
                  != LLM_DECLINED);
            check(memcmp(&us, &usage, sizeof(us)) == 0);

            pool_free(&third);
        }

        pool_free(&again);
    }

    pool_free(&pool);

    return 0;
}
