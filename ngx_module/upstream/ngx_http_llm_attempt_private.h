
/*
 * Copyright (C) the ngx-llm authors
 *
 * The request of an attempt, as its target gets it.
 */


#ifndef _NGX_HTTP_LLM_ATTEMPT_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_ATTEMPT_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/* the provider's prefix, perhaps with the model in it, and the endpoint */
ngx_int_t ngx_http_llm_attempt_uri(ngx_http_llm_attempt_t *at,
    ngx_str_t *uri);

/* the provider's own query in front of the client's */
ngx_int_t ngx_http_llm_attempt_args(ngx_http_llm_attempt_t *at,
    ngx_str_t *args);

/* the client's, without what is the gateway's own */
ngx_int_t ngx_http_llm_attempt_headers(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);

/* the client's own bytes; what must be another is spliced in between */
ngx_int_t ngx_http_llm_attempt_body(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);


#endif /* _NGX_HTTP_LLM_ATTEMPT_PRIVATE_H_INCLUDED_ */
