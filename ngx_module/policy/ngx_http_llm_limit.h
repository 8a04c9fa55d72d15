
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a request may take, in one visit of the ledger: requests, tokens and
 * money of key and team, and slots of them and of the provider.
 */


#ifndef _NGX_HTTP_LLM_LIMIT_H_INCLUDED_
#define _NGX_HTTP_LLM_LIMIT_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* joins the table of owners and listens for what was granted */
ngx_int_t ngx_http_llm_limit_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);

void ngx_http_llm_limit_exit_process(void);


/*
 * One request from the buckets of key and team, so that a hit in the cache
 * may be served: NGX_OK, NGX_AGAIN while the fleet is asked, or a status.
 */
ngx_int_t ngx_http_llm_limit_take(ngx_http_llm_ctx_t *ctx);

/* the stage: all the rest and a slot, NGX_AGAIN while in line, or a status */
ngx_int_t ngx_http_llm_admit(ngx_http_llm_ctx_t *ctx);

/* a slot of the target's provider: NGX_OK, NGX_AGAIN or a status */
ngx_int_t ngx_http_llm_limit_gate(ngx_http_llm_ctx_t *ctx);
void ngx_http_llm_limit_gate_leave(ngx_http_llm_ctx_t *ctx);

/* … the limits that it is asked of, into ctx->gate_limits: NGX_OK;
   NGX_DECLINED: the provider has none; NGX_ERROR */
ngx_int_t ngx_http_llm_limit_flow(ngx_http_llm_ctx_t *ctx);

/* gives all back, slot and reservation: it was refused, or left in line */
void ngx_http_llm_limit_undo(ngx_http_llm_ctx_t *ctx);

/* the policy changed: waiters may be able to start */
void ngx_http_llm_limit_changed(ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_LIMIT_H_INCLUDED_ */
