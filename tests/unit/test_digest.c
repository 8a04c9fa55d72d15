
/*
 * Copyright (C) the ngx-llm authors
 *
 * The canonical bytes: how they look, and that they are not ambiguous.
 */


#include "digest_check.h"

#include "core/llm_canon.h"


static void
canonical(llm_endpoint_e endpoint, const char *body, const char *expected)
{
    bytes_t  b;

    digest(&b, endpoint, body);

    if (b.len != strlen(expected) || memcmp(b.data, expected, b.len) != 0) {
        fail_msg("%s:\n%.*s, expected\n%s", body, (int) b.len, b.data,
                 expected);
    }

    free(b.data);
}


static void
test_form(void **state)
{
    (void) state;

    canonical(LLM_COMPLETIONS, "{\"model\":\"a\"}", "{}");
    canonical(LLM_CHAT, " { \"model\" : \"a\" , \"messages\" : [ ] } ",
              "{\"messages\":[]}");
    canonical(LLM_CHAT, "{\"model\":\"a\",\"messages\":[ {\"role\":\"user\","
              " \"content\": \"x\"} , { } ,\n{\"content\":null}]}",
              "{\"messages\":[{\"content\":\"x\",\"role\":\"user\"},{},"
              "{\"content\":null}]}");

    /* every sorted level */

    canonical(LLM_CHAT, "{\"model\":\"a\",\"messages\":[{\"content\":["
              "{\"file\":{\"file_id\":\"i\",\"file_data\":\"d\"},"
              "\"input_audio\":{\"format\":\"wav\",\"data\":\"x\"}}],"
              "\"function_call\":{\"name\":\"f\",\"arguments\":\"\"},"
              "\"audio\":{\"id\":\"a\",\"b\":1}}]}",
              "{\"messages\":[{\"audio\":{\"b\":1,\"id\":\"a\"},"
              "\"content\":[{\"file\":{\"file_data\":\"d\",\"file_id\":"
              "\"i\"},\"input_audio\":{\"data\":\"x\",\"format\":\"wav\"}}],"
              "\"function_call\":{\"arguments\":\"\",\"name\":\"f\"}}]}");

    canonical(LLM_CHAT, CHAT(",\"logit_bias\":{\"9\":1,\"10\":-100}"),
              "{\"logit_bias\":{\"10\":-1e2,\"9\":1e0},\"messages\":[]}");

    canonical(LLM_CHAT, "{\"model\":\"a\",\"messages\":[{\"role\":\"user\","
              "\"content\":[{\"type\":\"image_url\",\"image_url\":{\"url\":"
              "\"u\",\"detail\":\"low\"},\"prompt_cache_breakpoint\":{}},"
              "{\"text\":\"t\",\"prompt_cache_breakpoint\":{\"a\":1}}]},"
              "{\"role\":\"assistant\",\"tool_calls\":[{\"type\":\"function\","
              "\"id\":\"i\",\"function\":{\"name\":\"f\",\"arguments\":\"{}\""
              "}}]}]}",
              "{\"messages\":[{\"content\":[{\"image_url\":{\"detail\":"
              "\"low\",\"url\":\"u\"},\"type\":\"image_url\"},{\"text\":"
              "\"t\"}],\"role\":\"user\"},{\"role\":\"assistant\","
              "\"tool_calls\":[{\"function\":{\"arguments\":\"{}\",\"name\":"
              "\"f\"},\"id\":\"i\",\"type\":\"function\"}]}]}");

    /* schemas keep their order */

    canonical(LLM_CHAT, CHAT(",\"tools\":[{\"type\":\"function\","
              "\"function\":{\"parameters\":{\"z\":{\"y\":1, \"x\":[ {\"b\":1,"
              "\"a\":2}]}, \"a\":1},\"name\":\"f\"}}]"),
              "{\"messages\":[],\"tools\":[{\"function\":{\"name\":\"f\","
              "\"parameters\":{\"z\":{\"y\":1,\"x\":[{\"b\":1,\"a\":2}]},"
              "\"a\":1}},\"type\":\"function\"}]}");

    canonical(LLM_CHAT, CHAT(",\"response_format\":{\"type\":\"json_schema\","
              "\"json_schema\":{\"schema\":{\"b\":1,\"a\":2},\"name\":\"n\"}}"
              ",\"functions\":[{\"parameters\":{\"b\":1,\"a\":2},"
              "\"name\":\"g\"}]"),
              "{\"functions\":[{\"name\":\"g\",\"parameters\":{\"b\":1,\"a\":2"
              "}}],\"messages\":[],\"response_format\":{\"json_schema\":"
              "{\"name\":\"n\",\"schema\":{\"b\":1,\"a\":2}},\"type\":"
              "\"json_schema\"}}");

    canonical(LLM_RESPONSES, "{\"model\":\"a\",\"text\":{\"format\":{\"type\""
              ":\"json_schema\",\"schema\":{\"b\":1,\"a\":2}}},"
              "\"tools\":[{\"type\":\"function\",\"parameters\":{\"d\":1,"
              "\"c\":2},\"name\":\"h\"}]}",
              "{\"text\":{\"format\":{\"schema\":{\"b\":1,\"a\":2},\"type\":"
              "\"json_schema\"}},\"tools\":[{\"name\":\"h\",\"parameters\":"
              "{\"d\":1,\"c\":2},\"type\":\"function\"}]}");

    /* what is not known is kept as it is, in its place of the order */

    canonical(LLM_CHAT, CHAT(",\"zz\":{\"b\":null,\"a\":[1.0]},\"aa\":null"),
              "{\"aa\":null,\"messages\":[],\"zz\":{\"b\":null,\"a\":[1e0]}}");
}


static void
test_strings(void **state)
{
    bytes_t  b;

    static const char  bytes[] = "{\"\":3,\"B\":4,\"b\":\"x\0y\",\"b\0\":7,"
                                 "\"bb\":1,\"\xc3\xa9\":5}";

    (void) state;

    canonical(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":\"\\u00e9\\/"
              "\\u003c\\n\\t\\\"\\\\\\u0022\\u005c\\ud83d\\ude00\"}",
              "{\"prompt\":\"\xc3\xa9/<\n\t\\\"\\\\\\\"\\\\\xf0\x9f\x98\x80"
              "\"}");
    canonical(LLM_COMPLETIONS, "{\"model\":\"a\",\"b\\u0022\\\\\":1,"
              "\"a\\u0061\":2}", "{\"aa\":2,\"b\\\"\\\\\":1}");

    /* a zero byte is one byte; names are put in order by bytes */

    digest(&b, LLM_COMPLETIONS, "{\"model\":\"a\",\"b\":\"x\\u0000y\","
           "\"bb\":1,\"B\":4,\"\":3,\"\xc3\xa9\":5,\"b\\u0000\":7}");
    assert_int_equal(b.len, sizeof(bytes) - 1);
    assert_memory_equal(b.data, bytes, b.len);
    free(b.data);
}


static int
real(const char *a, const char *b)
{
    char  x[256], y[256];

    snprintf(x, sizeof(x), CHAT(",\"top_p\":%s"), a);
    snprintf(y, sizeof(y), CHAT(",\"top_p\":%s"), b);

    return same(LLM_CHAT, x, y);
}


static int
exact(const char *a, const char *b)
{
    char  x[256], y[256];

    snprintf(x, sizeof(x), CHAT(",\"top_k\":%s"), a);
    snprintf(y, sizeof(y), CHAT(",\"top_k\":%s"), b);

    return same(LLM_CHAT, x, y);
}


static void
test_numbers(void **state)
{
    unsigned  i, j;

    static const char *const  equal[] = {
        "1.5", "15e-1", "0.15e1", "1.50", "150E-2", "0.0015e+3",
        "1.5e0", "1.5e-0", "1500000e-06", "1.500000000000000000000000e00"
    };

    static const char *const  different[] = {
        "0.1", "1", "10", "100", "1.01", "1.1", "11", "-1", "-0.1", "101",
        "1e300", "1e-300", "10000000000000001", "10000000000000002",
        "1e99999999999999999999", "1e99999999999999999998",
        "1e-99999999999999999999", "0.30000000000000000001", "0.3", "0", "12"
    };

    (void) state;

    for (i = 0; i < sizeof(equal) / sizeof(equal[0]); i++) {
        for (j = 0; j < i; j++) {
            assert_true(real(equal[i], equal[j]));
            assert_true(exact(equal[i], equal[j]));
        }
    }

    for (i = 0; i < sizeof(different) / sizeof(different[0]); i++) {
        assert_true(real(different[i], different[i]));

        for (j = 0; j < i; j++) {
            assert_false(real(different[i], different[j]));
            assert_false(exact(different[i], different[j]));
        }
    }

    /* 1 and 1.0: where a real number is expected, and nowhere else */

    assert_true(real("1", "1.0"));
    assert_true(real("10", "1e1"));
    assert_true(real("100", "100.00"));
    assert_true(real("0", "-0"));
    assert_true(real("0", "0.0"));
    assert_true(real("0", "-0.0e7"));
    assert_true(real("0", "0e99999999999999999999"));
    assert_false(exact("1", "1.0"));
    assert_false(exact("10", "1e1"));
    assert_false(exact("0", "0.0"));
    assert_false(exact("0", "-0"));
    assert_true(exact("0.0", "0e5"));

    canonical(LLM_CHAT, CHAT(",\"temperature\":0.70,\"top_p\":1,"
                             "\"frequency_penalty\":-2,"
                             "\"presence_penalty\":20,\"seed\":"
                             "9007199254740993,\"max_tokens\":10"),
              "{\"frequency_penalty\":-2e0,\"max_tokens\":10,"
              "\"messages\":[],\"presence_penalty\":2e1,"
              "\"seed\":9007199254740993,\"temperature\":7e-1,"
              "\"top_p\":1e0}");
}


static void
test_left_out(void **state)
{
    (void) state;

    canonical(LLM_CHAT, CHAT(",\"stream\":true,\"stream_options\":{\"a\":1},"
                             "\"user\":\"u\",\"safety_identifier\":\"s\","
                             "\"metadata\":{\"a\":\"b\"},"
                             "\"prompt_cache_key\":\"k\","
                             "\"prompt_cache_options\":{},"
                             "\"prompt_cache_retention\":\"24h\","
                             "\"us\\u0065r2\":1"),
              "{\"messages\":[],\"user2\":1}");
    canonical(LLM_CHAT, CHAT(",\"us\\u0065r\":\"u\""), "{\"messages\":[]}");

    /* not left out anywhere else */

    canonical(LLM_CHAT, "{\"model\":\"a\",\"messages\":[{\"model\":\"m\","
              "\"user\":\"u\",\"metadata\":{},\"stream\":true}]}",
              "{\"messages\":[{\"metadata\":{},\"model\":\"m\",\"stream\":"
              "true,\"user\":\"u\"}]}");

    /* null is as good as absent where it is known to be */

    canonical(LLM_CHAT, CHAT(",\"n\":null,\"temperature\":null,\"stop\":null,"
                             "\"logit_bias\":null,\"max_tokens\":null,"
                             "\"seed\":null,\"store\":null,\"audio\":null"),
              "{\"messages\":[]}");
    canonical(LLM_CHAT, CHAT(",\"guided_json\":null,\"tools\":null"),
              "{\"guided_json\":null,\"messages\":[],\"tools\":null}");
    canonical(LLM_CHAT, "{\"model\":\"a\",\"messages\":[{\"n\":null,"
              "\"content\":null}]}",
              "{\"messages\":[{\"content\":null,\"n\":null}]}");

    assert_false(same(LLM_CHAT, CHAT(",\"n\":1"), CHAT("")));
}


/* pairs of texts that a careless writer would give the same bytes */

static void
test_ambiguous(void **state)
{
    unsigned  i, j;

    static const char *const  bodies[] = {
        CHAT(",\"a\":\"b\",\"c\":\"d\""), CHAT(",\"a\":\"b\\\",\\\"c\""),
        CHAT(",\"a\":\"b\\\",\\\"c\\\":\\\"d\""), CHAT(",\"a\":[1,2]"),
        CHAT(",\"a\":[12]"), CHAT(",\"a\":[[1],2]"), CHAT(",\"a\":[[1,2]]"),
        CHAT(",\"a\":[1,[2]]"), CHAT(",\"a\":\"1\""), CHAT(",\"a\":1"),
        CHAT(",\"a\":\"null\""), CHAT(",\"a\":null"), CHAT(",\"a\":true"),
        CHAT(",\"a\":\"\""), CHAT(",\"a\":[]"), CHAT(",\"a\":{}"),
        CHAT(",\"a\":[\"\"]"), CHAT(",\"a\":[\"\",\"\"]"),
        CHAT(",\"a\":[\"\\\",\\\"\"]"), CHAT(",\"a\":\"\\\\n\""),
        CHAT(",\"a\":\"\\n\""), CHAT(",\"a\":\"n\""),
        CHAT(",\"a\":\"\\\\\\\"\""), CHAT(",\"a\":\"\\\\\""),
        CHAT(",\"a\":\"\\\"\""), CHAT(",\"a\":\"e\xcc\x81\""),
        CHAT(",\"a\":\"\xc3\xa9\""), CHAT(",\"a\":\" \""),
        CHAT(",\"a\":\"\\u0000\""), CHAT(",\"a\":\"\\\\u0000\""),
        CHAT(",\"a\":{\"b\":{}}"), CHAT(",\"a\":{\"b\":1}"),
        CHAT(",\"a\":{\"b\":[1]}"), CHAT(",\"a\":{\"b\":\"1\"}"),
        CHAT(",\"a\":[{\"b\":1}]"), CHAT(",\"a\\\":{\\\"b\":1"),
        CHAT(",\"a\":-1"), CHAT(",\"a\":[-1]"), CHAT(",\"a\":1e1"),
        CHAT(",\"a\":\"1e1\""), CHAT(",\"a\":0.1"), CHAT(",\"a\":{\"\":1}")
    };

    (void) state;

    for (i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        for (j = 0; j < i; j++) {
            if (same(LLM_CHAT, bodies[i], bodies[j])) {
                fail_msg("the same bytes:\n%s\n%s", bodies[i], bodies[j]);
            }
        }
    }
}


/* long strings, with an escape at any place around the ends of the buffer */

static void
test_long(void **state)
{
    char    *a, *b;
    bytes_t  x;
    size_t   len, at;

    (void) state;

    a = malloc(SIZE);
    b = malloc(SIZE);

    for (len = LLM_CANON_BUFFER - 40; len < LLM_CANON_BUFFER + 40; len++) {

        sprintf(a, "{\"model\":\"a\",\"prompt\":\"");
        at = strlen(a);
        memset(a + at, 'x', len);
        strcpy(a + at + len, "\"}");

        digest(&x, LLM_COMPLETIONS, a);
        assert_int_equal(x.len, len + 13);
        assert_memory_equal(x.data + 11, a + at, len);
        free(x.data);

        strcpy(b, a);
        memcpy(b + at + len, "\\u0078\"}", 9);
        strcpy(a + at + len, "x\"}");
        assert_true(same(LLM_COMPLETIONS, a, b));

        memcpy(b + at, "\\u0078", 6);
        memset(b + at + 6, 'x', len - 1);
        strcpy(b + at + len + 5, "x\"}");
        assert_true(same(LLM_COMPLETIONS, a, b));
    }

    /* few calls */

    sprintf(a, "{\"model\":\"a\",\"prompt\":[\"");
    at = strlen(a);
    memset(a + at, 'x', 100000);
    strcpy(a + at + 100000, "\",1,2,3]}");

    digest(&x, LLM_COMPLETIONS, a);
    assert_int_equal(x.calls, 3);
    free(x.data);

    free(a);
    free(b);
}


static void
test_not_recorded(void **state)
{
    bytes_t              b;
    llm_request_t        rq;
    unsigned char        text[] = "{\"model\":\"a\"}";
    check_memory_t       m;
    llm_request_error_t  err;

    (void) state;

    check_memory(&m, SIZE, -1);

    assert_int_equal(llm_request_parse(&rq, LLM_COMPLETIONS, text,
                                       sizeof(text) - 1, 0, &m.arena, &err),
                     LLM_OK);
    assert_int_equal(llm_request_digest(&rq, &m.arena, sink, &b), LLM_ERROR);

    check_memory_free(&m);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_form),
        cmocka_unit_test(test_strings),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_left_out),
        cmocka_unit_test(test_ambiguous),
        cmocka_unit_test(test_long),
        cmocka_unit_test(test_not_recorded)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
