
/*
 * Copyright (C) the ngx-llm authors
 *
 * Files of accounts, in whatever steps they are read: a row that is read can
 * be put into a book and is written again; and rows as text, there and back.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_book_file.h"
#include "fuzz_main.h"


#define SIZE  (512 * 1024)


static llm_book_t *
book(void)
{
    static void           *mem;
    static llm_book_t     *bk;
    static unsigned        used;
    static const uint64_t  seed[2] = { 1, 2 };

    /* as it is not emptied each time, it gets full, too */

    if (mem == NULL) {
        mem = aligned_alloc(64, SIZE);
        check(mem != NULL);
    }

    if (used++ % 512 == 0) {
        bk = llm_book_create(mem, SIZE, seed);
        check(bk != NULL);
    }

    return bk;
}


/* what it ended with */

static int
decode(const uint8_t *file, size_t size, size_t step, int64_t wall)
{
    int               rc;
    size_t            at, len, more;
    unsigned char    *buf, *p, piece[LLM_BOOK_FILE_PIECE];
    llm_book_row_t    row;
    llm_book_file_t   f, again;

    llm_book_file_init(&f);
    (void) llm_book_file_head(&again, 1, piece);

    len = 0;
    at = 0;
    rc = LLM_AGAIN;

    while (at < size && rc != LLM_ERROR) {
        more = step < size - at ? step : size - at;
        buf = malloc(len + more);
        memcpy(buf, file + at - len, len + more);
        at += more;
        p = buf;

        while ((rc = llm_book_file_read(&f, &p, buf + len + more, &row))
               == LLM_OK)
        {
            check(llm_book_file_row(&again, &row, piece) != NULL);
            (void) llm_book_restore(book(), &row, wall);
        }

        len = (size_t) (buf + len + more - p);
        check(rc == LLM_ERROR || len < LLM_BOOK_FILE_PIECE);
        free(buf);
    }

    if (rc != LLM_ERROR) {
        rc = llm_book_file_finish(&f);
    }

    check((rc == LLM_ERROR) == (f.error != NULL));

    return rc;
}


static void
text(const uint8_t *data, size_t size)
{
    llm_str_t         s, name[LLM_BOOK_NAMES], back[LLM_BOOK_NAMES];
    unsigned          i;
    unsigned char     field[LLM_BOOK_FIELD], value[LLM_BOOK_VALUE];
    llm_book_sums_t   sums, same;

    s.data = (unsigned char *) data;
    s.len = size;

    if (llm_book_get_names(&s, name) == LLM_OK) {
        s.len = llm_book_put_names(name, field);
        s.data = field;
        check(s.len <= LLM_BOOK_FIELD);
        check(llm_book_get_names(&s, back) == LLM_OK);

        for (i = 0; i < LLM_BOOK_NAMES; i++) {
            check(name[i].len == back[i].len
                  && memcmp(name[i].data, back[i].data, name[i].len) == 0);
        }
    }

    s.data = (unsigned char *) data;
    s.len = size;

    if (llm_book_get_sums(&s, &sums) == LLM_OK) {
        s.len = llm_book_put_sums(&sums, value);
        s.data = value;
        check(s.len <= LLM_BOOK_VALUE);
        check(llm_book_get_sums(&s, &same) == LLM_OK);
        check(memcmp(&sums, &same, sizeof(llm_book_sums_t)) == 0);
    }
}


/* rows from the input, so that sums are right */

static size_t
encode(const uint8_t *data, size_t size, unsigned char *file)
{
    unsigned          i;
    unsigned char    *p, *next;
    llm_book_row_t    row;
    llm_book_file_t   f;

    p = llm_book_file_head(&f, 1, file);

    for ( /* void */ ; size >= 32; size -= 32, data += 32) {
        memset(&row, 0, sizeof(llm_book_row_t));
        row.kind = (llm_book_kind_e) (data[0] % 8);
        row.period = data[1];

        for (i = 0; i < LLM_BOOK_NAMES; i++) {
            row.name[i].data = (unsigned char *) data + 2 + i;
            row.name[i].len = data[6 + i] % 24;
        }

        row.sums.requests = data[10];
        memcpy(&row.sums.money, data + 12, 8);

        next = llm_book_file_row(&f, &row, p);
        p = next != NULL ? next : p;
    }

    return (size_t) (llm_book_file_end(&f, p) - file);
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    int             rc;
    size_t          len;
    unsigned char  *file;

    rc = decode(data, size, size + 1, 0);
    check(decode(data, size, 1 + size / 3, 1000000) == rc);
    check(decode(data, size, 1, 0) == rc);

    text(data, size);

    file = malloc(64 + (size / 32 + 1) * LLM_BOOK_FILE_PIECE);
    len = encode(data, size, file);

    check(decode(file, len, 1 + len / 2, 0) == LLM_OK);

    if (size > 0) {
        file[data[0] % len] ^= data[size - 1];
        check(decode(file, len, len, 0)
              == (data[size - 1] != 0 ? LLM_ERROR : LLM_OK));
    }

    free(file);

    return 0;
}
