
/*
 * Copyright (C) the ngx-llm authors
 *
 * Whether the providers' locations pass on as this module needs it.
 */


#include "upstream/ngx_http_llm_provider.h"


extern ngx_module_t  ngx_http_proxy_module;


static ngx_int_t ngx_http_llm_provider_check_server(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_core_srv_conf_t *cscf);
static ngx_int_t ngx_http_llm_provider_check_location(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_http_core_loc_conf_t *clcf);


ngx_int_t
ngx_http_llm_provider_check(ngx_conf_t *cf)
{
    ngx_uint_t                   i;
    ngx_http_llm_srv_conf_t     *lscf;
    ngx_http_llm_main_conf_t    *mcf;
    ngx_http_core_srv_conf_t   **cscf;
    ngx_http_core_main_conf_t   *cmcf;

    mcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_llm_module);
    cmcf = ngx_http_conf_get_module_main_conf(cf, ngx_http_core_module);

    cscf = cmcf->servers.elts;

    for (i = 0; i < cmcf->servers.nelts; i++) {

        lscf = cscf[i]->ctx->srv_conf[ngx_http_llm_module.ctx_index];

        if (lscf->gateway
            && ngx_http_llm_provider_check_server(cf, mcf, cscf[i])
               != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_provider_check_server(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_core_srv_conf_t *cscf)
{
    ngx_uint_t                  i;
    ngx_http_llm_provider_t   **pr;
    ngx_http_core_loc_conf_t   *clcf;

    clcf = cscf->ctx->loc_conf[ngx_http_core_module.ctx_index];
    pr = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {

        if (ngx_http_llm_provider_check_location(cf, pr[i],
                ngx_http_llm_provider_location(clcf->static_locations,
                                               &pr[i]->uri))
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_http_core_loc_conf_t *
ngx_http_llm_provider_location(ngx_http_location_tree_node_t *node,
    ngx_str_t *uri)
{
    size_t                     len, n;
    u_char                    *p;
    ngx_int_t                  rc;
    ngx_http_core_loc_conf_t  *found;

    found = NULL;
    p = uri->data;
    len = uri->len;

    while (node) {

        n = ngx_min(len, (size_t) node->len);

        rc = ngx_filename_cmp(p, node->name, n);

        if (rc != 0) {
            node = rc < 0 ? node->left : node->right;
            continue;
        }

        if (len >= (size_t) node->len) {

            if (node->inclusive) {
                found = node->inclusive;
                p += node->len;
                len -= node->len;
                node = node->tree;
                continue;
            }

            if (len > (size_t) node->len) {
                node = node->right;
                continue;
            }

            break;
        }

        node = node->left;
    }

    return found;
}


static ngx_int_t
ngx_http_llm_provider_check_location(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_http_core_loc_conf_t *clcf)
{
    const char                *need;
    ngx_http_upstream_conf_t  *ucf;

    ucf = NULL;
    need = NULL;

    if (clcf == NULL || clcf->handler == NULL || !clcf->internal) {
        need = "an internal location with proxy_pass";

    } else {

        /* the upstream part is the first member of the module's conf */

        ucf = clcf->loc_conf[ngx_http_proxy_module.ctx_index];

        if (!ucf->ignore_client_abort) {
            need = "\"proxy_ignore_client_abort on\", since a call can "
                   "outlive its client";

        } else if (ucf->buffering) {
            need = "\"proxy_buffering off\", since events go out as they "
                   "come in";

        } else if (ucf->intercept_errors) {
            need = "\"proxy_intercept_errors off\", since errors are this "
                   "module's";

        } else if (!(ucf->next_upstream & NGX_HTTP_UPSTREAM_FT_OFF)) {
            need = "\"proxy_next_upstream off\", since retries are this "
                   "module's";
        }
    }

    if (need == NULL) {

        /* an answer must not steer this nginx, whatever the location says */

        ucf->ignore_headers |= NGX_HTTP_UPSTREAM_IGN_XA_REDIRECT
                               |NGX_HTTP_UPSTREAM_IGN_XA_EXPIRES
                               |NGX_HTTP_UPSTREAM_IGN_XA_LIMIT_RATE
                               |NGX_HTTP_UPSTREAM_IGN_XA_BUFFERING
                               |NGX_HTTP_UPSTREAM_IGN_XA_CHARSET;

        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "llm_provider \"%V\" in %s:%ui: location \"%V\" needs %s",
                  &pr->name, pr->file, pr->line, &pr->uri, need);

    return NGX_ERROR;
}
