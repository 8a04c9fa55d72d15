
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>
#include <jansson.h>

#include "core/llm_splice.h"


#define MODEL  1
#define USAGE  2


/* the body with the edits made, by way of its parser */

static void
assert_spliced(llm_endpoint_e endpoint, const char *body, int what,
    int64_t most, const char *expected)
{
    int                  rc;
    char                 out[1024];
    size_t               len, at;
    unsigned             i, n;
    json_t              *json;
    llm_str_t            piece[LLM_SPLICE_PIECES];
    llm_arena_t          arena;
    llm_splice_t         sp;
    llm_request_t        rq;
    unsigned char       *copy, buf[LLM_SPLICE_CAP];
    llm_request_error_t  err;

    static const llm_str_t  name = llm_string("another");
    static unsigned char    memory[8192] __attribute__((aligned(8)));

    arena.pos = memory;
    arena.end = memory + sizeof(memory);
    arena.left = 0;
    arena.alloc = NULL;

    len = strlen(body);
    copy = malloc(len);
    memcpy(copy, body, len);

    rc = llm_request_parse(&rq, endpoint, copy, len, 0, &arena, &err);

    if (rc != LLM_OK) {
        fail_msg("%s: %s", body, err.text);
    }

    memset(&sp, 0, sizeof(llm_splice_t));

    if (what & MODEL) {
        llm_splice_model(&sp, &rq, &name);
    }

    if (what & USAGE) {
        llm_splice_usage(&sp, &rq);
    }

    if (most > 0) {
        llm_splice_cap(&sp, &rq, most, buf);
    }

    n = llm_splice_pieces(&sp, &rq, piece, &len);
    assert_true(n <= LLM_SPLICE_PIECES);

    for (at = 0, i = 0; i < n; i++) {
        assert_true(piece[i].len != 0);
        memcpy(out + at, piece[i].data, piece[i].len);
        at += piece[i].len;
    }

    out[at] = '\0';

    assert_string_equal(out, expected);
    assert_int_equal(at, len);

    json = json_loads(out, JSON_REJECT_DUPLICATES, NULL);
    assert_non_null(json);
    json_decref(json);

    assert_memory_equal(copy, body, strlen(body));
    free(copy);
}


#define REST  ",\"model\":\"m\",\"messages\":[]}"
#define chat(body, what, most, expected)                                      \
    assert_spliced(LLM_CHAT, body, what, most, expected)


static void
test_model(void **state)
{
    (void) state;

    chat("{\"x\":1" REST, 0, 0, "{\"x\":1" REST);
    chat("{\"x\":1" REST, MODEL, 0,
         "{\"x\":1,\"model\":\"another\",\"messages\":[]}");
    chat("{\"model\" : \"\\u006d\" ,\"messages\":[]}", MODEL, 0,
         "{\"model\" : \"another\" ,\"messages\":[]}");
}


static void
test_usage(void **state)
{
    (void) state;

#define ASKED  "\"stream_options\":{\"include_usage\":true}"

    chat(" {\"x\":1" REST, USAGE, 0, " {" ASKED ",\"x\":1" REST);
    chat("{\"stream_options\":null" REST, USAGE, 0, "{" ASKED REST);
    chat("{\"stream_options\":{}" REST, USAGE, 0, "{" ASKED REST);
    chat("{\"stream_options\":{ \n}" REST, USAGE, 0,
         "{\"stream_options\":{\"include_usage\":true \n}" REST);
    chat("{\"stream_options\":{\"a\":{}}" REST, USAGE, 0,
         "{\"stream_options\":{\"include_usage\":true,\"a\":{}}" REST);
    chat("{\"stream_options\":{\"a\":1,\"include_usage\" : false}" REST,
         USAGE, 0,
         "{\"stream_options\":{\"a\":1,\"include_usage\" : true}" REST);
    chat("{" ASKED REST, USAGE, 0, "{" ASKED REST);

    assert_spliced(LLM_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"\"}",
                   USAGE, 0, "{" ASKED ",\"model\":\"m\",\"prompt\":\"\"}");
    assert_spliced(LLM_RESPONSES, "{\"model\":\"m\",\"input\":\"\"}", USAGE,
                   0, "{\"model\":\"m\",\"input\":\"\"}");
    assert_spliced(LLM_EMBEDDINGS, "{\"model\":\"m\",\"input\":\"\"}", USAGE,
                   5, "{\"model\":\"m\",\"input\":\"\"}");
}


static void
test_cap(void **state)
{
    (void) state;

    chat("{\"max_tokens\":100" REST, 0, 7, "{\"max_tokens\":7" REST);
    chat("{\"max_tokens\":7" REST, 0, 7, "{\"max_tokens\":7" REST);
    chat("{\"max_tokens\":null" REST, 0, 7, "{\"max_tokens\":7" REST);
    chat("{\"max_completion_tokens\": 100 ,\"max_tokens\":5" REST, 0, 7,
         "{\"max_completion_tokens\": 7 ,\"max_tokens\":5" REST);
    chat("{\"x\":1" REST, 0, 2147483648,
         "{\"max_completion_tokens\":2147483648,\"x\":1" REST);

    /* a cap that the endpoint knows not is none */

    chat("{\"max_output_tokens\":100" REST, 0, 7,
         "{\"max_completion_tokens\":7,\"max_output_tokens\":7" REST);
    assert_spliced(LLM_COMPLETIONS, "{\"model\":\"m\",\"prompt\":\"\"}", 0, 7,
                   "{\"max_tokens\":7,\"model\":\"m\",\"prompt\":\"\"}");
    assert_spliced(LLM_RESPONSES, "{\"model\":\"m\",\"input\":\"\"}", 0, 7,
                   "{\"max_output_tokens\":7,\"model\":\"m\",\"input\":\"\"}");
    assert_spliced(LLM_RESPONSES,
                   "{\"model\":\"m\",\"max_output_tokens\":8,\"input\":\"\"}",
                   0, 7,
                   "{\"model\":\"m\",\"max_output_tokens\":7,\"input\":\"\"}");
}


static void
test_all(void **state)
{
    (void) state;

    chat("{\"max_output_tokens\":9,\"messages\":[],\"model\":\"m\","
         "\"max_tokens\":9,\"max_completion_tokens\":9,\"stream\":true}",
         MODEL|USAGE, 7,
         "{" ASKED ",\"max_output_tokens\":7,\"messages\":[],\"model\":"
         "\"another\",\"max_tokens\":7,\"max_completion_tokens\":7,"
         "\"stream\":true}");

    chat("{\"model\":\"m\",\"messages\":[]}", MODEL|USAGE, 7,
         "{" ASKED ",\"max_completion_tokens\":7,\"model\":\"another\","
         "\"messages\":[]}");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_cap),
        cmocka_unit_test(test_all)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
