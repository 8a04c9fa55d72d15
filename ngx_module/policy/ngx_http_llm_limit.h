
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a request may take: requests from buckets, and slots.
 */


#ifndef _NGX_HTTP_LLM_LIMIT_H_INCLUDED_
#define _NGX_HTTP_LLM_LIMIT_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* joins the table of owners and listens for granted slots */
ngx_int_t ngx_http_llm_limit_init_process(ngx_http_llm_zone_t *zone,
    ngx_cycle_t *cycle);

void ngx_http_llm_limit_exit_process(void);

/* one request from the buckets of key and team: NGX_OK or a status */
ngx_int_t ngx_http_llm_limit_take(ngx_http_llm_ctx_t *ctx);

/* gives it back, if it was taken */
void ngx_http_llm_limit_untake(ngx_http_llm_ctx_t *ctx);

/* the stage: a slot, NGX_AGAIN while in line, or a status */
ngx_int_t ngx_http_llm_admit(ngx_http_llm_ctx_t *ctx);

/* gives the slot or the place in line back; harmless when there is none */
void ngx_http_llm_limit_leave(ngx_http_llm_ctx_t *ctx);

/* the tenants file changed: waiters may be able to start */
void ngx_http_llm_limit_changed(ngx_http_llm_policy_t *policy);


#endif /* _NGX_HTTP_LLM_LIMIT_H_INCLUDED_ */
