
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_provider.h"
#include "state/ngx_http_llm_count.h"
#include "state/ngx_http_llm_source.h"


#define NGX_HTTP_LLM_CONCURRENCY  1000000


extern ngx_module_t  ngx_http_proxy_module;


static char *ngx_http_llm_provider_uri(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_str_t *value);
static char *ngx_http_llm_provider_key(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_str_t *value);
static char *ngx_http_llm_provider_slots(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_str_t *value);
static ngx_uint_t ngx_http_llm_provider_name(ngx_str_t *name);
static ngx_int_t ngx_http_llm_provider_check_server(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf, ngx_http_core_srv_conf_t *cscf);
static ngx_http_core_loc_conf_t *ngx_http_llm_provider_location(
    ngx_http_location_tree_node_t *node, ngx_str_t *uri);
static ngx_int_t ngx_http_llm_provider_check_location(ngx_conf_t *cf,
    ngx_http_llm_provider_t *pr, ngx_http_core_loc_conf_t *clcf);


char *
ngx_http_llm_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf)
{
    ngx_http_llm_main_conf_t *mcf = conf;

    char                      *rv;
    ngx_str_t                 *value;
    ngx_uint_t                 i;
    ngx_http_llm_provider_t   *pr, **ppr;

    value = cf->args->elts;

    if (!ngx_http_llm_provider_name(&value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider name \"%V\": expected 1 to %d of "
                           "[A-Za-z0-9._-]", &value[1],
                           NGX_HTTP_LLM_PROVIDER_NAME);
        return NGX_CONF_ERROR;
    }

    if (ngx_http_llm_provider_find(mcf, &value[1])) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider \"%V\" is defined already", &value[1]);
        return NGX_CONF_ERROR;
    }

    if (mcf->providers.nelts == NGX_HTTP_LLM_PROVIDERS) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "more than %d providers", NGX_HTTP_LLM_PROVIDERS);
        return NGX_CONF_ERROR;
    }

    pr = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_provider_t));
    ppr = ngx_array_push(&mcf->providers);

    if (pr == NULL || ppr == NULL) {
        return NGX_CONF_ERROR;
    }

    *ppr = pr;

    pr->name = value[1];
    rv = NGX_CONF_OK;
    pr->file = cf->conf_file->file.name.data;
    pr->line = cf->conf_file->line;

    for (i = 2; i < cf->args->nelts; i++) {

        if (ngx_strncmp(value[i].data, "uri=", 4) == 0) {
            rv = ngx_http_llm_provider_uri(cf, pr, &value[i]);

        } else if (ngx_strncmp(value[i].data, "key=", 4) == 0) {
            rv = ngx_http_llm_provider_key(cf, pr, &value[i]);

        } else if (ngx_strncmp(value[i].data, "concurrency=", 12) == 0) {
            rv = ngx_http_llm_provider_slots(cf, pr, &value[i]);

        } else if (ngx_strcmp(value[i].data, "include_usage=on") == 0) {
            pr->no_usage = 0;

        } else if (ngx_strcmp(value[i].data, "include_usage=off") == 0) {
            pr->no_usage = 1;

        } else {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "invalid parameter \"%V\": expected uri=, "
                               "key=, concurrency= or include_usage=on|off",
                               &value[i]);
            return NGX_CONF_ERROR;
        }

        if (rv != NGX_CONF_OK) {
            return rv;
        }
    }

    if (pr->uri.len == 0) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "provider \"%V\" has no uri=", &pr->name);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_provider_uri(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_str_t *value)
{
    pr->uri.data = value->data + 4;
    pr->uri.len = value->len - 4;

    if (pr->uri.len < 2 || pr->uri.data[0] != '/'
        || pr->uri.data[pr->uri.len - 1] != '/')
    {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": expected the prefix of an internal "
                           "location, with a slash at both ends", value);
        return NGX_CONF_ERROR;
    }

    return NGX_CONF_OK;
}


static char *
ngx_http_llm_provider_key(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_str_t *value)
{
    u_char     *p;
    size_t      i;
    ngx_str_t   key, name;

    name.data = value->data + 4;
    name.len = value->len - 4;

    if (ngx_http_llm_source_read(cf, &name, "key of provider", &pr->name,
                                 &key)
        != NGX_OK)
    {
        return NGX_CONF_ERROR;
    }

    for (i = 0; i < key.len; i++) {
        if (key.data[i] <= 0x20 || key.data[i] >= 0x7f) {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "key of provider \"%V\": expected printable "
                               "ASCII without spaces", &pr->name);
            return NGX_CONF_ERROR;
        }
    }

    if (key.len == 0) {
        return NGX_CONF_OK;
    }

    p = ngx_pnalloc(cf->pool, sizeof("Bearer ") - 1 + key.len);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    pr->authorization.data = p;
    pr->authorization.len = sizeof("Bearer ") - 1 + key.len;

    p = ngx_cpymem(p, "Bearer ", sizeof("Bearer ") - 1);
    ngx_memcpy(p, key.data, key.len);

    return NGX_CONF_OK;
}


/* a limit of the ledger, shared by teams as their weights say */

static char *
ngx_http_llm_provider_slots(ngx_conf_t *cf, ngx_http_llm_provider_t *pr,
    ngx_str_t *value)
{
    u_char     *p;
    ngx_int_t   n;

    n = ngx_atoi(value->data + 12, value->len - 12);

    if (n < 1 || n > NGX_HTTP_LLM_CONCURRENCY) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "\"%V\": expected a number from 1 to %d", value,
                           NGX_HTTP_LLM_CONCURRENCY);
        return NGX_CONF_ERROR;
    }

    p = ngx_pnalloc(cf->pool, pr->name.len + 2);
    if (p == NULL) {
        return NGX_CONF_ERROR;
    }

    pr->limit.name.data = p;
    pr->limit.name.len = pr->name.len + 2;

    p = ngx_cpymem(p, "p:", 2);
    ngx_memcpy(p, pr->name.data, pr->name.len);

    pr->limit.hash = llm_policy_hash(&pr->limit.name);
    pr->limit.concurrency = (uint32_t) n;
    pr->limit.weight = 1;
    pr->limit.fair = 1;

    return NGX_CONF_OK;
}


ngx_http_llm_provider_t *
ngx_http_llm_provider_find(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name)
{
    ngx_uint_t                 i;
    ngx_http_llm_provider_t  **pr;

    pr = mcf->providers.elts;

    for (i = 0; i < mcf->providers.nelts; i++) {
        if (pr[i]->name.len == name->len
            && ngx_memcmp(pr[i]->name.data, name->data, name->len) == 0)
        {
            return pr[i];
        }
    }

    return NULL;
}


static ngx_uint_t
ngx_http_llm_provider_name(ngx_str_t *name)
{
    u_char  c;
    size_t  i;

    if (name->len == 0 || name->len > NGX_HTTP_LLM_PROVIDER_NAME) {
        return 0;
    }

    for (i = 0; i < name->len; i++) {
        c = name->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9')
              || c == '-' || c == '_' || c == '.'))
        {
            return 0;
        }
    }

    return 1;
}


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


/* the location that nginx will find for a URI below the prefix */

static ngx_http_core_loc_conf_t *
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
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_EMERG, cf->log, 0,
                  "llm_provider \"%V\" in %s:%ui: location \"%V\" needs %s",
                  &pr->name, pr->file, pr->line, &pr->uri, need);

    return NGX_ERROR;
}
