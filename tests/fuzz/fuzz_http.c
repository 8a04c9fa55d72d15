
/*
 * Copyright (C) the ngx-llm authors
 *
 * An answer in one piece and in pieces must come to the same: status, body,
 * and whether it is whole.  The first byte of the input says how large the
 * pieces are, the second how much of a head fits.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_http.h"
#include "fuzz_main.h"


typedef struct {
    int             rc;
    unsigned        status;
    size_t          taken;
    size_t          bytes;
    uint64_t        hash;
} result_t;


static void
add(result_t *res, const llm_str_t *part)
{
    size_t  i;

    for (i = 0; i < part->len; i++) {
        res->hash = (res->hash ^ part->data[i]) * 0x100000001b3ULL;
    }

    res->bytes += part->len;
}


static void
feed(result_t *res, const unsigned char *p, size_t size, size_t step,
    size_t room)
{
    int                   rc;
    size_t                n, pos;
    llm_str_t             part, value;
    llm_http_t            h;
    unsigned char        *head, *piece;
    const unsigned char  *at;

    memset(res, 0, sizeof(result_t));

    head = malloc(room);
    llm_http_init(&h, head, room);

    rc = LLM_AGAIN;

    for (pos = 0; pos < size && rc == LLM_AGAIN; pos += n) {
        n = step < size - pos ? step : size - pos;

        piece = malloc(n);
        memcpy(piece, p + pos, n);
        at = piece;

        while ((rc = llm_http_next(&h, &at, piece + n, &part)) == LLM_OK) {
            check(part.len > 0);
            check(part.data >= piece && part.data + part.len == at);
            add(res, &part);
        }

        check(at >= piece && at <= piece + n);
        check(rc != LLM_AGAIN || at == piece + n);

        res->taken += (size_t) (at - piece);

        free(piece);
    }

    if (rc == LLM_AGAIN) {
        rc = llm_http_eof(&h);
    }

    res->rc = rc;
    res->status = h.status;

    check(rc == LLM_HTTP_END || rc == LLM_ERROR);

    /* nothing comes behind the end */

    at = p;
    check(llm_http_next(&h, &at, p + size, &part) == rc);
    check(at == p && llm_http_eof(&h) == rc);

    if (rc == LLM_HTTP_END) {
        check(h.status >= 200 && h.status <= 999);

        if (llm_http_header(&h, "content-type", 12, &value) == LLM_OK) {
            check(value.data >= head);
            check(value.data + value.len <= head + h.len);
        }
    }

    free(head);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t    step, room;
    result_t  whole, pieces;

    if (size < 2) {
        return 0;
    }

    step = (size_t) p[0] + 1;
    room = (size_t) p[1] * 4 + 1;

    p += 2;
    size -= 2;

    feed(&whole, p, size, size, room);
    feed(&pieces, p, size, step, room);

    check(whole.rc == pieces.rc);
    check(whole.bytes == pieces.bytes);
    check(whole.hash == pieces.hash);

    if (whole.rc == LLM_HTTP_END) {
        check(whole.status == pieces.status);
        check(whole.taken == pieces.taken);
    }

    return 0;
}
