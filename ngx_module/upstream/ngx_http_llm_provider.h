
/*
 * Copyright (C) the ngx-llm authors
 *
 * The providers and the routes to them, as configured.
 */


#ifndef _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_
#define _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* llm_provider NAME uri=/prefix/ [key=env:VAR|file:PATH] */
char *ngx_http_llm_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* llm_route PATTERN PROVIDER[:model] ... */
char *ngx_http_llm_route_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/*
 * At postconfiguration: every server with a gateway must have, for every
 * provider, an internal location that passes on the way this module needs.
 */
ngx_int_t ngx_http_llm_provider_check(ngx_conf_t *cf);

/* the route of a model: by its own name, else the first that matches */
ngx_http_llm_route_t *ngx_http_llm_route(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *model);


#endif /* _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_ */
