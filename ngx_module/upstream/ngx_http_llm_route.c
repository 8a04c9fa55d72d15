
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_route.h"
#include "upstream/ngx_http_llm_provider.h"

#include "core/llm_route.h"


#define NGX_HTTP_LLM_MODEL_MAX  256
#define NGX_HTTP_LLM_TTL_MAX    (365 * 86400)


static char *ngx_http_llm_route_ttl(ngx_conf_t *cf,
    ngx_http_llm_route_t *route, ngx_str_t *value);
static char *ngx_http_llm_route_target(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_target_t *target,
    ngx_str_t *value);


char *
ngx_http_llm_route_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    char                   *rv;
    ngx_str_t              *value;
    llm_str_t               pattern;
    ngx_uint_t              i, n;
    ngx_http_llm_route_t   *route, *other;
    ngx_http_llm_target_t  *target;

    value = cf->args->elts;
    other = mcf->routes.elts;

    for (i = 0; i < mcf->routes.nelts; i++) {
        if (other[i].pattern.len == value[1].len
            && ngx_memcmp(other[i].pattern.data, value[1].data, value[1].len)
               == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "there is a route for \"%V\" already",
                               &value[1]);
            return NGX_CONF_ERROR;
        }
    }

    route = ngx_array_push(&mcf->routes);
    if (route == NULL) {
        return NGX_CONF_ERROR;
    }

    pattern.data = value[1].data;
    pattern.len = value[1].len;

    route->pattern = value[1];
    route->literal = llm_route_literal(&pattern);
    route->cache_ttl = -1;

    n = cf->args->nelts;

    if (ngx_strncmp(value[n - 1].data, "ttl=", 4) == 0) {
        n--;

        rv = ngx_http_llm_route_ttl(cf, route, &value[n]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (n == 2) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the route for \"%V\" has no target", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (ngx_array_init(&route->targets, cf->pool, n - 2,
                       sizeof(ngx_http_llm_target_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < n; i++) {

        target = ngx_array_push(&route->targets);
        if (target == NULL) {
            return NGX_CONF_ERROR;
        }

        rv = ngx_http_llm_route_target(cf, mcf, target, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


/* ttl=TIME behind the targets */

static char *
ngx_http_llm_route_ttl(ngx_conf_t *cf, ngx_http_llm_route_t *route,
    ngx_str_t *value)
{
    time_t     ttl;
    ngx_str_t  s;

    s.data = value->data + 4;
    s.len = value->len - 4;

    ttl = s.len ? ngx_parse_time(&s, 1) : NGX_ERROR;

    if (ttl < 0 || ttl > NGX_HTTP_LLM_TTL_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected a time up to "
                           "365d, or 0", value);
        return NGX_CONF_ERROR;
    }

    route->cache_ttl = ttl;

    return NGX_CONF_OK;
}


/* PROVIDER or PROVIDER:model; a model's name may have colons, too */

static char *
ngx_http_llm_route_target(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_target_t *target, ngx_str_t *value)
{
    u_char     *p, *last;
    ngx_str_t   name;

    last = value->data + value->len;
    name = *value;

    ngx_str_null(&target->model);

    p = ngx_strlchr(value->data, last, ':');

    if (p) {
        name.len = p - value->data;
        target->model.data = p + 1;
        target->model.len = last - p - 1;

        if (target->model.len == 0
            || target->model.len > NGX_HTTP_LLM_MODEL_MAX)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\": expected a model of 1 to %d bytes "
                               "behind the colon", value,
                               NGX_HTTP_LLM_MODEL_MAX);
            return NGX_CONF_ERROR;
        }

        for (p = target->model.data; p < last; p++) {
            if (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) {
                ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                                   "\"%V\": a model without quotes, "
                                   "backslashes and control characters was "
                                   "expected", value);
                return NGX_CONF_ERROR;
            }
        }
    }

    target->provider = ngx_http_llm_provider_find(mcf, &name);

    if (target->provider == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": there is no provider \"%V\" above this "
                           "line", value, &name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


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
