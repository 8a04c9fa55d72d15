
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_variables.h"


typedef enum {
    NGX_HTTP_LLM_VAR_REQUEST_ID = 0,
    NGX_HTTP_LLM_VAR_KEY,
    NGX_HTTP_LLM_VAR_TEAM,
    NGX_HTTP_LLM_VAR_MODEL,
    NGX_HTTP_LLM_VAR_PROVIDER,
    NGX_HTTP_LLM_VAR_ATTEMPTS,
    NGX_HTTP_LLM_VAR_CACHE,
    NGX_HTTP_LLM_VAR_QUEUE_MS,
    NGX_HTTP_LLM_VAR_ERROR,
    NGX_HTTP_LLM_VAR_AUTHORIZATION
} ngx_http_llm_var_e;


static ngx_int_t ngx_http_llm_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t n);
static ngx_http_llm_target_t *ngx_http_llm_variable_target(
    ngx_http_llm_ctx_t *ctx);


/* an attempt differs from the one before: nothing may be remembered */

#define NGX_HTTP_LLM_VAR  NGX_HTTP_VAR_NOCACHEABLE


static ngx_http_variable_t  ngx_http_llm_vars[] = {

    { ngx_string("llm_request_id"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_REQUEST_ID, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_key"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_KEY, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_team"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_TEAM, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_model"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_MODEL, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_provider"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_PROVIDER, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_attempts"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_ATTEMPTS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_cache"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_CACHE, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_queue_ms"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_QUEUE_MS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_error"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_ERROR, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_authorization"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_AUTHORIZATION, NGX_HTTP_LLM_VAR, 0 },

      ngx_http_null_variable
};


static ngx_str_t  ngx_http_llm_variable_cache[] = {
    ngx_string("off"),
    ngx_string("bypass"),
    ngx_string("miss"),
    ngx_string("hit"),
    ngx_string("reload")
};


ngx_int_t
ngx_http_llm_variables_add(ngx_conf_t *cf)
{
    ngx_http_variable_t  *var, *v;

    for (v = ngx_http_llm_vars; v->name.len; v++) {
        var = ngx_http_add_variable(cf, &v->name, v->flags);
        if (var == NULL) {
            return NGX_ERROR;
        }

        var->get_handler = v->get_handler;
        var->data = v->data;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    const llm_str_t        *name;
    ngx_str_t               s;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_target_t  *target;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_str_null(&s);
    target = ngx_http_llm_variable_target(ctx);

    switch (data) {

    case NGX_HTTP_LLM_VAR_REQUEST_ID:
        s = ctx->id;
        break;

    case NGX_HTTP_LLM_VAR_KEY:
    case NGX_HTTP_LLM_VAR_TEAM:
        if (ctx->key == NULL
            || (data == NGX_HTTP_LLM_VAR_TEAM && ctx->key->team == NULL))
        {
            break;
        }

        name = data == NGX_HTTP_LLM_VAR_KEY ? &ctx->key->name
                                            : &ctx->key->team->name;
        s.data = name->data;
        s.len = name->len;
        break;

    case NGX_HTTP_LLM_VAR_MODEL:
        s = ctx->model;
        break;

    case NGX_HTTP_LLM_VAR_PROVIDER:
        if (target) {
            s = target->provider->name;
        }

        break;

    case NGX_HTTP_LLM_VAR_AUTHORIZATION:

        /* for the attempt alone: no log line of a client sees it */

        if (target && r != r->main) {
            s = target->provider->authorization;
        }

        break;

    case NGX_HTTP_LLM_VAR_CACHE:
        s = ngx_http_llm_variable_cache[ctx->cache];
        break;

    case NGX_HTTP_LLM_VAR_ERROR:
        if (ctx->failed && ctx->error.code) {
            s.data = (u_char *) ctx->error.code;
            s.len = ngx_strlen(s.data);
        }

        break;

    case NGX_HTTP_LLM_VAR_ATTEMPTS:
        return ngx_http_llm_variable_number(r, v, ctx->attempts);

    case NGX_HTTP_LLM_VAR_QUEUE_MS:
        return ngx_http_llm_variable_number(r, v, ctx->queued);
    }

    if (s.len == 0 && data != NGX_HTTP_LLM_VAR_AUTHORIZATION) {
        v->not_found = 1;
        return NGX_OK;
    }

    v->data = s.data;
    v->len = s.len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t n)
{
    v->data = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (v->data == NULL) {
        return NGX_ERROR;
    }

    v->len = ngx_sprintf(v->data, "%uL", n) - v->data;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_http_llm_target_t *
ngx_http_llm_variable_target(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_target_t  *target;

    if (ctx->route == NULL || ctx->attempts == 0) {
        return NULL;
    }

    target = ctx->route->targets.elts;

    return &target[ctx->target];
}
