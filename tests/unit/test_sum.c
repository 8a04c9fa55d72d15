
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdlib.h>
#include <string.h>
#include <cmocka.h>

#include "core/llm_sum.h"


#define LONGEST  100


static void
fill(unsigned char *p, size_t len)
{
    size_t  i;

    for (i = 0; i < len; i++) {
        p[i] = (unsigned char) (i * 37 + 11);
    }
}


/* the sum of a block of that length and no more: a checker sees a byte more */

static uint64_t
of(uint64_t h, const unsigned char *p, size_t len)
{
    uint64_t        sum;
    unsigned char  *copy;

    copy = malloc(len == 0 ? 1 : len);
    assert_non_null(copy);
    memcpy(copy, p, len);

    sum = llm_sum(h, copy, len);
    free(copy);

    return sum;
}


/* what is stored today must be known tomorrow, and on another machine */

static void
test_known(void **state)
{
    size_t         i;
    unsigned char  p[LONGEST];

    static const struct {
        uint64_t   h;
        size_t     len;
        uint64_t   sum;
    } known[] = {
        { 0, 0, 0x23fb39a8ff96bcf3ULL },
        { 0, 1, 0xec35f7bc588fb8d8ULL },
        { 0, 8, 0x2668aa9def512fb0ULL },
        { 0, 15, 0xbb27f9db19485e81ULL },
        { 0, 16, 0x3923fc9b63254b56ULL },
        { 0, 100, 0x58239faa46a96e2fULL },
        { 0x0123456789abcdefULL, 33, 0x6fdd6fd307949ac2ULL }
    };

    (void) state;

    fill(p, sizeof(p));

    for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
        assert_int_equal(of(known[i].h, p, known[i].len), known[i].sum);
    }
}


/* at any address */

static void
test_aligned(void **state)
{
    size_t         at;
    unsigned char  p[LONGEST], q[LONGEST + 8];

    (void) state;

    fill(p, sizeof(p));

    for (at = 0; at < 8; at++) {
        memcpy(q + at, p, sizeof(p));
        assert_int_equal(llm_sum(1, q + at, sizeof(p)),
                         llm_sum(1, p, sizeof(p)));
    }
}


/* another bit, another sum: not by chance, as damage within one word must be
   found */

static void
test_bits(void **state)
{
    size_t         len, bit;
    uint64_t       sum;
    unsigned char  p[LONGEST];

    (void) state;

    for (len = 1; len <= LONGEST; len++) {
        fill(p, len);
        sum = of(0, p, len);

        for (bit = 0; bit < 8 * len; bit++) {
            p[bit / 8] ^= (unsigned char) (1u << bit % 8);
            assert_int_not_equal(of(0, p, len), sum);
            p[bit / 8] ^= (unsigned char) (1u << bit % 8);
        }
    }
}


/* all 65535 ways to change two neighbours, within a word and across two */

static void
test_pairs(void **state)
{
    size_t         i, at;
    uint64_t       sum;
    unsigned       x;
    unsigned char  p[32];

    static const size_t  where[] = { 0, 3, 7, 8, 14, 15, 16, 23, 30 };

    (void) state;

    fill(p, sizeof(p));
    sum = llm_sum(0, p, sizeof(p));

    for (i = 0; i < sizeof(where) / sizeof(where[0]); i++) {
        at = where[i];

        for (x = 1; x < 65536; x++) {
            p[at] ^= (unsigned char) x;
            p[at + 1] ^= (unsigned char) (x >> 8);
            assert_int_not_equal(llm_sum(0, p, sizeof(p)), sum);
            p[at] ^= (unsigned char) x;
            p[at + 1] ^= (unsigned char) (x >> 8);
        }
    }
}


/* words in another order, zeros behind, a piece less */

static void
test_places(void **state)
{
    size_t         i, j, len;
    uint64_t       sum, sums[LONGEST + 1];
    unsigned char  p[LONGEST], word[8];

    (void) state;

    fill(p, 96);
    sum = of(0, p, 96);

    for (i = 0; i < 12; i++) {
        for (j = i + 1; j < 12; j++) {
            memcpy(word, p + 8 * i, 8);
            memcpy(p + 8 * i, p + 8 * j, 8);
            memcpy(p + 8 * j, word, 8);

            assert_int_not_equal(of(0, p, 96), sum);

            fill(p, 96);
        }
    }

    memset(p, 0, sizeof(p));

    for (len = 0; len <= LONGEST; len++) {
        sums[len] = of(0, p, len);

        for (i = 0; i < len; i++) {
            assert_int_not_equal(sums[i], sums[len]);
        }
    }
}


/* what goes before counts, and where it ends */

static void
test_chain(void **state)
{
    size_t         i, j;
    uint64_t       sums[LONGEST + 1];
    unsigned char  p[LONGEST];

    (void) state;

    fill(p, sizeof(p));

    assert_int_not_equal(of(1, p, 20), of(0, p, 20));
    assert_int_not_equal(of(1, p, 0), of(0, p, 0));

    for (i = 0; i <= LONGEST; i++) {
        sums[i] = of(of(0, p, i), p + i, LONGEST - i);

        for (j = 0; j < i; j++) {
            assert_int_not_equal(sums[i], sums[j]);
        }
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_known),
        cmocka_unit_test(test_aligned),
        cmocka_unit_test(test_bits),
        cmocka_unit_test(test_pairs),
        cmocka_unit_test(test_places),
        cmocka_unit_test(test_chain)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
