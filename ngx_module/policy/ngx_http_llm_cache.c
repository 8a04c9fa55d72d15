
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_cache.h"
#include "http/ngx_http_llm_id.h"
#include "state/ngx_http_llm_zone.h"
#include "state/ngx_http_llm_redis.h"

#include "core/llm_backoff.h"

#include <openssl/evp.h>


/* a change of what is digested, or how, needs another number */

#define NGX_HTTP_LLM_CACHE_VERSION  "1"
#define NGX_HTTP_LLM_CACHE_PREFIX   "llm:c" NGX_HTTP_LLM_CACHE_VERSION ":"
#define NGX_HTTP_LLM_CACHE_KEY_LEN  (sizeof(NGX_HTTP_LLM_CACHE_PREFIX) - 1    \
                                     + 2 * NGX_HTTP_LLM_DIGEST_LEN)


static void ngx_http_llm_cache_wish(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_cache_digest(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_cache_update(void *data, const u_char *p,
    size_t len);
static void ngx_http_llm_cache_update_str(const u_char *p, size_t len);
static void ngx_http_llm_cache_key(ngx_http_llm_ctx_t *ctx, u_char *key);
static void ngx_http_llm_cache_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_cache_hit(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *value);
static time_t ngx_http_llm_cache_ttl(ngx_http_llm_ctx_t *ctx);


static EVP_MD      *ngx_http_llm_cache_md;
static EVP_MD_CTX  *ngx_http_llm_cache_ctx;


ngx_int_t
ngx_http_llm_cache_init_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_cache_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    ngx_http_llm_cache_ctx = EVP_MD_CTX_new();

    if (ngx_http_llm_cache_md == NULL || ngx_http_llm_cache_ctx == NULL) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "no SHA-256 in OpenSSL");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_cache_usable(ngx_http_llm_ctx_t *ctx)
{
    return ctx->conf->cache && ctx->mcf->redis;
}


ngx_int_t
ngx_http_llm_cache_lookup(ngx_http_llm_ctx_t *ctx)
{
    u_char     key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t  argv[2];

    ctx->max_age = -1;
    ctx->cache = NGX_HTTP_LLM_CACHE_MISS;

    ngx_http_llm_cache_wish(ctx);

    if (ctx->rq.stateful || ctx->rq.stream || ctx->no_store
        || ngx_http_llm_cache_ttl(ctx) <= 0
        || (ctx->conf->cache_zero && !ctx->rq.temperature_zero))
    {
        ctx->cache = NGX_HTTP_LLM_CACHE_BYPASS;
        ctx->no_store = 1;
        return NGX_OK;
    }

    if (ngx_http_llm_cache_digest(ctx) != NGX_OK) {
        ctx->cache = NGX_HTTP_LLM_CACHE_BYPASS;
        ctx->no_store = 1;
        return NGX_OK;
    }

    if (ctx->cache == NGX_HTTP_LLM_CACHE_RELOAD) {
        return NGX_OK;
    }

    ngx_http_llm_cache_key(ctx, key);

    ngx_str_set(&argv[0], "GET");
    argv[1].data = key;
    argv[1].len = sizeof(key);

    ctx->op = ngx_http_llm_redis_command(ctx->mcf->redis, 2, argv, 0,
                                         ngx_http_llm_cache_reply, ctx);

    return ctx->op ? NGX_AGAIN : NGX_OK;
}


/* what the client says in Cache-Control, RFC 9111, 5.2.1 */

static void
ngx_http_llm_cache_wish(ngx_http_llm_ctx_t *ctx)
{
    u_char           *p, *last, *next;
    size_t            len;
    ngx_int_t         n;
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(ctx->request, "cache-control",
                               sizeof("cache-control") - 1);
    if (h == NULL) {
        return;
    }

    last = h->value.data + h->value.len;

    for (p = h->value.data; p < last; p = next + 1) {

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

        if (len == 8 && ngx_strncasecmp(p, (u_char *) "no-store", 8) == 0) {
            ctx->no_store = 1;

        } else if (len == 8
                   && ngx_strncasecmp(p, (u_char *) "no-cache", 8) == 0)
        {
            ctx->cache = NGX_HTTP_LLM_CACHE_RELOAD;

        } else if (len > 8
                   && ngx_strncasecmp(p, (u_char *) "max-age=", 8) == 0)
        {
            n = ngx_atoi(p + 8, len - 8);

            if (n == 0) {
                ctx->cache = NGX_HTTP_LLM_CACHE_RELOAD;

            } else if (n != NGX_ERROR) {
                ctx->max_age = n;
            }
        }
    }
}


static ngx_int_t
ngx_http_llm_cache_digest(ngx_http_llm_ctx_t *ctx)
{
    u_char                  c;
    unsigned                len;
    ngx_str_t              *model;
    const llm_str_t        *scope;
    ngx_http_llm_target_t  *target;

    static const llm_str_t  global = llm_string("g:");

    target = ctx->route->targets.elts;
    model = target->model.len ? &target->model : &ctx->model;

    /* "k:name" or "t:name": the two cannot be mistaken for each other */

    switch (ctx->key->terms.cache_scope) {

    case LLM_SCOPE_GLOBAL:
        scope = &global;
        break;

    case LLM_SCOPE_KEY:
        scope = &ctx->key->limit.name;
        break;

    default:
        scope = ctx->key->team ? &ctx->key->team->limit.name
                               : &ctx->key->limit.name;
    }

    if (EVP_DigestInit_ex(ngx_http_llm_cache_ctx, ngx_http_llm_cache_md, NULL)
        != 1)
    {
        return NGX_ERROR;
    }

    c = (u_char) ctx->endpoint;
    ngx_http_llm_cache_update(NULL, &c, 1);

    ngx_http_llm_cache_update_str(scope->data, scope->len);
    ngx_http_llm_cache_update_str(model->data, model->len);

    if (llm_request_digest(&ctx->rq, &ctx->arena, ngx_http_llm_cache_update,
                           NULL)
        != LLM_OK)
    {
        return NGX_ERROR;
    }

    if (EVP_DigestFinal_ex(ngx_http_llm_cache_ctx, ctx->digest, &len) != 1) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_cache_update(void *data, const u_char *p, size_t len)
{
    (void) EVP_DigestUpdate(ngx_http_llm_cache_ctx, p, len);
}


static void
ngx_http_llm_cache_update_str(const u_char *p, size_t len)
{
    uint32_t  n;

    n = (uint32_t) len;

    (void) EVP_DigestUpdate(ngx_http_llm_cache_ctx, &n, sizeof(n));
    (void) EVP_DigestUpdate(ngx_http_llm_cache_ctx, p, len);
}


static void
ngx_http_llm_cache_key(ngx_http_llm_ctx_t *ctx, u_char *key)
{
    key = ngx_cpymem(key, NGX_HTTP_LLM_CACHE_PREFIX,
                     sizeof(NGX_HTTP_LLM_CACHE_PREFIX) - 1);

    ngx_hex_dump(key, ctx->digest, NGX_HTTP_LLM_DIGEST_LEN);
}


static void
ngx_http_llm_cache_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_ctx_t  *ctx = data;

    ctx->op = NULL;

    if (reply->type == NGX_HTTP_LLM_REDIS_STRING
        && ngx_http_llm_cache_hit(ctx, &reply->str) == NGX_OK)
    {
        ctx->cache = NGX_HTTP_LLM_CACHE_HIT;
        ctx->answered = 1;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm cache reply type:%ui hit:%d",
                   (ngx_uint_t) reply->type, ctx->answered);

    ctx->wake(ctx);
}


static ngx_int_t
ngx_http_llm_cache_hit(ngx_http_llm_ctx_t *ctx, ngx_str_t *value)
{
    u_char       *p;
    time_t        age;
    llm_entry_t  *e;

    p = ngx_pnalloc(ctx->request->pool, value->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, value->data, value->len);

    e = &ctx->entry;

    if (llm_entry_decode(e, p, value->len) != LLM_OK) {
        return NGX_DECLINED;
    }

    age = ngx_time() - (time_t) e->created;

    if (age >= (time_t) e->ttl || (ctx->max_age >= 0 && age > ctx->max_age)) {
        return NGX_DECLINED;
    }

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.content_type.data = e->content_type.data;
    ctx->answer.content_type.len = e->content_type.len;
    ctx->answer.body.data = e->body.data;
    ctx->answer.body.len = e->body.len;
    ctx->answer.from = NULL;

    return NGX_OK;
}


void
ngx_http_llm_cache_store(ngx_http_llm_ctx_t *ctx, llm_usage_t *usage)
{
    u_char                 *p, key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    u_char                  ttl[NGX_TIME_T_LEN];
    time_t                  sec;
    ngx_str_t               argv[5];
    llm_entry_t             e;
    ngx_http_llm_target_t  *target;

    if (ctx->no_store || ctx->cache == NGX_HTTP_LLM_CACHE_OFF
        || ctx->cache == NGX_HTTP_LLM_CACHE_BYPASS
        || ctx->answer.body.len > ctx->conf->cache_max)
    {
        return;
    }

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    /* entries made together should not all end together */

    sec = ngx_http_llm_cache_ttl(ctx);
    sec = sec - (time_t) llm_backoff_delay(sec / 10, sec / 10, 0,
                                           ngx_http_llm_random());
    sec = ngx_max(sec, 1);

    ngx_memzero(&e, sizeof(llm_entry_t));

    e.created = ngx_time();
    e.ttl = (uint32_t) sec;
    e.usage = *usage;
    e.content_type.data = ctx->answer.content_type.data;
    e.content_type.len = ctx->answer.content_type.len;
    e.provider.data = target->provider->name.data;
    e.provider.len = target->provider->name.len;
    e.model.data = target->model.len ? target->model.data : ctx->model.data;
    e.model.len = target->model.len ? target->model.len : ctx->model.len;
    e.body.data = ctx->answer.body.data;
    e.body.len = ctx->answer.body.len;

    argv[2].len = llm_entry_head_size(&e) + e.body.len;

    argv[2].data = ngx_alloc(argv[2].len, ctx->request->connection->log);
    if (argv[2].data == NULL) {
        return;
    }

    p = llm_entry_encode_head(&e, argv[2].data);
    ngx_memcpy(p, e.body.data, e.body.len);

    ngx_http_llm_cache_key(ctx, key);

    ngx_str_set(&argv[0], "SET");
    argv[1].data = key;
    argv[1].len = sizeof(key);
    ngx_str_set(&argv[3], "EX");
    argv[4].data = ttl;
    argv[4].len = ngx_sprintf(ttl, "%T", sec) - ttl;

    if (ngx_http_llm_redis_command(ctx->mcf->redis, 5, argv, 0, NULL, NULL)) {
        (void) ngx_atomic_fetch_add(&ctx->mcf->zone->sh->count.stored, 1);
    }

    ngx_free(argv[2].data);
}


void
ngx_http_llm_cache_cancel(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->op) {
        ngx_http_llm_redis_detach(ctx->op);
        ctx->op = NULL;
    }
}


static time_t
ngx_http_llm_cache_ttl(ngx_http_llm_ctx_t *ctx)
{
    return ctx->key->terms.cache_ttl >= 0
           ? (time_t) ctx->key->terms.cache_ttl : ctx->conf->cache_ttl;
}
