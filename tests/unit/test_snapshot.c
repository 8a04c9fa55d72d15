
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_snapshot.h"


#define ROWS  37


/* row i: names of all lengths, all sets of tallies, all sizes of numbers */

static void
make(llm_snapshot_row_t *row, unsigned i, unsigned char *name)
{
    unsigned      k;
    llm_tally_t  *tally[4];

    memset(row, 0, sizeof(llm_snapshot_row_t));

    row->name.len = 1 + i * 7 % LLM_SNAPSHOT_NAME;
    row->name.data = name;
    memset(name, (int) (i + 200), row->name.len);

    tally[0] = &row->day[0];
    tally[1] = &row->day[1];
    tally[2] = &row->month[0];
    tally[3] = &row->month[1];

    for (k = 0; k < 4; k++) {
        if (i & 1u << k) {
            tally[k]->period = k == 0 ? UINT32_MAX : 20000 + k;
            tally[k]->requests = (int64_t) i << k;
            tally[k]->tokens = INT64_MAX >> (i + k);
            tally[k]->money = (int64_t) i * 123456789;
        }
    }
}


static void
assert_row(const llm_snapshot_row_t *a, const llm_snapshot_row_t *b)
{
    unsigned  k;

    assert_int_equal(a->name.len, b->name.len);
    assert_memory_equal(a->name.data, b->name.data, a->name.len);

    for (k = 0; k < 2; k++) {
        assert_int_equal(a->day[k].period, b->day[k].period);
        assert_int_equal(a->day[k].requests, b->day[k].requests);
        assert_int_equal(a->day[k].tokens, b->day[k].tokens);
        assert_int_equal(a->day[k].money, b->day[k].money);
        assert_int_equal(a->month[k].period, b->month[k].period);
        assert_int_equal(a->month[k].requests, b->month[k].requests);
        assert_int_equal(a->month[k].tokens, b->month[k].tokens);
        assert_int_equal(a->month[k].money, b->month[k].money);
    }
}


/* a file of n rows, in memory of its own */

static unsigned char *
store(unsigned n, uint64_t generation, size_t *size)
{
    unsigned             i;
    unsigned char       *file, *p, *last, piece[LLM_SNAPSHOT_PIECE + 1];
    unsigned char        name[LLM_SNAPSHOT_NAME];
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row;

    file = malloc((n + 2) * LLM_SNAPSHOT_PIECE);
    p = file;

    for (i = 0; i < n + 2; i++) {
        piece[LLM_SNAPSHOT_PIECE] = 0xa5;

        if (i == 0) {
            last = llm_snapshot_write_head(&sn, generation, piece);
            assert_ptr_equal(last, piece + LLM_SNAPSHOT_HEAD);

        } else if (i <= n) {
            make(&row, i - 1, name);
            last = llm_snapshot_write_row(&sn, &row, piece);
            assert_non_null(last);

        } else {
            last = llm_snapshot_write_end(&sn, piece);
            assert_ptr_equal(last, piece + LLM_SNAPSHOT_END);
        }

        assert_int_equal(piece[LLM_SNAPSHOT_PIECE], 0xa5);
        memcpy(p, piece, (size_t) (last - piece));
        p += last - piece;
        assert_int_equal(sn.offset, p - file);
    }

    assert_int_equal(sn.rows, n);
    *size = (size_t) (p - file);

    return file;
}


/*
 * Reads in steps of "step" bytes, each step in memory of its own size, so
 * that a look too far is seen; what it ends with, and the error's text
 */

static int
load(const unsigned char *file, size_t size, size_t step, unsigned *rows,
    const char **error)
{
    int                  rc;
    size_t               at, len, more;
    unsigned char       *buf, *p, *end, name[LLM_SNAPSHOT_NAME];
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row, expected;

    llm_snapshot_read_init(&sn);

    *rows = 0;
    len = 0;
    at = 0;
    rc = LLM_AGAIN;

    while (at < size) {
        more = step < size - at ? step : size - at;
        buf = malloc(len + more);
        memcpy(buf, file + at - len, len + more);
        at += more;

        p = buf;
        end = buf + len + more;

        while ((rc = llm_snapshot_read(&sn, &p, end, &row)) == LLM_OK) {
            make(&expected, *rows, name);
            assert_row(&row, &expected);
            ++*rows;
        }

        len = (size_t) (end - p);
        free(buf);

        if (rc == LLM_ERROR) {
            break;
        }

        assert_true(len < LLM_SNAPSHOT_PIECE);
    }

    if (rc == LLM_AGAIN) {
        rc = llm_snapshot_finish(&sn);
        assert_int_equal(rc, LLM_ERROR);

    } else if (rc == LLM_DECLINED) {
        assert_int_equal(llm_snapshot_finish(&sn), LLM_OK);
        assert_int_equal(sn.rows, *rows);
        assert_int_equal(sn.offset, size);
    }

    /* an error stays one */

    if (rc == LLM_ERROR) {
        assert_non_null(sn.error);
        p = name;
        assert_int_equal(llm_snapshot_read(&sn, &p, p, &row), LLM_ERROR);
        assert_int_equal(llm_snapshot_finish(&sn), LLM_ERROR);
    }

    *error = sn.error;

    return rc;
}


static void
test_round_trip(void **state)
{
    size_t          size, step;
    unsigned        rows, n;
    const char     *error;
    unsigned char  *file;

    (void) state;

    for (n = 0; n <= ROWS; n += n < 3 ? 1 : 17) {
        file = store(n, 4711, &size);

        for (step = 1; step <= size; step += 1 + step / 3) {
            assert_int_equal(load(file, size, step, &rows, &error),
                             LLM_DECLINED);
            assert_int_equal(rows, n);
            assert_null(error);
        }

        assert_int_equal(llm_snapshot_generation(file), 4711);
        free(file);
    }
}


/* the bytes themselves: what one machine writes another one reads */

static void
test_layout(void **state)
{
    unsigned char       *p, file[3 * LLM_SNAPSHOT_PIECE];
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row;

    static const unsigned char  bytes[] = {
        'n', 'L', 'L', 'S', 1, 0, 0, 0, 8, 7, 6, 5, 4, 3, 2, 1,
        3, 0x09, 'k', ':', 'a',
        0x39, 0x30, 0, 0, 2, 1, 0, 0, 0, 0, 0, 0,
        255, 255, 255, 255, 255, 255, 255, 127, 4, 0, 0, 0, 0, 0, 0, 0,
        5, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
        7, 0, 0, 0, 0, 0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 0,
        0, 1, 0, 0, 0,
        138, 140, 64, 207, 28, 59, 135, 212, 15, 8, 27, 72, 83, 177, 232, 158
    };

    (void) state;

    memset(&row, 0, sizeof(llm_snapshot_row_t));
    row.name.data = (unsigned char *) "k:a";
    row.name.len = 3;
    row.day[0] = (llm_tally_t) { 12345, 258, INT64_MAX, 4 };
    row.month[1] = (llm_tally_t) { 5, 6, 7, 8 };

    /* of no period: nothing that counts */
    row.day[1] = (llm_tally_t) { 0, 1, -1, 1 };

    p = llm_snapshot_write_head(&sn, 0x0102030405060708ULL, file);
    p = llm_snapshot_write_row(&sn, &row, p);
    p = llm_snapshot_write_end(&sn, p);

    assert_int_equal(p - file, sizeof(bytes));
    assert_memory_equal(file, bytes, sizeof(bytes));
}


static void
test_truncation(void **state)
{
    size_t          size, len;
    unsigned        rows;
    const char     *error;
    unsigned char  *file;

    (void) state;

    file = store(5, 1, &size);

    for (len = 0; len < size; len++) {
        assert_int_equal(load(file, len, len + 1, &rows, &error),
                         LLM_ERROR);
        assert_string_equal(error, "it is not complete");
        assert_int_equal(load(file, len, 1, &rows, &error), LLM_ERROR);
    }

    /* nor may there be more than was written */

    file = realloc(file, size + 1);
    file[size] = 0;

    assert_int_equal(load(file, size + 1, size + 1, &rows, &error),
                     LLM_ERROR);
    assert_string_equal(error, "there is more behind its end");
    assert_int_equal(load(file, size + 1, 1, &rows, &error), LLM_ERROR);
    assert_string_equal(error, "there is more behind its end");

    free(file);
}


/* whole, whatever it is made of */

static int
damaged(unsigned char *file, size_t size)
{
    int                  rc;
    unsigned char       *p;
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row;

    llm_snapshot_read_init(&sn);

    p = file;

    do {
        rc = llm_snapshot_read(&sn, &p, file + size, &row);
    } while (rc == LLM_OK);

    return rc == LLM_ERROR || llm_snapshot_finish(&sn) == LLM_ERROR;
}


static void
test_damage(void **state)
{
    int             bit;
    size_t          size, i;
    unsigned char  *file, change;

    (void) state;

    file = store(9, 99, &size);
    assert_false(damaged(file, size));

    for (i = 0; i < size; i++) {
        for (bit = 0; bit < 8; bit++) {
            file[i] ^= (unsigned char) (1 << bit);
            assert_true(damaged(file, size));
            file[i] ^= (unsigned char) (1 << bit);
        }

        change = file[i];
        file[i] = (unsigned char) ~change;
        assert_true(damaged(file, size));
        file[i] = change;
    }

    assert_false(damaged(file, size));
    free(file);
}


/* rows that are right in themselves but have changed places */

static void
test_order(void **state)
{
    size_t               size[2];
    unsigned             i, k;
    unsigned char       *p, name[LLM_SNAPSHOT_NAME];
    unsigned char        file[2][4 * LLM_SNAPSHOT_PIECE];
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row;

    (void) state;

    for (i = 0; i < 2; i++) {
        p = llm_snapshot_write_head(&sn, 1, file[i]);

        for (k = 0; k < 2; k++) {
            make(&row, 15, name);
            row.day[0].requests = i == k ? 1 : 2;
            p = llm_snapshot_write_row(&sn, &row, p);
        }

        p = llm_snapshot_write_end(&sn, p);
        size[i] = (size_t) (p - file[i]);

        assert_false(damaged(file[i], size[i]));
    }

    assert_int_equal(size[0], size[1]);

    memcpy(file[0] + size[0] - LLM_SNAPSHOT_END,
           file[1] + size[1] - LLM_SNAPSHOT_END, LLM_SNAPSHOT_END);
    assert_true(damaged(file[0], size[0]));
}


static void
test_refused(void **state)
{
    unsigned char       *p, file[LLM_SNAPSHOT_PIECE];
    unsigned char        name[LLM_SNAPSHOT_NAME + 1];
    llm_snapshot_t       sn, before;
    llm_snapshot_row_t   row;

    (void) state;

    memset(name, 'n', sizeof(name));
    memset(&row, 0, sizeof(llm_snapshot_row_t));
    row.name.data = name;

    (void) llm_snapshot_write_head(&sn, 1, file);
    memset(file, 0xa5, sizeof(file));
    before = sn;

    row.name.len = 0;
    assert_null(llm_snapshot_write_row(&sn, &row, file));

    row.name.len = LLM_SNAPSHOT_NAME + 1;
    assert_null(llm_snapshot_write_row(&sn, &row, file));

    row.name.len = LLM_SNAPSHOT_NAME;
    row.month[1] = (llm_tally_t) { 1, -1, 0, 0 };
    assert_null(llm_snapshot_write_row(&sn, &row, file));

    row.month[1] = (llm_tally_t) { 1, 0, INT64_MIN, 0 };
    assert_null(llm_snapshot_write_row(&sn, &row, file));

    row.month[1] = (llm_tally_t) { 1, 0, 0, -1 };
    assert_null(llm_snapshot_write_row(&sn, &row, file));

    row.month[1].money = 0;
    sn.rows = LLM_SNAPSHOT_ROWS;
    assert_null(llm_snapshot_write_row(&sn, &row, file));
    sn.rows = 0;

    for (p = file; p < file + sizeof(file); p++) {
        assert_int_equal(*p, 0xa5);
    }

    assert_memory_equal(&sn, &before, sizeof(llm_snapshot_t));
    assert_non_null(llm_snapshot_write_row(&sn, &row, file));
}


/* what the reader says of a file that is made wrong */

static void
wrong(size_t at, unsigned char byte, const char *expected)
{
    size_t          size;
    unsigned        rows;
    const char     *error;
    unsigned char  *file;

    file = store(2, 1, &size);
    file[at < size ? at : size - (SIZE_MAX - at) - 1] = byte;

    assert_int_equal(load(file, size, size, &rows, &error), LLM_ERROR);
    assert_string_equal(error, expected);

    free(file);
}


static void
test_errors(void **state)
{
    (void) state;

    /* rows: 16 "name of 1" and no tally, 19 "name of 8" and day[0] */

    wrong(0, 'N', "it is no file of tallies");
    wrong(4, 2, "its version is not known");
    wrong(8, 0, "its generation is 0");
    wrong(16, 97, "a name is too long");
    wrong(17, 16, "a row has unknown tallies");
    wrong(29 + 11, 0x80, "a tally is below 0");
    wrong(29 + 19, 0xff, "a tally is below 0");
    wrong(29 + 27, 0x80, "a tally is below 0");
    wrong(SIZE_MAX - 19, 3, "its number of rows is wrong");
    wrong(SIZE_MAX, 0, "its checksum is wrong");
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_order),
        cmocka_unit_test(test_refused),
        cmocka_unit_test(test_errors),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
