
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the policy's shared memory.
 */


#ifndef _NGX_HTTP_LLM_KEYS_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_KEYS_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_file.h"
#include "policy/ngx_http_llm_keys.h"
#include "state/ngx_http_llm_area.h"


/* in shared memory */

/* keys of the admin API: how far Redis was followed */

typedef struct {
    ngx_atomic_t                turn;            /* not before, ms */
    ngx_atomic_t                seen;            /* versions */
    ngx_atomic_t                epoch;
    ngx_atomic_t                cut;
    ngx_atomic_t                synced;          /* 1: all of it is known */

    ngx_atomic_t                told;            /* that Redis lost some */

    /* a comparison of all, so far: whoever's turn it is goes on with it */

    ngx_atomic_t                stage;           /* 0: there is none */
    ngx_atomic_t                stage_version;
    ngx_atomic_t                stage_epoch;
    ngx_atomic_t                stage_place;  /* behind it nothing is done */
} ngx_http_llm_keys_seen_t;


#define NGX_HTTP_LLM_KEYS_SCANS     1
#define NGX_HTTP_LLM_KEYS_COMPARES  2
#define NGX_HTTP_LLM_KEYS_FILLS     3            /* nothing to compare with */


typedef struct {
    llm_keyring_t              *keyring;
    ngx_http_llm_keys_seen_t    sync;

    /* who follows the file: of this configuration's workers, one */

    ngx_atomic_t                epoch;
    ngx_pid_t                   leader;          /* 0: none */
    ngx_msec_t                  until;           /* unless it says more */
    ngx_http_llm_file_stat_t    loaded;          /* or refused: said once */
    ngx_http_llm_file_stat_t    seen;
} ngx_http_llm_keys_area_t;


/* without the lock: for what is read or written as one word */

static ngx_inline ngx_http_llm_keys_area_t *
ngx_http_llm_keys_words(ngx_http_llm_area_t *area)
{
    return area->sh->data;
}


#endif /* _NGX_HTTP_LLM_KEYS_PRIVATE_H_INCLUDED_ */
