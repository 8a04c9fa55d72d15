
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_purge*.c.
 */


#ifndef _NGX_HTTP_LLM_PURGE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_PURGE_PRIVATE_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "state/ngx_http_llm_redis.h"


/* the name of the hash */
extern ngx_str_t  ngx_http_llm_purge_hash;


/* where generations lie; NULL: there is no fleet */
ngx_http_llm_redis_t *ngx_http_llm_purge_redis(ngx_http_llm_main_conf_t *mcf);

/* NGX_ERROR: there is none of this name */
ngx_int_t ngx_http_llm_purge_class(ngx_str_t *name);

/* a generation in digits; 0: it is none */
uint64_t ngx_http_llm_purge_number(ngx_str_t *s);

/* tells Redis what it did not take before */
void ngx_http_llm_purge_again(void);


#endif /* _NGX_HTTP_LLM_PURGE_PRIVATE_H_INCLUDED_ */
