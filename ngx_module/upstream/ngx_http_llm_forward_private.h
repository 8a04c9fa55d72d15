
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the attempts of a request and what is told when none of them helped.
 */


#ifndef _NGX_HTTP_LLM_FORWARD_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_FORWARD_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_judge.h"


/* nobody could be asked; "wait": ms until somebody can, or -1 */
ngx_int_t ngx_http_llm_forward_unavailable(ngx_http_llm_ctx_t *ctx,
    ngx_int_t wait);

/* the last attempt's error is the client's */
ngx_int_t ngx_http_llm_forward_failed(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc);


#endif /* _NGX_HTTP_LLM_FORWARD_PRIVATE_H_INCLUDED_ */
