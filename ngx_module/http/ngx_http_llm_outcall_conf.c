
/*
 * Copyright (C) the ngx-llm authors
 *
 * What calls need of a configuration.  It is found by its cleanup in the
 * cycle's pool, so that each cycle has its own.
 */


#include "http/ngx_http_llm_outcall_private.h"


static void ngx_http_llm_outcall_cleanup(void *data);


ngx_int_t
ngx_http_llm_outcall_check(ngx_conf_t *cf)
{
    ngx_pool_cleanup_t           *cln;
    ngx_http_core_loc_conf_t     *clcf;
    ngx_http_llm_outcall_conf_t  *conf;

    clcf = ngx_http_conf_get_module_loc_conf(cf, ngx_http_core_module);

    if (clcf->resolver == NULL || clcf->resolver->connections.nelts == 0) {
        ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                      "\"llm_tasks\" with webhook= needs a \"resolver\" in "
                      "the http block");
        return NGX_ERROR;
    }

    conf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_outcall_conf_t));
    if (conf == NULL) {
        return NGX_ERROR;
    }

    conf->resolver = clcf->resolver;

    if (ngx_http_llm_outcall_tls_conf(cf, conf) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_outcall_cleanup;
    cln->data = conf;

    return NGX_OK;
}


static void
ngx_http_llm_outcall_cleanup(void *data)
{
}


ngx_http_llm_outcall_conf_t *
ngx_http_llm_outcall_conf(void)
{
    ngx_pool_cleanup_t  *cln;

    for (cln = ngx_cycle->pool->cleanup; cln != NULL; cln = cln->next) {

        if (cln->handler == ngx_http_llm_outcall_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}
