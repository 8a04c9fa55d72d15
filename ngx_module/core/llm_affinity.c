
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_affinity.h"
#include "core/llm_json.h"


/* another form of the record needs another number */

#define LLM_AFFINITY_VERSION  1

#define LLM_AFFINITY_HEAD     (1 + 3 * 2)


static int llm_affinity_find(llm_json_t *js, llm_str_t *id);
static unsigned char *llm_affinity_length(unsigned char *p, size_t len);


size_t
llm_affinity_size(const llm_affinity_t *af)
{
    size_t  room;

    room = LLM_AFFINITY_MAX - LLM_AFFINITY_HEAD;

    if (af->owner.len > room
        || af->provider.len > room - af->owner.len
        || af->model.len > room - af->owner.len - af->provider.len)
    {
        return 0;
    }

    return LLM_AFFINITY_HEAD + af->owner.len + af->provider.len
           + af->model.len;
}


void
llm_affinity_encode(const llm_affinity_t *af, unsigned char *p)
{
    unsigned          i;
    const llm_str_t  *s[3];

    s[0] = &af->owner;
    s[1] = &af->provider;
    s[2] = &af->model;

    *p++ = LLM_AFFINITY_VERSION;

    for (i = 0; i < 3; i++) {
        p = llm_affinity_length(p, s[i]->len);
    }

    for (i = 0; i < 3; i++) {
        if (s[i]->len != 0) {
            memcpy(p, s[i]->data, s[i]->len);
            p += s[i]->len;
        }
    }
}


int
llm_affinity_decode(llm_affinity_t *af, unsigned char *p, size_t len)
{
    size_t      n;
    unsigned    i;
    llm_str_t  *s[3];

    if (len < LLM_AFFINITY_HEAD || len > LLM_AFFINITY_MAX
        || p[0] != LLM_AFFINITY_VERSION)
    {
        return LLM_DECLINED;
    }

    s[0] = &af->owner;
    s[1] = &af->provider;
    s[2] = &af->model;

    n = LLM_AFFINITY_HEAD;

    for (i = 0; i < 3; i++) {
        s[i]->len = (size_t) p[1 + 2 * i] << 8 | p[2 + 2 * i];
        s[i]->data = p + n;

        if (s[i]->len > len - n) {
            return LLM_DECLINED;
        }

        n += s[i]->len;
    }

    return n == len ? LLM_OK : LLM_DECLINED;
}


static unsigned char *
llm_affinity_length(unsigned char *p, size_t len)
{
    *p++ = (unsigned char) (len >> 8);
    *p++ = (unsigned char) len;

    return p;
}


int
llm_affinity_id(unsigned char *body, size_t len, llm_str_t *id)
{
    llm_json_t  js;

    llm_json_init(&js, body, len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_DECLINED;
    }

    return llm_affinity_find(&js, id);
}


/* among the members of the object that has just been opened */

static int
llm_affinity_find(llm_json_t *js, llm_str_t *id)
{
    unsigned          own, response;
    llm_arena_t       none;
    llm_json_token_e  token;

    memset(&none, 0, sizeof(llm_arena_t));

    while (llm_json_next(js) == LLM_JSON_NAME) {

        own = llm_json_is(js, "id", 2);
        response = js->depth == 1 && llm_json_is(js, "response", 8);

        token = llm_json_next(js);

        if (own) {

            if (token != LLM_JSON_STRING || js->size == 0
                || js->size > LLM_AFFINITY_ID || js->escaped
                || llm_json_text(js, &none, id) != LLM_OK)
            {
                return LLM_DECLINED;
            }

            return LLM_OK;
        }

        if (response && token == LLM_JSON_OBJECT) {
            return llm_affinity_find(js, id);
        }

        if (token == LLM_JSON_OBJECT || token == LLM_JSON_ARRAY) {
            token = llm_json_skip(js);
        }

        if (token == LLM_JSON_ERROR) {
            break;
        }
    }

    return LLM_DECLINED;
}
