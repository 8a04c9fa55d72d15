
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the parser finds in a body.
 */


#include "request_check.h"


static void
test_plain(void **state)
{
    static const char  body[] =
        "{\"model\":\"gpt-4o\",\"messages\":[{\"role\":\"user\","
        "\"content\":\"hello\"}]}";

    (void) state;

    ok(LLM_CHAT, body);

    assert_int_equal(rq.endpoint, LLM_CHAT);
    assert_ptr_equal(rq.body.data, text);
    assert_int_equal(rq.body.len, sizeof(body) - 1);
    assert_int_equal(rq.model.len, 6);
    assert_ptr_equal(rq.model.data, text + 10);
    assert_int_equal(rq.model_start, 9);
    assert_int_equal(rq.model_end, 17);
    assert_int_equal(rq.n, 1);
    assert_int_equal(rq.max_tokens, -1);
    assert_int_equal(rq.prompt_bytes, 9);
    assert_int_equal(rq.stream, 0);
    assert_int_equal(rq.include_usage, 0);
    assert_int_equal(rq.bypass, LLM_BYPASS_TEMPERATURE);
    assert_int_equal(rq.temperature_zero, 0);
}


static void
model(const char *body, const char *name, const char *span)
{
    ok(LLM_CHAT, body);

    assert_int_equal(rq.model.len, strlen(name));
    assert_memory_equal(rq.model.data, name, strlen(name));
    assert_int_equal(rq.model_end - rq.model_start, strlen(span));
    assert_memory_equal(text + rq.model_start, span, strlen(span));
}


static void
test_model(void **state)
{
    char    body[1024];
    char    name[512];
    size_t  i;

    (void) state;

    model("{\"messages\":[],\"model\"\n:\t\"a\" }", "a", "\"a\"");
    model("{\"mod\\u0065l\":\"b\",\"messages\":[]}", "b", "\"b\"");
    model("{\"model\":\"gpt\\u002d4\\/x\",\"messages\":[]}", "gpt-4/x",
          "\"gpt\\u002d4\\/x\"");
    model("{\"model\":\"m\xc3\xa9\\u00e9\",\"messages\":[]}",
          "m\xc3\xa9\xc3\xa9", "\"m\xc3\xa9\\u00e9\"");

    /* only the member of the top object counts */

    model("{\"messages\":[{\"model\":\"x\"}],\"a\":{\"model\":\"y\"},"
          "\"model\":\"z\"}", "z", "\"z\"");
    refused(LLM_CHAT, "{\"messages\":[{\"model\":\"x\"}]}",
            "missing_required_parameter", "model", 0);

    refused(LLM_CHAT, "{\"model\":\"\",\"messages\":[]}", "invalid_value",
            "model", 9);
    refused(LLM_CHAT, "{\"model\":\"a\\nb\",\"messages\":[]}",
            "invalid_value", "model", 9);
    refused(LLM_CHAT, "{\"model\":\"a\\u0000\",\"messages\":[]}",
            "invalid_value", "model", 9);
    refused(LLM_CHAT, "{\"model\":\"a\x7f\",\"messages\":[]}",
            "invalid_value", "model", 9);
    refused(LLM_CHAT, "{\"model\":7,\"messages\":[]}", "invalid_type",
            "model", 9);
    refused(LLM_CHAT, "{\"model\":null,\"messages\":[]}", "invalid_type",
            "model", 9);
    refused(LLM_CHAT, "{\"model\":[\"a\"],\"messages\":[]}", "invalid_type",
            "model", 9);
    refused(LLM_CHAT, "{\"model\":{},\"messages\":[]}", "invalid_type",
            "model", 9);

    for (i = 255; i < 258; i++) {
        memset(name, 'm', i);
        name[i] = '\0';
        snprintf(body, sizeof(body), "{\"model\":\"%s\",\"messages\":[]}",
                 name);

        if (i <= 256) {
            ok(LLM_CHAT, body);
            assert_int_equal(rq.model.len, i);
            assert_int_equal(rq.model_end - rq.model_start, i + 2);
            continue;
        }

        refused(LLM_CHAT, body, "invalid_value", "model", 9);
    }
}


static void
test_numbers(void **state)
{
    (void) state;

    ok(LLM_CHAT, CHAT("\"n\":5"));
    assert_int_equal(rq.n, 5);

    ok(LLM_CHAT, CHAT("\"n\":null"));
    assert_int_equal(rq.n, 1);

    ok(LLM_CHAT, CHAT("\"n\":128"));
    assert_int_equal(rq.n, 128);

    refused(LLM_CHAT, CHAT("\"n\":0"), "invalid_value", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":-0"), "invalid_value", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":129"), "invalid_value", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":-1"), "invalid_value", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":99999999999999999999"), "invalid_value",
            "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":1.0"), "invalid_type", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":1e0"), "invalid_type", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":\"1\""), "invalid_type", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":true"), "invalid_type", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":[1]"), "invalid_type", "n", 31);
    refused(LLM_CHAT, CHAT("\"n\":{}"), "invalid_type", "n", 31);

    /* the largest of the caps, in any order */

    ok(LLM_CHAT, CHAT("\"max_tokens\":10,\"max_completion_tokens\":300,"
                      "\"max_output_tokens\":20"));
    assert_int_equal(rq.max_tokens, 300);

    ok(LLM_CHAT, CHAT("\"max_output_tokens\":300,\"max_tokens\":10"));
    assert_int_equal(rq.max_tokens, 300);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"max_tokens\":0}");
    assert_int_equal(rq.max_tokens, 0);

    ok(LLM_CHAT, CHAT("\"max_tokens\":null,\"max_completion_tokens\":null,"
                      "\"max_output_tokens\":null"));
    assert_int_equal(rq.max_tokens, -1);

    refused(LLM_CHAT, CHAT("\"max_tokens\":-1"), "invalid_value",
            "max_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_completion_tokens\":-5"), "invalid_value",
            "max_completion_tokens", -1);
    ok(LLM_CHAT, CHAT("\"max_output_tokens\":2147483648"));
    assert_true(rq.max_tokens == 2147483648);
    assert_true(rq.cap[LLM_CAP_OUTPUT].n == 2147483648);
    refused(LLM_CHAT, CHAT("\"max_output_tokens\":2147483649"),
            "invalid_value", "max_output_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_tokens\":1.5"), "invalid_type",
            "max_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_tokens\":\"5\""), "invalid_type",
            "max_tokens", -1);
}


static void
span(size_t start, size_t end, const char *value)
{
    assert_int_equal(end - start, strlen(value));
    assert_memory_equal(text + start, value, strlen(value));
}


/* where a body is to be cut when something in it changes */

static void
test_spans(void **state)
{
    unsigned  i;

    (void) state;

    ok(LLM_CHAT, " \n{\"model\":\"a\",\"messages\":[],\"max_tokens\": 10 ,"
       "\"max_completion_tokens\":null,\"stream_options\" : {\"x\":[{}],"
       "\"include\\u005fusage\": false} }");
    assert_int_equal(rq.object_start, 3);
    span(rq.model_start, rq.model_end, "\"a\"");
    span(rq.cap[LLM_CAP_TOKENS].start, rq.cap[LLM_CAP_TOKENS].end, "10");
    assert_int_equal(rq.cap[LLM_CAP_TOKENS].n, 10);
    span(rq.cap[LLM_CAP_COMPLETION].start, rq.cap[LLM_CAP_COMPLETION].end,
         "null");
    assert_int_equal(rq.cap[LLM_CAP_COMPLETION].n, -1);
    assert_int_equal(rq.cap[LLM_CAP_OUTPUT].end, 0);
    assert_int_equal(rq.cap[LLM_CAP_OUTPUT].n, -1);
    span(rq.stream_options_start, rq.stream_options_end,
         "{\"x\":[{}],\"include\\u005fusage\": false}");
    span(rq.include_usage_start, rq.include_usage_end, "false");
    assert_int_equal(rq.stream_options_empty, 0);

    ok(LLM_CHAT, CHAT("\"stream_options\":null,\"max_output_tokens\":7"));
    span(rq.stream_options_start, rq.stream_options_end, "null");
    assert_int_equal(rq.include_usage_end, 0);
    assert_int_equal(rq.stream_options_empty, 0);
    span(rq.cap[LLM_CAP_OUTPUT].start, rq.cap[LLM_CAP_OUTPUT].end, "7");
    assert_int_equal(rq.object_start, 1);

    ok(LLM_CHAT, CHAT("\"stream_options\":{ }"));
    span(rq.stream_options_start, rq.stream_options_end, "{ }");
    assert_int_equal(rq.stream_options_empty, 1);

    ok(LLM_CHAT, CHAT("\"stream_options\":{\"include_usage\":null}"));
    span(rq.include_usage_start, rq.include_usage_end, "null");
    assert_int_equal(rq.stream_options_empty, 0);

    /* nothing of it, but at other places */

    ok(LLM_CHAT, CHAT("\"x\":{\"max_tokens\":1,\"stream_options\":{"
                      "\"include_usage\":true}}"));
    assert_int_equal(rq.stream_options_end, 0);
    assert_int_equal(rq.include_usage_end, 0);

    for (i = 0; i < LLM_CAPS; i++) {
        assert_int_equal(rq.cap[i].end, 0);
        assert_int_equal(rq.cap[i].n, -1);
    }
}


static void
test_best_of(void **state)
{
    (void) state;

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"best_of\":20,\"n\":2}");
    assert_int_equal(rq.n, 20);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"n\":3,\"best_of\":2}");
    assert_int_equal(rq.n, 3);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"best_of\":null}");
    assert_int_equal(rq.n, 1);

    /* no other endpoint has it */

    ok(LLM_CHAT, CHAT("\"best_of\":9"));
    assert_int_equal(rq.n, 1);
    ok(LLM_CHAT, CHAT("\"best_of\":\"9\""));
    ok(LLM_CHAT, CHAT("\"best_of\":{}"));
}


static void
media(llm_endpoint_e endpoint, const char *content, unsigned parts,
    size_t bytes)
{
    char  body[1024];

    snprintf(body, sizeof(body), "{\"model\":\"a\",\"%s\":[{\"content\":["
             "%s]}]}", endpoint == LLM_CHAT ? "messages" : "input", content);
    ok(endpoint, body);

    if (rq.media != parts || rq.prompt_bytes != bytes) {
        fail_msg("%s: %u parts, %zu bytes", body, rq.media, rq.prompt_bytes);
    }
}


#define DATA_URL  "data:image/png;base64,AAAABBBBCCCC"


static void
test_media(void **state)
{
    (void) state;

    media(LLM_CHAT, "{\"type\":\"text\",\"text\":\"abc\"}", 0, 7);
    media(LLM_CHAT, "\"abc\",{\"type\":\"text\",\"data\":\"image_url\"}",
          0, 3 + 4 + 9);

    /* by URL, by id and as data: one part is one, in any order */

    media(LLM_CHAT, "{\"type\":\"image_url\",\"image_url\":{\"url\":"
          "\"https://a/b\"}}", 1, 9 + 11);
    media(LLM_CHAT, "{\"type\":\"image_url\",\"image_url\":{\"url\":\""
          DATA_URL "\"}}", 1, 9);
    media(LLM_CHAT, "{\"image_url\":{\"url\":\"" DATA_URL "\"},\"type\":"
          "\"image\\u005furl\"},{\"type\":\"text\",\"text\":\"ab\"},"
          "{\"typ\\u0065\":\"file\",\"file\":{\"file_id\":\"file-1\"}}", 2,
          9 + 4 + 2 + 4 + 6);
    media(LLM_CHAT, "{\"type\":\"input_audio\",\"input_audio\":{\"data\":"
          "\"AAAABBBBCCCC\",\"format\":\"wav\"}},\"text\"", 1, 11 + 3 + 4);
    media(LLM_CHAT, "{\"type\":\"file\",\"file\":{\"filename\":\"f.pdf\","
          "\"file_data\":\"AAAABBBB\"}}", 1, 4 + 5);
    media(LLM_RESPONSES, "{\"type\":\"input_image\",\"image_url\":\""
          DATA_URL "\"},{\"type\":\"input_image\",\"file_id\":\"f1\"},"
          "{\"type\":\"input_file\",\"file_data\":\"AAAA\"},"
          "{\"type\":\"input_text\",\"text\":\"x\"}", 3,
          11 + 11 + 2 + 10 + 10 + 1);

    /* what follows a part is a part of its own */

    media(LLM_CHAT, "{\"type\":\"input_audio\",\"input_audio\":{\"data\":[]}"
          "},\"abcd\",{\"type\":4},\"file\"", 1, 11 + 4 + 4);

    /* in other places a data: URL alone tells */

    ok(LLM_CHAT, "{\"model\":\"a\",\"messages\":[{\"type\":\"file\","
       "\"content\":\"" DATA_URL "\"},[[[[\"" DATA_URL "\"]]]]]}");
    assert_int_equal(rq.media, 2);

    ok(LLM_CHAT, CHAT("\"x\":\"" DATA_URL "\",\"tools\":[{\"function\":{"
                      "\"parameters\":{\"type\":\"file\",\"a\":\"b\"}}}]"));
    assert_int_equal(rq.media, 0);
    assert_int_equal(rq.prompt_bytes, 4 + 1);
}


static int
zero(const char *value)
{
    char  body[256];

    snprintf(body, sizeof(body), CHAT("\"temperature\":%s"), value);
    ok(LLM_CHAT, body);

    return rq.temperature_zero;
}


static void
test_temperature(void **state)
{
    (void) state;

    assert_true(zero("0"));
    assert_true(zero("0.0"));
    assert_true(zero("-0"));
    assert_true(zero("0e5"));
    assert_true(zero("0.000E1"));
    assert_false(zero("0.1"));
    assert_false(zero("1"));
    assert_false(zero("0.0000001"));
    assert_false(zero("10e-2"));
    assert_false(zero("null"));

    refused(LLM_CHAT, CHAT("\"temperature\":\"0\""), "invalid_type",
            "temperature", -1);
    refused(LLM_CHAT, CHAT("\"temperature\":false"), "invalid_type",
            "temperature", -1);
}


static void
test_stream(void **state)
{
    (void) state;

    ok(LLM_CHAT, CHAT("\"stream\":true"));
    assert_int_equal(rq.stream, 1);

    ok(LLM_CHAT, CHAT("\"stream\":false"));
    assert_int_equal(rq.stream, 0);

    ok(LLM_CHAT, CHAT("\"stream\":null"));
    assert_int_equal(rq.stream, 0);

    ok(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":\"x\",\"stream\":true}");
    assert_int_equal(rq.stream, 0);

    ok(LLM_CHAT, CHAT("\"\\u0073tre\\u0061m\":true,\"stream_options\":"
                      "{\"include\\u005fusage\":true}"));
    assert_int_equal(rq.stream, 1);
    assert_int_equal(rq.include_usage, 1);

    ok(LLM_CHAT, CHAT("\"stream_options\":{\"include_usage\":false}"));
    assert_int_equal(rq.include_usage, 0);

    ok(LLM_CHAT, CHAT("\"stream_options\":{\"include_usage\":null}"));
    assert_int_equal(rq.include_usage, 0);

    ok(LLM_CHAT, CHAT("\"stream_options\":null"));
    assert_int_equal(rq.include_usage, 0);

    /* not at another place */

    ok(LLM_CHAT, CHAT("\"stream_options\":{\"x\":{\"include_usage\":true}},"
                      "\"include_usage\":true,"
                      "\"y\":{\"include_usage\":true,\"stream\":true}"));
    assert_int_equal(rq.include_usage, 0);
    assert_int_equal(rq.stream, 0);

    refused(LLM_CHAT, CHAT("\"stream\":\"true\""), "invalid_type", "stream",
            36);
    refused(LLM_CHAT, CHAT("\"stream\":1"), "invalid_type", "stream", 36);
    refused(LLM_CHAT, CHAT("\"stream_options\":[]"), "invalid_type",
            "stream_options", 44);
    refused(LLM_CHAT, CHAT("\"stream_options\":{\"include_usage\":1}"),
            "invalid_type", "stream_options.include_usage", 61);
    refused(LLM_CHAT, CHAT("\"stream_options\":{\"include_usage\":{}}"),
            "invalid_type", "stream_options.include_usage", 61);
}


static void
test_required(void **state)
{
    (void) state;

    refused(LLM_CHAT, "{}", "missing_required_parameter", "model", 0);
    refused(LLM_CHAT, "{\"model\":\"a\"}", "missing_required_parameter",
            "messages", 0);
    refused(LLM_EMBEDDINGS, "{\"model\":\"a\"}", "missing_required_parameter",
            "input", 0);
    refused(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":null}",
            "missing_required_parameter", "input", 0);
    refused(LLM_RESPONSES, "{}", "missing_required_parameter", "model", 0);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\"}");
    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":null}");
    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":[\"a\",[1,2]]}");
    ok(LLM_RESPONSES, "{\"model\":\"a\"}");
    ok(LLM_RESPONSES, "{\"model\":\"a\",\"input\":[]}");
    ok(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":[1,2,3]}");

    refused(LLM_CHAT, "{\"model\":\"a\",\"messages\":\"x\"}", "invalid_type",
            "messages", 24);
    refused(LLM_CHAT, "{\"model\":\"a\",\"messages\":null}", "invalid_type",
            "messages", 24);
    refused(LLM_CHAT, "{\"model\":\"a\",\"messages\":{}}", "invalid_type",
            "messages", 24);
    refused(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":{}}",
            "invalid_type", "prompt", -1);
    refused(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":7}", "invalid_type",
            "input", -1);
    refused(LLM_RESPONSES, "{\"model\":\"a\",\"input\":{}}", "invalid_type",
            "input", -1);
    refused(LLM_RESPONSES, "{\"model\":\"a\",\"instructions\":1}",
            "invalid_type", "instructions", -1);

    /* the first complaint counts, but no JSON at all counts more */

    refused(LLM_CHAT, "{\"n\":0,\"stream\":1}", "invalid_value", "n", 5);
    refused(LLM_CHAT, "{\"n\":0,\"stream\":1", "invalid_json", NULL, 17);
    refused(LLM_CHAT, "{\"n\":0,\"n\":1}", "duplicate_key", NULL, 7);
}


static void
test_prompt_bytes(void **state)
{
    (void) state;

    ok(LLM_CHAT, "{\"model\":\"a\",\"user\":\"uuuu\",\"messages\":[{\"role\":"
       "\"user\",\"content\":[{\"type\":\"text\",\"text\":\"0123456789\"}]}],"
       "\"stop\":\"xx\",\"tools\":[{\"type\":\"function\",\"function\":"
       "{\"name\":\"f\",\"description\":\"ddd\"}}]}");
    assert_int_equal(rq.prompt_bytes, 4 + 4 + 10 + 8 + 1 + 3);

    /* decoded: the spelling does not matter */

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":\"\\u00e9\\n\\ud83d"
       "\\ude00\xc3\xa9\\\"\"}");
    assert_int_equal(rq.prompt_bytes, 2 + 1 + 4 + 2 + 1);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":[\"ab\",\"cd\"]}");
    assert_int_equal(rq.prompt_bytes, 4);

    ok(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":[\"abc\",\"d\"]}");
    assert_int_equal(rq.prompt_bytes, 4);

    ok(LLM_RESPONSES, "{\"model\":\"a\",\"input\":\"abc\","
       "\"instructions\":\"de\"}");
    assert_int_equal(rq.prompt_bytes, 5);

    /* images are no text */

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":"
       "[\"data:image/png;base64,AAAABBBBCCCC\",\"x\","
       "\"data:image\\/png;base64,AAAABBBBCCCC\","
       "\"data:;base64,AA\"]}");
    assert_int_equal(rq.prompt_bytes, 1);
    assert_int_equal(rq.media, 3);

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":"
       "[\"data:text/plain,abc\",\"data:base64,abc\",\"xdata:;base64,a\","
       "\"data:a,;base64,a\",\"https://a/b.png\"]}");
    assert_int_equal(rq.prompt_bytes, 19 + 15 + 15 + 16 + 15);
}


static void
previous(llm_endpoint_e endpoint, const char *body, const char *expected)
{
    ok(endpoint, body);

    assert_int_equal(rq.previous.len, strlen(expected));

    if (rq.previous.len != 0) {
        assert_memory_equal(rq.previous.data, expected, rq.previous.len);
    }
}


static void
test_previous(void **state)
{
    (void) state;

    previous(LLM_RESPONSES, "{\"model\":\"a\"}", "");
    previous(LLM_RESPONSES, "{\"model\":\"a\",\"previous_response_id\":"
             "\"resp_1\"}", "resp_1");
    previous(LLM_RESPONSES, "{\"previous_response_id\": \"resp_\\u0031\\/\","
             "\"model\":\"a\"}", "resp_1/");
    previous(LLM_RESPONSES, "{\"model\":\"a\",\"previous_response_id\":"
             "null}", "");
    previous(LLM_RESPONSES, "{\"model\":\"a\",\"previous_response_id\":"
             "\"\"}", "");
    previous(LLM_RESPONSES, "{\"model\":\"a\",\"input\":["
             "{\"previous_response_id\":\"no\"}]}", "");
    previous(LLM_CHAT, CHAT("\"previous_response_id\":\"no\""), "");
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_previous),
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_spans),
        cmocka_unit_test(test_best_of),
        cmocka_unit_test(test_media),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_prompt_bytes)
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
