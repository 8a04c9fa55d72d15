
/*
 * Copyright (C) the ngx-llm authors
 *
 * A pull scanner for JSON, exact by RFC 8259: one pass, no tree, no memory
 * of its own.  Each call gives the next token or says which byte is wrong.
 */


#ifndef _LLM_JSON_H_INCLUDED_
#define _LLM_JSON_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


typedef enum {
    LLM_JSON_ERROR = 0,
    LLM_JSON_END,                           /* the text was whole */
    LLM_JSON_OBJECT,
    LLM_JSON_OBJECT_END,
    LLM_JSON_ARRAY,
    LLM_JSON_ARRAY_END,
    LLM_JSON_NAME,                          /* the colon is read, too */
    LLM_JSON_STRING,
    LLM_JSON_NUMBER,
    LLM_JSON_TRUE,
    LLM_JSON_FALSE,
    LLM_JSON_NULL
} llm_json_token_e;


typedef struct {
    const unsigned char  *text;
    const unsigned char  *pos;
    const unsigned char  *last;

    const unsigned char  *start;            /* the token, */
    const unsigned char  *end;              /* its quotes included */
    size_t                size;             /* NAME, STRING: bytes decoded */
    int                   escaped;          /* NAME, STRING */
    int                   integer;          /* NUMBER: digits alone */

    unsigned              state;
    unsigned              depth;            /* open objects and arrays */
    uint64_t              objects;          /* which of them are objects */

    const char           *error;            /* pos: the byte at fault */
} llm_json_t;


void llm_json_init(llm_json_t *js, const unsigned char *text, size_t len);

llm_json_token_e llm_json_next(llm_json_t *js);

/* is it one JSON value, and nothing behind it? */
int llm_json_valid(const unsigned char *text, size_t len);

/* goes on to the end of the innermost open object or array, and gives it */
llm_json_token_e llm_json_skip(llm_json_t *js);


/*
 * For strings and names: the decoded bytes, which lie in the text itself if
 * nothing had to be decoded, else in the arena.  LLM_ERROR: no memory.
 */
int llm_json_text(const llm_json_t *js, llm_arena_t *arena, llm_str_t *text);

/* is the string or name, decoded, these bytes? len is at most 32 */
int llm_json_is(const llm_json_t *js, const char *s, size_t len);

/* the value of a NUMBER that is an integer; LLM_ERROR: not an int64_t */
int llm_json_integer(const llm_json_t *js, int64_t *value);


/*
 * One valid escape sequence at *p: writes its UTF-8 to out[4], moves *p
 * behind it, and gives the number of bytes written.
 */
size_t llm_json_unescape(const unsigned char **p, unsigned char *out);

/* a valid inside of a string, p to end: decoded into "out"; its length */
size_t llm_json_decode(const unsigned char *p, const unsigned char *end,
    unsigned char *out);


#endif /* _LLM_JSON_H_INCLUDED_ */
