
/*
 * Copyright (C) the ngx-llm authors
 *
 * The providers, as configured.
 */


#ifndef _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_
#define _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_


#include "http/ngx_http_llm.h"


/*
 * llm_provider NAME uri=/prefix/[{model}/rest/] [args=QUERY]
 *     [key=env:VAR|file:PATH] [concurrency=N] [rate=Nr/m|Nr/s] [tokens=N]
 *     [adaptive=on|off] [pace=on|off] [window=on|off] [margin=N]
 *     [on_leave=cancel|drain] [include_usage=on|off]
 *
 * With one of concurrency, rate and tokens there is a limit of the ledger,
 * "p:NAME"; without any, its name is empty.
 */
char *ngx_http_llm_provider(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* by name, or NULL */
ngx_http_llm_provider_t *ngx_http_llm_provider_find(
    ngx_http_llm_main_conf_t *mcf, ngx_str_t *name);

/*
 * At postconfiguration: every server with a gateway must have, for every
 * provider, an internal location that passes on the way this module needs.
 */
ngx_int_t ngx_http_llm_provider_check(ngx_conf_t *cf);

/* the location that nginx will find for a URI below this prefix, or NULL */
ngx_http_core_loc_conf_t *ngx_http_llm_provider_location(
    ngx_http_location_tree_node_t *node, ngx_str_t *uri);


#endif /* _NGX_HTTP_LLM_PROVIDER_H_INCLUDED_ */
