
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file, read by the master and followed by each worker.
 */


#ifndef _NGX_HTTP_LLM_TENANT_H_INCLUDED_
#define _NGX_HTTP_LLM_TENANT_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* an immutable picture; requests hold references */

struct ngx_http_llm_policy_s {
    llm_policy_t               *policy;
    ngx_uint_t                  refs;
};


/* reads the file at configuration time; NULL: an error, already logged */
ngx_http_llm_tenants_t *ngx_http_llm_tenants_create(ngx_conf_t *cf,
    ngx_str_t *file);

/* can the workers' user read the file? an error is logged */
ngx_int_t ngx_http_llm_tenants_check(ngx_http_llm_tenants_t *tn,
    ngx_conf_t *cf);

/*
 * Follows the file: a change counts when it held for two polls.  "changed" is
 * called after a new picture has taken the place of the old.
 */
ngx_int_t ngx_http_llm_tenants_init_process(ngx_http_llm_tenants_t *tn,
    ngx_cycle_t *cycle, void (*changed)(ngx_http_llm_policy_t *policy));

/* the present picture, without a reference; never NULL in a worker */
ngx_http_llm_policy_t *ngx_http_llm_tenants(ngx_http_llm_tenants_t *tn);

/* gives a reference back: a pool cleanup */
void ngx_http_llm_policy_release(void *data);



#endif /* _NGX_HTTP_LLM_TENANT_H_INCLUDED_ */
