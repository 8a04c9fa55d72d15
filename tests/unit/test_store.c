
/*
 * Copyright (C) the ngx-llm authors
 */


#include "store_check.h"


/* all of the memory, wherever it begins, and none beside it */

static void
test_create(void **state)
{
    size_t             size, off, i;
    llm_store_t       *st;
    unsigned char     *mem;
    llm_store_stat_t   stat;

    (void) state;

    mem = malloc(SIZE);
    assert_null(llm_store_create(mem, 0));
    assert_null(llm_store_create(mem, SIZE - 1));
    free(mem);

    for (size = SIZE; size < SIZE + 4000; size += 1 + draw(4)) {
        off = draw(64);
        mem = malloc(off + size);

        memset(mem, 0xa5, off);

        st = llm_store_create(mem + off, size);
        assert_non_null(st);
        assert_true((unsigned char *) st >= mem + off);

        stat = stat_of(st);
        assert_int_equal(stat.entries, 0);
        assert_int_equal(stat.blocks, 0);
        assert_true(stat.size * (LLM_STORE_BLOCK + 80) > size - 3000);

        for (i = 0; i < stat.size + 1; i++) {
            assert_int_equal(put(st, (unsigned) i, TIME, LLM_STORE_BLOCK,
                                 (unsigned char) i), LLM_OK);
        }

        conserved(st);
        assert_int_equal(stat_of(st).blocks, stat.size);
        assert_int_equal(stat_of(st).evicted, 1);

        for (i = 0; i < off; i++) {
            assert_int_equal(mem[i], 0xa5);
        }

        free(mem);
    }
}


static void
test_lengths(void **state)
{
    void          *mem;
    size_t         len, max;
    llm_store_t   *st;

    (void) state;

    st = make(&mem, SIZE);
    max = stat_of(st).size / 8 * LLM_STORE_BLOCK;
    assert_true(max > 4 * LLM_STORE_BLOCK);

    for (len = 1; len <= max; len++) {
        assert_int_equal(put(st, len % 5, TIME, len, (unsigned char) len),
                         LLM_OK);
        assert_int_equal(find(st, len % 5, TIME - 1), len);
        assert_value(st, len % 5, len, (unsigned char) len);
    }

    conserved(st);
    assert_int_equal(stat_of(st).entries, 5);
    assert_int_equal(stat_of(st).evicted, 0);
    assert_int_equal(stat_of(st).refused, 0);

    /* what may not be stored leaves no older value behind */

    for (len = max + 1; len < max + 3; len++) {
        assert_int_equal(put(st, 1, TIME, 10, 1), LLM_OK);
        assert_int_equal(put(st, 1, TIME, len, 1), LLM_DECLINED);
        assert_int_equal(find(st, 1, 0), 0);
    }

    assert_int_equal(put(st, 2, TIME, 0, 1), LLM_DECLINED);
    assert_int_equal(find(st, 2, 0), 0);

    assert_int_equal(stat_of(st).entries, 3);
    assert_int_equal(stat_of(st).refused, 3);

    conserved(st);
    free(mem);
}


/* lengths whose sum is small again */

static void
test_overflow(void **state)
{
    void           *mem;
    llm_str_t       piece[2];
    llm_store_t    *st;
    unsigned char   key[LLM_STORE_KEY], p[2] = "x";

    (void) state;

    st = make(&mem, SIZE);

    name(key, 1);
    piece[0].data = p;
    piece[0].len = 2;
    piece[1].data = p;
    piece[1].len = SIZE_MAX;

    assert_int_equal(llm_store_put(st, key, TIME, piece, 2), LLM_DECLINED);
    assert_int_equal(llm_store_put(st, key, TIME, piece, 0), LLM_DECLINED);
    assert_int_equal(llm_store_put(st, key, TIME, piece, 1), LLM_OK);
    assert_int_equal(find(st, 1, 0), 2);

    free(mem);
}


static void
test_key(void **state)
{
    void           *mem;
    unsigned        i;
    llm_str_t       piece = llm_string("value");
    llm_store_t    *st;
    unsigned char   key[LLM_STORE_KEY], out[8] = "-------";

    (void) state;

    st = make(&mem, SIZE);

    memset(key, 0, sizeof(key));
    assert_int_equal(llm_store_put(st, key, TIME, &piece, 1), LLM_OK);

    /* all of the key counts */

    for (i = 0; i < LLM_STORE_KEY * 8; i++) {
        key[i / 8] ^= (unsigned char) (1 << i % 8);

        assert_int_equal(llm_store_find(st, key, 0), 0);
        assert_int_equal(llm_store_remove(st, key), LLM_DECLINED);
        llm_store_copy(st, key, out);

        key[i / 8] ^= (unsigned char) (1 << i % 8);
    }

    assert_string_equal((char *) out, "-------");
    assert_int_equal(llm_store_find(st, key, 0), 5);
    llm_store_copy(st, key, out);
    assert_string_equal((char *) out, "value--");

    free(mem);
}


static void
test_time(void **state)
{
    void         *mem;
    llm_store_t  *st;

    (void) state;

    st = make(&mem, SIZE);

    assert_int_equal(put(st, 1, TIME, 3000, 1), LLM_OK);
    assert_int_equal(put(st, 2, UINT64_MAX, 1, 1), LLM_OK);
    assert_int_equal(find(st, 1, 0), 3000);
    assert_int_equal(find(st, 1, TIME - 1), 3000);
    assert_int_equal(stat_of(st).expired, 0);

    assert_int_equal(find(st, 1, TIME), 0);
    assert_int_equal(stat_of(st).expired, 1);
    assert_int_equal(stat_of(st).entries, 1);
    assert_int_equal(stat_of(st).blocks, 1);

    /* it does not come back with the clock */

    assert_int_equal(find(st, 1, 0), 0);
    assert_int_equal(find(st, 2, UINT64_MAX - 1), 1);
    assert_int_equal(find(st, 2, UINT64_MAX), 0);
    assert_int_equal(stat_of(st).blocks, 0);

    conserved(st);
    free(mem);
}


/* who goes when there is no room, and who does not */

static void
test_order(void **state)
{
    void              *mem;
    unsigned           i, n;
    llm_store_t       *st;
    unsigned char      key[LLM_STORE_KEY], out[1];
    llm_store_stat_t   stat;

    (void) state;

    st = make(&mem, SIZE);
    n = (unsigned) stat_of(st).size;
    assert_true(n < NAMES - 3);

    for (i = 0; i < n; i++) {
        assert_int_equal(put(st, i, i == 1 ? 5 : TIME, 1, 1), LLM_OK);
    }

    assert_int_equal(stat_of(st).blocks, n);

    /* use saves the first one; to be copied or replaced is no other use */

    assert_int_equal(find(st, 0, 7), 1);
    name(key, 2);
    llm_store_copy(st, key, out);

    assert_int_equal(put(st, n, TIME, 2 * LLM_STORE_BLOCK, 1), LLM_OK);

    stat = stat_of(st);
    assert_int_equal(stat.expired, 1);
    assert_int_equal(stat.evicted, 1);
    assert_int_equal(stat.blocks, n);
    assert_int_equal(stat.entries, n - 1);

    assert_int_equal(drop(st, 1), LLM_DECLINED);
    assert_int_equal(drop(st, 2), LLM_DECLINED);

    for (i = 3; i < n; i++) {
        assert_int_equal(put(st, n + 1 + i % 2, TIME, 1, 1), LLM_OK);
        assert_int_equal(find(st, 0, 7), 1);
    }

    /* only two more names came: an older value makes room for its own */

    assert_int_equal(stat_of(st).evicted, 3);
    assert_int_equal(stat_of(st).put, n + 1 + n - 3);

    assert_int_equal(drop(st, 0), LLM_OK);
    assert_int_equal(drop(st, 0), LLM_DECLINED);
    assert_int_equal(stat_of(st).blocks, n - 1);
    assert_int_equal(find(st, 3, 7), 0);
    assert_int_equal(find(st, 4, 7), 0);
    assert_int_equal(find(st, 5, 7), 1);

    conserved(st);
    free(mem);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_create),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_overflow),
        cmocka_unit_test(test_key),
        cmocka_unit_test(test_time),
        cmocka_unit_test(test_order)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
