
/*
 * Copyright (C) the ngx-llm authors
 *
 * Names are known by a keyed hash of 64 bits; that two share one is next to
 * impossible and would but purge one name too many.  Writers have the zone's
 * mutex.  A reader, or one who comes after a writer that died, may find any
 * step half done, so each step leaves nothing that is too small: a row's
 * generation is written before its hash, and before rows are cleared the
 * generation of all, which readers load last, is greater than theirs.
 */


#include "state/ngx_http_llm_generation.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_siphash.h"

#include <openssl/rand.h>


#define NGX_HTTP_LLM_GENERATION_ROWS  (2 * NGX_HTTP_LLM_GENERATIONS)


typedef struct {
    volatile uint64_t           hash;            /* 0: free */
    volatile uint64_t           gen;
} ngx_http_llm_generation_row_t;


struct ngx_http_llm_generations_s {
    volatile uint64_t           all;
    ngx_atomic_t                used;            /* rows */
    ngx_atomic_t                names[NGX_HTTP_LLM_PURGE_CLASSES];
    uint64_t                    seed[2];
    volatile uint64_t           version;
    volatile uint64_t           epoch;
    ngx_atomic_t                known;
    ngx_atomic_t                next;            /* ms, of turn() */
    ngx_http_llm_generation_row_t  row[NGX_HTTP_LLM_GENERATION_ROWS];
};


static uint64_t ngx_http_llm_generation_hash(ngx_http_llm_generations_t *gs,
    ngx_uint_t class, ngx_str_t *name);
static ngx_http_llm_generation_row_t *ngx_http_llm_generation_row(
    ngx_http_llm_generations_t *gs, uint64_t hash);
static void ngx_http_llm_generation_all(ngx_http_llm_generations_t *gs,
    uint64_t gen, ngx_uint_t clear);


ngx_http_llm_generations_t *
ngx_http_llm_generation_create(ngx_slab_pool_t *shpool)
{
    ngx_http_llm_generations_t  *gs;

    gs = ngx_slab_calloc(shpool, sizeof(ngx_http_llm_generations_t));

    if (gs == NULL
        || RAND_bytes((u_char *) gs->seed, sizeof(gs->seed)) != 1)
    {
        return NULL;
    }

    return gs;
}


uint64_t
ngx_http_llm_generation(ngx_http_llm_zone_t *zone, ngx_uint_t class,
    ngx_str_t *name)
{
    uint64_t                        gen, all;
    ngx_http_llm_generations_t     *gs;
    ngx_http_llm_generation_row_t  *row;

    gs = zone->sh->generations;
    gen = 0;

    if (class != NGX_HTTP_LLM_PURGE_ALL && gs->names[class]) {

        row = ngx_http_llm_generation_row(gs,
                               ngx_http_llm_generation_hash(gs, class, name));

        if (row && row->hash) {
            ngx_memory_barrier();
            gen = row->gen;
        }
    }

    ngx_memory_barrier();

    all = gs->all;

    return ngx_max(gen, all);
}


uint64_t
ngx_http_llm_generation_raise(ngx_http_llm_zone_t *zone, ngx_uint_t class,
    ngx_str_t *name, uint64_t gen)
{
    uint64_t                        hash, last;
    ngx_http_llm_generations_t     *gs;
    ngx_http_llm_generation_row_t  *row;

    gs = zone->sh->generations;
    hash = class == NGX_HTTP_LLM_PURGE_ALL
           ? 0 : ngx_http_llm_generation_hash(gs, class, name);

    ngx_shmtx_lock(&zone->shpool->mutex);

    last = zone->sh->purged;

    if (gen == 0) {
        gen = last + 1;
    }

    /* readers look at this word first */

    if (gen > last) {
        zone->sh->purged = gen;
        ngx_memory_barrier();
    }

    if (class == NGX_HTTP_LLM_PURGE_ALL) {
        ngx_http_llm_generation_all(gs, gen, gen >= last);
        goto done;
    }

    if (gen <= gs->all) {
        goto done;
    }

    row = ngx_http_llm_generation_row(gs, hash);

    if (row == NULL || (row->hash == 0
                        && gs->used >= NGX_HTTP_LLM_GENERATIONS))
    {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "llm: no room for one more purged name, all of the "
                      "cache is purged");

        ngx_http_llm_generation_all(gs, ngx_max(gen, last), 1);

    } else if (row->hash == 0) {
        gs->used++;
        gs->names[class]++;

        row->gen = gen;
        ngx_memory_barrier();
        row->hash = hash;

    } else if (row->gen < gen) {
        row->gen = gen;
    }

done:

    ngx_shmtx_unlock(&zone->shpool->mutex);

    return ngx_http_llm_generation(zone, class, name);
}


static void
ngx_http_llm_generation_all(ngx_http_llm_generations_t *gs, uint64_t gen,
    ngx_uint_t clear)
{
    ngx_uint_t  i;

    if (gs->all < gen) {
        gs->all = gen;
    }

    if (!clear || gs->used == 0) {
        return;
    }

    ngx_memory_barrier();

    for (i = 0; i < NGX_HTTP_LLM_GENERATION_ROWS; i++) {
        gs->row[i].hash = 0;
    }

    for (i = 0; i < NGX_HTTP_LLM_PURGE_CLASSES; i++) {
        gs->names[i] = 0;
    }

    gs->used = 0;
}


static uint64_t
ngx_http_llm_generation_hash(ngx_http_llm_generations_t *gs,
    ngx_uint_t class, ngx_str_t *name)
{
    uint64_t  key[2], out[2];

    key[0] = gs->seed[0] ^ class;
    key[1] = gs->seed[1];

    llm_siphash(key, name->data, name->len, out);

    return out[0] ? out[0] : 1;
}


/* the row of this hash or a free one; NULL: neither */

static ngx_http_llm_generation_row_t *
ngx_http_llm_generation_row(ngx_http_llm_generations_t *gs, uint64_t hash)
{
    uint64_t    h;
    ngx_uint_t  i, n;

    i = hash % NGX_HTTP_LLM_GENERATION_ROWS;

    for (n = 0; n < NGX_HTTP_LLM_GENERATION_ROWS; n++) {
        h = gs->row[i].hash;

        if (h == hash || h == 0) {
            return &gs->row[i];
        }

        i = (i + 1) % NGX_HTTP_LLM_GENERATION_ROWS;
    }

    return NULL;
}


ngx_int_t
ngx_http_llm_generation_seen(ngx_http_llm_zone_t *zone, uint64_t *version,
    uint64_t *epoch)
{
    ngx_http_llm_generations_t  *gs;

    gs = zone->sh->generations;

    *version = gs->version;
    *epoch = gs->epoch;

    return gs->known ? NGX_OK : NGX_DECLINED;
}


void
ngx_http_llm_generation_see(ngx_http_llm_zone_t *zone, uint64_t version,
    uint64_t epoch)
{
    ngx_http_llm_generations_t  *gs;

    gs = zone->sh->generations;

    gs->version = version;
    gs->epoch = epoch;

    ngx_memory_barrier();

    gs->known = 1;
}


void
ngx_http_llm_generation_begin(ngx_http_llm_zone_t *zone, uint64_t epoch)
{
    if (zone->sh->generations->epoch == 0) {
        zone->sh->generations->epoch = epoch;
    }
}


ngx_uint_t
ngx_http_llm_generation_turn(ngx_http_llm_zone_t *zone, ngx_msec_t interval)
{
    ngx_atomic_uint_t            next;
    ngx_http_llm_generations_t  *gs;

    gs = zone->sh->generations;
    next = gs->next;

    if ((ngx_msec_int_t) (ngx_current_msec - next) < 0
        && (ngx_msec_int_t) (next - ngx_current_msec)
           <= (ngx_msec_int_t) interval)
    {
        return 0;
    }

    return ngx_atomic_cmp_set(&gs->next, next, ngx_current_msec + interval);
}
