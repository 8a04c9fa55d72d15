
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_core.h"


#define BLOCKS  64


typedef struct {
    void                 *block[BLOCKS];
    size_t                size[BLOCKS];
    unsigned              n;
    unsigned              fail;            /* at the call of this number */
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
    pool->size[pool->n] = size;

    return pool->block[pool->n++];
}


static void
pool_free(pool_t *pool)
{
    while (pool->n != 0) {
        free(pool->block[--pool->n]);
    }
}


static void
arena(llm_arena_t *a, pool_t *pool, void *first, size_t size, size_t left)
{
    memset(pool, 0, sizeof(pool_t));
    pool->fail = BLOCKS;

    a->pos = first;
    a->end = size != 0 ? a->pos + size : a->pos;
    a->left = left;
    a->alloc = pool_alloc;
    a->data = pool;
}


static void
test_first_block(void **state)
{
    pool_t          pool;
    llm_arena_t     a;
    unsigned char  *p, *q, first[64] __attribute__((aligned(8)));

    (void) state;

    arena(&a, &pool, first, sizeof(first), 0);

    p = llm_arena_alloc(&a, 1);
    q = llm_arena_alloc(&a, 56);

    assert_ptr_equal(p, first);
    assert_ptr_equal(q, first + 8);
    assert_null(llm_arena_alloc(&a, 1));
    assert_int_equal(pool.n, 0);
}


/* wherever a lent block starts and ends, no byte beside it is given away */

static void
test_alignment(void **state)
{
    size_t          start, end;
    pool_t          pool;
    llm_arena_t     a;
    unsigned char  *p, first[40] __attribute__((aligned(8)));

    (void) state;

    for (start = 0; start < 16; start++) {
        for (end = start; end <= sizeof(first); end++) {
            arena(&a, &pool, first + start, end - start, 0);
            a.alloc = NULL;

            while ((p = llm_arena_alloc(&a, 3)) != NULL) {
                assert_int_equal((uintptr_t) p % 8, 0);
                assert_true(p >= first + start);
                assert_true(p + 8 <= first + end);
            }
        }
    }
}


static void
test_more_blocks(void **state)
{
    unsigned        i, k;
    pool_t          pool;
    llm_arena_t     a;
    unsigned char  *p[500];

    (void) state;

    arena(&a, &pool, NULL, 0, 1024 * 1024);

    for (i = 1; i < 500; i++) {
        p[i] = llm_arena_alloc(&a, i);
        assert_non_null(p[i]);
        assert_int_equal((uintptr_t) p[i] % 8, 0);
        memset(p[i], (int) i & 0xff, i);
    }

    for (i = 1; i < 500; i++) {
        for (k = 0; k < i; k++) {
            assert_int_equal(p[i][k], i & 0xff);
        }
    }

    assert_true(pool.n > 1);

    pool_free(&pool);
}


static void
test_large(void **state)
{
    pool_t          pool;
    llm_arena_t     a;
    unsigned char  *p;

    (void) state;

    arena(&a, &pool, NULL, 0, 100000);

    p = llm_arena_alloc(&a, 99999);

    assert_non_null(p);
    assert_int_equal(pool.size[0], 100000);
    assert_int_equal(a.left, 0);
    memset(p, 1, 99999);
    assert_null(llm_arena_alloc(&a, 1));

    pool_free(&pool);
}


/* the limit is one of bytes asked for, whatever the caller's pool can do */

static void
test_limit(void **state)
{
    size_t       left, sum, i;
    pool_t       pool;
    llm_arena_t  a;

    (void) state;

    for (left = 0; left < 10000; left += 613) {
        arena(&a, &pool, NULL, 0, left);

        while (llm_arena_alloc(&a, 100) != NULL) { /* void */ }

        for (sum = 0, i = 0; i < pool.n; i++) {
            sum += pool.size[i];
        }

        assert_true(sum <= left);
        assert_int_equal(sum + a.left, left);

        pool_free(&pool);
    }
}


static void
test_failure(void **state)
{
    unsigned     fail;
    pool_t       pool;
    llm_arena_t  a;

    (void) state;

    for (fail = 0; fail < 4; fail++) {
        arena(&a, &pool, NULL, 0, 1024 * 1024);
        pool.fail = fail;

        while (llm_arena_alloc(&a, 1000) != NULL) { /* void */ }

        assert_int_equal(pool.n, fail);

        /* what is left of the last block can still be had */

        if (fail != 0) {
            assert_non_null(llm_arena_alloc(&a, 8));
        }

        /* and all goes on once there is memory again */

        pool.fail = BLOCKS;
        assert_non_null(llm_arena_alloc(&a, 1000));

        pool_free(&pool);
    }
}


static void
test_overflow(void **state)
{
    pool_t         pool;
    size_t         size;
    llm_arena_t    a;
    unsigned char  first[64] __attribute__((aligned(8)));

    (void) state;

    arena(&a, &pool, first, sizeof(first), SIZE_MAX);
    pool.fail = 0;

    for (size = SIZE_MAX - 16; size != 0; size++) {
        assert_null(llm_arena_alloc(&a, size));
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_first_block),
        cmocka_unit_test(test_alignment),
        cmocka_unit_test(test_more_blocks),
        cmocka_unit_test(test_large),
        cmocka_unit_test(test_limit),
        cmocka_unit_test(test_failure),
        cmocka_unit_test(test_overflow)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
