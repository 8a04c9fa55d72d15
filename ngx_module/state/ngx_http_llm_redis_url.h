
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where a Redis server is and how to enter it.
 */


#ifndef _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


typedef struct {
    ngx_str_t                   user;
    ngx_str_t                   password;
    ngx_str_t                   name;             /* without the two */
    ngx_uint_t                  db;
    ngx_addr_t                 *addrs;
    ngx_uint_t                  naddrs;
} ngx_http_llm_redis_url_t;


/*
 * redis://[[user]:password@]host[:port][/db], unix:/path[?db=N] and
 * unix://[[user]:password@]/path[?db=N]; user and password may be
 * percent-encoded.  NGX_ERROR is logged, never with the password.
 */
ngx_int_t ngx_http_llm_redis_url_parse(ngx_conf_t *cf, ngx_str_t *url,
    ngx_http_llm_redis_url_t *u);


#endif /* _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_ */
