
/*
 * Copyright (C) the ngx-llm authors
 *
 * The routes from models' names to providers, as configured.
 */


#ifndef _NGX_HTTP_LLM_ROUTE_H_INCLUDED_
#define _NGX_HTTP_LLM_ROUTE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* llm_route PATTERN PROVIDER[:model] ... [ttl=TIME] */
char *ngx_http_llm_route_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* the route of a model: by its own name, else the first that matches */
ngx_http_llm_route_t *ngx_http_llm_route(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *model);


#endif /* _NGX_HTTP_LLM_ROUTE_H_INCLUDED_ */
