
/*
 * Copyright (C) the ngx-llm authors
 *
 * Spans, growing buffers and pools for the test tools.  Out of memory ends
 * the program: a test tool has nothing better to do.
 */


#ifndef _LIB_BUF_H_INCLUDED_
#define _LIB_BUF_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


typedef struct {
    const char    *data;
    size_t         len;
} span_t;


typedef struct {
    char          *data;
    size_t         len;
    size_t         size;
} buf_t;


typedef struct pool_node_s  pool_node_t;

typedef struct {
    pool_node_t   *list;
} pool_t;


#define span(text)           ((span_t) { text, sizeof(text) - 1 })
#define span_is(s, text)     span_eq(s, span(text))

int       span_eq(span_t a, span_t b);
int       span_eq_case(span_t a, span_t b);
int       span_ends(span_t s, span_t end);

/* a decimal number up to 18 digits; -1: it is none */
int64_t   span_int(span_t s);

void      buf_reserve(buf_t *b, size_t more);
void      buf_add(buf_t *b, const void *data, size_t len);
void      buf_span(buf_t *b, span_t s);
void      buf_str(buf_t *b, const char *text);
void      buf_fmt(buf_t *b, const char *fmt, ...)
              __attribute__((format(printf, 2, 3)));
void      buf_cut_front(buf_t *b, size_t len);
void      buf_free(buf_t *b);

/* a JSON string with its quotes; "data" must be UTF-8 */
void      buf_json(buf_t *b, const char *data, size_t len);

void      buf_base64(buf_t *b, const void *data, size_t len);
int       buf_base64_decode(buf_t *b, span_t s);

void     *pool_alloc(pool_t *p, size_t size);
span_t    pool_span(pool_t *p, span_t s);
void      pool_free(pool_t *p);

int       utf8_valid(const char *data, size_t len);

/* the CRC-32 of zlib and PNG; begins with crc = 0 */
uint32_t  crc32_add(uint32_t crc, const void *data, size_t len);

void      die(const char *fmt, ...)
              __attribute__((format(printf, 1, 2), noreturn));


#endif /* _LIB_BUF_H_INCLUDED_ */
