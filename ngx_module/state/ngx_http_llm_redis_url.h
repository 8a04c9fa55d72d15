
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where a Redis server is and how to enter it.
 */


#ifndef _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "state/ngx_http_llm_redis_host.h"


typedef struct {
    ngx_str_t                   user;
    ngx_str_t                   password;
    ngx_str_t                   name;             /* without the two */
    ngx_uint_t                  db;
    ngx_http_llm_redis_host_t  *hosts;            /* or the Sentinels */
    ngx_uint_t                  nhosts;

    /* Sentinel: the name of the master, else empty */
    ngx_str_t                   master;
    ngx_str_t                   sentinel_user;
    ngx_str_t                   sentinel_password;
} ngx_http_llm_redis_url_t;


/*
 * redis://[[user]:password@]host[:port][/db], unix:/path[?db=N],
 * unix://[[user]:password@]/path[?db=N] and
 * redis+sentinel://[[user]:password@]host[:port],.../master[/db]
 * [?sentinel_password=...[&sentinel_user=...]]; users and passwords may be
 * percent-encoded.  NGX_ERROR is logged, never with a password.
 */
ngx_int_t ngx_http_llm_redis_url_parse(ngx_conf_t *cf, ngx_str_t *url,
    ngx_http_llm_redis_url_t *u);


#endif /* _NGX_HTTP_LLM_REDIS_URL_H_INCLUDED_ */
