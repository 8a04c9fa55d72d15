
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_file.h"
#include "policy/ngx_http_llm_tenant.h"


struct ngx_http_llm_tenants_s {
    ngx_http_llm_file_t         file;
    ngx_http_llm_policy_t      *policy;
    void                      (*changed)(ngx_http_llm_policy_t *policy);
};


static ngx_int_t ngx_http_llm_tenants_take(ngx_http_llm_file_t *f, char *text,
    size_t size, ngx_uint_t first, char *err, size_t errlen);
static ngx_http_llm_policy_t *ngx_http_llm_tenants_policy(char *text,
    size_t size, char *err, size_t errlen, ngx_log_t *log);
static void ngx_http_llm_tenants_destroy(void *data);


ngx_http_llm_tenants_t *
ngx_http_llm_tenants_create(ngx_conf_t *cf, ngx_str_t *file)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_tenants_t  *tn;

    tn = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_tenants_t));
    if (tn == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    tn->file.directive = "llm_tenants";
    tn->file.data = tn;
    tn->file.take = ngx_http_llm_tenants_take;

    if (ngx_http_llm_file_read(&tn->file, cf, file) != NGX_OK) {
        return NULL;
    }

    cln->handler = ngx_http_llm_tenants_destroy;
    cln->data = tn;

    return tn;
}


ngx_int_t
ngx_http_llm_tenants_check(ngx_http_llm_tenants_t *tn, ngx_conf_t *cf)
{
    return ngx_http_llm_file_check(&tn->file, cf);
}


ngx_int_t
ngx_http_llm_tenants_init_process(ngx_http_llm_tenants_t *tn,
    ngx_cycle_t *cycle, void (*changed)(ngx_http_llm_policy_t *policy))
{
    tn->changed = changed;

    ngx_http_llm_file_follow(&tn->file, cycle);

    return NGX_OK;
}


ngx_http_llm_policy_t *
ngx_http_llm_tenants(ngx_http_llm_tenants_t *tn)
{
    return tn->policy;
}


static ngx_int_t
ngx_http_llm_tenants_take(ngx_http_llm_file_t *f, char *text, size_t size,
    ngx_uint_t first, char *err, size_t errlen)
{
    ngx_http_llm_tenants_t *tn = f->data;

    ngx_http_llm_policy_t  *old, *policy;

    policy = ngx_http_llm_tenants_policy(text, size, err, errlen, f->log);
    if (policy == NULL) {
        return NGX_ERROR;
    }

    old = tn->policy;
    tn->policy = policy;

    if (first) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_NOTICE, f->log, 0,
                  "llm_tenants \"%V\": %uD keys, %uD teams", &f->name,
                  (uint32_t) llm_policy_keys(policy->policy),
                  (uint32_t) llm_policy_teams(policy->policy));

    if (tn->changed) {
        tn->changed(policy);
    }

    ngx_http_llm_policy_release(old);

    return NGX_OK;
}


static ngx_http_llm_policy_t *
ngx_http_llm_tenants_policy(char *text, size_t size, char *err,
    size_t errlen, ngx_log_t *log)
{
    llm_policy_t           *p;
    ngx_http_llm_policy_t  *policy;

    p = llm_policy_parse(text, size, err, errlen);
    if (p == NULL) {
        return NULL;
    }

    policy = ngx_alloc(sizeof(ngx_http_llm_policy_t), log);
    if (policy == NULL) {
        (void) ngx_snprintf((u_char *) err, errlen, "out of memory%Z");
        llm_policy_destroy(p);
        return NULL;
    }

    policy->policy = p;
    policy->refs = 1;

    return policy;
}


static void
ngx_http_llm_tenants_destroy(void *data)
{
    ngx_http_llm_tenants_t  *tn = data;

    ngx_http_llm_policy_release(tn->policy);
}


void
ngx_http_llm_policy_release(void *data)
{
    ngx_http_llm_policy_t  *policy = data;

    if (--policy->refs) {
        return;
    }

    llm_policy_destroy(policy->policy);
    ngx_free(policy);
}
