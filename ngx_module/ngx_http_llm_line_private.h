
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_line.c and the tables of stages.
 */


#ifndef _NGX_HTTP_LLM_LINE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_LINE_PRIVATE_H_INCLUDED_


#include "ngx_http_llm_line.h"


typedef struct {
    const char                 *name;
    ngx_int_t                 (*run)(ngx_http_llm_ctx_t *ctx);
} ngx_http_llm_stage_t;


/* the stages of an endpoint, or of what is behind them (…_line.h) */
ngx_http_llm_stage_t *ngx_http_llm_line_table(ngx_uint_t endpoint);

/* goes on where the request stands; it may be gone when this returns */
void ngx_http_llm_line_step(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_LINE_PRIVATE_H_INCLUDED_ */
