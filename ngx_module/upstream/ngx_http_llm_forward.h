
/*
 * Copyright (C) the ngx-llm authors
 *
 * Which provider, how often and when: attempts until one has an answer.
 */


#ifndef _NGX_HTTP_LLM_FORWARD_H_INCLUDED_
#define _NGX_HTTP_LLM_FORWARD_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "state/ngx_http_llm_zone.h"


/*
 * The stage.  NGX_OK: ctx->answer is there, a provider's answer or its last
 * error; NGX_AGAIN: an attempt runs or a pause is kept; NGX_DONE: a stream
 * went out and ctx->rc says how it ended; a status: nobody answered.
 */
ngx_int_t ngx_http_llm_forward(ngx_http_llm_ctx_t *ctx);

/*
 * The client has left while an attempt runs: NGX_OK if the attempt goes on
 * without it for a while (llm_timeout drain=), NGX_DECLINED if not.
 */
ngx_int_t ngx_http_llm_forward_detach(ngx_http_llm_ctx_t *ctx);

/* begins a pause before the next attempt: NGX_AGAIN, or NGX_OK if it is 0 */
ngx_int_t ngx_http_llm_forward_pause(ngx_http_llm_ctx_t *ctx,
    ngx_msec_t delay);

/* ms that the attempt has until its next sign of life, or its end */
ngx_msec_int_t ngx_http_llm_forward_patience(ngx_http_llm_ctx_t *ctx);

/* is it up by the client's wish alone?  then it says nothing of a provider */
ngx_uint_t ngx_http_llm_forward_hurried(ngx_http_llm_ctx_t *ctx);

/* ms that may pass between two events of a stream */
ngx_msec_int_t ngx_http_llm_forward_between(ngx_http_llm_ctx_t *ctx);

/* ms until the request's deadline, or until its client will have left */
ngx_msec_int_t ngx_http_llm_forward_left(ngx_http_llm_ctx_t *ctx);

/* counts how the present attempt ended */
void ngx_http_llm_forward_count(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_e result);


#endif /* _NGX_HTTP_LLM_FORWARD_H_INCLUDED_ */
