
/*
 * Copyright (C) the ngx-llm authors
 *
 * Shared memory for what may be forgotten: a zone of its own behind llm_zone,
 * with its own lock, so that a full cache never makes an admission fail.  If a
 * worker dies inside the lock, the type's reset() says what becomes of it.
 */


#ifndef _NGX_HTTP_LLM_AREA_H_INCLUDED_
#define _NGX_HTTP_LLM_AREA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    ngx_atomic_t                dirty;       /* somebody is, or died, inside */
    void                       *data;
    uint64_t                    seed[4];     /* random, of this memory */
} ngx_http_llm_area_sh_t;


typedef struct {
    void                     *(*create)(void *mem, size_t size);
    void                      (*reset)(void *data);
    const char                 *fate;        /* of what is in it, then; NULL:
                                                it is forgotten */
} ngx_http_llm_area_type_t;


typedef struct ngx_http_llm_area_s  ngx_http_llm_area_t;

struct ngx_http_llm_area_s {
    ngx_shm_zone_t             *shm_zone;
    ngx_slab_pool_t            *shpool;
    ngx_http_llm_area_sh_t     *sh;
    ngx_http_llm_area_type_t   *type;
};


/*
 * Adds an area "NAME:suffix" to the cycle; the type's create() gets one block
 * of nearly all of it.  NULL: an error, logged.
 */
ngx_http_llm_area_t *ngx_http_llm_area_create(ngx_conf_t *cf,
    ngx_str_t *name, const char *suffix, size_t size,
    ngx_http_llm_area_type_t *type, void *tag);

/* what create() made; never takes another lock inside */
void *ngx_http_llm_area_lock(ngx_http_llm_area_t *area);
void ngx_http_llm_area_unlock(ngx_http_llm_area_t *area);


#endif /* _NGX_HTTP_LLM_AREA_H_INCLUDED_ */
