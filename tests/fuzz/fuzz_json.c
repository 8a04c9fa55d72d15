
/*
 * Copyright (C) the ngx-llm authors
 *
 * The scanner beside jansson: what one takes the other takes (but for what
 * they mean to differ in), to the same values; and passing over a value comes
 * to the same place as reading it.
 */


#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "core/llm_json.h"
#include "fuzz_main.h"
#include "fuzz_words.h"


/* a string or name, by an arena that is as small as can be; to be freed */

static char *
decoded(const llm_json_t *js)
{
    char           *copy;
    llm_str_t       s;
    llm_arena_t     arena;
    unsigned char  *room;

    memset(&arena, 0, sizeof(llm_arena_t));

    room = malloc(js->size + 8);
    arena.pos = room;
    arena.end = room + js->size + 8;

    check(llm_json_text(js, &arena, &s) == LLM_OK);
    check(s.len == js->size);

    copy = malloc(s.len + 1);
    memcpy(copy, s.data, s.len);
    copy[s.len] = '\0';

    free(room);

    return copy;
}


/* it is what the tree has */

static void
text(const llm_json_t *js, const char *expected, size_t len)
{
    char         *is;
    llm_str_t     s;
    llm_arena_t   arena;

    is = decoded(js);

    check(js->size == len);
    check(memcmp(is, expected, len) == 0);
    check(len > 32 || llm_json_is(js, expected, len));

    free(is);

    /* without any arena it is had if there is nothing to decode */

    memset(&arena, 0, sizeof(llm_arena_t));
    check(llm_json_text(js, &arena, &s) == LLM_OK || js->escaped);
}


static void
number(const llm_json_t *js, const json_t *value)
{
    int64_t  n;

    if (js->integer) {
        check(json_is_integer(value));
        check(llm_json_integer(js, &n) == LLM_OK);
        check(n == json_integer_value(value));
        return;
    }

    check(json_is_real(value));
}


static void
compare(llm_json_t *js, llm_json_token_e token, json_t *value)
{
    char    *name;
    size_t   i;

    switch (token) {

    case LLM_JSON_OBJECT:
        check(json_is_object(value));

        for (i = 0; (token = llm_json_next(js)) == LLM_JSON_NAME; i++) {
            name = decoded(js);

            text(js, name, js->size);
            compare(js, llm_json_next(js), json_object_get(value, name));

            free(name);
        }

        check(token == LLM_JSON_OBJECT_END && i == json_object_size(value));
        break;

    case LLM_JSON_ARRAY:
        check(json_is_array(value));

        for (i = 0; (token = llm_json_next(js)) != LLM_JSON_ARRAY_END; i++) {
            compare(js, token, json_array_get(value, i));
        }

        check(i == json_array_size(value));
        break;

    case LLM_JSON_STRING:
        check(json_is_string(value));
        text(js, json_string_value(value), json_string_length(value));
        break;

    case LLM_JSON_NUMBER:
        number(js, value);
        break;

    case LLM_JSON_TRUE:
        check(json_is_true(value));
        break;

    case LLM_JSON_FALSE:
        check(json_is_false(value));
        break;

    default:
        check(token == LLM_JSON_NULL && json_is_null(value));
    }
}


/* every object and array in it, passed over or read, ends at one place */

static void
skip(const unsigned char *p, size_t len)
{
    unsigned          depth;
    llm_json_t        js, read;
    llm_json_token_e  token;

    llm_json_init(&js, p, len);

    for ( ;; ) {
        token = llm_json_next(&js);

        if (token == LLM_JSON_END || token == LLM_JSON_ERROR) {
            return;
        }

        if (token != LLM_JSON_OBJECT && token != LLM_JSON_ARRAY) {
            continue;
        }

        read = js;
        depth = js.depth;

        do {
            token = llm_json_next(&read);
        } while (token != LLM_JSON_ERROR && read.depth >= depth);

        check(llm_json_skip(&js) == token);

        if (token == LLM_JSON_ERROR) {
            check(js.pos == read.pos);
            return;
        }

        check(js.pos == read.pos && js.depth == read.depth);
        check(js.end == read.end);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    json_t           *root;
    size_t            len;
    llm_json_t        js;
    json_error_t      je;
    unsigned char    *p;
    llm_json_token_e  token;

    static const char *const  words[FUZZ_WORDS] = {
        "{\"a\":", "\\ud83d\\ude00", "[[[[[[[[[[[[[[[[", "9223372036854775807",
        "0123456789abcdef0123456789abcde", "\xf0\x9f\x98\x80", "null,", "e-10"
    };

    p = fuzz_words(words, data, size, &len);

    skip(p, len);

    llm_json_init(&js, p, len);

    do {
        token = llm_json_next(&js);

        check(js.pos >= p && js.pos <= p + len && js.depth <= LLM_JSON_DEPTH);

        if (token == LLM_JSON_ERROR) {
            check(js.error != NULL);

        } else if (token != LLM_JSON_END) {
            check(js.start >= p && js.start < js.end && js.end <= js.pos);
        }

    } while (token != LLM_JSON_END && token != LLM_JSON_ERROR);

    check(llm_json_valid(p, len) == (token == LLM_JSON_END));

    memset(&je, 0, sizeof(je));
    root = json_loadb((char *) p, len, JSON_DECODE_ANY
                      |JSON_REJECT_DUPLICATES|JSON_ALLOW_NUL, &je);

    if (token == LLM_JSON_END && root != NULL) {
        llm_json_init(&js, p, len);
        compare(&js, llm_json_next(&js), root);
        check(llm_json_next(&js) == LLM_JSON_END);

    } else if (token == LLM_JSON_END) {
        check(json_error_code(&je) == json_error_duplicate_key
              || json_error_code(&je) == json_error_null_byte_in_key
              || json_error_code(&je) == json_error_numeric_overflow);

    } else if (root != NULL) {

        /* jansson goes deeper, and takes a zero byte for the end */

        check(js.depth == LLM_JSON_DEPTH
              || (js.pos < p + len && *js.pos == '\0'));
    }

    json_decref(root);
    free(p);

    return 0;
}
