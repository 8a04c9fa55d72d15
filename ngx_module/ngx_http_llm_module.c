
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_line.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_variables.h"
#include "operate/ngx_http_llm_health.h"
#include "operate/ngx_http_llm_metrics.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_tenant.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_wake.h"
#include "state/ngx_http_llm_zone.h"
#include "upstream/ngx_http_llm_models.h"
#include "upstream/ngx_http_llm_provider.h"
#include "upstream/ngx_http_llm_relay.h"


/* a parameter "name=value" of a directive, and where its value goes */

typedef enum {
    NGX_HTTP_LLM_ARG_MSEC = 0,
    NGX_HTTP_LLM_ARG_SEC,
    NGX_HTTP_LLM_ARG_SIZE,
    NGX_HTTP_LLM_ARG_NUMBER
} ngx_http_llm_arg_e;


typedef struct {
    ngx_str_t                   name;
    ngx_http_llm_arg_e          type;
    size_t                      offset;
    ngx_uint_t                  min;
    ngx_uint_t                  max;
    const char                 *expected;
} ngx_http_llm_arg_t;


static ngx_int_t ngx_http_llm_preconfiguration(ngx_conf_t *cf);
static ngx_int_t ngx_http_llm_postconfiguration(ngx_conf_t *cf);
static void *ngx_http_llm_create_main_conf(ngx_conf_t *cf);
static void *ngx_http_llm_create_srv_conf(ngx_conf_t *cf);
static void *ngx_http_llm_create_loc_conf(ngx_conf_t *cf);
static char *ngx_http_llm_merge_loc_conf(ngx_conf_t *cf, void *parent,
    void *child);
static ngx_int_t ngx_http_llm_error_pages(ngx_conf_t *cf);
static char *ngx_http_llm_zone(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_redis(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_tenants_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_gateway(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_cache(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_retry(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_timeout(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static char *ngx_http_llm_args(ngx_conf_t *cf, ngx_uint_t from,
    ngx_http_llm_arg_t *args, void *conf);
static char *ngx_http_llm_arg(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_llm_arg_t *args, void *conf);
static char *ngx_http_llm_content(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
static ngx_int_t ngx_http_llm_init_module(ngx_cycle_t *cycle);
static ngx_int_t ngx_http_llm_init_process(ngx_cycle_t *cycle);
static void ngx_http_llm_exit_process(ngx_cycle_t *cycle);


#define NGX_HTTP_LLM_ANY_CONF                                                \
    NGX_HTTP_MAIN_CONF|NGX_HTTP_SRV_CONF|NGX_HTTP_LOC_CONF


static ngx_command_t  ngx_http_llm_commands[] = {

    { ngx_string("llm_zone"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE2,
      ngx_http_llm_zone,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_redis"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE12,
      ngx_http_llm_redis,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_tenants"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_TAKE1,
      ngx_http_llm_tenants_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_provider"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_provider,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_route"),
      NGX_HTTP_MAIN_CONF|NGX_CONF_2MORE,
      ngx_http_llm_route_slot,
      NGX_HTTP_MAIN_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_gateway"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_gateway,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_cache"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_cache,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_retry"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_retry,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_timeout"),
      NGX_HTTP_LLM_ANY_CONF|NGX_CONF_1MORE,
      ngx_http_llm_timeout,
      NGX_HTTP_LOC_CONF_OFFSET,
      0,
      NULL },

    { ngx_string("llm_metrics"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_content,
      0,
      0,
      ngx_http_llm_metrics_handler },

    { ngx_string("llm_health"),
      NGX_HTTP_LOC_CONF|NGX_CONF_NOARGS,
      ngx_http_llm_content,
      0,
      0,
      ngx_http_llm_health_handler },

      ngx_null_command
};


static ngx_http_module_t  ngx_http_llm_module_ctx = {
    ngx_http_llm_preconfiguration,         /* preconfiguration */
    ngx_http_llm_postconfiguration,        /* postconfiguration */

    ngx_http_llm_create_main_conf,         /* create main configuration */
    NULL,                                  /* init main configuration */

    ngx_http_llm_create_srv_conf,          /* create server configuration */
    NULL,                                  /* merge server configuration */

    ngx_http_llm_create_loc_conf,          /* create location configuration */
    ngx_http_llm_merge_loc_conf            /* merge location configuration */
};


ngx_module_t  ngx_http_llm_module = {
    NGX_MODULE_V1,
    &ngx_http_llm_module_ctx,              /* module context */
    ngx_http_llm_commands,                 /* module directives */
    NGX_HTTP_MODULE,                       /* module type */
    NULL,                                  /* init master */
    ngx_http_llm_init_module,              /* init module */
    ngx_http_llm_init_process,             /* init process */
    NULL,                                  /* init thread */
    NULL,                                  /* exit thread */
    ngx_http_llm_exit_process,             /* exit process */
    NULL,                                  /* exit master */
    NGX_MODULE_V1_PADDING
};


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


static ngx_int_t
ngx_http_llm_preconfiguration(ngx_conf_t *cf)
{
    return ngx_http_llm_variables_add(cf);
}


static ngx_int_t
ngx_http_llm_postconfiguration(ngx_conf_t *cf)
{
    const char                *missing;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);

    if (mcf->gateways == 0) {
        return NGX_OK;
    }

    missing = mcf->zone == NULL ? "llm_zone"
              : mcf->tenants == NULL ? "llm_tenants"
              : mcf->providers.nelts == 0 ? "llm_provider"
              : mcf->routes.nelts == 0 ? "llm_route"
              : NULL;

    if (missing) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"llm_gateway\" needs \"%s\" in the http block",
                      missing);
        return NGX_ERROR;
    }

    if (ngx_http_llm_tenants_check(mcf->tenants, cf) != NGX_OK
        || ngx_http_llm_provider_check(cf) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_relay_init();

    return NGX_OK;
}


static void *
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


static void *
ngx_http_llm_create_srv_conf(ngx_conf_t *cf)
{
    return ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_srv_conf_t));
}


static void *
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


static char *
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


static char *
ngx_http_llm_zone(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ssize_t     size;
    ngx_str_t  *value;

    if (mcf->zone) {
        return "is duplicate";
    }

    value = cf->args->elts;

    size = ngx_parse_size(&value[2]);

    if (size < NGX_HTTP_LLM_ZONE_MIN) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "size \"%V\" of llm_zone \"%V\": expected at least "
                           "512k", &value[2], &value[1]);
        return NGX_CONF_ERROR;
    }

    mcf->zone = ngx_http_llm_zone_create(cf, &value[1], size,
                                         &ngx_http_llm_module);

    return mcf->zone ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_llm_redis(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_int_t   n;
    ngx_str_t  *value, timeout;

    if (mcf->redis_set) {
        return "is duplicate";
    }

    mcf->redis_set = 1;
    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    mcf->redis = ngx_http_llm_redis_create(cf, &value[1]);
    if (mcf->redis == NULL) {
        return NGX_CONF_ERROR;
    }

    if (cf->args->nelts == 2) {
        return NGX_CONF_OK;
    }

    timeout.data = value[2].data + sizeof("timeout=") - 1;
    timeout.len = value[2].len - (sizeof("timeout=") - 1);

    n = value[2].len > sizeof("timeout=") - 1
        && ngx_strncmp(value[2].data, "timeout=", sizeof("timeout=") - 1) == 0
        ? ngx_parse_time(&timeout, 0) : NGX_ERROR;

    if (n < 1 || n > 10000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected timeout= with "
                           "a time from 1ms to 10s", &value[2]);
        return NGX_CONF_ERROR;
    }

    ngx_http_llm_redis_options(mcf->redis)->timeout = n;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_tenants_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t  *value;

    if (mcf->tenants) {
        return "is duplicate";
    }

    value = cf->args->elts;

    mcf->tenants = ngx_http_llm_tenants_create(cf, &value[1]);

    return mcf->tenants ? NGX_CONF_OK : NGX_CONF_ERROR;
}


static char *
ngx_http_llm_gateway(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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
    clcf->handler = ngx_http_llm_line_handler;

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_cache(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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


static char *
ngx_http_llm_retry(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->retry_tries != NGX_CONF_UNSET_UINT
        || llcf->retry_base != NGX_CONF_UNSET_MSEC
        || llcf->retry_cap != NGX_CONF_UNSET_MSEC
        || llcf->retry_max_wait != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, 1, ngx_http_llm_retry_args, conf);
}


static char *
ngx_http_llm_timeout(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->timeout_total != NGX_CONF_UNSET_MSEC
        || llcf->timeout_first_byte != NGX_CONF_UNSET_MSEC
        || llcf->timeout_drain != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, 1, ngx_http_llm_timeout_args, conf);
}


static char *
ngx_http_llm_args(ngx_conf_t *cf, ngx_uint_t from, ngx_http_llm_arg_t *args,
    void *conf)
{
    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    value = cf->args->elts;

    for (i = from; i < cf->args->nelts; i++) {
        rv = ngx_http_llm_arg(cf, &value[i], args, conf);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
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


static char *
ngx_http_llm_content(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_core_loc_conf_t  *clcf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->handler) {
        return "is duplicate";
    }

    clcf->handler = (ngx_http_handler_pt) cmd->post;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t                  i;
    ngx_http_llm_count_t       *count;
    ngx_http_llm_provider_t   **pr;
    ngx_http_llm_main_conf_t   *mcf;

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return NGX_OK;
    }

    count = &mcf->zone->sh->count;
    pr = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {

        pr[i]->slot = ngx_http_llm_count_provider(count, &pr[i]->name);

        if (pr[i]->slot == NGX_HTTP_LLM_PROVIDERS) {

            /* names of providers that are gone keep their counters */

            pr[i]->slot = NGX_HTTP_LLM_PROVIDERS - 1;

            ngx_log_error(NGX_LOG_WARN, cycle->log, 0,
                          "llm: no counters left for provider \"%V\", it "
                          "shares those of another", &pr[i]->name);
        }
    }

    return ngx_http_llm_wake_init_module(cycle);
}


static ngx_int_t
ngx_http_llm_init_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return NGX_OK;
    }

    if (ngx_http_llm_id_init_process(cycle) != NGX_OK
        || ngx_http_llm_limit_init_process(mcf->zone, cycle) != NGX_OK
        || ngx_http_llm_cache_init_process(cycle) != NGX_OK
        || ngx_http_llm_models_init_process(cycle) != NGX_OK
        || ngx_http_llm_tenants_init_process(mcf->tenants, cycle,
                                             ngx_http_llm_limit_changed)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (mcf->redis) {
        return ngx_http_llm_redis_init_process(mcf->redis, cycle);
    }

    return NGX_OK;
}


static void
ngx_http_llm_exit_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_main_conf_t  *mcf;

    if (ngx_process != NGX_PROCESS_WORKER && ngx_process != NGX_PROCESS_SINGLE)
    {
        return;
    }

    mcf = ngx_http_cycle_get_module_main_conf(cycle, ngx_http_llm_module);

    if (mcf == NULL || mcf->gateways == 0) {
        return;
    }

    if (mcf->redis) {
        ngx_http_llm_redis_exit_process(mcf->redis);
    }

    ngx_http_llm_limit_exit_process();
}
