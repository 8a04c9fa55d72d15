
/*
 * Copyright (C) the ngx-llm authors
 *
 * A worker's place in the table of owners: by pid, since during a reload an
 * old and a new worker share their number, and so that what a killed worker
 * held is given back by another.
 */


#ifndef _NGX_HTTP_LLM_OWNER_H_INCLUDED_
#define _NGX_HTTP_LLM_OWNER_H_INCLUDED_


#include "state/ngx_http_llm_zone.h"


/* claims a place, gives back what dead owners held, and watches for more */
ngx_int_t ngx_http_llm_owner_init_process(ngx_http_llm_zone_t *zone,
    ngx_cycle_t *cycle);

void ngx_http_llm_owner_exit_process(void);

/*
 * "handler" gives back what an owner held elsewhere, before its place can be
 * another's.  Runs inside the zone's lock; to be set before init_process.
 */
void ngx_http_llm_owner_reaped(void (*handler)(ngx_uint_t owner));

/* this worker's place */
ngx_uint_t ngx_http_llm_owner(void);


#endif /* _NGX_HTTP_LLM_OWNER_H_INCLUDED_ */
