
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_variables.h"
#include "http/ngx_http_llm_id.h"


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
    NGX_HTTP_LLM_VAR_PROMPT_TOKENS,
    NGX_HTTP_LLM_VAR_CACHED_TOKENS,
    NGX_HTTP_LLM_VAR_COMPLETION_TOKENS,
    NGX_HTTP_LLM_VAR_REASONING_TOKENS,
    NGX_HTTP_LLM_VAR_COST,
    NGX_HTTP_LLM_VAR_SAVED_TOKENS,
    NGX_HTTP_LLM_VAR_SAVED_COST,
    NGX_HTTP_LLM_VAR_AUTHORIZATION,
    NGX_HTTP_LLM_VAR_PROVIDER_KEY,
    NGX_HTTP_LLM_VAR_ENDPOINT,
    NGX_HTTP_LLM_VAR_STREAM,
    NGX_HTTP_LLM_VAR_TTFT_MS,
    NGX_HTTP_LLM_VAR_UPSTREAM_MS,
    NGX_HTTP_LLM_VAR_CACHE_MS,
    NGX_HTTP_LLM_VAR_TRACE_ID,
    NGX_HTTP_LLM_VAR_SPAN_ID
} ngx_http_llm_var_e;


static ngx_int_t ngx_http_llm_variable(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_figure(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_secret(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_more(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_trace(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data);
static void ngx_http_llm_variable_tenant(ngx_http_llm_ctx_t *ctx,
    uintptr_t data, ngx_str_t *s);
static ngx_int_t ngx_http_llm_variable_text(ngx_http_variable_value_t *v,
    u_char *p, size_t len);
static ngx_int_t ngx_http_llm_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t n);
static ngx_int_t ngx_http_llm_variable_dollars(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, int64_t micro);
static ngx_int_t ngx_http_llm_variable_saved(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_int_t ngx_http_llm_variable_charged(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data);
static ngx_http_llm_target_t *ngx_http_llm_variable_target(
    ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx);


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

    { ngx_string("llm_attempts"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_ATTEMPTS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_cache"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_CACHE, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_queue_ms"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_QUEUE_MS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_error"), NULL, ngx_http_llm_variable,
      NGX_HTTP_LLM_VAR_ERROR, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_prompt_tokens"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_PROMPT_TOKENS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_cached_tokens"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_CACHED_TOKENS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_completion_tokens"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_COMPLETION_TOKENS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_reasoning_tokens"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_REASONING_TOKENS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_cost_usd"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_COST, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_saved_tokens"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_SAVED_TOKENS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_saved_usd"), NULL, ngx_http_llm_variable_figure,
      NGX_HTTP_LLM_VAR_SAVED_COST, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_authorization"), NULL, ngx_http_llm_variable_secret,
      NGX_HTTP_LLM_VAR_AUTHORIZATION, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_provider_key"), NULL, ngx_http_llm_variable_secret,
      NGX_HTTP_LLM_VAR_PROVIDER_KEY, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_endpoint"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_ENDPOINT, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_stream"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_STREAM, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_ttft_ms"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_TTFT_MS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_upstream_ms"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_UPSTREAM_MS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_cache_ms"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_CACHE_MS, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_trace_id"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_TRACE_ID, NGX_HTTP_LLM_VAR, 0 },

    { ngx_string("llm_span_id"), NULL, ngx_http_llm_variable_more,
      NGX_HTTP_LLM_VAR_SPAN_ID, NGX_HTTP_LLM_VAR, 0 },

      ngx_http_null_variable
};


/* by ctx->api: the calls, and what is none */

static ngx_str_t  ngx_http_llm_variable_endpoint[] = {
    ngx_string("chat_completions"),
    ngx_string("completions"),
    ngx_string("embeddings"),
    ngx_string("responses"),
    ngx_string("models"),
    ngx_string("streams"),
    ngx_string("compare"),
    ngx_string("stored_responses"),
    ngx_string("tasks"),
    ngx_string("batches"),
    ngx_string("files"),
    ngx_string("files")
};


static ngx_str_t  ngx_http_llm_variable_cache[] = {
    ngx_string("off"),
    ngx_string("bypass"),
    ngx_string("miss"),
    ngx_string("hit"),
    ngx_string("reload"),
    ngx_string("stale"),
    ngx_string("joined")
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


/* what is called by a name */

static ngx_int_t
ngx_http_llm_variable(ngx_http_request_t *r, ngx_http_variable_value_t *v,
    uintptr_t data)
{
    ngx_str_t               s;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_target_t  *target;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_str_null(&s);

    switch (data) {

    case NGX_HTTP_LLM_VAR_REQUEST_ID:
        s = ctx->id;
        break;

    case NGX_HTTP_LLM_VAR_KEY:
    case NGX_HTTP_LLM_VAR_TEAM:
        ngx_http_llm_variable_tenant(ctx, data, &s);
        break;

    case NGX_HTTP_LLM_VAR_MODEL:
        s = ctx->model;
        break;

    case NGX_HTTP_LLM_VAR_PROVIDER:
        target = ngx_http_llm_variable_target(r, ctx);

        if (target) {
            s = target->provider->name;
        }

        break;

    case NGX_HTTP_LLM_VAR_CACHE:
        s = ngx_http_llm_variable_cache[ctx->cache];
        break;

    default:  /* NGX_HTTP_LLM_VAR_ERROR */
        if (ctx->failed && ctx->error.code) {
            s.data = (u_char *) ctx->error.code;
            s.len = ngx_strlen(s.data);

        } else if (ctx->gone && !ctx->failed) {
            ngx_str_set(&s, "client_closed");
        }
    }

    if (s.len == 0) {
        v->not_found = 1;
        return NGX_OK;
    }

    return ngx_http_llm_variable_text(v, s.data, s.len);
}


/* what is counted, and what was charged or saved */

static ngx_int_t
ngx_http_llm_variable_figure(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    switch (data) {

    case NGX_HTTP_LLM_VAR_ATTEMPTS:
        return ngx_http_llm_variable_number(r, v, ctx->attempts);

    case NGX_HTTP_LLM_VAR_QUEUE_MS:
        return ngx_http_llm_variable_number(r, v, ctx->queued);

    case NGX_HTTP_LLM_VAR_SAVED_TOKENS:
    case NGX_HTTP_LLM_VAR_SAVED_COST:
        return ngx_http_llm_variable_saved(ctx, v, data);

    default:
        return ngx_http_llm_variable_charged(ctx, v, data);
    }
}


/* for the attempt alone: no log line of a client sees it */

static ngx_int_t
ngx_http_llm_variable_secret(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t               s;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_target_t  *target;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    if (ctx == NULL) {
        v->not_found = 1;
        return NGX_OK;
    }

    ngx_str_null(&s);
    target = ngx_http_llm_variable_target(r, ctx);

    if (target && r != r->main) {
        s = data == NGX_HTTP_LLM_VAR_AUTHORIZATION
            ? target->provider->authorization : target->provider->key;
    }

    return ngx_http_llm_variable_text(v, s.data, s.len);
}


/* what kind of request it is, where its time went, and its trace */

static ngx_int_t
ngx_http_llm_variable_more(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    ngx_str_t           *s;
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    /* what never became a call has no configuration */

    if (ctx && ctx->mcf) {

        switch (data) {

        case NGX_HTTP_LLM_VAR_ENDPOINT:
            s = &ngx_http_llm_variable_endpoint[ctx->api];
            return ngx_http_llm_variable_text(v, s->data, s->len);

        case NGX_HTTP_LLM_VAR_STREAM:
            return ngx_http_llm_variable_number(r, v, ctx->rq.stream);

        case NGX_HTTP_LLM_VAR_TTFT_MS:
            if (ctx->headed) {
                return ngx_http_llm_variable_number(r, v, ctx->ttft);
            }

            break;

        case NGX_HTTP_LLM_VAR_UPSTREAM_MS:
            if (ctx->attempts) {
                return ngx_http_llm_variable_number(r, v, ctx->ask_ms);
            }

            break;

        case NGX_HTTP_LLM_VAR_CACHE_MS:
            if (ctx->looking) {
                return ngx_http_llm_variable_number(r, v,
                           ctx->looked ? ctx->look_ms
                           : ngx_current_msec - ctx->look_since);
            }

            break;

        default:
            return ngx_http_llm_variable_trace(ctx, v, data);
        }
    }

    v->not_found = 1;

    return NGX_OK;
}


/* without llm_trace it is the client's alone, and only read when asked for */

static ngx_int_t
ngx_http_llm_variable_trace(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    llm_trace_t      *tr;
    ngx_table_elt_t  *h;

    tr = &ctx->trace;

    if (!tr->made && !tr->known) {

        h = ngx_http_llm_header_in(ctx->request, "traceparent",
                                   sizeof("traceparent") - 1);
        if (h) {
            (void) llm_trace_parse(tr, h->value.data, h->value.len);
        }
    }

    if (data == NGX_HTTP_LLM_VAR_TRACE_ID && (tr->made || tr->known)) {
        return ngx_http_llm_variable_text(v, tr->trace, LLM_TRACE_ID_LEN);
    }

    if (data == NGX_HTTP_LLM_VAR_SPAN_ID && tr->made) {
        return ngx_http_llm_variable_text(v, tr->span, LLM_SPAN_ID_LEN);
    }

    v->not_found = 1;

    return NGX_OK;
}


static void
ngx_http_llm_variable_tenant(ngx_http_llm_ctx_t *ctx, uintptr_t data,
    ngx_str_t *s)
{
    const llm_str_t  *name;

    if (ctx->key == NULL
        || (data == NGX_HTTP_LLM_VAR_TEAM && ctx->key->team == NULL))
    {
        return;
    }

    name = data == NGX_HTTP_LLM_VAR_KEY ? &ctx->key->name
                                        : &ctx->key->team->name;
    s->data = name->data;
    s->len = name->len;
}


static ngx_int_t
ngx_http_llm_variable_text(ngx_http_variable_value_t *v, u_char *p,
    size_t len)
{
    v->data = p;
    v->len = len;
    v->valid = 1;
    v->no_cacheable = 1;
    v->not_found = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_variable_number(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, uint64_t n)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_llm_variable_text(v, p, ngx_sprintf(p, "%uL", n) - p);
}


static ngx_int_t
ngx_http_llm_variable_dollars(ngx_http_request_t *r,
    ngx_http_variable_value_t *v, int64_t micro)
{
    u_char  *p;

    p = ngx_pnalloc(r->pool, NGX_INT64_LEN + 8);
    if (p == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_llm_variable_text(v, p,
                                      ngx_sprintf(p, "%L.%06L",
                                                  micro / 1000000,
                                                  micro % 1000000)
                                      - p);
}


/* empty where nothing was saved: sums go over what is there */

static ngx_int_t
ngx_http_llm_variable_saved(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    if (data == NGX_HTTP_LLM_VAR_SAVED_TOKENS && ctx->saved_tokens > 0) {
        return ngx_http_llm_variable_number(ctx->request, v,
                                            ctx->saved_tokens);
    }

    if (data == NGX_HTTP_LLM_VAR_SAVED_COST && ctx->saved_cost > 0) {
        return ngx_http_llm_variable_dollars(ctx->request, v,
                                             ctx->saved_cost);
    }

    v->not_found = 1;

    return NGX_OK;
}


/* what was charged, once it is settled */

static ngx_int_t
ngx_http_llm_variable_charged(ngx_http_llm_ctx_t *ctx,
    ngx_http_variable_value_t *v, uintptr_t data)
{
    if (!ctx->charged) {
        v->not_found = 1;
        return NGX_OK;
    }

    switch (data) {

    case NGX_HTTP_LLM_VAR_PROMPT_TOKENS:
        return ngx_http_llm_variable_number(ctx->request, v,
                                            ctx->usage.prompt_tokens);

    case NGX_HTTP_LLM_VAR_CACHED_TOKENS:
        return ngx_http_llm_variable_number(ctx->request, v,
                                            ctx->usage.cached_tokens);

    case NGX_HTTP_LLM_VAR_COMPLETION_TOKENS:
        return ngx_http_llm_variable_number(ctx->request, v,
                                            ctx->usage.completion_tokens);

    case NGX_HTTP_LLM_VAR_REASONING_TOKENS:
        return ngx_http_llm_variable_number(ctx->request, v,
                                   ngx_max(ctx->usage.reasoning_tokens, 0));
    }

    return ngx_http_llm_variable_dollars(ctx->request, v, ctx->cost);
}


static ngx_http_llm_target_t *
ngx_http_llm_variable_target(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_target_t  *target;

    if (ctx->route == NULL || ctx->attempts == 0) {
        return NULL;
    }

    target = ctx->route->targets.elts;

    /* of two attempts each gets its own provider's key */

    for ( /* void */ ; ctx->beside && r != r->main; r = r->parent) {
        if (r == ctx->beside) {
            return &target[ctx->beside_target];
        }
    }

    return &target[ctx->target];
}
