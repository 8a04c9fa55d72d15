
/*
 * Copyright (C) the ngx-llm authors
 */


#include "json_check.h"

#include "core/llm_request.h"


#define MB  (1024 * 1024)


static check_memory_t       memory;
static llm_request_t        rq;
static llm_request_error_t  err;
static unsigned char       *text;


/* the body stays until the next call */

static int
parse_len(llm_endpoint_e endpoint, const char *body, size_t len)
{
    int  rc;

    check_memory_free(&memory);
    check_memory(&memory, 64 * MB, -1);

    free(text);
    text = check_copy(body, len);

    memset(&rq, 0xa5, sizeof(rq));
    memset(&err, 0, sizeof(err));

    rc = llm_request_parse(&rq, endpoint, text, len, 1, &memory.arena, &err);

    if (rc != LLM_OK) {
        assert_int_equal(rc, LLM_ERROR);
        assert_non_null(err.code);
        assert_true(err.offset <= len);
        assert_non_null(memchr(err.text, '\0', sizeof(err.text)));
    }

    return rc;
}


static int
parse(llm_endpoint_e endpoint, const char *body)
{
    return parse_len(endpoint, body, strlen(body));
}


static void
refused(llm_endpoint_e endpoint, const char *body, const char *code,
    const char *param, long offset)
{
    if (parse(endpoint, body) == LLM_OK) {
        fail_msg("%s: not refused", body);
    }

    if (strcmp(err.code, code) != 0
        || (param == NULL) != (err.param == NULL)
        || (param != NULL && strcmp(err.param, param) != 0)
        || (offset >= 0 && err.offset != (size_t) offset))
    {
        fail_msg("%s: %s %s at %zu, expected %s %s at %ld", body, err.code,
                 err.param ? err.param : "NULL", err.offset, code,
                 param ? param : "NULL", offset);
    }
}


#define ok(endpoint, body)  assert_int_equal(parse(endpoint, body), LLM_OK)


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
    assert_int_equal(rq.stateful, 0);
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


#define CHAT(more)  "{\"model\":\"a\",\"messages\":[]," more "}"


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

    ok(LLM_CHAT, CHAT("\"max_tokens\":0"));
    assert_int_equal(rq.max_tokens, 0);

    ok(LLM_CHAT, CHAT("\"max_tokens\":null,\"max_completion_tokens\":null,"
                      "\"max_output_tokens\":null"));
    assert_int_equal(rq.max_tokens, -1);

    refused(LLM_CHAT, CHAT("\"max_tokens\":-1"), "invalid_value",
            "max_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_completion_tokens\":-5"), "invalid_value",
            "max_completion_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_output_tokens\":2147483648"),
            "invalid_value", "max_output_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_tokens\":1.5"), "invalid_type",
            "max_tokens", -1);
    refused(LLM_CHAT, CHAT("\"max_tokens\":\"5\""), "invalid_type",
            "max_tokens", -1);
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
stateful(llm_endpoint_e endpoint, const char *body, unsigned expected)
{
    ok(endpoint, body);

    if (rq.stateful != expected) {
        fail_msg("%s: stateful %u", body, rq.stateful);
    }
}


#define RESP(more)  "{\"model\":\"a\",\"input\":\"x\",\"store\":false" more "}"
#define TOOLS(list)  CHAT("\"tools\":[" list "]")


static void
test_stateful(void **state)
{
    (void) state;

    stateful(LLM_CHAT, CHAT("\"store\":true"), 1);
    stateful(LLM_CHAT, CHAT("\"store\":false"), 0);
    stateful(LLM_CHAT, CHAT("\"store\":null"), 0);
    stateful(LLM_CHAT, CHAT("\"web_search_options\":{}"), 1);
    stateful(LLM_CHAT, CHAT("\"web_search_options\":null"), 0);

    stateful(LLM_CHAT, TOOLS(""), 0);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"function\",\"function\":{}}"), 0);
    stateful(LLM_CHAT, TOOLS("{\"function\":{},\"type\":\"custom\"}"), 0);
    stateful(LLM_CHAT, TOOLS("{\"ty\\u0070e\":\"functio\\u006e\"}"), 0);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"web_search\"}"), 1);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"functions\"}"), 1);
    stateful(LLM_CHAT, TOOLS("{\"type\":null}"), 1);
    stateful(LLM_CHAT, TOOLS("{\"type\":{\"type\":\"function\"}}"), 1);
    stateful(LLM_CHAT, TOOLS("{}"), 1);
    stateful(LLM_CHAT, TOOLS("{\"function\":{\"type\":\"function\"}}"), 1);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"function\"},{\"type\":\"mcp\"}"),
             1);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"mcp\"},{\"type\":\"function\"}"),
             1);
    stateful(LLM_CHAT, TOOLS("{\"type\":\"function\",\"function\":{\"parame"
                             "ters\":{\"type\":\"object\"}}}"), 0);
    stateful(LLM_CHAT, CHAT("\"tools\":null"), 0);

    stateful(LLM_RESPONSES, RESP(""), 0);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"input\":\"x\"}", 1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\"}", 1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"store\":null}", 1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"store\":true}", 1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false}", 0);
    stateful(LLM_RESPONSES, RESP(",\"previous_response_id\":\"r\""), 1);
    stateful(LLM_RESPONSES, RESP(",\"previous_response_id\":null"), 0);
    stateful(LLM_RESPONSES, RESP(",\"background\":true"), 1);
    stateful(LLM_RESPONSES, RESP(",\"background\":false"), 0);
    stateful(LLM_RESPONSES, RESP(",\"conversation\":\"c\""), 1);
    stateful(LLM_RESPONSES, RESP(",\"conversation\":{\"id\":\"c\"}"), 1);
    stateful(LLM_RESPONSES, RESP(",\"conversation\":null"), 0);
    stateful(LLM_RESPONSES, RESP(",\"prompt\":{\"id\":\"p\"}"), 1);
    stateful(LLM_RESPONSES, RESP(",\"prompt\":null"), 0);
    stateful(LLM_RESPONSES, RESP(",\"tools\":[{\"type\":\"file_search\"}]"),
             1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false,\"input\":"
             "[{\"type\":\"item_reference\",\"id\":\"i\"}]}", 1);
    stateful(LLM_RESPONSES, "{\"model\":\"a\",\"store\":false,\"input\":"
             "[{\"type\":\"message\",\"content\":\"item_reference\"}]}", 0);

    stateful(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":\"x\"}", 0);
    stateful(LLM_EMBEDDINGS, "{\"model\":\"a\",\"input\":\"x\"}", 0);

    refused(LLM_CHAT, CHAT("\"store\":\"yes\""), "invalid_type", "store", -1);
    refused(LLM_CHAT, CHAT("\"tools\":{}"), "invalid_type", "tools", -1);
    refused(LLM_RESPONSES, RESP(",\"background\":1"), "invalid_type",
            "background", -1);
    refused(LLM_RESPONSES, RESP(",\"previous_response_id\":1"),
            "invalid_type", "previous_response_id", -1);
    refused(LLM_RESPONSES, RESP(",\"conversation\":1"), "invalid_type",
            "conversation", -1);
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

    ok(LLM_COMPLETIONS, "{\"model\":\"a\",\"prompt\":"
       "[\"data:text/plain,abc\",\"data:base64,abc\",\"xdata:;base64,a\","
       "\"data:a,;base64,a\",\"https://a/b.png\"]}");
    assert_int_equal(rq.prompt_bytes, 19 + 15 + 15 + 16 + 15);
}


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
    duplicate("{\"a\":[{\"b\":{\"c\":1,\"d\":2,\"c\":3}}]}", 13, 25);
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
            NULL, 29);
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


static int
teardown(void **state)
{
    (void) state;

    check_memory_free(&memory);
    free(text);

    return 0;
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_plain),
        cmocka_unit_test(test_model),
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_temperature),
        cmocka_unit_test(test_stream),
        cmocka_unit_test(test_stateful),
        cmocka_unit_test(test_required),
        cmocka_unit_test(test_prompt_bytes),
        cmocka_unit_test(test_duplicates),
        cmocka_unit_test(test_many),
        cmocka_unit_test(test_earliest),
        cmocka_unit_test(test_invalid),
        cmocka_unit_test(test_prefixes),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_bounds)
    };

    return cmocka_run_group_tests(tests, NULL, teardown);
}
