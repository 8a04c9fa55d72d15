
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directives of the http block: what all gateways of an nginx share.
 */


#include "ngx_http_llm_conf.h"
#include "http/ngx_http_llm_loopback.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_prices.h"
#include "policy/ngx_http_llm_quota.h"
#include "policy/ngx_http_llm_tenant.h"
#include "policy/ngx_http_llm_usage.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_secret.h"
#include "state/ngx_http_llm_state.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_CACHE_MIN   (1024 * 1024)
#define NGX_HTTP_LLM_FLIGHT_MIN  (512 * 1024)
#define NGX_HTTP_LLM_AREA_MAX    ((ngx_uint_t) 1 << 40)

#define NGX_HTTP_LLM_CACHE_TIMEOUT  20           /* of Redis, ms */


#define ngx_http_llm_main(field)   offsetof(ngx_http_llm_main_conf_t, field)
#define ngx_http_llm_quota(field)  offsetof(ngx_http_llm_quota_conf_t, field)
#define ngx_http_llm_redis(field)                                             \
    offsetof(ngx_http_llm_redis_options_t, field)


static ngx_http_llm_arg_t  ngx_http_llm_zone_args[] = {
    { ngx_string("cache="), NGX_HTTP_LLM_ARG_SIZE_OR_NONE,
      ngx_http_llm_main(cache_size), NGX_HTTP_LLM_CACHE_MIN,
      NGX_HTTP_LLM_AREA_MAX, "a size of at least 1m, or 0", NULL },
    { ngx_string("flights="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_main(flight_size), NGX_HTTP_LLM_FLIGHT_MIN,
      NGX_HTTP_LLM_AREA_MAX, "a size of at least 512k", NULL },
    { ngx_string("keys="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_main(keys_size), NGX_HTTP_LLM_KEYS_MIN,
      NGX_HTTP_LLM_AREA_MAX, "a size of at least 512k", NULL },
    { ngx_string("usage="), NGX_HTTP_LLM_ARG_SIZE,
      ngx_http_llm_main(usage_size), NGX_HTTP_LLM_USAGE_MIN,
      NGX_HTTP_LLM_AREA_MAX, "a size of at least 1m", NULL },
    ngx_http_llm_null_arg
};


static ngx_conf_enum_t  ngx_http_llm_quota_modes[] = {
    { ngx_string("exact"), LLM_QUOTA_EXACT },
    { ngx_string("leased"), LLM_QUOTA_LEASED },
    { ngx_string("off"), LLM_QUOTA_LOCAL },
    { ngx_null_string, 0 }
};


static ngx_http_llm_arg_t  ngx_http_llm_redis_args[] = {
    { ngx_string("timeout="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_quota(timeout), 1, 10000,
      "a time from 1ms to 10s", NULL },
    { ngx_string("ahead="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_quota(ahead), 20, 60000,
      "a time from 20ms to 60s", NULL },
    { ngx_string("gateways="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_quota(gateways), 1, 1000,
      "a number from 1 to 1000", NULL },
    { ngx_string("limits="), NGX_HTTP_LLM_ARG_CHOICE,
      ngx_http_llm_quota(mode), 0, 0,
      "exact, leased or off", ngx_http_llm_quota_modes },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_redis_cache_args[] = {
    { ngx_string("timeout="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_redis(timeout), 1, 10000,
      "a time from 1ms to 10s", NULL },
    ngx_http_llm_null_arg
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

    /* the cache, the flights and the policy have zones of their own */

    mcf->cache_size = ngx_max(size, NGX_HTTP_LLM_CACHE_MIN);
    mcf->flight_size = ngx_max(size, NGX_HTTP_LLM_FLIGHT_MIN);
    mcf->keys_size = NGX_HTTP_LLM_KEYS_SIZE;
    mcf->usage_size = NGX_HTTP_LLM_USAGE_SIZE;

    if (ngx_http_llm_args(cf, 3, ngx_http_llm_zone_args, mcf) != NGX_CONF_OK) {
        return NGX_CONF_ERROR;
    }

    mcf->zone = ngx_http_llm_zone_create(cf, &value[1], size,
                                         &ngx_http_llm_module);

    return mcf->zone ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_llm_redis_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t  *value;

    if (mcf->redis_set) {
        return "is duplicate";
    }

    mcf->redis_set = 1;
    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    mcf->redis_url = value[1];
    mcf->redis = ngx_http_llm_redis_create(cf, &value[1]);
    if (mcf->redis == NULL) {
        return NGX_CONF_ERROR;
    }

    mcf->quota = ngx_http_llm_quota_create(cf);
    if (mcf->quota == NULL) {
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_args(cf, 2, ngx_http_llm_redis_args, mcf->quota)
        != NGX_CONF_OK)
    {
        return NGX_CONF_ERROR;
    }

    return ngx_http_llm_quota_check(mcf->quota, mcf->redis) == NGX_OK
           ? NGX_CONF_OK : NGX_CONF_ERROR;
}


char *
ngx_http_llm_redis_cache_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t                     *value;
    ngx_http_llm_redis_options_t  *options;

    if (mcf->redis_cache) {
        return "is duplicate";
    }

    value = cf->args->elts;

    mcf->redis_cache_url = value[1];
    mcf->redis_cache = ngx_http_llm_redis_create(cf, &value[1]);
    if (mcf->redis_cache == NULL) {
        return NGX_CONF_ERROR;
    }

    options = ngx_http_llm_redis_options(mcf->redis_cache);
    options->timeout = NGX_HTTP_LLM_CACHE_TIMEOUT;

    return ngx_http_llm_args(cf, 2, ngx_http_llm_redis_cache_args, options);
}


/* the first one seals and names, further ones open what is there already */

char *
ngx_http_llm_secret_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    ngx_str_t  *value, id;

    value = cf->args->elts;
    ngx_str_set(&id, "1");

    if (cf->args->nelts == 3) {

        if (ngx_strncmp(value[2].data, "id=", 3) != 0) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected id=",
                               &value[2]);
            return NGX_CONF_ERROR;
        }

        id.data = value[2].data + 3;
        id.len = value[2].len - 3;
    }

    if (mcf->secret) {
        return ngx_http_llm_secret_old(cf, mcf->secret, &value[1], &id)
               == NGX_OK ? NGX_CONF_OK : NGX_CONF_ERROR;
    }

    mcf->secret = ngx_http_llm_secret_create(cf, &value[1], &id);

    return mcf->secret ? NGX_CONF_OK : NGX_CONF_ERROR;
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


char *
ngx_http_llm_internal_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_str_t  *value;

    value = cf->args->elts;

    return ngx_http_llm_loopback_conf(cf, &value[1]);
}
