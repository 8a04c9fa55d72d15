
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_conf.h"
#include "ngx_http_llm_gateway.h"
#include "upstream/ngx_http_llm_relay.h"


static ngx_int_t ngx_http_llm_error_pages(ngx_conf_t *cf);
static char *ngx_http_llm_args(ngx_conf_t *cf, ngx_http_llm_arg_t *args,
    void *conf);


#define ngx_http_llm_offset(field)  offsetof(ngx_http_llm_loc_conf_t, field)


static ngx_http_llm_arg_t  ngx_http_llm_cache_args[] = {
    { ngx_string("ttl="), NGX_HTTP_LLM_ARG_SEC,
      ngx_http_llm_offset(cache_ttl), 1, 365 * 86400,
      "a time from 1s to 365d" },
    { ngx_string("max_size="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_offset(cache_max), 1024, NGX_HTTP_LLM_HOLD_ANSWER,
      "a size from 1k to 1m" },
    { ngx_null_string, 0, 0, 0, 0, NULL }
};


static ngx_http_llm_arg_t  ngx_http_llm_retry_args[] = {
    { ngx_string("tries="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(retry_tries), 1, 20,
      "a number from 1 to 20" },
    { ngx_string("base="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_base), 1, 60000,
      "a time from 1ms to 60s" },
    { ngx_string("cap="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_cap), 1, 600000,
      "a time from 1ms to 10m" },
    { ngx_string("max_wait="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_max_wait), 1, 3600000,
      "a time from 1ms to 1h" },
    { ngx_null_string, 0, 0, 0, 0, NULL }
};


static ngx_http_llm_arg_t  ngx_http_llm_timeout_args[] = {
    { ngx_string("total="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_total), 1, 86400000,
      "a time from 1ms to 24h" },
    { ngx_string("first_byte="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_first_byte), 1, 86400000,
      "a time from 1ms to 24h" },
    { ngx_string("drain="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_drain), 0, 3600000,
      "a time up to 1h, or 0" },
    { ngx_null_string, 0, 0, 0, 0, NULL }
};


/* what nginx itself may answer in a gateway's location */

static ngx_int_t  ngx_http_llm_error_statuses[] = {
    400, 403, 404, 405, 408, 409, 411, 412, 413, 414, 415, 416, 421, 429,
    494, 500, 501, 502, 503, 504, 505, 507, 0
};


void *
ngx_http_llm_create_main_conf(ngx_conf_t *cf)
{
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_main_conf_t));
    if (mcf == NULL) {
        return NULL;
    }

    if (ngx_array_init(&mcf->providers, cf->pool, 4,
                       sizeof(ngx_http_llm_provider_t *))
        != NGX_OK
        || ngx_array_init(&mcf->routes, cf->pool, 8,
                          sizeof(ngx_http_llm_route_t))
           != NGX_OK)
    {
        return NULL;
    }

    return mcf;
}


void *
ngx_http_llm_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_srv_conf_t));
}


void *
ngx_http_llm_create_loc_conf(ngx_conf_t *cf)
{
    ngx_http_llm_loc_conf_t  *conf;

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_loc_conf_t));
    if (conf == NULL) {
        return NULL;
    }

    conf->cache = NGX_CONF_UNSET;
    conf->cache_zero = NGX_CONF_UNSET;
    conf->cache_ttl = NGX_CONF_UNSET;
    conf->cache_max = NGX_CONF_UNSET_SIZE;

    conf->retry_tries = NGX_CONF_UNSET_UINT;
    conf->retry_base = NGX_CONF_UNSET_MSEC;
    conf->retry_cap = NGX_CONF_UNSET_MSEC;
    conf->retry_max_wait = NGX_CONF_UNSET_MSEC;

    conf->timeout_total = NGX_CONF_UNSET_MSEC;
    conf->timeout_first_byte = NGX_CONF_UNSET_MSEC;
    conf->timeout_drain = NGX_CONF_UNSET_MSEC;

    return conf;
}


char *
ngx_http_llm_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_llm_loc_conf_t *prev = parent;
    ngx_http_llm_loc_conf_t *conf = child;

    ngx_conf_merge_value(conf->cache, prev->cache, 0);
    ngx_conf_merge_value(conf->cache_zero, prev->cache_zero, 0);
    ngx_conf_merge_sec_value(conf->cache_ttl, prev->cache_ttl, 3600);
    ngx_conf_merge_size_value(conf->cache_max, prev->cache_max,
                              NGX_HTTP_LLM_HOLD_ANSWER);

    ngx_conf_merge_uint_value(conf->retry_tries, prev->retry_tries, 3);
    ngx_conf_merge_msec_value(conf->retry_base, prev->retry_base, 250);
    ngx_conf_merge_msec_value(conf->retry_cap, prev->retry_cap, 8000);
    ngx_conf_merge_msec_value(conf->retry_max_wait, prev->retry_max_wait,
                              60000);

    ngx_conf_merge_msec_value(conf->timeout_total, prev->timeout_total,
                              600000);
    ngx_conf_merge_msec_value(conf->timeout_first_byte,
                              prev->timeout_first_byte, 300000);
    ngx_conf_merge_msec_value(conf->timeout_drain, prev->timeout_drain, 0);

    if (conf->gateway && ngx_http_llm_error_pages(cf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


/*
 * What nginx refuses by itself comes back to the gateway's handler, to be
 * said in the API's shape; an operator's own error_page goes first.
 */

static ngx_int_t
ngx_http_llm_error_pages(ngx_conf_t *cf)
{
    ngx_int_t                         *status;
    ngx_str_t                          uri;
    ngx_uint_t                         i;
    ngx_array_t                       *pages;
    ngx_http_err_page_t               *err, *old;
    ngx_http_core_loc_conf_t          *clcf;
    ngx_http_complex_value_t           cv;
    ngx_http_compile_complex_value_t   ccv;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    ngx_str_set(&uri, "$uri");
    ngx_memzero(&ccv, sizeof(ngx_http_compile_complex_value_t));

    ccv.cf = cf;
    ccv.value = &uri;
    ccv.complex_value = &cv;

    if (ngx_http_compile_complex_value(&ccv) != NGX_OK) {
        return NGX_ERROR;
    }

    pages = ngx_array_create(cf->pool, 32, sizeof(ngx_http_err_page_t));
    if (pages == NULL) {
        return NGX_ERROR;
    }

    if (clcf->error_pages) {
        old = clcf->error_pages->elts;

        for (i = 0; i < clcf->error_pages->nelts; i++) {
            err = ngx_array_push(pages);
            if (err == NULL) {
                return NGX_ERROR;
            }

            *err = old[i];
        }
    }

    for (status = ngx_http_llm_error_statuses; *status; status++) {
        err = ngx_array_push(pages);
        if (err == NULL) {
            return NGX_ERROR;
        }

        err->status = *status;
        err->overwrite = -1;
        err->value = cv;
        ngx_str_null(&err->args);
    }

    clcf->error_pages = pages;

    return NGX_OK;
}


char *
ngx_http_llm_gateway_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    ngx_http_llm_srv_conf_t   *lscf;
    ngx_http_core_loc_conf_t  *clcf;
    ngx_http_llm_main_conf_t  *mcf;

    if (llcf->gateway) {
        return "is duplicate";
    }

    llcf->gateway = 1;

    lscf = ngx_http_conf_get_module_srv_conf(cf, ngx_http_llm_module);
    lscf->gateway = 1;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);
    mcf->gateways++;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);
    clcf->handler = ngx_http_llm_gateway_handler;

    return NGX_CONF_OK;
}


char *
ngx_http_llm_cache_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (llcf->cache != NGX_CONF_UNSET) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->cache = 0;
        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    if (ngx_strcmp(value[1].data, "on") != 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected on or off",
                           &value[1]);
        return NGX_CONF_ERROR;
    }

    llcf->cache = 1;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "temperature=any") == 0) {
            llcf->cache_zero = 0;
            continue;
        }

        if (ngx_strcmp(value[i].data, "temperature=zero") == 0) {
            llcf->cache_zero = 1;
            continue;
        }

        rv = ngx_http_llm_arg(cf, &value[i], ngx_http_llm_cache_args, conf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_retry_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->retry_tries != NGX_CONF_UNSET_UINT
        || llcf->retry_base != NGX_CONF_UNSET_MSEC
        || llcf->retry_cap != NGX_CONF_UNSET_MSEC
        || llcf->retry_max_wait != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, ngx_http_llm_retry_args, conf);
}


char *
ngx_http_llm_timeout_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->timeout_total != NGX_CONF_UNSET_MSEC
        || llcf->timeout_first_byte != NGX_CONF_UNSET_MSEC
        || llcf->timeout_drain != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, ngx_http_llm_timeout_args, conf);
}


static char *
ngx_http_llm_args(ngx_conf_t *cf, ngx_http_llm_arg_t *args, void *conf)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i++) {
        rv = ngx_http_llm_arg(cf, &value[i], args, conf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


char *
ngx_http_llm_arg(ngx_conf_t *cf, ngx_str_t *value, ngx_http_llm_arg_t *args,
    void *conf)
{
    void                *field;
    ssize_t              n;
    ngx_str_t            s;
    ngx_http_llm_arg_t  *arg;

    for (arg = args; arg->name.len; arg++) {

        if (value->len < arg->name.len
            || ngx_strncmp(value->data, arg->name.data, arg->name.len) != 0)
        {
            continue;
        }

        s.data = value->data + arg->name.len;
        s.len = value->len - arg->name.len;
        field = (u_char *) conf + arg->offset;

        n = s.len == 0 ? NGX_ERROR
            : arg->type == NGX_HTTP_LLM_ARG_MSEC ? ngx_parse_time(&s, 0)
            : arg->type == NGX_HTTP_LLM_ARG_SEC ? ngx_parse_time(&s, 1)
            : arg->type == NGX_HTTP_LLM_ARG_SIZE ? ngx_parse_size(&s)
            : ngx_atoi(s.data, s.len);

        if (n < (ssize_t) arg->min || n > (ssize_t) arg->max) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected %s", value,
                               arg->expected);
            return NGX_CONF_ERROR;
        }

        if (arg->type == NGX_HTTP_LLM_ARG_SEC) {
            *(time_t *) field = n;

        } else if (arg->type == NGX_HTTP_LLM_ARG_SIZE) {
            *(size_t *) field = n;

        } else {
            /* ngx_msec_t is an ngx_uint_t */
            *(ngx_uint_t *) field = n;
        }

        return NGX_CONF_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0, "invalid parameter \"%V\"",
                       value);

    return NGX_CONF_ERROR;
}


char *
ngx_http_llm_content_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "is duplicate";
    }

    clcf->handler = (ngx_http_handler_pt) cmd->post;

    return NGX_CONF_OK;
}
