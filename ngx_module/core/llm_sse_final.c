
/*
 * Copyright (C) the ngx-llm authors
 *
 * The end of a stream that the gateway ends itself, in the words that a
 * provider has for an answer that reached its limit.
 */


#include "core/llm_sse.h"
#include "core/llm_json.h"

#include <stdio.h>
#include <string.h>


/* what is not the stream's own, twice: names, numbers, the usage; a choice */

#define LLM_SSE_FINAL_FIXED   1536
#define LLM_SSE_FINAL_CHOICE  96


static void llm_sse_stamp_object(llm_sse_stamp_t *st, llm_json_t *js);
static llm_str_t *llm_sse_stamp_member(llm_sse_stamp_t *st,
    const llm_json_t *js);
static int llm_sse_stamp_value(llm_json_t *js, llm_json_token_e token,
    llm_str_t *value);
static unsigned char *llm_sse_final_choices(unsigned char *p,
    llm_endpoint_e endpoint, uint64_t open);
static unsigned char *llm_sse_final_head(unsigned char *p,
    llm_endpoint_e endpoint, const llm_sse_stamp_t *st);
static unsigned char *llm_sse_final_response(unsigned char *p,
    const llm_sse_stamp_t *st, int64_t prompt, int64_t completion);
static unsigned char *llm_sse_final_member(unsigned char *p,
    const char *name, const llm_str_t *value, const char *absent);
static unsigned char *llm_sse_final_text(unsigned char *p, const char *s);
static unsigned char *llm_sse_final_number(unsigned char *p,
    const char *name, int64_t n);


#define llm_sse_is(js, s)  llm_json_is(js, s, sizeof(s) - 1)


void
llm_sse_stamp(llm_sse_stamp_t *st, llm_endpoint_e endpoint,
    const llm_str_t *data)
{
    int               response;
    int64_t           n;
    llm_json_t        js;
    llm_json_token_e  token;

    memset(st, 0, sizeof(llm_sse_stamp_t));
    st->sequence = -1;

    llm_json_init(&js, data->data, data->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return;
    }

    if (endpoint != LLM_RESPONSES) {
        llm_sse_stamp_object(st, &js);
        return;
    }

    while (llm_json_next(&js) == LLM_JSON_NAME) {

        response = llm_sse_is(&js, "response") ? 1
                   : llm_sse_is(&js, "sequence_number") ? 2 : 0;

        token = llm_json_next(&js);

        if (response == 1 && token == LLM_JSON_OBJECT) {
            llm_sse_stamp_object(st, &js);

        } else if (response == 2 && token == LLM_JSON_NUMBER && js.integer
                   && llm_json_integer(&js, &n) == LLM_OK && n >= 0
                   && n < INT64_MAX)
        {
            st->sequence = n;

        } else if (llm_sse_stamp_value(&js, token, NULL) != LLM_OK) {
            return;
        }
    }
}


/* the rest of an object whose brace was read */

static void
llm_sse_stamp_object(llm_sse_stamp_t *st, llm_json_t *js)
{
    llm_str_t  *value;

    while (llm_json_next(js) == LLM_JSON_NAME) {
        value = llm_sse_stamp_member(st, js);

        if (llm_sse_stamp_value(js, llm_json_next(js), value) != LLM_OK) {
            return;
        }
    }
}


static llm_str_t *
llm_sse_stamp_member(llm_sse_stamp_t *st, const llm_json_t *js)
{
    if (llm_sse_is(js, "id")) {
        return &st->id;
    }

    if (llm_sse_is(js, "object")) {
        return &st->object;
    }

    if (llm_sse_is(js, "created") || llm_sse_is(js, "created_at")) {
        return &st->created;
    }

    if (llm_sse_is(js, "model")) {
        return &st->model;
    }

    if (llm_sse_is(js, "service_tier")) {
        return &st->service_tier;
    }

    if (llm_sse_is(js, "system_fingerprint")) {
        return &st->fingerprint;
    }

    return NULL;
}


/* behind the first token of a value: takes a plain one, passes all others */

static int
llm_sse_stamp_value(llm_json_t *js, llm_json_token_e token, llm_str_t *value)
{
    if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
        token = llm_json_skip(js);

    } else if (value != NULL
               && (token == LLM_JSON_STRING || token == LLM_JSON_NUMBER))
    {
        value->data = (unsigned char *) js->start;
        value->len = (size_t) (js->end - js->start);
    }

    return token != LLM_JSON_ERROR ? LLM_OK : LLM_ERROR;
}


size_t
llm_sse_final_size(const llm_sse_stamp_t *st)
{
    return LLM_SSE_FINAL_FIXED + 64 * LLM_SSE_FINAL_CHOICE
           + 2 * (st->id.len + st->object.len + st->created.len
                  + st->model.len + st->service_tier.len
                  + st->fingerprint.len);
}


unsigned char *
llm_sse_final(unsigned char *p, llm_endpoint_e endpoint,
    const llm_sse_stamp_t *st, uint64_t open, int usage,
    int64_t prompt_tokens, int64_t completion_tokens)
{
    if (endpoint == LLM_RESPONSES) {
        return llm_sse_final_response(p, st, prompt_tokens,
                                      completion_tokens);
    }

    if (open != 0) {
        p = llm_sse_final_head(p, endpoint, st);
        p = llm_sse_final_choices(p, endpoint, open);
        p = llm_sse_final_text(p, usage ? ",\"usage\":null}\n\n" : "}\n\n");
    }

    if (usage) {
        p = llm_sse_final_head(p, endpoint, st);
        p = llm_sse_final_text(p, "[],\"usage\":{");
        p = llm_sse_final_number(p, "prompt_tokens", prompt_tokens);
        p = llm_sse_final_number(p, ",completion_tokens", completion_tokens);
        p = llm_sse_final_number(p, ",total_tokens",
                                 prompt_tokens + completion_tokens);
        p = llm_sse_final_text(p, "}}\n\n");
    }

    return llm_sse_final_text(p, "data: [DONE]\n\n");
}


static unsigned char *
llm_sse_final_choices(unsigned char *p, llm_endpoint_e endpoint,
    uint64_t open)
{
    int  i;

    *p++ = '[';

    for (i = 0; open != 0; i++, open >>= 1) {

        if ((open & 1) == 0) {
            continue;
        }

        p = llm_sse_final_number(p, "{index", i);
        p = llm_sse_final_text(p, endpoint == LLM_CHAT
                                  ? ",\"delta\":{}" : ",\"text\":\"\"");
        p = llm_sse_final_text(p, ",\"logprobs\":null,"
                                  "\"finish_reason\":\"length\"}");

        if ((open >> 1) != 0) {
            *p++ = ',';
        }
    }

    *p++ = ']';

    return p;
}


/* a chunk up to its choices */

static unsigned char *
llm_sse_final_head(unsigned char *p, llm_endpoint_e endpoint,
    const llm_sse_stamp_t *st)
{
    p = llm_sse_final_text(p, "data: {");
    p = llm_sse_final_member(p, "\"id\":", &st->id, "\"\"");
    p = llm_sse_final_member(p, ",\"object\":", &st->object,
                             endpoint == LLM_CHAT
                             ? "\"chat.completion.chunk\""
                             : "\"text_completion\"");
    p = llm_sse_final_member(p, ",\"created\":", &st->created, "0");
    p = llm_sse_final_member(p, ",\"model\":", &st->model, "\"\"");
    p = llm_sse_final_member(p, ",\"service_tier\":", &st->service_tier,
                             NULL);
    p = llm_sse_final_member(p, ",\"system_fingerprint\":", &st->fingerprint,
                             NULL);

    return llm_sse_final_text(p, ",\"choices\":");
}


/* all that a response must have, as of one that had brought nothing yet */

static unsigned char *
llm_sse_final_response(unsigned char *p, const llm_sse_stamp_t *st,
    int64_t prompt, int64_t completion)
{
    p = llm_sse_final_text(p, "event: response.incomplete\n"
                              "data: {\"type\":\"response.incomplete\"");
    p = llm_sse_final_number(p, ",sequence_number", st->sequence + 1);
    p = llm_sse_final_text(p, ",\"response\":{");
    p = llm_sse_final_member(p, "\"id\":", &st->id, "\"\"");
    p = llm_sse_final_member(p, ",\"object\":", &st->object, "\"response\"");
    p = llm_sse_final_member(p, ",\"created_at\":", &st->created, "0");
    p = llm_sse_final_member(p, ",\"model\":", &st->model, "\"\"");
    p = llm_sse_final_text(p, ",\"status\":\"incomplete\",\"error\":null,"
                              "\"incomplete_details\":{\"reason\":"
                              "\"max_output_tokens\"},\"instructions\":null,"
                              "\"metadata\":{},\"output\":[],"
                              "\"parallel_tool_calls\":true,"
                              "\"temperature\":null,\"tool_choice\":\"auto\","
                              "\"tools\":[],\"top_p\":null,\"usage\":{");
    p = llm_sse_final_number(p, "input_tokens", prompt);
    p = llm_sse_final_text(p, ",\"input_tokens_details\":"
                              "{\"cached_tokens\":0}");
    p = llm_sse_final_number(p, ",output_tokens", completion);
    p = llm_sse_final_text(p, ",\"output_tokens_details\":"
                              "{\"reasoning_tokens\":0}");
    p = llm_sse_final_number(p, ",total_tokens", prompt + completion);

    return llm_sse_final_text(p, "}}}\n\n");
}


static unsigned char *
llm_sse_final_member(unsigned char *p, const char *name,
    const llm_str_t *value, const char *absent)
{
    if (value->len == 0) {

        if (absent == NULL) {
            return p;
        }

        p = llm_sse_final_text(p, name);

        return llm_sse_final_text(p, absent);
    }

    p = llm_sse_final_text(p, name);

    memcpy(p, value->data, value->len);

    return p + value->len;
}


static unsigned char *
llm_sse_final_text(unsigned char *p, const char *s)
{
    size_t  len;

    len = strlen(s);
    memcpy(p, s, len);

    return p + len;
}


/* what is in front of the name stays in front of its quote */

static unsigned char *
llm_sse_final_number(unsigned char *p, const char *name, int64_t n)
{
    int  len;

    if (*name == ',' || *name == '{') {
        *p++ = (unsigned char) *name++;
    }

    len = snprintf((char *) p, 64, "\"%s\":%lld", name, (long long) n);

    return p + len;
}
