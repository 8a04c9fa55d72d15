
/*
 * Copyright (C) the ngx-llm authors
 *
 * The text of a stream's events, and the events that end a cut stream.
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_sse.h"


#define HEAD  "data: {\"id\":\"c-1\",\"created\":7,\"choices\":[{\"index\":0,"
#define TAIL  ",\"logprobs\":null,\"finish_reason\":null}]}\n\n"
#define CHAT(delta)  HEAD "\"delta\":" delta TAIL


/* what an event adds, in exactly the memory it has */

static size_t
add(llm_sse_text_t *text, llm_endpoint_e endpoint, const char *event)
{
    size_t          before, len;
    unsigned char  *copy;

    len = strlen(event);
    copy = malloc(len);
    memcpy(copy, event, len);

    before = text->bytes;

    (void) llm_sse_classify(endpoint, copy, len, NULL, text);

    assert_memory_equal(copy, event, len);
    free(copy);

    return text->bytes - before;
}


static size_t
fresh(llm_endpoint_e endpoint, const char *event)
{
    llm_sse_text_t  text;

    memset(&text, 0, sizeof(llm_sse_text_t));

    return add(&text, endpoint, event);
}


static void
test_members(void **state)
{
    unsigned  i;

    static const struct {
        const char  *event;
        size_t       bytes;
    } table[] = {
        { CHAT("{\"content\":\"hello\"}"), 5 },
        { CHAT("{ \"content\" : \"hello\" }"), 5 },
        { CHAT("{\"role\":\"assistant\",\"content\":\"\"}"), 0 },
        { CHAT("{\"role\":\"assistant\",\"content\":null}"), 0 },
        { CHAT("{}"), 0 },
        { CHAT("{\"content\":\"a\\\"b\\\\\"}"), 6 },
        { CHAT("{\"content\":\"\xc3\xa9\\u00e9\"}"), 8 },
        { CHAT("{\"refusal\":\"no\"}"), 2 },
        { CHAT("{\"content\":\"\",\"reasoning_content\":\"hm\"}"), 2 },
        { CHAT("{\"reasoning\":\"hmm\",\"reasoning_details\":"
               "[{\"text\":\"hmm\"}]}"), 3 },
        { CHAT("{\"content\":[{\"type\":\"text\",\"text\":\"part\"}]}"), 4 },
        { CHAT("{\"tool_calls\":[{\"index\":0,\"id\":\"call_1\",\"type\":"
               "\"function\",\"function\":{\"name\":\"look\","
               "\"arguments\":\"\"}}]}"), 0 },
        { CHAT("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":"
               "\"{}\"}},{\"index\":1,\"function\":{\"arguments\":\"123\"}}"
               "]}"), 5 },
        { HEAD "\"delta\":{\"content\":\"ab\"},\"logprobs\":{\"content\":"
          "[{\"token\":\"ab\",\"content\":\"x\"}]}}]}\n\n", 2 },
        { "data: {\"choices\":[{\"delta\":{\"content\":\"ab\"},\"index\":1},"
          "{\"delta\":{\"content\":\"cde\"}}],\"content\":\"no\"}\n\n", 5 },
        { "data: {\"choices\":[\ndata: {\"delta\":{\"content\":\"ab\"}}]}\n\n",
          2 },
        { "data: {\"content\":\"ab\"}\n\n", 0 },
        { "data: {\"choices\":\"content\"}\n\n", 0 },
        { "data: {\"choices\":[{\"index\":[1],\"delta\":{\"content\":\"ab\"}"
          "}]}\n\n", 2 },
        { "data: [DONE]\n\n", 0 },
        { ": \"content\":\"x\"\n\n", 0 },
        { "data: {\"choices\":[{\"delta\":{\"content\":\"ab\n\n", 0 },
        { "data: \n\n", 0 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        assert_int_equal(fresh(LLM_CHAT, table[i].event), table[i].bytes);
    }

    assert_int_equal(fresh(LLM_COMPLETIONS, HEAD "\"text\":\"some\"" TAIL),
                     4);
}


static void
test_responses(void **state)
{
    unsigned  i;
    char      event[256];

    static const struct {
        const char  *type;
        size_t       bytes;
    } table[] = {
        { "response.output_text.delta", 4 },
        { "response.function_call_arguments.delta", 4 },
        { "response.refusal.delta", 4 },
        { "response.reasoning_text.delta", 4 },
        { "response.audio.delta", 0 },
        { "response.output_text.done", 0 },
        { "response.created", 0 },
        { "delta", 0 }
    };

    (void) state;

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {

        snprintf(event, sizeof(event), "event: %s\ndata: {\"type\":\"%s\","
                 "\"item\":{\"delta\":\"no\"},\"delta\":\"four\"}\n\n",
                 table[i].type, table[i].type);
        assert_int_equal(fresh(LLM_RESPONSES, event), table[i].bytes);

        snprintf(event, sizeof(event), "data: {\"delta\":\"four\",\"x\":[1],"
                 "\"type\":\"%s\"}\n\n", table[i].type);
        assert_int_equal(fresh(LLM_RESPONSES, event), table[i].bytes);
    }
}


/* events one after the other add what each would add alone */

static void
test_shapes(void **state)
{
    int             i, k, several;
    size_t          want, got;
    char            event[1024], pad[64];
    llm_sse_text_t  text;

    static const char *const  pieces[] = {
        "", "a", " the", "\\\"", "\\\\", "x\\\\\\\"y", "}]}", "\\u0022",
        "a piece of more than sixteen bytes"
    };

    (void) state;

    for (several = 0; several < 2; several++) {

        memset(&text, 0, sizeof(llm_sse_text_t));
        text.several = (unsigned) several;
        want = 0;
        got = 0;

        for (i = 0; i < 5000; i++) {
            const char  *piece;

            piece = pieces[(unsigned) i * 7919 % 9];
            k = i % 11 == 10 ? i / 11 % 5 : 0;

            memset(pad, 'p', sizeof(pad));
            pad[i % 17] = '\0';

            switch (k) {

            case 1:
                snprintf(event, sizeof(event), CHAT("{\"refusal\":\"%s\"}"),
                         piece);
                break;

            case 2:
                snprintf(event, sizeof(event), CHAT("{\"content\":\"%s\","
                         "\"reasoning\":\"%s\"}"), piece, piece);
                break;

            case 3:
                snprintf(event, sizeof(event), HEAD "\"delta\":{\"content\":"
                         "\"%s\"},\"finish_reason\":null,\"pad\":[\"%s\"]}]"
                         ",\"usage\":null}\r\n\r\n", piece, pad);
                break;

            case 4:
                snprintf(event, sizeof(event), HEAD "\"delta\":{\"content\":"
                         "\"%s\"},\"index\":%d}]}\n\n", piece, i % 3);
                break;

            default:
                snprintf(event, sizeof(event), "data: {\"id\":\"c-1\","
                         "\"seq\":%d,\"choices\":[{\"index\":0,\"delta\":"
                         "{\"content\":\"%s\"},\"finish_reason\":null}],"
                         "\"usage\":null,\"obfuscation\":\"%s\"}\n\n",
                         i % 200, piece, pad);
            }

            want += fresh(LLM_CHAT, event);
            got += add(&text, LLM_CHAT, event);

            assert_int_equal(got, want);
        }

        assert_true(want > 5000);
    }
}


/* a head longer than is kept, and one that hides what matters */

static void
test_heads(void **state)
{
    unsigned        bits;
    char            event[2048], pad[600];
    llm_usage_t     usage;
    llm_sse_text_t  text;

    (void) state;

    memset(&text, 0, sizeof(llm_sse_text_t));
    memset(pad, 'p', sizeof(pad));
    pad[sizeof(pad) - 1] = '\0';

#define LONG(member)                                                          \
    snprintf(event, sizeof(event), "data: {%s,\"pad\":\"%s\",\"choices\":"    \
             "[{\"delta\":{\"content\":\"abc\"},\"finish_reason\":null}]}"    \
             "\n\n", member, pad)

    LONG("\"other\":{\"total_tokens\":1}");
    assert_int_equal(add(&text, LLM_CHAT, event), 3);
    assert_int_equal(text.offset, strlen(event) - 6
                                  - strlen("abc\"},\"finish_reason\":null}]}"
                                           "\n\n"));

    LONG("\"usage\":{\"total_tokens\":1}");
    bits = llm_sse_classify(LLM_CHAT, (unsigned char *) event, strlen(event),
                            &usage, &text);
    assert_int_equal(bits, LLM_SSE_DATA|LLM_SSE_USAGE);
    assert_int_equal(usage.total_tokens, 1);

    LONG("\"error\":{\"message\":\"x\"}  ");
    bits = llm_sse_classify(LLM_CHAT, (unsigned char *) event, strlen(event),
                            &usage, &text);
    assert_int_equal(bits, LLM_SSE_DATA|LLM_SSE_ERROR);
    assert_int_equal(text.bytes, 9);

    /* behind the text */

    memset(&text, 0, sizeof(llm_sse_text_t));
    assert_int_equal(add(&text, LLM_CHAT, CHAT("{\"content\":\"abc\"}")), 3);
    assert_true(text.offset != 0);

    snprintf(event, sizeof(event), HEAD "\"delta\":{\"content\":\"abcd\"},"
             "\"logprobs\":null,\"finish_reason\":null}],\"error\":1}\n\n");
    bits = llm_sse_classify(LLM_CHAT, (unsigned char *) event, strlen(event),
                            NULL, &text);
    assert_int_equal(bits, LLM_SSE_DATA|LLM_SSE_ERROR);
    assert_int_equal(text.bytes, 7);

    snprintf(event, sizeof(event), HEAD "\"delta\":{\"content\":\"abcd\"},"
             "\"logprobs\":null,\"finish_reason\":\"stop\"}]}\n\n");
    bits = llm_sse_classify(LLM_CHAT, (unsigned char *) event, strlen(event),
                            NULL, &text);
    assert_int_equal(bits, LLM_SSE_DATA|LLM_SSE_FINISH);
    assert_int_equal(text.bytes, 11);
    assert_int_equal(text.finished, 1);
}


/* an event that is the one before but for its text is known by its bytes */

static size_t
same(llm_sse_text_t *text, const char *event, const char *more)
{
    size_t          n, len;
    unsigned char  *copy;

    len = strlen(event) + strlen(more);
    copy = malloc(len + 1);
    snprintf((char *) copy, len + 1, "%s%s", event, more);
    copy = realloc(copy, len);

    n = llm_sse_same(copy, len, text);
    free(copy);

    return n;
}


static void
test_same(void **state)
{
    unsigned        i;
    const char     *event;
    llm_sse_text_t  text;

    static const char  *other[] = {
        CHAT("{\"content\":null}"),
        CHAT("{\"content\":\"a\\\"}"),
        CHAT("{\"content\":\"a\n\n\"}"),
        CHAT("{\"content\":\"a\tb\"}"),
        CHAT("{\"content\":\"a\",\"refusal\":\"b\"}"),
        HEAD "\"delta\":{\"content\":\"a\"},\"finish_reason\":\"stop\"}]}\n\n",
        ": x\n\n" CHAT("{\"content\":\"a\"}"),
        "\n" CHAT("{\"content\":\"a\"}"),
        "data: [DONE]\n\n",
        ""
    };

    (void) state;

    memset(&text, 0, sizeof(llm_sse_text_t));

    event = CHAT("{\"content\":\"abc\"}");
    assert_int_equal(same(&text, event, ""), 0);
    assert_int_equal(add(&text, LLM_CHAT, event), 3);

    for (i = 0; i < 3; i++) {
        assert_int_equal(same(&text, event, i == 0 ? "" : event),
                         strlen(event));
        assert_int_equal(text.bytes, 6 + 3 * i);
    }

    event = CHAT("{\"content\":\"a \\\"usage\\\": {} \\\\\"}");
    assert_int_equal(same(&text, event, ""), strlen(event));
    assert_int_equal(text.bytes, 12 + 18);

    for (i = 0; i < sizeof(other) / sizeof(other[0]); i++) {
        assert_int_equal(same(&text, other[i], "\n\n"), 0);
    }

    /* not whole yet */

    event = CHAT("{\"content\":\"abcdefghijklmnopqrstuvwxyz\"}");

    for (i = 0; i < strlen(event); i++) {
        assert_int_equal(llm_sse_same((const unsigned char *) event, i,
                                      &text),
                         0);
    }

    assert_int_equal(text.bytes, 30);

    /* what changes behind it is not looked for again */

    assert_int_equal(same(&text, HEAD "\"delta\":{\"content\":\"a\"}"
                          ",\"logprobs\":null,\"finish_reason\":null}],"
                          "\"x\":\"y\"}\n\n", ""), 0);
    assert_int_equal(same(&text, event, ""), 0);

    /* line ends */

    for (i = 0; i < 4; i++) {
        static const char  *ends[] = { "\n\n", "\r\n\r\n", "\r\r", "\n\r" };
        char                line[128];

        memset(&text, 0, sizeof(llm_sse_text_t));
        snprintf(line, sizeof(line), "data:{\"choices\":[{\"delta\":"
                 "{\"content\":\"abc\"}}]}%s", ends[i]);
        assert_int_equal(add(&text, LLM_CHAT, line), 3);
        assert_int_equal(same(&text, line, "\n"), i < 2 ? strlen(line) : 0);
    }
}


/* an error that is none is seen in every event, before and behind the text */

static void
test_nulled(void **state)
{
    unsigned            i, n;
    llm_sse_text_t      text;

    static const char  *event[] = {
        "data: {\"error\":null,\"choices\":[{\"delta\":{\"content\":"
        "\"abc\"}}]}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"}}],"
        "\"error\"   :  null}\n\n",
        "data: {\"choices\":[{\"delta\":{\"content\":\"abc\"},"
        "\"error\":null}]}\n\n"
    };

    (void) state;

    for (i = 0; i < sizeof(event) / sizeof(event[0]); i++) {
        memset(&text, 0, sizeof(llm_sse_text_t));
        assert_int_equal(add(&text, LLM_CHAT, CHAT("{\"content\":\"abc\"}")),
                         3);

        for (n = 2; n < 5; n++) {
            assert_int_equal(llm_sse_classify(LLM_CHAT,
                                              (unsigned char *) event[i],
                                              strlen(event[i]), NULL, &text),
                             LLM_SSE_DATA|LLM_SSE_NULLED);
            assert_int_equal(text.bytes, 3 * n);
        }
    }
}


static void
test_choices(void **state)
{
    llm_sse_text_t  text;

    (void) state;

    memset(&text, 0, sizeof(llm_sse_text_t));
    text.several = 1;

#define CHOICE(index, reason)                                                 \
    add(&text, LLM_CHAT, "data: {\"choices\":[{\"index\":" index              \
        ",\"delta\":{\"content\":\"x\"},\"finish_reason\":" reason "}]}\n\n")

    CHOICE("0", "null");
    CHOICE("2", "null");
    CHOICE("63", "\"\"");
    assert_true(text.begun == (5 | (uint64_t) 1 << 63));
    assert_true(text.finished == 0);

    CHOICE("2", "\"stop\"");
    assert_true(text.finished == 4);

    CHOICE("64", "\"length\"");
    CHOICE("-1", "null");
    CHOICE("1.5", "null");
    assert_true(text.begun == (5 | (uint64_t) 1 << 63));
    assert_int_equal(text.bytes, 7);
}


static void
final(char *out, llm_endpoint_e endpoint, const char *event, uint64_t open,
    int usage)
{
    llm_str_t        data;
    unsigned char   *buf, *end;
    llm_sse_stamp_t  st;

    data.data = (unsigned char *) event;
    data.len = strlen(event);

    llm_sse_stamp(&st, endpoint, &data);

    buf = malloc(llm_sse_final_size(&st));
    end = llm_sse_final(buf, endpoint, &st, open, usage, INT64_MAX / 2, 5);

    assert_true((size_t) (end - buf) <= llm_sse_final_size(&st));
    memcpy(out, buf, (size_t) (end - buf));
    out[end - buf] = '\0';

    free(buf);
}


static void
test_final(void **state)
{
    char  out[16384];

    (void) state;

    final(out, LLM_CHAT, "{\"x\":{\"id\":\"no\"},\"id\":\"c\\\"1\",\"object\":"
          "\"chat.completion.chunk\",\"created\": 17,\"model\":\"m\","
          "\"service_tier\":null,\"system_fingerprint\":\"f\",\"choices\":"
          "[{\"id\":\"no\"}]}", 1, 0);
    assert_string_equal(out,
        "data: {\"id\":\"c\\\"1\",\"object\":\"chat.completion.chunk\","
        "\"created\":17,\"model\":\"m\",\"system_fingerprint\":\"f\","
        "\"choices\":[{\"index\":0,\"delta\":{},\"logprobs\":null,"
        "\"finish_reason\":\"length\"}]}\n\ndata: [DONE]\n\n");

    final(out, LLM_COMPLETIONS, "{\"id\":\"c\",\"model\":\"m\"", 5, 1);
    assert_string_equal(out,
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"created\":0,"
        "\"model\":\"m\",\"choices\":[{\"index\":0,\"text\":\"\","
        "\"logprobs\":null,\"finish_reason\":\"length\"},{\"index\":2,"
        "\"text\":\"\",\"logprobs\":null,\"finish_reason\":\"length\"}],"
        "\"usage\":null}\n\n"
        "data: {\"id\":\"c\",\"object\":\"text_completion\",\"created\":0,"
        "\"model\":\"m\",\"choices\":[],\"usage\":{\"prompt_tokens\":"
        "4611686018427387903,\"completion_tokens\":5,\"total_tokens\":"
        "4611686018427387908}}\n\ndata: [DONE]\n\n");

    final(out, LLM_CHAT, "", 0, 0);
    assert_string_equal(out, "data: [DONE]\n\n");

    final(out, LLM_CHAT, "[]", UINT64_MAX, 1);
    assert_non_null(strstr(out, "{\"index\":63,"));

    final(out, LLM_RESPONSES, "{\"type\":\"response.created\",\"response\":"
          "{\"id\":\"r\",\"created_at\":3,\"model\":\"m\",\"tools\":[{}]},"
          "\"sequence_number\":41}", 0, 0);
    assert_memory_equal(out,
        "event: response.incomplete\ndata: {\"type\":\"response.incomplete\","
        "\"sequence_number\":42,\"response\":{\"id\":\"r\",\"object\":"
        "\"response\",\"created_at\":3,\"model\":\"m\",\"status\":"
        "\"incomplete\",", 158);
    assert_non_null(strstr(out, "\"incomplete_details\":{\"reason\":"
                                "\"max_output_tokens\"}"));
    assert_null(strstr(out, "[DONE]"));

    final(out, LLM_RESPONSES, "{\"sequence_number\":1.5,\"response\":7}", 0,
          0);
    assert_non_null(strstr(out, "\"sequence_number\":0,"));
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_members),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_shapes),
        cmocka_unit_test(test_heads),
        cmocka_unit_test(test_same),
        cmocka_unit_test(test_nulled),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_final)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
