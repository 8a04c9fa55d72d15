
/*
 * Copyright (C) the ngx-llm authors
 *
 * Purging the cache, here and in the fleet: generations in shared memory, in
 * one hash in Redis ("{llm}:gen": "class:name", "v": the greatest, "e": the
 * first one since the hash is there), and letters that tell of them at once.
 * The greatest generation that applies to an answer is part of its name, so
 * it must be the same in all gateways: a purge that Redis did not take is
 * told to it again, once a second, until it does, and if Redis has forgotten
 * any, all is purged.
 */


#ifndef _NGX_HTTP_LLM_PURGE_H_INCLUDED_
#define _NGX_HTTP_LLM_PURGE_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "state/ngx_http_llm_generation.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_PURGE_NAME    256     /* bytes, at most */
#define NGX_HTTP_LLM_PURGE_LETTER  "purge:"


/*
 * Set once, before there are requests.  forget: one answer, by the 32 bytes
 * of its name, out of this gateway's memory.  post: a letter to all workers of
 * all gateways; NULL: others learn of it within a second.
 */
typedef struct {
    void                      (*forget)(const u_char *name);
    ngx_int_t                 (*post)(ngx_http_llm_main_conf_t *mcf,
                                      ngx_str_t *letter);
} ngx_http_llm_purge_hooks_t;

extern ngx_http_llm_purge_hooks_t  ngx_http_llm_purge_hooks;


/*
 * The end of a purge in the fleet: NGX_OK; NGX_DECLINED: Redis did not take
 * it, so far it holds here only.  "class" is ALL if there was no room for the
 * name.
 */
typedef void (*ngx_http_llm_purge_handler_pt)(void *data, ngx_int_t rc,
    ngx_uint_t class, uint64_t generation);


/* "all", "team", ..., "digest" */
extern ngx_str_t  ngx_http_llm_purge_classes[NGX_HTTP_LLM_PURGE_CLASSES + 1];


/* a worker's life; asks for the fleet's generations once a second */
ngx_int_t ngx_http_llm_purge_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);


/*
 * The generation of a name or of all, whichever is greater; 0: neither was
 * ever purged.  One load as long as nothing was.
 */
static ngx_inline uint64_t
ngx_http_llm_purge_generation(ngx_http_llm_zone_t *zone, ngx_uint_t class,
    ngx_str_t *name)
{
    if (zone->sh->purged == 0) {
        return 0;
    }

    return ngx_http_llm_generation(zone, class, name);
}


/*
 * 1: the fleet's generations were read since the zone was made, or there is
 * no fleet.  Before, what lies in Redis may have been purged.
 */
ngx_uint_t ngx_http_llm_purge_known(ngx_http_llm_main_conf_t *mcf);

/*
 * Purges: here at once, whatever becomes of the rest.  The name (ALL: NULL;
 * DIGEST: 64 hex digits in lower case) has at most NGX_HTTP_LLM_PURGE_NAME
 * bytes and is copied.  NGX_OK: there is no fleet, *generation (DIGEST: 0) is
 * set.  NGX_AGAIN: the handler, unless it is NULL, is called later, once.
 * NGX_DECLINED: Redis is away, so far it holds here only.  NGX_ERROR: no
 * memory, the same.
 */
ngx_int_t ngx_http_llm_purge(ngx_http_llm_main_conf_t *mcf, ngx_uint_t class,
    ngx_str_t *name, uint64_t *generation,
    ngx_http_llm_purge_handler_pt handler, void *data);

/* NGX_DECLINED: the letter is not about a purge */
ngx_int_t ngx_http_llm_purge_letter(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *letter);

/* asks for the fleet's generations now: letters may have been missed */
void ngx_http_llm_purge_sync(ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_PURGE_H_INCLUDED_ */
