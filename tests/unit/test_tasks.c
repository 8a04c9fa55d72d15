
/*
 * Copyright (C) the ngx-llm authors
 */


#define _POSIX_C_SOURCE  200809L

#include "json_check.h"

#include <jansson.h>
#include <time.h>

#include "core/llm_tasks.h"


#define MB  (1024 * 1024)


static llm_tasks_t        ts;
static llm_tasks_error_t  err;
static check_memory_t     memory;
static unsigned char     *text;
static llm_str_t          model;


static int
scan(const char *body, size_t len, size_t step)
{
    int        rc;
    llm_str_t  s;

    check_memory_free(&memory);
    check_memory(&memory, MB, -1);

    free(text);
    s.len = len;
    s.data = text = check_copy(body, len);

    memset(&err, 0, sizeof(err));

    llm_tasks_init(&ts, &s, &model, 1000, &memory.arena, &err);

    do {
        rc = llm_tasks_scan(&ts, step);
    } while (rc == LLM_AGAIN);

    assert_int_equal(llm_tasks_scan(&ts, step), rc);

    return rc;
}


/* all requests, each in memory of exactly its size, one per line */

static void
collect(char *out)
{
    unsigned           n;
    unsigned char     *buf;
    llm_tasks_item_t   item;

    for (n = 0; llm_tasks_next(&ts, &item) == LLM_OK; n++) {
        assert_int_equal(item.index, n);

        buf = malloc(item.len);
        llm_tasks_write(&ts, &item, buf);

        memcpy(out, buf, item.len);
        out += item.len;
        *out++ = '\n';

        free(buf);
    }

    *out = '\0';

    assert_int_equal(n, ts.n);
    assert_int_equal(llm_tasks_next(&ts, &item), LLM_DECLINED);
}


static void
good(const char *body, const char *expected)
{
    char    out[4096];
    size_t  step;

    for (step = 0; step < 200; step = step * 2 + 1) {

        if (scan(body, strlen(body), step) != LLM_OK) {
            fail_msg("%s: %s %s: %s", body, err.code, err.param, err.text);
        }

        collect(out);
        assert_string_equal(out, expected);
    }
}


static void
bad(const char *body, const char *code, const char *param, int offset)
{
    size_t  step;

    for (step = 0; step < 200; step = step * 2 + 1) {

        if (scan(body, strlen(body), step) != LLM_ERROR) {
            fail_msg("%s: not refused", body);
        }

        if (strcmp(err.code, code) != 0 || strcmp(err.param, param) != 0
            || (offset >= 0 && err.offset != (size_t) offset))
        {
            fail_msg("%s: %s %s at %zu: %s", body, err.code, err.param,
                     err.offset, err.text);
        }

        assert_true(err.text[0] != '\0');
        assert_true(err.offset <= strlen(body));
    }
}


#define ASK(prompt)  "\"messages\":[{\"role\":\"user\",\"content\":" prompt   \
                     "}]}\n"


static void
test_prompts(void **state)
{
    (void) state;

    model = (llm_str_t) llm_string("");

    good("{\"prompts\":[\"a\"],\"model\":\"m\"}",
         "{\"model\":\"m\"," ASK("\"a\""));
    good(" { \"model\" : \"m\" , \"prompts\" : [ \"a\\n\" , \"\xc3\xa9\" "
         ",\"\"] , \"max_tokens\": 5, \"stop\":[\"x\", {\"y\":[]}], "
         "\"stream\":false,\"seed\":12345678901234567890 } ",
         "{\"model\" : \"m\",\"max_tokens\": 5,\"stop\":[\"x\", {\"y\":[]}],"
         "\"stream\":false,\"seed\":12345678901234567890," ASK("\"a\\n\"")
         "{\"model\" : \"m\",\"max_tokens\": 5,\"stop\":[\"x\", {\"y\":[]}],"
         "\"stream\":false,\"seed\":12345678901234567890," ASK("\"\xc3\xa9\"")
         "{\"model\" : \"m\",\"max_tokens\": 5,\"stop\":[\"x\", {\"y\":[]}],"
         "\"stream\":false,\"seed\":12345678901234567890," ASK("\"\""));

    model = (llm_str_t) llm_string("d\"e");

    good("{\"prompts\":[\"a\"],\"model\":\"m\"}",
         "{\"model\":\"m\"," ASK("\"a\""));
    good("{\"prompts\":[\"a\"],\"n\":1}",
         "{\"model\":\"d\\\"e\",\"n\":1," ASK("\"a\""));
    good("{\"n\":1,\"model\":null,\"pr\\u006fmpts\":[\"a\"]}",
         "{\"model\":\"d\\\"e\",\"n\":1," ASK("\"a\""));

    model = (llm_str_t) llm_string("");
}


static void
test_requests(void **state)
{
    (void) state;

    good("{\"requests\":[{\"model\":\"m\",\"x\":[1, 2]}, {\"model\":\"k\"}]}",
         "{\"model\":\"m\",\"x\":[1, 2]}\n{\"model\":\"k\"}\n");

    /* what one lacks it is given, wherever that stands */

    good("{\"temperature\":1,\"requests\":[{},{\"model\":\"k\"},"
         "{ \"t\\u0065mperature\" : 2 },{\"x\":{\"model\":1},\"y\":[]},"
         "{ \"temperature\":3,\"model\":\"l\"}],\"model\":\"m\"}",
         "{\"temperature\":1,\"model\":\"m\"}\n"
         "{\"temperature\":1,\"model\":\"k\"}\n"
         "{\"model\":\"m\", \"t\\u0065mperature\" : 2 }\n"
         "{\"temperature\":1,\"model\":\"m\",\"x\":{\"model\":1},\"y\":[]}\n"
         "{ \"temperature\":3,\"model\":\"l\"}\n");

    good("{\"requests\":[{\"stream\":false,\"model\":\"m\"}],"
         "\"messages\":[1]}",
         "{\"messages\":[1],\"stream\":false,\"model\":\"m\"}\n");

    model = (llm_str_t) llm_string("d");

    good("{\"requests\":[{ },{\"model\":\"k\"},{\"a\":1}],\"b\":null}",
         "{\"model\":\"d\",\"b\":null }\n{\"b\":null,\"model\":\"k\"}\n"
         "{\"model\":\"d\",\"b\":null,\"a\":1}\n");

    model = (llm_str_t) llm_string("");
}


#define P   "{\"model\":\"m\",\"prompts\":[\"a\"],"


static void
test_options(void **state)
{
    (void) state;

    good(P "\"x\":1}", "{\"model\":\"m\",\"x\":1," ASK("\"a\""));
    assert_int_equal(ts.priority, LLM_TASKS_NORMAL);
    assert_int_equal(ts.fail_on_crash, 0);
    assert_int_equal(ts.webhook.len, 0);
    assert_int_equal(ts.metadata.len, 0);
    assert_int_equal(ts.prompts, 1);
    assert_int_equal(ts.n, 1);

    good(P "\"priority\":\"high\",\"on_crash\":\"fail\",\"webhook\":"
         "\"https:\\/\\/x.y\\/z\",\"metadata\":{ \"a\":[1]}}",
         "{\"model\":\"m\"," ASK("\"a\""));
    assert_int_equal(ts.priority, LLM_TASKS_HIGH);
    assert_int_equal(ts.fail_on_crash, 1);
    assert_int_equal(ts.webhook.len, 13);
    assert_memory_equal(ts.webhook.data, "https://x.y/z", 13);
    assert_int_equal(ts.metadata.len, 10);
    assert_memory_equal(ts.metadata.data, "{ \"a\":[1]}", 10);

    good(P "\"priority\":\"low\",\"on_crash\":\"retry\",\"metadata\":{},"
         "\"webhook\":\"http://x\"}", "{\"model\":\"m\"," ASK("\"a\""));
    assert_int_equal(ts.priority, LLM_TASKS_LOW);
    assert_int_equal(ts.metadata.len, 2);

    good(P "\"priority\":null,\"on_crash\":null,\"webhook\":null,"
         "\"metadata\":null}", "{\"model\":\"m\"," ASK("\"a\""));
    good(P "\"priority\":\"normal\"}", "{\"model\":\"m\"," ASK("\"a\""));

    bad(P "\"priority\":1}", "invalid_value", "priority", 40);
    bad(P "\"priority\":\"\"}", "invalid_value", "priority", 40);
    bad(P "\"on_crash\":\"x\"}", "invalid_value", "on_crash", 40);
    bad(P "\"on_crash\":{}}", "invalid_value", "on_crash", 40);
    bad(P "\"webhook\":\"x\"}", "invalid_value", "webhook", 39);
    bad(P "\"webhook\":\"\"}", "invalid_value", "webhook", 39);
    bad(P "\"webhook\":\"https://\"}", "invalid_value", "webhook", 39);
    bad(P "\"webhook\":\"https://a b\"}", "invalid_value", "webhook", 39);
    bad(P "\"webhook\":\"https://a\\nb\"}", "invalid_value", "webhook", 39);
    bad(P "\"webhook\":[]}", "invalid_value", "webhook", 39);
    bad(P "\"metadata\":[]}", "invalid_value", "metadata", 40);
    bad(P "\"metadata\":\"x\"}", "invalid_value", "metadata", 40);
}


static void
test_bad(void **state)
{
    (void) state;

    bad("", "invalid_json", "", 0);
    bad("[]", "invalid_json", "", 0);
    bad(" 1", "invalid_json", "", 1);
    bad("{", "invalid_json", "", 1);
    bad("{\"prompts\":[\"a\",]}", "invalid_json", "", 16);
    bad(P "\"x\":1} x", "invalid_json", "", 36);
    bad(P "\"x\":[1}", "invalid_json", "", 35);
    bad("{\"requests\":[{\"model\":\"m\",\"x\":nul}]}", "invalid_json", "",
        33);

    bad("{}", "missing_required_parameter", "prompts", 2);
    bad("{\"model\":\"m\"}", "missing_required_parameter", "prompts", 13);
    bad("{\"prompts\":[\"a\"]}", "missing_required_parameter", "model", 17);
    bad("{\"requests\":[{\"model\":\"m\"},{\"x\":[{\"model\":\"m\"}]},{}]}",
        "missing_required_parameter", "requests[1].model", 27);

    bad("{\"prompts\":[]}", "invalid_value", "prompts", 11);
    bad("{\"requests\":[ ]}", "invalid_value", "requests", 12);
    bad("{\"prompts\":null}", "invalid_value", "prompts", 11);
    bad("{\"prompts\":\"a\"}", "invalid_value", "prompts", 11);
    bad("{\"prompts\":{}}", "invalid_value", "prompts", 11);
    bad("{\"requests\":{}}", "invalid_value", "requests", 12);
    bad("{\"prompts\":[\"a\",1]}", "invalid_value", "prompts[1]", 16);
    bad("{\"prompts\":[\"a\",[\"b\"]]}", "invalid_value", "prompts[1]", 16);
    bad("{\"requests\":[{},\"a\"]}", "invalid_value", "requests[1]", 16);
    bad("{\"requests\":[{\"x\":1},1]}", "invalid_value", "requests[1]", 21);
    bad("{\"requests\":[[]]}", "invalid_value", "requests[0]", 13);
    bad("{\"prompts\":[\"a\"],\"requests\":[{}]}", "invalid_value", "requests",
        17);
    bad("{\"requests\":[{}],\"prompts\":[\"a\"]}", "invalid_value", "prompts",
        17);
    bad("{\"requests\":[{\"model\":null}]}", "invalid_value",
        "requests[0].model", 22);
    bad("{\"requests\":[{\"model\":{}}]}", "invalid_value",
        "requests[0].model", 22);
    bad("{\"prompts\":[\"a\"],\"model\":\"\"}", "invalid_value", "model", 25);
    bad("{\"prompts\":[\"a\"],\"model\":[]}", "invalid_value", "model", 25);

    bad(P "\"stream\":true}", "unsupported_parameter", "stream", 38);
    bad(P "\"messages\":[]}", "unsupported_parameter", "messages", -1);
    bad("{\"requests\":[{\"model\":\"m\"},{\"stream\":true}]}",
        "unsupported_parameter", "requests[1].stream", 37);

    bad(P "\"model\":\"k\"}", "duplicate_key", "model", 29);
    bad(P "\"prompts\":[]}", "duplicate_key", "prompts", 29);
    bad(P "\"priority\":null,\"priority\":null}", "duplicate_key", "priority",
        45);
    bad(P "\"top_p\":1,\"t\\u006fp_p\":1}", "duplicate_key", "", 39);
}


static void
test_bounds(void **state)
{
    char              *p, *q;
    unsigned           i;
    llm_tasks_item_t   item;

    (void) state;

    p = malloc(MB);

    for (i = 1000; i < 1002; i++) {
        q = p + sprintf(p, "{\"model\":\"m\",\"prompts\":[");

        for (unsigned k = 0; k < i; k++) {
            q += sprintf(q, "\"x\",");
        }

        strcpy(q - 1, "]}");

        if (i == 1000) {
            assert_int_equal(scan(p, strlen(p), 100), LLM_OK);
            assert_int_equal(ts.n, 1000);

            for (i = 0; llm_tasks_next(&ts, &item) == LLM_OK; i++) {
                assert_memory_equal(text + item.span.start, "\"x\"", 3);
            }

            assert_int_equal(i, 1000);

        } else {
            bad(p, "too_many_tasks", "prompts[1000]", -1);
        }
    }

    /* parameters: how many, and how long their names may be */

    for (i = LLM_TASKS_PARAMS - 1; i < LLM_TASKS_PARAMS + 1; i++) {
        q = p + sprintf(p, "{\"requests\":[{},{\"p3\":0}]");

        for (unsigned k = 0; k < i; k++) {
            q += sprintf(q, ",\"p%u\":%u", k, k);
        }

        q += sprintf(q, ",\"model\":\"m\"}");

        if (i < LLM_TASKS_PARAMS) {
            char  out[4096];

            assert_int_equal(scan(p, strlen(p), 100), LLM_OK);
            collect(out);
            assert_non_null(strstr(out, "\"p62\":62,\"model\":\"m\"}\n"));
            assert_non_null(strstr(out, "\"p2\":2,\"p4\":4,"));
            assert_non_null(strstr(out, "\"model\":\"m\",\"p3\":0}\n"));
        } else {
            bad(p, "invalid_value", "", -1);
        }
    }

    for (i = LLM_TASKS_NAME; i < LLM_TASKS_NAME + 2; i++) {
        q = p + sprintf(p, P "\"");
        memset(q, 'n', i);
        strcpy(q + i, "\":1}");

        if (i == LLM_TASKS_NAME) {
            assert_int_equal(scan(p, strlen(p), 100), LLM_OK);
        } else {
            bad(p, "invalid_value", "", 29);
        }
    }

    for (i = 0; i < 2; i++) {
        q = p + sprintf(p, P "\"metadata\":{\"a\":\"");
        memset(q, 'n', LLM_TASKS_METADATA - 8 + i);
        strcpy(q + LLM_TASKS_METADATA - 8 + i, "\"}}");

        if (i == 0) {
            assert_int_equal(scan(p, strlen(p), 100), LLM_OK);
        } else {
            bad(p, "invalid_value", "metadata", 40);
        }
    }

    free(p);
}


/* every allocation fails once */

static void
test_memory(void **state)
{
    int        n, rc, k;
    llm_str_t  s, name = llm_string("d");

    static const char *bodies[] = {
        "{\"prompts\":[\"a\"],\"x\":1,\"webhook\":\"https:\\/\\/x\"}",
        "{\"requests\":[{}],\"x\":1}"
    };

    (void) state;

    for (k = 0; k < 2; k++) {
        s.data = (unsigned char *) bodies[k];
        s.len = strlen(bodies[k]);

        for (n = 0; /* void */ ; n++) {
            check_memory_free(&memory);
            check_memory(&memory, MB, n);
            memset(&err, 0, sizeof(err));

            llm_tasks_init(&ts, &s, &name, 10, &memory.arena, &err);
            rc = llm_tasks_scan(&ts, s.len + 1);

            if (rc == LLM_OK) {
                break;
            }

            assert_int_equal(rc, LLM_ERROR);
            assert_string_equal(err.code, "request_too_complex");
            assert_int_equal(llm_tasks_scan(&ts, s.len), LLM_ERROR);
        }

        assert_true(n >= 2);

        /* by the limit instead */

        for (n = 0; /* void */ ; n += 8) {
            check_memory_free(&memory);
            check_memory(&memory, (size_t) n, -1);

            llm_tasks_init(&ts, &s, &name, 10, &memory.arena, &err);
            rc = llm_tasks_scan(&ts, s.len + 1);

            if (rc == LLM_OK) {
                break;
            }

            assert_string_equal(err.code, "request_too_complex");
        }

        assert_true(n < 16384);
    }
}


static void
test_task(void **state)
{
    char              out[1024];
    size_t            k, n;
    json_t           *json;
    unsigned char    *buf;
    llm_tasks_task_t  task;

    (void) state;

    memset(&task, 0, sizeof(task));

    task.created = 1700000000007;

    n = llm_tasks_write_task((unsigned char *) out, sizeof(out), &task);
    out[n] = '\0';

    assert_string_equal(out, "{\"status\":\"queued\",\"progress\":0,"
        "\"attempts\":0,\"created_at\":1700000000.007,\"started_at\":null,"
        "\"finished_at\":null,\"result\":null,\"error\":null}");

    task.state = LLM_TASKS_COMPLETED;
    task.progress = 100;
    task.attempts = 2;
    task.started = 1700000001020;
    task.finished = 1700000012345;
    task.result = (llm_str_t) llm_string("{\n\"id\": \"x\"}");
    task.error = (llm_str_t) llm_string("not json");
    task.usage = (llm_str_t) llm_string("{}");
    task.metadata = (llm_str_t) llm_string("{\"a\":1}");

    n = llm_tasks_write_task(NULL, 0, &task);

    for (k = 0; k <= n; k++) {
        buf = malloc(k != 0 ? k : 1);
        assert_int_equal(llm_tasks_write_task(buf, k, &task), n);

        if (k == n) {
            memcpy(out, buf, n);
            out[n] = '\0';
        }

        free(buf);
    }

    assert_string_equal(out, "{\"status\":\"completed\",\"progress\":100,"
        "\"attempts\":2,\"created_at\":1700000000.007,\"started_at\":"
        "1700000001.020,\"finished_at\":1700000012.345,\"result\":"
        "{ \"id\": \"x\"},\"error\":\"not json\",\"usage\":{},\"metadata\":"
        "{\"a\":1}}");

    for (k = 0; k < LLM_TASKS_STATES; k++) {
        task.state = (llm_tasks_state_e) k;
        n = llm_tasks_write_task((unsigned char *) out, sizeof(out), &task);
        out[n] = '\0';

        json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
        assert_string_equal(json_string_value(json_object_get(json, "status")),
                            llm_tasks_state_name(task.state));
        json_decref(json);
    }

    assert_string_equal(out, "{\"status\":\"not_found\"}");
}


static void
test_speed(void **state)
{
    int                k, rc;
    char              *p, *q;
    size_t             len, bytes;
    double             us, worst, sum;
    unsigned           i;
    llm_str_t          s;
    unsigned char     *buf;
    struct timespec    t0, t1;
    llm_tasks_item_t   item;

    (void) state;

    p = malloc(20 * MB);
    buf = malloc(8192);

    for (k = 0; k < 2; k++) {
        q = p + sprintf(p, "{\"model\":\"m\",\"temperature\":0,\"%s\":[",
                        k ? "requests" : "prompts");

        for (i = 0; i < LLM_TASKS_MOST; i++) {
            q += sprintf(q, k ? "{\"messages\":[{\"role\":\"user\","
                              "\"content\":\"" : "\"");
            memset(q, 'x', 1500);
            q += 1500;
            q += sprintf(q, k ? "\"}]}," : "\",");
        }

        len = (size_t) (q - p) + 1;
        strcpy(q - 1, "]}");

        s.data = (unsigned char *) p;
        s.len = len;

        check_memory_free(&memory);
        check_memory(&memory, MB, -1);

        llm_tasks_init(&ts, &s, &model, LLM_TASKS_MOST, &memory.arena, &err);

        sum = worst = 0;

        do {
            (void) clock_gettime(CLOCK_MONOTONIC, &t0);
            rc = llm_tasks_scan(&ts, MB);
            (void) clock_gettime(CLOCK_MONOTONIC, &t1);

            us = (double) (t1.tv_sec - t0.tv_sec) * 1e6
                 + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3;
            sum += us;
            worst = us > worst ? us : worst;
        } while (rc == LLM_AGAIN);

        assert_int_equal(rc, LLM_OK);

        (void) clock_gettime(CLOCK_MONOTONIC, &t0);

        for (bytes = 0; llm_tasks_next(&ts, &item) == LLM_OK; /* void */ ) {
            llm_tasks_write(&ts, &item, buf);
            bytes += item.len;
        }

        (void) clock_gettime(CLOCK_MONOTONIC, &t1);

        us = (double) (t1.tv_sec - t0.tv_sec) * 1e6
             + (double) (t1.tv_nsec - t0.tv_nsec) / 1e3;

        print_message("10000 %s, %.1f MB: %.1f us per MB to scan (a slice of "
                      "1 MB at most %.0f us), %.1f us per MB to write, "
                      "%zu KB of memory\n", k ? "requests" : "prompts",
                      (double) len / MB, sum / ((double) len / MB), worst,
                      us / ((double) bytes / MB),
                      (MB - memory.arena.left) / 1024);
    }

    free(buf);
    free(p);
}


int
main(void)
{
    int  rc;

    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_prompts),
        cmocka_unit_test(test_requests),
        cmocka_unit_test(test_options),
        cmocka_unit_test(test_bad),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_task),
        cmocka_unit_test(test_speed)
    };

    rc = cmocka_run_group_tests(tests, NULL, NULL);

    check_memory_free(&memory);
    free(text);

    return rc;
}
