
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the cache.
 */


#ifndef _NGX_HTTP_LLM_CACHE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_CACHE_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_cache.h"
#include "state/ngx_http_llm_redis.h"


/* a change of what is digested or stored, or how, needs another number */

#define NGX_HTTP_LLM_CACHE_PREFIX    "{llm}:c2:"
#define NGX_HTTP_LLM_CACHE_LOCK      "{llm}:l2:"
#define NGX_HTTP_LLM_CACHE_KEY_LEN   (sizeof(NGX_HTTP_LLM_CACHE_PREFIX) - 1   \
                                      + 2 * NGX_HTTP_LLM_DIGEST_LEN)

/* how long the fleet's lock outlives a holder that does not renew it, ms */

#define NGX_HTTP_LLM_CACHE_HOLD      "6000"


/* the Redis of the cache, or NULL */
ngx_http_llm_redis_t *ngx_http_llm_cache_redis(
    ngx_http_llm_main_conf_t *mcf);

/* NGX_HTTP_LLM_CACHE_KEY_LEN bytes */
void ngx_http_llm_cache_key(u_char *p, const char *prefix,
    const u_char *name);

/* s an answer to this request stays fresh; 0: it is not to be kept */
time_t ngx_http_llm_cache_ttl(ngx_http_llm_ctx_t *ctx);

/*
 * An encoded entry that was found: NGX_OK: ctx->answer is there; NGX_DECLINED:
 * it is damaged or too old, but perhaps good in need.
 */
ngx_int_t ngx_http_llm_cache_found(ngx_http_llm_ctx_t *ctx, u_char *p,
    size_t len);

/* an encoded entry in pieces, into the shared memory */
void ngx_http_llm_cache_put(ngx_http_llm_ctx_t *ctx, llm_entry_t *e,
    llm_str_t *piece, ngx_uint_t n);

/* the same into Redis */
void ngx_http_llm_cache_send(ngx_http_llm_ctx_t *ctx, llm_entry_t *e,
    ngx_str_t *piece, ngx_uint_t n);

/* the scripts, where the Redis of the cache is configured */
ngx_int_t ngx_http_llm_cache_scripts(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_CACHE_PRIVATE_H_INCLUDED_ */
