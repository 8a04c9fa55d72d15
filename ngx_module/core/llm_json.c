
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_json_inline.h"


#define llm_json_digit(p, last)  ((p) < (last) && (unsigned) (*(p) - '0') < 10)


static llm_json_token_e llm_json_open(llm_json_t *js, const unsigned char *p,
    int object);
static llm_json_token_e llm_json_close(llm_json_t *js,
    const unsigned char *p);
static llm_json_token_e llm_json_number(llm_json_t *js,
    const unsigned char *p);
static llm_json_token_e llm_json_literal(llm_json_t *js,
    const unsigned char *p, const char *word, llm_json_token_e token);
static llm_json_token_e llm_json_error(llm_json_t *js,
    const unsigned char *p, const char *error);


void
llm_json_init(llm_json_t *js, const unsigned char *text, size_t len)
{
    memset(js, 0, sizeof(llm_json_t));

    js->text = text;
    js->pos = text;
    js->last = len != 0 ? text + len : text;     /* text may be NULL */
}


llm_json_token_e
llm_json_next(llm_json_t *js)
{
    return llm_json_token(js);
}


int
llm_json_valid(const unsigned char *text, size_t len)
{
    llm_json_t        js;
    llm_json_token_e  token;

    llm_json_init(&js, text, len);

    do {
        token = llm_json_token(&js);
    } while (token != LLM_JSON_END && token != LLM_JSON_ERROR);

    return token == LLM_JSON_END;
}


llm_json_token_e
llm_json_skip(llm_json_t *js)
{
    unsigned          depth;
    llm_json_token_e  token;

    depth = js->depth;

    do {
        token = llm_json_token(js);

        if (token == LLM_JSON_NAME) {
            token = llm_json_common(js, js->pos);
        }

    } while (js->depth >= depth && token != LLM_JSON_ERROR);

    return token;
}


llm_json_token_e
llm_json_any(llm_json_t *js)
{
    const unsigned char  *p;

    p = llm_json_space(js->pos, js->last);

    switch (js->state) {

    case LLM_JSON_AFTER:

        if (p < js->last && *p == ',' && js->depth != 0) {
            p = llm_json_space(p + 1, js->last);

            if (js->objects & 1) {
                return llm_json_name(js, p);
            }

            return llm_json_value(js, p);
        }

        return llm_json_close(js, p);

    case LLM_JSON_FIRST_NAME:

        if (p < js->last && *p == '"') {
            return llm_json_name(js, p);
        }

        if (p < js->last && *p != '}') {
            return llm_json_error(js, p, "expected a member name or '}'");
        }

        return llm_json_close(js, p);

    case LLM_JSON_FIRST_VALUE:

        if (p < js->last && *p == ']') {
            return llm_json_close(js, p);
        }

        return llm_json_value(js, p);

    case LLM_JSON_VALUE:
        return llm_json_value(js, p);

    default:
        return LLM_JSON_ERROR;
    }
}


llm_json_token_e
llm_json_value(llm_json_t *js, const unsigned char *p)
{
    if (p == js->last) {
        return llm_json_error(js, p, "it ends before it is complete");
    }

    switch (*p) {

    case '"':
        js->start = p;

        p = llm_json_string(js, p + 1, p + 1);
        if (p == NULL) {
            js->state = LLM_JSON_FAILED;
            return LLM_JSON_ERROR;
        }

        js->end = p + 1;
        js->pos = p + 1;
        js->state = LLM_JSON_AFTER;

        return LLM_JSON_STRING;

    case '{':
        return llm_json_open(js, p, 1);

    case '[':
        return llm_json_open(js, p, 0);

    case 't':
        return llm_json_literal(js, p, "true", LLM_JSON_TRUE);

    case 'f':
        return llm_json_literal(js, p, "false", LLM_JSON_FALSE);

    case 'n':
        return llm_json_literal(js, p, "null", LLM_JSON_NULL);

    case '-':
    case '0': case '1': case '2': case '3': case '4':
    case '5': case '6': case '7': case '8': case '9':
        return llm_json_number(js, p);

    case 0xef:

        if (p == js->text && js->last - p >= 3
            && p[1] == 0xbb && p[2] == 0xbf)
        {
            return llm_json_error(js, p, "a byte order mark is not allowed");
        }

        /* fall through */

    default:
        return llm_json_error(js, p, "expected a value");
    }
}


llm_json_token_e
llm_json_name(llm_json_t *js, const unsigned char *p)
{
    if (p == js->last) {
        return llm_json_error(js, p, "it ends before it is complete");
    }

    if (*p != '"') {
        return llm_json_error(js, p, "expected a member name in quotes");
    }

    js->start = p;

    p = llm_json_string(js, p + 1, p + 1);
    if (p == NULL) {
        js->state = LLM_JSON_FAILED;
        return LLM_JSON_ERROR;
    }

    js->end = p + 1;

    p = llm_json_space(p + 1, js->last);

    if (p == js->last) {
        return llm_json_error(js, p, "it ends before it is complete");
    }

    if (*p != ':') {
        return llm_json_error(js, p, "expected ':' behind a member name");
    }

    js->pos = p + 1;
    js->state = LLM_JSON_VALUE;

    return LLM_JSON_NAME;
}


static llm_json_token_e
llm_json_open(llm_json_t *js, const unsigned char *p, int object)
{
    if (js->depth == LLM_JSON_DEPTH) {
        return llm_json_error(js, p, "it is nested deeper than 64 levels");
    }

    js->depth++;
    js->objects = js->objects << 1 | (unsigned) object;

    js->start = p;
    js->end = p + 1;
    js->pos = p + 1;

    if (object) {
        js->state = LLM_JSON_FIRST_NAME;
        return LLM_JSON_OBJECT;
    }

    js->state = LLM_JSON_FIRST_VALUE;

    return LLM_JSON_ARRAY;
}


static llm_json_token_e
llm_json_close(llm_json_t *js, const unsigned char *p)
{
    unsigned  object;

    object = js->objects & 1;

    if (js->depth == 0) {

        if (p == js->last) {
            js->pos = p;
            return LLM_JSON_END;
        }

        return llm_json_error(js, p, "nothing may follow its end");
    }

    if (p == js->last) {
        return llm_json_error(js, p, "it ends before it is complete");
    }

    if (*p != (object ? '}' : ']')) {
        return llm_json_error(js, p, object ? "expected ',' or '}'"
                                            : "expected ',' or ']'");
    }

    js->depth--;
    js->objects >>= 1;

    js->start = p;
    js->end = p + 1;
    js->pos = p + 1;
    js->state = LLM_JSON_AFTER;

    return object ? LLM_JSON_OBJECT_END : LLM_JSON_ARRAY_END;
}


static llm_json_token_e
llm_json_number(llm_json_t *js, const unsigned char *p)
{
    const unsigned char  *last;

    last = js->last;

    js->start = p;
    js->integer = 1;

    if (*p == '-') {
        p++;
    }

    if (!llm_json_digit(p, last)) {
        return llm_json_error(js, p, "expected a digit");
    }

    if (*p++ != '0') {
        while (llm_json_digit(p, last)) {
            p++;
        }

    } else if (llm_json_digit(p, last)) {
        return llm_json_error(js, p, "a number must not begin with 0");
    }

    if (p < last && *p == '.') {
        js->integer = 0;
        p++;

        if (!llm_json_digit(p, last)) {
            return llm_json_error(js, p, "expected a digit");
        }

        do {
            p++;
        } while (llm_json_digit(p, last));
    }

    if (p < last && (*p | 0x20) == 'e') {
        js->integer = 0;
        p++;

        if (p < last && (*p == '+' || *p == '-')) {
            p++;
        }

        if (!llm_json_digit(p, last)) {
            return llm_json_error(js, p, "expected a digit");
        }

        do {
            p++;
        } while (llm_json_digit(p, last));
    }

    js->end = p;
    js->pos = p;
    js->state = LLM_JSON_AFTER;

    return LLM_JSON_NUMBER;
}


static llm_json_token_e
llm_json_literal(llm_json_t *js, const unsigned char *p, const char *word,
    llm_json_token_e token)
{
    js->start = p;

    while (*word) {

        if (p == js->last) {
            return llm_json_error(js, p, "it ends before it is complete");
        }

        if (*p != (unsigned char) *word) {
            return llm_json_error(js, p, "expected true, false or null");
        }

        p++;
        word++;
    }

    js->end = p;
    js->pos = p;
    js->state = LLM_JSON_AFTER;

    return token;
}


static llm_json_token_e
llm_json_error(llm_json_t *js, const unsigned char *p, const char *error)
{
    js->pos = p;
    js->error = js->last == js->text ? "it is empty" : error;
    js->state = LLM_JSON_FAILED;

    return LLM_JSON_ERROR;
}


int
llm_json_integer(const llm_json_t *js, int64_t *value)
{
    int                   digit, minus;
    int64_t               n;
    const unsigned char  *p;

    p = js->start;
    minus = (*p == '-');
    n = 0;

    p += minus;

    if (js->end - p <= 18) {                        /* fits in any case */

        for ( /* void */ ; p < js->end; p++) {
            n = n * 10 + (*p - '0');
        }

        *value = minus ? -n : n;

        return LLM_OK;
    }

    for ( /* void */ ; p < js->end; p++) {
        digit = *p - '0';

        if (__builtin_mul_overflow(n, (int64_t) 10, &n)
            || __builtin_add_overflow(n, (int64_t) (minus ? -digit : digit),
                                      &n))
        {
            return LLM_ERROR;
        }
    }

    *value = n;

    return LLM_OK;
}
