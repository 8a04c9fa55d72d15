
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_route.h"
#include "upstream/ngx_http_llm_provider.h"
#include "http/ngx_http_llm_arg.h"

#include "core/llm_route.h"


#define NGX_HTTP_LLM_WEIGHT_MAX  1000
#define NGX_HTTP_LLM_WEIGHT_LEN  4               /* digits of a weight */
#define NGX_HTTP_LLM_WINDOW_MAX  1000000000      /* tokens */
#define NGX_HTTP_LLM_TEXT        4096


/* the parameters behind the targets, as they are written */

typedef struct {
    ngx_uint_t                  choose;
    ngx_str_t                   windows;
    time_t                      ttl;
    ngx_uint_t                  native;
} ngx_http_llm_route_args_t;


static char *ngx_http_llm_route_new(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_route_t **route);
static char *ngx_http_llm_route_targets(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_route_t *route,
    ngx_uint_t *arg);
static ngx_uint_t ngx_http_llm_route_is_arg(ngx_str_t *value);
static char *ngx_http_llm_route_target(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_llm_target_t *target,
    ngx_str_t *value);
static char *ngx_http_llm_route_weight(ngx_conf_t *cf,
    ngx_http_llm_target_t *target);
static char *ngx_http_llm_route_model(ngx_conf_t *cf, ngx_str_t *model,
    ngx_str_t *value);
static char *ngx_http_llm_route_weights(ngx_conf_t *cf,
    ngx_http_llm_route_t *route);
static char *ngx_http_llm_route_windows(ngx_conf_t *cf,
    ngx_http_llm_route_t *route, ngx_str_t *windows);


#define ngx_http_llm_offset(field)                                            \
    offsetof(ngx_http_llm_route_args_t, field)


static ngx_conf_enum_t  ngx_http_llm_route_choices[] = {
    { ngx_string("order"), NGX_HTTP_LLM_CHOOSE_ORDER },
    { ngx_string("weight"), NGX_HTTP_LLM_CHOOSE_WEIGHT },
    { ngx_string("least"), NGX_HTTP_LLM_CHOOSE_LEAST },
    { ngx_string("fastest"), NGX_HTTP_LLM_CHOOSE_FASTEST },
    { ngx_null_string, 0 }
};


static ngx_conf_enum_t  ngx_http_llm_route_batches[] = {
    { ngx_string("here"), 0 },
    { ngx_string("provider"), 1 },
    { ngx_null_string, 0 }
};


static ngx_http_llm_arg_t  ngx_http_llm_route_args[] = {
    { ngx_string("choose="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(choose), 0, 0,
      "order, weight, least or fastest", ngx_http_llm_route_choices },
    { ngx_string("windows="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_offset(windows), 1, NGX_HTTP_LLM_TEXT,
      "a number of tokens for each target, like 128k,1m", NULL },
    { ngx_string("ttl="), NGX_HTTP_LLM_ARG_SEC,
      ngx_http_llm_offset(ttl), 0, 365 * 86400,
      "a time up to 365d, or 0", NULL },
    { ngx_string("batch="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(native), 0, 0,
      "here or provider", ngx_http_llm_route_batches },
    ngx_http_llm_null_arg
};


char *
ngx_http_llm_route_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t                  *value;
    ngx_uint_t                  arg;
    ngx_http_llm_route_t       *route;
    ngx_http_llm_target_t      *target;
    ngx_http_llm_route_args_t   ra;

    value = cf->args->elts;

    if (ngx_http_llm_route_new(cf, mcf, &route) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_route_targets(cf, mcf, route, &arg) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ra.choose = NGX_HTTP_LLM_CHOOSE_ORDER;
    ra.ttl = -1;
    ra.native = 0;
    ngx_str_null(&ra.windows);

    if (ngx_http_llm_args(cf, arg, ngx_http_llm_route_args, &ra)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    route->choose = ra.choose;
    route->cache_ttl = ra.ttl;
    route->native = ra.native;

    target = route->targets.elts;

    if (route->native && target->provider->templated) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"batch=provider\" for \"%V\": the provider "
                           "\"%V\" has a \"{model}\" in its uri", &value[1],
                           &target->provider->name);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_route_weights(cf, route) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    return ra.windows.len ? ngx_http_llm_route_windows(cf, route, &ra.windows)
                          : NGX_CONF_OK;
}


static char *
ngx_http_llm_route_new(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_route_t **route)
{
    ngx_str_t             *value;
    llm_str_t              pattern;
    ngx_uint_t             i;
    ngx_http_llm_route_t  *other, *new;

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

    new = ngx_array_push(&mcf->routes);
    if (new == NULL) {
        return NGX_CONF_ERROR;
    }

    ngx_memzero(new, sizeof(ngx_http_llm_route_t));

    pattern.data = value[1].data;
    pattern.len = value[1].len;

    new->pattern = value[1];
    new->literal = llm_route_literal(&pattern);

    if (ngx_array_init(&new->targets, cf->pool, cf->args->nelts - 2,
                       sizeof(ngx_http_llm_target_t))
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    *route = new;

    return NGX_CONF_OK;
}


/* those of the line, up to its first parameter, which is *arg then */

static char *
ngx_http_llm_route_targets(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_route_t *route, ngx_uint_t *arg)
{
    char                   *rv;
    ngx_str_t              *value;
    ngx_uint_t              i;
    ngx_http_llm_target_t  *target;

    value = cf->args->elts;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_http_llm_route_is_arg(&value[i])) {
            break;
        }

        if (route->targets.nelts == NGX_HTTP_LLM_TARGETS) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the route for \"%V\" has more than %d "
                               "targets", &value[1], NGX_HTTP_LLM_TARGETS);
            return NGX_CONF_ERROR;
        }

        target = ngx_array_push(&route->targets);
        if (target == NULL) {
            return NGX_CONF_ERROR;
        }

        rv = ngx_http_llm_route_target(cf, mcf, target, &value[i]);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (route->targets.nelts == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "the route for \"%V\" has no target", &value[1]);
        return NGX_CONF_ERROR;
    }

    *arg = i;

    return NGX_CONF_OK;
}


/* "name=value": a target may hold a "=" only behind its colon */

static ngx_uint_t
ngx_http_llm_route_is_arg(ngx_str_t *value)
{
    u_char  *p, *last;

    last = value->data + value->len;

    for (p = value->data; p < last && *p != ':'; p++) {
        if (*p == '=') {
            return 1;
        }
    }

    return 0;
}


/*
 * PROVIDER or PROVIDER:model, either with "@WEIGHT" behind it; a model's name
 * may have colons and at signs, too
 */

static char *
ngx_http_llm_route_target(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_target_t *target, ngx_str_t *value)
{
    u_char     *p, *last;
    ngx_str_t   name;

    ngx_memzero(target, sizeof(ngx_http_llm_target_t));

    target->name = *value;

    if (ngx_http_llm_route_weight(cf, target) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    name = target->name;
    last = name.data + name.len;

    if (name.len > LLM_TARGET_NAME) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": expected at most %d bytes", &name,
                           LLM_TARGET_NAME);
        return NGX_CONF_ERROR;
    }

    p = ngx_strlchr(name.data, last, ':');

    if (p) {
        name.len = p - name.data;
        target->model.data = p + 1;
        target->model.len = last - p - 1;

        if (ngx_http_llm_route_model(cf, &target->model, value)
            != NGX_CONF_OK)
        {
            return NGX_CONF_ERROR;
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


/*
 * Cuts the weight off the target's name.  Behind a model's name it has no
 * more than four digits: names that end in "@" and a date are left alone.
 */

static char *
ngx_http_llm_route_weight(ngx_conf_t *cf, ngx_http_llm_target_t *target)
{
    u_char     *p, *at, *last;
    ngx_int_t   weight;
    ngx_str_t  *name;
    ngx_uint_t  model;

    target->weight = 1;

    name = &target->name;
    last = name->data + name->len;
    at = NULL;
    model = 0;

    for (p = name->data; p < last; p++) {
        if (*p == '@') {
            at = p + 1;

        } else if (*p == ':') {
            model = 1;
        }
    }

    if (at == NULL) {
        return NGX_CONF_OK;
    }

    weight = ngx_atoi(at, last - at);

    if (model && at < last
        && (weight == NGX_ERROR || last - at > NGX_HTTP_LLM_WEIGHT_LEN))
    {
        return NGX_CONF_OK;
    }

    if (weight < 1 || weight > NGX_HTTP_LLM_WEIGHT_MAX) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": expected a weight from 1 to %d behind "
                           "the \"@\"", name, NGX_HTTP_LLM_WEIGHT_MAX);
        return NGX_CONF_ERROR;
    }

    target->weight = weight;
    name->len = at - 1 - name->data;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_route_model(ngx_conf_t *cf, ngx_str_t *model, ngx_str_t *value)
{
    u_char  *p, *last;

    if (model->len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": expected a model behind the colon",
                           value);
        return NGX_CONF_ERROR;
    }

    last = model->data + model->len;

    for (p = model->data; p < last; p++) {
        if (*p < 0x20 || *p == '"' || *p == '\\' || *p == 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"%V\": a model without quotes, backslashes "
                               "and control characters was expected", value);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* a weight that nobody reads is a mistake */

static char *
ngx_http_llm_route_weights(ngx_conf_t *cf, ngx_http_llm_route_t *route)
{
    ngx_uint_t              i;
    ngx_http_llm_target_t  *target;

    if (route->choose == NGX_HTTP_LLM_CHOOSE_WEIGHT
        || route->choose == NGX_HTTP_LLM_CHOOSE_LEAST)
    {
        return NGX_CONF_OK;
    }

    target = route->targets.elts;

    for (i = 0; i < route->targets.nelts; i++) {
        if (target[i].weight != 1) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "the weight of \"%V\" needs "
                               "\"choose=weight\" or \"choose=least\"",
                               &target[i].name);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
}


/* one for each target, in their order */

static char *
ngx_http_llm_route_windows(ngx_conf_t *cf, ngx_http_llm_route_t *route,
    ngx_str_t *windows)
{
    u_char                 *p, *last;
    ngx_int_t               n;
    ngx_str_t               s;
    ngx_uint_t              i;
    ngx_http_llm_target_t  *target;

    target = route->targets.elts;
    last = windows->data + windows->len;
    s.data = windows->data;

    for (i = 0; s.data <= last; i++) {

        p = ngx_strlchr(s.data, last, ',');
        s.len = (p ? p : last) - s.data;

        n = ngx_http_llm_arg_count(&s);

        if (n < 0 || n > NGX_HTTP_LLM_WINDOW_MAX) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "\"windows=%V\": expected numbers of tokens, "
                               "like 128k,1m, or 0 for one that is not known",
                               windows);
            return NGX_CONF_ERROR;
        }

        if (i < route->targets.nelts) {
            target[i].window = (uint64_t) n;
        }

        s.data += s.len + 1;
    }

    if (i != route->targets.nelts) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"windows=%V\": expected one number for each of "
                           "the %ui targets", windows, route->targets.nelts);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


ngx_uint_t
ngx_http_llm_route_safe(ngx_http_llm_route_t *route, ngx_str_t *model)
{
    u_char                  c;
    size_t                  n;
    ngx_uint_t              i;
    ngx_http_llm_target_t  *target;

    target = route->targets.elts;

    for (i = 0; i < route->targets.nelts; i++) {

        if (!target[i].provider->templated || target[i].model.len) {
            continue;
        }

        /* it would be a step up, or many steps */

        if (model->data[0] == '.') {
            return 0;
        }

        for (n = 0; n < model->len; n++) {
            c = model->data[n];

            if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
                  || (c >= '0' && c <= '9') || c == '.' || c == '_'
                  || c == ':' || c == '@' || c == '~' || c == '-'))
            {
                return 0;
            }
        }
    }

    return 1;
}
