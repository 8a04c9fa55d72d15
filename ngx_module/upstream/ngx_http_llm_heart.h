
/*
 * Copyright (C) the ngx-llm authors
 *
 * Heartbeats: comments in a stream that is silent, so that neither its client
 * nor what stands between takes the connection for dead.
 */


#ifndef _NGX_HTTP_LLM_HEART_H_INCLUDED_
#define _NGX_HTTP_LLM_HEART_H_INCLUDED_


#include "http/ngx_http_llm.h"


/*
 * A request begins to wait.  For a stream whose location has heartbeats a
 * timer of its own runs from then on, until stop(); called again it does
 * nothing.
 */
void ngx_http_llm_heart_start(ngx_http_llm_ctx_t *ctx);

/* the request waits no more, or for nothing but its client */
void ngx_http_llm_heart_stop(ngx_http_llm_ctx_t *ctx);

/*
 * ctx->answer behind a header that went out with the first heartbeat: as a
 * stream, or as an error inside one.  Returns what is to be given to
 * ngx_http_finalize_request().
 */
ngx_int_t ngx_http_llm_heart_answer(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_HEART_H_INCLUDED_ */
