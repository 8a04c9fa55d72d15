
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the parser refuses: names that stand twice, what is no JSON, too much.
 */


#include "request_check.h"


static void
duplicate(const char *body, size_t first, size_t second)
{
    char  place[64];

    refused(LLM_CHAT, body, "duplicate_key", NULL, (long) second);

    snprintf(place, sizeof(place), "first at byte %zu", first);
    assert_non_null(strstr(err.text, place));
}


static void
test_duplicates(void **state)
{
    (void) state;

    duplicate("{\"model\":\"a\",\"model\":\"b\"}", 1, 13);
    duplicate("{\"model\":\"a\",\"mod\\u0065l\":\"b\"}", 1, 13);
    duplicate("{\"mod\\u0065l\":\"a\",\"model\":\"b\"}", 1, 18);
    duplicate("{\"\\u006dodel\":\"a\",\"mod\\u0065l\":\"b\"}", 1, 18);
    duplicate("{\"a\":[{\"b\":{\"c\":1,\"d\":2,\"c\":3}}]}", 12, 24);
    duplicate("{\"\":1,\"\":2}", 1, 6);
    duplicate("{\"\xc3\xa9\":1,\"\\u00e9\":2}", 1, 8);
    duplicate("{\"\\ud83d\\ude00\":1,\"\xf0\x9f\x98\x80\":2}", 1, 18);
    duplicate("{\"a\\/\":1,\"a/\":2}", 1, 9);
    duplicate("{\"a\\u0000b\":1,\"a\\u0000b\":1}", 1, 14);

    /* alike, but not the same */

    ok(LLM_CHAT, CHAT("\"a\":1,\"A\":2,\"aa\":3,\"\":4,\"a\\u0000\":5,"
                      "\"e\xcc\x81\":6,\"\xc3\xa9\":7,\" a\":8"));

    /* in different objects */

    ok(LLM_CHAT, CHAT("\"a\":{\"a\":{\"a\":1},\"b\":{\"a\":1}},"
                      "\"b\":[{\"a\":1},{\"a\":1}]"));

    /* a name of before an inner object, again behind it */

    duplicate("{\"a\":{\"b\":1},\"b\":2,\"a\":3}", 1, 19);
}


/* many members, one name twice, at every distance */

static void
test_many(void **state)
{
    char      *p, *q;
    size_t     len, first = 0, second = 0;
    unsigned   i, n, a, b;

    (void) state;

    p = malloc(MB);

    /* names of one shape each, so that only the chosen two can meet */

    for (n = 2; n < 60; n++) {
        for (a = 0; a < n; a++) {
            for (b = a; b < n; b++) {

                q = p;
                q += sprintf(q, "{\"model\":\"a\",\"messages\":[],\"x\":[{");

                for (i = 0; i < n; i++) {

                    if (i == a) {
                        first = (size_t) (q - p);
                    }

                    if (i == b) {
                        second = (size_t) (q - p);
                    }

                    q += sprintf(q, i % 5 ? "\"name%u\":{\"a\":1}%s"
                                          : "\"n\\u0061me%u\":{\"a\":1}%s",
                                 (i == b ? a : i) * 7919 % 10007,
                                 i + 1 < n ? "," : "");
                }

                q += sprintf(q, "}]}");
                len = (size_t) (q - p);

                if (a == b) {
                    assert_int_equal(parse_len(LLM_CHAT, p, len), LLM_OK);
                    continue;
                }

                assert_int_equal(parse_len(LLM_CHAT, p, len), LLM_ERROR);
                assert_string_equal(err.code, "duplicate_key");
                assert_int_equal(err.offset, second);

                sprintf(p, "first at byte %zu", first);
                assert_non_null(strstr(err.text, p));
            }
        }
    }

    free(p);
}


/* the earliest of several is told, among few and among many */

static void
test_earliest(void **state)
{
    char      *p, *q;
    size_t     second;
    unsigned   i, n;

    (void) state;

    p = malloc(MB);

    for (n = 4; n < 200; n += 7) {
        q = p + sprintf(p, "{");
        second = 0;

        for (i = 0; i < n; i++) {

            if (i == n / 2) {
                second = (size_t) (q - p);
            }

            q += sprintf(q, "\"z%u\":1%s", i < n / 2 ? 100 + n - i
                                                     : 100 + n - (i - n / 2),
                         i + 1 < n ? "," : "");
        }

        q += sprintf(q, "}");

        assert_int_equal(parse_len(LLM_CHAT, p, (size_t) (q - p)), LLM_ERROR);
        assert_string_equal(err.code, "duplicate_key");
        assert_int_equal(err.offset, second);
    }

    free(p);
}


static void
test_invalid(void **state)
{
    static const char  mark[] = "\xef\xbb\xbf{}";

    (void) state;

    refused(LLM_CHAT, "", "invalid_json", NULL, 0);
    assert_non_null(strstr(err.text, "empty"));

    refused(LLM_CHAT, "  ", "invalid_json", NULL, 2);
    refused(LLM_CHAT, mark, "invalid_json", NULL, 0);
    assert_non_null(strstr(err.text, "byte order mark"));

    refused(LLM_CHAT, "[]", "invalid_json", NULL, 0);
    refused(LLM_CHAT, " [1,\"a\",{}]", "invalid_json", NULL, 1);
    refused(LLM_CHAT, "\"x\"", "invalid_json", NULL, 0);
    refused(LLM_CHAT, "null", "invalid_json", NULL, 0);
    refused(LLM_CHAT, "1", "invalid_json", NULL, 0);
    refused(LLM_CHAT, "{\"model\":\"a\",\"messages\":[]} {}", "invalid_json",
            NULL, 28);
    refused(LLM_CHAT, "{\"model\":\"secret", "invalid_json", NULL, 16);
    assert_null(strstr(err.text, "secret"));

    assert_int_equal(llm_request_parse(&rq, LLM_CHAT, NULL, 0, 0,
                                       &memory.arena, &err), LLM_ERROR);
    assert_string_equal(err.code, "invalid_json");
}


static const char  whole[] =
    "{\"model\": \"gpt\\u002d4o\", \"messages\": [{\"role\": \"user\","
    " \"content\": [{\"type\": \"text\", \"t\\u0065xt\": \"caf\xc3\xa9 \\n\"}"
    "]}], \"temperature\": 0.7, \"n\": 1, \"max_tokens\": 7, \"stream\": true,"
    " \"stream_options\": {\"include_usage\": true}, \"tools\": [{\"type\":"
    " \"function\", \"function\": {\"name\": \"f\", \"parameters\": {\"a0\":0,"
    "\"a1\":0,\"a2\":0,\"a3\":0,\"a4\":0,\"a5\":0,\"a6\":0,\"a7\":0,\"a8\":0,"
    "\"a9\":0,\"b0\":0,\"b1\":0,\"b2\":0,\"b3\":0,\"b4\":0,\"b5\":0,\"b6\":0,"
    "\"b7\":0,\"b8\":0,\"b9\":0}}}], \"top_p\": 1, \"a\": 1, \"b\": 2,"
    " \"c\": 3, \"d\": 4, \"e\": 5, \"f\": 6, \"g\": 7, \"h\": 8, \"i\": 9}";


static void
test_prefixes(void **state)
{
    size_t  len;

    (void) state;

    assert_int_equal(parse_len(LLM_CHAT, whole, sizeof(whole) - 1), LLM_OK);

    for (len = 0; len < sizeof(whole) - 1; len++) {
        assert_int_equal(parse_len(LLM_CHAT, whole, len), LLM_ERROR);
        assert_string_equal(err.code, "invalid_json");
    }
}


static void
sink(void *data, const unsigned char *p, size_t len)
{
    size_t  *sum = data;

    while (len-- > 0) {
        *sum = *sum * 31 + *p++;
    }
}


/* every allocation fails once; then the limit grows byte by byte */

static void
test_memory(void **state)
{
    int             n, rc;
    size_t          limit, sum;
    unsigned char  *p;
    check_memory_t  m;

    (void) state;

    p = check_copy(whole, sizeof(whole) - 1);

    for (n = 0; /* void */ ; n++) {
        check_memory(&m, MB, n);

        rc = llm_request_parse(&rq, LLM_CHAT, p, sizeof(whole) - 1, 1,
                               &m.arena, &err);

        if (rc == LLM_OK) {
            rc = llm_request_digest(&rq, &m.arena, sink, &sum);

        } else {
            assert_string_equal(err.code, "request_too_complex");
        }

        check_memory_free(&m);

        if (rc == LLM_OK) {
            break;
        }
    }

    assert_true(n > 0);

    n = 0;

    for (limit = 0; n < 10; limit += 8) {
        check_memory(&m, limit, -1);

        rc = llm_request_parse(&rq, LLM_CHAT, p, sizeof(whole) - 1, 1,
                               &m.arena, &err);

        if (rc == LLM_OK) {
            rc = llm_request_digest(&rq, &m.arena, sink, &sum);

        } else {
            assert_string_equal(err.code, "request_too_complex");
        }

        n += rc == LLM_OK;

        check_memory_free(&m);
    }

    assert_true(limit > 1000 && limit < 8192);

    free(p);
}


/* values do not cost memory, only the members of open objects do */

static void
test_bounds(void **state)
{
    char    *p, *q;
    int      i;
    size_t   used;

    (void) state;

    p = malloc(5 * MB);

    q = p + sprintf(p, "{\"model\":\"a\",\"messages\":[{}");

    while (q - p < 4 * MB) {
        q += sprintf(q, ",{}");
    }

    q += sprintf(q, "]}");

    assert_int_equal(parse_len(LLM_CHAT, p, (size_t) (q - p)), LLM_OK);
    assert_true(64 * MB - memory.arena.left <= 4096);

    used = 0;
    assert_int_equal(llm_request_digest(&rq, &memory.arena, sink, &used),
                     LLM_OK);
    assert_true(64 * MB - memory.arena.left <= 4096);

    q = p + sprintf(p, "{\"model\":\"a\",\"messages\":[0");

    while (q - p < 4 * MB) {
        q += sprintf(q, ",{");

        for (i = 0; i < 20; i++) {
            q += sprintf(q, "\"%c\":1%s", 'z' - i, i < 19 ? "," : "}");
        }
    }

    q += sprintf(q, "]}");

    assert_int_equal(parse_len(LLM_CHAT, p, (size_t) (q - p)), LLM_OK);
    assert_true(64 * MB - memory.arena.left <= 8192);

    assert_int_equal(llm_request_digest(&rq, &memory.arena, sink, &used),
                     LLM_OK);
    assert_true(64 * MB - memory.arena.left <= 8192);

    /* members do, and are refused when they are too many */

    q = p + sprintf(p, "{\"model\":\"a\",\"messages\":[]");

    for (i = 0; q - p < 4 * MB; i++) {
        q += sprintf(q, ",\"%x\":1", i);
    }

    q += sprintf(q, "}");

    assert_int_equal(parse_len(LLM_CHAT, p, (size_t) (q - p)), LLM_OK);

    check_memory_free(&memory);
    check_memory(&memory, MB, -1);

    assert_int_equal(llm_request_parse(&rq, LLM_CHAT, text, (size_t) (q - p),
                                       1, &memory.arena, &err), LLM_ERROR);
    assert_string_equal(err.code, "request_too_complex");

    free(p);
}


/* numbers that are bounded, each with what it is not */

static void
test_numbers(void **state)
{
    char                  body[256], name[32];
    unsigned              i, j;
    llm_endpoint_e        endpoint;
    static const struct {
        const char       *name;
        const char       *least;       /* one too few, one too many */
        const char       *most;
        const char       *text;
    } numbers[] = {
        { "n", "0", "129", "an integer from 1 to 128" },
        { "n", "0", "1000", "an integer from 1 to 128" },
        { "best_of", "0", "21", "an integer from 1 to 20" },
        { "max_tokens", "0", "2147483649",
          "an integer from 1 to 2147483648" },
        { "max_completion_tokens", "0", "2147483649",
          "an integer from 1 to 2147483648" },
        { "max_output_tokens", "0", "2147483649",
          "an integer from 1 to 2147483648" },
    };
    static const char *const  values[] = {
        "-1", "-0", "9223372036854775807", "9223372036854775808",
        "99999999999999999999999999"
    };
    static const char *const  types[] = {
        "1.0", "0.5", "1e3", "1E0", "\"1\"", "true", "[]", "{}"
    };

    (void) state;

    for (i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        endpoint = strcmp(numbers[i].name, "best_of") == 0 ? LLM_COMPLETIONS
                                                           : LLM_CHAT;

        snprintf(body, sizeof(body), CHAT("\"%s\":%s"), numbers[i].name,
                 numbers[i].least);
        refused(endpoint, body, "invalid_value", numbers[i].name, -1);
        assert_non_null(strstr(err.text, numbers[i].text));

        snprintf(body, sizeof(body), CHAT("\"%s\":%s"), numbers[i].name,
                 numbers[i].most);
        refused(endpoint, body, "invalid_value", numbers[i].name, -1);
        assert_non_null(strstr(err.text, numbers[i].text));

        snprintf(name, sizeof(name), "'%s'", numbers[i].name);
        assert_non_null(strstr(err.text, name));

        for (j = 0; j < sizeof(values) / sizeof(values[0]); j++) {
            snprintf(body, sizeof(body), CHAT("\"%s\":%s"), numbers[i].name,
                     values[j]);
            refused(endpoint, body, "invalid_value", numbers[i].name, -1);
        }

        for (j = 0; j < sizeof(types) / sizeof(types[0]); j++) {
            snprintf(body, sizeof(body), CHAT("\"%s\":%s"), numbers[i].name,
                     types[j]);
            refused(endpoint, body, "invalid_type", numbers[i].name, -1);
        }
    }

    /* an answer of nothing is what only the oldest endpoint has */

    refused(LLM_COMPLETIONS, "{\"model\":\"a\",\"max_tokens\":-1}",
            "invalid_value", "max_tokens", -1);
    assert_non_null(strstr(err.text, "from 0 to 2147483648"));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_earliest),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_numbers)
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
