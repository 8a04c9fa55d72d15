
/*
 * Copyright (C) the ngx-llm authors
 */


#include "gather_help.h"


#define HEAD       "\"id\":\"c-1\",\"object\":\"chat.completion.chunk\","     \
                   "\"created\":17,\"model\":\"gpt-4o\""
#define ANSWER     "{\"id\":\"c-1\",\"object\":\"chat.completion\","          \
                   "\"created\":17,\"model\":\"gpt-4o\",\"choices\":["

#define CHUNK(c)   "data: {" HEAD ",\"choices\":[" c "]}\n\n"
#define CHOICE(i, delta, finish)                                              \
    "{\"index\":" #i ",\"delta\":{" delta "},\"finish_reason\":" finish "}"
#define DELTA(delta)   CHUNK(CHOICE(0, delta, "null"))
#define FINISH(reason) CHUNK(CHOICE(0, "", "\"" reason "\""))
#define DONE           "data: [DONE]\n\n"
#define END            FINISH("stop") DONE

/* an answer of one choice: what its message holds, and what is behind it */

#define MESSAGE(m, reason)                                                    \
    ANSWER "{\"index\":0,\"message\":{" m "},\"finish_reason\":\"" reason     \
    "\"}]}"
#define SAID(content)  "\"role\":\"assistant\",\"content\":" content

#define CALL(call)     DELTA("\"tool_calls\":[{" call "}]")
#define INPUT(i, text) CALL("\"index\":" #i ",\"function\":{\"arguments\":"   \
                            text "}")

#define PIECE(i, text, logprobs, finish)                                      \
    "data: {\"id\":\"c-1\",\"object\":\"text_completion\",\"created\":17,"    \
    "\"choices\":[{\"text\":" text ",\"index\":" #i ",\"logprobs\":"          \
    logprobs ",\"finish_reason\":" finish "}],\"model\":\"m\"}\n\n"


/* events with other line ends, comments and lines of data */

enum {
    SPELL_CRLF = 0,
    SPELL_CR,
    SPELL_COMMENTS,
    SPELL_TIGHT,
    SPELL_SPLIT,
    SPELL_OPEN,
    SPELLS
};


static char *
spell(const char *events, int how)
{
    char        *out, *d;
    const char  *p;

    out = malloc(strlen(events) * 8 + 64);
    d = out;

    if (how == SPELL_COMMENTS) {
        d = copy(d, "\xef\xbb\xbf: hello\n\n");
    }

    for (p = events; *p != '\0'; p++) {

        if (*p == '\n' && how == SPELL_CRLF) {
            d = copy(d, "\r\n");

        } else if (*p == '\n' && how == SPELL_CR) {
            d = copy(d, "\r");

        } else if (strncmp(p, "data: ", 6) == 0 && how == SPELL_TIGHT) {
            d = copy(d, "data:");
            p += 5;

        } else if (strncmp(p, "data: ", 6) == 0 && how == SPELL_COMMENTS) {
            d = copy(d, ":\nid: 1\n: x\nevent: message\ndata: ");
            p += 5;

        } else if (strncmp(p, "data: {", 7) == 0 && how == SPELL_SPLIT) {
            d = copy(d, "data: {\ndata:\ndata: ");
            p += 6;

        } else if (strncmp(p, ",\"choices\"", 10) == 0
                   && how == SPELL_SPLIT)
        {
            d = copy(d, ",\ndata: ");

        } else if (strncmp(p, "{\"index\"", 8) == 0 && how == SPELL_SPLIT) {
            d = copy(d, "{\ndata: ");

        } else {
            *d++ = *p;
        }
    }

    /* the last event needs no blank line */

    if (how == SPELL_OPEN) {
        d -= 2;
    }

    *d = '\0';

    return out;
}


static void
is(llm_endpoint_e endpoint, const char *events, const char *answer)
{
    int        i, rc;
    char      *text, *other;
    unsigned   n;

    text = gather(endpoint, events, NULL, BLOCKS, &rc);

    assert_int_equal(rc, LLM_OK);
    assert_string_equal(text, answer);
    free(text);

    for (i = 0; i < SPELLS; i++) {
        other = spell(events, i);
        text = gather(endpoint, other, NULL, BLOCKS, &rc);

        if (rc != LLM_OK) {
            print_error("spelling %d: %s\n", i, other);
        }

        assert_int_equal(rc, LLM_OK);
        assert_string_equal(text, answer);

        free(text);
        free(other);
    }

    for (n = 0; /* void */; n++) {
        text = gather(endpoint, events, NULL, n, &rc);

        if (rc == LLM_OK) {
            assert_string_equal(text, answer);
            free(text);
            break;
        }

        assert_int_equal(rc, LLM_ERROR);
    }
}


static void
not(llm_endpoint_e endpoint, const char *events)
{
    int    rc;
    char  *text;

    text = gather(endpoint, events, NULL, BLOCKS, &rc);

    if (rc != LLM_DECLINED) {
        print_error("not declined: %s: %s\n", events, text);
    }

    assert_int_equal(rc, LLM_DECLINED);
}


static void
test_text(void **state)
{
    (void) state;

    is(LLM_CHAT,
       DELTA("\"role\":\"assistant\",\"content\":\"\",\"refusal\":null")
       DELTA("\"content\":\"Hel\"") DELTA("\"content\":\"lo \\\"\\u00e9\"")
       DELTA("\"content\":\"\xc3\xa9\\n\"") END,
       MESSAGE(SAID("\"Hello \\\"\\u00e9\xc3\xa9\\n\"") ",\"refusal\":null",
               "stop"));

    /* without [DONE]; the reason with the last text; role in each chunk */

    is(LLM_CHAT,
       DELTA("\"role\":\"assistant\",\"content\":\"a\"")
       CHUNK("{\"delta\":{\"role\":\"assistant\",\"content\":\"b\"},"
             "\"finish_reason\":\"stop\",\"index\":0}"),
       MESSAGE(SAID("\"ab\""), "stop"));

    /* nothing said */

    is(LLM_CHAT, DELTA("\"role\":\"assistant\",\"content\":\"\"") END,
       MESSAGE(SAID("\"\""), "stop"));
    is(LLM_CHAT, DELTA("\"content\":null") END,
       MESSAGE(SAID("null"), "stop"));
    is(LLM_CHAT, END, MESSAGE(SAID("null"), "stop"));
    is(LLM_CHAT,
       CHUNK("{\"index\":0,\"finish_reason\":\"stop\"}") DONE,
       MESSAGE(SAID("null"), "stop"));
    is(LLM_CHAT, DELTA("\"content\":null") DELTA("\"content\":\"x\"") END,
       MESSAGE(SAID("\"x\""), "stop"));

    /* names may be spelled with escapes */

    is(LLM_CHAT,
       DELTA("\"c\\u006fntent\":\"x\"") DELTA("\"content\":\"y\"") END,
       ANSWER "{\"index\":0,\"message\":{\"role\":\"assistant\","
       "\"c\\u006fntent\":\"xy\"},\"finish_reason\":\"stop\"}]}");
}


static void
test_refusal(void **state)
{
    (void) state;

    is(LLM_CHAT,
       DELTA("\"role\":\"assistant\",\"content\":null,\"refusal\":null")
       DELTA("\"refusal\":\"I \"") DELTA("\"refusal\":\"can't\"") END,
       MESSAGE(SAID("null") ",\"refusal\":\"I can't\"", "stop"));
}


static void
test_choices(void **state)
{
    (void) state;

    is(LLM_CHAT,
       CHUNK(CHOICE(2, "\"content\":\"x\"", "null"))
       CHUNK(CHOICE(0, "\"content\":\"a\"", "null") ","
             CHOICE(1, "\"content\":\"1\"", "null"))
       CHUNK(CHOICE(1, "\"content\":\"2\"", "\"length\"") ","
             CHOICE(0, "\"content\":\"b\"", "null"))
       CHUNK(CHOICE(0, "", "\"stop\""))
       CHUNK(CHOICE(2, "\"content\":\"y\"", "\"stop\"")) DONE,
       ANSWER
       "{\"index\":0,\"message\":{" SAID("\"ab\"") "},"
       "\"finish_reason\":\"stop\"},"
       "{\"index\":1,\"message\":{" SAID("\"12\"") "},"
       "\"finish_reason\":\"length\"},"
       "{\"index\":2,\"message\":{" SAID("\"xy\"") "},"
       "\"finish_reason\":\"stop\"}]}");
}


static void
test_tool_calls(void **state)
{
    (void) state;

    is(LLM_CHAT,
       DELTA("\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{"
             "\"index\":0,\"id\":\"c1\",\"type\":\"function\","
             "\"function\":{\"name\":\"f\",\"arguments\":\"\"}}]")
       INPUT(0, "\"{\\\"a\"")
       CALL("\"index\":1,\"id\":\"c2\",\"type\":\"function\","
            "\"function\":{\"name\":\"g\",\"arguments\":\"\"}")
       INPUT(1, "\"[\"") INPUT(0, "\"\\\":1}\"") INPUT(1, "\"]\"")
       FINISH("tool_calls") DONE,
       MESSAGE(SAID("null") ",\"tool_calls\":["
               "{\"id\":\"c1\",\"type\":\"function\",\"function\":{"
               "\"name\":\"f\",\"arguments\":\"{\\\"a\\\":1}\"}},"
               "{\"id\":\"c2\",\"type\":\"function\",\"function\":{"
               "\"name\":\"g\",\"arguments\":\"[]\"}}]", "tool_calls"));

    /* what is left out, empty or told again; a tool of another kind */

    is(LLM_CHAT,
       CALL("\"id\":\"c1\",\"index\":0,\"function\":{\"name\":\"f\"}")
       CALL("\"index\":0,\"id\":\"c1\",\"type\":null,\"function\":{"
            "\"name\":\"f\",\"arguments\":null}")
       CALL("\"index\":0,\"id\":\"\",\"function\":{\"name\":\"\"}")
       CALL("\"index\":1,\"id\":\"c2\",\"type\":\"custom\","
            "\"custom\":{\"name\":\"g\",\"input\":\"a\"}},{\"index\":1,"
            "\"custom\":{\"input\":\"b\"},\"more\":[1]")
       FINISH("tool_calls") DONE,
       MESSAGE(SAID("null") ",\"tool_calls\":["
               "{\"type\":\"function\",\"id\":\"c1\",\"function\":{"
               "\"name\":\"f\",\"arguments\":\"\"}},"
               "{\"id\":\"c2\",\"type\":\"custom\",\"custom\":{"
               "\"name\":\"g\",\"input\":\"ab\"},\"more\":[1]}]",
               "tool_calls"));

    is(LLM_CHAT,
       DELTA("\"function_call\":{\"name\":\"f\",\"arguments\":\"\"}")
       DELTA("\"function_call\":{\"arguments\":\"{\"}")
       DELTA("\"function_call\":{\"arguments\":\"}\"}")
       FINISH("function_call") DONE,
       MESSAGE(SAID("null") ",\"function_call\":{\"name\":\"f\","
               "\"arguments\":\"{}\"}", "function_call"));

    /* calls that do not fit together */

    not(LLM_CHAT, CALL("\"index\":0,\"id\":\"c1\"")
                  CALL("\"index\":0,\"id\":\"c2\"") END);
    not(LLM_CHAT, CALL("\"index\":0,\"function\":{\"name\":\"f\"}")
                  CALL("\"index\":0,\"function\":{\"name\":\"g\"}") END);
    not(LLM_CHAT, CALL("\"id\":\"c1\"") END);
    not(LLM_CHAT, CALL("\"index\":\"0\"") END);
    not(LLM_CHAT, CALL("\"index\":-1") END);
    not(LLM_CHAT, CALL("\"index\":0,\"function\":\"f\"") END);
    not(LLM_CHAT, DELTA("\"tool_calls\":{}") END);
    not(LLM_CHAT, DELTA("\"tool_calls\":[1]") END);
}


static void
test_logprobs(void **state)
{
    (void) state;

#define LOG(delta, logprobs, finish)                                          \
    CHUNK("{\"index\":0,\"delta\":{" delta "},\"logprobs\":" logprobs         \
          ",\"finish_reason\":" finish "}")

    is(LLM_CHAT,
       LOG("\"content\":\"\"", "null", "null")
       LOG("\"content\":\"a\"", "{\"content\":[{\"token\":\"a\"}],"
                                "\"refusal\":null}", "null")
       LOG("\"content\":\"b\"", "{\"content\":[{\"token\":\"b\"},"
                                "{\"token\":\"c\"}],\"refusal\":null}",
                                "null")
       LOG("\"content\":\"\"", "{\"content\":[],\"refusal\":[ ]}", "null")
       LOG("", "{\"content\":[3]}", "null")
       LOG("", "{\"content\":[4]}", "null")
       LOG("", "{\"content\":[5,{}]}", "null")
       LOG("", "{\"content\":[6]}", "null")
       LOG("\"refusal\":\"r\"", "{\"content\":null,\"refusal\":[1]}", "null")
       LOG("", "null", "\"stop\"") DONE,
       ANSWER "{\"index\":0,\"message\":{" SAID("\"ab\"")
       ",\"refusal\":\"r\"},\"logprobs\":{\"content\":[{\"token\":\"a\"},"
       "{\"token\":\"b\"},{\"token\":\"c\"},3,4,5,{},6],\"refusal\":[1]},"
       "\"finish_reason\":\"stop\"}]}");

#undef LOG
}


static void
test_others(void **state)
{
    (void) state;

    /* unknown members: joined, merged, or kept as spelled */

    is(LLM_CHAT,
       DELTA("\"content\":\"\",\"reasoning_content\":\"th\",\"n\":1.50")
       DELTA("\"reasoning_content\":\"ink\",\"x\":{ \"a\" : [1e3] }")
       DELTA("\"audio\":{\"id\":\"a1\",\"data\":\"AA\"}")
       DELTA("\"audio\":{\"data\":\"BB\",\"expires_at\":7}")
       DELTA("\"reasoning_details\":[{\"type\":\"t\",\"text\":\"a\","
             "\"index\":0}]")
       DELTA("\"reasoning_details\":[{\"type\":\"t\",\"text\":\"b\","
             "\"index\":0},{\"type\":\"u\",\"index\":1}],\"n\":2")
       DELTA("\"annotations\":[{\"type\":\"c\",\"index\":0}]")
       DELTA("\"annotations\":[{\"type\":\"d\",\"index\":0}]")
       DELTA("\"annotations\":[]") END,
       MESSAGE(SAID("\"\"") ",\"reasoning_content\":\"think\",\"n\":2,"
               "\"x\":{ \"a\" : [1e3] },\"audio\":{\"id\":\"a1\","
               "\"data\":\"AABB\",\"expires_at\":7},\"reasoning_details\":["
               "{\"type\":\"t\",\"text\":\"ab\",\"index\":0},"
               "{\"type\":\"u\",\"index\":1}],\"annotations\":["
               "{\"type\":\"c\",\"index\":0},{\"type\":\"d\",\"index\":0}]",
               "stop"));

    /* of chunks and choices the last one counts, padding does not */

    is(LLM_CHAT,
       "data: {\"id\":\"\",\"object\":\"\",\"created\":0,\"model\":\"\","
       "\"choices\":[],\"filter\":[1]}\n\n"
       "data: {" HEAD ",\"service_tier\":\"auto\",\"error\":null,\"choices\":"
       "[{\"index\":0,\"delta\":{\"content\":\"x\"},\"finish_reason\":null,"
       "\"stop_reason\":null,\"r\":1}],\"obfuscation\":\"abc\"}\n\n"
       "data: {" HEAD ",\"service_tier\":\"default\",\"choices\":[{"
       "\"index\":0,\"delta\":{},\"finish_reason\":\"stop\",\"r\":2}],"
       "\"filter\":null,\"obfuscation\":\"d\"}\n\n" DONE,
       ANSWER "{\"index\":0,\"message\":{" SAID("\"x\"") "},"
       "\"finish_reason\":\"stop\",\"stop_reason\":null,\"r\":2}],"
       "\"filter\":[1],\"service_tier\":\"default\"}");

    /* the name of the first chunk that has one is kept */

    is(LLM_CHAT,
       FINISH("stop")
       "data: {\"id\":\"c-2\",\"created\":18,\"model\":\"m\","
       "\"choices\":[]}\n\n" DONE,
       MESSAGE(SAID("null"), "stop"));

    /* lines of data may end within what is kept as spelled */

    is(LLM_CHAT,
       "data: {" HEAD ",\"x\":{\ndata: \"a\":[\ndata: 1]},\"choices\":[{"
       "\"index\":0,\"finish_reason\":\"stop\"}]}\n\n",
       ANSWER "{\"index\":0,\"message\":{" SAID("null") "},"
       "\"finish_reason\":\"stop\"}],\"x\":{\"a\":[1]}}");

    /* content may come in parts */

    is(LLM_CHAT,
       DELTA("\"content\":[{\"type\":\"text\",\"text\":\"a\"}]")
       DELTA("\"content\":[{\"type\":\"text\",\"text\":\"b\"}]") END,
       MESSAGE(SAID("[{\"type\":\"text\",\"text\":\"a\"},"
                    "{\"type\":\"text\",\"text\":\"b\"}]"), "stop"));
}


static void
test_usage(void **state)
{
    int           rc;
    char         *text;
    unsigned      i;
    llm_usage_t   usage;

#define USAGE(p, c)  "{\"prompt_tokens\":" #p ",\"completion_tokens\":" #c    \
                     ",\"total_tokens\":" #c "0}"
#define TOLD         MESSAGE(SAID("\"x\""), "stop")

    static const char *const  streams[] = {

        /* a chunk of its own; the last chunk; every chunk, added up */

        DELTA("\"content\":\"x\"") FINISH("stop")
        "data: {" HEAD ",\"choices\":[],\"usage\":" USAGE(3, 4) "}\n\n" DONE,

        DELTA("\"content\":\"x\"")
        "data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{},"
        "\"finish_reason\":\"stop\"}],\"usage\":" USAGE(3, 4) "}\n\n" DONE,

        "data: {" HEAD ",\"usage\":null,\"choices\":[{\"index\":0,\"delta\":{"
        "\"content\":\"x\"},\"finish_reason\":null}]}\n\n"
        "data: {" HEAD ",\"usage\":" USAGE(3, 1) ",\"choices\":[{"
        "\"index\":0,\"delta\":{},\"finish_reason\":\"stop\"}]}\n\n"
        "data: {" HEAD ",\"usage\":" USAGE(3, 4) ",\"choices\":[]}\n\n" DONE
    };

    (void) state;

    for (i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        is(LLM_CHAT, streams[i],
           ANSWER "{\"index\":0,\"message\":{" SAID("\"x\"") "},"
           "\"finish_reason\":\"stop\"}],\"usage\":" USAGE(3, 4) "}");

        text = gather(LLM_CHAT, streams[i], &usage, BLOCKS, &rc);

        assert_int_equal(usage.prompt_tokens, 3);
        assert_int_equal(usage.completion_tokens, 4);
        assert_int_equal(usage.total_tokens, 40);
        assert_int_equal(usage.cached_tokens, -1);

        free(text);
    }

    /* a vendor's place of it is the client's, too */

    is(LLM_CHAT,
       "data: {" HEAD ",\"choices\":[{\"index\":0,\"delta\":{},"
       "\"finish_reason\":\"stop\"}],\"x_groq\":{\"id\":\"r\",\"usage\":"
       USAGE(3, 4) "}}\n\n" DONE,
       ANSWER "{\"index\":0,\"message\":{" SAID("null") "},"
       "\"finish_reason\":\"stop\"}],\"usage\":" USAGE(3, 4) ",\"x_groq\":{"
       "\"id\":\"r\",\"usage\":" USAGE(3, 4) "}}");

    /* none at all */

    text = gather(LLM_CHAT, DELTA("\"content\":\"x\"") END, &usage, BLOCKS,
                  &rc);

    assert_string_equal(text, TOLD);
    assert_int_equal(usage.total_tokens, -1);
    free(text);

#undef USAGE
#undef TOLD
}


static void
test_completions(void **state)
{
    (void) state;

    is(LLM_COMPLETIONS,
       PIECE(0, "\"a\"", "{\"tokens\":[\"a\"],\"token_logprobs\":[-1.0],"
                         "\"text_offset\":[0]}", "null")
       PIECE(1, "\"x\"", "null", "null")
       PIECE(0, "\"b\"", "{\"tokens\":[\"b\"],\"token_logprobs\":[-2.0],"
                         "\"text_offset\":[1]}", "null")
       PIECE(1, "\"\"", "null", "\"stop\"")
       PIECE(0, "\"\"", "null", "\"length\"") DONE,
       "{\"id\":\"c-1\",\"object\":\"text_completion\",\"created\":17,"
       "\"model\":\"m\",\"choices\":["
       "{\"text\":\"ab\",\"index\":0,\"logprobs\":{\"tokens\":[\"a\",\"b\"],"
       "\"token_logprobs\":[-1.0,-2.0],\"text_offset\":[0,1]},"
       "\"finish_reason\":\"length\"},"
       "{\"text\":\"x\",\"index\":1,\"logprobs\":null,"
       "\"finish_reason\":\"stop\"}]}");

    not(LLM_COMPLETIONS, PIECE(0, "\"a\"", "null", "null") DONE);
}


static void
test_responses(void **state)
{
    int           rc;
    char         *text;
    llm_usage_t   usage;

#define EVENT(type, more)  "event: " type "\ndata: {\"type\":\"" type "\""    \
                           more "}\n\n"
#define BEGUN   EVENT("response.created",                                     \
                      ",\"response\":{\"status\":\"in_progress\"}")           \
                EVENT("response.output_text.delta", ",\"delta\":\"x\"")
#define OBJECT  "{\"id\":\"r\",\"status\":\"completed\",\"error\":null,"      \
                "\"output\":[],\"usage\":{\"input_tokens\":5,"                \
                "\"output_tokens\":6,\"total_tokens\":11}}"
#define WHOLE   EVENT("response.completed", ",\"response\":" OBJECT)

    (void) state;

    is(LLM_RESPONSES, BEGUN WHOLE, OBJECT);
    is(LLM_RESPONSES, BEGUN WHOLE DONE, OBJECT);

    text = gather(LLM_RESPONSES, BEGUN WHOLE, &usage, BLOCKS, &rc);

    assert_int_equal(usage.prompt_tokens, 5);
    assert_int_equal(usage.completion_tokens, 6);
    free(text);

    not(LLM_RESPONSES, "");
    not(LLM_RESPONSES, BEGUN);
    not(LLM_RESPONSES, BEGUN DONE);
    not(LLM_RESPONSES, BEGUN DONE WHOLE);
    not(LLM_RESPONSES, WHOLE BEGUN);
    not(LLM_RESPONSES, WHOLE WHOLE);
    not(LLM_RESPONSES, "data: {\n\n" WHOLE);
    not(LLM_RESPONSES, "data: []\n\n" WHOLE);
    not(LLM_RESPONSES, BEGUN EVENT("response.failed",
                                   ",\"response\":" OBJECT));
    not(LLM_RESPONSES, BEGUN EVENT("response.incomplete",
                                   ",\"response\":" OBJECT));
    not(LLM_RESPONSES, EVENT("error", ",\"code\":null") WHOLE);
    not(LLM_RESPONSES, "event: error\ndata: {}\n\n" WHOLE);
    not(LLM_RESPONSES, EVENT("response.completed", ""));
    not(LLM_RESPONSES, EVENT("response.completed", ",\"response\":null"));
    not(LLM_RESPONSES, EVENT("response.completed", ",\"response\":{}"));
    not(LLM_RESPONSES, EVENT("response.completed",
        ",\"response\":{\"status\":\"completed\",\"output\":null}"));
    not(LLM_RESPONSES, EVENT("response.completed",
        ",\"response\":{\"status\":\"incomplete\",\"output\":[]}"));

#undef EVENT
#undef BEGUN
#undef OBJECT
#undef WHOLE
}


static void
test_not_whole(void **state)
{
    unsigned  i;

    static const char *const  streams[] = {
        "",
        "\n\n",
        ": comment\n\n",
        DONE,
        "data: {" HEAD ",\"choices\":[]}\n\n" DONE,
        "data: {" HEAD "}\n\n" DONE,

        /* broken off, with and without a terminal event */

        DELTA("\"content\":\"x\""),
        DELTA("\"content\":\"x\"") DONE,
        DELTA("\"content\":\"x\"") "data: {\"id\"",
        CHUNK(CHOICE(0, "", "\"\"")) DONE,
        CHUNK(CHOICE(0, "", "\"stop\"") "," CHOICE(1, "", "null")) DONE,
        CHUNK(CHOICE(1, "", "null")) END,
        END DELTA("\"content\":\"x\""),
        END "data: x\n\n",

        /* errors */

        DELTA("") "data: {\"error\":{\"message\":\"x\"}}\n\n" END,
        "event: error\ndata: {\"message\":\"x\"}\n\n" END,
        "event: error\n\n" END,
        "data: {\"message\":\"x\"}\nevent: error\n\n" END,
        "data: {\"type\":\"error\"}\n\n" END,
        "data: {\"error\":false}\n\n" END,
        "data: {\"object\":\"error\",\"message\":\"x\"}\n\n" END,
        FINISH("error") DONE,

        /* no JSON, or not what a chunk is */

        "data: x\n\n" END,
        "data:\n\n" END,
        "data: []\n\n" END,
        "data: {} {}\n\n" END,
        "data: {\"a\":\"\xff\"}\n\n" END,
        "data: {\"a\":\ndata: }\n\n" END,
        "data: {\"choices\":{}}\n\n" END,
        "data: {\"choices\":[1]}\n\n" END,
        "data: {\"choices\":[{\"delta\":{}}]}\n\n" END,
        CHUNK("{\"index\":1.5}") END,
        CHUNK("{\"index\":0,\"delta\":[]}") END,
        CHUNK("{\"index\":0,\"delta\":\"x\"}") END,
        CHUNK("{\"index\":0,\"finish_reason\":1}") END,
        CHUNK("{\"index\":0,\"message\":{\"content\":\"x\"}}") END,

        /* does not fit together */

        DELTA("\"role\":\"user\"") DELTA("\"role\":\"assistant\"") END,
        DELTA("\"content\":\"x\"") DELTA("\"content\":1") END,
        DELTA("\"content\":\"x\"") DELTA("\"content\":{}") END,
        DELTA("\"content\":[]") DELTA("\"content\":\"x\"") END,
        DELTA("\"x\":{}") DELTA("\"x\":[]") END,
        DELTA("\"x\":[{\"index\":0}]") DELTA("\"x\":[{}]") END,
        DELTA("\"content\":\"x\",\"content\":\"y\"") END,
        DELTA("\"content\":\"x\",\"c\\u006fntent\":\"y\"") END,
        CHUNK("{\"index\":0,\"index\":0}") END
    };

    (void) state;

    for (i = 0; i < sizeof(streams) / sizeof(streams[0]); i++) {
        not(LLM_CHAT, streams[i]);
    }

    not(LLM_EMBEDDINGS, END);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_text),
        cmocka_unit_test(test_refusal),
        cmocka_unit_test(test_choices),
        cmocka_unit_test(test_tool_calls),
        cmocka_unit_test(test_logprobs),
        cmocka_unit_test(test_others),
        cmocka_unit_test(test_usage),
        cmocka_unit_test(test_completions),
        cmocka_unit_test(test_responses),
        cmocka_unit_test(test_not_whole)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
