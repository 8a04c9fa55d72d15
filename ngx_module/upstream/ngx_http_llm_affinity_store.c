
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is known of stored responses: here, and in a Redis that all gateways
 * share.
 */


#include "upstream/ngx_http_llm_affinity_private.h"
#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_parcel.h"
#include "state/ngx_http_llm_redis.h"

#include "core/llm_store.h"


#define NGX_HTTP_LLM_AFFINITY_SIZE     (4 * 1024 * 1024)
#define NGX_HTTP_LLM_AFFINITY_TTL      (30 * 24 * 3600)
#define NGX_HTTP_LLM_AFFINITY_TTL_S    "2592000"

/* a change of what is kept needs another number */

#define NGX_HTTP_LLM_AFFINITY_PREFIX   "{llm}:r2:"
#define NGX_HTTP_LLM_AFFINITY_KEY_LEN  (sizeof(NGX_HTTP_LLM_AFFINITY_PREFIX)  \
                                        - 1 + 2 * NGX_HTTP_LLM_MAC_LEN)


static void *ngx_http_llm_affinity_area_create(void *mem, size_t size);
static void ngx_http_llm_affinity_area_reset(void *data);
static ngx_int_t ngx_http_llm_affinity_recall(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_affinity_fetch(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_affinity_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_affinity_value(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *value);
static ngx_uint_t ngx_http_llm_affinity_owned(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_affinity_owner(ngx_http_llm_ctx_t *ctx,
    llm_str_t *owner);
static void ngx_http_llm_affinity_put(ngx_http_llm_ctx_t *ctx, u_char *name,
    u_char *p, size_t len);
static void ngx_http_llm_affinity_send(ngx_http_llm_ctx_t *ctx, u_char *name,
    u_char *p, size_t len);
static ngx_int_t ngx_http_llm_affinity_name(ngx_http_llm_ctx_t *ctx,
    u_char *id, size_t len, u_char *name);
static void ngx_http_llm_affinity_key(u_char *p, u_char *name);
static ngx_http_llm_redis_t *ngx_http_llm_affinity_redis(
    ngx_http_llm_main_conf_t *mcf);


/* of its own: neither answers nor ids are in the way of the other */

static ngx_http_llm_area_type_t  ngx_http_llm_affinity_area = {
    ngx_http_llm_affinity_area_create,
    ngx_http_llm_affinity_area_reset,
    NULL
};


ngx_int_t
ngx_http_llm_affinity_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->responses = ngx_http_llm_area_create(cf,
                                              &mcf->zone->shm_zone->shm.name,
                                              "responses",
                                              NGX_HTTP_LLM_AFFINITY_SIZE,
                                              &ngx_http_llm_affinity_area,
                                              &ngx_http_llm_module);

    return mcf->responses ? NGX_OK : NGX_ERROR;
}


static void *
ngx_http_llm_affinity_area_create(void *mem, size_t size)
{
    return llm_store_create(mem, size);
}


static void
ngx_http_llm_affinity_area_reset(void *data)
{
    llm_store_reset(data);
}


ngx_int_t
ngx_http_llm_affinity_lookup(ngx_http_llm_ctx_t *ctx, u_char *id, size_t len)
{
    ngx_http_llm_affinity_t  *af;

    af = ctx->affinity;

    if (af == NULL) {
        af = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_affinity_t));
        if (af == NULL) {
            return NGX_ERROR;
        }

        ctx->affinity = af;

        if (len == 0 || len > LLM_AFFINITY_ID) {
            return NGX_DECLINED;
        }

        /* what the parser was lent does not outlive a wait */

        af->id.data = ngx_pnalloc(ctx->request->pool, len);
        if (af->id.data == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(af->id.data, id, len);
        af->id.len = len;

        if (ngx_http_llm_affinity_name(ctx, id, len, af->name) != NGX_OK) {
            return NGX_ERROR;
        }

        if (ngx_http_llm_affinity_recall(ctx) != NGX_OK) {
            ngx_http_llm_affinity_fetch(ctx);
        }
    }

    if (ctx->op) {
        return NGX_AGAIN;
    }

    if (af->down) {
        return NGX_ABORT;
    }

    return af->found && ngx_http_llm_affinity_owned(ctx) ? NGX_OK
                                                         : NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_affinity_recall(ngx_http_llm_ctx_t *ctx)
{
    u_char                   *p;
    size_t                    len;
    llm_store_t              *st;
    ngx_http_llm_affinity_t  *af;

    af = ctx->affinity;
    p = NULL;

    st = ngx_http_llm_area_lock(ctx->mcf->responses);

    len = llm_store_find(st, af->name, (uint64_t) ngx_time());

    if (len) {
        p = ngx_pnalloc(ctx->request->pool, len);

        if (p) {
            llm_store_copy(st, af->name, p);
        }
    }

    ngx_http_llm_area_unlock(ctx->mcf->responses);

    if (p == NULL || llm_affinity_decode(&af->record, p, len) != LLM_OK) {
        return NGX_DECLINED;
    }

    af->found = 1;

    return NGX_OK;
}


static void
ngx_http_llm_affinity_fetch(ngx_http_llm_ctx_t *ctx)
{
    u_char                 key[NGX_HTTP_LLM_AFFINITY_KEY_LEN];
    ngx_str_t              argv[2];
    ngx_http_llm_redis_t  *rd;

    rd = ngx_http_llm_affinity_redis(ctx->mcf);

    if (rd == NULL) {
        return;
    }

    ngx_http_llm_affinity_key(key, ctx->affinity->name);

    ngx_str_set(&argv[0], "GET");
    argv[1].data = key;
    argv[1].len = sizeof(key);

    ctx->op = ngx_http_llm_redis_command(rd, 2, argv, 0,
                                         ngx_http_llm_affinity_reply, ctx);

    ctx->affinity->down = ctx->op == NULL;
}


static void
ngx_http_llm_affinity_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_ctx_t  *ctx = data;

    ngx_http_llm_affinity_t  *af;

    af = ctx->affinity;
    ctx->op = NULL;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_NIL:
        break;

    case NGX_HTTP_LLM_REDIS_STRING:
        af->found = ngx_http_llm_affinity_value(ctx, &reply->str) == NGX_OK;
        break;

    default:
        af->down = 1;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm affinity reply type:%ui found:%d down:%d",
                   (ngx_uint_t) reply->type, af->found, af->down);

    ctx->wake(ctx);
}


static ngx_int_t
ngx_http_llm_affinity_value(ngx_http_llm_ctx_t *ctx, ngx_str_t *value)
{
    u_char                    key[NGX_HTTP_LLM_AFFINITY_KEY_LEN];
    ngx_str_t                 about, plain;
    ngx_http_llm_parcel_e     why;
    ngx_http_llm_affinity_t  *af;

    af = ctx->affinity;

    ngx_http_llm_affinity_key(key, af->name);

    about.data = key;
    about.len = sizeof(key);
    why = NGX_HTTP_LLM_PARCEL_OK;

    if (ngx_http_llm_parcel_unpack(ctx->request->pool, ctx->mcf->secret,
                                   ctx->mcf->secret != NULL, &about, value,
                                   LLM_AFFINITY_MAX, &plain, &why)
        != NGX_OK
        || llm_affinity_decode(&af->record, plain.data, plain.len) != LLM_OK)
    {
        ngx_log_error(NGX_LOG_WARN, ctx->request->connection->log, 0,
                      "llm: what was stored of a response could not be "
                      "unpacked: %ui", (ngx_uint_t) why);
        return NGX_DECLINED;
    }

    ngx_http_llm_affinity_put(ctx, af->name, plain.data, plain.len);

    return NGX_OK;
}


static ngx_uint_t
ngx_http_llm_affinity_owned(ngx_http_llm_ctx_t *ctx)
{
    llm_str_t  me, *owner;

    ngx_http_llm_affinity_owner(ctx, &me);

    owner = &ctx->affinity->record.owner;

    return me.len == owner->len
           && ngx_memcmp(me.data, owner->data, me.len) == 0;
}


/* the team, unless its keys share nothing; "global" is about answers alone */

static void
ngx_http_llm_affinity_owner(ngx_http_llm_ctx_t *ctx, llm_str_t *owner)
{
    if (ctx->key->team == NULL
        || ctx->key->terms.cache_scope == LLM_SCOPE_KEY)
    {
        *owner = ctx->key->limit.name;
        return;
    }

    *owner = ctx->key->team->limit.name;
}


void
ngx_http_llm_affinity_remember(ngx_http_llm_ctx_t *ctx, llm_str_t *id)
{
    u_char                  name[NGX_HTTP_LLM_MAC_LEN];
    u_char                  text[LLM_AFFINITY_MAX];
    size_t                  len;
    ngx_str_t              *model;
    llm_affinity_t          record;
    ngx_http_llm_target_t  *target;

    target = ctx->attempt->target;
    model = target->model.len ? &target->model : &ctx->model;

    ngx_http_llm_affinity_owner(ctx, &record.owner);

    record.provider.data = target->provider->name.data;
    record.provider.len = target->provider->name.len;
    record.model.data = model->data;
    record.model.len = model->len;

    len = llm_affinity_size(&record);

    if (len == 0
        || ngx_http_llm_affinity_name(ctx, id->data, id->len, name) != NGX_OK)
    {
        return;
    }

    llm_affinity_encode(&record, text);

    ngx_http_llm_affinity_put(ctx, name, text, len);
    ngx_http_llm_affinity_send(ctx, name, text, len);

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm affinity: remembered with \"%V\"",
                   &target->provider->name);
}


static void
ngx_http_llm_affinity_put(ngx_http_llm_ctx_t *ctx, u_char *name, u_char *p,
    size_t len)
{
    llm_str_t     piece;
    llm_store_t  *st;

    piece.data = p;
    piece.len = len;

    st = ngx_http_llm_area_lock(ctx->mcf->responses);

    (void) llm_store_put(st, name,
                         (uint64_t) ngx_time() + NGX_HTTP_LLM_AFFINITY_TTL,
                         &piece, 1);

    ngx_http_llm_area_unlock(ctx->mcf->responses);
}


static void
ngx_http_llm_affinity_send(ngx_http_llm_ctx_t *ctx, u_char *name, u_char *p,
    size_t len)
{
    u_char                 key[NGX_HTTP_LLM_AFFINITY_KEY_LEN];
    ngx_str_t              argv[5], piece;
    ngx_http_llm_redis_t  *rd;

    rd = ngx_http_llm_affinity_redis(ctx->mcf);

    if (rd == NULL) {
        return;
    }

    ngx_http_llm_affinity_key(key, name);

    ngx_str_set(&argv[0], "SET");
    argv[1].data = key;
    argv[1].len = sizeof(key);
    ngx_str_set(&argv[3], "EX");
    ngx_str_set(&argv[4], NGX_HTTP_LLM_AFFINITY_TTL_S);

    piece.data = p;
    piece.len = len;

    if (ngx_http_llm_parcel_pack(ctx->request->pool, ctx->mcf->secret,
                                 &argv[1], &piece, 1, &argv[2])
        != NGX_OK
        || ngx_http_llm_redis_command(rd, 5, argv, 0, NULL, NULL) == NULL)
    {
        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "llm: a stored response is known to this gateway "
                      "alone");
        return;
    }

    /* its id is the client's in this very turn, who may ask another gateway */

    ngx_http_llm_redis_flush(rd);
}


void
ngx_http_llm_affinity_forget(ngx_http_llm_ctx_t *ctx)
{
    u_char                 key[NGX_HTTP_LLM_AFFINITY_KEY_LEN];
    ngx_str_t              argv[2];
    llm_store_t           *st;
    ngx_http_llm_redis_t  *rd;

    st = ngx_http_llm_area_lock(ctx->mcf->responses);

    (void) llm_store_remove(st, ctx->affinity->name);

    ngx_http_llm_area_unlock(ctx->mcf->responses);

    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm affinity: forgotten");

    rd = ngx_http_llm_affinity_redis(ctx->mcf);

    if (rd) {
        ngx_http_llm_affinity_key(key, ctx->affinity->name);

        ngx_str_set(&argv[0], "DEL");
        argv[1].data = key;
        argv[1].len = sizeof(key);

        (void) ngx_http_llm_redis_command(rd, 2, argv, 0, NULL, NULL);
    }
}


static ngx_int_t
ngx_http_llm_affinity_name(ngx_http_llm_ctx_t *ctx, u_char *id, size_t len,
    u_char *name)
{
    if (ngx_http_llm_mac_begin(ctx->mcf->secret) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_mac_update((u_char *) "response", 8);
    ngx_http_llm_mac_update(id, len);

    return ngx_http_llm_mac_end(name);
}


static void
ngx_http_llm_affinity_key(u_char *p, u_char *name)
{
    p = ngx_cpymem(p, NGX_HTTP_LLM_AFFINITY_PREFIX,
                   sizeof(NGX_HTTP_LLM_AFFINITY_PREFIX) - 1);

    (void) ngx_hex_dump(p, name, NGX_HTTP_LLM_MAC_LEN);
}


/* that of the limits: nothing of it may be given up for want of room */

static ngx_http_llm_redis_t *
ngx_http_llm_affinity_redis(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->redis ? mcf->redis : mcf->redis_cache;
}
