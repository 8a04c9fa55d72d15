
/*
 * Copyright (C) the ngx-llm authors
 *
 * Records that are posted together, and the same ones posted one by one.
 */


#include "book_help.h"


static llm_book_t *
make(size_t size)
{
    return llm_book_create(aligned_alloc(64, size), size, book_seed);
}


static void
same_cells(llm_book_t *a, llm_book_t *b)
{
    uint64_t          i;
    unsigned          of;
    llm_book_cell_t  *c, *d;

    for (of = 0; of < LLM_BOOK_POOLS; of++) {
        assert_int_equal(a->pool[of].head, b->pool[of].head);
        assert_int_equal(a->pool[of].tail, b->pool[of].tail);

        for (i = a->pool[of].head; i < a->pool[of].tail; i++) {
            c = llm_book_cell(a, &a->pool[of], i);
            d = llm_book_cell(b, &b->pool[of], i);

            assert_memory_equal(&c->key, &d->key, sizeof(llm_book_key_t));
            assert_memory_equal(c->v, d->v,
                                llm_book_words[of] * sizeof(uint64_t));
        }
    }

    assert_int_equal(a->posted, b->posted);
    assert_int_equal(a->folded, b->folded);
}


static void
test_together(void **state)
{
    unsigned             i, k, n;
    int64_t              wall;
    llm_book_t          *a, *b;
    llm_book_record_t    rec;
    llm_book_between_t   bt;

    (void) state;

    a = make(1 << 20);
    b = make(1 << 20);
    seed = 4711;
    wall = WALL;
    memset(&rec, 0, sizeof(llm_book_record_t));

    for (i = 0; i < 3; i++) {
        char  text[2] = { (char) ('a' + i), '\0' };

        (void) record(a, wall, text, text, "m", "p");
        (void) record(b, wall, text, text, "m", "p");
    }

    for (i = 0; i < 4000; i += n) {
        n = 1 + (unsigned) any(50);

        for (k = 0; k < n; k++) {

            if (k == 0 || any(9) == 0) {
                rec = record(a, wall, "a", "a", "m", "p");
                rec.name[LLM_BOOK_TEAM] = 2 + (uint32_t) any(3);
                rec.name[LLM_BOOK_KEY] = 2 + (uint32_t) any(3);
                wall += (int64_t) any(50);
            }

            rec.flags = (uint32_t) any(32);
            rec.status = any(3) ? 200 : 503;
            rec.prompt = (int64_t) any(3);
            rec.saved_money = (int64_t) any(2) * 77;
            rec.latency = any(4) ? (uint32_t) any(90000) : LLM_BOOK_UNKNOWN;
            rec.first = any(2) ? (uint32_t) any(900) : LLM_BOOK_UNKNOWN;
            rec.queued = any(2) ? (uint32_t) any(900) : LLM_BOOK_UNKNOWN;

            if (any(4)) {
                rec.flags &= 15;
                rec.status = 200;
                rec.latency = (uint32_t) any(3000000);
                rec.queued = (uint32_t) any(2);
            }

            assert_int_equal(llm_book_append(a, 0, &rec), LLM_OK);
            assert_int_equal(llm_book_append(b, 0, &rec), LLM_OK);

            if (any(30) == 0) {
                memset(&bt, 0, sizeof(llm_book_between_t));
                llm_book_between(&bt, (uint32_t) any(2000));
                (void) llm_book_append_between(a, 0, 2, 2, &bt);
                (void) llm_book_append_between(b, 0, 2, 2, &bt);
            }
        }

        while (llm_book_drain(a, 0, 1) == LLM_AGAIN) { /* void */ }

        assert_int_equal(llm_book_drain(b, 0, 1000), LLM_OK);
        same_cells(a, b);
    }

    /* most of them were: else this shows nothing */

    assert_true(b->change * 4 < a->change * 3);

    /* and no more than were asked for */

    for (i = 0; i < 10; i++) {
        assert_int_equal(llm_book_append(a, 0, &rec), LLM_OK);
    }

    n = (unsigned) a->posted;
    assert_int_equal(llm_book_drain(a, 0, 3), LLM_AGAIN);
    assert_int_equal(a->posted, n + 3);
    assert_int_equal(llm_book_drain(a, 0, 7), LLM_OK);
    assert_int_equal(a->posted, n + 10);

    free(a);
    free(b);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_together)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
