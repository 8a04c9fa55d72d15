
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directory of llm_state: what is to outlive a restart without Redis, the
 * tallies of every key and team, so that a spent budget stays spent, and the
 * accounts.
 */


#ifndef _NGX_HTTP_LLM_STATE_H_INCLUDED_
#define _NGX_HTTP_LLM_STATE_H_INCLUDED_


#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_zone.h"


typedef struct ngx_http_llm_state_s  ngx_http_llm_state_t;


/*
 * The directory, made by the master for the user of the workers if it is not
 * there; relative to the prefix.  NULL: an error, already logged.
 */
ngx_http_llm_state_t *ngx_http_llm_state_create(ngx_conf_t *cf,
    ngx_str_t *dir);

/*
 * In the master, once the zone is there: puts what was saved into a ledger
 * that is empty, and saves, so that what cannot be written is known now.  A
 * damaged file is kept aside.  NGX_ERROR: nginx cannot start with it, logged;
 * never after the first start.  The same with the accounts, if "book" is not
 * NULL.
 */
ngx_int_t ngx_http_llm_state_init_module(ngx_http_llm_state_t *state,
    ngx_http_llm_zone_t *zone, ngx_http_llm_area_t *book,
    ngx_cycle_t *cycle);

/* in each worker: one of them saves what has changed, every few seconds */
ngx_int_t ngx_http_llm_state_init_process(ngx_http_llm_state_t *state,
    ngx_cycle_t *cycle);

/* behind ngx_http_llm_owner_exit_process(): the last worker saves */
void ngx_http_llm_state_exit_process(ngx_http_llm_state_t *state);

/* the directory; its name ends with a null */
ngx_str_t *ngx_http_llm_state_dir(ngx_http_llm_state_t *state);


#endif /* _NGX_HTTP_LLM_STATE_H_INCLUDED_ */
