
/*
 * Copyright (C) the ngx-llm authors
 *
 * Generations: what was stored before the last purge of all, of its team,
 * key, model or namespace is not served any more.  A purge is a number that
 * is greater than all before it; nothing is looked for and nothing deleted.
 * The names that were purged lie in a bounded table in shared memory, which
 * is read without a lock.
 */


#ifndef _NGX_HTTP_LLM_GENERATION_H_INCLUDED_
#define _NGX_HTTP_LLM_GENERATION_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_LLM_GENERATIONS     1024          /* names */
#define NGX_HTTP_LLM_GENERATION_MAX  ((uint64_t) 1 << 53)


typedef struct ngx_http_llm_zone_s         ngx_http_llm_zone_t;
typedef struct ngx_http_llm_generations_s  ngx_http_llm_generations_t;


typedef enum {
    NGX_HTTP_LLM_PURGE_ALL = 0,             /* has no name */
    NGX_HTTP_LLM_PURGE_TEAM,
    NGX_HTTP_LLM_PURGE_KEY,
    NGX_HTTP_LLM_PURGE_MODEL,
    NGX_HTTP_LLM_PURGE_NAMESPACE,
    NGX_HTTP_LLM_PURGE_CLASSES,
    NGX_HTTP_LLM_PURGE_DIGEST = NGX_HTTP_LLM_PURGE_CLASSES
} ngx_http_llm_purge_e;


/* where the zone is created; NULL: no memory */
ngx_http_llm_generations_t *ngx_http_llm_generation_create(
    ngx_slab_pool_t *shpool);

/* of a name or of all, whichever is greater; takes no lock */
uint64_t ngx_http_llm_generation(ngx_http_llm_zone_t *zone,
    ngx_uint_t class, ngx_str_t *name);

/*
 * Raises it to "gen" unless it is there already, or to one more than the
 * greatest with gen 0.  If there is no room for the name, all is purged
 * instead.  Returns the generation that the name has now.
 */
uint64_t ngx_http_llm_generation_raise(ngx_http_llm_zone_t *zone,
    ngx_uint_t class, ngx_str_t *name, uint64_t gen);

/*
 * What the store of the fleet's generations told last: its version, and the
 * epoch in which it began; both 0: it was empty.  NGX_DECLINED: nothing yet.
 */
ngx_int_t ngx_http_llm_generation_seen(ngx_http_llm_zone_t *zone,
    uint64_t *version, uint64_t *epoch);
void ngx_http_llm_generation_see(ngx_http_llm_zone_t *zone, uint64_t version,
    uint64_t epoch);

/* the first one was given in this epoch, unless another is known */
void ngx_http_llm_generation_begin(ngx_http_llm_zone_t *zone,
    uint64_t epoch);

/* 1: for one of the workers that call it within "interval" ms */
ngx_uint_t ngx_http_llm_generation_turn(ngx_http_llm_zone_t *zone,
    ngx_msec_t interval);


#endif /* _NGX_HTTP_LLM_GENERATION_H_INCLUDED_ */
