
/*
 * Copyright (C) the ngx-llm authors
 *
 * A stream in one piece and the same stream in pieces must come to the same
 * events.  The first byte of the input says how large the pieces are.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_sse.h"
#include "fuzz_main.h"


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


typedef struct {
    uint64_t        hash;
    size_t          consumed;
    unsigned        events;
    llm_sse_text_t  text;
} result_t;


static void *
get(void *data, size_t size)
{
    void  **block = data;

    check(*block == NULL);
    *block = malloc(size);

    return *block;
}


static void
add(result_t *res, const void *data, size_t len)
{
    const unsigned char  *p = data;

    while (len-- != 0) {
        res->hash = (res->hash ^ *p++) * 0x100000001b3ULL;
    }
}


/* whatever the event was, what ends the stream fits its room */

static void
final(llm_endpoint_e endpoint, const llm_str_t *data, uint64_t open)
{
    unsigned char    *buf, *end;
    llm_sse_stamp_t   st;

    llm_sse_stamp(&st, endpoint, data);

    check(st.sequence >= -1);

    buf = malloc(llm_sse_final_size(&st));
    end = llm_sse_final(buf, endpoint, &st, open, 1, INT64_MAX / 4,
                        INT64_MAX / 4);

    check((size_t) (end - buf) <= llm_sse_final_size(&st));
    check(end[-1] == '\n' && end[-2] == '\n');

    free(buf);
}


static void
one(result_t *res, llm_endpoint_e endpoint, const unsigned char *p,
    size_t len)
{
    int             rc;
    void           *block;
    size_t          before, same;
    unsigned        bits;
    llm_str_t       data;
    llm_usage_t     usage;
    llm_arena_t     arena;
    unsigned char  *event, *copy;
    llm_sse_text_t  known;

    event = malloc(len == 0 ? 1 : len);
    memcpy(event, p, len);
    block = NULL;

    arena.pos = NULL;
    arena.end = NULL;
    arena.left = len + 16;
    arena.alloc = get;
    arena.data = &block;

    memset(&usage, 0xff, sizeof(llm_usage_t));

    before = res->text.bytes;

    /* what is known by its shape is what reading it comes to */

    known = res->text;
    same = llm_sse_same(event, len, &known);

    bits = llm_sse_classify(endpoint, event, len, &usage, &res->text);

    check(same == 0 || (same == len && bits == LLM_SSE_DATA
                        && known.bytes == res->text.bytes
                        && known.begun == res->text.begun
                        && known.finished == res->text.finished));

    check(res->text.bytes - before <= len);
    check((res->text.finished & ~res->text.begun) == 0);
    check(bits == llm_sse_classify(endpoint, event, len, NULL, NULL));

    check(memcmp(event, p, len) == 0);
    check(bits < 0x80);
    check(usage.total_tokens >= -1);
    check((bits & LLM_SSE_USAGE) || usage.total_tokens == -1);
    check((bits & LLM_SSE_DATA) || (bits & ~LLM_SSE_ERROR) == 0);

    /* what is to be taken out of an event has been seen */

    copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, p, len);
    check(llm_sse_clean(copy, len) != LLM_OK || (bits & LLM_SSE_NULLED));
    free(copy);

    rc = llm_sse_data(event, len, &arena, &data);

    check(rc == ((bits & LLM_SSE_DATA) ? LLM_OK : LLM_DECLINED));

    /* what has neither is of no account: a line feed may be all there is */

    if (bits != 0) {
        add(res, &bits, sizeof(bits));
        add(res, &usage, sizeof(llm_usage_t));
        res->events++;
    }

    if (rc == LLM_OK) {
        check(data.len <= len);
        add(res, data.data, data.len);
        add(res, &data.len, sizeof(data.len));

        final(endpoint, &data, res->text.begun);
    }

    free(block);
    free(event);
}


static void
feed(result_t *res, llm_endpoint_e endpoint, const unsigned char *p,
    size_t len, size_t step)
{
    size_t          have, start, scan, n, same;
    unsigned char  *window;
    llm_sse_text_t  known;

    memset(res, 0, sizeof(result_t));

    start = 0;
    scan = 0;

    for (have = 0; have < len; /* void */ ) {
        have += step < len - have ? step : len - have;

        window = malloc(have - start);
        memcpy(window, p + start, have - start);

        known = res->text;
        same = scan == 0 ? llm_sse_same(window, have - start, &known) : 0;

        n = llm_sse_next(window, have - start, &scan);
        check(n <= have - start);
        check(same == 0 || same == n);

        if (n == 0) {
            check(scan == have - start);
            free(window);
            continue;
        }

        one(res, endpoint, window, n);
        free(window);

        start += n;
        scan = 0;
        have = start;
    }

    /* the end of a stream ends its last event */

    one(res, endpoint, p + start, len - start);

    res->consumed = start;
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          step;
    result_t        whole, pieces;
    llm_endpoint_e  endpoint;

    if (size < 1) {
        return 0;
    }

    step = (size_t) (p[0] & 0x3f) + 1;
    endpoint = p[0] >> 6 == 3 ? LLM_RESPONSES : (llm_endpoint_e) (p[0] >> 6);

    p++;
    size--;

    feed(&whole, endpoint, p, size, size);
    feed(&pieces, endpoint, p, size, step);

    check(whole.hash == pieces.hash);
    check(whole.events == pieces.events);
    check(whole.text.bytes == pieces.text.bytes);

    /* a line feed behind the end of an event may be left over in one case */

    check(whole.consumed - pieces.consumed <= 1);

    return 0;
}
