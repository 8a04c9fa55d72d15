
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_area.h"

#include <openssl/rand.h>


static ngx_int_t ngx_http_llm_area_init(ngx_shm_zone_t *shm_zone, void *data);


ngx_http_llm_area_t *
ngx_http_llm_area_create(ngx_conf_t *cf, ngx_str_t *name, const char *suffix,
    size_t size, ngx_http_llm_area_type_t *type, void *tag)
{
    ngx_str_t             full;
    ngx_http_llm_area_t  *area;

    area = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_area_t));
    if (area == NULL) {
        return NULL;
    }

    full.len = name->len + 1 + ngx_strlen(suffix);

    full.data = ngx_pnalloc(cf->pool, full.len);
    if (full.data == NULL) {
        return NULL;
    }

    (void) ngx_sprintf(full.data, "%V:%s", name, suffix);

    area->shm_zone = ngx_shared_memory_add(cf, &full, size, tag);
    if (area->shm_zone == NULL) {
        return NULL;
    }

    if (area->shm_zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "shared memory \"%V\" is used already", &full);
        return NULL;
    }

    area->type = type;
    area->shm_zone->init = ngx_http_llm_area_init;
    area->shm_zone->data = area;

    return area;
}


static ngx_int_t
ngx_http_llm_area_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_llm_area_t *oarea = data;

    void                 *mem;
    size_t                size;
    ngx_http_llm_area_t  *area;

    area = shm_zone->data;
    area->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (oarea) {
        /* a reload: draining workers go on with the same answers */
        area->sh = oarea->sh;
        return NGX_OK;
    }

    if (shm_zone->shm.exists) {
        area->sh = area->shpool->data;
        return NGX_OK;
    }

    area->sh = ngx_slab_calloc(area->shpool, sizeof(ngx_http_llm_area_sh_t));
    if (area->sh == NULL) {
        return NGX_ERROR;
    }

    area->shpool->data = area->sh;

    if (RAND_bytes((u_char *) area->sh->seed, sizeof(area->sh->seed)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, shm_zone->shm.log, 0,
                      "RAND_bytes() failed");
        return NGX_ERROR;
    }

    /* all that is left but a little, in one block */

    size = (area->shpool->pfree - 2) * ngx_pagesize;

    mem = ngx_slab_alloc(area->shpool, size);
    if (mem == NULL) {
        return NGX_ERROR;
    }

    area->sh->data = area->type->create(mem, size);

    return area->sh->data ? NGX_OK : NGX_ERROR;
}


void *
ngx_http_llm_area_lock(ngx_http_llm_area_t *area)
{
    ngx_shmtx_lock(&area->shpool->mutex);

    if (area->sh->dirty) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "shared memory \"%V\": a worker died while it changed "
                      "it, %s", &area->shm_zone->shm.name,
                      area->type->fate ? area->type->fate
                                       : "all in it is forgotten");

        area->type->reset(area->sh->data);
    }

    area->sh->dirty = 1;

    /* the mark must be there before, and gone after, any change */
    ngx_memory_barrier();

    return area->sh->data;
}


void
ngx_http_llm_area_unlock(ngx_http_llm_area_t *area)
{
    ngx_memory_barrier();

    area->sh->dirty = 0;

    ngx_shmtx_unlock(&area->shpool->mutex);
}
