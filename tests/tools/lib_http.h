
/*
 * Copyright (C) the ngx-llm authors
 *
 * HTTP/1.x heads and chunked bodies, both sides.
 */


#ifndef _LIB_HTTP_H_INCLUDED_
#define _LIB_HTTP_H_INCLUDED_


#include "lib_buf.h"


#define HTTP_HEADERS  128


typedef struct {
    span_t         name;
    span_t         value;
} http_header_t;


typedef struct {
    size_t         len;             /* with the empty line */
    int            minor;           /* HTTP/1.minor */

    span_t         method;          /* requests */
    span_t         target;
    int            status;          /* answers */

    int64_t        content_length;  /* -1: not given */
    unsigned       chunked:1;
    unsigned       keep_alive:1;
    unsigned       expect:1;

    size_t         n;
    http_header_t  headers[HTTP_HEADERS];
} http_head_t;


typedef struct {
    int            state;
    uint64_t       left;
    unsigned       done:1;
    unsigned       bad:1;
} http_chunked_t;


/* the length of the head; 0: not whole yet, -1: not HTTP/1.x */
int64_t       http_request(http_head_t *h, const char *data, size_t len);
int64_t       http_answer(http_head_t *h, const char *data, size_t len);

/* NULL: not there */
const span_t *http_header(const http_head_t *h, const char *name);

/*
 * Takes the chunk framing off and adds the data to "out" (may be NULL);
 * returns how many bytes were used, all of them unless done or bad
 */
size_t        http_dechunk(http_chunked_t *c, const char *data, size_t len,
                  buf_t *out);


#endif /* _LIB_HTTP_H_INCLUDED_ */
