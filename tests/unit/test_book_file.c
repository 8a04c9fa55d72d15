
/*
 * Copyright (C) the ngx-llm authors
 *
 * A book to a file and back.
 */


#include "book_help.h"

#include "core/llm_book_file.h"


static llm_book_t *
make(void)
{
    return llm_book_create(aligned_alloc(64, 512 * 1024), 512 * 1024,
                           book_seed);
}


static size_t
write_all(const llm_book_t *bk, unsigned char *file)
{
    unsigned          k, n;
    uint64_t          cursor;
    unsigned char    *p;
    llm_book_row_t    row;
    llm_book_file_t   f;

    p = llm_book_file_head(&f, 7, file);

    for (k = LLM_BOOK_HOUR; k < LLM_BOOK_KINDS; k++) {
        for (cursor = 0; cursor != LLM_BOOK_END; /* void */ ) {
            n = llm_book_rows(bk, (llm_book_kind_e) k, &cursor, 0, 100, &row,
                              1);
            if (n == 1) {
                p = llm_book_file_row(&f, &row, p);
                assert_non_null(p);
            }
        }
    }

    p = llm_book_file_end(&f, p);
    assert_int_equal(f.offset, p - file);

    return (size_t) (p - file);
}


/* in steps of some bytes, into a book if there is one */

static int
read_all(unsigned char *file, size_t size, size_t step, llm_book_t *bk)
{
    int               rc;
    size_t            end;
    unsigned char    *p;
    llm_book_row_t    row;
    llm_book_file_t   f;

    llm_book_file_init(&f);

    p = file;
    rc = LLM_AGAIN;

    for (end = 0; end < size; /* void */ ) {
        end = size - end > step ? end + step : size;

        while ((rc = llm_book_file_read(&f, &p, file + end, &row)) == LLM_OK)
        {
            if (bk != NULL) {
                assert_int_equal(llm_book_restore(bk, &row, WALL), LLM_OK);
            }
        }

        if (rc == LLM_ERROR) {
            assert_non_null(f.error);
            return rc;
        }
    }

    return llm_book_file_finish(&f) == LLM_OK ? LLM_OK : LLM_ERROR;
}


static llm_book_t *
full(void)
{
    char                text[4][8];
    unsigned            i, k;
    llm_book_t         *bk;
    llm_book_record_t   rec;

    bk = make();
    seed = 3;

    for (i = 0; i < 60; i++) {
        for (k = 0; k < 4; k++) {
            snprintf(text[k], sizeof(text[k]), "%c%u", 'a' + k,
                     (unsigned) any(3));
        }

        text[0][0] = '\0';

        rec = record(bk, WALL - 7200 + i * 120, text[0], text[1], text[2],
                     text[3]);
        rec.money = (int64_t) any(1u << 30);
        llm_book_post(bk, &rec);
    }

    return bk;
}


static void
test_back(void **state)
{
    size_t            size, step;
    unsigned          k;
    llm_book_t       *bk, *back;
    unsigned char    *file, *again;
    llm_book_sums_t   a, b;

    (void) state;

    bk = full();
    file = malloc(200000);
    again = malloc(200000);
    size = write_all(bk, file);

    assert_int_equal(llm_book_file_generation(file), 7);

    for (step = 1; step < 3000; step = step * 3 + 1) {
        assert_int_equal(read_all(file, size, step, NULL), LLM_OK);
    }

    back = make();
    assert_int_equal(read_all(file, size, size, back), LLM_OK);

    for (k = LLM_BOOK_HOUR; k < LLM_BOOK_KINDS; k++) {
        sum_kind(bk, (llm_book_kind_e) k, &a);
        sum_kind(back, (llm_book_kind_e) k, &b);
        assert_memory_equal(&a, &b, sizeof(llm_book_sums_t));
    }

    assert_int_equal(write_all(back, again), size);
    assert_memory_equal(file, again, size);

    free(bk);
    free(back);
    free(file);
    free(again);
}


static void
test_damage(void **state)
{
    size_t          size, i;
    llm_book_t     *bk;
    unsigned char  *file;

    (void) state;

    bk = full();
    file = malloc(200000);
    size = write_all(bk, file);

    for (i = 0; i < size; i++) {
        assert_int_equal(read_all(file, i, size, NULL), LLM_ERROR);

        file[i] ^= (unsigned char) (1u << i % 8);
        assert_int_equal(read_all(file, size, size, NULL), LLM_ERROR);
        file[i] ^= (unsigned char) (1u << i % 8);
    }

    file[size] = 0;
    assert_int_equal(read_all(file, size + 1, size + 1, NULL), LLM_ERROR);

    free(bk);
    free(file);
}


static void
test_refused(void **state)
{
    llm_book_t       *bk;
    llm_book_row_t    row;
    unsigned char     p[LLM_BOOK_FILE_PIECE];
    llm_book_file_t   f;

    (void) state;

    bk = make();
    memset(&row, 0, sizeof(llm_book_row_t));

    row.kind = LLM_BOOK_MINUTE;
    row.period = 1;
    (void) llm_book_file_head(&f, 1, p);
    assert_null(llm_book_file_row(&f, &row, p));
    assert_int_equal(llm_book_restore(bk, &row, WALL), LLM_DECLINED);

    row.kind = LLM_BOOK_DAY;
    row.period = 0;
    assert_null(llm_book_file_row(&f, &row, p));

    /* too old to be kept */

    row.period = llm_book_period(LLM_BOOK_DAY, WALL) - 63;
    assert_int_equal(llm_book_restore(bk, &row, WALL), LLM_DECLINED);
    row.period++;
    assert_int_equal(llm_book_restore(bk, &row, WALL), LLM_OK);

    free(bk);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_back),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_refused)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
