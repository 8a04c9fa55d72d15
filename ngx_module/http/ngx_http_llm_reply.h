
/*
 * Copyright (C) the ngx-llm authors
 *
 * Answers to the client.  All return what is to be given to
 * ngx_http_finalize_request().
 */


#ifndef _NGX_HTTP_LLM_REPLY_H_INCLUDED_
#define _NGX_HTTP_LLM_REPLY_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* once, when the configuration is read */
void ngx_http_llm_reply_init(void);

/* an error in the API's shape; ctx may be NULL: no call of the API */
ngx_int_t ngx_http_llm_reply_error(ngx_http_request_t *r,
    ngx_http_llm_ctx_t *ctx, ngx_http_llm_error_t *e);

/* ctx->answer, whole */
ngx_int_t ngx_http_llm_reply_answer(ngx_http_llm_ctx_t *ctx);

/* JSON of our own; the body belongs to the request's pool */
ngx_int_t ngx_http_llm_reply_body(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *content_type, ngx_str_t *body);

/*
 * Makes the header of a provider's answer the header of the client's:
 * without what is between the provider and us, with what we tell.
 */
ngx_int_t ngx_http_llm_reply_hoist(ngx_http_llm_ctx_t *ctx,
    ngx_http_request_t *sr);

/* adds what we tell to the header: id, limits, cache, attempts */
ngx_int_t ngx_http_llm_reply_headers(ngx_http_request_t *r,
    ngx_http_llm_ctx_t *ctx);

/* … and when to come again */
ngx_int_t ngx_http_llm_reply_wait(ngx_http_request_t *r,
    ngx_http_llm_error_t *e);

/*
 * The header of a stream that is not a provider's own.  NGX_OK, also if the
 * client wants no body.
 */
ngx_int_t ngx_http_llm_reply_begin(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *content_type);

/*
 * Has all that was sent been taken by the client?  NGX_AGAIN: the write event
 * or its timer will tell.
 */
ngx_int_t ngx_http_llm_reply_flush(ngx_http_request_t *r);

/*
 * ctx->error inside an answer whose header is out, in the shape of a stream
 * of this endpoint if it is one; the body does not end as a whole one would.
 */
ngx_int_t ngx_http_llm_reply_break(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t stream);

/* RFC 9110, 15.5.6: the methods that a resource has, "GET, HEAD" */
ngx_int_t ngx_http_llm_reply_allow(ngx_http_request_t *r,
    const char *methods);

/* {"error": {...}} for a body or an event, from the pool of r */
ngx_int_t ngx_http_llm_reply_error_body(ngx_http_request_t *r,
    ngx_http_llm_error_t *e, ngx_str_t *body);

/* fills ctx->error; returns the status, so that a stage can return it */
ngx_int_t ngx_http_llm_error(ngx_http_llm_ctx_t *ctx, ngx_uint_t status,
    const char *type, const char *code, const char *message);


#endif /* _NGX_HTTP_LLM_REPLY_H_INCLUDED_ */
