
/*
 * Copyright (C) the ngx-llm authors
 *
 * The configuration: its life, and the setters of the directives.
 */


#ifndef _NGX_HTTP_LLM_CONF_H_INCLUDED_
#define _NGX_HTTP_LLM_CONF_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* a parameter "name=value" of a directive, and where its value goes */

typedef enum {
    NGX_HTTP_LLM_ARG_MSEC = 0,
    NGX_HTTP_LLM_ARG_SEC,
    NGX_HTTP_LLM_ARG_SIZE,
    NGX_HTTP_LLM_ARG_NUMBER
} ngx_http_llm_arg_e;


typedef struct {
    ngx_str_t                   name;
    ngx_http_llm_arg_e          type;
    size_t                      offset;
    ngx_uint_t                  min;
    ngx_uint_t                  max;
    const char                 *expected;
} ngx_http_llm_arg_t;


/* one parameter, by the table; the table ends with a null string */
char *ngx_http_llm_arg(ngx_conf_t *cf, ngx_str_t *value,
    ngx_http_llm_arg_t *args, void *conf);

void *ngx_http_llm_create_main_conf(ngx_conf_t *cf);
void *ngx_http_llm_create_srv_conf(ngx_conf_t *cf);
void *ngx_http_llm_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_llm_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

char *ngx_http_llm_zone_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_redis_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_tenants_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_prices_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_state_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_gateway_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_cache_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_retry_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_timeout_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* a content handler: the directive's "post" */
char *ngx_http_llm_content_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_LLM_CONF_H_INCLUDED_ */
