
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_keys_private.h"
#include "http/ngx_http_llm_arena.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_KEYS_HEAD  512              /* before the keyring */
#define NGX_HTTP_LLM_KEYS_TEXT  448              /* of most keys and teams */
#define NGX_HTTP_LLM_KEYS_MOST  (64 * 1024 * 1024)
#define NGX_HTTP_LLM_KEYS_KNOWN 256              /* a byte of the digest */
#define NGX_HTTP_LLM_KEYS_LONG  (64 * 1024)      /* is not kept */


/*
 * A key as it was found, for all requests of this worker that come with it
 * while the policy's version stays and nothing in it has ended.  Requests
 * hold it: what is replaced lives on until its last one is over.
 */

typedef struct {
    llm_keyring_found_t         found;
    ngx_http_llm_area_t        *area;
    uint64_t                    version;
    uint64_t                    sha256[4];
    ngx_uint_t                  refs;            /* requests */
    ngx_uint_t                  kept;            /* has a place below */
    size_t                      size;            /* of what is in "more" */
    ngx_pool_t                 *more;            /* NULL: "text" is enough */
    u_char                      text[NGX_HTTP_LLM_KEYS_TEXT];
} ngx_http_llm_keys_known_t;


static ngx_http_llm_keys_known_t *ngx_http_llm_keys_look(
    ngx_http_llm_main_conf_t *mcf, const u_char *sha256);
static ngx_int_t ngx_http_llm_keys_read(ngx_http_llm_main_conf_t *mcf,
    const u_char *sha256, ngx_http_llm_keys_known_t **known);
static void ngx_http_llm_keys_keep(ngx_http_llm_keys_known_t *known,
    ngx_uint_t place);
static void ngx_http_llm_keys_release(void *data);
static void ngx_http_llm_keys_free(ngx_http_llm_keys_known_t *known);
static void ngx_http_llm_keys_begin(ngx_http_llm_keys_known_t *known,
    llm_arena_t *arena);
static void ngx_http_llm_keys_clear(ngx_http_llm_keys_known_t *known);
static void *ngx_http_llm_keys_more(void *data, size_t size);
static void *ngx_http_llm_keys_area_create(void *mem, size_t size);
static void ngx_http_llm_keys_area_reset(void *data);
static llm_keyring_found_t *ngx_http_llm_keys_room(ngx_pool_t *pool,
    llm_arena_t *arena);
static ngx_int_t ngx_http_llm_keys_result(ngx_http_llm_main_conf_t *mcf,
    int rc);
static llm_str_t ngx_http_llm_keys_name(ngx_str_t *name);


static ngx_http_llm_area_type_t  ngx_http_llm_keys_area = {
    ngx_http_llm_keys_area_create,
    ngx_http_llm_keys_area_reset,
    "what it had begun is completed"
};


static ngx_http_llm_keys_known_t  *ngx_http_llm_keys_known[
                                          NGX_HTTP_LLM_KEYS_KNOWN];
static ngx_http_llm_keys_known_t  *ngx_http_llm_keys_spare;


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
    ngx_pool_t *pool, const llm_keyring_found_t **found)
{
    ngx_int_t                      rc;
    ngx_pool_cleanup_t            *cln;
    ngx_http_llm_keys_known_t  *known;

    known = ngx_http_llm_keys_look(mcf, sha256);

    if (known == NULL) {
        rc = ngx_http_llm_keys_read(mcf, sha256, &known);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    known->refs++;

    cln = ngx_pool_cleanup_add(pool, 0);
    if (cln == NULL) {
        ngx_http_llm_keys_release(known);
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_keys_release;
    cln->data = known;

    *found = &known->found;

    return NGX_OK;
}


/* compares in the same time wherever the first difference is */

static ngx_http_llm_keys_known_t *
ngx_http_llm_keys_look(ngx_http_llm_main_conf_t *mcf, const u_char *sha256)
{
    uint64_t                       md[4];
    ngx_http_llm_keys_known_t  *known;

    known = ngx_http_llm_keys_known[sha256[0]];

    if (known == NULL) {
        return NULL;
    }

    ngx_memcpy(md, sha256, sizeof(md));

    if (((known->sha256[0] ^ md[0]) | (known->sha256[1] ^ md[1])
         | (known->sha256[2] ^ md[2]) | (known->sha256[3] ^ md[3])) != 0
        || known->area != mcf->keys
        || known->version != ngx_http_llm_keys_version(mcf)
        || known->found.good_until <= (int64_t) ngx_time())
    {
        return NULL;
    }

    return known;
}


static ngx_int_t
ngx_http_llm_keys_read(ngx_http_llm_main_conf_t *mcf, const u_char *sha256,
    ngx_http_llm_keys_known_t **found)
{
    int                            rc;
    llm_arena_t                    arena;
    ngx_http_llm_keys_area_t      *sh;
    ngx_http_llm_keys_known_t  *known;

    llm_keyring_expect(ngx_http_llm_keys_words(mcf->keys)->keyring, sha256);

    known = ngx_http_llm_keys_spare;
    ngx_http_llm_keys_spare = NULL;

    if (known == NULL) {
        known = ngx_alloc(sizeof(ngx_http_llm_keys_known_t),
                         ngx_cycle->log);
        if (known == NULL) {
            return NGX_ERROR;
        }
    }

    ngx_http_llm_keys_begin(known, &arena);

    /* the version is of the same visit: a later one makes it worthless */

    sh = ngx_http_llm_area_lock(mcf->keys);
    known->version = llm_keyring_version(sh->keyring);
    rc = llm_keyring_find(sh->keyring, sha256, ngx_time(), &known->found,
                          &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    if (rc != LLM_OK) {
        ngx_http_llm_keys_free(known);
        return ngx_http_llm_keys_result(mcf, rc);
    }

    known->area = mcf->keys;
    ngx_memcpy(known->sha256, sha256, sizeof(known->sha256));

    if (known->size <= NGX_HTTP_LLM_KEYS_LONG) {
        ngx_http_llm_keys_keep(known, sha256[0]);
    }

    *found = known;

    return NGX_OK;
}


static void
ngx_http_llm_keys_keep(ngx_http_llm_keys_known_t *known, ngx_uint_t place)
{
    ngx_http_llm_keys_known_t  *old;

    old = ngx_http_llm_keys_known[place];

    known->kept = 1;
    ngx_http_llm_keys_known[place] = known;

    if (old == NULL) {
        return;
    }

    old->kept = 0;

    if (old->refs == 0) {
        ngx_http_llm_keys_free(old);
    }
}


static void
ngx_http_llm_keys_release(void *data)
{
    ngx_http_llm_keys_known_t  *known = data;

    known->refs--;

    if (known->refs == 0 && !known->kept) {
        ngx_http_llm_keys_free(known);
    }
}


/* one is kept for the next that is looked for */

static void
ngx_http_llm_keys_free(ngx_http_llm_keys_known_t *known)
{
    ngx_http_llm_keys_clear(known);

    if (ngx_http_llm_keys_spare == NULL) {
        ngx_http_llm_keys_spare = known;

    } else {
        ngx_free(known);
    }
}


static void
ngx_http_llm_keys_begin(ngx_http_llm_keys_known_t *known,
    llm_arena_t *arena)
{
    known->refs = 0;
    known->kept = 0;
    known->size = 0;
    known->more = NULL;

    arena->pos = known->text;
    arena->end = known->text + NGX_HTTP_LLM_KEYS_TEXT;
    arena->left = NGX_HTTP_LLM_KEYS_MOST;
    arena->alloc = ngx_http_llm_keys_more;
    arena->data = known;
}


static void
ngx_http_llm_keys_clear(ngx_http_llm_keys_known_t *known)
{
    if (known->more) {
        ngx_destroy_pool(known->more);
        known->more = NULL;
    }
}


static void *
ngx_http_llm_keys_more(void *data, size_t size)
{
    ngx_http_llm_keys_known_t *known = data;

    if (known->more == NULL) {
        known->more = ngx_create_pool(4096, ngx_cycle->log);
        if (known->more == NULL) {
            return NULL;
        }
    }

    known->size += size;

    return ngx_palloc(known->more, size);
}


ngx_int_t
ngx_http_llm_keys_enabled(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name)
{
    int                           rc;
    llm_str_t                     s;
    llm_arena_t                   arena;
    ngx_http_llm_keys_area_t     *sh;
    ngx_http_llm_keys_known_t  known;

    ngx_http_llm_keys_begin(&known, &arena);

    s = ngx_http_llm_keys_name(name);

    sh = ngx_http_llm_area_lock(mcf->keys);
    rc = llm_keyring_find_name(sh->keyring, &s, ngx_time(), &known.found,
                               &arena);
    ngx_http_llm_area_unlock(mcf->keys);

    if (rc == LLM_OK && !known.found.key.enabled) {
        rc = LLM_DECLINED;
    }

    ngx_http_llm_keys_clear(&known);

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
    arena->alloc = ngx_http_llm_arena_alloc;
    arena->data = pool;

    return (llm_keyring_found_t *) p;
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
