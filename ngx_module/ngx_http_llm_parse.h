
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the request asks for, and where it is to go.
 */


#ifndef _NGX_HTTP_LLM_PARSE_H_INCLUDED_
#define _NGX_HTTP_LLM_PARSE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* the stage: ctx->rq, ctx->model and ctx->route, or a status */
ngx_int_t ngx_http_llm_parse(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_PARSE_H_INCLUDED_ */
