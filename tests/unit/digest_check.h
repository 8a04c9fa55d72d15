
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the tests of the digest share.
 */


#ifndef _DIGEST_CHECK_H_INCLUDED_
#define _DIGEST_CHECK_H_INCLUDED_


#include "json_check.h"

#include "core/llm_request.h"


#define SIZE  (1024 * 1024)


typedef struct {
    size_t                len;
    size_t                calls;
    unsigned char        *data;
} bytes_t;


static inline void
sink(void *data, const unsigned char *p, size_t len)
{
    bytes_t  *b = data;

    assert_true(len > 0 && b->len + len <= SIZE);

    memcpy(b->data + b->len, p, len);
    b->len += len;
    b->calls++;
}


static inline void
digest(bytes_t *b, llm_endpoint_e endpoint, const char *body)
{
    int                  i;
    size_t               len, first;
    llm_request_t        rq;
    unsigned char       *text;
    check_memory_t       m;
    llm_request_error_t  err;

    len = strlen(body);
    text = check_copy(body, len);
    check_memory(&m, SIZE, -1);

    if (llm_request_parse(&rq, endpoint, text, len, 1, &m.arena, &err)
        != LLM_OK)
    {
        fail_msg("%s: %s at %zu", body, err.text, err.offset);
    }

    b->data = malloc(SIZE);
    b->len = 0;
    b->calls = 0;
    first = 0;

    /* asked again it says the same */

    for (i = 0; i < 2; i++) {
        first = b->len;
        b->len = 0;
        b->calls = 0;
        assert_int_equal(llm_request_digest(&rq, &m.arena, sink, b), LLM_OK);
    }

    assert_int_equal(first, b->len);

    free(text);
    check_memory_free(&m);
}


static inline int
same(llm_endpoint_e endpoint, const char *a, const char *b)
{
    int      equal;
    bytes_t  x, y;

    digest(&x, endpoint, a);
    digest(&y, endpoint, b);

    equal = x.len == y.len && memcmp(x.data, y.data, x.len) == 0;

    free(x.data);
    free(y.data);

    return equal;
}


#define CHAT(more)  "{\"model\":\"a\",\"messages\":[]" more "}"


#endif /* _DIGEST_CHECK_H_INCLUDED_ */
