
/*
 * Copyright (C) the ngx-llm authors
 *
 * The first line is a traceparent, the second a tracestate, the third is put
 * into a span: a header that is taken is written again as it was, and a span
 * is JSON whatever is in it.
 */


#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/llm_span.h"
#include "fuzz_main.h"


/* a copy that ends where the memory ends; *p goes behind the line */

static unsigned char *
line(const uint8_t **p, size_t *size, size_t *len)
{
    const uint8_t  *lf;
    unsigned char  *copy;

    lf = *size != 0 ? memchr(*p, '\n', *size) : NULL;
    *len = lf != NULL ? (size_t) (lf - *p) : *size;

    copy = malloc(*len != 0 ? *len : 1);

    if (*len != 0) {
        memcpy(copy, *p, *len);
    }

    *p += *len + (lf != NULL);
    *size -= *len + (lf != NULL);

    return copy;
}


static void
parent(const unsigned char *p, size_t len)
{
    llm_trace_t    tr;
    unsigned char  out[LLM_TRACEPARENT_LEN];

    memset(&tr, 0, sizeof(tr));

    if (llm_trace_parse(&tr, p, len) != LLM_OK) {
        check(!tr.known);
        return;
    }

    check(tr.known && len >= LLM_TRACEPARENT_LEN);

    llm_trace_write(out, &tr, tr.parent);

    /* the version is ours, of the flags there are those that we know */

    check(memcmp(out + 3, p + 3, LLM_TRACEPARENT_LEN - 5) == 0);
    check(memcmp(tr.trace, p + 3, LLM_TRACE_ID_LEN) == 0);

    memset(&tr, 0, sizeof(tr));
    check(llm_trace_parse(&tr, out, sizeof(out)) == LLM_OK);

    /* nothing behind it is taken in the version that is known */

    if (memcmp(p, "00", 2) == 0) {
        check(len == LLM_TRACEPARENT_LEN);
    }
}


static void
state(const unsigned char *p, size_t len)
{
    size_t  i;

    if (llm_trace_state(p, len) != LLM_OK) {
        return;
    }

    check(len <= LLM_TRACESTATE_LEN);

    for (i = 0; i < len; i++) {
        check(p[i] == '\t' || (p[i] >= 0x20 && p[i] < 0x7f));
    }
}


static void
span(const unsigned char *p, size_t len)
{
    size_t          n, size;
    json_t         *root;
    llm_span_t      sp;
    unsigned char  *out;

    memset(&sp, 0, sizeof(sp));

    sp.trace = (const unsigned char *) "0123456789abcdef0123456789abcdef";
    sp.id = sp.parent = (const unsigned char *) "0123456789abcdef";
    sp.operation = "chat";
    sp.subject.data = (unsigned char *) p;
    sp.subject.len = len;
    sp.kind = LLM_SPAN_SERVER;
    sp.failed = len & 1;

    llm_span_text(&sp, "text", p, len);
    llm_span_number(&sp, "number", (llm_span_type_e) (1 + len % 3),
                    len != 0 ? (int64_t) p[0] - 128 : 0);

    for (size = 16; /* void */ ; size *= 2) {
        out = malloc(size);
        n = llm_span_write(out, size, &sp);

        if (n != 0) {
            break;
        }

        free(out);
        check(size < 65536);
    }

    check(n <= size);

    root = json_loadb((char *) out, n, JSON_REJECT_DUPLICATES
                      |JSON_ALLOW_NUL, NULL);
    check(json_is_object(root));

    json_decref(root);
    free(out);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          len;
    unsigned char  *copy;

    copy = line(&p, &size, &len);
    parent(copy, len);
    free(copy);

    copy = line(&p, &size, &len);
    state(copy, len);
    free(copy);

    copy = malloc(size != 0 ? size : 1);

    if (size != 0) {
        memcpy(copy, p, size);
    }

    span(copy, size);
    free(copy);

    return 0;
}
