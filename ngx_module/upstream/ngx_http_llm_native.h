
/*
 * Copyright (C) the ngx-llm authors
 *
 * A provider's own files and batches, for the driver of ours: requests of
 * the internal listener alone.
 *
 *     /v1/native/PROVIDER/files…, …/batches…   go to that provider
 *     /v1/native/PROVIDER/usage                 charges a batch to its key
 *
 * Headers: x-llm-model (as the client asked), x-llm-target (as the provider
 * knows it, if that is another name); of usage: x-llm-endpoint (its path) and
 * x-llm-usage (tokens: input, cached, output, reasoning).
 */


#ifndef _NGX_HTTP_LLM_NATIVE_H_INCLUDED_
#define _NGX_HTTP_LLM_NATIVE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* the stage: one target, the provider of the path */
ngx_int_t ngx_http_llm_native(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_NATIVE_H_INCLUDED_ */
