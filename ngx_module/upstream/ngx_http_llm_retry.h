
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whether there is another attempt, when, and at which target.
 */


#ifndef _NGX_HTTP_LLM_RETRY_H_INCLUDED_
#define _NGX_HTTP_LLM_RETRY_H_INCLUDED_


#include "upstream/ngx_http_llm_judge.h"


/*
 * NGX_OK: start the next attempt at once; NGX_AGAIN: after a pause that has
 * begun; NGX_DECLINED: there is nothing left to try
 */
ngx_int_t ngx_http_llm_retry(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);


#endif /* _NGX_HTTP_LLM_RETRY_H_INCLUDED_ */
