
/*
 * Copyright (C) the ngx-llm authors
 *
 * Layout, all numbers little endian, nothing aligned:
 *
 *     head   0   4  "nLLS"
 *            4   4  version
 *            8   8  generation, above 0
 *
 *     row    0   1  length of the name, 1 to 96
 *            1   1  which tallies follow: day[0] 1, day[1] 2, month[0] 4,
 *                   month[1] 8
 *            2      name
 *                   for each tally 4 period, 8 requests, 8 tokens, 8 money
 *
 *     end    0   1  0: no name is that short
 *            1   4  number of rows
 *            5  16  checksum of all before
 *
 * The number of rows stands at the end, since a table may change while it is
 * walked.  The checksum is a chain: each piece is hashed under what the hash
 * of the one before was.  It finds damage, not malice.
 */


#include "core/llm_snapshot.h"
#include "core/llm_siphash.h"

#include <string.h>


#define LLM_SNAPSHOT_MAGIC    0x534c4c6e
#define LLM_SNAPSHOT_VERSION  1

#define LLM_SNAPSHOT_TALLIES  4
#define LLM_SNAPSHOT_TALLY    28
#define LLM_SNAPSHOT_BODY     5            /* of the end, without its sum */


typedef enum {
    LLM_SNAPSHOT_AT_HEAD = 0,
    LLM_SNAPSHOT_AT_ROW,
    LLM_SNAPSHOT_AT_END,
    LLM_SNAPSHOT_BROKEN
} llm_snapshot_state_e;


static unsigned char *llm_snapshot_put(unsigned char *p, uint64_t v,
    unsigned bytes);
static uint64_t llm_snapshot_get(const unsigned char *p, unsigned bytes);
static void llm_snapshot_piece(llm_snapshot_t *sn, const unsigned char *p,
    size_t len);
static const llm_tally_t *llm_snapshot_tally(const llm_snapshot_row_t *row,
    unsigned i);
static int llm_snapshot_read_head(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end);
static int llm_snapshot_read_row(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end, llm_snapshot_row_t *row);
static int llm_snapshot_read_tallies(llm_snapshot_t *sn,
    const unsigned char *p, unsigned mask, llm_snapshot_row_t *row);
static int llm_snapshot_read_end(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end);
static int llm_snapshot_error(llm_snapshot_t *sn, const char *error);


void
llm_snapshot_read_init(llm_snapshot_t *sn)
{
    sn->sum[0] = 0;
    sn->sum[1] = 0;
    sn->generation = 0;
    sn->offset = 0;
    sn->error = NULL;
    sn->rows = 0;
    sn->state = LLM_SNAPSHOT_AT_HEAD;
}


unsigned char *
llm_snapshot_write_head(llm_snapshot_t *sn, uint64_t generation,
    unsigned char *p)
{
    unsigned char  *last;

    llm_snapshot_read_init(sn);

    sn->generation = generation;
    sn->state = LLM_SNAPSHOT_AT_ROW;

    last = llm_snapshot_put(p, LLM_SNAPSHOT_MAGIC, 4);
    last = llm_snapshot_put(last, LLM_SNAPSHOT_VERSION, 4);
    last = llm_snapshot_put(last, generation, 8);

    llm_snapshot_piece(sn, p, LLM_SNAPSHOT_HEAD);

    return last;
}


unsigned char *
llm_snapshot_write_row(llm_snapshot_t *sn, const llm_snapshot_row_t *row,
    unsigned char *p)
{
    unsigned            i, mask;
    unsigned char      *last;
    const llm_tally_t  *tally;

    if (row->name.len == 0 || row->name.len > LLM_SNAPSHOT_NAME
        || sn->rows == LLM_SNAPSHOT_ROWS)
    {
        return NULL;
    }

    mask = 0;

    for (i = 0; i < LLM_SNAPSHOT_TALLIES; i++) {
        tally = llm_snapshot_tally(row, i);

        if (tally->period == 0) {
            continue;
        }

        if (tally->requests < 0 || tally->tokens < 0 || tally->money < 0) {
            return NULL;
        }

        mask |= 1u << i;
    }

    p[0] = (unsigned char) row->name.len;
    p[1] = (unsigned char) mask;
    memcpy(p + 2, row->name.data, row->name.len);

    last = p + 2 + row->name.len;

    for (i = 0; i < LLM_SNAPSHOT_TALLIES; i++) {
        tally = llm_snapshot_tally(row, i);

        if (tally->period != 0) {
            last = llm_snapshot_put(last, tally->period, 4);
            last = llm_snapshot_put(last, (uint64_t) tally->requests, 8);
            last = llm_snapshot_put(last, (uint64_t) tally->tokens, 8);
            last = llm_snapshot_put(last, (uint64_t) tally->money, 8);
        }
    }

    sn->rows++;
    llm_snapshot_piece(sn, p, (size_t) (last - p));

    return last;
}


unsigned char *
llm_snapshot_write_end(llm_snapshot_t *sn, unsigned char *p)
{
    unsigned char  *last;

    last = llm_snapshot_put(p, 0, 1);
    last = llm_snapshot_put(last, sn->rows, 4);

    llm_snapshot_piece(sn, p, LLM_SNAPSHOT_BODY);

    last = llm_snapshot_put(last, sn->sum[0], 8);
    last = llm_snapshot_put(last, sn->sum[1], 8);

    sn->offset += LLM_SNAPSHOT_END - LLM_SNAPSHOT_BODY;
    sn->state = LLM_SNAPSHOT_AT_END;

    return last;
}


uint64_t
llm_snapshot_generation(const unsigned char *p)
{
    if (llm_snapshot_get(p, 4) != LLM_SNAPSHOT_MAGIC
        || llm_snapshot_get(p + 4, 4) != LLM_SNAPSHOT_VERSION)
    {
        return 0;
    }

    return llm_snapshot_get(p + 8, 8);
}


int
llm_snapshot_read(llm_snapshot_t *sn, unsigned char **p, unsigned char *end,
    llm_snapshot_row_t *row)
{
    int  rc;

    if (sn->state == LLM_SNAPSHOT_AT_HEAD) {
        rc = llm_snapshot_read_head(sn, p, end);

        if (rc != LLM_OK) {
            return rc;
        }
    }

    if (sn->state == LLM_SNAPSHOT_AT_ROW) {

        if (*p == end) {
            return LLM_AGAIN;
        }

        rc = **p == 0 ? llm_snapshot_read_end(sn, p, end)
                      : llm_snapshot_read_row(sn, p, end, row);

        if (rc != LLM_DECLINED) {
            return rc;
        }
    }

    if (sn->state == LLM_SNAPSHOT_AT_END) {
        return *p == end ? LLM_DECLINED
               : llm_snapshot_error(sn, "there is more behind its end");
    }

    return LLM_ERROR;
}


int
llm_snapshot_finish(llm_snapshot_t *sn)
{
    if (sn->state == LLM_SNAPSHOT_AT_END) {
        return LLM_OK;
    }

    if (sn->state == LLM_SNAPSHOT_BROKEN) {
        return LLM_ERROR;
    }

    return llm_snapshot_error(sn, "it is not complete");
}


static int
llm_snapshot_read_head(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end)
{
    if (end - *p < LLM_SNAPSHOT_HEAD) {
        return LLM_AGAIN;
    }

    if (llm_snapshot_get(*p, 4) != LLM_SNAPSHOT_MAGIC) {
        return llm_snapshot_error(sn, "it is no file of tallies");
    }

    if (llm_snapshot_get(*p + 4, 4) != LLM_SNAPSHOT_VERSION) {
        return llm_snapshot_error(sn, "its version is not known");
    }

    sn->generation = llm_snapshot_get(*p + 8, 8);

    if (sn->generation == 0) {
        return llm_snapshot_error(sn, "its generation is 0");
    }

    llm_snapshot_piece(sn, *p, LLM_SNAPSHOT_HEAD);
    *p += LLM_SNAPSHOT_HEAD;
    sn->state = LLM_SNAPSHOT_AT_ROW;

    return LLM_OK;
}


static int
llm_snapshot_read_row(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end, llm_snapshot_row_t *row)
{
    size_t          len, size;
    unsigned        mask;
    unsigned char  *start;

    start = *p;
    len = start[0];

    if (len > LLM_SNAPSHOT_NAME) {
        return llm_snapshot_error(sn, "a name is too long");
    }

    if (end - start < 2) {
        return LLM_AGAIN;
    }

    mask = start[1];

    if (mask >> LLM_SNAPSHOT_TALLIES != 0) {
        return llm_snapshot_error(sn, "a row has unknown tallies");
    }

    size = 2 + len
           + (size_t) __builtin_popcount(mask) * LLM_SNAPSHOT_TALLY;

    if ((size_t) (end - start) < size) {
        return LLM_AGAIN;
    }

    if (sn->rows == LLM_SNAPSHOT_ROWS) {
        return llm_snapshot_error(sn, "it has too many rows");
    }

    row->name.data = start + 2;
    row->name.len = len;

    if (llm_snapshot_read_tallies(sn, start + 2 + len, mask, row) != LLM_OK) {
        return LLM_ERROR;
    }

    sn->rows++;
    llm_snapshot_piece(sn, start, size);
    *p += size;

    return LLM_OK;
}


static int
llm_snapshot_read_tallies(llm_snapshot_t *sn, const unsigned char *p,
    unsigned mask, llm_snapshot_row_t *row)
{
    unsigned      i;
    llm_tally_t  *tally;

    for (i = 0; i < LLM_SNAPSHOT_TALLIES; i++) {
        tally = (llm_tally_t *) llm_snapshot_tally(row, i);

        if ((mask & 1u << i) == 0) {
            memset(tally, 0, sizeof(llm_tally_t));
            continue;
        }

        tally->period = (uint32_t) llm_snapshot_get(p, 4);
        tally->requests = (int64_t) llm_snapshot_get(p + 4, 8);
        tally->tokens = (int64_t) llm_snapshot_get(p + 12, 8);
        tally->money = (int64_t) llm_snapshot_get(p + 20, 8);

        if (tally->period == 0) {
            return llm_snapshot_error(sn, "a tally is of no period");
        }

        if (tally->requests < 0 || tally->tokens < 0 || tally->money < 0) {
            return llm_snapshot_error(sn, "a tally is below 0");
        }

        p += LLM_SNAPSHOT_TALLY;
    }

    return LLM_OK;
}


static int
llm_snapshot_read_end(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end)
{
    if (end - *p < LLM_SNAPSHOT_END) {
        return LLM_AGAIN;
    }

    if (llm_snapshot_get(*p + 1, 4) != sn->rows) {
        return llm_snapshot_error(sn, "its number of rows is wrong");
    }

    llm_snapshot_piece(sn, *p, LLM_SNAPSHOT_BODY);
    *p += LLM_SNAPSHOT_BODY;

    if (llm_snapshot_get(*p, 8) != sn->sum[0]
        || llm_snapshot_get(*p + 8, 8) != sn->sum[1])
    {
        return llm_snapshot_error(sn, "its checksum is wrong");
    }

    *p += LLM_SNAPSHOT_END - LLM_SNAPSHOT_BODY;
    sn->offset += LLM_SNAPSHOT_END - LLM_SNAPSHOT_BODY;
    sn->state = LLM_SNAPSHOT_AT_END;

    return LLM_DECLINED;
}


static int
llm_snapshot_error(llm_snapshot_t *sn, const char *error)
{
    sn->error = error;
    sn->state = LLM_SNAPSHOT_BROKEN;

    return LLM_ERROR;
}


static const llm_tally_t *
llm_snapshot_tally(const llm_snapshot_row_t *row, unsigned i)
{
    return i < 2 ? &row->day[i] : &row->month[i - 2];
}


static void
llm_snapshot_piece(llm_snapshot_t *sn, const unsigned char *p, size_t len)
{
    llm_siphash(sn->sum, p, len, sn->sum);

    sn->offset += len;
}


static unsigned char *
llm_snapshot_put(unsigned char *p, uint64_t v, unsigned bytes)
{
    while (bytes-- != 0) {
        *p++ = (unsigned char) v;
        v >>= 8;
    }

    return p;
}


static uint64_t
llm_snapshot_get(const unsigned char *p, unsigned bytes)
{
    uint64_t  v;

    v = 0;

    while (bytes-- != 0) {
        v = v << 8 | p[bytes];
    }

    return v;
}
