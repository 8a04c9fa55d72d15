
/*
 * Copyright (C) the ngx-llm authors
 */


#include "gather_help.h"

#include <jansson.h>


#define HEAD      "\"id\":\"c-1\",\"object\":\"chat.completion\","            \
                  "\"created\":17,\"model\":\"gpt-4o\""
#define CHAT(c)   "{" HEAD ",\"choices\":[" c "]}"
#define SAYS(m)   CHAT("{\"index\":0,\"message\":{\"role\":\"assistant\","    \
                       m "},\"finish_reason\":\"stop\"}")
#define TEXT(c)   "{\"id\":\"c-1\",\"object\":\"text_completion\","           \
                  "\"created\":17,\"model\":\"m\",\"choices\":[" c "]}"
#define ITEMS(i)  "{\"id\":\"r\",\"object\":\"response\",\"status\":"         \
                  "\"completed\",\"error\":null,\"output\":[" i "],"          \
                  "\"usage\":{\"input_tokens\":1,\"output_tokens\":2,"        \
                  "\"total_tokens\":3}}"

#define CHUNK     "data: {\"id\":\"c-1\",\"object\":"                         \
                  "\"chat.completion.chunk\",\"created\":17,\"model\":"       \
                  "\"gpt-4o\",\"choices\":["


typedef struct {
    llm_endpoint_e  endpoint;
    const char     *body;
} answer_t;


/* x100: longer than a piece is */

#define X10  "0123456789"
#define X100 X10 X10 X10 X10 X10 X10 X10 X10 X10 X10
#define X1K  X100 X100 X100 X100 X100 X100 X100 X100 X100 X100
#define E10  "\\u00e9\\n\\\"\xc3\xa9\\ud83d\\ude00\xf0\x9f\x98\x80\\\\"
#define E100 E10 E10 E10 E10 E10 E10 E10 E10 E10 E10


static const answer_t  answers[] = {

    { LLM_CHAT, SAYS("\"content\":\"Hello\",\"refusal\":null") },
    { LLM_CHAT, SAYS("\"content\":\"\"") },
    { LLM_CHAT, SAYS("\"content\":null") },
    { LLM_CHAT, SAYS("\"content\":\"" X1K X1K "\"") },
    { LLM_CHAT, SAYS("\"content\":\"" E100 E100 E100 "\"") },
    { LLM_CHAT, SAYS("\"content\":\"x" E100 E100 E100 "\"") },
    { LLM_CHAT, SAYS("\"content\":\"xyz" E100 E100 E100 "\"") },
    { LLM_CHAT, SAYS("\"content\":\"1234567" E100 E100 E100 "\"") },
    { LLM_CHAT, SAYS("\"content\":\"" X10 X10 "1" E100 E100 E100 "\"") },
    { LLM_CHAT, SAYS("\"content\":null,\"refusal\":\"No. " X1K "\"") },
    { LLM_CHAT, SAYS("\"content\":null,\"refusal\":\"\"") },
    { LLM_CHAT, SAYS("\"content\":[{\"type\":\"text\",\"text\":\"a\"}]") },

    { LLM_CHAT, SAYS("\"content\":null,\"tool_calls\":["
        "{\"id\":\"c1\",\"type\":\"function\",\"function\":{\"name\":\"f\","
        "\"arguments\":\"{\\\"a\\\":\\\"" X1K "\\\"}\"}},"
        "{\"id\":\"c2\",\"type\":\"function\",\"function\":{\"name\":\"g\","
        "\"arguments\":\"\"},\"more\":{\"a\":[1,{}]}},"
        "{\"id\":\"c3\",\"type\":\"custom\",\"custom\":{\"name\":\"h\","
        "\"input\":\"some " X1K "\"}}]") },
    { LLM_CHAT, SAYS("\"content\":\"\",\"tool_calls\":[]") },
    { LLM_CHAT, SAYS("\"content\":\"\",\"tool_calls\":null") },
    { LLM_CHAT, SAYS("\"content\":\"x\",\"tool_calls\":[{\"id\":\"c1\","
        "\"type\":\"other\",\"other\":{\"a\":1}}]") },
    { LLM_CHAT, SAYS("\"content\":null,\"function_call\":{\"name\":\"f\","
        "\"arguments\":\"{}\"}") },

    { LLM_CHAT, SAYS("\"content\":\"x\",\"reasoning_content\":\"th\\n\","
        "\"audio\":{\"id\":\"a\",\"data\":\"AAAA\",\"expires_at\":1,"
        "\"transcript\":\"t\"},\"annotations\":[{\"type\":\"url_citation\","
        "\"url_citation\":{\"url\":\"u\"}},{\"type\":\"url_citation\"}],"
        "\"n\":1.50e1,\"d\":[{\"index\":3},{\"index\":3}],\"z\":null") },

    { LLM_CHAT, "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"created\":1"
        ",\"model\":\"m\",\"service_tier\":\"default\","
        "\"system_fingerprint\":\"fp\",\"choices\":["
        "{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"a\"},"
        "\"logprobs\":{\"content\":[{\"token\":\"a\",\"logprob\":-0.10,"
        "\"bytes\":[97],\"top_logprobs\":[]}],\"refusal\":null},"
        "\"finish_reason\":\"stop\",\"content_filter_results\":{\"a\":{}}},"
        "{\"index\":1,\"message\":{\"role\":\"assistant\",\"content\":\"\"},"
        "\"logprobs\":null,\"finish_reason\":\"length\"}],\"usage\":{"
        "\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3,"
        "\"completion_tokens_details\":{\"reasoning_tokens\":0}},"
        "\"prompt_filter_results\":[{\"prompt_index\":0}],\"x_groq\":{"
        "\"id\":\"r\"}}" },

    { LLM_CHAT, " {\r\n\t\"choices\" : [ { \"finish_reason\": \"stop\",\n"
        "\"message\": { \"content\": \" a b\\n\", \"role\": \"assistant\" },"
        "\n\"index\": 0 } ], \"object\":\"chat.completion\"\n}\n" },

    { LLM_COMPLETIONS, TEXT("{\"text\":\"Hello\",\"index\":0,\"logprobs\":"
        "null,\"finish_reason\":\"stop\"}") },
    { LLM_COMPLETIONS, TEXT("{\"text\":\"" X1K E100 "\",\"index\":0,"
        "\"logprobs\":{\"tokens\":[\"a\",\"b\"],\"top_logprobs\":null},"
        "\"finish_reason\":\"stop\",\"more\":[{}]},{\"text\":\"\","
        "\"index\":1,\"logprobs\":null,\"finish_reason\":\"length\"}") },

    { LLM_RESPONSES, ITEMS("") },
    { LLM_RESPONSES, ITEMS("{\"id\":\"m1\",\"type\":\"message\",\"status\":"
        "\"completed\",\"role\":\"assistant\",\"content\":[{\"type\":"
        "\"output_text\",\"text\":\"Hello " X1K E100 "\",\"annotations\":["
        "{\"type\":\"file_path\",\"index\":1},{\"type\":\"url_citation\"}],"
        "\"logprobs\":[{\"token\":\"a\",\"logprob\":-1,\"bytes\":[97],"
        "\"top_logprobs\":[]}]},{\"type\":\"refusal\",\"refusal\":\"no\"},"
        "{\"type\":\"else\",\"x\":[1]},{\"type\":\"output_text\","
        "\"text\":\"\",\"annotations\":[]}]}") },
    { LLM_RESPONSES, ITEMS("{\"id\":\"r1\",\"type\":\"reasoning\",\"status\":"
        "\"completed\",\"summary\":[{\"type\":\"summary_text\",\"text\":\""
        X1K "\"},{\"type\":\"summary_text\",\"text\":\"b\"}],\"content\":["
        "{\"type\":\"reasoning_text\",\"text\":\"t\"}],"
        "\"encrypted_content\":\"e\"},"
        "{\"id\":\"f1\",\"type\":\"function_call\",\"status\":\"completed\","
        "\"call_id\":\"c1\",\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"},"
        "{\"id\":\"f2\",\"type\":\"custom_tool_call\",\"call_id\":\"c2\","
        "\"status\":\"completed\",\"name\":\"g\",\"input\":\"" X1K "\"},"
        "{\"id\":\"w1\",\"type\":\"web_search_call\",\"action\":{}},"
        "{\"type\":\"message\",\"content\":[]},"
        "{\"id\":\"m2\",\"type\":\"message\",\"content\":\"odd\"}") },
    { LLM_RESPONSES, "{\n  \"output\": [ ],\n  \"status\": \"completed\",\n"
        "  \"instructions\": \"a\\nb  c\"\n}\n" }
};


static json_t *
parse(const char *p, size_t len)
{
    json_t        *value;
    json_error_t   error;

    value = json_loadb(p, len, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY,
                       &error);

    if (value == NULL) {
        print_error("%s: %.*s\n", error.text, (int) len, p);
    }

    assert_non_null(value);

    return value;
}


/* the data of the next event, NULL behind the last one */

static json_t *
next(const char **events, char *name, int *done)
{
    json_t      *data;
    const char  *end;

    if (**events == '\0') {
        return NULL;
    }

    *name = '\0';

    if (strncmp(*events, "event: ", 7) == 0) {
        end = strchr(*events, '\n');
        assert_true(end - *events - 7 < 64);

        memcpy(name, *events + 7, (size_t) (end - *events - 7));
        name[end - *events - 7] = '\0';
        *events = end + 1;
    }

    assert_memory_equal(*events, "data: ", 6);
    *events += 6;

    end = strchr(*events, '\n');
    assert_true(end[1] == '\n');

    if (strncmp(*events, "[DONE]", 6) == 0) {
        assert_string_equal(end, "\n\n");
        *done = 1;

        return NULL;
    }

    data = parse(*events, (size_t) (end - *events));
    *events = end + 2;

    return data;
}


/* through a stream and back it is the same answer */

static void
test_round(void **state)
{
    int         rc;
    char       *events, *body;
    unsigned    i;
    json_t     *before, *after;

    (void) state;

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {

        events = replay(answers[i].endpoint, answers[i].body, 1, BLOCKS, &rc);

        if (rc != LLM_OK) {
            print_error("%u: %s\n", i, answers[i].body);
        }

        assert_int_equal(rc, LLM_OK);

        body = gather(answers[i].endpoint, events, NULL, BLOCKS, &rc);

        if (rc != LLM_OK) {
            print_error("%u: %s\n", i, events);
        }

        assert_int_equal(rc, LLM_OK);

        before = parse(answers[i].body, strlen(answers[i].body));
        after = parse(body, strlen(body));

        if (!json_equal(before, after)) {
            print_error("%u: %s\nis not %s\n", i, body, answers[i].body);
        }

        assert_true(json_equal(before, after));
        assert_null(strchr(body, '\n'));

        json_decref(before);
        json_decref(after);
        free(events);
        free(body);
    }
}


static void
test_memory(void **state)
{
    int         rc;
    char       *events;
    unsigned    i, n;

    (void) state;

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {

        for (n = 0; /* void */; n++) {
            events = replay(answers[i].endpoint, answers[i].body, 1, n, &rc);

            if (rc == LLM_OK) {
                free(events);
                break;
            }

            assert_int_equal(rc, LLM_ERROR);
        }
    }
}


static void
test_exact(void **state)
{
    int    rc;
    char  *events;

    (void) state;

    events = replay(LLM_CHAT, SAYS("\"content\":\"Hello\",\"refusal\":null"),
                    0, BLOCKS, &rc);

    assert_int_equal(rc, LLM_OK);
    assert_string_equal(events,
        CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
        "\"\",\"refusal\":null},\"finish_reason\":null}]}\n\n"
        CHUNK "{\"index\":0,\"delta\":{\"content\":\"Hello\"},"
        "\"finish_reason\":null}]}\n\n"
        CHUNK "{\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        "data: [DONE]\n\n");
    free(events);

    events = replay(LLM_CHAT,
                    "{" HEAD ",\"choices\":[{\"index\":0,\"message\":{"
                    "\"role\":\"assistant\",\"content\":\"Hi\"},"
                    "\"logprobs\":{\"content\":[1]},\"finish_reason\":"
                    "\"stop\",\"a\":1}],\"usage\":{\"total_tokens\":3},"
                    "\"b\":2}", 1, BLOCKS, &rc);

    assert_int_equal(rc, LLM_OK);
    assert_string_equal(events,
        CHUNK "{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":"
        "\"\"},\"logprobs\":null,\"finish_reason\":null,\"a\":1}],\"b\":2,"
        "\"usage\":null}\n\n"
        CHUNK "{\"index\":0,\"delta\":{\"content\":\"Hi\"},\"logprobs\":{"
        "\"content\":[1]},\"finish_reason\":null}],\"usage\":null}\n\n"
        CHUNK "{\"index\":0,\"delta\":{},\"logprobs\":null,"
        "\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
        CHUNK "],\"usage\":{\"total_tokens\":3}}\n\n"
        "data: [DONE]\n\n");
    free(events);
}


/* each chunk is one for every client; usage only if asked for */

static void
test_chunks(void **state)
{
    int          rc, usage, done;
    char        *events, name[64];
    json_t      *data, *choices, *choice, *tokens, *content;
    unsigned     i, n;
    const char  *p;

    (void) state;

    for (n = 0; n < 2 * sizeof(answers) / sizeof(answers[0]); n++) {
        i = n / 2;
        usage = n % 2;

        if (answers[i].endpoint == LLM_RESPONSES) {
            continue;
        }

        events = replay(answers[i].endpoint, answers[i].body, usage, BLOCKS,
                        &rc);
        assert_int_equal(rc, LLM_OK);

        p = events;
        done = 0;

        while ((data = next(&p, name, &done)) != NULL) {
            tokens = json_object_get(data, "usage");
            choices = json_object_get(data, "choices");
            choice = json_array_get(choices, 0);

            assert_string_equal(name, "");
            assert_true(usage || tokens == NULL);
            assert_int_equal(json_array_size(choices),
                             json_is_object(tokens) ? 0 : 1);

            if (choice != NULL) {
                assert_true(json_is_integer(json_object_get(choice,
                                                            "index")));
                assert_non_null(json_object_get(choice, "finish_reason"));
                assert_non_null(json_object_get(choice,
                                    answers[i].endpoint == LLM_CHAT
                                    ? "delta" : "text"));

                content = json_object_get(json_object_get(choice, "delta"),
                                          "content");

                assert_true(json_string_length(content)
                            <= LLM_REPLAY_PIECE + 12);
            }

            json_decref(data);
        }

        assert_true(done);
        free(events);
    }
}


/* a piece of text, or all of it, of an item or a part of it */

static void
apply_text(json_t *part, const json_t *data, const char *type)
{
    char        *joined;
    json_t      *text;
    const char  *name, *delta;

    name = strstr(type, "refusal") != NULL ? "refusal"
           : strstr(type, "arguments") != NULL ? "arguments"
           : strstr(type, "input") != NULL ? "input" : "text";

    text = json_object_get(part, name);

    if (strstr(type, ".done") != NULL) {
        assert_true(json_equal(text, json_object_get(data, name)));
        return;
    }

    delta = json_string_value(json_object_get(data, "delta"));

    assert_non_null(delta);
    assert_true(strlen(delta) <= LLM_REPLAY_PIECE + 12);

    if (json_array_size(json_object_get(data, "logprobs")) != 0) {
        json_array_extend(json_object_get(part, "logprobs"),
                          json_object_get(data, "logprobs"));
    }

    joined = malloc(json_string_length(text) + strlen(delta) + 1);
    copy(copy(joined, json_string_value(text)), delta);

    json_object_set_new(part, name, json_string(joined));
    free(joined);
}


static void
apply_part(json_t *item, const json_t *data, const char *type)
{
    json_t  *parts, *part, *index;

    index = json_object_get(data, "summary_index");
    parts = json_object_get(item, "summary");

    if (index == NULL) {
        index = json_object_get(data, "content_index");
        parts = json_object_get(item, "content");
    }

    if (index == NULL) {
        apply_text(item, data, type);
        return;
    }

    part = json_array_get(parts, (size_t) json_integer_value(index));

    if (strstr(type, "part.added") != NULL) {
        assert_int_equal(json_integer_value(index), json_array_size(parts));

        json_array_append_new(parts,
            json_deep_copy(json_object_get(data, "part")));
        return;
    }

    assert_non_null(part);

    if (strstr(type, "annotation.added") != NULL) {
        json_array_append(json_object_get(part, "annotations"),
                          json_object_get(data, "annotation"));

    } else if (strstr(type, "part.done") != NULL) {
        assert_true(json_equal(part, json_object_get(data, "part")));

    } else {
        apply_text(part, data, type);
    }
}


/* what a client puts together from events is what the last one holds */

static void
apply(json_t *output, const json_t *data, const char *type)
{
    json_t  *item;

    item = json_array_get(output, (size_t) json_integer_value(
                              json_object_get(data, "output_index")));

    if (strcmp(type, "response.output_item.added") == 0) {
        assert_null(item);

        json_array_append_new(output,
            json_deep_copy(json_object_get(data, "item")));
        return;
    }

    assert_non_null(item);

    if (strcmp(type, "response.output_item.done") == 0) {

        /* a status is not told by any other event */

        if (json_object_get(item, "status") != NULL) {
            json_object_set(item, "status",
                json_object_get(json_object_get(data, "item"), "status"));
        }

        assert_true(json_equal(item, json_object_get(data, "item")));
        return;
    }

    assert_string_equal(json_string_value(json_object_get(data, "item_id")),
                        json_string_value(json_object_get(item, "id")));

    apply_part(item, data, type);
}


static void
test_events(void **state)
{
    int          rc, done;
    char        *events, name[64];
    json_t      *data, *output, *answer, *response;
    unsigned     i, n;
    const char  *p, *type;

    (void) state;

    for (i = 0; i < sizeof(answers) / sizeof(answers[0]); i++) {

        if (answers[i].endpoint != LLM_RESPONSES) {
            continue;
        }

        events = replay(LLM_RESPONSES, answers[i].body, 0, BLOCKS, &rc);
        assert_int_equal(rc, LLM_OK);

        answer = parse(answers[i].body, strlen(answers[i].body));
        output = json_array();
        p = events;
        done = 0;

        for (n = 0; (data = next(&p, name, &done)) != NULL; n++) {
            type = json_string_value(json_object_get(data, "type"));
            response = json_object_get(data, "response");

            assert_string_equal(name, type);
            assert_int_equal(json_integer_value(
                                 json_object_get(data, "sequence_number")),
                             n);

            if (n < 2) {
                assert_string_equal(type, n == 0 ? "response.created"
                                                 : "response.in_progress");
                assert_int_equal(json_array_size(json_object_get(response,
                                                                 "output")),
                                 0);
                assert_int_equal(json_object_size(response),
                                 json_object_size(answer));

            } else if (*p == '\0') {
                assert_string_equal(type, "response.completed");
                assert_true(json_equal(response, answer));
                assert_true(json_equal(output, json_object_get(answer,
                                                               "output")));

            } else {
                apply(output, data, type);
            }

            json_decref(data);
        }

        assert_false(done);

        json_decref(output);
        json_decref(answer);
        free(events);
    }
}


static const answer_t  bad[] = {
    { LLM_CHAT, "" },
    { LLM_CHAT, "{}" },
    { LLM_CHAT, "[]" },
    { LLM_CHAT, "x" },
    { LLM_CHAT, CHAT("") },
    { LLM_CHAT, SAYS("\"content\":\"x\"") "x" },
    { LLM_CHAT, CHAT("{\"index\":0,\"message\":{}}") },
    { LLM_CHAT, CHAT("{\"index\":0,\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, CHAT("{\"index\":0,\"message\":1,"
                     "\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, CHAT("{\"index\":0,\"message\":{},\"delta\":{},"
                     "\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, CHAT("{\"index\":-1,\"message\":{},"
                     "\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, CHAT("{\"index\":\"0\",\"message\":{},"
                     "\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, CHAT("{\"index\":0,\"message\":{},"
                     "\"finish_reason\":\"stop\"},{\"index\":0,"
                     "\"message\":{},\"finish_reason\":\"stop\"}") },
    { LLM_CHAT, SAYS("\"content\":\"x\",\"content\":\"y\"") },
    { LLM_CHAT, SAYS("\"tool_calls\":{}") },
    { LLM_CHAT, SAYS("\"tool_calls\":[1]") },
    { LLM_CHAT, SAYS("\"tool_calls\":[{\"function\":\"f\"}]") },
    { LLM_CHAT, SAYS("\"tool_calls\":[{\"function\":{},"
                     "\"custom\":{}}]") },
    { LLM_CHAT, "{\"error\":{},\"choices\":[{\"message\":{},"
                "\"finish_reason\":\"stop\"}]}" },
    { LLM_CHAT, "{\"type\":\"error\",\"choices\":[{\"message\":{},"
                "\"finish_reason\":\"stop\"}]}" },
    { LLM_CHAT, "{\"object\":\"error\",\"choices\":[{\"message\":{},"
                "\"finish_reason\":\"stop\"}]}" },
    { LLM_CHAT, CHAT("{\"index\":0,\"message\":{},"
                     "\"finish_reason\":\"error\"}") },
    { LLM_COMPLETIONS, TEXT("{\"finish_reason\":\"stop\"}") },
    { LLM_COMPLETIONS, TEXT("{\"text\":1,\"finish_reason\":\"stop\"}") },
    { LLM_EMBEDDINGS, "{\"data\":[{\"embedding\":[1]}]}" },
    { LLM_RESPONSES, "{\"status\":\"completed\"}" },
    { LLM_RESPONSES, "{\"status\":\"completed\",\"output\":null}" },
    { LLM_RESPONSES, "{\"status\":\"completed\",\"output\":[1]}" },
    { LLM_RESPONSES, "{\"status\":\"incomplete\",\"output\":[]}" },
    { LLM_RESPONSES, "{\"status\":\"failed\",\"error\":{},"
                     "\"output\":[]}" }
};


static void
test_declined(void **state)
{
    int        rc;
    char      *big, *events;
    unsigned   i;

    (void) state;

    for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        events = replay(bad[i].endpoint, bad[i].body, 1, BLOCKS, &rc);

        if (rc != LLM_DECLINED) {
            print_error("not declined: %s: %s\n", bad[i].body, events);
        }

        assert_int_equal(rc, LLM_DECLINED);
    }

    /* what stands in every chunk must be short */

    big = malloc(4096);

    for (i = 100; i <= 2000; i += 1900) {
        sprintf(big, "{\"choices\":[{\"message\":{\"content\":\"x\"},"
                     "\"finish_reason\":\"stop\"}],\"model\":\"%0*d\"}",
                (int) i, 0);

        events = replay(LLM_CHAT, big, 1, BLOCKS, &rc);

        assert_int_equal(rc, i == 100 ? LLM_OK : LLM_DECLINED);
        free(events);
    }

    /* an event is deeper than its answer */

    for (i = 63; i <= 64; i++) {
        memset(big, 0, 4096);
        copy(big, "{\"status\":\"completed\",\"output\":[],\"x\":");
        memset(big + strlen(big), '[', i - 1);
        memset(big + strlen(big), ']', i - 1);
        copy(big + strlen(big), "}");

        events = replay(LLM_RESPONSES, big, 1, BLOCKS, &rc);

        assert_int_equal(rc, i == 63 ? LLM_OK : LLM_DECLINED);
        free(events);
    }

    free(big);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_round),
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_exact),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_events),
        cmocka_unit_test(test_declined)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
