
/*
 * Copyright (C) the ngx-llm authors
 *
 * The JSON scanner's tokens as they are mostly spelled, without a call: for
 * the two scans that every request pays for.  Whatever is spelled otherwise,
 * is wrong, or stands near the end of the text is left to the scanner's own
 * functions, so that they alone decide what is JSON.
 */


#ifndef _LLM_JSON_INLINE_H_INCLUDED_
#define _LLM_JSON_INLINE_H_INCLUDED_


#include <string.h>

#include "core/llm_json_private.h"


/* more than any look ahead below, a space included: no end is minded */

#define LLM_JSON_ROOM  48

#define llm_json_room(js, p)  ((js)->last - (p) >= LLM_JSON_ROOM)

/* a call for each token is what this file is to save */

#define llm_inline  static inline __attribute__((always_inline))


/* the first of up to 32 bytes that is not plain, or the byte behind them */

llm_inline const unsigned char *
llm_json_run(const unsigned char *p)
{
#if (LLM_JSON_SSE2)

    return p + __builtin_ctzll(llm_json_mask(p) | (uint64_t) 1 << 32);

#else

    return p;

#endif
}


llm_inline llm_json_token_e
llm_json_done(llm_json_t *js, const unsigned char *start,
    const unsigned char *end, llm_json_token_e token)
{
    js->start = start;
    js->end = end;
    js->pos = end;
    js->state = LLM_JSON_AFTER;

    return token;
}


/* a name whose quote is at p, with room */

llm_inline llm_json_token_e
llm_json_common_name(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *end;

    end = llm_json_run(p + 1);

    if (end[0] != '"' || end[1] != ':') {
        return llm_json_name(js, p);
    }

    js->start = p;
    js->end = end + 1;
    js->size = (size_t) (end - p) - 1;
    js->escaped = 0;
    js->pos = end + 2;
    js->state = LLM_JSON_VALUE;

    return LLM_JSON_NAME;
}


llm_inline llm_json_token_e
llm_json_common_string(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *end;

    end = llm_json_run(p + 1);

    if (*end == '"') {
        js->size = (size_t) (end - p) - 1;
        js->escaped = 0;

        return llm_json_done(js, p, end + 1, LLM_JSON_STRING);
    }

    end = llm_json_string(js, p + 1, end);

    if (end == NULL) {
        js->state = LLM_JSON_FAILED;
        return LLM_JSON_ERROR;
    }

    return llm_json_done(js, p, end + 1, LLM_JSON_STRING);
}


/* a number that is an integer, up to 20 digits */

llm_inline llm_json_token_e
llm_json_common_number(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *end, *most;

    end = p + 1;
    most = p + 20;

    if (*p != '0') {
        while ((unsigned) (*end - '0') < 10 && end < most) {
            end++;
        }
    }

    if (*end == ',' || *end == '}' || *end == '\n') {
        js->integer = 1;
        return llm_json_done(js, p, end, LLM_JSON_NUMBER);
    }

    return llm_json_value(js, p);
}


llm_inline llm_json_token_e
llm_json_common_open(llm_json_t *js, const unsigned char *p, unsigned object)
{
    js->depth++;
    js->objects = js->objects << 1 | object;

    js->start = p;
    js->end = p + 1;
    js->pos = p + 1;
    js->state = object ? LLM_JSON_FIRST_NAME : LLM_JSON_FIRST_VALUE;

    return object ? LLM_JSON_OBJECT : LLM_JSON_ARRAY;
}


/* a value; white space may stand in front of it */

llm_inline llm_json_token_e
llm_json_common(llm_json_t *js, const unsigned char *p)
{
    if (!llm_json_room(js, p)) {
        return llm_json_value(js, llm_json_space(p, js->last));
    }

    if (*p == ' ') {
        p++;
    }

    if (*p == '"') {
        return llm_json_common_string(js, p);
    }

    if ((unsigned) (*p - '0') < 10) {
        return llm_json_common_number(js, p);
    }

    if (*p == '{' && js->depth < LLM_JSON_DEPTH) {
        return llm_json_common_open(js, p, 1);
    }

    if (*p == '[' && js->depth < LLM_JSON_DEPTH) {
        return llm_json_common_open(js, p, 0);
    }

    if (memcmp(p, "null", 4) == 0) {
        return llm_json_done(js, p, p + 4, LLM_JSON_NULL);
    }

    return llm_json_value(js, llm_json_space(p, js->last));
}


/*
 * What follows a value, with room: a name, an end, or *p at the next element
 * of an array, which LLM_JSON_END says here.
 */

llm_inline llm_json_token_e
llm_json_common_after(llm_json_t *js, const unsigned char **pos)
{
    unsigned              object;
    const unsigned char  *p;

    p = *pos;
    object = (unsigned) js->objects & 1;

    if (*p == ',' && object) {
        p++;

        if (*p <= ' ') {
            p = llm_json_space(p, js->last);
        }

        if (llm_json_room(js, p) && *p == '"') {
            return llm_json_common_name(js, p);
        }

        return llm_json_name(js, p);
    }

    if (js->depth == 0) {
        return llm_json_any(js);
    }

    if (*p == (object ? '}' : ']')) {
        js->depth--;
        js->objects >>= 1;

        return llm_json_done(js, p, p + 1, object ? LLM_JSON_OBJECT_END
                                                  : LLM_JSON_ARRAY_END);
    }

    if (*p != ',') {
        return llm_json_any(js);
    }

    *pos = p + 1;

    return LLM_JSON_END;
}


/* llm_json_next(), with the common tokens in place */

llm_inline llm_json_token_e
llm_json_token(llm_json_t *js)
{
    llm_json_token_e      token;
    const unsigned char  *p;

    p = js->pos;

    if (!llm_json_room(js, p)) {
        return llm_json_any(js);
    }

    if (*p <= ' ') {
        p = llm_json_space(p, js->last);

        if (!llm_json_room(js, p)) {
            return llm_json_any(js);
        }
    }

    switch (js->state) {

    case LLM_JSON_AFTER:
        token = llm_json_common_after(js, &p);

        if (token != LLM_JSON_END) {
            return token;
        }

        break;

    case LLM_JSON_FIRST_NAME:
        return *p == '"' ? llm_json_common_name(js, p) : llm_json_any(js);

    case LLM_JSON_FIRST_VALUE:

        if (*p == ']') {
            return llm_json_any(js);
        }

        break;

    case LLM_JSON_VALUE:
        break;

    default:
        return LLM_JSON_ERROR;
    }

    return llm_json_common(js, p);
}


/* llm_json_is(), without a call unless much is the same */

llm_inline int
llm_json_same(const llm_json_t *js, const char *s, size_t len)
{
    if (js->escaped) {
        return llm_json_is(js, s, len);
    }

    return js->start[1] == (unsigned char) *s
           && js->size == len && memcmp(js->start + 1, s, len) == 0;
}


#endif /* _LLM_JSON_INLINE_H_INCLUDED_ */
