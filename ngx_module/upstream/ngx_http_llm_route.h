
/*
 * Copyright (C) the ngx-llm authors
 *
 * The routes from models' names to providers, as configured.
 */


#ifndef _NGX_HTTP_LLM_ROUTE_H_INCLUDED_
#define _NGX_HTTP_LLM_ROUTE_H_INCLUDED_


#include "http/ngx_http_llm_match.h"


/* llm_route PATTERN PROVIDER[:model][@WEIGHT] ... [choose=…] [windows=N,…]
   [ttl=TIME] [batch=here|provider] */
char *ngx_http_llm_route_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * May the client's name for the model become part of a provider's path, where
 * the route lets it?
 */
ngx_uint_t ngx_http_llm_route_safe(ngx_http_llm_route_t *route,
    ngx_str_t *model);


#endif /* _NGX_HTTP_LLM_ROUTE_H_INCLUDED_ */
