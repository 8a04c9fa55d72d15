
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_parse.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_cache.h"
#include "state/ngx_http_llm_zone.h"
#include "upstream/ngx_http_llm_route.h"


/* scratch memory of the scanner: what it is lent, and what it may take */

#define NGX_HTTP_LLM_ARENA      (16 * 1024)
#define NGX_HTTP_LLM_ARENA_MAX  (16 * 1024 * 1024)


static ngx_int_t ngx_http_llm_parse_bad(ngx_http_llm_ctx_t *ctx,
    llm_request_error_t *err);
static ngx_int_t ngx_http_llm_parse_route(ngx_http_llm_ctx_t *ctx);


ngx_int_t
ngx_http_llm_parse(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t   *r;
    llm_request_error_t   err;

    /* lent until the digest is made, which is before the line waits again */
    static u_char  arena[NGX_HTTP_LLM_ARENA];

    r = ctx->request;

    if (ngx_http_llm_body(r, &ctx->body) != NGX_OK) {
        return NGX_ERROR;
    }

    ctx->arena.pos = arena;
    ctx->arena.end = arena + NGX_HTTP_LLM_ARENA;
    ctx->arena.left = NGX_HTTP_LLM_ARENA_MAX;
    ctx->arena.alloc = ngx_http_llm_arena_alloc;
    ctx->arena.data = r->pool;
    ctx->arena.failed = 0;

    if (llm_request_parse(&ctx->rq, ctx->endpoint, ctx->body.data,
                          ctx->body.len, ngx_http_llm_cache_usable(ctx),
                          &ctx->arena, &err)
        != LLM_OK)
    {
        return ctx->arena.failed ? NGX_ERROR
                                 : ngx_http_llm_parse_bad(ctx, &err);
    }

    ctx->model.data = ctx->rq.model.data;
    ctx->model.len = ctx->rq.model.len;

    if (ctx->model.data < ctx->body.data
        || ctx->model.data >= ctx->body.data + ctx->body.len)
    {
        /* it was written with escapes, and decoded into the lent memory */

        ctx->model.data = ngx_pnalloc(r->pool, ctx->model.len);
        if (ctx->model.data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(ctx->model.data, ctx->rq.model.data, ctx->model.len);
    }

    /* without it a stream's tokens could only be guessed */

    ctx->inject_usage = ctx->rq.stream && !ctx->rq.include_usage
                        && (ctx->endpoint == LLM_CHAT
                            || ctx->endpoint == LLM_COMPLETIONS);

    return ngx_http_llm_parse_route(ctx);
}


static ngx_int_t
ngx_http_llm_parse_bad(ngx_http_llm_ctx_t *ctx, llm_request_error_t *err)
{
    u_char      *p;
    const char  *more;

    (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_REQUEST,
                              "invalid_request_error", err->code, "");

    ctx->error.param = err->param;

    p = ngx_pnalloc(ctx->request->pool, sizeof(err->text) + 64);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.message.data = p;

    p = ngx_sprintf(p, "%s", err->text);

    if (err->param == NULL) {
        p = ngx_sprintf(p, " (at byte %uz of the body)", err->offset);
    }

    ctx->error.message.len = p - ctx->error.message.data;

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_BODY, ctx->key->name.data,
                              ctx->key->name.len);

    if (more) {
        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "llm: bad request of key \"%*s\": %V%s",
                      ctx->key->name.len, ctx->key->name.data,
                      &ctx->error.message, more);
    }

    return NGX_HTTP_BAD_REQUEST;
}


/* a model that the key may not use does not exist for it */

static ngx_int_t
ngx_http_llm_parse_route(ngx_http_llm_ctx_t *ctx)
{
    u_char                *p;
    ngx_http_llm_route_t  *route;

    route = ngx_http_llm_route(ctx->mcf, &ctx->model);

    if (route && llm_policy_allows(ctx->key, &ctx->rq.model)
        && ngx_http_llm_route_safe(route, &ctx->model))
    {
        ctx->route = route;
        return NGX_OK;
    }

    (void) ngx_atomic_fetch_add(
               &ctx->mcf->zone->sh->count.refused[NGX_HTTP_LLM_REFUSED_MODEL],
               1);

    (void) ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                              "invalid_request_error", "model_not_found", "");

    ctx->error.param = "model";

    p = ngx_pnalloc(ctx->request->pool, ctx->model.len + 80);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.message.data = p;
    ctx->error.message.len = ngx_sprintf(p, "The model `%V` does not exist or "
                                         "you do not have access to it.",
                                         &ctx->model)
                             - p;

    return NGX_HTTP_NOT_FOUND;
}
