
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_sse.h"


#define BITS(a)     (LLM_SSE_DATA|LLM_SSE_ ## a)
#define FINAL       (BITS(USAGE)|LLM_SSE_USAGE_ONLY)

#define FINISHED    "data: {\"choices\":[{\"index\":0,\"delta\":{},"         \
                    "\"finish_reason\":\"stop\"}]}\n\n"


/* exactly the memory an event has, as a checker of memory wants it */

static unsigned char *
own(const unsigned char *p, size_t len)
{
    unsigned char  *copy;

    copy = malloc(len == 0 ? 1 : len);
    memcpy(copy, p, len);

    return copy;
}


static unsigned
classify_as(llm_endpoint_e endpoint, const char *text, llm_usage_t *usage)
{
    unsigned        bits;
    size_t          len;
    unsigned char  *event;

    len = strlen(text);
    event = own((const unsigned char *) text, len);

    bits = llm_sse_classify(endpoint, event, len, usage, NULL);

    assert_memory_equal(event, text, len);
    free(event);

    return bits & ~LLM_SSE_NULLED;             /* clean() looks at it */
}


static unsigned
classify(const char *text)
{
    return classify_as(LLM_CHAT, text, NULL);
}


static void
test_done(void **state)
{
    (void) state;

    assert_int_equal(classify("data: [DONE]\n\n"), BITS(DONE));
    assert_int_equal(classify("data:[DONE]\n\n"), BITS(DONE));
    assert_int_equal(classify("data: [DONE] \t \r\n\r\n"), BITS(DONE));
    assert_int_equal(classify("data: [DONE]"), BITS(DONE));
    assert_int_equal(classify("event: error\ndata: [DONE]\n\n"),
                     BITS(DONE)|LLM_SSE_ERROR);

    assert_int_equal(classify("data: [DONE\n\n"), LLM_SSE_DATA);
    assert_int_equal(classify("data:  [DONE]\n\n"), LLM_SSE_DATA);
    assert_int_equal(classify("data: [DONE]x\n\n"), LLM_SSE_DATA);
    assert_int_equal(classify("data: [done]\n\n"), LLM_SSE_DATA);
    assert_int_equal(classify("data: \"[DONE]\"\n\n"), LLM_SSE_DATA);
    assert_int_equal(classify("data: [DONE]\ndata: [DONE]\n\n"),
                     LLM_SSE_DATA);
    assert_int_equal(classify("data: {\"content\":\"[DONE]\"}\n\n"),
                     LLM_SSE_DATA);
    assert_int_equal(classify(": [DONE]\n\n"), 0);
    assert_int_equal(classify("event: [DONE]\n\n"), 0);
}


static void
test_error(void **state)
{
    unsigned  i;

    static const char *const  errors[] = {
        "data: {\"error\":{\"message\":\"x\"}}\n\n",
        "data: { \"error\" \t: {\"message\":\"x\"} }\n\n",
        "data: {\"error\":\"x\"}\n\n",
        "data: {\"error\":{}}\n\n",
        "data: {\"error\":false}\n\n",
        "data: {\"id\":\"x\",\"choices\":[],\"error\":{\"code\":429}}\n\n",
        ("data: {\"choices\":[{\"delta\":{\"content\":\"\"},"
         "\"finish_reason\":null}],\"error\":{\"code\":429}}\n\n"),
        "data: {\"error\":null,\"error\":1}\n\n",
        "data: {\"error\":1,\"error\":null}\n\n",
        "data: {\ndata: \"error\":\ndata: {\"message\":\"x\"}}\n\n",
        "data: {\"a\":1,\ndata: \"error\"\ndata: :\ndata: 1}\n\n",
        "event: error\ndata: {\"message\":\"x\"}\n\n",
        "data: {\"message\":\"x\"}\nevent: error\n\n",
        "event:error\ndata: x\n\n",
        "data: {\"type\":\"error\",\"code\":null}\n\n",
        "data: {\"type\": \"error\" }\n\n",
        "data: {\"type\":\"response.failed\",\"response\":{}}\n\n",
        "event: response.failed\ndata: {}\n\n",

        /* in an array, without a wrapper, behind blanks and a mark */

        "data: [{\"error\":{\"code\":503,\"message\":\"x\"}}]\n\n",
        ("data: [{\ndata:   \"error\": {\ndata:     \"code\": 503\ndata: }\n"
         "data: }]\n\n"),
        ("data: {\"object\":\"error\",\"message\":\"x\",\"type\":"
         "\"BadRequestError\",\"param\":null,\"code\":400}\n\n"),
        "data: {\"message\":\"x\", \"object\" : \"error\" }\n\n",
        "\xef\xbb\xbf""data: {\"error\":{\"code\":1}}\n\n",
        ": OPENROUTER PROCESSING\n\n: x\ndata: {\"error\":{\"code\":1}}\n\n",

        /* an error cut short is one */

        "data: {\"error\":{\"message\":\"x\n\n",
        "data: {\"error\":\n\n",
        "data: {\"error\":{\"message\":\"x\"}}}\n\n",
        "data: {\"error\":oops}\n\n"
    };

    static const char *const  others[] = {
        "data: {\"error\":null}\n\n",
        "data: {\"error\" : null, \"choices\":[]}\n\n",
        "data: {\"a\":1,\ndata: \"error\":\ndata: null}\n\n",
        ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\\\": 1\"},"
         "\"finish_reason\":null}]}\n\n"),
        "data: {\"choices\":[{\"delta\":{\"content\":\"error\"}}]}\n\n",
        ("data: {\"choices\":[{\"delta\":{\"content\":\"\\\"error\"},"
         "\"x\":\"error\"}]}\n\n"),
        "data: {\"choices\":[{\"delta\":{\"error\":{\"a\":1}}}]}\n\n",
        ("data: {\"choices\":[{\"delta\":{\"tool_calls\":[{\"function\":"
         "{\"arguments\":{\"error\":{\"type\":\"error\"}}}}]}}]}\n\n"),
        ("data: {\"choices\":[],\"x\":[{\"error\":1}],"
         "\"y\":{\"error\":\"z\"}}\n\n"),
        "data: {\"x\":{\"type\":\"error\"}}\n\n",
        "data: {\"x\":\"{\\\"error\\\":{\"}\n\n",
        "data: [[{\"error\":1}]]\n\n",
        "data: [1,{\"error\":1}]\n\n",
        "data: [{\"error\":null}]\n\n",
        "data: {\"x\":{\"object\":\"error\"}}\n\n",
        "data: {\"choices\":[],\"object\":\"errors\",\"x\":\"error\"}\n\n",
        "data: \"error\"\n\n",
        "data: {\"errors\":{\"error\":1}}\n\n",
        "data: {\"type\":[\"error\"]}\n\n",
        "data: {\"delta\":\"error\",\"type\":\"x\"}\n\n",
        "id: error\ndata: {}\n\n",
        "event: errors\ndata: {}\n\n",
        "event: error\nevent: message\ndata: {}\n\n",
        "data: error\n\n"
    };

    (void) state;

    for (i = 0; i < sizeof(errors) / sizeof(errors[0]); i++) {
        assert_int_equal(classify(errors[i]), BITS(ERROR));
    }

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(classify(others[i]), LLM_SSE_DATA);
    }

    assert_int_equal(classify("event: error\n\n"), LLM_SSE_ERROR);
    assert_int_equal(classify(": error\n\n"), 0);
}


static void
test_finish(void **state)
{
    unsigned  i;

    static const char *const  finished[] = {
        FINISHED,
        "data: {\"choices\":[{\"finish_reason\" : \"length\"}]}\n\n",
        ("data: {\"choices\":[{\"finish_reason\":null},"
         "{\"finish_reason\":\"stop\"}]}\n\n"),
        ("data: {\"choices\":[{\"finish_reason\":\"stop\"},"
         "{\"finish_reason\":null}]}\n\n"),
        ("data: {\"choices\":[\ndata: {\"finish_reason\":\n"
         "data: \"stop\"}]}\n\n"),
        ("data: {\"choices\":[{\"text\":\"\",\"finish_reason\":\"stop\"}],"
         "\"usage\":null,\"error\":null}\n\n")
    };

    static const char *const  others[] = {
        "data: {\"choices\":[{\"finish_reason\":null}]}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"\"}]}\n\n",
        "data: {\"choices\":[{\"finish_reason\":0}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"finish_reason\":\"stop\"}}]}\n\n",
        "data: {\"finish_reason\":\"stop\"}\n\n",
        "data: {\"choices\":{\"finish_reason\":\"stop\"}}\n\n",
        "data: {\"choices\":[[{\"finish_reason\":\"stop\"}]]}\n\n",
        "data: {\"x\":{\"choices\":[{\"finish_reason\":\"stop\"}]}}\n\n",
        "data: {\"choices\":[{\"native_finish_reason\":\"stop\"}]}\n\n",
        ("data: {\"choices\":[{\"content\":"
         "\"\\\"finish_reason\\\":\\\"stop\\\"\"}]}\n\n"),

        /* cut short, or not JSON */

        "data: {\"choices\":[{\"finish_reason\":\"stop\"}]\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}]}}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"}],}\n\n",
        "data: {\"choices\":[{\"finish_reason\":\"stop\"\n\n"
    };

    (void) state;

    for (i = 0; i < sizeof(finished) / sizeof(finished[0]); i++) {
        assert_int_equal(classify(finished[i]), BITS(FINISH));
    }

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(classify(others[i]), LLM_SSE_DATA);
    }
}


static void
test_usage(void **state)
{
    unsigned     i;
    llm_usage_t  usage;

    static const struct {
        const char  *text;
        unsigned     bits;
    } table[] = {
        { "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,"
          "\"completion_tokens\":6,\"total_tokens\":11,"
          "\"prompt_tokens_details\":{\"cached_tokens\":3},"
          "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n",
          FINAL },

        { "data: {\"usage\": {\"completion_tokens\":6,\"prompt_tokens\":5,"
          "\"completion_tokens_details\":{\"reasoning_tokens\":2},"
          "\"prompt_tokens_details\":{\"cached_tokens\":3},"
          "\"total_tokens\":11}}\r\n\r\n", FINAL },

        { "data: {\ndata: \"usage\":\ndata: {\"completion_tokens\":6,\n"
          "data:\"completion_tokens_details\":{\"reasoning_tokens\":2},\n"
          "id: 7\n"
          "data: \"prompt_tokens_details\":{\"cached_tokens\":3},\n"
          "data: \"prompt_tokens\":5,\"total_tokens\":11}\ndata: }\n\n",
          FINAL },

        { "data: {\"choices\":[{\"delta\":{\"content\":\"x\"},"
          "\"finish_reason\":null}],\"usage\":{\"prompt_tokens\":5,"
          "\"completion_tokens\":6,\"total_tokens\":11,"
          "\"prompt_tokens_details\":{\"cached_tokens\":3},"
          "\"completion_tokens_details\":{\"reasoning_tokens\":2}}}\n\n",
          BITS(USAGE) },

        { "data: {\"usage\":{\"prompt_tokens\":5,"
          "\"completion_tokens\":6,\"total_tokens\":11,"
          "\"prompt_tokens_details\":{\"cached_tokens\":3},"
          "\"completion_tokens_details\":{\"reasoning_tokens\":2}},"
          "\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n",
          BITS(USAGE)|LLM_SSE_FINISH }
    };

    static const char *const  others[] = {
        "data: {\"choices\":[],\"usage\":null}\n\n",
        "data: {\"choices\":[],\"usage\" :\t null}\n\n",
        "data: {\"choices\":[],\"usage\":{}}\n\n",
        "data: {\"choices\":[],\"usage\":7}\n\n",
        "data: {\"choices\":[],\"x\":{\"usage\":{\"total_tokens\":1}}}\n\n",
        "data: {\"content\":\"\\\"usage\\\":{\\\"total_tokens\\\":1}\"}\n\n",
        "data: {\"usage\":{\"total_tokens\":1}\n\n"
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        memset(&usage, 0, sizeof(llm_usage_t));

        assert_int_equal(classify_as(LLM_CHAT, table[i].text, &usage),
                         table[i].bits);
        assert_int_equal(classify_as(LLM_CHAT, table[i].text, NULL),
                         table[i].bits);

        assert_int_equal(usage.prompt_tokens, 5);
        assert_int_equal(usage.completion_tokens, 6);
        assert_int_equal(usage.total_tokens, 11);
        assert_int_equal(usage.cached_tokens, 3);
        assert_int_equal(usage.reasoning_tokens, 2);
    }

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        memset(&usage, 0x5a, sizeof(llm_usage_t));

        assert_int_equal(classify_as(LLM_CHAT, others[i], &usage),
                         LLM_SSE_DATA);
        assert_int_equal(usage.total_tokens, 0x5a5a5a5a5a5a5a5a);
    }

    /* an error is not to be taken out of the stream */

    assert_int_equal(classify("data: {\"error\":{},\"choices\":[],\"usage\":"
                              "{\"total_tokens\":1}}\n\n"),
                     BITS(ERROR)|LLM_SSE_USAGE);
}


/* usage as dialects tell it */

static void
test_usage_kin(void **state)
{
    unsigned     i;
    llm_usage_t  usage;

    (void) state;

    /* growing in each chunk: the last one says it, nothing is added up */

    for (i = 1; i < 4; i++) {
        char  event[256];

        sprintf(event, ": keep-alive\n\n\ndata: {\"choices\":[{\"delta\":"
                "{\"content\":\"x\"},\"finish_reason\":%s}],\"error\":null,"
                "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":%u,"
                "\"total_tokens\":%u,\"completion_tokens_details\":null}}"
                "\n\n",
                i == 3 ? "\"stop\"" : "null", i, 5 + i);

        assert_int_equal(classify_as(LLM_CHAT, event, &usage),
                         i == 3 ? BITS(USAGE)|LLM_SSE_FINISH : BITS(USAGE));
        assert_int_equal(usage.completion_tokens, i);
        assert_int_equal(usage.total_tokens, 5 + i);
        assert_int_equal(usage.reasoning_tokens, -1);
    }

    /* where Groq puts it, with or without a usage of null beside it */

    for (i = 0; i < 3; i++) {
        static const char *const  groq[] = {
            ("data: {\"choices\":[{\"delta\":{},\"finish_reason\":\"stop\"}],"
             "\"x_groq\":{\"id\":\"req_1\",\"usage\":{\"prompt_tokens\":1,"
             "\"completion_tokens\":2,\"total_tokens\":3,"
             "\"queue_time\":0.01}}}\n\n"),
            ("data: {\"usage\":null,\"choices\":["
             "{\"finish_reason\":\"stop\"}],"
             "\"x_groq\":{\"usage\":{\"prompt_tokens\":1,"
             "\"completion_tokens\":2,\"total_tokens\":3}}}\n\n"),
            ("data: {\"x_groq\":{\"usage\":{\"prompt_tokens\":1,"
             "\"completion_tokens\":2,\"total_tokens\":3}},\"choices\":"
             "[{\"finish_reason\":\"stop\"}],\"usage\":null}\n\n")
        };

        assert_int_equal(classify_as(LLM_CHAT, groq[i], &usage),
                         BITS(USAGE)|LLM_SSE_FINISH);
        assert_int_equal(usage.prompt_tokens, 1);
        assert_int_equal(usage.total_tokens, 3);
    }

    assert_int_equal(classify("data: {\"choices\":[{\"delta\":{\"role\":"
                              "\"assistant\"}}],\"x_groq\":{\"id\":\"r\"}}"
                              "\n\n"), LLM_SSE_DATA);
}


static void
clean(const char *from, const char *to)
{
    size_t          i, n, end, len;
    unsigned        bits;
    unsigned char  *event;

    len = strlen(from);
    event = own((const unsigned char *) from, len);
    n = strlen(to);

    /* blanks at the end of the data's line make up for what is gone */

    end = n;

    while (end != 0 && n != len && to[end - 1] != '}') {
        end--;
    }

    bits = llm_sse_classify(LLM_CHAT, event, len, NULL, NULL);

    assert_int_equal(llm_sse_clean(event, len),
                     n == len ? LLM_DECLINED : LLM_OK);
    assert_true(n == len || (bits & LLM_SSE_NULLED));
    assert_memory_equal(event, to, end);

    for (i = end; i < end + (len - n); i++) {
        assert_int_equal(event[i], ' ');
    }

    assert_memory_equal(event + i, to + end, n - end);

    free(event);
}


static void
test_clean(void **state)
{
    (void) state;

    clean("data: {\"a\":1,\"error\":null}\n\n", "data: {\"a\":1}\n\n");
    clean("data:{\"error\": null ,\"a\":1}\r\n\r\n",
          "data:{\"a\":1}\r\n\r\n");
    clean("\n: x\n\ndata: {\"error\":null}\nid: 7\r\r",
          "\n: x\n\ndata: {}\nid: 7\r\r");
    clean("data: {\"error\":null}", "data: {}");

    clean("data: {\"error\":1}\n\n", "data: {\"error\":1}\n\n");
    clean("data: {\ndata: \"error\":null}\n\n",
          "data: {\ndata: \"error\":null}\n\n");
    clean("data: [DONE]\n\n", "data: [DONE]\n\n");
    clean(": {\"error\":null}\n\n", ": {\"error\":null}\n\n");
    clean("", "");
}


#define RESPONSE                                                             \
    "\"response\":{\"id\":\"resp_1\",\"error\":null,\"output\":[{\"type\":"  \
    "\"message\",\"content\":[{\"text\":\"{\\\"usage\\\":{}}\"}]}],"         \
    "\"usage\":{\"input_tokens\":5,\"input_tokens_details\":"                \
    "{\"cached_tokens\":3},\"output_tokens\":6,\"output_tokens_details\":"   \
    "{\"reasoning_tokens\":2},\"total_tokens\":11},\"metadata\":{}}"


static void
test_responses(void **state)
{
    unsigned     i;
    llm_usage_t  usage;

    static const struct {
        const char  *text;
        unsigned     bits;
    } table[] = {
        { "event: response.completed\ndata: {\"type\":\"response.completed\","
          "\"sequence_number\":9," RESPONSE "}\n\n",
          BITS(DONE)|LLM_SSE_USAGE },
        { "data: {" RESPONSE ",\"type\":\"response.completed\"}\n\n",
          BITS(DONE)|LLM_SSE_USAGE },
        { "event: response.incomplete\ndata: {" RESPONSE "}\n\n",
          BITS(DONE)|LLM_SSE_USAGE },
        { "data: {\"type\":\"response.incomplete\"," RESPONSE "}\n\n",
          BITS(DONE)|LLM_SSE_USAGE },
        { "event: response.failed\ndata: {\"type\":\"response.failed\","
          RESPONSE "}\n\n", BITS(ERROR)|LLM_SSE_USAGE }
    };

    static const struct {
        const char  *text;
        unsigned     bits;
    } others[] = {
        { "event: response.created\ndata: {\"type\":\"response.created\","
          "\"response\":{\"error\":null,\"usage\":null}}\n\n",
          LLM_SSE_DATA },
        { "event: response.output_text.delta\ndata: {\"type\":"
          "\"response.output_text.delta\",\"delta\":\"response.completed\"}"
          "\n\n", LLM_SSE_DATA },
        { "data: {\"type\":\"response.output_text.delta\","
          "\"delta\":\"\\\"response.failed\\\"\"}\n\n", LLM_SSE_DATA },
        { "data: {\"type\":\"response.completed\"}\n\n", BITS(DONE) },
        { "event: response.completed\ndata: {\"type\":\"response\n\n",
          LLM_SSE_DATA },
        { "event: response.completed\n\n", 0 },
        { "event: response.completed.x\ndata: {}\n\n", LLM_SSE_DATA },
        { "event: error\ndata: {\"type\":\"error\",\"code\":\"x\","
          "\"message\":\"y\",\"param\":null}\n\n", BITS(ERROR) },
        { "data: [DONE]\n\n", BITS(DONE) }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        memset(&usage, 0, sizeof(llm_usage_t));

        assert_int_equal(classify_as(LLM_RESPONSES, table[i].text, &usage),
                         table[i].bits);

        assert_int_equal(usage.prompt_tokens, 5);
        assert_int_equal(usage.completion_tokens, 6);
        assert_int_equal(usage.total_tokens, 11);
        assert_int_equal(usage.cached_tokens, 3);
        assert_int_equal(usage.reasoning_tokens, 2);
    }

    for (i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        assert_int_equal(classify_as(LLM_RESPONSES, others[i].text, NULL),
                         others[i].bits);
    }
}


/* a name is found wherever it stands: the search goes in steps of 16 bytes */

static void
test_positions(void **state)
{
    char      text[256];
    unsigned  i, k;

    static const struct {
        const char  *text;
        unsigned     bits;
    } table[] = {
        { "\"error\":1", BITS(ERROR) },
        { "\"type\":\"error\"", BITS(ERROR) },
        { "\"type\":\"response.failed\"", BITS(ERROR) },
        { "\"type\":\"response.completed\"", BITS(DONE) },
        { "\"type\":\"response.incomplete\"", BITS(DONE) },
        { "\"usage\":{\"total_tokens\":1}", FINAL },
        { "\"choices\":[{\"finish_reason\":\"x\"}]", BITS(FINISH) }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        for (k = 0; k < 64; k++) {
            snprintf(text, sizeof(text), "data: {\"x\":\"%.*s\",%s}\n\n",
                     (int) k, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                              "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
                     table[i].text);

            assert_int_equal(classify(text), table[i].bits);

            snprintf(text, sizeof(text), "data: {%s,\"x\":\"%.*s\"}\n\n",
                     table[i].text,
                     (int) k, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
                              "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb");

            assert_int_equal(classify(text), table[i].bits);
        }
    }
}


/* every event cut anywhere: no bit that the whole event has not */

static void
test_cut(void **state)
{
    size_t      i, k;
    unsigned    bits;

    static const char *const  events[] = {
        FINISHED,
        ("event: response.completed\ndata: {\"type\":\"response.completed\","
         RESPONSE "}\n\n"),
        "data: {\ndata: \"usage\":{\"total_tokens\":1}\ndata: }\n\n",
        "data: {\"error\":{\"message\":\"x\"}}\n\n",
        "data: [DONE]\n\n"
    };

    (void) state;

    for (i = 0; i < sizeof(events) / sizeof(events[0]); i++) {
        bits = classify(events[i]);

        for (k = 0; events[i][k] != '\0'; k++) {
            char  *cut;

            cut = malloc(k + 1);
            memcpy(cut, events[i], k);
            cut[k] = '\0';

            assert_int_equal(classify(cut) & ~bits, 0);

            free(cut);
        }
    }
}


/* many lines are joined on the stack, up to a bound; the name still tells */

static void
test_many_lines(void **state)
{
    char    *text, *p;
    size_t   lines, i;

    (void) state;

    for (lines = 1; lines < 30000; lines = lines * 3 + 1) {

        text = malloc(lines * 8 + 200);
        p = text + sprintf(text, "event: response.completed\ndata: {\"x\":[");

        for (i = 0; i < lines; i++) {
            p += sprintf(p, "0,\ndata:");
        }

        sprintf(p, "0],\ndata: \"error\":1}\n\n");

        assert_int_equal(classify(text), lines < 5000
                                         ? BITS(DONE)|LLM_SSE_ERROR
                                         : BITS(DONE));
        free(text);
    }
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_done),
        cmocka_unit_test(test_error),
        cmocka_unit_test(test_finish),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_usage_kin),
        cmocka_unit_test(test_clean),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_positions),
        cmocka_unit_test(test_cut),
        cmocka_unit_test(test_many_lines)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
