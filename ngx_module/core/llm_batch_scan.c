
/*
 * Copyright (C) the ngx-llm authors
 *
 * One pass over a line: where the members are that a batch asks for.
 */


#include <string.h>

#include "core/llm_batch_private.h"
#include "core/llm_json_inline.h"


static const char *llm_batch_object(llm_batch_scan_t *sc, unsigned depth);
static llm_batch_member_e llm_batch_known(const llm_json_t *js,
    unsigned depth);
static const char *llm_batch_value(llm_batch_scan_t *sc, unsigned depth);


static const char  *llm_batch_names[LLM_BATCH_MEMBERS] = {
    NULL, "custom_id", "method", "url", "body", "body.model", "body.stream"
};


const char *
llm_batch_member_name(llm_batch_member_e member)
{
    return llm_batch_names[member];
}


const char *
llm_batch_scan(llm_batch_scan_t *sc, const llm_str_t *text)
{
    const char        *error;
    llm_json_t        *js;
    llm_json_token_e   token;

    memset(sc, 0, sizeof(llm_batch_scan_t));

    js = &sc->js;

    llm_json_init(js, text->data, text->len);

    token = llm_json_next(js);

    if (token == LLM_JSON_ERROR) {
        return js->error;
    }

    if (token != LLM_JSON_OBJECT) {
        js->pos = js->start;
        return "expected an object";
    }

    error = llm_batch_object(sc, 1);

    if (error != NULL) {
        return error;
    }

    return llm_json_next(js) == LLM_JSON_END ? NULL : js->error;
}


/* to the end of the line's object, or of its body */

static const char *
llm_batch_object(llm_batch_scan_t *sc, unsigned depth)
{
    const char        *error;
    llm_json_t        *js;
    llm_json_token_e   token;

    js = &sc->js;

    for ( ;; ) {
        token = llm_json_token(js);

        if (token == LLM_JSON_NAME) {
            error = llm_batch_value(sc, depth);

            if (error != NULL) {
                return error;
            }

            continue;
        }

        return token == LLM_JSON_OBJECT_END ? NULL : js->error;
    }
}


static llm_batch_member_e
llm_batch_known(const llm_json_t *js, unsigned depth)
{
    if (depth == 2) {

        if (llm_json_same(js, "model", 5)) {
            return LLM_BATCH_BODY_MODEL;
        }

        return llm_json_same(js, "stream", 6) ? LLM_BATCH_BODY_STREAM
                                              : LLM_BATCH_NONE;
    }

    if (llm_json_same(js, "custom_id", 9)) {
        return LLM_BATCH_CUSTOM_ID;
    }

    if (llm_json_same(js, "method", 6)) {
        return LLM_BATCH_METHOD;
    }

    if (llm_json_same(js, "url", 3)) {
        return LLM_BATCH_URL;
    }

    return llm_json_same(js, "body", 4) ? LLM_BATCH_BODY : LLM_BATCH_NONE;
}


/* behind a name */

static const char *
llm_batch_value(llm_batch_scan_t *sc, unsigned depth)
{
    const char          *error;
    llm_json_t          *js;
    llm_json_token_e     token;
    llm_batch_value_t   *v;
    llm_batch_member_e   member;

    js = &sc->js;
    member = llm_batch_known(js, depth);
    v = &sc->value[member];

    if (member != LLM_BATCH_NONE && v->token != LLM_JSON_ERROR
        && sc->twice == LLM_BATCH_NONE)
    {
        sc->twice = member;
    }

    token = llm_json_token(js);

    v->token = token;
    v->start = js->start;
    v->size = js->size;
    v->escaped = js->escaped;

    switch (token) {

    case LLM_JSON_ERROR:
        return js->error;

    case LLM_JSON_OBJECT:

        if (member == LLM_BATCH_BODY) {
            error = llm_batch_object(sc, 2);

            if (error != NULL) {
                return error;
            }

            break;
        }

        /* fall through */

    case LLM_JSON_ARRAY:

        if (llm_json_skip(js) == LLM_JSON_ERROR) {
            return js->error;
        }

        break;

    default:
        break;
    }

    v->end = js->end;

    return NULL;
}
