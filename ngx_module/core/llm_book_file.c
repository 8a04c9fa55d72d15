
/*
 * Copyright (C) the ngx-llm authors
 *
 * Layout, all numbers little endian, nothing aligned:
 *
 *     head   0   4  "nLLU"
 *            4   4  version
 *            8   8  generation, above 0
 *
 *     row    0   1  kind: an hour, a day or a month
 *            1   4  period
 *                   four names, each: 1 length, text
 *                2  which sums follow, by bits
 *                   for each sum 8
 *
 *     end    0   1  0: no such kind
 *            1   4  number of rows
 *            5  16  checksum of all before
 *
 * The checksum is a chain: each piece is hashed under what the hash of the
 * one before was.
 */


#include <string.h>

#include "core/llm_book_file.h"
#include "core/llm_siphash.h"


#define LLM_BOOK_FILE_MAGIC    0x554c4c6e
#define LLM_BOOK_FILE_VERSION  1
#define LLM_BOOK_FILE_BODY     5           /* of the end, without its sum */


typedef enum {
    LLM_BOOK_FILE_AT_HEAD = 0,
    LLM_BOOK_FILE_AT_ROW,
    LLM_BOOK_FILE_AT_END,
    LLM_BOOK_FILE_BROKEN
} llm_book_file_state_e;


static int llm_book_file_read_head(llm_book_file_t *f, unsigned char **p,
    unsigned char *end);
static int llm_book_file_read_row(llm_book_file_t *f, unsigned char **p,
    unsigned char *end, llm_book_row_t *row);
static int llm_book_file_read_sums(llm_book_file_t *f, unsigned char **p,
    unsigned char *end, llm_book_sums_t *sums);
static int llm_book_file_read_end(llm_book_file_t *f, unsigned char **p,
    unsigned char *end);
static int llm_book_file_error(llm_book_file_t *f, const char *error);
static void llm_book_file_piece(llm_book_file_t *f, const unsigned char *p,
    size_t len);
static unsigned char *llm_book_file_put(unsigned char *p, uint64_t v,
    unsigned bytes);
static uint64_t llm_book_file_get(const unsigned char *p, unsigned bytes);


void
llm_book_file_init(llm_book_file_t *f)
{
    memset(f, 0, sizeof(llm_book_file_t));
}


unsigned char *
llm_book_file_head(llm_book_file_t *f, uint64_t generation, unsigned char *p)
{
    unsigned char  *last;

    llm_book_file_init(f);

    f->generation = generation;
    f->state = LLM_BOOK_FILE_AT_ROW;

    last = llm_book_file_put(p, LLM_BOOK_FILE_MAGIC, 4);
    last = llm_book_file_put(last, LLM_BOOK_FILE_VERSION, 4);
    last = llm_book_file_put(last, generation, 8);

    llm_book_file_piece(f, p, LLM_BOOK_FILE_HEAD);

    return last;
}


unsigned char *
llm_book_file_row(llm_book_file_t *f, const llm_book_row_t *row,
    unsigned char *p)
{
    size_t          len;
    unsigned        i, mask;
    const int64_t  *v;
    unsigned char  *last;

    if (row->kind <= LLM_BOOK_MINUTE || row->kind >= LLM_BOOK_KINDS
        || row->period == 0 || f->rows == LLM_BOOK_FILE_ROWS)
    {
        return NULL;
    }

    last = p;
    *last++ = (unsigned char) row->kind;
    last = llm_book_file_put(last, row->period, 4);

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        len = row->name[i].len < LLM_BOOK_NAME ? row->name[i].len
                                               : LLM_BOOK_NAME;
        *last++ = (unsigned char) len;

        if (len != 0) {
            memcpy(last, row->name[i].data, len);
            last += len;
        }
    }

    v = (const int64_t *) &row->sums;

    for (mask = 0, i = 0; i < LLM_BOOK_SUMS; i++) {
        mask |= v[i] > 0 ? 1u << i : 0;
    }

    last = llm_book_file_put(last, mask, 2);

    for (i = 0; i < LLM_BOOK_SUMS; i++) {
        if (v[i] > 0) {
            last = llm_book_file_put(last, (uint64_t) v[i], 8);
        }
    }

    f->rows++;
    llm_book_file_piece(f, p, (size_t) (last - p));

    return last;
}


unsigned char *
llm_book_file_end(llm_book_file_t *f, unsigned char *p)
{
    unsigned char  *last;

    *p = 0;
    last = llm_book_file_put(p + 1, f->rows, 4);

    llm_book_file_piece(f, p, LLM_BOOK_FILE_BODY);

    last = llm_book_file_put(last, f->sum[0], 8);
    last = llm_book_file_put(last, f->sum[1], 8);

    f->offset += LLM_BOOK_FILE_END - LLM_BOOK_FILE_BODY;
    f->state = LLM_BOOK_FILE_AT_END;

    return last;
}


int
llm_book_file_read(llm_book_file_t *f, unsigned char **p, unsigned char *end,
    llm_book_row_t *row)
{
    int  rc;

    if (f->state == LLM_BOOK_FILE_BROKEN) {
        return LLM_ERROR;
    }

    if (f->state == LLM_BOOK_FILE_AT_END) {
        return *p == end ? LLM_DECLINED
                         : llm_book_file_error(f, "there is more behind its "
                                                  "end");
    }

    if (f->state == LLM_BOOK_FILE_AT_HEAD) {
        rc = llm_book_file_read_head(f, p, end);
        if (rc != LLM_OK) {
            return rc;
        }
    }

    if (*p == end) {
        return LLM_AGAIN;
    }

    if (**p == 0) {
        return llm_book_file_read_end(f, p, end);
    }

    return llm_book_file_read_row(f, p, end, row);
}


int
llm_book_file_finish(llm_book_file_t *f)
{
    if (f->state == LLM_BOOK_FILE_AT_END) {
        return LLM_OK;
    }

    if (f->state == LLM_BOOK_FILE_BROKEN) {
        return LLM_ERROR;
    }

    return llm_book_file_error(f, "it is cut");
}


uint64_t
llm_book_file_generation(const unsigned char *p)
{
    return llm_book_file_get(p, 4) == LLM_BOOK_FILE_MAGIC
           && llm_book_file_get(p + 4, 4) == LLM_BOOK_FILE_VERSION
           ? llm_book_file_get(p + 8, 8) : 0;
}


static int
llm_book_file_read_head(llm_book_file_t *f, unsigned char **p,
    unsigned char *end)
{
    if (end - *p < LLM_BOOK_FILE_HEAD) {
        return LLM_AGAIN;
    }

    if (llm_book_file_get(*p, 4) != LLM_BOOK_FILE_MAGIC) {
        return llm_book_file_error(f, "it is no file of accounts");
    }

    if (llm_book_file_get(*p + 4, 4) != LLM_BOOK_FILE_VERSION) {
        return llm_book_file_error(f, "its version is not known");
    }

    f->generation = llm_book_file_get(*p + 8, 8);

    if (f->generation == 0) {
        return llm_book_file_error(f, "its generation is 0");
    }

    llm_book_file_piece(f, *p, LLM_BOOK_FILE_HEAD);
    *p += LLM_BOOK_FILE_HEAD;
    f->state = LLM_BOOK_FILE_AT_ROW;

    return LLM_OK;
}


static int
llm_book_file_read_row(llm_book_file_t *f, unsigned char **p,
    unsigned char *end, llm_book_row_t *row)
{
    int             rc;
    size_t          len;
    unsigned        i;
    unsigned char  *last;

    last = *p;

    if (last[0] <= LLM_BOOK_MINUTE || last[0] >= LLM_BOOK_KINDS) {
        return llm_book_file_error(f, "a row is of no known kind");
    }

    if (end - last < 5) {
        return LLM_AGAIN;
    }

    row->kind = (llm_book_kind_e) last[0];
    row->period = (uint32_t) llm_book_file_get(last + 1, 4);
    row->start = llm_book_start(row->kind, row->period);
    row->status = 0;
    row->number = 0;
    row->changed = 0;

    if (row->period == 0) {
        return llm_book_file_error(f, "a row is of no period");
    }

    last += 5;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if (last == end) {
            return LLM_AGAIN;
        }

        len = *last++;

        if (len > LLM_BOOK_NAME) {
            return llm_book_file_error(f, "a name is too long");
        }

        if ((size_t) (end - last) < len) {
            return LLM_AGAIN;
        }

        row->name[i].data = last;
        row->name[i].len = len;
        last += len;
    }

    rc = llm_book_file_read_sums(f, &last, end, &row->sums);
    if (rc != LLM_OK) {
        return rc;
    }

    if (f->rows == LLM_BOOK_FILE_ROWS) {
        return llm_book_file_error(f, "it has too many rows");
    }

    f->rows++;
    llm_book_file_piece(f, *p, (size_t) (last - *p));
    *p = last;

    return LLM_OK;
}


static int
llm_book_file_read_sums(llm_book_file_t *f, unsigned char **p,
    unsigned char *end, llm_book_sums_t *sums)
{
    int64_t        *v;
    unsigned        i, mask;
    unsigned char  *last;

    last = *p;

    if (end - last < 2) {
        return LLM_AGAIN;
    }

    mask = (unsigned) llm_book_file_get(last, 2);
    last += 2;

    if (mask >> LLM_BOOK_SUMS != 0) {
        return llm_book_file_error(f, "a row has unknown sums");
    }

    if (end - last < 8 * __builtin_popcount(mask)) {
        return LLM_AGAIN;
    }

    v = (int64_t *) sums;

    for (i = 0; i < LLM_BOOK_SUMS; i++) {
        v[i] = 0;

        if (mask & 1u << i) {
            v[i] = (int64_t) llm_book_file_get(last, 8);
            last += 8;
        }

        if (v[i] < 0) {
            return llm_book_file_error(f, "a sum is below 0");
        }
    }

    *p = last;

    return LLM_OK;
}


static int
llm_book_file_read_end(llm_book_file_t *f, unsigned char **p,
    unsigned char *end)
{
    if (end - *p < LLM_BOOK_FILE_END) {
        return LLM_AGAIN;
    }

    if (llm_book_file_get(*p + 1, 4) != f->rows) {
        return llm_book_file_error(f, "its number of rows is wrong");
    }

    llm_book_file_piece(f, *p, LLM_BOOK_FILE_BODY);
    *p += LLM_BOOK_FILE_BODY;

    if (llm_book_file_get(*p, 8) != f->sum[0]
        || llm_book_file_get(*p + 8, 8) != f->sum[1])
    {
        return llm_book_file_error(f, "its checksum is wrong");
    }

    *p += LLM_BOOK_FILE_END - LLM_BOOK_FILE_BODY;
    f->offset += LLM_BOOK_FILE_END - LLM_BOOK_FILE_BODY;
    f->state = LLM_BOOK_FILE_AT_END;

    return *p == end ? LLM_DECLINED
                     : llm_book_file_error(f, "there is more behind its end");
}


static int
llm_book_file_error(llm_book_file_t *f, const char *error)
{
    f->error = error;
    f->state = LLM_BOOK_FILE_BROKEN;

    return LLM_ERROR;
}


static void
llm_book_file_piece(llm_book_file_t *f, const unsigned char *p, size_t len)
{
    llm_siphash(f->sum, p, len, f->sum);

    f->offset += len;
}


static unsigned char *
llm_book_file_put(unsigned char *p, uint64_t v, unsigned bytes)
{
    while (bytes-- != 0) {
        *p++ = (unsigned char) v;
        v >>= 8;
    }

    return p;
}


static uint64_t
llm_book_file_get(const unsigned char *p, unsigned bytes)
{
    uint64_t  v;

    v = 0;

    while (bytes-- != 0) {
        v = v << 8 | p[bytes];
    }

    return v;
}
