
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_affinity_private.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_limit.h"

#include "core/llm_sse.h"


#define NGX_HTTP_LLM_AFFINITY_WAIT  1000          /* ms, of retry-after */

/* in front of what is a provider's path, too */

#define NGX_HTTP_LLM_AFFINITY_ROOT  (sizeof("/v1/") - 1)
#define NGX_HTTP_LLM_AFFINITY_URI   (sizeof("/v1/responses/") - 1)


static void ngx_http_llm_affinity_begin(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_affinity_route(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_affinity_refuse(ngx_http_llm_ctx_t *ctx,
    ngx_int_t why);
static ngx_int_t ngx_http_llm_affinity_previous(ngx_http_llm_ctx_t *ctx,
    const char *end);
static ngx_int_t ngx_http_llm_affinity_message(ngx_http_llm_ctx_t *ctx,
    const char *begin, const char *end);
static void ngx_http_llm_affinity_body(ngx_http_llm_ctx_t *ctx, u_char *p,
    size_t len);


ngx_int_t
ngx_http_llm_affinity(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t               rc;
    ngx_str_t              *name;
    llm_str_t              *provider;
    ngx_uint_t              i, left;
    ngx_http_llm_target_t  *target;

    if (ctx->answered
        || (ctx->affinity == NULL && ctx->rq.previous.len == 0))
    {
        return NGX_OK;
    }

    rc = ngx_http_llm_affinity_lookup(ctx, ctx->rq.previous.data,
                                      ctx->rq.previous.len);

    if (rc == NGX_AGAIN || rc == NGX_ERROR) {
        return rc;
    }

    if (rc != NGX_OK) {
        return ngx_http_llm_affinity_refuse(ctx, rc);
    }

    provider = &ctx->affinity->record.provider;
    target = ctx->route->targets.elts;
    left = 0;

    for (i = 0; i < ctx->route->targets.nelts; i++) {
        name = &target[i].provider->name;

        if (name->len == provider->len
            && ngx_memcmp(name->data, provider->data, name->len) == 0)
        {
            left++;
            continue;
        }

        ctx->barred |= 1u << i;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm affinity: targets left:%ui barred:%xD", left,
                   ctx->barred);

    if (left == 0) {
        return ngx_http_llm_affinity_previous(ctx, "' was given by a "
                                              "provider that does not serve "
                                              "this model.");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_affinity_stored(ngx_http_llm_ctx_t *ctx)
{
    u_char     *id, *p, *last;
    ngx_int_t   rc;

    if (!ctx->stored) {
        ngx_http_llm_affinity_begin(ctx);
    }

    if (!ctx->taken) {
        rc = ngx_http_llm_limit_take(ctx);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    last = ctx->request->uri.data + ctx->request->uri.len;
    id = ctx->request->uri.data + NGX_HTTP_LLM_AFFINITY_URI;

    p = ngx_strlchr(id, last, '/');

    rc = ngx_http_llm_affinity_lookup(ctx, id, (p ? p : last) - id);

    if (rc == NGX_AGAIN || rc == NGX_ERROR) {
        return rc;
    }

    return rc == NGX_OK ? ngx_http_llm_affinity_route(ctx)
                        : ngx_http_llm_affinity_refuse(ctx, rc);
}


/* a call without a body, of which nothing is known but its URI */

static void
ngx_http_llm_affinity_begin(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t            stream;
    ngx_http_request_t  *r;

    r = ctx->request;

    ctx->stored = 1;
    ctx->endpoint = LLM_RESPONSES;
    ctx->clamp = -1;

    ctx->rq.endpoint = LLM_RESPONSES;
    ctx->rq.n = 1;
    ctx->rq.max_tokens = -1;
    ctx->rq.stream = ngx_http_arg(r, (u_char *) "stream", 6, &stream) == NGX_OK
                     && stream.len == 4
                     && ngx_memcmp(stream.data, "true", 4) == 0;

    ctx->path.data = r->uri.data + NGX_HTTP_LLM_AFFINITY_ROOT;
    ctx->path.len = r->uri.len - NGX_HTTP_LLM_AFFINITY_ROOT;
}


/* one target: the provider that has it, whatever the routes say by now */

static ngx_int_t
ngx_http_llm_affinity_route(ngx_http_llm_ctx_t *ctx)
{
    ngx_uint_t                 i;
    llm_affinity_t            *record;
    ngx_http_llm_route_t      *route;
    ngx_http_llm_target_t     *target;
    ngx_http_llm_provider_t  **provider;

    record = &ctx->affinity->record;
    provider = ctx->mcf->providers.elts;

    for (i = 0; i < ctx->mcf->providers.nelts; i++) {
        if (provider[i]->name.len == record->provider.len
            && ngx_memcmp(provider[i]->name.data, record->provider.data,
                          record->provider.len)
               == 0)
        {
            break;
        }
    }

    if (i == ctx->mcf->providers.nelts) {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "llm: a response was stored by a provider that there "
                      "is no more");
        return ngx_http_llm_affinity_refuse(ctx, NGX_DECLINED);
    }

    route = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_route_t));
    target = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_target_t));

    if (route == NULL || target == NULL) {
        return NGX_ERROR;
    }

    target->provider = provider[i];
    target->name = provider[i]->name;
    target->model.data = record->model.data;
    target->model.len = record->model.len;
    target->weight = 1;

    route->targets.elts = target;
    route->targets.nelts = 1;
    route->cache_ttl = -1;

    ctx->model = target->model;
    ctx->route = route;

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_affinity_again(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_e result)
{
    return !ctx->stored || ctx->request->method == NGX_HTTP_GET
           || result == NGX_HTTP_LLM_ATTEMPT_CONNECT;
}


static ngx_int_t
ngx_http_llm_affinity_refuse(ngx_http_llm_ctx_t *ctx, ngx_int_t why)
{
    ngx_int_t  rc;

    if (why == NGX_ABORT) {
        rc = ngx_http_llm_error(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                                "server_error", "store_unavailable",
                                "It cannot be told at the moment where this "
                                "response is stored.");

        ctx->error.wait = NGX_HTTP_LLM_AFFINITY_WAIT;

        return rc;
    }

    /* what is another's is told from what never was by nothing */

    if (!ctx->stored) {
        return ngx_http_llm_affinity_previous(ctx, "' not found.");
    }

    rc = ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND, "invalid_request_error",
                            NULL, "");

    return ngx_http_llm_affinity_message(ctx, "Response with id '",
                                         "' not found.") == NGX_OK
           ? rc : NGX_ERROR;
}


/* clients know this code, and send all that was said once more */

static ngx_int_t
ngx_http_llm_affinity_previous(ngx_http_llm_ctx_t *ctx, const char *end)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_error(ctx, NGX_HTTP_BAD_REQUEST,
                            "invalid_request_error",
                            "previous_response_not_found", "");

    ctx->error.param = "previous_response_id";

    return ngx_http_llm_affinity_message(ctx, "Previous response with id '",
                                         end) == NGX_OK
           ? rc : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_affinity_message(ngx_http_llm_ctx_t *ctx, const char *begin,
    const char *end)
{
    u_char     *p;
    ngx_str_t  *id;

    id = &ctx->affinity->id;

    p = ngx_pnalloc(ctx->request->pool,
                    ngx_strlen(begin) + id->len + ngx_strlen(end));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.message.data = p;
    ctx->error.message.len = ngx_sprintf(p, "%s%V%s", begin, id, end) - p;

    return NGX_OK;
}


void
ngx_http_llm_affinity_answer(ngx_http_llm_ctx_t *ctx)
{
    if (!ctx->stored) {
        ngx_http_llm_affinity_body(ctx, ctx->answer.body.data,
                                   ctx->answer.body.len);

    } else if (ctx->request->method == NGX_HTTP_DELETE) {
        ngx_http_llm_affinity_forget(ctx);
    }
}


void
ngx_http_llm_affinity_begun(ngx_http_llm_attempt_t *at)
{
    ngx_http_llm_affinity_body(at->ctx, at->hold, at->held);
}


void
ngx_http_llm_affinity_event(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len)
{
    llm_str_t    data;
    llm_arena_t  none;

    ngx_memzero(&none, sizeof(llm_arena_t));

    if (at->ctx->endpoint == LLM_RESPONSES
        && llm_sse_data(event, len, &none, &data) == LLM_OK)
    {
        ngx_http_llm_affinity_body(at->ctx, data.data, data.len);
    }
}


static void
ngx_http_llm_affinity_body(ngx_http_llm_ctx_t *ctx, u_char *p, size_t len)
{
    llm_str_t  id;

    if (ctx->stored || ctx->endpoint != LLM_RESPONSES
        || !(ctx->rq.bypass & LLM_BYPASS_STORE))
    {
        return;
    }

    if (llm_affinity_id(p, len, &id) == LLM_OK) {
        ngx_http_llm_affinity_remember(ctx, &id);
    }
}
