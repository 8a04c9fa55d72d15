
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_keys_private.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_KEYS_HEAD  512              /* before the keyring */
#define NGX_HTTP_LLM_KEYS_TEXT  448              /* of most keys and teams */
#define NGX_HTTP_LLM_KEYS_MOST  (64 * 1024 * 1024)


static void *ngx_http_llm_keys_area_create(void *mem, size_t size);
static void ngx_http_llm_keys_area_reset(void *data);
static llm_keyring_found_t *ngx_http_llm_keys_room(ngx_pool_t *pool,
    llm_arena_t *arena);
static void *ngx_http_llm_keys_alloc(void *data, size_t size);
static ngx_int_t ngx_http_llm_keys_result(ngx_http_llm_main_conf_t *mcf,
    int rc);
static llm_str_t ngx_http_llm_keys_name(ngx_str_t *name);


static ngx_http_llm_area_type_t  ngx_http_llm_keys_area = {
    ngx_http_llm_keys_area_create,
    ngx_http_llm_keys_area_reset,
    "what it had begun is completed"
};


ngx_int_t
ngx_http_llm_keys_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->keys = ngx_http_llm_area_create(cf, &mcf->zone->shm_zone->shm.name,
                                         "policy", mcf->keys_size,
                                         &ngx_http_llm_keys_area,
                                         &ngx_http_llm_module);

    return mcf->keys ? NGX_OK : NGX_ERROR;
}


static void *
ngx_http_llm_keys_area_create(void *mem, size_t size)
{
    ngx_http_llm_keys_area_t  *sh;

    sh = mem;

    ngx_memzero(sh, sizeof(ngx_http_llm_keys_area_t));

    sh->keyring = llm_keyring_create((u_char *) mem + NGX_HTTP_LLM_KEYS_HEAD,
                                     size - NGX_HTTP_LLM_KEYS_HEAD);

    return sh->keyring ? sh : NULL;
}


/* a worker died inside: what it was doing is done, nothing is forgotten */

static void
ngx_http_llm_keys_area_reset(void *data)
{
    ngx_http_llm_keys_area_t  *sh = data;

    llm_keyring_repair(sh->keyring);
}


ngx_int_t
ngx_http_llm_keys_find(ngx_http_llm_main_conf_t *mcf, const u_char *sha256,
    ngx_pool_t *pool, llm_keyring_found_t **found)
{
    int                      rc;
    llm_arena_t              arena;
    ngx_http_llm_keys_area_t  *sh;

    llm_keyring_expect(ngx_http_llm_keys_words(mcf->keys)->keyring, sha256);

    *found = ngx_http_llm_keys_room(pool, &arena);
    if (*found == NULL) {
        return NGX_ERROR;
    }

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_find(sh->keyring, sha256, ngx_time(), *found, &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    return ngx_http_llm_keys_result(mcf, rc);
}


ngx_int_t
ngx_http_llm_keys_find_name(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name,
    ngx_pool_t *pool, llm_keyring_found_t **found)
{
    int                      rc;
    llm_str_t                s;
    llm_arena_t              arena;
    ngx_http_llm_keys_area_t  *sh;

    *found = ngx_http_llm_keys_room(pool, &arena);
    if (*found == NULL) {
        return NGX_ERROR;
    }

    s = ngx_http_llm_keys_name(name);

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_find_name(sh->keyring, &s, ngx_time(), *found, &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    return ngx_http_llm_keys_result(mcf, rc);
}


ngx_int_t
ngx_http_llm_keys_find_team(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name,
    ngx_pool_t *pool, llm_team_t **team)
{
    int                      rc;
    llm_str_t                s;
    llm_arena_t              arena;
    llm_keyring_found_t     *found;
    ngx_http_llm_keys_area_t  *sh;

    found = ngx_http_llm_keys_room(pool, &arena);
    if (found == NULL) {
        return NGX_ERROR;
    }

    *team = &found->team;
    s = ngx_http_llm_keys_name(name);

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_find_team(sh->keyring, &s, ngx_time(), *team, &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    return ngx_http_llm_keys_result(mcf, rc);
}


static llm_keyring_found_t *
ngx_http_llm_keys_room(ngx_pool_t *pool, llm_arena_t *arena)
{
    u_char  *p;

    p = ngx_palloc(pool, sizeof(llm_keyring_found_t)
                         + NGX_HTTP_LLM_KEYS_TEXT);
    if (p == NULL) {
        return NULL;
    }

    arena->pos = p + sizeof(llm_keyring_found_t);
    arena->end = arena->pos + NGX_HTTP_LLM_KEYS_TEXT;
    arena->left = NGX_HTTP_LLM_KEYS_MOST;
    arena->alloc = ngx_http_llm_keys_alloc;
    arena->data = pool;

    return (llm_keyring_found_t *) p;
}


static void *
ngx_http_llm_keys_alloc(void *data, size_t size)
{
    return ngx_palloc(data, size);
}


static ngx_int_t
ngx_http_llm_keys_result(ngx_http_llm_main_conf_t *mcf, int rc)
{
    if (rc == LLM_DECLINED
        && !llm_keyring_loaded(ngx_http_llm_keys_words(mcf->keys)->keyring))
    {
        return NGX_AGAIN;
    }

    return rc;
}


static llm_str_t
ngx_http_llm_keys_name(ngx_str_t *name)
{
    llm_str_t  s;

    s.data = name->data;
    s.len = name->len;

    return s;
}


int
ngx_http_llm_keys_put(ngx_http_llm_main_conf_t *mcf,
    const llm_policy_row_t *row, uint64_t expect)
{
    int                      rc;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_put(sh->keyring, row, expect);
    ngx_http_llm_area_unlock(mcf->keys);

    return rc;
}


int
ngx_http_llm_keys_check(ngx_http_llm_main_conf_t *mcf,
    const llm_policy_row_t *row)
{
    int                        rc;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_check(sh->keyring, row);
    ngx_http_llm_area_unlock(mcf->keys);

    return rc;
}


int
ngx_http_llm_keys_remove(ngx_http_llm_main_conf_t *mcf, llm_row_e kind,
    ngx_str_t *name, uint64_t expect)
{
    int                      rc;
    llm_str_t                s;
    ngx_http_llm_keys_area_t  *sh;

    s = ngx_http_llm_keys_name(name);

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_remove(sh->keyring, kind, &s, expect);
    ngx_http_llm_area_unlock(mcf->keys);

    return rc;
}


ngx_int_t
ngx_http_llm_keys_get(ngx_http_llm_main_conf_t *mcf, llm_row_e kind,
    ngx_str_t *name, int dynamic, ngx_pool_t *pool, llm_keyring_item_t *item)
{
    int                      rc;
    llm_str_t                s;
    llm_arena_t              arena;
    ngx_http_llm_keys_area_t  *sh;

    if (ngx_http_llm_keys_room(pool, &arena) == NULL) {
        return NGX_ERROR;
    }

    s = ngx_http_llm_keys_name(name);

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_get(sh->keyring, kind, &s, dynamic, item, &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    return rc;
}


ngx_int_t
ngx_http_llm_keys_walk(ngx_http_llm_main_conf_t *mcf, llm_row_e kind,
    ngx_uint_t what, uint64_t *cursor, llm_keyring_item_t *items,
    ngx_uint_t max, ngx_uint_t *n, ngx_pool_t *pool)
{
    int                      rc;
    unsigned                 got;
    llm_arena_t              arena;
    ngx_http_llm_keys_area_t  *sh;

    if (ngx_http_llm_keys_room(pool, &arena) == NULL) {
        return NGX_ERROR;
    }

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_walk(sh->keyring, kind, what, cursor, items, max, &got,
                          &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    *n = got;

    return rc;
}


void
ngx_http_llm_keys_stat(ngx_http_llm_main_conf_t *mcf,
    llm_keyring_stat_t *stat)
{
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(mcf->keys);
    llm_keyring_stat(sh->keyring, stat);
    ngx_http_llm_area_unlock(mcf->keys);
}


uint64_t
ngx_http_llm_keys_version(ngx_http_llm_main_conf_t *mcf)
{
    return llm_keyring_version(ngx_http_llm_keys_words(mcf->keys)->keyring);
}
