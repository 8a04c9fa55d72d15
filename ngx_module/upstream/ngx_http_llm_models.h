
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /v1/models: the models that have a route of their own name, and those
 * that the providers behind patterns tell of, as far as the key may use them.
 */


#ifndef _NGX_HTTP_LLM_MODELS_H_INCLUDED_
#define _NGX_HTTP_LLM_MODELS_H_INCLUDED_


#include "http/ngx_http_llm.h"


ngx_int_t ngx_http_llm_models_init_process(ngx_cycle_t *cycle);

/* the stage: asks the providers whose lists are old, then answers */
ngx_int_t ngx_http_llm_models(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_MODELS_H_INCLUDED_ */
