
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_native.h"
#include "upstream/ngx_http_llm_provider.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_charge.h"

#include "core/llm_batch.h"


#define NGX_HTTP_LLM_NATIVE_URI     (sizeof("/v1/native/") - 1)
#define NGX_HTTP_LLM_NATIVE_COUNTS  4


static ngx_int_t ngx_http_llm_native_target(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_provider_t *provider);
static ngx_int_t ngx_http_llm_native_known(ngx_str_t *path);
static ngx_int_t ngx_http_llm_native_may(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_native_usage(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_native_counts(ngx_str_t *s, int64_t *n);
static void ngx_http_llm_native_header(ngx_http_llm_ctx_t *ctx,
    const char *name, ngx_str_t *value);
static ngx_int_t ngx_http_llm_native_none(ngx_http_llm_ctx_t *ctx);


ngx_int_t
ngx_http_llm_native(ngx_http_llm_ctx_t *ctx)
{
    u_char                   *p, *last;
    ngx_int_t                 rc;
    ngx_str_t                 name;
    ngx_http_request_t       *r;
    ngx_http_llm_provider_t  *provider;

    r = ctx->request;
    last = r->uri.data + r->uri.len;

    name.data = r->uri.data + NGX_HTTP_LLM_NATIVE_URI;

    p = ngx_strlchr(name.data, last, '/');
    if (p == NULL) {
        return ngx_http_llm_native_none(ctx);
    }

    name.len = p - name.data;

    provider = ngx_http_llm_provider_find(ctx->mcf, &name);

    if (provider == NULL) {
        return ngx_http_llm_native_none(ctx);
    }

    ctx->path.data = p + 1;
    ctx->path.len = last - p - 1;

    if (ngx_http_llm_native_target(ctx, provider) != NGX_OK) {
        return NGX_ERROR;
    }

    if (r->method == NGX_HTTP_POST && ctx->path.len == 5
        && ngx_memcmp(ctx->path.data, "usage", 5) == 0)
    {
        return ngx_http_llm_native_usage(ctx);
    }

    if (ngx_http_llm_native_known(&ctx->path) != NGX_OK) {
        return ngx_http_llm_native_none(ctx);
    }

    rc = ngx_http_llm_native_may(ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    if (r->method == NGX_HTTP_POST) {

        if (ngx_http_llm_body(r, &ctx->body) != NGX_OK) {
            return NGX_ERROR;
        }

        ctx->rq.body.data = ctx->body.data;
        ctx->rq.body.len = ctx->body.len;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm native: \"%V\" of provider \"%V\"", &ctx->path,
                   &provider->name);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_native_target(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_provider_t *provider)
{
    ngx_pool_t             *pool;
    ngx_http_llm_route_t   *route;
    ngx_http_llm_target_t  *target;

    pool = ctx->request->pool;

    route = ngx_pcalloc(pool, sizeof(ngx_http_llm_route_t));
    target = ngx_pcalloc(pool, sizeof(ngx_http_llm_target_t));

    if (route == NULL || target == NULL) {
        return NGX_ERROR;
    }

    target->provider = provider;
    target->name = provider->name;
    target->weight = 1;

    route->targets.elts = target;
    route->targets.nelts = 1;
    route->cache_ttl = -1;
    route->literal = 1;

    /* nothing of it may be done twice, as with stored responses */

    ctx->stored = 1;
    ctx->native = 1;
    ctx->clamp = -1;
    ctx->rq.n = 1;
    ctx->rq.max_tokens = -1;
    ctx->route = route;

    ngx_http_llm_native_header(ctx, "x-llm-model", &ctx->model);

    return NGX_OK;
}


/* files…, batches…: what is behind them is the provider's */

static ngx_int_t
ngx_http_llm_native_known(ngx_str_t *path)
{
    size_t      len;
    ngx_str_t  *name;

    static ngx_str_t  known[] = {
        ngx_string("files"),
        ngx_string("batches"),
        ngx_null_string
    };

    for (name = known; name->len; name++) {
        len = name->len;

        if (path->len >= len && ngx_memcmp(path->data, name->data, len) == 0
            && (path->len == len || path->data[len] == '/'))
        {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


/* what begins something needs the model, and money that is left */

static ngx_int_t
ngx_http_llm_native_may(ngx_http_llm_ctx_t *ctx)
{
    llm_now_t             now;
    llm_str_t             model;
    llm_owners_t          wake;
    llm_reading_t         rd;
    ngx_http_llm_zone_t  *zone;

    if (ctx->request->method != NGX_HTTP_POST
        || ngx_strlchr(ctx->path.data, ctx->path.data + ctx->path.len, '/'))
    {
        return NGX_OK;
    }

    model.data = ctx->model.data;
    model.len = ctx->model.len;

    if (!llm_policy_allows(ctx->key, &model)) {
        return ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                                  "invalid_request_error", "model_not_found",
                                  "The model does not exist or you do not "
                                  "have access to it.");
    }

    zone = ctx->mcf->zone;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);
    llm_ledger_peek(zone->sh->ledger, &ctx->limits, &now, &rd);
    ngx_http_llm_zone_unlock(zone, &wake);

    if (rd.money_left <= 0) {
        return ngx_http_llm_error(ctx, NGX_HTTP_TOO_MANY_REQUESTS,
                                  "insufficient_quota", "insufficient_quota",
                                  "The budget of this key or its team is "
                                  "spent.");
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_native_usage(ngx_http_llm_ctx_t *ctx)
{
    int64_t                 n[NGX_HTTP_LLM_NATIVE_COUNTS];
    ngx_str_t               counts, url;
    llm_str_t               path;
    llm_endpoint_e          endpoint;
    ngx_http_llm_target_t  *target;

    /* of what is sent on nothing has a model's name to be changed */

    target = ctx->route->targets.elts;

    ngx_http_llm_native_header(ctx, "x-llm-target", &target->model);
    ngx_http_llm_native_header(ctx, "x-llm-usage", &counts);
    ngx_http_llm_native_header(ctx, "x-llm-endpoint", &url);

    path.data = url.data;
    path.len = url.len;

    if (ngx_http_llm_native_counts(&counts, n) != NGX_OK
        || llm_batch_endpoint(&path, &endpoint) != LLM_OK)
    {
        return ngx_http_llm_error(ctx, NGX_HTTP_BAD_REQUEST,
                                  "invalid_request_error", NULL,
                                  "An endpoint and four numbers of tokens "
                                  "were expected.");
    }

    /* from here on it is a call like any other, for accounts and logs */

    ctx->endpoint = endpoint;
    ctx->rq.endpoint = endpoint;
    ctx->attempts = 1;

    ctx->usage.prompt_tokens = n[0];
    ctx->usage.cached_tokens = ngx_min(n[1], n[0]);
    ctx->usage.completion_tokens = n[2];
    ctx->usage.reasoning_tokens = ngx_min(n[3], n[2]);
    ctx->usage.total_tokens = n[0] + n[2];

    ngx_http_llm_charge_batch(ctx);

    ngx_str_set(&ctx->answer.content_type, "application/json");
    ngx_str_set(&ctx->answer.body, "{\"object\":\"usage\"}");

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.from = NULL;
    ctx->answered = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_native_counts(ngx_str_t *s, int64_t *n)
{
    off_t        value;
    u_char      *p, *last, *end;
    ngx_uint_t   i;

    p = s->data;
    last = p + s->len;

    for (i = 0; i < NGX_HTTP_LLM_NATIVE_COUNTS; i++) {

        if (p >= last) {
            return NGX_DECLINED;
        }

        end = ngx_strlchr(p, last, ' ');
        end = end ? end : last;

        value = ngx_atoof(p, end - p);
        if (value == NGX_ERROR) {
            return NGX_DECLINED;
        }

        n[i] = value;
        p = end + 1;
    }

    return NGX_OK;
}


static void
ngx_http_llm_native_header(ngx_http_llm_ctx_t *ctx, const char *name,
    ngx_str_t *value)
{
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(ctx->request, name, ngx_strlen(name));

    if (h) {
        *value = h->value;

    } else {
        ngx_str_null(value);
    }
}


static ngx_int_t
ngx_http_llm_native_none(ngx_http_llm_ctx_t *ctx)
{
    return ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                              "invalid_request_error", NULL,
                              "There is no such provider or path.");
}
