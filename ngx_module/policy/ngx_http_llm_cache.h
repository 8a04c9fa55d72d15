
/*
 * Copyright (C) the ngx-llm authors
 *
 * Answers that are known already: in this gateway's shared memory, and in a
 * Redis that all gateways share.
 */


#ifndef _NGX_HTTP_LLM_CACHE_H_INCLUDED_
#define _NGX_HTTP_LLM_CACHE_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_flight.h"
#include "core/llm_store.h"

#include "state/ngx_http_llm_redis.h"


/* postconfiguration: the shared memory, the scripts */
ngx_int_t ngx_http_llm_cache_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

ngx_int_t ngx_http_llm_cache_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);

/* may this request's answer be looked up or stored at all? */
ngx_uint_t ngx_http_llm_cache_usable(ngx_http_llm_ctx_t *ctx);

/*
 * What the client wishes, and the name of its answer: ctx->cache, ctx->keyed.
 * To be called while what was lent to the parser is still lent.
 */
void ngx_http_llm_cache_name(ngx_http_llm_ctx_t *ctx);

/*
 * Looks into the shared memory.  A hit puts the answer into ctx->answer; what
 * is too old for that but may serve in need is kept in ctx->entry.
 */
ngx_int_t ngx_http_llm_cache_recall(ngx_http_llm_ctx_t *ctx);

/*
 * Asks Redis, once.  NGX_AGAIN: ctx->wake() is called when it has answered or
 * its time is up; NGX_OK: there is nothing to wait for, or all is as after
 * ngx_http_llm_cache_recall().  Who leads a flight asks for the fleet's lock
 * in the same turn; if another gateway leads, ctx->flight knows (its
 * "elsewhere").  Whatever is wrong with Redis is a miss.
 */
ngx_int_t ngx_http_llm_cache_fetch(ngx_http_llm_ctx_t *ctx);

/*
 * Asks for the fleet's lock alone, once, before a stale answer is renewed;
 * ctx->denied: another has it.
 */
ngx_int_t ngx_http_llm_cache_lock(ngx_http_llm_ctx_t *ctx);

/* the stale answer that was kept, because there is no better one */
ngx_int_t ngx_http_llm_cache_stale(ngx_http_llm_ctx_t *ctx);

/*
 * Stores a whole JSON answer, here and in Redis; does not wait.  The fleet's
 * lock, if it is held, is given back.
 */
void ngx_http_llm_cache_store(ngx_http_llm_ctx_t *ctx, ngx_str_t *body,
    ngx_str_t *content_type, llm_usage_t *usage);

/* the fleet's lock: given back without an answer; kept for longer; whose? */
void ngx_http_llm_cache_release(ngx_http_llm_main_conf_t *mcf,
    u_char *name, ngx_str_t *holder);
void ngx_http_llm_cache_renew(ngx_http_llm_main_conf_t *mcf, u_char *name,
    ngx_str_t *holder);
ngx_http_llm_redis_op_t *ngx_http_llm_cache_holder(
    ngx_http_llm_main_conf_t *mcf, u_char *name,
    ngx_http_llm_redis_handler_pt handler, void *data);

/* the request goes before its reply comes */
void ngx_http_llm_cache_cancel(ngx_http_llm_ctx_t *ctx);

/* one answer, by its name, out of the shared memory of this gateway */
void ngx_http_llm_cache_forget(const u_char *name);

/* of the shared memories; NGX_DECLINED: there are none */
ngx_int_t ngx_http_llm_cache_stat(ngx_http_llm_main_conf_t *mcf,
    llm_store_stat_t *store, llm_flight_stat_t *flight);

/* at a request's end: what the cache did for its team */
void ngx_http_llm_cache_count(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_CACHE_H_INCLUDED_ */
