
/*
 * Copyright (C) the ngx-llm authors
 *
 * From a model's name to its route.
 */


#ifndef _NGX_HTTP_LLM_MATCH_H_INCLUDED_
#define _NGX_HTTP_LLM_MATCH_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* the route of a model: by its own name, else the first that matches */
ngx_http_llm_route_t *ngx_http_llm_route(ngx_http_llm_main_conf_t *mcf,
    ngx_str_t *model);


#endif /* _NGX_HTTP_LLM_MATCH_H_INCLUDED_ */
