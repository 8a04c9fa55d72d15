
/*
 * Copyright (C) the ngx-llm authors
 *
 * Waking another worker: a pool of eventfds that every worker inherits.
 */


#ifndef _NGX_HTTP_LLM_WAKE_H_INCLUDED_
#define _NGX_HTTP_LLM_WAKE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include "core/llm_ledger.h"


/*
 * Makes the descriptors: once, in the master, before any worker is there.
 * They stay over reloads, so that a draining worker can wake a new one.
 */
ngx_int_t ngx_http_llm_wake_init_module(ngx_cycle_t *cycle);

/* listens for "owner"; handler is called in this worker's event loop */
ngx_int_t ngx_http_llm_wake_init_process(ngx_cycle_t *cycle, ngx_uint_t owner,
    void (*handler)(void));

/* a further handler beside the first; before wake_init_process() */
void ngx_http_llm_wake_also(void (*handler)(void));

void ngx_http_llm_wake_exit_process(void);

/* wakes all owners that are set, this worker by a posted event */
void ngx_http_llm_wake(llm_owners_t *owners);


#endif /* _NGX_HTTP_LLM_WAKE_H_INCLUDED_ */
