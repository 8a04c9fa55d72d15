
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file: read by the master, put into the shared policy before
 * any worker runs, and then followed by one worker for all.
 */


#ifndef _NGX_HTTP_LLM_TENANT_H_INCLUDED_
#define _NGX_HTTP_LLM_TENANT_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* reads the file at configuration time; NULL: an error, already logged */
ngx_http_llm_tenants_t *ngx_http_llm_tenants_create(ngx_conf_t *cf,
    ngx_str_t *file);

/*
 * Can the workers' user read the file, and has the policy's area room for
 * it?  An error is logged.  To be asked when mcf->keys_size is known.
 */
ngx_int_t ngx_http_llm_tenants_check(ngx_http_llm_main_conf_t *mcf,
    ngx_conf_t *cf);

/* what was read comes into force; in the master, once the area is there */
ngx_int_t ngx_http_llm_tenants_init_module(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);

/*
 * Follows the file, or stands ready to: a change counts when it held for two
 * polls.  "changed" is called in every worker after a change of the policy,
 * of the file or by the admin API, was seen.
 */
ngx_int_t ngx_http_llm_tenants_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle, void (*changed)(ngx_http_llm_main_conf_t *mcf));


#endif /* _NGX_HTTP_LLM_TENANT_H_INCLUDED_ */
