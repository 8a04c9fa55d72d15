
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_zone.h"
#include "state/ngx_http_llm_wake.h"

#include "core/llm_quota.h"


/* some hundred models */

#define NGX_HTTP_LLM_ZONE_ESTIMATES  (32 * 1024)


static ngx_int_t ngx_http_llm_zone_init(ngx_shm_zone_t *shm_zone, void *data);
static ngx_int_t ngx_http_llm_zone_fill(ngx_http_llm_zone_t *zone,
    size_t size);
static ngx_int_t ngx_http_llm_zone_estimates(ngx_http_llm_zone_t *zone);
static ngx_int_t ngx_http_llm_zone_ledger(ngx_http_llm_zone_t *zone);
static void ngx_http_llm_zone_tell(ngx_http_llm_zone_t *zone,
    llm_owners_t *wake);


ngx_http_llm_zone_t *
ngx_http_llm_zone_create(ngx_conf_t *cf, ngx_str_t *name, ssize_t size,
    void *tag)
{
    ngx_http_llm_zone_t  *zone;

    zone = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_zone_t));
    if (zone == NULL) {
        return NULL;
    }

    zone->shm_zone = ngx_shared_memory_add(cf, name, size, tag);
    if (zone->shm_zone == NULL) {
        return NULL;
    }

    if (zone->shm_zone->data) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_zone \"%V\" is used already", name);
        return NULL;
    }

    zone->shm_zone->init = ngx_http_llm_zone_init;
    zone->shm_zone->data = zone;

    return zone;
}


static ngx_int_t
ngx_http_llm_zone_init(ngx_shm_zone_t *shm_zone, void *data)
{
    ngx_http_llm_zone_t  *ozone = data;

    size_t                len;
    ngx_http_llm_zone_t  *zone;

    zone = shm_zone->data;
    zone->shpool = (ngx_slab_pool_t *) shm_zone->shm.addr;

    if (ozone) {
        /* a reload: draining workers go on with the same ledger */
        zone->sh = ozone->sh;
        return NGX_OK;
    }

    if (shm_zone->shm.exists) {
        zone->sh = zone->shpool->data;
        return NGX_OK;
    }

    zone->sh = ngx_slab_calloc(zone->shpool, sizeof(ngx_http_llm_zone_sh_t));
    if (zone->sh == NULL) {
        return NGX_ERROR;
    }

    zone->shpool->data = zone->sh;
    zone->sh->count.started = ngx_time();

    len = sizeof(" in llm_zone \"\"") + shm_zone->shm.name.len;

    zone->shpool->log_ctx = ngx_slab_alloc(zone->shpool, len);
    if (zone->shpool->log_ctx == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(zone->shpool->log_ctx, " in llm_zone \"%V\"%Z",
                &shm_zone->shm.name);

    return ngx_http_llm_zone_fill(zone, shm_zone->shm.size);
}


/* in this order: the ledger takes what the others leave */

static ngx_int_t
ngx_http_llm_zone_fill(ngx_http_llm_zone_t *zone, size_t size)
{
    if (ngx_http_llm_zone_estimates(zone) != NGX_OK) {
        return NGX_ERROR;
    }

    zone->sh->generations = ngx_http_llm_generation_create(zone->shpool);
    zone->sh->teams = ngx_http_llm_team_create(zone->shpool, size);

    if (zone->sh->generations == NULL || zone->sh->teams == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_llm_zone_ledger(zone);
}


static ngx_int_t
ngx_http_llm_zone_estimates(ngx_http_llm_zone_t *zone)
{
    void  *mem;

    mem = ngx_slab_alloc(zone->shpool, NGX_HTTP_LLM_ZONE_ESTIMATES);
    if (mem == NULL) {
        return NGX_ERROR;
    }

    zone->sh->estimates = llm_estimates_create(mem,
                                               NGX_HTTP_LLM_ZONE_ESTIMATES);

    return zone->sh->estimates != NULL ? NGX_OK : NGX_ERROR;
}


/* all that is left but a little, in one block */

static ngx_int_t
ngx_http_llm_zone_ledger(ngx_http_llm_zone_t *zone)
{
    void    *mem;
    size_t   size;

    size = (zone->shpool->pfree - 4) * ngx_pagesize;

    mem = ngx_slab_alloc(zone->shpool, size);
    if (mem == NULL) {
        return NGX_ERROR;
    }

    zone->sh->ledger = llm_ledger_create(mem, size);

    return zone->sh->ledger != NULL ? NGX_OK : NGX_ERROR;
}


void
ngx_http_llm_zone_lock(ngx_http_llm_zone_t *zone, llm_owners_t *wake)
{
    llm_now_t  now;

    ngx_memzero(wake, sizeof(llm_owners_t));

    ngx_shmtx_lock(&zone->shpool->mutex);

    if (zone->sh->dirty) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm_zone \"%V\": a worker died while it changed the "
                      "ledger, it is derived anew",
                      &zone->shm_zone->shm.name);

        ngx_http_llm_now(&now);
        llm_ledger_rebuild(zone->sh->ledger, &now, wake);
    }

    zone->sh->dirty = 1;

    /* the mark must be there before, and gone after, any change */
    ngx_memory_barrier();
}


void
ngx_http_llm_zone_unlock(ngx_http_llm_zone_t *zone, llm_owners_t *wake)
{
    ngx_http_llm_zone_tell(zone, wake);

    ngx_memory_barrier();

    zone->sh->dirty = 0;

    ngx_shmtx_unlock(&zone->shpool->mutex);

    ngx_http_llm_wake(wake);
}


/* the agent is woken once for what the ledger has to say, not each time */

static void
ngx_http_llm_zone_tell(ngx_http_llm_zone_t *zone, llm_owners_t *wake)
{
    ngx_uint_t               pending, agent;
    ngx_http_llm_zone_sh_t  *sh;

    sh = zone->sh;

    if (sh->agent == 0) {
        return;
    }

    pending = llm_ledger_pending(sh->ledger);

    if (pending <= sh->told) {
        return;
    }

    agent = sh->agent - 1;

    sh->told = pending;
    wake->bits[agent / 64] |= (uint64_t) 1 << agent % 64;
}
