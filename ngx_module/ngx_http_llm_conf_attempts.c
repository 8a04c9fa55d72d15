
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a location says of attempts: when they are repeated, when a target is
 * left alone, and how long all may take.
 */


#include "ngx_http_llm_conf.h"


#define ngx_http_llm_offset(field)  offsetof(ngx_http_llm_loc_conf_t, field)


static char *ngx_http_llm_retry_wait(ngx_conf_t *cf, ngx_array_t *waits,
    ngx_str_t *status, ngx_str_t *time);
static ngx_uint_t ngx_http_llm_retry_wait_status(ngx_str_t *s);
static ngx_uint_t ngx_http_llm_breaker_said(ngx_http_llm_loc_conf_t *conf);
static char *ngx_http_llm_merge_breaker(ngx_conf_t *cf,
    ngx_http_llm_loc_conf_t *prev, ngx_http_llm_loc_conf_t *conf);


/* two retries of one request, and another's first, fit into a second */

#define NGX_HTTP_LLM_RETRY_FLOOR  3

#define NGX_HTTP_LLM_HEDGE_BUDGET  2

#define NGX_HTTP_LLM_CONSECUTIVE  5
#define NGX_HTTP_LLM_RATIO        50


static ngx_http_llm_arg_t  ngx_http_llm_retry_args[] = {
    { ngx_string("tries="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(retry_tries), 1, 20,
      "a number from 1 to 20", NULL },
    { ngx_string("base="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_base), 1, 60000,
      "a time from 1ms to 60s", NULL },
    { ngx_string("cap="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_cap), 1, 600000,
      "a time from 1ms to 10m", NULL },
    { ngx_string("max_wait="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(retry_max_wait), 1, 3600000,
      "a time from 1ms to 1h", NULL },
    { ngx_string("budget="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(retry_budget), 0, 100,
      "a percentage from 0 to 100", NULL },
    { ngx_string("floor="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(retry_floor), 0, 1000,
      "a number from 0 to 1000", NULL },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_hedge_args[] = {
    { ngx_string("budget="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(hedge_budget), 1, 100,
      "a percentage from 1 to 100", NULL },
    { ngx_string("after="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(hedge_after), 1, 600000,
      "a time from 1ms to 10m", NULL },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_breaker_args[] = {
    { ngx_string("consecutive="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(breaker_consecutive), 0, 1000,
      "a number from 0 to 1000", NULL },
    { ngx_string("ratio="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(breaker_ratio), 0, 100,
      "a percentage from 0 to 100", NULL },
    { ngx_string("min="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_offset(breaker_min), 1, 10000,
      "a number from 1 to 10000", NULL },
    { ngx_string("window="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(breaker_window), 100, 600000,
      "a time from 100ms to 10m", NULL },
    { ngx_string("eject="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(breaker_eject), 1, 3600000,
      "a time from 1ms to 1h", NULL },
    { ngx_string("max_eject="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(breaker_max), 1, 86400000,
      "a time from 1ms to 24h", NULL },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_timeout_args[] = {
    { ngx_string("total="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_total), 1, 86400000,
      "a time from 1ms to 24h", NULL },
    { ngx_string("first_byte="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_first_byte), 1, 86400000,
      "a time from 1ms to 24h", NULL },
    { ngx_string("between="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_between), 1, 86400000,
      "a time from 1ms to 24h", NULL },
    { ngx_string("drain="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(timeout_drain), 0, 3600000,
      "a time up to 1h, or 0", NULL },
    ngx_http_llm_null_arg
};


static ngx_http_llm_arg_t  ngx_http_llm_heartbeat_args[] = {
    { ngx_string("grace="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_offset(heartbeat_grace), 0, 600000,
      "a time up to 10m, or 0", NULL },
    ngx_http_llm_null_arg
};


void
ngx_http_llm_create_attempts(ngx_http_llm_loc_conf_t *conf)
{
    conf->retry_tries = NGX_CONF_UNSET_UINT;
    conf->retry_base = NGX_CONF_UNSET_MSEC;
    conf->retry_cap = NGX_CONF_UNSET_MSEC;
    conf->retry_max_wait = NGX_CONF_UNSET_MSEC;
    conf->retry_budget = NGX_CONF_UNSET_UINT;
    conf->retry_floor = NGX_CONF_UNSET_UINT;
    conf->retry_waits = NGX_CONF_UNSET_PTR;

    conf->hedge_budget = NGX_CONF_UNSET_UINT;
    conf->hedge_after = NGX_CONF_UNSET_MSEC;

    conf->breaker_consecutive = NGX_CONF_UNSET_UINT;
    conf->breaker_ratio = NGX_CONF_UNSET_UINT;
    conf->breaker_min = NGX_CONF_UNSET_UINT;
    conf->breaker_window = NGX_CONF_UNSET_MSEC;
    conf->breaker_eject = NGX_CONF_UNSET_MSEC;
    conf->breaker_max = NGX_CONF_UNSET_MSEC;

    conf->timeout_total = NGX_CONF_UNSET_MSEC;
    conf->timeout_first_byte = NGX_CONF_UNSET_MSEC;
    conf->timeout_between = NGX_CONF_UNSET_MSEC;
    conf->timeout_drain = NGX_CONF_UNSET_MSEC;

    conf->heartbeat = NGX_CONF_UNSET_MSEC;
    conf->heartbeat_grace = NGX_CONF_UNSET_MSEC;
}


char *
ngx_http_llm_merge_attempts(ngx_conf_t *cf, ngx_http_llm_loc_conf_t *prev,
    ngx_http_llm_loc_conf_t *conf)
{
    ngx_conf_merge_uint_value(conf->retry_tries, prev->retry_tries, 3);
    ngx_conf_merge_msec_value(conf->retry_base, prev->retry_base, 250);
    ngx_conf_merge_msec_value(conf->retry_cap, prev->retry_cap, 8000);
    ngx_conf_merge_msec_value(conf->retry_max_wait, prev->retry_max_wait,
                              60000);
    ngx_conf_merge_uint_value(conf->retry_budget, prev->retry_budget, 20);
    ngx_conf_merge_uint_value(conf->retry_floor, prev->retry_floor,
                              NGX_HTTP_LLM_RETRY_FLOOR);
    ngx_conf_merge_ptr_value(conf->retry_waits, prev->retry_waits, NULL);

    ngx_conf_merge_uint_value(conf->hedge_budget, prev->hedge_budget, 0);
    ngx_conf_merge_msec_value(conf->hedge_after, prev->hedge_after, 1000);

    ngx_conf_merge_msec_value(conf->timeout_total, prev->timeout_total,
                              600000);
    ngx_conf_merge_msec_value(conf->timeout_first_byte,
                              prev->timeout_first_byte, 300000);
    ngx_conf_merge_msec_value(conf->timeout_between, prev->timeout_between,
                              120000);
    ngx_conf_merge_msec_value(conf->timeout_drain, prev->timeout_drain, 0);

    ngx_conf_merge_msec_value(conf->heartbeat, prev->heartbeat, 0);
    ngx_conf_merge_msec_value(conf->heartbeat_grace, prev->heartbeat_grace,
                              10000);

    return ngx_http_llm_merge_breaker(cf, prev, conf);
}


static char *
ngx_http_llm_merge_breaker(ngx_conf_t *cf, ngx_http_llm_loc_conf_t *prev,
    ngx_http_llm_loc_conf_t *conf)
{
    /* who says anything of it after an "off" further out has it on again */

    if (prev->breaker_consecutive == 0 && prev->breaker_ratio == 0
        && ngx_http_llm_breaker_said(conf))
    {
        ngx_conf_init_uint_value(conf->breaker_consecutive,
                                 NGX_HTTP_LLM_CONSECUTIVE);
        ngx_conf_init_uint_value(conf->breaker_ratio, NGX_HTTP_LLM_RATIO);
    }

    ngx_conf_merge_uint_value(conf->breaker_consecutive,
                              prev->breaker_consecutive,
                              NGX_HTTP_LLM_CONSECUTIVE);
    ngx_conf_merge_uint_value(conf->breaker_ratio, prev->breaker_ratio,
                              NGX_HTTP_LLM_RATIO);
    ngx_conf_merge_uint_value(conf->breaker_min, prev->breaker_min, 20);
    ngx_conf_merge_msec_value(conf->breaker_window, prev->breaker_window,
                              10000);
    ngx_conf_merge_msec_value(conf->breaker_eject, prev->breaker_eject,
                              30000);
    ngx_conf_merge_msec_value(conf->breaker_max, prev->breaker_max, 300000);

    if (conf->gateway && conf->breaker_max < conf->breaker_eject) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"llm_breaker\": max_eject, %Mms, is less than "
                           "eject, %Mms", conf->breaker_max,
                           conf->breaker_eject);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static ngx_uint_t
ngx_http_llm_breaker_said(ngx_http_llm_loc_conf_t *conf)
{
    return conf->breaker_consecutive != NGX_CONF_UNSET_UINT
           || conf->breaker_ratio != NGX_CONF_UNSET_UINT
           || conf->breaker_min != NGX_CONF_UNSET_UINT
           || conf->breaker_window != NGX_CONF_UNSET_MSEC
           || conf->breaker_eject != NGX_CONF_UNSET_MSEC
           || conf->breaker_max != NGX_CONF_UNSET_MSEC;
}


char *
ngx_http_llm_retry_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->retry_tries != NGX_CONF_UNSET_UINT
        || llcf->retry_base != NGX_CONF_UNSET_MSEC
        || llcf->retry_cap != NGX_CONF_UNSET_MSEC
        || llcf->retry_max_wait != NGX_CONF_UNSET_MSEC
        || llcf->retry_budget != NGX_CONF_UNSET_UINT
        || llcf->retry_floor != NGX_CONF_UNSET_UINT)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, 1, ngx_http_llm_retry_args, conf);
}


/* pairs of a status and a time */

char *
ngx_http_llm_retry_wait_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    char        *rv;
    ngx_str_t   *value;
    ngx_uint_t   i;

    if (llcf->retry_waits != NGX_CONF_UNSET_PTR) {
        return "is duplicate";
    }

    llcf->retry_waits = ngx_array_create(cf->pool, 4,
                                         sizeof(ngx_http_llm_retry_wait_t));
    if (llcf->retry_waits == NULL) {
        return NGX_CONF_ERROR;
    }

    value = cf->args->elts;

    for (i = 1; i < cf->args->nelts; i += 2) {

        rv = ngx_http_llm_retry_wait(cf, llcf->retry_waits, &value[i],
                                     i + 1 < cf->args->nelts ? &value[i + 1]
                                                             : NULL);
        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_retry_wait(ngx_conf_t *cf, ngx_array_t *waits, ngx_str_t *status,
    ngx_str_t *time)
{
    ngx_int_t                   base;
    ngx_uint_t                  i, n;
    ngx_http_llm_retry_wait_t  *wait;

    n = ngx_http_llm_retry_wait_status(status);

    if (n == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected 408, 409, 429 "
                           "or a status from 500 to 599", status);
        return NGX_CONF_ERROR;
    }

    wait = waits->elts;

    for (i = 0; i < waits->nelts; i++) {
        if (wait[i].status == n) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "status \"%V\" is there twice", status);
            return NGX_CONF_ERROR;
        }
    }

    base = time ? ngx_parse_time(time, 0) : NGX_ERROR;

    if (base < 1 || base > 60000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "expected a time from 1ms to 60s behind status "
                           "\"%V\"", status);
        return NGX_CONF_ERROR;
    }

    wait = ngx_array_push(waits);
    if (wait == NULL) {
        return NGX_CONF_ERROR;
    }

    wait->status = n;
    wait->base = (ngx_msec_t) base;

    return NGX_CONF_OK;
}


/* one that is repeated, or 0 */

static ngx_uint_t
ngx_http_llm_retry_wait_status(ngx_str_t *s)
{
    ngx_int_t  status;

    status = s->len == 3 ? ngx_atoi(s->data, 3) : 0;

    return status == 408 || status == 409 || status == 429
           || (status >= 500 && status <= 599) ? (ngx_uint_t) status : 0;
}


char *
ngx_http_llm_hedge_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    char       *rv;
    ngx_str_t  *value;

    if (llcf->hedge_budget != NGX_CONF_UNSET_UINT
        || llcf->hedge_after != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->hedge_budget = 0;

        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    rv = ngx_http_llm_args(cf, ngx_strcmp(value[1].data, "on") == 0 ? 2 : 1,
                           ngx_http_llm_hedge_args, conf);

    ngx_conf_init_uint_value(llcf->hedge_budget, NGX_HTTP_LLM_HEDGE_BUDGET);

    return rv;
}


char *
ngx_http_llm_breaker_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    ngx_str_t  *value;

    if (ngx_http_llm_breaker_said(llcf)) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->breaker_consecutive = 0;
        llcf->breaker_ratio = 0;

        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    return ngx_http_llm_args(cf, 1, ngx_http_llm_breaker_args, conf);
}


char *
ngx_http_llm_timeout_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    if (llcf->timeout_total != NGX_CONF_UNSET_MSEC
        || llcf->timeout_first_byte != NGX_CONF_UNSET_MSEC
        || llcf->timeout_between != NGX_CONF_UNSET_MSEC
        || llcf->timeout_drain != NGX_CONF_UNSET_MSEC)
    {
        return "is duplicate";
    }

    return ngx_http_llm_args(cf, 1, ngx_http_llm_timeout_args, conf);
}


char *
ngx_http_llm_heartbeat_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_loc_conf_t *llcf = conf;

    ngx_int_t   every;
    ngx_str_t  *value;

    if (llcf->heartbeat != NGX_CONF_UNSET_MSEC) {
        return "is duplicate";
    }

    value = cf->args->elts;

    if (ngx_strcmp(value[1].data, "off") == 0) {
        llcf->heartbeat = 0;

        return cf->args->nelts == 2 ? NGX_CONF_OK
                                    : "takes no parameter behind \"off\"";
    }

    every = ngx_parse_time(&value[1], 0);

    if (every < 1 || every > 600000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid parameter \"%V\": expected off or a time "
                           "from 1ms to 10m", &value[1]);
        return NGX_CONF_ERROR;
    }

    llcf->heartbeat = (ngx_msec_t) every;

    return ngx_http_llm_args(cf, 2, ngx_http_llm_heartbeat_args, conf);
}
