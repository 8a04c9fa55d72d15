
/*
 * Copyright (C) the ngx-llm authors
 *
 * The admin API, /admin/v1/…, for the holder of the admin secret.
 */


#ifndef _NGX_HTTP_LLM_ADMIN_H_INCLUDED_
#define _NGX_HTTP_LLM_ADMIN_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* "llm_admin env:VAR|file:PATH": keeps the SHA-256 of the secret */
char *ngx_http_llm_admin_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

ngx_int_t ngx_http_llm_admin_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_ADMIN_H_INCLUDED_ */
