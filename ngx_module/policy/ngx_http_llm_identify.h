
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who is calling: from the secret in the header, or on the internal listener
 * the name, to the key in the tenants file, before a byte of the body is
 * read.
 */


#ifndef _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_
#define _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_


#include "http/ngx_http_llm.h"


ngx_int_t ngx_http_llm_identify_init_process(ngx_cycle_t *cycle);

/*
 * The stage: finds the key and takes a reference to its policy for the life
 * of the request's pool.
 */
ngx_int_t ngx_http_llm_identify(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_ */
