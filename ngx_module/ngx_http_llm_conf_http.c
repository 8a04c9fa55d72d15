
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directives of the http block: what all gateways of an nginx share.
 */


#include "ngx_http_llm_conf.h"
#include "policy/ngx_http_llm_prices.h"
#include "policy/ngx_http_llm_quota.h"
#include "policy/ngx_http_llm_tenant.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_state.h"
#include "state/ngx_http_llm_zone.h"


static ngx_uint_t ngx_http_llm_redis_arg(ngx_str_t *value);


#define ngx_http_llm_offset(field)  offsetof(ngx_http_llm_quota_conf_t, field)


static ngx_http_llm_arg_t  ngx_http_llm_redis_args[] = {
    { ngx_string("timeout="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout), 1, 10000,
      "a time from 1ms to 10s" },
    { ngx_string("ahead="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(ahead), 20, 60000,
      "a time from 20ms to 60s" },
    { ngx_string("gateways="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(gateways), 1, 1000,
      "a number from 1 to 1000" },
    { ngx_null_string, 0, 0, 0, 0, NULL }
};


char *
ngx_http_llm_zone_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
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


static ngx_uint_t
ngx_http_llm_redis_arg(ngx_str_t *value)
{
    ngx_http_llm_arg_t  *arg;

    for (arg = ngx_http_llm_redis_args; arg->name.len; arg++) {
        if (value->len >= arg->name.len
            && ngx_strncmp(value->data, arg->name.data, arg->name.len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


char *
ngx_http_llm_redis_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

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

    mcf->quota = ngx_http_llm_quota_create(cf);
    if (mcf->quota == NULL) {
        return NGX_CONF_ERROR;
    }

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strcmp(value[i].data, "limits=exact") == 0) {
            mcf->quota->mode = LLM_QUOTA_EXACT;

        } else if (ngx_strcmp(value[i].data, "limits=leased") == 0) {
            mcf->quota->mode = LLM_QUOTA_LEASED;

        } else if (ngx_strcmp(value[i].data, "limits=off") == 0) {
            mcf->quota->mode = LLM_QUOTA_LOCAL;

        } else if (ngx_strncmp(value[i].data, "limits=", 7) == 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected exact, "
                               "leased or off", &value[i]);
            return NGX_CONF_ERROR;

        } else if (!ngx_http_llm_redis_arg(&value[i])) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected timeout=, "
                               "ahead=, gateways= or limits=", &value[i]);
            return NGX_CONF_ERROR;

        } else {
            rv = ngx_http_llm_arg(cf, &value[i], ngx_http_llm_redis_args,
                                  mcf->quota);
            if (rv != NGX_CONF_OK) {
                return rv;
            }
        }
    }

    return ngx_http_llm_quota_check(mcf->quota, mcf->redis) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
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


char *
ngx_http_llm_prices_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t  *value;

    if (mcf->prices) {
        return "is duplicate";
    }

    value = cf->args->elts;

    mcf->prices = ngx_http_llm_prices_create(cf, &value[1]);

    return mcf->prices ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_llm_state_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t  *value;

    if (mcf->state) {
        return "is duplicate";
    }

    value = cf->args->elts;

    mcf->state = ngx_http_llm_state_create(cf, &value[1]);

    return mcf->state ? NGX_CONF_OK : NGX_CONF_ERROR;
}
