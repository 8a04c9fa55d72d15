
/*
 * Copyright (C) the ngx-llm authors
 *
 * The policy's shared memory: teams and keys of the tenants file and of the
 * admin API, in an area of its own ("NAME:policy", "keys=" of llm_zone) that
 * survives reloads and the death of any worker.
 */


#ifndef _NGX_HTTP_LLM_KEYS_H_INCLUDED_
#define _NGX_HTTP_LLM_KEYS_H_INCLUDED_


#include "core/llm_keyring.h"
#include "http/ngx_http_llm.h"


#define NGX_HTTP_LLM_KEYS_MIN   (512 * 1024)
#define NGX_HTTP_LLM_KEYS_SIZE  (8 * 1024 * 1024)


/* adds the area to the cycle; an error is logged */
ngx_int_t ngx_http_llm_keys_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);


/*
 * A key by its secret's SHA-256, or by its name: as llm_keyring_find().
 * NGX_OK; NGX_DECLINED: there is none; NGX_AGAIN: no file has been loaded
 * yet, so nobody is known; NGX_ERROR: no memory.  What find() gives is shared
 * by the requests of this worker until their pools are destroyed; what
 * find_name() gives is a copy in the pool.
 */
ngx_int_t ngx_http_llm_keys_find(ngx_http_llm_main_conf_t *mcf,
    const u_char *sha256, ngx_pool_t *pool,
    const llm_keyring_found_t **found);
ngx_int_t ngx_http_llm_keys_find_name(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *name, ngx_pool_t *pool, llm_keyring_found_t **found);

/* NGX_OK: there is a key of this name, and it is enabled; else as above */
ngx_int_t ngx_http_llm_keys_enabled(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *name);

/* a team by its name, of the file or else dynamic; codes as above */
ngx_int_t ngx_http_llm_keys_find_team(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *name, ngx_pool_t *pool, llm_team_t **team);


/*
 * Dynamic rows: each is one visit to the area, in this gateway alone; what
 * lasts (Redis, llm_state) is the caller's.  Results are those of the
 * llm_keyring_ function of the same name, the row's strings are copied.
 */
int ngx_http_llm_keys_put(ngx_http_llm_main_conf_t *mcf,
    const llm_policy_row_t *row, uint64_t expect);
int ngx_http_llm_keys_check(ngx_http_llm_main_conf_t *mcf,
    const llm_policy_row_t *row);
int ngx_http_llm_keys_remove(ngx_http_llm_main_conf_t *mcf, llm_row_e kind,
    ngx_str_t *name, uint64_t expect);

/* a row as it was put; "dynamic" 1, 0, or -1: the file's, else dynamic */
ngx_int_t ngx_http_llm_keys_get(ngx_http_llm_main_conf_t *mcf, llm_row_e kind,
    ngx_str_t *name, int dynamic, ngx_pool_t *pool, llm_keyring_item_t *item);

/* one page, in a short visit: see llm_keyring_walk() */
ngx_int_t ngx_http_llm_keys_walk(ngx_http_llm_main_conf_t *mcf,
    llm_row_e kind, ngx_uint_t what, uint64_t *cursor,
    llm_keyring_item_t *items, ngx_uint_t max, ngx_uint_t *n,
    ngx_pool_t *pool);

/* how many there are of the file and dynamic, and how full the area is */
void ngx_http_llm_keys_stat(ngx_http_llm_main_conf_t *mcf,
    llm_keyring_stat_t *stat);


/*
 * Without the lock: grows with every change of the policy, of the file or by
 * put() and remove(), before any worker's "changed" handler is called.
 */
uint64_t ngx_http_llm_keys_version(ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_KEYS_H_INCLUDED_ */
