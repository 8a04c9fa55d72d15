
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random requests of each endpoint, with every member that the gateway treats
 * in a way of its own.
 */


#ifndef _DIGEST_BUILD_H_INCLUDED_
#define _DIGEST_BUILD_H_INCLUDED_


#include "digest_random.h"


#define or_null(v)      (draw(8) == 0 ? json_null() : (v))
#define maybe(o, k, v)  do { if (draw(2)) set(o, k, v); } while (0)


/* behind the others or in front of them */

static inline void
set(json_t *o, const char *key, json_t *value)
{
    json_t  *copy;

    json_object_set_new(o, key, value);

    if (draw(2)) {
        copy = json_object();
        json_object_set(copy, key, value);
        json_object_update_missing(copy, o);
        json_object_clear(o);
        json_object_update(o, copy);
        json_decref(copy);
    }
}


static inline json_t *
one_of(const char *list)
{
    char   word[32];
    unsigned  n;

    for (n = draw(3); n != 0 && strchr(list, ' '); n--) {
        list = strchr(list, ' ') + 1;
    }

    snprintf(word, sizeof(word), "%.*s", (int) strcspn(list, " "), list);

    return json_string(word);
}


static inline json_t *
pair(const char *a, json_t *x, const char *b, json_t *y)
{
    json_t  *o;

    o = json_object();
    set(o, a, x);
    set(o, b, y);

    return o;
}


static inline json_t *
build_part(int responses)
{
    json_t  *o;

    o = json_object();

    switch (draw(4)) {

    case 0:
        set(o, "type", json_string("image_url"));
        set(o, "image_url", responses ? any_string()
            : pair("url", any_string(), "detail", one_of("low high auto")));
        break;

    case 1:
        set(o, "type", json_string("input_audio"));
        set(o, "input_audio", pair("data", any_string(),
                                   "format", one_of("wav mp3")));
        break;

    case 2:
        set(o, "type", json_string("file"));
        set(o, "file", pair("file_data", any_string(),
                            "filename", any_string()));
        break;

    default:
        set(o, "type", json_string(responses ? "input_text" : "text"));
        set(o, "text", any_string());
    }

    maybe(o, "prompt_cache_breakpoint", any_object());
    maybe(o, "x_part", any_object());

    return o;
}


static inline json_t *
build_parts(int responses)
{
    json_t    *a;
    unsigned   n;

    if (draw(2)) {
        return any_string();
    }

    a = json_array();

    for (n = draw(4); n != 0; n--) {
        json_array_append_new(a, build_part(responses));
    }

    return a;
}


static inline json_t *
build_function(const char *a, const char *b)
{
    json_t  *o;

    o = pair(a, any_string(), b, any_string());
    maybe(o, "parameters", any_object());
    maybe(o, "strict", draw(2) ? json_true() : json_false());

    return o;
}


static inline json_t *
build_message(void)
{
    json_t    *o, *calls;
    unsigned   n;

    o = pair("role", one_of("system user tool"), "content",
             or_null(build_parts(0)));

    maybe(o, "name", any_string());
    maybe(o, "tool_call_id", any_string());

    if (draw(3) == 0) {
        json_object_set_new(o, "role", json_string("assistant"));
        maybe(o, "refusal", or_null(any_string()));
        maybe(o, "audio", pair("id", any_string(), "x", any_string()));
        maybe(o, "function_call", pair("name", any_string(),
                                       "arguments", any_string()));
        calls = json_array();

        for (n = draw(3); n != 0; n--) {
            json_array_append_new(calls,
                pair("id", any_string(), "function",
                     pair("name", any_string(), "arguments", any_string())));
        }

        set(o, "tool_calls", calls);
    }

    maybe(o, "x_message", any_object());

    return o;
}


static inline json_t *
build_messages(void)
{
    json_t    *a;
    unsigned   n;

    a = json_array();

    for (n = 1 + draw(4); n != 0; n--) {
        json_array_append_new(a, build_message());
    }

    return a;
}


static inline json_t *
build_item(void)
{
    json_t  *o;

    switch (draw(4)) {

    case 0:
        o = pair("type", json_string("function_call"),
                 "arguments", any_string());
        set(o, "call_id", any_string());
        return o;

    case 1:
        o = pair("type", json_string("function_call_output"),
                 "output", build_parts(1));
        set(o, "call_id", any_string());
        return o;

    case 2:
        return pair("type", json_string("reasoning"),
                    "summary", build_parts(1));

    default:
        return pair("role", one_of("user assistant system"),
                    "content", build_parts(1));
    }
}


static inline json_t *
build_tools(int flat)
{
    json_t    *a;
    unsigned   n;

    a = json_array();

    for (n = draw(3); n != 0; n--) {
        json_array_append_new(a, flat ? build_function("type", "name")
            : pair("type", json_string("function"),
                   "function", build_function("description", "name")));
    }

    return a;
}


static inline json_t *
build_bias(void)
{
    json_t  *o;

    o = pair("50256", any_real(), "9", any_integer());
    set(o, "123", any_real());

    return o;
}


/* what all endpoints that generate share, and what does not count */

static inline void
build_common(json_t *o)
{
    maybe(o, "temperature", or_null(any_real()));
    maybe(o, "top_p", or_null(any_real()));
    maybe(o, "seed", or_null(any_integer()));
    maybe(o, "service_tier", or_null(one_of("auto default flex")));
    maybe(o, "store", draw(2) ? json_false() : json_null());
    maybe(o, "stream", draw(2) ? json_true() : json_false());
    maybe(o, "stream_options", pair("include_usage", json_true(),
                                    "include_obfuscation", json_false()));
    maybe(o, "user", any_string());
    maybe(o, "safety_identifier", any_string());
    maybe(o, "metadata", any_object());
    maybe(o, "prompt_cache_key", any_string());
    maybe(o, "prompt_cache_options", any_object());
    maybe(o, "prompt_cache_retention", one_of("24h in_memory"));
    maybe(o, "top_k", any_integer());
    maybe(o, "min_p", any_fraction());
    maybe(o, "x_unknown", any_object());
    maybe(o, "chat_template_kwargs", any_object());
}


static inline void
build_chat(json_t *o)
{
    set(o, "messages", build_messages());

    maybe(o, "n", or_null(json_integer(1 + draw(4))));
    maybe(o, "max_tokens", or_null(json_integer(1 + draw(400))));
    maybe(o, "max_completion_tokens", or_null(json_integer(draw(400) + 1)));
    maybe(o, "presence_penalty", or_null(any_real()));
    maybe(o, "frequency_penalty", or_null(any_real()));
    maybe(o, "logit_bias", or_null(build_bias()));
    maybe(o, "logprobs", or_null(json_true()));
    maybe(o, "top_logprobs", or_null(json_integer(draw(20))));
    maybe(o, "stop", or_null(draw(2) ? any_string() : json_pack("[ss]", "x",
                                                                "y")));
    maybe(o, "parallel_tool_calls", draw(2) ? json_true() : json_false());
    maybe(o, "reasoning_effort", or_null(one_of("none low high")));
    maybe(o, "verbosity", or_null(one_of("low medium high")));
    maybe(o, "modalities", or_null(json_pack("[ss]", "text", "audio")));
    maybe(o, "audio", or_null(pair("voice", any_string(),
                                   "format", one_of("wav mp3"))));
    maybe(o, "prediction", or_null(pair("type", json_string("content"),
                                        "content", any_string())));
    maybe(o, "tools", build_tools(0));
    maybe(o, "functions", draw(2) ? json_array()
          : json_pack("[o]", build_function("name", "description")));
    maybe(o, "tool_choice", draw(2) ? one_of("auto none required")
          : pair("type", json_string("function"), "function",
                 pair("name", any_string(), "x", any_string())));
    maybe(o, "function_call", draw(2) ? one_of("auto none")
          : pair("name", any_string(), "x", any_string()));
    maybe(o, "response_format",
          pair("type", json_string("json_schema"), "json_schema",
               pair("name", any_string(), "schema", any_object())));
    maybe(o, "guided_json", or_null(any_object()));
}


static inline void
build_responses(json_t *o)
{
    json_t    *a;
    unsigned   n;

    a = json_array();

    for (n = 1 + draw(4); n != 0; n--) {
        json_array_append_new(a, build_item());
    }

    set(o, "input", a);

    maybe(o, "instructions", or_null(any_string()));
    maybe(o, "include", or_null(json_pack("[ss]", "a", "b")));
    maybe(o, "max_output_tokens", or_null(json_integer(1 + draw(400))));
    maybe(o, "max_tool_calls", or_null(json_integer(1 + draw(9))));
    maybe(o, "truncation", or_null(one_of("auto disabled")));
    maybe(o, "reasoning", or_null(pair("effort", one_of("low high"),
                                       "summary", one_of("auto concise"))));
    maybe(o, "tools", build_tools(1));
    maybe(o, "tool_choice", pair("type", json_string("function"),
                                 "name", any_string()));
    maybe(o, "text", pair("verbosity", one_of("low high"), "format",
                          pair("name", any_string(),
                               "schema", any_object())));
}


static inline json_t *
build(llm_endpoint_e endpoint)
{
    json_t  *o;

    o = json_object();
    set(o, "model", json_string("gpt"));

    switch (endpoint) {

    case LLM_CHAT:
        build_common(o);
        build_chat(o);
        break;

    case LLM_COMPLETIONS:
        build_common(o);
        set(o, "prompt", draw(2) ? any_string()
                         : json_pack("[oo]", any_string(), any_string()));
        maybe(o, "best_of", or_null(json_integer(1 + draw(4))));
        maybe(o, "echo", or_null(json_true()));
        maybe(o, "suffix", or_null(any_string()));
        maybe(o, "logprobs", or_null(json_integer(draw(5))));
        break;

    case LLM_RESPONSES:
        build_common(o);
        build_responses(o);
        break;

    default:
        set(o, "input", draw(2) ? json_pack("[oo]", any_string(),
                                            any_string())
                        : json_pack("[ii]", draw(9), draw(9)));
        maybe(o, "dimensions", json_integer(1 + draw(999)));
        maybe(o, "encoding_format", one_of("float base64"));
        maybe(o, "user", any_string());
    }

    return o;
}


#endif /* _DIGEST_BUILD_H_INCLUDED_ */
