
/*
 * Copyright (C) the ngx-llm authors
 */


#define _POSIX_C_SOURCE  200809L

#include "json_check.h"

#include <time.h>

#include "core/llm_batch.h"


#define MB  (1024 * 1024)


static llm_batch_t        batch;
static llm_batch_line_t   line;
static llm_batch_error_t  err;
static check_memory_t     memory;
static unsigned char     *text;
static void              *seen;

static const uint64_t  key[2] = { 0x0123456789abcdef, 0xfedcba9876543210 };


static void
start(llm_endpoint_e endpoint, unsigned most)
{
    size_t  size;

    free(seen);

    size = llm_batch_room(most);
    seen = malloc(size);
    memset(seen, 0xa5, size);

    llm_batch_init(&batch, endpoint, key, seen, most);
}


static int
check(const char *s)
{
    int        rc;
    llm_str_t  str;

    check_memory_free(&memory);
    check_memory(&memory, MB, -1);

    free(text);
    str.len = strlen(s);
    str.data = text = check_copy(s, str.len);

    memset(&err, 0, sizeof(err));

    rc = llm_batch_check(&batch, &str, 7, &memory.arena, &line, &err);

    if (rc != LLM_OK) {
        assert_int_equal(rc, LLM_DECLINED);
        assert_non_null(err.code);
        assert_int_equal(err.line, 7);
        assert_true(err.text[0] != '\0');
        assert_non_null(memchr(err.text, '\0', sizeof(err.text)));
    }

    return rc;
}


static void
good(const char *s, const char *id, const char *body, const char *model)
{
    if (check(s) != LLM_OK) {
        fail_msg("%s: %s %s", s, err.code, err.text);
    }

    assert_int_equal(line.custom_id.len, strlen(id));
    assert_memory_equal(line.custom_id.data, id, strlen(id));
    assert_int_equal(line.body.len, strlen(body));
    assert_memory_equal(line.body.data, body, strlen(body));
    assert_int_equal(line.model.len, strlen(model));
    assert_memory_equal(line.model.data, model, strlen(model));

    assert_true(line.model_end <= line.body.len);
    assert_int_equal(line.body.data[line.model_start], '"');
    assert_int_equal(line.body.data[line.model_end - 1], '"');
}


static void
bad(const char *s, const char *code, const char *param)
{
    if (check(s) == LLM_OK) {
        fail_msg("%s: not refused", s);
    }

    if (strcmp(err.code, code) != 0
        || strcmp(err.param != NULL ? err.param : "", param) != 0)
    {
        fail_msg("%s: %s %s (%s)", s, err.code,
                 err.param != NULL ? err.param : "", err.text);
    }
}


#define ID(id)    "\"custom_id\":\"" id "\""
#define POST      ",\"method\":\"POST\""
#define URL       ",\"url\":\"/v1/chat/completions\""
#define BODY      ",\"body\":{\"model\":\"m\",\"messages\":[]}"
#define M         "{\"model\":\"m\",\"messages\":[]}"


static void
test_good(void **state)
{
    (void) state;

    start(LLM_CHAT, 100);

    good("{" ID("a") POST URL BODY "}", "a", M, "m");
    good(" { \"body\" : " M " , \"url\" : \"/v1/chat/completions\", "
         "\"method\": \"POST\", \"custom_id\": \"b\" } ", "b", M, "m");
    good("{" ID("\\u0063\\n") ",\"m\\u0065thod\":\"P\\u004fST\","
         "\"url\":\"\\/v1\\/chat\\/completions\",\"body\":{\"mod\\u0065l\":"
         "\"\\u006d\"}}", "c\n", "{\"mod\\u0065l\":\"\\u006d\"}", "m");
    good("{" ID("d") POST URL ",\"x\":[{\"custom_id\":1}],\"body\":{\"x\":"
         "{\"model\":1,\"stream\":true},\"stream\":false,\"model\":\"m\"}}",
         "d", "{\"x\":{\"model\":1,\"stream\":true},\"stream\":false,"
         "\"model\":\"m\"}", "m");
    good("{" ID("e") POST URL ",\"body\":{\"model\":\"m\",\"stream\":null}}",
         "e", "{\"model\":\"m\",\"stream\":null}", "m");

    assert_int_equal(batch.n, 5);
    assert_int_equal(llm_batch_end(&batch, &err), LLM_OK);

    start(LLM_EMBEDDINGS, 1);

    good("{" ID("a") POST ",\"url\":\"/v1/embeddings\"" BODY "}", "a", M, "m");

    start(LLM_RESPONSES, 1);

    bad("{" ID("a") POST URL BODY "}", "invalid_url", "url");
}


static void
test_bad(void **state)
{
    char  s[2048], id[514];

    (void) state;

    start(LLM_CHAT, 1000);

    bad("{", "invalid_json_line", "");
    bad("x", "invalid_json_line", "");
    bad("[]", "invalid_json_line", "");
    bad("\"x\"", "invalid_json_line", "");
    bad("{" ID("a") POST URL BODY "}}", "invalid_json_line", "");
    bad("{" ID("a") POST URL BODY "} {}", "invalid_json_line", "");
    bad("{" ID("a") POST URL ",\"body\":{\"model\":}}", "invalid_json_line",
        "");
    bad("{" ID("a") POST URL ",\"body\":{\"model\":\"m\",\"x\":[1,]}}",
        "invalid_json_line", "");
    bad("{" ID("a\xff") POST URL BODY "}", "invalid_json_line", "");
    assert_non_null(strstr(err.text, "(byte 15)"));
    bad("\xef\xbb\xbf{" ID("a") POST URL BODY "}", "invalid_json_line", "");
    bad("{" ID("a") "," ID("a") POST URL BODY "}", "invalid_json_line",
        "custom_id");
    bad("{" ID("a") POST URL BODY BODY "}", "invalid_json_line", "body");
    bad("{" ID("a") POST URL ",\"body\":{\"model\":\"m\",\"model\":\"m\"}}",
        "invalid_json_line", "body.model");
    bad("{" ID("a") POST URL ",\"body\":{\"model\":\"m\",\"stream\":false,"
        "\"str\\u0065am\":true}}", "invalid_json_line", "body.stream");

    bad("{}", "missing_required_parameter", "custom_id");
    bad("{" ID("a") "}", "missing_required_parameter", "method");
    bad("{" ID("a") POST "}", "missing_required_parameter", "url");
    bad("{" ID("a") POST URL "}", "missing_required_parameter", "body");
    bad("{" ID("n1") POST URL ",\"body\":{}}", "missing_required_parameter",
        "body.model");
    bad("{" ID("n2") POST URL ",\"body\":{\"model\":null}}",
        "missing_required_parameter", "body.model");
    bad("{\"custom_id\":null" POST URL BODY "}",
        "missing_required_parameter", "custom_id");

    bad("{" ID("") POST URL BODY "}", "invalid_value", "custom_id");
    bad("{\"custom_id\":1" POST URL BODY "}", "invalid_value", "custom_id");
    bad("{" ID("v1") POST URL ",\"body\":[]}", "invalid_value", "body");
    bad("{" ID("v2") POST URL ",\"body\":{\"model\":1}}", "invalid_value",
        "body.model");
    bad("{" ID("v3") POST URL ",\"body\":{\"model\":\"\"}}", "invalid_value",
        "body.model");

    memset(id, 'i', 513);
    id[513] = '\0';
    sprintf(s, "{\"custom_id\":\"%s\"" POST URL BODY "}", id);
    bad(s, "invalid_value", "custom_id");
    id[512] = '\0';
    sprintf(s, "{\"custom_id\":\"%s\"" POST URL BODY "}", id);
    good(s, id, M, "m");

    bad("{" ID("m1") ",\"method\":\"GET\"" URL BODY "}", "invalid_method",
        "method");
    bad("{" ID("m2") ",\"method\":[]" URL BODY "}", "invalid_method",
        "method");
    bad("{" ID("u1") POST ",\"url\":\"/v1/embeddings\"" BODY "}",
        "invalid_url", "url");
    bad("{" ID("s1") POST URL ",\"body\":{\"model\":\"m\",\"stream\":true}}",
        "unsupported_parameter", "body.stream");
    bad("{" ID("s2") POST URL ",\"body\":{\"model\":\"m\",\"stream\":\"\"}}",
        "unsupported_parameter", "body.stream");
    bad("{" ID("o1") POST URL ",\"body\":{\"model\":\"other\"}}",
        "mismatched_model", "body.model");

    bad("{" ID("o2") POST URL ",\"body\":{\"model\":\"n\"}}",
        "mismatched_model", "body.model");

    /* what was refused for something else is still known */

    bad("{" ID("o1") POST URL BODY "}", "duplicate_custom_id", "custom_id");
    bad("{" ID("\\u006f1") POST URL BODY "}", "duplicate_custom_id",
        "custom_id");
    bad("{" ID("o1") POST BODY URL "}", "duplicate_custom_id", "custom_id");
}


static void
test_counts(void **state)
{
    char      s[256];
    unsigned  i;

    (void) state;

    start(LLM_CHAT, 3);

    assert_int_equal(llm_batch_end(&batch, &err), LLM_DECLINED);
    assert_string_equal(err.code, "empty_file");
    assert_int_equal(err.line, 0);

    good("{" ID("a") POST URL BODY "}", "a", M, "m");
    assert_int_equal(llm_batch_too_long(&batch, 9, 100, &err), LLM_DECLINED);
    assert_string_equal(err.code, "line_too_long");
    assert_string_equal(err.text, "This line is longer than 100 bytes");
    assert_int_equal(err.line, 9);
    good("{" ID("b") POST URL BODY "}", "b", M, "m");
    bad("{" ID("c") POST URL BODY "}", "too_many_tasks", "");
    bad("{" ID("a") POST URL BODY "}", "too_many_tasks", "");
    assert_int_equal(llm_batch_too_long(&batch, 9, 100, &err), LLM_DECLINED);
    assert_string_equal(err.code, "too_many_tasks");

    start(LLM_CHAT, LLM_BATCH_TASKS);

    for (i = 0; i < LLM_BATCH_TASKS; i++) {
        sprintf(s, "{\"custom_id\":\"request-%u\"" POST URL BODY "}", i);
        assert_int_equal(check(s), LLM_OK);
    }

    bad("{" ID("x") POST URL BODY "}", "too_many_tasks", "");

    start(LLM_CHAT, LLM_BATCH_TASKS);

    for (i = 0; i < LLM_BATCH_TASKS; i++) {
        sprintf(s, "{\"custom_id\":\"request-%u\"" POST URL BODY "}",
                i * 3 % 40000);
        assert_int_equal(check(s), i < 40000 ? LLM_OK : LLM_DECLINED);
    }
}


/* every allocation fails once: the line can be checked again */

static void
test_memory(void **state)
{
    int        n, rc;
    llm_str_t  str;

    static char  s[] = "{" ID("\\u0063") POST URL ",\"body\":{\"model\":"
                       "\"\\u006d\"}}";

    (void) state;

    start(LLM_CHAT, 1);

    str.data = (unsigned char *) s;
    str.len = sizeof(s) - 1;

    for (n = 0; /* void */ ; n++) {
        check_memory_free(&memory);
        check_memory(&memory, n < 2 ? 8 : MB, n < 2 ? n : -1);

        rc = llm_batch_check(&batch, &str, 1, &memory.arena, &line, &err);

        if (rc == LLM_OK) {
            break;
        }

        assert_int_equal(rc, LLM_ERROR);
        assert_int_equal(batch.n, 0);
    }

    assert_int_equal(n, 2);
    assert_int_equal(batch.n, 1);
}


static void
test_endpoints(void **state)
{
    unsigned        i;
    llm_str_t       other = llm_string("/v1/moderations");
    llm_endpoint_e  endpoint;

    (void) state;

    for (i = 0; i < LLM_ENDPOINTS; i++) {
        assert_int_equal(llm_batch_endpoint(llm_batch_url((llm_endpoint_e) i),
                                            &endpoint), LLM_OK);
        assert_int_equal(endpoint, i);
    }

    assert_int_equal(llm_batch_endpoint(&other, &endpoint), LLM_DECLINED);
}


static void
test_speed(void **state)
{
    int                 k, n, rc;
    char               *s;
    size_t              bytes;
    unsigned            i;
    double              us;
    llm_str_t           str;
    unsigned char      *out;
    struct timespec     t0, t1;
    llm_batch_result_t  res;

    (void) state;

    s = malloc(8192);
    out = malloc(16384);

    for (k = 0; k < 2; k++) {
        start(LLM_CHAT, LLM_BATCH_TASKS);
        bytes = 0;

        check_memory_free(&memory);
        check_memory(&memory, MB, -1);

        (void) clock_gettime(CLOCK_MONOTONIC, &t0);

        for (i = 0; i < 20000; i++) {
            n = sprintf(s, "{\"custom_id\":\"request-%u\"" POST URL
                        ",\"body\":{\"model\":\"gpt-4o-mini\",\"messages\":"
                        "[{\"role\":\"user\",\"content\":\"", i);
            memset(s + n, 'x', k ? 4000 : 100);
            n += k ? 4000 : 100;
            n += sprintf(s + n, "\"}],\"max_tokens\":100}}");

            str.data = (unsigned char *) s;
            str.len = (size_t) n;
            bytes += str.len;

            rc = llm_batch_check(&batch, &str, i, &memory.arena, &line, &err);
            assert_int_equal(rc, LLM_OK);
        }

        (void) clock_gettime(CLOCK_MONOTONIC, &t1);

        us = (double) (t1.tv_sec - t0.tv_sec) * 1e6
             + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3;

        print_message("lines of %zu bytes: %.2f us each, %.1f us per MB\n",
                      bytes / 20000, us / 20000,
                      us / ((double) bytes / MB));
    }

    memset(&res, 0, sizeof(res));

    res.id = (llm_str_t) llm_string("batch_req_0123456789");
    res.custom_id = (llm_str_t) llm_string("request-1");
    res.request_id = (llm_str_t) llm_string("req_0123456789");
    res.status = 200;
    res.body = line.body;

    (void) clock_gettime(CLOCK_MONOTONIC, &t0);

    for (bytes = 0, i = 0; i < 20000; i++) {
        bytes += llm_batch_write_result(out, 16384, &res);
    }

    (void) clock_gettime(CLOCK_MONOTONIC, &t1);

    us = (double) (t1.tv_sec - t0.tv_sec) * 1e6
         + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3;

    print_message("results of %zu bytes: %.2f us each, %.1f us per MB\n",
                  bytes / 20000, us / 20000, us / ((double) bytes / MB));

    free(out);
    free(s);
}


int
main(void)
{
    int  rc;

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_good),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_counts),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_endpoints),
        cmocka_unit_test(test_speed)
    };

    rc = cmocka_run_group_tests(tests, NULL, NULL);

    check_memory_free(&memory);
    free(text);
    free(seen);

    return rc;
}
