
/*
 * Copyright (C) the ngx-llm authors
 *
 * Two things in one: a file that is read as a whole is written again to the
 * same bytes, in whatever steps it was read; and what is written from the
 * input is read, whole and not when changed.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_snapshot.h"
#include "fuzz_main.h"


/* reads in steps, writes again what it reads; what it ended with */

static int
decode(const uint8_t *file, size_t size, size_t step)
{
    int                  rc;
    size_t               at, len, more, written;
    unsigned char       *buf, *p, *last, piece[LLM_SNAPSHOT_PIECE];
    llm_snapshot_t       sn, again;
    llm_snapshot_row_t   row;

    llm_snapshot_read_init(&sn);

    len = 0;
    at = 0;
    written = 0;
    rc = LLM_AGAIN;

    while (at < size && rc != LLM_ERROR) {
        more = step < size - at ? step : size - at;
        buf = malloc(len + more);
        memcpy(buf, file + at - len, len + more);
        at += more;
        p = buf;

        do {
            rc = llm_snapshot_read(&sn, &p, buf + len + more, &row);

            if (written == 0 && sn.generation != 0 && rc != LLM_ERROR) {
                last = llm_snapshot_write_head(&again, sn.generation, piece);
                written = (size_t) (last - piece);
                check(memcmp(piece, file, written) == 0);
            }

            if (rc == LLM_OK) {
                check(row.name.data >= buf && row.name.data < p);
                last = llm_snapshot_write_row(&again, &row, piece);
                check(last != NULL);
                check(memcmp(piece, file + written, last - piece) == 0);
                written += (size_t) (last - piece);
            }

        } while (rc == LLM_OK);

        len = (size_t) (buf + len + more - p);
        check(rc == LLM_ERROR || len < LLM_SNAPSHOT_PIECE);
        free(buf);
    }

    if (rc == LLM_AGAIN) {
        rc = llm_snapshot_finish(&sn);
        check(rc == LLM_ERROR);
    }

    check((rc == LLM_ERROR) == (sn.error != NULL));

    if (rc == LLM_DECLINED) {
        last = llm_snapshot_write_end(&again, piece);
        check(written + (size_t) (last - piece) == size);
        check(memcmp(piece, file + written, last - piece) == 0);
    }

    return rc;
}


/* one row for each 64 bytes of the input, if they make one */

static size_t
encode(const uint8_t *p, size_t size, unsigned char *file)
{
    unsigned             i;
    llm_tally_t         *tally;
    unsigned char       *last, *next;
    llm_snapshot_t       sn;
    llm_snapshot_row_t   row;

    last = llm_snapshot_write_head(&sn, 1, file);

    for ( /* void */ ; size >= 64; size -= 64, p += 64) {
        memset(&row, 0, sizeof(llm_snapshot_row_t));

        row.name.len = p[0] & 63;
        row.name.data = (unsigned char *) p + 1;

        for (i = 0; i < 4; i++) {
            tally = i < 2 ? &row.day[i] : &row.month[i - 2];

            if (p[1] & 1 << i) {
                memcpy(&tally->period, p + 4 * i, 4);
                memcpy(&tally->requests, p + 8 * i, 8);
                memcpy(&tally->tokens, p + 9 * i, 8);
                memcpy(&tally->money, p + 10 * i, 8);
            }
        }

        next = llm_snapshot_write_row(&sn, &row, last);
        check(next == NULL || next - last <= LLM_SNAPSHOT_PIECE);
        last = next != NULL ? next : last;
    }

    last = llm_snapshot_write_end(&sn, last);
    check(sn.offset == (uint64_t) (last - file));

    return (size_t) (last - file);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int             rc;
    size_t          at, len;
    uint8_t         change, *file;

    rc = decode(p, size, SIZE_MAX / 2);
    check(decode(p, size, 1 + size / 3) == rc);
    check(decode(p, size, 1) == rc);

    if (size < 4) {
        return 0;
    }

    file = malloc((size / 64 + 2) * LLM_SNAPSHOT_PIECE);
    len = encode(p + 4, size - 4, file);
    at = ((size_t) p[0] << 16 | (size_t) p[1] << 8 | p[2]) % len;
    change = p[3];

    check(decode(file, len, 1 + at) == LLM_DECLINED);
    check(decode(file, len - 1, len) == LLM_ERROR);

    if (change != 0) {
        file[at] ^= change;
        check(decode(file, len, len) == LLM_ERROR);
    }

    free(file);

    return 0;
}
