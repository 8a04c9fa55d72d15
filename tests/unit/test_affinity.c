
/*
 * Copyright (C) the ngx-llm authors
 */


#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "core/llm_affinity.h"


static const llm_affinity_t  sample = {
    llm_string("t:search"), llm_string("openai"), llm_string("gpt-4o")
};


static void
is(const llm_str_t *s, const char *expected)
{
    assert_int_equal(s->len, strlen(expected));

    if (s->len != 0) {
        assert_memory_equal(s->data, expected, s->len);
    }
}


/* in memory of just that size, so that a sanitizer sees every byte too far */

static unsigned char *
copy(const void *p, size_t len)
{
    unsigned char  *m;

    m = malloc(len != 0 ? len : 1);
    assert_non_null(m);

    memcpy(m, p, len);

    return m;
}


static void
test_record(void **state)
{
    size_t           len;
    unsigned char   *p;
    llm_affinity_t   af;

    (void) state;

    len = llm_affinity_size(&sample);
    assert_int_equal(len, 7 + 8 + 6 + 6);

    p = malloc(len);
    llm_affinity_encode(&sample, p);

    assert_int_equal(llm_affinity_decode(&af, p, len), LLM_OK);
    is(&af.owner, "t:search");
    is(&af.provider, "openai");
    is(&af.model, "gpt-4o");

    free(p);

    memset(&af, 0, sizeof(af));
    len = llm_affinity_size(&af);
    p = malloc(len);
    llm_affinity_encode(&af, p);

    assert_int_equal(llm_affinity_decode(&af, p, len), LLM_OK);
    is(&af.owner, "");
    is(&af.provider, "");
    is(&af.model, "");

    free(p);
}


static void
test_record_long(void **state)
{
    size_t           len;
    unsigned char   *p, text[LLM_AFFINITY_MAX];
    llm_affinity_t   af, back;

    (void) state;

    memset(text, 'x', sizeof(text));

    af = sample;
    af.model.data = text;
    af.model.len = LLM_AFFINITY_MAX - 7 - 14;

    len = llm_affinity_size(&af);
    assert_int_equal(len, LLM_AFFINITY_MAX);

    p = malloc(len);
    llm_affinity_encode(&af, p);
    assert_int_equal(llm_affinity_decode(&back, p, len), LLM_OK);
    assert_int_equal(back.model.len, af.model.len);
    free(p);

    af.model.len++;
    assert_int_equal(llm_affinity_size(&af), 0);

    af.model.len = SIZE_MAX;
    assert_int_equal(llm_affinity_size(&af), 0);

    af = sample;
    af.owner.len = LLM_AFFINITY_MAX;
    assert_int_equal(llm_affinity_size(&af), 0);

    af = sample;
    af.provider.len = SIZE_MAX - 4;
    assert_int_equal(llm_affinity_size(&af), 0);
}


/* cut, lengthened, or with any byte of its head changed */

static void
test_record_damaged(void **state)
{
    size_t           i, len;
    unsigned         bit;
    unsigned char   *p, good[64];
    llm_affinity_t   af;

    (void) state;

    len = llm_affinity_size(&sample);
    llm_affinity_encode(&sample, good);
    good[len] = 'x';

    for (i = 0; i <= len + 1; i++) {

        p = copy(good, i);
        assert_int_equal(llm_affinity_decode(&af, p, i),
                         i == len ? LLM_OK : LLM_DECLINED);
        free(p);
    }

    for (i = 0; i < 7; i++) {
        for (bit = 0; bit < 8; bit++) {

            p = copy(good, len);
            p[i] ^= (unsigned char) (1u << bit);
            assert_int_equal(llm_affinity_decode(&af, p, len), LLM_DECLINED);
            free(p);
        }
    }
}


static void
id(const char *body, const char *expected)
{
    int             rc;
    llm_str_t       s;
    unsigned char  *p;

    p = copy(body, strlen(body));
    rc = llm_affinity_id(p, strlen(body), &s);

    if (rc != (expected ? LLM_OK : LLM_DECLINED)) {
        fail_msg("%s: %d", body, rc);
    }

    if (expected) {
        is(&s, expected);
    }

    free(p);
}


static void
test_id(void **state)
{
    (void) state;

    id("{\"id\":\"resp_1\",\"object\":\"response\"}", "resp_1");
    id(" { \"object\" : \"response\" , \"id\" : \"r\" } ", "r");
    id("{\"a\":{\"id\":\"no\"},\"b\":[{\"id\":\"no\"},[[]]],\"c\":1.5,\"d\":"
       "null,\"id\":\"yes\"}", "yes");
    id("{\"output\":[{\"id\":\"no\"}],\"response\":null,\"id\":\"yes\"}",
       "yes");

    /* an event */
    id("{\"type\":\"response.created\",\"response\":{\"object\":\"response\","
       "\"id\":\"resp_2\"}}", "resp_2");
    id("{\"sequence_number\":0,\"response\":{\"a\":{\"response\":{\"id\":"
       "\"no\"}},\"id\":\"yes\"},\"id\":\"later\"}", "yes");
    id("{\"a\":{\"response\":{\"id\":\"no\"}}}", NULL);
    id("{\"response\":{}}", NULL);
    id("{\"response\":{},\"id\":\"later\"}", NULL);

    /* the rest is yet to come */
    id("{\"id\":\"resp_3\",\"output\":[{\"te", "resp_3");
    id("{\"response\":{\"id\":\"resp_4\"", "resp_4");
}


static void
test_id_none(void **state)
{
    char       body[600], *p;
    llm_str_t  s;

    (void) state;

    id("", NULL);
    id(" ", NULL);
    id("[]", NULL);
    id("\"id\"", NULL);
    id("{", NULL);
    id("{}", NULL);
    id("{\"id\"", NULL);
    id("{\"id\":", NULL);
    id("{\"id\":\"resp", NULL);
    id("{\"id\":\"\"}", NULL);
    id("{\"id\":null}", NULL);
    id("{\"id\":17}", NULL);
    id("{\"id\":{\"id\":\"a\"}}", NULL);
    id("{\"id\":[\"a\"]}", NULL);
    id("{\"id\":\"a\\u0062\"}", NULL);
    id("{\"object\":nul,\"id\":\"a\"}", NULL);
    id("{\"a\":[1,\"id\":\"a\"}", NULL);
    id("{\"output\":[", NULL);
    id("{\"output\":[]", NULL);

    p = body;
    memcpy(p, "{\"id\":\"", 7);
    memset(p + 7, 'r', LLM_AFFINITY_ID + 1);
    memcpy(p + 7 + LLM_AFFINITY_ID + 1, "\"}", 3);
    id(body, NULL);

    memcpy(p + 7 + LLM_AFFINITY_ID, "\"}", 3);
    p[7 + LLM_AFFINITY_ID + 2] = '\0';

    assert_int_equal(llm_affinity_id((unsigned char *) body, strlen(body),
                                     &s), LLM_OK);
    assert_int_equal(s.len, LLM_AFFINITY_ID);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_record),
        cmocka_unit_test(test_record_long),
        cmocka_unit_test(test_record_damaged),
        cmocka_unit_test(test_id),
        cmocka_unit_test(test_id_none)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
