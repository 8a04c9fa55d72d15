
/*
 * Copyright (C) the ngx-llm authors
 *
 * One level of JSON at a time: members, elements, and strings in pieces.
 */


#include "core/llm_replay_private.h"


static int llm_replay_push(llm_replay_t *rp, void *elts, uint32_t n,
    uint32_t *size, size_t elt);
static int llm_replay_twice(const llm_replay_object_t *obj);


int
llm_replay_object(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_object_t *obj)
{
    llm_json_t            js;
    llm_json_token_e      token;
    llm_replay_member_t  *m;

    memset(obj, 0, sizeof(llm_replay_object_t));
    llm_json_init(&js, text->data, text->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT) {
        return LLM_DECLINED;
    }

    while (llm_json_token(&js) == LLM_JSON_NAME) {

        /* an event of it has some more, and must be read again */

        if (obj->n == LLM_GATHER_MEMBERS - 8) {
            return LLM_DECLINED;
        }

        if (llm_replay_push(rp, &obj->elts, obj->n, &obj->size,
                            sizeof(llm_replay_member_t))
            != LLM_OK)
        {
            return LLM_ERROR;
        }

        m = &obj->elts[obj->n++];

        m->told = 0;
        m->spelled.data = (unsigned char *) js.start;
        m->spelled.len = (size_t) (js.end - js.start);

        if (llm_json_text(&js, rp->arena, &m->name) != LLM_OK) {
            return LLM_ERROR;
        }

        token = llm_json_token(&js);

        if (llm_gather_pass(&js, token, &m->value) != LLM_OK) {
            return LLM_DECLINED;
        }
    }

    return llm_replay_twice(obj) ? LLM_DECLINED : LLM_OK;
}


int
llm_replay_array(llm_replay_t *rp, const llm_str_t *text,
    llm_replay_array_t *array)
{
    llm_json_t        js;
    llm_json_token_e  token;

    memset(array, 0, sizeof(llm_replay_array_t));
    llm_json_init(&js, text->data, text->len);

    if (llm_json_next(&js) != LLM_JSON_ARRAY) {
        return LLM_DECLINED;
    }

    while ((token = llm_json_token(&js)) != LLM_JSON_ARRAY_END) {

        if (array->n == LLM_REPLAY_ELEMENTS) {
            return LLM_DECLINED;
        }

        if (llm_replay_push(rp, &array->elts, array->n, &array->size,
                            sizeof(llm_str_t))
            != LLM_OK)
        {
            return LLM_ERROR;
        }

        if (llm_gather_pass(&js, token, &array->elts[array->n++])
            != LLM_OK)
        {
            return LLM_DECLINED;
        }
    }

    return LLM_OK;
}


/* room for one more; "elts" is the address of the vector */

static int
llm_replay_push(llm_replay_t *rp, void *elts, uint32_t n, uint32_t *size,
    size_t elt)
{
    void  *old, *new;

    if (n < *size) {
        return LLM_OK;
    }

    *size = n == 0 ? 8 : n * 2;
    new = llm_arena_alloc(rp->arena, *size * elt);

    if (new == NULL) {
        return LLM_ERROR;
    }

    memcpy(&old, elts, sizeof(void *));

    if (n != 0) {
        memcpy(new, old, n * elt);
    }

    memcpy(elts, &new, sizeof(void *));

    return LLM_OK;
}


static int
llm_replay_twice(const llm_replay_object_t *obj)
{
    uint32_t              i, k;
    llm_replay_member_t  *m;

    m = obj->elts;

    for (i = 1; i < obj->n; i++) {

        for (k = 0; k < i; k++) {

            if (m[i].name.len == m[k].name.len
                && memcmp(m[i].name.data, m[k].name.data, m[i].name.len) == 0)
            {
                return 1;
            }
        }
    }

    return 0;
}


llm_replay_member_t *
llm_replay_find(const llm_replay_object_t *obj, const char *name)
{
    size_t    len;
    uint32_t  i;

    len = strlen(name);

    for (i = 0; i < obj->n; i++) {
        if (obj->elts[i].name.len == len
            && memcmp(obj->elts[i].name.data, name, len) == 0)
        {
            return &obj->elts[i];
        }
    }

    return NULL;
}


llm_replay_member_t *
llm_replay_take(llm_replay_object_t *obj, const char *name)
{
    llm_replay_member_t  *m;

    m = llm_replay_find(obj, name);

    if (m != NULL) {
        m->told = 1;
    }

    return m;
}


void
llm_replay_rest(llm_out_t *out, const llm_replay_object_t *obj)
{
    uint32_t  i;

    for (i = 0; i < obj->n; i++) {

        if (obj->elts[i].told) {
            continue;
        }

        if (out->comma) {
            llm_out_text(out, ",");
        }

        llm_out_str(out, &obj->elts[i].spelled);
        llm_out_text(out, ":");
        llm_out_str(out, &obj->elts[i].value);

        out->comma = 1;
    }
}


const unsigned char *
llm_replay_piece(const unsigned char *p, const unsigned char *end)
{
    const unsigned char  *stop, *slash;

    if (end - p <= LLM_REPLAY_PIECE) {
        return end;
    }

    stop = p + LLM_REPLAY_PIECE;

    while (p < stop) {
        slash = memchr(p, '\\', (size_t) (stop - p));

        if (slash == NULL) {
            p = stop;
            break;
        }

        /* two surrogate escapes are one character */

        p = slash + 2;

        if (slash[1] == 'u') {
            p += 4;

            if ((slash[2] | 0x20) == 'd'
                && memchr("89abAB", slash[3], 6) != NULL)
            {
                p += 6;
            }
        }
    }

    while (p < end && (*p & 0xc0) == 0x80) {
        p++;
    }

    return p;
}
