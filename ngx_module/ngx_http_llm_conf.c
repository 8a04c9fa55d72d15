
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_conf.h"
#include "ngx_http_llm_gateway.h"
#include "upstream/ngx_http_llm_relay.h"


static ngx_int_t ngx_http_llm_error_pages(ngx_conf_t *cf);
static char *ngx_http_llm_merge_cache(ngx_conf_t *cf,
    ngx_http_llm_loc_conf_t *prev, ngx_http_llm_loc_conf_t *conf);


/* what has an effect or a state at the provider, or changes without us */

#define NGX_HTTP_LLM_BYPASS                                                   \
    (LLM_BYPASS_STORE|LLM_BYPASS_BACKGROUND|LLM_BYPASS_PREVIOUS               \
     |LLM_BYPASS_HOSTED|LLM_BYPASS_URL)

#define NGX_HTTP_LLM_CACHE_MEMORY  (64 * 1024)
#define NGX_HTTP_LLM_JOIN_LOG      (1024 * 1024)


#define ngx_http_llm_offset(field)  offsetof(ngx_http_llm_loc_conf_t, field)


static ngx_conf_enum_t  ngx_http_llm_temperatures[] = {
    { ngx_string("any"), 0 },
    { ngx_string("zero"), 1 },
    { ngx_null_string, 0 }
};


static ngx_http_llm_arg_t  ngx_http_llm_cache_args[] = {
    { ngx_string("ttl="), NGX_HTTP_LLM_ARG_SEC,
      ngx_http_llm_offset(cache_ttl), 1, 365 * 86400,
      "a time from 1s to 365d", NULL },
    { ngx_string("max_size="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_offset(cache_max), 1024, NGX_HTTP_LLM_HOLD_ANSWER,
      "a size from 1k to 1m", NULL },
    { ngx_string("memory="), NGX_HTTP_LLM_ARG_SIZE_OR_NONE,
      ngx_http_llm_offset(cache_memory), 1024, NGX_HTTP_LLM_HOLD_ANSWER,
      "a size from 1k to 1m, or 0", NULL },
    { ngx_string("temperature="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(cache_zero), 0, 0,
      "any or zero", ngx_http_llm_temperatures },
    { ngx_string("namespace="), NGX_HTTP_LLM_ARG_NAME,
      ngx_http_llm_offset(cache_namespace), 1, 64,
      "1 to 64 letters, digits, \"_\", \".\" or \"-\"", NULL },
    { ngx_string("encrypt="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_offset(cache_encrypt), 0, 0,
      "on or off", ngx_http_llm_on_off },
    { ngx_string("stale_if_error="), NGX_HTTP_LLM_ARG_SEC,
      ngx_http_llm_offset(cache_stale_error), 0, 30 * 86400,
      "a time up to 30d, or 0", NULL },
    { ngx_string("stale_while_revalidate="), NGX_HTTP_LLM_ARG_SEC,
      ngx_http_llm_offset(cache_stale_renew), 0, 30 * 86400,
      "a time up to 30d, or 0", NULL },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_join_args[] = {
    { ngx_string("linger="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(join_linger), 0, 60000,
      "a time up to 60s, or 0", NULL },
    { ngx_string("resume="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(join_resume), 0, 3600000,
      "a time up to 1h, or 0", NULL },
    { ngx_string("log="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_offset(join_log), 64 * 1024, 16 * 1024 * 1024,
      "a size from 64k to 16m", NULL },
    { ngx_string("followers="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(join_followers), 1, 100000,
      "a number from 1 to 100000", NULL },
    ngx_http_llm_null_arg
};


/* the names of LLM_BYPASS_ bits */

static ngx_conf_enum_t  ngx_http_llm_bypasses[] = {
    { ngx_string("store"), LLM_BYPASS_STORE },
    { ngx_string("background"), LLM_BYPASS_BACKGROUND },
    { ngx_string("previous"), LLM_BYPASS_PREVIOUS },
    { ngx_string("hosted_tools"), LLM_BYPASS_HOSTED },
    { ngx_string("url"), LLM_BYPASS_URL },
    { ngx_string("n"), LLM_BYPASS_N },
    { ngx_string("tools"), LLM_BYPASS_TOOLS },
    { ngx_string("temperature"), LLM_BYPASS_TEMPERATURE },
    { ngx_null_string, 0 }
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
    conf->cache_memory = NGX_CONF_UNSET_SIZE;
    conf->cache_stale_error = NGX_CONF_UNSET;
    conf->cache_stale_renew = NGX_CONF_UNSET;
    conf->cache_encrypt = NGX_CONF_UNSET;
    conf->cache_bypass = NGX_CONF_UNSET_UINT;

    conf->join = NGX_CONF_UNSET;
    conf->join_linger = NGX_CONF_UNSET_MSEC;
    conf->join_resume = NGX_CONF_UNSET_MSEC;
    conf->join_log = NGX_CONF_UNSET_SIZE;
    conf->join_followers = NGX_CONF_UNSET_UINT;

    ngx_http_llm_create_attempts(conf);

    return conf;
}


char *
ngx_http_llm_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child)
{
    ngx_http_llm_loc_conf_t *prev = parent;
    ngx_http_llm_loc_conf_t *conf = child;

    if (ngx_http_llm_merge_cache(cf, prev, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    ngx_conf_merge_value(conf->join, prev->join, 1);
    ngx_conf_merge_msec_value(conf->join_linger, prev->join_linger, 2000);
    ngx_conf_merge_msec_value(conf->join_resume, prev->join_resume, 0);
    ngx_conf_merge_size_value(conf->join_log, prev->join_log,
                              NGX_HTTP_LLM_JOIN_LOG);
    ngx_conf_merge_uint_value(conf->join_followers, prev->join_followers,
                              1000);

    if (ngx_http_llm_merge_attempts(cf, prev, conf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    if (conf->gateway && ngx_http_llm_error_pages(cf) != NGX_OK) {
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_merge_cache(ngx_conf_t *cf, ngx_http_llm_loc_conf_t *prev,
    ngx_http_llm_loc_conf_t *conf)
{
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);

    ngx_conf_merge_value(conf->cache, prev->cache, 0);

    if (conf->gateway && conf->cache) {
        mcf->caches = 1;
    }

    ngx_conf_merge_value(conf->cache_zero, prev->cache_zero, 0);
    ngx_conf_merge_sec_value(conf->cache_ttl, prev->cache_ttl, 3600);
    ngx_conf_merge_size_value(conf->cache_max, prev->cache_max,
                              NGX_HTTP_LLM_HOLD_ANSWER);
    ngx_conf_merge_size_value(conf->cache_memory, prev->cache_memory,
                              NGX_HTTP_LLM_CACHE_MEMORY);
    ngx_conf_merge_sec_value(conf->cache_stale_error, prev->cache_stale_error,
                             0);
    ngx_conf_merge_sec_value(conf->cache_stale_renew, prev->cache_stale_renew,
                             0);
    ngx_conf_merge_str_value(conf->cache_namespace, prev->cache_namespace, "");
    ngx_conf_merge_value(conf->cache_encrypt, prev->cache_encrypt,
                         mcf->secret != NULL);
    ngx_conf_merge_uint_value(conf->cache_bypass, prev->cache_bypass,
                              NGX_HTTP_LLM_BYPASS);

    if (conf->cache_encrypt && mcf->secret == NULL) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"llm_cache encrypt=on\" needs \"llm_secret\" in "
                           "the http block");
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

    char  *rv;

    rv = ngx_http_llm_arg_switch(cf, &llcf->cache);

    return rv == NGX_CONF_OK
           ? ngx_http_llm_args(cf, 2, ngx_http_llm_cache_args, conf) : rv;
}


char *
ngx_http_llm_join_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    char  *rv;

    rv = ngx_http_llm_arg_switch(cf, &llcf->join);

    return rv == NGX_CONF_OK
           ? ngx_http_llm_args(cf, 2, ngx_http_llm_join_args, conf) : rv;
}


char *
ngx_http_llm_bypass_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    ngx_str_t        *value;
    ngx_uint_t        i;
    ngx_conf_enum_t  *bypass;

    if (llcf->cache_bypass != NGX_CONF_UNSET_UINT) {
        return "is duplicate";
    }

    llcf->cache_bypass = 0;
    value = cf->args->elts;

    if (cf->args->nelts == 2 && ngx_strcmp(value[1].data, "none") == 0) {
        return NGX_CONF_OK;
    }

    for (i = 1; i < cf->args->nelts; i++) {

        for (bypass = ngx_http_llm_bypasses; bypass->name.len; bypass++) {
            if (ngx_strcmp(value[i].data, bypass->name.data) == 0) {
                llcf->cache_bypass |= bypass->value;
                break;
            }
        }

        if (bypass->name.len == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected store, "
                               "background, previous, hosted_tools, url, n, "
                               "tools or temperature, or none alone",
                               &value[i]);
            return NGX_CONF_ERROR;
        }
    }

    return NGX_CONF_OK;
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
