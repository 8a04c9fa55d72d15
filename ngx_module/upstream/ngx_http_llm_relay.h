
/*
 * Copyright (C) the ngx-llm authors
 *
 * The header and body filters that stand between an attempt and the client:
 * nothing reaches the client before it is sure that it should.
 */


#ifndef _NGX_HTTP_LLM_RELAY_H_INCLUDED_
#define _NGX_HTTP_LLM_RELAY_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


#define NGX_HTTP_LLM_HOLD_ANSWER  (1024 * 1024)
#define NGX_HTTP_LLM_HOLD_EVENT   (16 * 1024 * 1024)
#define NGX_HTTP_LLM_HOLD_ERROR   (64 * 1024)


/* installs the filters: at postconfiguration */
void ngx_http_llm_relay_init(void);

/* makes the attempt's header the client's and sends it */
ngx_int_t ngx_http_llm_relay_commit(ngx_http_llm_attempt_t *at);

/* adds bytes to what is held */
ngx_int_t ngx_http_llm_relay_keep(ngx_http_llm_attempt_t *at, u_char *p,
    size_t len);

/* marks buffers as read: the reader goes on only when they are */
void ngx_http_llm_relay_drop(ngx_chain_t *in);

/* adds the provider's buffer, or a copy of bytes, to a chain of our own */
ngx_int_t ngx_http_llm_relay_link(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll);
ngx_int_t ngx_http_llm_relay_copy(ngx_http_llm_attempt_t *at, u_char *p,
    size_t len, ngx_chain_t ***ll);

/*
 * The same as link(), but while others follow this call its client must not
 * hold it up: then the bytes are copied, up to a bound.
 */
ngx_int_t ngx_http_llm_relay_share(ngx_http_llm_attempt_t *at, ngx_buf_t *b,
    ngx_chain_t ***ll);

/* sends a chain of our own, or one that is the reader's */
ngx_int_t ngx_http_llm_relay_out(ngx_http_llm_attempt_t *at,
    ngx_chain_t *out);
ngx_int_t ngx_http_llm_relay_pass(ngx_http_llm_attempt_t *at,
    ngx_chain_t *in);


#endif /* _NGX_HTTP_LLM_RELAY_H_INCLUDED_ */
