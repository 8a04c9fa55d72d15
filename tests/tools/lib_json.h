
/*
 * Copyright (C) the ngx-llm authors
 *
 * A JSON reader without a tree: values are spans of the text.
 */


#ifndef _LIB_JSON_H_INCLUDED_
#define _LIB_JSON_H_INCLUDED_


#include "lib_buf.h"


typedef struct {
    const char    *pos;
    const char    *end;
    size_t         count;
    char           close;
    unsigned       done:1;      /* the list was walked to its end, */
    unsigned       bad:1;       /* or is broken; "pos" is behind it or there */
    span_t         key;         /* without quotes, still escaped; arrays: "" */
    span_t         value;
} json_iter_t;


/* one value with white space around it and nothing after */
int       json_valid(span_t text, span_t *value);

/*
 * Walk over the members of an object or the elements of an array; strict, so
 * that a walk to the end of an unchecked text proves it
 */
void      json_iter(json_iter_t *it, span_t value);
int       json_next(json_iter_t *it);

int       json_find(span_t object, const char *name, span_t *value);

/* decodes a string; -1: it is none */
int       json_string(span_t value, buf_t *out);

int64_t   json_int(span_t value, int64_t otherwise);
int       json_true(span_t value);
size_t    json_count(span_t array);


#endif /* _LIB_JSON_H_INCLUDED_ */
