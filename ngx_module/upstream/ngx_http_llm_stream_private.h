
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the parts of a stream: what is looked at, and what is changed in it.
 */


#ifndef _NGX_HTTP_LLM_STREAM_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_STREAM_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/*
 * Bytes to be looked at: a buffer of the reader's, or a copy that joins the
 * beginning that was kept with such a buffer.
 */

typedef struct {
    u_char                     *pos;
    size_t                      len;
    size_t                      begun;       /* of them kept earlier, */
    size_t                      front;       /* … to be sent of those */
    ngx_buf_t                  *buf;
    size_t                      out;         /* bytes taken out of buf */
} ngx_http_llm_window_t;


/* what the bits of an event say of the stream as a whole */
void ngx_http_llm_stream_mark(ngx_http_llm_attempt_t *at, unsigned bits);

/* an "error":null of the event, if its bits say that there is one */
void ngx_http_llm_stream_clean(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len, unsigned bits);

/* takes an event out; those behind it move up, each by a call of _move() */
void ngx_http_llm_stream_remove(ngx_http_llm_attempt_t *at,
    ngx_http_llm_window_t *w, size_t start, size_t len);
void ngx_http_llm_stream_move(ngx_http_llm_window_t *w, size_t start,
    size_t len);


#endif /* _NGX_HTTP_LLM_STREAM_PRIVATE_H_INCLUDED_ */
