
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_entry.h"


static void
make(llm_entry_t *e, unsigned char *body, size_t len)
{
    static const llm_str_t  type = llm_string("application/json");
    static const llm_str_t  provider = llm_string("openai");
    static const llm_str_t  model = llm_string("gpt-4o-mini");

    memset(e, 0, sizeof(llm_entry_t));

    e->created = 1763700000123ULL;
    e->ttl = 3600;
    e->stale_error = 86400;
    e->stale_renew = UINT32_MAX;
    e->endpoint = LLM_RESPONSES;
    e->cost = 0x123456789aLL;
    e->usage.prompt_tokens = 12;
    e->usage.cached_tokens = -1;
    e->usage.completion_tokens = INT64_MAX;
    e->usage.reasoning_tokens = 0;
    e->usage.total_tokens = 4711;
    e->content_type = type;
    e->provider = provider;
    e->model = model;
    e->body.data = body;
    e->body.len = len;
}


/* in a block of its own, so that a step too far is seen by a checker */

static unsigned char *
store(const llm_entry_t *e, size_t *size)
{
    size_t          head;
    unsigned char  *p, *body;

    head = llm_entry_head_size(e);
    *size = head + e->body.len;
    p = malloc(*size + 1);
    p[*size] = 0xa5;

    body = llm_entry_encode_head(e, p);

    assert_ptr_equal(body, p + head);

    if (e->body.len != 0) {
        memcpy(body, e->body.data, e->body.len);
    }

    assert_int_equal(p[*size], 0xa5);

    return p;
}


static unsigned char *
clone(const unsigned char *p, size_t size)
{
    unsigned char  *copy;

    copy = malloc(size == 0 ? 1 : size);
    memcpy(copy, p, size);

    return copy;
}


static void
assert_str(const llm_str_t *a, const llm_str_t *b)
{
    assert_int_equal(a->len, b->len);

    if (a->len != 0) {
        assert_memory_equal(a->data, b->data, a->len);
    }
}


static void
assert_same(const llm_entry_t *a, const llm_entry_t *b)
{
    assert_int_equal(a->created, b->created);
    assert_int_equal(a->ttl, b->ttl);
    assert_int_equal(a->stale_error, b->stale_error);
    assert_int_equal(a->stale_renew, b->stale_renew);
    assert_int_equal(a->endpoint, b->endpoint);
    assert_int_equal(a->cost, b->cost);
    assert_memory_equal(&a->usage, &b->usage, sizeof(llm_usage_t));
    assert_str(&a->content_type, &b->content_type);
    assert_str(&a->provider, &b->provider);
    assert_str(&a->model, &b->model);
    assert_str(&a->body, &b->body);
}


static void
test_round_trip(void **state)
{
    size_t          len, size;
    llm_entry_t     e, d;
    unsigned char   body[300], *p, *copy;

    (void) state;

    for (len = 0; len < sizeof(body); len++) {
        body[len] = (unsigned char) (len * 7);
    }

    for (len = 0; len < sizeof(body); len++) {
        make(&e, body, len);
        p = store(&e, &size);
        copy = clone(p, size);

        memset(&d, 0xff, sizeof(llm_entry_t));
        assert_int_equal(llm_entry_decode(&d, copy, size), LLM_OK);
        assert_same(&e, &d);
        assert_ptr_equal(d.body.data, copy + size - len);

        free(copy);
        free(p);
    }
}


static void
test_empty(void **state)
{
    size_t          size;
    llm_entry_t     e, d;
    unsigned char  *p;

    (void) state;

    memset(&e, 0, sizeof(llm_entry_t));

    p = store(&e, &size);

    assert_int_equal(llm_entry_decode(&d, p, size), LLM_OK);
    assert_same(&e, &d);

    free(p);
}


/* unaligned, as it lies in a reply */

static void
test_unaligned(void **state)
{
    size_t          size, off;
    llm_entry_t     e, d;
    unsigned char  *p, *q, body[] = "0123456789abcdefghijklmnopqrstuvwxyz";

    (void) state;

    make(&e, body, sizeof(body));
    p = store(&e, &size);

    for (off = 0; off < 8; off++) {
        q = malloc(size + off);
        memcpy(q + off, p, size);

        assert_int_equal(llm_entry_decode(&d, q + off, size), LLM_OK);
        assert_same(&e, &d);

        free(q);
    }

    free(p);
}


/* the bytes themselves: what one machine writes another one reads */

static void
test_layout(void **state)
{
    size_t          size;
    llm_entry_t     e;
    unsigned char  *p, body[] = "{\"a\":1}";

    static const unsigned char  start[] = {
        'n', 'L', 'L', 'M', 2, 0, 0, 0, 16, 0, 0, 0, 6, 0, 0, 0,
        11, 0, 0, 0, 0x10, 0x0e, 0, 0,
        0x7b, 0x45, 0xb6, 0xa4, 0x9a, 0x01, 0, 0, 7, 0, 0, 0, 0, 0, 0, 0,
        12, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
        255, 255, 255, 255, 255, 255, 255, 127, 0, 0, 0, 0, 0, 0, 0, 0,
        0x67, 0x12, 0, 0, 0, 0, 0, 0,
        0x9a, 0x78, 0x56, 0x34, 0x12, 0, 0, 0,
        0x80, 0x51, 1, 0, 255, 255, 255, 255, 3, 0, 0, 0, 0, 0, 0, 0,
        232, 176, 9, 220, 21, 95, 40, 26,
        224, 246, 154, 2, 201, 43, 132, 159
    };

    (void) state;

    make(&e, body, 7);
    p = store(&e, &size);

    assert_int_equal(size, sizeof(start) + 16 + 6 + 11 + 7);
    assert_memory_equal(p, start, sizeof(start));
    assert_memory_equal(p + sizeof(start),
                        "application/jsonopenaigpt-4o-mini{\"a\":1}", 40);

    free(p);
}


static void
test_truncation(void **state)
{
    size_t          size, len;
    llm_entry_t     e, d;
    unsigned char  *p, *copy, body[] = "{\"choices\":[{\"index\":0}]}";

    (void) state;

    make(&e, body, sizeof(body) - 1);
    p = store(&e, &size);

    for (len = 0; len < size; len++) {
        copy = clone(p, len);
        assert_int_equal(llm_entry_decode(&d, copy, len), LLM_DECLINED);
        free(copy);
    }

    /* nor may there be more than was stored */

    copy = malloc(size + 8);
    memcpy(copy, p, size);
    memset(copy + size, 0, 8);

    for (len = size + 1; len <= size + 8; len++) {
        assert_int_equal(llm_entry_decode(&d, copy, len), LLM_DECLINED);
    }

    free(copy);
    free(p);
}


static void
test_damage(void **state)
{
    int             bit;
    size_t          size, i, k;
    llm_entry_t     e, d;
    unsigned char  *p, *copy, body[] = "{\"choices\":[{\"index\":0}]}..";

    (void) state;

    make(&e, body, sizeof(body));
    p = store(&e, &size);
    copy = clone(p, size);

    for (i = 0; i < size; i++) {
        for (bit = 0; bit < 8; bit++) {
            copy[i] ^= (unsigned char) (1 << bit);
            assert_int_equal(llm_entry_decode(&d, copy, size), LLM_DECLINED);

            /* and one more bit: the same one in every other byte */

            for (k = i + 1; k < size; k++) {
                copy[k] ^= (unsigned char) (1 << bit);
                assert_int_equal(llm_entry_decode(&d, copy, size),
                                 LLM_DECLINED);
                copy[k] ^= (unsigned char) (1 << bit);
            }

            copy[i] ^= (unsigned char) (1 << bit);
        }
    }

    assert_int_equal(llm_entry_decode(&d, copy, size), LLM_OK);

    /* words that changed places */

    memcpy(copy + size - 16, p + size - 8, 8);
    memcpy(copy + size - 8, p + size - 16, 8);
    assert_int_equal(llm_entry_decode(&d, copy, size), LLM_DECLINED);

    free(copy);
    free(p);
}


/* a body of another entry with the same length */

static void
test_body(void **state)
{
    size_t          size;
    llm_entry_t     e, d;
    unsigned char  *p, body[64];

    (void) state;

    memset(body, 0, sizeof(body));
    make(&e, body, sizeof(body));
    p = store(&e, &size);

    assert_int_equal(llm_entry_decode(&d, p, size), LLM_OK);

    memset(p + size - sizeof(body), 1, sizeof(body));
    assert_int_equal(llm_entry_decode(&d, p, size), LLM_DECLINED);

    free(p);
}


/* lengths that are too large, and a body that makes the sum come right */

static void
test_lengths(void **state)
{
    int             i, k, at;
    size_t          size;
    uint64_t        head, body;
    llm_entry_t     e, d;
    unsigned char  *p;

    (void) state;

    for (at = 8; at <= 16; at += 4) {
        for (i = 0; i < 32; i++) {

            make(&e, NULL, 0);
            p = store(&e, &size);

            for (k = 0; k < 4; k++) {
                p[at + k] = (unsigned char) (0xffffffff >> i >> 8 * k);
            }

            head = 120 + (at == 8 ? 0 : e.content_type.len)
                   + (at == 12 ? 0 : e.provider.len)
                   + (at == 16 ? 0 : e.model.len) + (0xffffffff >> i);
            body = size - head;

            for (k = 0; k < 8; k++) {
                p[32 + k] = (unsigned char) (body >> 8 * k);
            }

            assert_int_equal(llm_entry_decode(&d, p, size), LLM_DECLINED);
            free(p);
        }
    }
}


/* the checksums are right, but not what they were made of */

static void
test_values(void **state)
{
    unsigned        i;
    size_t          size;
    int64_t        *value;
    llm_entry_t     e, d;
    unsigned char  *p, body[] = "{}";

    (void) state;

    for (i = 0; i < LLM_ENDPOINTS + 2; i++) {
        make(&e, body, 2);
        e.endpoint = i;
        p = store(&e, &size);

        assert_int_equal(llm_entry_decode(&d, p, size),
                         i < LLM_ENDPOINTS ? LLM_OK : LLM_DECLINED);
        free(p);
    }

    for (i = 0; i < 6 * 4; i++) {
        make(&e, body, 2);

        value = i / 4 == 5 ? &e.cost : &e.usage.prompt_tokens + i / 4;
        *value = i % 4 == 3 ? INT64_MIN : 0 - (int64_t) (i % 4);

        p = store(&e, &size);

        assert_int_equal(llm_entry_decode(&d, p, size),
                         *value >= (i / 4 == 5 ? 0 : -1)
                         ? LLM_OK : LLM_DECLINED);
        free(p);
    }
}


/*
 * An entry as the version before wrote it, whole and undamaged in its own
 * terms, and this version's with another number.
 */

static void
test_version(void **state)
{
    int             version;
    size_t          size;
    llm_entry_t     e, d;
    unsigned char  *p, body[] = "{}", old[] = {
        110, 76, 76, 77, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 60,
        0, 0, 0, 32, 237, 31, 105, 0, 0, 0, 0, 28, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 130, 192, 175, 118, 6,
        115, 220, 76, 82, 18, 92, 19, 2, 130, 99, 46, 123, 34, 105, 100, 34,
        58, 34, 99, 109, 112, 108, 45, 49, 34, 44, 34, 99, 104, 111, 105, 99,
        101, 115, 34, 58, 91, 93, 125
    };

    (void) state;

    assert_int_equal(llm_entry_decode(&d, old, sizeof(old)), LLM_DECLINED);

    make(&e, body, 2);

    for (version = 0; version < 256; version++) {
        p = store(&e, &size);
        p[4] = (unsigned char) version;

        assert_int_equal(llm_entry_decode(&d, p, size),
                         version == 2 ? LLM_OK : LLM_DECLINED);
        free(p);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_unaligned),
        cmocka_unit_test(test_layout),
        cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_body),
        cmocka_unit_test(test_lengths),
        cmocka_unit_test(test_values),
        cmocka_unit_test(test_version)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
