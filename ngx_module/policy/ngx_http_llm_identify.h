
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who is calling: from the secret in the header, or on the internal listener
 * the name, to the key in the policy, before a byte of the body is read.
 */


#ifndef _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_
#define _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_


#include "http/ngx_http_llm.h"


ngx_int_t ngx_http_llm_identify_init_process(ngx_cycle_t *cycle);

/* the stage: finds the key and copies what is said of it into the pool */
ngx_int_t ngx_http_llm_identify(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_IDENTIFY_H_INCLUDED_ */
