
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is told of batches and files, and of their lines.
 */


#include "json_check.h"

#include <jansson.h>

#include "core/llm_batch.h"
#include "core/llm_batch_text.h"


/* into every size: never a byte too many, and the same length */

#define write_all(out, call)                                                  \
    do {                                                                      \
        size_t          k, n;                                                 \
        unsigned char  *buf;                                                  \
                                                                              \
        buf = NULL;                                                           \
        k = 0;                                                                \
        n = call;                                                             \
                                                                              \
        for (k = 0; k <= n; k++) {                                            \
            buf = malloc(k != 0 ? k : 1);                                     \
            assert_int_equal(call, n);                                        \
                                                                              \
            if (k == n) {                                                     \
                memcpy(out, buf, n);                                          \
                out[n] = '\0';                                                \
            }                                                                 \
                                                                              \
            free(buf);                                                        \
        }                                                                     \
    } while (0)


static void
test_results(void **state)
{
    char                out[2048];
    json_t             *json;
    llm_batch_result_t  res;

    (void) state;

    memset(&res, 0, sizeof(res));

    res.id = (llm_str_t) llm_string("batch_req_1");
    res.custom_id = (llm_str_t) llm_string("a\"\\\n\t\x01\xff\xc3\xa9");
    res.status = 200;
    res.request_id = (llm_str_t) llm_string("req_1");
    res.body = (llm_str_t) llm_string("{\r\n  \"x\": \"\\n\"\n}\n");

    write_all(out, llm_batch_write_result(buf, k, &res));

    assert_string_equal(out, "{\"id\":\"batch_req_1\",\"custom_id\":"
        "\"a\\\"\\\\\\n\\u0009\\u0001\xef\xbf\xbd\xc3\xa9\","
        "\"response\":{\"status_code\":200,\"request_id\":\"req_1\",\"body\":"
        "{    \"x\": \"\\n\" } },\"error\":null}\n");
    assert_true(llm_batch_succeeded(&res));

    json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_decref(json);

    res.status = 502;
    res.body = (llm_str_t) llm_string("<html>\n");
    res.custom_id = (llm_str_t) llm_string("a");

    write_all(out, llm_batch_write_result(buf, k, &res));

    assert_string_equal(out, "{\"id\":\"batch_req_1\",\"custom_id\":\"a\","
        "\"response\":{\"status_code\":502,\"request_id\":\"req_1\",\"body\":"
        "\"<html>\\n\"},\"error\":null}\n");
    assert_false(llm_batch_succeeded(&res));

    res.status = 0;
    res.code = (llm_str_t) llm_string("batch_expired");
    res.message = (llm_str_t) llm_string("It was too late.");

    write_all(out, llm_batch_write_result(buf, k, &res));

    assert_string_equal(out, "{\"id\":\"batch_req_1\",\"custom_id\":\"a\","
        "\"response\":null,\"error\":{\"code\":\"batch_expired\","
        "\"message\":\"It was too late.\"}}\n");
    assert_false(llm_batch_succeeded(&res));

    assert_int_equal(llm_batch_write_result(NULL, 0, &res), strlen(out));
}


static void
object(llm_batch_object_t *ob)
{
    memset(ob, 0, sizeof(llm_batch_object_t));

    ob->id = (llm_str_t) llm_string("batch_1");
    ob->endpoint = LLM_RESPONSES;
    ob->input_file = (llm_str_t) llm_string("file-1");
    ob->window = (llm_str_t) llm_string("24h");
    ob->created = 1700000000;
    ob->input_tokens = -1;
}


static void
test_objects(void **state)
{
    char                out[4096];
    unsigned            i;
    json_t             *json;
    llm_batch_object_t  ob;

    (void) state;

    object(&ob);

    for (i = 0; i < LLM_BATCH_STATES; i++) {
        ob.state = (llm_batch_state_e) i;
        write_all(out, llm_batch_write_object(buf, k, &ob));

        json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
        assert_non_null(json);
        assert_string_equal(json_string_value(json_object_get(json, "status")),
                            llm_batch_state_name(ob.state));
        json_decref(json);
    }

    ob.state = LLM_BATCH_VALIDATING;
    write_all(out, llm_batch_write_object(buf, k, &ob));

    assert_string_equal(out, "{\"id\":\"batch_1\",\"object\":\"batch\","
        "\"endpoint\":\"/v1/responses\",\"errors\":null,\"input_file_id\":"
        "\"file-1\",\"completion_window\":\"24h\",\"status\":\"validating\","
        "\"output_file_id\":null,\"error_file_id\":null,\"created_at\":"
        "1700000000,\"in_progress_at\":null,\"expires_at\":null,"
        "\"finalizing_at\":null,\"completed_at\":null,\"failed_at\":null,"
        "\"expired_at\":null,\"cancelling_at\":null,\"cancelled_at\":null,"
        "\"request_counts\":{\"total\":0,\"completed\":0,\"failed\":0},"
        "\"metadata\":null}");
}


static void
test_object_full(void **state)
{
    char                out[4096];
    json_t             *json, *other;
    llm_batch_error_t   errors[2];
    llm_batch_object_t  ob;

    (void) state;

    object(&ob);

    errors[0] = (llm_batch_error_t) { "empty_file", NULL, 0, "None." };
    errors[1] = (llm_batch_error_t) { "invalid_url", "url", 3, "A \"b\"." };

    ob.model = (llm_str_t) llm_string("m");
    ob.output_file = ob.input_file;
    ob.error_file = (llm_str_t) llm_string("file-2");
    ob.errors = errors;
    ob.nerrors = 2;
    ob.in_progress = 1;
    ob.expires = 2;
    ob.finalizing = 3;
    ob.completed = 4;
    ob.failed = 5;
    ob.expired = 6;
    ob.cancelling = 7;
    ob.cancelled = 8;
    ob.total = 11;
    ob.succeeded = 7;
    ob.unsuccessful = 4;
    ob.input_tokens = 10;
    ob.cached_tokens = 3;
    ob.output_tokens = 20;
    ob.reasoning_tokens = 5;
    ob.metadata = (llm_str_t) llm_string("{\"k\":\"v\"}");

    write_all(out, llm_batch_write_object(buf, k, &ob));

    json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);

    other = json_pack("{ss,ss,ss,ss,s{ss,s[{ss,sn,ss,sn},{ss,si,ss,ss}]},"
        "ss,ss,ss,ss,ss,si,si,si,si,si,si,si,si,si,s{si,si,si},"
        "s{si,s{si},si,s{si},si},s{ss}}", "id", "batch_1", "object", "batch",
        "endpoint", "/v1/responses", "model", "m", "errors", "object", "list",
        "data", "code", "empty_file", "line", "message", "None.", "param",
        "code", "invalid_url", "line", 3, "message", "A \"b\".", "param",
        "url", "input_file_id", "file-1", "completion_window", "24h",
        "status", "validating", "output_file_id", "file-1", "error_file_id",
        "file-2", "created_at", 1700000000, "in_progress_at", 1,
        "expires_at", 2, "finalizing_at", 3, "completed_at", 4, "failed_at",
        5, "expired_at", 6, "cancelling_at", 7, "cancelled_at", 8,
        "request_counts", "total", 11, "completed", 7, "failed", 4, "usage",
        "input_tokens", 10, "input_tokens_details", "cached_tokens", 3,
        "output_tokens", 20, "output_tokens_details", "reasoning_tokens", 5,
        "total_tokens", 30, "metadata", "k", "v");

    assert_non_null(other);
    assert_true(json_equal(json, other));
    json_decref(json);
    json_decref(other);
}


static void
test_files(void **state)
{
    char              out[512];
    llm_str_t         id = llm_string("file-1"), none = { 0, NULL };
    llm_batch_file_t  f;

    (void) state;

    f = (llm_batch_file_t) { id, 12, 34, 0, llm_string("a\"b"), "batch",
                             "processed" };

    write_all(out, llm_batch_write_file(buf, k, &f));

    assert_string_equal(out, "{\"id\":\"file-1\",\"object\":\"file\","
        "\"bytes\":12,\"created_at\":34,\"filename\":\"a\\\"b\",\"purpose\":"
        "\"batch\",\"status\":\"processed\",\"status_details\":null}");

    f.expires = 56;
    write_all(out, llm_batch_write_file(buf, k, &f));
    assert_non_null(strstr(out, "34,\"expires_at\":56,\"filename\""));

    write_all(out, llm_batch_write_deleted(buf, k, &id));
    assert_string_equal(out, "{\"id\":\"file-1\",\"object\":\"file\","
                             "\"deleted\":true}");

    write_all(out, llm_batch_write_list_head(buf, k));
    assert_string_equal(out, "{\"object\":\"list\",\"data\":[");
    write_all(out, llm_batch_write_list_tail(buf, k, &id, &id, 1));
    assert_string_equal(out, "],\"first_id\":\"file-1\",\"last_id\":"
                             "\"file-1\",\"has_more\":true}");
    write_all(out, llm_batch_write_list_tail(buf, k, &none, &none, 0));
    assert_string_equal(out, "],\"first_id\":null,\"last_id\":null,"
                             "\"has_more\":false}");
}


/* as another library has it */

static void
test_utf8(void **state)
{
    size_t         k, n;
    json_t        *json;
    unsigned       i, j, l;
    unsigned char  p[4];

    static const unsigned char  rest[] = { 0x7f, 0x80, 0xbf, 0xc0 };

    (void) state;

    for (i = 0x80; i < 0x100; i++) {

        for (j = 0; j < 0x100; j++) {

            for (l = 0; l < 16; l++) {
                p[0] = (unsigned char) i;
                p[1] = (unsigned char) j;
                p[2] = rest[l % 4];
                p[3] = rest[l / 4];

                n = llm_batch_utf8(p, p + 4);

                for (k = 1; k <= 4; k++) {
                    json = json_stringn((char *) p, k);

                    if (json != NULL) {
                        break;
                    }
                }

                assert_int_equal(n, json != NULL ? k : 0);
                json_decref(json);

                if (n != 0) {
                    assert_int_equal(llm_batch_utf8(p, p + n - 1), 0);
                }
            }
        }
    }
}


int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_results),
        cmocka_unit_test(test_objects),
        cmocka_unit_test(test_object_full),
        cmocka_unit_test(test_files),
        cmocka_unit_test(test_utf8)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
