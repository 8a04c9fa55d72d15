
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_ID_H_INCLUDED_
#define _NGX_HTTP_LLM_ID_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* seeds this worker's sequence */
ngx_int_t ngx_http_llm_id_init_process(ngx_cycle_t *cycle);

/*
 * The request's id: the client's x-request-id if it is 1 to 64 of
 * [A-Za-z0-9._-], else "req_" and 32 hex digits.
 */
ngx_int_t ngx_http_llm_id(ngx_http_request_t *r, ngx_str_t *id);

/* 32 random bits for jitter, nothing that must be kept secret */
uint32_t ngx_http_llm_random(void);

/* a header of the client by its lower-case name, or NULL */
ngx_table_elt_t *ngx_http_llm_header_in(ngx_http_request_t *r,
    const char *name, size_t len);

/* the next line of that header behind "last"; NULL: the first one */
ngx_table_elt_t *ngx_http_llm_header_next(ngx_http_request_t *r,
    const char *name, size_t len, ngx_table_elt_t *last);

/* the client's tries before this one, as official clients count them; -1: it
   does not tell */
ngx_int_t ngx_http_llm_tries(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_ID_H_INCLUDED_ */
