
/*
 * Copyright (C) the ngx-llm authors
 *
 * The directive, and the way of a batch: from the internal listener, where
 * the secret is asked for, to an internal location that leads to the
 * collector.  No client gets there, and the secret goes no further.
 */


#include "operate/ngx_http_llm_trace_private.h"
#include "http/ngx_http_llm_arg.h"
#include "http/ngx_http_llm_compat.h"
#include "http/ngx_http_llm_loopback.h"
#include "upstream/ngx_http_llm_provider.h"


#define ngx_http_llm_trace(field)  offsetof(ngx_http_llm_trace_conf_t, field)


static ngx_int_t ngx_http_llm_trace_ratio(ngx_conf_t *cf,
    ngx_http_llm_trace_conf_t *tc);
static ngx_int_t ngx_http_llm_trace_refuse(ngx_conf_t *cf,
    ngx_http_llm_trace_conf_t *tc, const char *need);


static ngx_http_llm_arg_t  ngx_http_llm_trace_args[] = {
    { ngx_string("uri="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_trace(uri), 2, 256,
      "the prefix of an internal location, as /internal/otel/", NULL },
    { ngx_string("sample="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_trace(ratio), 1, 8, "a number from 0 to 1", NULL },
    { ngx_string("batch="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_trace(batch), 1, 8192, "a number from 1 to 8192", NULL },
    { ngx_string("interval="), NGX_HTTP_LLM_ARG_MSEC,
      ngx_http_llm_trace(interval), 100, 60000,
      "a time from 100ms to 60s", NULL },
    { ngx_string("queue="), NGX_HTTP_LLM_ARG_NUMBER,
      ngx_http_llm_trace(queue), 1, 65536, "a number from 1 to 65536", NULL },
    { ngx_string("service="), NGX_HTTP_LLM_ARG_TEXT,
      ngx_http_llm_trace(service), 1, 128, "1 to 128 bytes", NULL },
    ngx_http_llm_null_arg
};


char *
ngx_http_llm_trace_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    u_char                     *p;
    ngx_http_llm_trace_conf_t  *tc;

    if (mcf->trace) {
        return "is duplicate";
    }

    tc = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_trace_conf_t));
    if (tc == NULL) {
        return NGX_CONF_ERROR;
    }

    tc->sample = 1000000;
    tc->batch = 512;
    tc->queue = 2048;
    tc->interval = 5000;
    tc->file = cf->conf_file->file.name.data;
    tc->line = cf->conf_file->line;

    ngx_str_set(&tc->service, "ngx-llm");

    if (ngx_http_llm_args(cf, 1, ngx_http_llm_trace_args, tc) != NGX_CONF_OK
        || ngx_http_llm_trace_ratio(cf, tc) != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    if (tc->uri.len < 2 || tc->uri.data[0] != '/'
        || tc->uri.data[tc->uri.len - 1] != '/')
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_trace needs uri=: expected the prefix of an "
                           "internal location, as uri=/internal/otel/");
        return NGX_CONF_ERROR;
    }

    tc->to.len = tc->uri.len + sizeof(NGX_HTTP_LLM_TRACE_URI) - 2;

    p = ngx_pnalloc(cf->pool, tc->to.len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    tc->to.data = p;

    p = ngx_cpymem(p, tc->uri.data, tc->uri.len);
    ngx_memcpy(p, &NGX_HTTP_LLM_TRACE_URI[1],
               sizeof(NGX_HTTP_LLM_TRACE_URI) - 2);

    mcf->trace = tc;

    return NGX_CONF_OK;
}


static ngx_int_t
ngx_http_llm_trace_ratio(ngx_conf_t *cf, ngx_http_llm_trace_conf_t *tc)
{
    ngx_int_t  n;

    if (tc->ratio.len == 0) {
        return NGX_OK;
    }

    n = ngx_atofp(tc->ratio.data, tc->ratio.len, 6);

    if (n == NGX_ERROR || n > 1000000) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "invalid value \"%V\" of sample=: expected a "
                           "number from 0 to 1 of at most six decimals",
                           &tc->ratio);
        return NGX_ERROR;
    }

    tc->sample = n;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_trace_check(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_http_core_loc_conf_t    *clcf;
    ngx_http_llm_srv_conf_t     *lscf;
    ngx_http_llm_main_conf_t    *mcf;
    ngx_http_core_srv_conf_t   **cscf;
    ngx_http_core_main_conf_t   *cmcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);

    if (mcf->trace == NULL) {
        return NGX_OK;
    }

    if (!ngx_http_llm_loopback_configured()) {
        return ngx_http_llm_trace_refuse(cf, mcf->trace, "\"llm_internal\"");
    }

    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);
    cscf = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {

        lscf = cscf[i]->ctx->srv_conf[ngx_http_llm_module.ctx_index];

        if (!lscf->gateway) {
            continue;
        }

        clcf = cscf[i]->ctx->loc_conf[ngx_http_core_module.ctx_index];
        clcf = ngx_http_llm_provider_location(clcf->static_locations,
                                              &mcf->trace->to);

        if (clcf && clcf->internal && clcf->handler) {
            return NGX_OK;
        }
    }

    return ngx_http_llm_trace_refuse(cf, mcf->trace,
                                     "an internal location with proxy_pass "
                                     "for its uri= in the server that "
                                     "listens on llm_internal");
}


static ngx_int_t
ngx_http_llm_trace_refuse(ngx_conf_t *cf, ngx_http_llm_trace_conf_t *tc,
    const char *need)
{
    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "llm_trace \"%V\" in %s:%ui needs %s", &tc->uri, tc->file,
                  tc->line, need);

    return NGX_ERROR;
}


ngx_int_t
ngx_http_llm_trace_handler(ngx_http_request_t *r)
{
    ngx_str_t                  name;
    ngx_table_elt_t           *h;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    if (mcf->trace == NULL || r != r->main || r->method != NGX_HTTP_POST
        || ngx_http_llm_loopback_key(r, &name) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    /* the collector gets none of the headers by which it was asked for */

    if (ngx_list_init(&r->headers_in.headers, r->pool, 1,
                      sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_list_push(&r->headers_in.headers);
    if (h == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&h->key, "Content-Type");
    ngx_str_set(&h->value, "application/json");
    h->lowcase_key = (u_char *) "content-type";
    h->hash = ngx_hash_key(h->lowcase_key, h->key.len);
    ngx_http_llm_header_unlink(h);

    r->headers_in.content_type = h;

    return ngx_http_internal_redirect(r, &mcf->trace->to, NULL);
}
