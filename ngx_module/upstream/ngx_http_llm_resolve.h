
/*
 * Copyright (C) the ngx-llm authors
 *
 * The balancer of an upstream whose names are looked up again while nginx
 * runs ("llm_resolve"): round robin over what nginx's resolver answers.
 */


#ifndef _NGX_HTTP_LLM_RESOLVE_H_INCLUDED_
#define _NGX_HTTP_LLM_RESOLVE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* the directive llm_resolve, in an upstream block */
char *ngx_http_llm_resolve_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* in a worker: looks up all names of the cycle, now and again and again */
void ngx_http_llm_resolve_init_process(ngx_cycle_t *cycle);


#endif /* _NGX_HTTP_LLM_RESOLVE_H_INCLUDED_ */
