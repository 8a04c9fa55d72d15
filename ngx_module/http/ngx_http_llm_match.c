
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_match.h"

#include "core/llm_route.h"


ngx_http_llm_route_t *
ngx_http_llm_route(ngx_http_llm_main_conf_t *mcf, ngx_str_t *model)
{
    llm_str_t              name, pattern;
    ngx_uint_t             i;
    ngx_http_llm_route_t  *route, *found;

    found = NULL;
    route = mcf->routes.elts;

    name.data = model->data;
    name.len = model->len;

    for (i = 0; i < mcf->routes.nelts; i++) {

        if (route[i].literal) {
            if (route[i].pattern.len == model->len
                && ngx_memcmp(route[i].pattern.data, model->data, model->len)
                   == 0)
            {
                return &route[i];
            }

            continue;
        }

        if (found == NULL) {
            pattern.data = route[i].pattern.data;
            pattern.len = route[i].pattern.len;

            if (llm_route_match(&pattern, &name)) {
                found = &route[i];
            }
        }
    }

    return found;
}
