
/*
 * Copyright (C) the ngx-llm authors
 *
 * The configuration: its life, and the setters of the directives.
 */


#ifndef _NGX_HTTP_LLM_CONF_H_INCLUDED_
#define _NGX_HTTP_LLM_CONF_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "http/ngx_http_llm_arg.h"


/* what a location says of attempts: retries, breaker, time, heartbeat */
void ngx_http_llm_create_attempts(ngx_http_llm_loc_conf_t *conf);
char *ngx_http_llm_merge_attempts(ngx_conf_t *cf,
    ngx_http_llm_loc_conf_t *prev, ngx_http_llm_loc_conf_t *conf);

void *ngx_http_llm_create_main_conf(ngx_conf_t *cf);
void *ngx_http_llm_create_srv_conf(ngx_conf_t *cf);
void *ngx_http_llm_create_loc_conf(ngx_conf_t *cf);
char *ngx_http_llm_merge_loc_conf(ngx_conf_t *cf, void *parent, void *child);

char *ngx_http_llm_zone_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_redis_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_redis_cache_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_secret_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_tenants_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_prices_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_state_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_internal_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_gateway_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_cache_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_bypass_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_join_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_retry_slot(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);
char *ngx_http_llm_retry_wait_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_hedge_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_breaker_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_heartbeat_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);
char *ngx_http_llm_timeout_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* a content handler: the directive's "post" */
char *ngx_http_llm_content_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);


#endif /* _NGX_HTTP_LLM_CONF_H_INCLUDED_ */
