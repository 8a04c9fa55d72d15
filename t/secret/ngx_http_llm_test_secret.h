
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_TEST_SECRET_H_INCLUDED_
#define _NGX_HTTP_LLM_TEST_SECRET_H_INCLUDED_


#include "state/ngx_http_llm_parcel.h"

#include <ngx_http.h>


#define NGX_HTTP_LLM_TEST_PIECES  16


typedef struct {
    ngx_http_llm_secret_t        *secret;
    ngx_str_t                     about;
    ngx_str_t                     body;
    ngx_uint_t                    pieces;
    ngx_uint_t                    sealed;
    ngx_uint_t                    max;
    ngx_uint_t                    n;
    ngx_uint_t                    flags;
    ngx_str_t                     out;
} ngx_http_llm_test_ctx_t;


/* the body in as many pieces as are wished for, packed */
ngx_int_t ngx_http_llm_test_pieces(ngx_pool_t *pool,
    ngx_http_llm_test_ctx_t *ctx, ngx_str_t *body, ngx_str_t *out);

/* what is too much for a request each */
ngx_int_t ngx_http_llm_test_spoil(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
ngx_int_t ngx_http_llm_test_rounds(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);
ngx_int_t ngx_http_llm_test_bench(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_TEST_SECRET_H_INCLUDED_ */
