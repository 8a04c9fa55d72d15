
/*
 * Copyright (C) the ngx-llm authors
 *
 * The first byte chooses the endpoint and how much memory there is.  What is
 * accepted must be accepted again in its canonical form, and that form must
 * be its own.  Built without libFuzzer (-DFUZZ_MAIN) it reads files.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_request.h"
#include "fuzz_main.h"


typedef struct {
    unsigned char        *data;
    size_t                len;
    size_t                size;
} fuzz_bytes_t;


static void  *blocks[64];
static int    nblocks;


static void *
take(void *data, size_t size)
{
    (void) data;

    if (nblocks == 64) {
        return NULL;
    }

    return blocks[nblocks++] = malloc(size);
}


static void
give_back(void)
{
    while (nblocks > 0) {
        free(blocks[--nblocks]);
    }
}


static void
sink(void *data, const unsigned char *p, size_t len)
{
    fuzz_bytes_t  *b = data;

    check(len > 0);

    if (b->len + len > b->size) {
        b->size = (b->len + len) * 2;
        b->data = realloc(b->data, b->size);
    }

    memcpy(b->data + b->len, p, len);
    b->len += len;
}


/* the canonical bytes, or nothing */

static int
digest(llm_endpoint_e endpoint, const unsigned char *p, size_t len,
    size_t limit, fuzz_bytes_t *b)
{
    int                  rc;
    llm_arena_t          arena;
    llm_request_t        rq;
    unsigned char       *copy;
    llm_request_error_t  err;

    copy = malloc(len + 1);
    memcpy(copy, p, len);
    copy = realloc(copy, len != 0 ? len : 1);

    memset(&arena, 0, sizeof(arena));
    arena.left = limit;
    arena.alloc = take;

    memset(b, 0, sizeof(fuzz_bytes_t));

    rc = llm_request_parse(&rq, endpoint, copy, len, 1, &arena, &err);

    if (rc == LLM_OK) {
        check(rq.model.len > 0 && rq.model.len <= 256);
        check(rq.model_start < rq.model_end && rq.model_end <= len);
        check(copy[rq.model_start] == '"' && copy[rq.model_end - 1] == '"');
        check(rq.n >= 1 && rq.n <= 128 && rq.max_tokens >= -1);
        check(rq.prompt_bytes <= len);

        rc = llm_request_digest(&rq, &arena, sink, b);

    } else {
        check(rc == LLM_ERROR && err.code != NULL && err.offset <= len);
        check(strlen(err.text) > 0 && strlen(err.text) < sizeof(err.text));
    }

    give_back();
    free(copy);

    return rc;
}


/* canonical bytes are JSON but for raw control characters in strings */

static unsigned char *
respell(const fuzz_bytes_t *b, size_t *len)
{
    size_t          i;
    unsigned char  *out, *p;

    static const char  head[] = "{\"model\":\"m\"";

    out = malloc(b->len * 6 + sizeof(head) + 1);
    p = out + sprintf((char *) out, "%s%s", head, b->len > 2 ? "," : "");

    for (i = 1; i < b->len; i++) {

        if (b->data[i] < 0x20) {
            p += sprintf((char *) p, "\\u%04x", b->data[i]);
            continue;
        }

        *p++ = b->data[i];
    }

    *len = (size_t) (p - out);

    return out;
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          len, limit;
    fuzz_bytes_t    first, again;
    unsigned char  *text;
    llm_endpoint_e  endpoint;

    if (size == 0) {
        return 0;
    }

    endpoint = (llm_endpoint_e) (p[0] % LLM_ENDPOINTS);
    limit = p[0] & 0x80 ? (size_t) (p[0] & 0x7c) * 64 : 16 * 1024 * 1024;

    if (digest(endpoint, p + 1, size - 1, limit, &first) == LLM_OK
        && !(p[0] & 0x80))
    {
        check(first.len >= 2);

        text = respell(&first, &len);

        /* a member of the top object that is left out may not be missing */

        check(digest(endpoint, text, len, limit, &again) == LLM_OK);
        check(again.len == first.len);
        check(memcmp(again.data, first.data, first.len) == 0);

        free(again.data);
        free(text);
    }

    free(first.data);

    return 0;
}
