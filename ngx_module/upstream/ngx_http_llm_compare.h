
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_COMPARE_H_INCLUDED_
#define _NGX_HTTP_LLM_COMPARE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/*
 * The stage of /v1/compare: asks all models at once, each by a request of its
 * own through the internal listener, and answers when all have answered or
 * the time is up.
 */
ngx_int_t ngx_http_llm_compare(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_COMPARE_H_INCLUDED_ */
