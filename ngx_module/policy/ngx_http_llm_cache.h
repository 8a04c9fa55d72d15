
/*
 * Copyright (C) the ngx-llm authors
 *
 * Answers that are known already.
 */


#ifndef _NGX_HTTP_LLM_CACHE_H_INCLUDED_
#define _NGX_HTTP_LLM_CACHE_H_INCLUDED_


#include "http/ngx_http_llm.h"


ngx_int_t ngx_http_llm_cache_init_process(ngx_cycle_t *cycle);

/* may this request's answer be looked up or stored at all? */
ngx_uint_t ngx_http_llm_cache_usable(ngx_http_llm_ctx_t *ctx);

/*
 * Asks Redis.  NGX_AGAIN: ctx->wake() is called when it has answered or its
 * time is up; NGX_OK: there is nothing to wait for.  A hit puts the answer
 * into ctx; whatever is wrong with Redis is a miss.
 */
ngx_int_t ngx_http_llm_cache_lookup(ngx_http_llm_ctx_t *ctx);

/* stores ctx->answer, which must be whole; does not wait */
void ngx_http_llm_cache_store(ngx_http_llm_ctx_t *ctx, llm_usage_t *usage);

/* the request goes before its reply comes */
void ngx_http_llm_cache_cancel(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_CACHE_H_INCLUDED_ */
