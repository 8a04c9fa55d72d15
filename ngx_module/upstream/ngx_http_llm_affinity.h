
/*
 * Copyright (C) the ngx-llm authors
 *
 * Stored responses stay where they are: whoever names one is sent to the
 * provider that has it, if it is theirs.  The ids are kept for 30 days, in
 * shared memory and in Redis, not in clear.
 */


#ifndef _NGX_HTTP_LLM_AFFINITY_H_INCLUDED_
#define _NGX_HTTP_LLM_AFFINITY_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"
#include "state/ngx_http_llm_zone.h"


/* postconfiguration: the shared memory */
ngx_int_t ngx_http_llm_affinity_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

/*
 * The stage of calls, before the line waits for the first time: bars all
 * targets but those of the provider that has the previous response.
 */
ngx_int_t ngx_http_llm_affinity(ngx_http_llm_ctx_t *ctx);

/*
 * The stage of requests about a stored response: takes one request from the
 * buckets, and makes ctx->route and ctx->path.
 */
ngx_int_t ngx_http_llm_affinity_stored(ngx_http_llm_ctx_t *ctx);

/* may it be tried again after an attempt that ended so? */
ngx_uint_t ngx_http_llm_affinity_again(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_e result);

/* a whole answer is there: its id is remembered, a deleted one forgotten */
void ngx_http_llm_affinity_answer(ngx_http_llm_ctx_t *ctx);

/* the same of an answer that has only begun, and of a stream's first event */
void ngx_http_llm_affinity_begun(ngx_http_llm_attempt_t *at);
void ngx_http_llm_affinity_event(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len);


#endif /* _NGX_HTTP_LLM_AFFINITY_H_INCLUDED_ */
