
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the client wishes of the cache, and the name under which the answer to
 * its request is kept.
 */


#include "policy/ngx_http_llm_cache_private.h"
#include "policy/ngx_http_llm_purge.h"
#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_secret.h"
#include "http/ngx_http_llm_id.h"


/* what goes into a name before the body is mostly less than this */

#define NGX_HTTP_LLM_CACHE_NAME  256


#define ngx_http_llm_cache_header(r, name, last)                             \
    ngx_http_llm_header_next(r, name, sizeof(name) - 1, last)


/* an update for each few bytes costs more than they do */

typedef struct {
    size_t                  used;
    u_char                  text[NGX_HTTP_LLM_CACHE_NAME];
} ngx_http_llm_cache_name_t;


static void ngx_http_llm_cache_wish(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_cache_wish_line(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *line);
static void ngx_http_llm_cache_wish_one(ngx_http_llm_ctx_t *ctx, u_char *p,
    size_t len);
static ngx_int_t ngx_http_llm_cache_digest(ngx_http_llm_ctx_t *ctx);
static uint64_t ngx_http_llm_cache_generation(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *scope, ngx_str_t *model);
static void ngx_http_llm_cache_scope(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *scope);
static void ngx_http_llm_cache_update(void *data, const u_char *p,
    size_t len);
static void ngx_http_llm_cache_add(ngx_http_llm_cache_name_t *name,
    const void *p, size_t len);
static void ngx_http_llm_cache_add_str(ngx_http_llm_cache_name_t *name,
    ngx_str_t *s);


void
ngx_http_llm_cache_name(ngx_http_llm_ctx_t *ctx)
{
    ctx->max_age = -1;
    ctx->cache = NGX_HTTP_LLM_CACHE_MISS;

    if (ctx->key->terms.cache_skip) {
        ngx_http_llm_cache_wish(ctx);
    }

    if ((ctx->rq.bypass & ctx->conf->cache_bypass)
        || ctx->no_store
        || ngx_http_llm_cache_ttl(ctx) <= 0
        || (ctx->conf->cache_zero && !ctx->rq.temperature_zero)
        || ngx_http_llm_cache_digest(ctx) != NGX_OK)
    {
        ctx->cache = NGX_HTTP_LLM_CACHE_BYPASS;
        ctx->no_store = 1;
        return;
    }

    ctx->keyed = 1;

    if (ctx->mcf->store) {
        llm_store_expect(ctx->mcf->store->sh->data, ctx->digest);
    }
}


/* Cache-Control, RFC 9111, 5.2.1 */

static void
ngx_http_llm_cache_wish(ngx_http_llm_ctx_t *ctx)
{
    ngx_table_elt_t  *h;

    for (h = ngx_http_llm_cache_header(ctx->request, "cache-control", NULL);
         h;
         h = ngx_http_llm_cache_header(ctx->request, "cache-control", h))
    {
        ngx_http_llm_cache_wish_line(ctx, &h->value);
    }
}


static void
ngx_http_llm_cache_wish_line(ngx_http_llm_ctx_t *ctx, ngx_str_t *line)
{
    u_char  *p, *last, *next;
    size_t   len;

    last = line->data + line->len;

    for (p = line->data; p < last; p = next + 1) {

        next = ngx_strlchr(p, last, ',');
        if (next == NULL) {
            next = last;
        }

        while (p < next && (*p == ' ' || *p == '\t')) {
            p++;
        }

        len = next - p;

        while (len && (p[len - 1] == ' ' || p[len - 1] == '\t')) {
            len--;
        }

        ngx_http_llm_cache_wish_one(ctx, p, len);
    }
}


static void
ngx_http_llm_cache_wish_one(ngx_http_llm_ctx_t *ctx, u_char *p, size_t len)
{
    ngx_int_t  n;

    if (len == 8 && ngx_strncasecmp(p, (u_char *) "no-store", 8) == 0) {
        ctx->no_store = 1;
        return;
    }

    if (len == 8 && ngx_strncasecmp(p, (u_char *) "no-cache", 8) == 0) {
        ctx->cache = NGX_HTTP_LLM_CACHE_RELOAD;
        return;
    }

    if (len <= 8 || ngx_strncasecmp(p, (u_char *) "max-age=", 8) != 0) {
        return;
    }

    n = ngx_atoi(p + 8, len - 8);

    if (n == 0) {
        ctx->cache = NGX_HTTP_LLM_CACHE_RELOAD;

    } else if (n != NGX_ERROR) {
        ctx->max_age = n;
    }
}


/*
 * All that the answer depends on.  A purge raises the generation of what it
 * is about: what was stored before has another name than what is looked for.
 */

static ngx_int_t
ngx_http_llm_cache_digest(ngx_http_llm_ctx_t *ctx)
{
    u_char                      c;
    uint64_t                    generation;
    ngx_str_t                   scope, *model, none;
    ngx_table_elt_t            *beta;
    ngx_http_llm_target_t      *target;
    ngx_http_llm_cache_name_t   name;

    target = ctx->route->targets.elts;
    model = target->model.len ? &target->model : &ctx->model;

    ngx_http_llm_cache_scope(ctx, &scope);

    generation = ngx_http_llm_cache_generation(ctx, &scope, model);
    beta = NULL;

    ngx_str_null(&none);

    if (ngx_http_llm_mac_begin(ctx->mcf->secret) != NGX_OK) {
        return NGX_ERROR;
    }

    c = (u_char) ctx->endpoint;
    name.used = 0;

    ngx_http_llm_cache_add(&name, &c, 1);
    ngx_http_llm_cache_add(&name, &generation, sizeof(generation));

    ngx_http_llm_cache_add_str(&name, &ctx->conf->cache_namespace);
    ngx_http_llm_cache_add_str(&name, &scope);
    ngx_http_llm_cache_add_str(&name, model);
    ngx_http_llm_cache_add_str(&name, &ctx->request->args);

    /* all lines of it, and an empty one behind them */

    do {
        beta = ngx_http_llm_cache_header(ctx->request, "openai-beta", beta);

        if (beta == NULL || beta->value.len) {
            ngx_http_llm_cache_add_str(&name, beta ? &beta->value : &none);
        }

    } while (beta);

    ngx_http_llm_mac_update(name.text, name.used);

    if (llm_request_digest(&ctx->rq, &ctx->arena, ngx_http_llm_cache_update,
                           NULL)
        != LLM_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_llm_mac_end(ctx->digest);
}


/* "k:name" or "t:name": the two cannot be mistaken for each other */

static void
ngx_http_llm_cache_scope(ngx_http_llm_ctx_t *ctx, ngx_str_t *scope)
{
    const llm_str_t  *s;

    static const llm_str_t  global = llm_string("g:");

    switch (ctx->key->terms.cache_scope) {

    case LLM_SCOPE_GLOBAL:
        s = &global;
        break;

    case LLM_SCOPE_KEY:
        s = &ctx->key->limit.name;
        break;

    default:
        s = ctx->key->team ? &ctx->key->team->limit.name
                           : &ctx->key->limit.name;
    }

    scope->data = s->data;
    scope->len = s->len;
}


/* of all that a purge may name, and that this answer is part of */

static uint64_t
ngx_http_llm_cache_generation(ngx_http_llm_ctx_t *ctx, ngx_str_t *scope,
    ngx_str_t *model)
{
    uint64_t              g, generation;
    ngx_str_t             name;
    ngx_http_llm_zone_t  *zone;

    zone = ctx->mcf->zone;

    generation = ngx_http_llm_purge_generation(zone,
                                               NGX_HTTP_LLM_PURGE_MODEL,
                                               model);

    if (ctx->conf->cache_namespace.len) {
        g = ngx_http_llm_purge_generation(zone,
                                          NGX_HTTP_LLM_PURGE_NAMESPACE,
                                          &ctx->conf->cache_namespace);
        generation = ngx_max(generation, g);
    }

    /* without its "k:" or "t:" */

    name.data = scope->data + 2;
    name.len = scope->len - 2;

    if (name.len) {
        g = ngx_http_llm_purge_generation(zone, scope->data[0] == 't'
                                                ? NGX_HTTP_LLM_PURGE_TEAM
                                                : NGX_HTTP_LLM_PURGE_KEY,
                                          &name);
        generation = ngx_max(generation, g);
    }

    return generation;
}


static void
ngx_http_llm_cache_update(void *data, const u_char *p, size_t len)
{
    ngx_http_llm_mac_update(p, len);
}


static void
ngx_http_llm_cache_add(ngx_http_llm_cache_name_t *name, const void *p,
    size_t len)
{
    if (len > NGX_HTTP_LLM_CACHE_NAME - name->used) {
        ngx_http_llm_mac_update(name->text, name->used);
        name->used = 0;

        if (len > NGX_HTTP_LLM_CACHE_NAME) {
            ngx_http_llm_mac_update(p, len);
            return;
        }
    }

    if (len) {
        ngx_memcpy(name->text + name->used, p, len);
        name->used += len;
    }
}


static void
ngx_http_llm_cache_add_str(ngx_http_llm_cache_name_t *name, ngx_str_t *s)
{
    uint32_t  n;

    n = (uint32_t) s->len;

    ngx_http_llm_cache_add(name, &n, sizeof(n));
    ngx_http_llm_cache_add(name, s->data, s->len);
}
