
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where keys and teams of the admin API are kept: in Redis, for all gateways
 * that share it, or else in a journal under llm_state.  A change counts when
 * it is kept there; then it goes into the policy's shared memory, here at
 * once, in other gateways as they follow.
 */


#ifndef _NGX_HTTP_LLM_KEYS_STORE_H_INCLUDED_
#define _NGX_HTTP_LLM_KEYS_STORE_H_INCLUDED_


#include "policy/ngx_http_llm_keys.h"


/*
 * How a change ended: NGX_OK and its version; NGX_DECLINED: it was not as
 * expected any more; NGX_BUSY: the store did not take it; NGX_TIMEOUT: it may
 * have; SECRET: another key has this secret; NGX_ABORT: there is no store;
 * NGX_ERROR: no memory.
 */
#define NGX_HTTP_LLM_KEYS_TIMEOUT  NGX_HTTP_REQUEST_TIME_OUT
#define NGX_HTTP_LLM_KEYS_SECRET   NGX_HTTP_CONFLICT

typedef void (*ngx_http_llm_keys_handler_pt)(void *data, ngx_int_t rc,
    uint64_t version);


typedef struct {
    llm_row_e                   kind;
    ngx_str_t                   name;
    llm_policy_row_t           *row;      /* NULL: it goes */
    uint64_t                    expect;   /* the version there is, 0: none,
                                             LLM_KEYRING_ANY */
    ngx_uint_t                  cut;      /* what runs for this key ends */
    ngx_http_llm_keys_handler_pt  handler;
    void                       *data;
} ngx_http_llm_keys_change_t;


/*
 * Makes a change: all it needs is copied.  NGX_AGAIN: the handler is called
 * later, once, never from inside; else as the handler would be told.
 */
ngx_int_t ngx_http_llm_keys_store(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_keys_change_t *change, uint64_t *version);

/* is there a store? else nothing can be made */
ngx_uint_t ngx_http_llm_keys_store_there(ngx_http_llm_main_conf_t *mcf);

/*
 * 1: what the store has is known here.  Before, somebody who is not known may
 * be in the store.
 */
ngx_uint_t ngx_http_llm_keys_synced(ngx_http_llm_main_conf_t *mcf);


/* in the master: what was kept under llm_state; an error is logged */
ngx_int_t ngx_http_llm_keys_store_init_module(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);

/* in each worker: one of them follows Redis */
ngx_int_t ngx_http_llm_keys_store_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);


#endif /* _NGX_HTTP_LLM_KEYS_STORE_H_INCLUDED_ */
