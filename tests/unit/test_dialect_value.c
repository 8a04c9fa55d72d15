
/*
 * Copyright (C) the ngx-llm authors
 *
 * What providers say of their limits, and what is taken out of answers.
 */


#include "json_check.h"

#include "core/llm_dialect.h"


static void
clean(const char *from, const char *to)
{
    size_t          n, len;
    unsigned char  *p;

    len = strlen(from);
    p = check_copy(from, len);
    n = llm_dialect_clean(p, len);

    if (n != strlen(to) || memcmp(p, to, n) != 0) {
        fail_msg("%s: %.*s", from, (int) n, p);
    }

    free(p);
}


static void
test_clean(void **state)
{
    (void) state;

    clean("{\"id\":\"x\",\"error\":null,\"choices\":[]}",
          "{\"id\":\"x\",\"choices\":[]}");
    clean("{\"error\":null,\"id\":\"x\"}", "{\"id\":\"x\"}");
    clean("{\"id\":\"x\",\"error\":null}", "{\"id\":\"x\"}");
    clean("{\"error\":null}", "{}");
    clean("{ \"error\" : null }", "{ }");
    clean("{ \"error\" : null , \"a\" : 1 }", "{ \"a\" : 1 }");
    clean("{ \"a\" : 1 , \"error\" : null }\n", "{ \"a\" : 1 }\n");
    clean("\n\xef\xbb\xbf{\"error\":null,\"a\":{\"error\":null}}",
          "\n\xef\xbb\xbf{\"a\":{\"error\":null}}");
    clean("{\"error\":null,\"error\":null,\"a\":[1,2],\"error\":null,\"b\":2,"
          "\"error\":null}", "{\"a\":[1,2],\"b\":2}");
    clean("{\"\\u0065rror\":null,\"a\":1}", "{\"a\":1}");
    clean("{\"a\":1,\"error\":null,\"error\":{\"message\":\"x\"}}",
          "{\"a\":1,\"error\":{\"message\":\"x\"}}");

    /* to be left alone */

    clean("", "");
    clean("{\"a\":\"error\"}", "{\"a\":\"error\"}");
    clean("{\"error\":\"null\"}", "{\"error\":\"null\"}");
    clean("{\"error\":[null]}", "{\"error\":[null]}");
    clean("{\"a\":\"\\\"error\\\":null\"}", "{\"a\":\"\\\"error\\\":null\"}");
    clean("[{\"error\":null}]", "[{\"error\":null}]");
    clean("{\"error\":null", "{\"error\":null");
    clean("{\"error\":null}}", "{\"error\":null}}");
    clean("{\"error\":null,}", "{\"error\":null,}");
    clean("[DONE]", "[DONE]");
}


static void
test_blank(void **state)
{
    (void) state;

    assert_int_equal(llm_dialect_blank(NULL, 0), 0);
    assert_int_equal(llm_dialect_blank((unsigned char *) " \n\t\r{", 5), 4);
    assert_int_equal(llm_dialect_blank((unsigned char *) "\xef\xbb\xbf{", 4),
                     3);
    assert_int_equal(llm_dialect_blank((unsigned char *) "\xef\xbb", 2), 0);
    assert_int_equal(llm_dialect_blank((unsigned char *) "\n\n", 2), 2);
}


static void
header(const char *name, int expected, int expected_tokens)
{
    int        h, tokens;
    llm_str_t  s;

    tokens = -1;
    s.len = strlen(name);
    s.data = check_copy(name, s.len);

    h = (int) llm_dialect_header(&s, &tokens);

    if (h != expected || tokens != expected_tokens) {
        fail_msg("%s: %d %d", name, h, tokens);
    }

    free(s.data);
}


static void
test_header(void **state)
{
    (void) state;

    header("x-ratelimit-limit-requests", LLM_DIALECT_LIMIT, 0);
    header("x-ratelimit-limit-tokens", LLM_DIALECT_LIMIT, 1);
    header("x-ratelimit-remaining-requests", LLM_DIALECT_REMAINING, 0);
    header("x-ratelimit-remaining-tokens", LLM_DIALECT_REMAINING, 1);
    header("x-ratelimit-reset-requests", LLM_DIALECT_RESET, 0);
    header("x-ratelimit-reset-tokens", LLM_DIALECT_RESET, 1);
    header("x-rate-limit-reset-tokens", LLM_DIALECT_RESET, 1);
    header("anthropic-ratelimit-requests-limit", LLM_DIALECT_LIMIT, 0);
    header("anthropic-ratelimit-tokens-remaining", LLM_DIALECT_REMAINING, 1);
    header("anthropic-ratelimit-tokens-reset", LLM_DIALECT_RESET, 1);
    header("x-ratelimit-limit-req-minute", LLM_DIALECT_LIMIT, 0);
    header("x-ratelimit-remaining-req-minute", LLM_DIALECT_REMAINING, 0);
    header("x-ratelimit-remaining-tokens-minute", LLM_DIALECT_REMAINING, 1);
    header("x-ratelimit-remaining", LLM_DIALECT_REMAINING, 0);
    header("ratelimit-reset", LLM_DIALECT_RESET, 0);

    header("x-ratelimit-limit-project-tokens", LLM_DIALECT_NOTHING, -1);
    header("anthropic-ratelimit-input-tokens-limit", LLM_DIALECT_NOTHING, -1);
    header("x-ratelimit-remaining-requests-day", LLM_DIALECT_NOTHING, -1);
    header("x-ratelimit-", LLM_DIALECT_NOTHING, -1);
    header("x-ratelimit-limits", LLM_DIALECT_NOTHING, -1);
    header("retry-after", LLM_DIALECT_NOTHING, -1);
    header("", LLM_DIALECT_NOTHING, -1);
}


#define NOW  1795284000                     /* 2026-11-21T18:00:00Z */


static void
value(llm_dialect_header_e h, const char *text_, long expected)
{
    int64_t    n;
    llm_str_t  s;

    s.len = strlen(text_);
    s.data = check_copy(text_, s.len);

    n = llm_dialect_value(h, &s, NOW);

    if (n != expected) {
        fail_msg("\"%s\": %ld", text_, (long) n);
    }

    free(s.data);
}


static void
test_value(void **state)
{
    (void) state;

    value(LLM_DIALECT_LIMIT, "60", 60);
    value(LLM_DIALECT_LIMIT, " 150000\t", 150000);
    value(LLM_DIALECT_LIMIT, "0", -1);
    value(LLM_DIALECT_LIMIT, "-1", -1);
    value(LLM_DIALECT_LIMIT, "", -1);
    value(LLM_DIALECT_LIMIT, "many", -1);
    value(LLM_DIALECT_LIMIT, "99999999999999999999999", 1000000000000000);
    value(LLM_DIALECT_REMAINING, "0", 0);
    value(LLM_DIALECT_REMAINING, "5.9", 5);
    value(LLM_DIALECT_REMAINING, "5.", -1);
    value(LLM_DIALECT_REMAINING, "5.x", -1);
    value(LLM_DIALECT_REMAINING, "-1", -1);

    value(LLM_DIALECT_RESET, "1s", 1000);
    value(LLM_DIALECT_RESET, "6m0s", 360000);
    value(LLM_DIALECT_RESET, "120ms", 120);
    value(LLM_DIALECT_RESET, "33.023s", 33023);
    value(LLM_DIALECT_RESET, "1h23m31s", 5011000);
    value(LLM_DIALECT_RESET, "0s", 0);
    value(LLM_DIALECT_RESET, "1m26.4s", 86400);
    value(LLM_DIALECT_RESET, "55", 55000);
    value(LLM_DIALECT_RESET, "0.5", 500);
    value(LLM_DIALECT_RESET, "0", -1);
    value(LLM_DIALECT_RESET, "-1", -1);
    value(LLM_DIALECT_RESET, "1s later", -1);
    value(LLM_DIALECT_RESET, "", -1);
    value(LLM_DIALECT_RESET, "90h", 86400000);

    value(LLM_DIALECT_RESET, "2026-11-21T18:00:42Z", 42000);
    value(LLM_DIALECT_RESET, "2026-11-21T18:00:42.250Z", 43000);
    value(LLM_DIALECT_RESET, "2026-11-21T19:00:42+01:00", 42000);
    value(LLM_DIALECT_RESET, "2026-11-21T12:30:42-05:30", 42000);
    value(LLM_DIALECT_RESET, "2026-11-21T17:00:00Z", 0);
    value(LLM_DIALECT_RESET, "2027-11-21T17:00:00Z", 86400000);
    value(LLM_DIALECT_RESET, "2026-13-21T17:00:00Z", -1);
    value(LLM_DIALECT_RESET, "2026-11-21T18:00:42", -1);
    value(LLM_DIALECT_RESET, "2026-11-21T18:00:42ZZ", -1);

    value(LLM_DIALECT_RESET, "1795284042", 42000);
    value(LLM_DIALECT_RESET, "1795284042500", 42500);
    value(LLM_DIALECT_RESET, "1795283999", 0);

    value(LLM_DIALECT_NOTHING, "1", -1);
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_blank),
        cmocka_unit_test(test_header),
        cmocka_unit_test(test_value)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
