
/*
 * Copyright (C) the ngx-llm authors
 *
 * Refusals in the words that clients know: which limit, how much was used,
 * and when to try again.
 */


#ifndef _NGX_HTTP_LLM_REFUSE_H_INCLUDED_
#define _NGX_HTTP_LLM_REFUSE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* by ctx->reading, in limits[reading.index]; gives back what was taken */
ngx_int_t ngx_http_llm_refuse(ngx_http_llm_ctx_t *ctx, llm_limits_t *limits);

/* nobody made room in time: for its key and team, or at the provider */
ngx_int_t ngx_http_llm_refuse_timeout(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t gate);


#endif /* _NGX_HTTP_LLM_REFUSE_H_INCLUDED_ */
