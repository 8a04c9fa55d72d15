
/*
 * Copyright (C) the ngx-llm authors
 *
 * The cache in Redis: one command to look up, one to store, whatever else has
 * to be said goes with them.
 */


#include "policy/ngx_http_llm_cache_private.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_purge.h"
#include "state/ngx_http_llm_parcel.h"
#include "state/ngx_http_llm_zone.h"


/* what an entry may come to when it is unpacked: the body and its head */

#define NGX_HTTP_LLM_CACHE_UNPACK  (2 * 1024 * 1024)


static void ngx_http_llm_cache_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_cache_value(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *value);
static void ngx_http_llm_cache_lease(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_redis_script_t *script, u_char *name, ngx_str_t *holder);
static ngx_http_llm_secret_t *ngx_http_llm_cache_secret(
    ngx_http_llm_ctx_t *ctx);


/*
 * The answer; or 1: it is the caller's to make, for as long as it says so
 * again; or, in a list, who makes it.
 */

static ngx_str_t  ngx_http_llm_cache_fetch_lua = ngx_string(
    "local v = redis.call('GET', KEYS[1])\n"
    "if v then return v end\n"
    "if redis.call('SET', KEYS[2], ARGV[1], 'NX', 'PX', ARGV[2]) then\n"
    "    return 1\n"
    "end\n"
    "return { redis.call('GET', KEYS[2]) or '' }\n"
);

/* a Redis that is full must not keep the lock */

static ngx_str_t  ngx_http_llm_cache_store_lua = ngx_string(
    "local r = redis.pcall('SET', KEYS[1], ARGV[1], 'EX', ARGV[2])\n"
    "if redis.call('GET', KEYS[2]) == ARGV[3] then\n"
    "    redis.call('DEL', KEYS[2])\n"
    "end\n"
    "return r\n"
);

static ngx_str_t  ngx_http_llm_cache_release_lua = ngx_string(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then\n"
    "    return redis.call('DEL', KEYS[1])\n"
    "end\n"
    "return 0\n"
);

static ngx_str_t  ngx_http_llm_cache_renew_lua = ngx_string(
    "if redis.call('GET', KEYS[1]) == ARGV[1] then\n"
    "    return redis.call('PEXPIRE', KEYS[1], ARGV[2])\n"
    "end\n"
    "return 0\n"
);


static ngx_http_llm_redis_script_t  *ngx_http_llm_cache_fetch_script;
static ngx_http_llm_redis_script_t  *ngx_http_llm_cache_store_script;
static ngx_http_llm_redis_script_t  *ngx_http_llm_cache_release_script;
static ngx_http_llm_redis_script_t  *ngx_http_llm_cache_renew_script;


ngx_int_t
ngx_http_llm_cache_scripts(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t             i;
    ngx_http_llm_redis_t  *rd;

    static struct {
        ngx_str_t                    *lua;
        ngx_http_llm_redis_script_t **script;
    } scripts[] = {
        { &ngx_http_llm_cache_fetch_lua, &ngx_http_llm_cache_fetch_script },
        { &ngx_http_llm_cache_store_lua, &ngx_http_llm_cache_store_script },
        { &ngx_http_llm_cache_release_lua,
          &ngx_http_llm_cache_release_script },
        { &ngx_http_llm_cache_renew_lua, &ngx_http_llm_cache_renew_script }
    };

    rd = ngx_http_llm_cache_redis(mcf);

    if (rd == NULL) {
        return NGX_OK;
    }

    for (i = 0; i < sizeof(scripts) / sizeof(scripts[0]); i++) {
        *scripts[i].script = ngx_http_llm_redis_script(rd, scripts[i].lua);

        if (*scripts[i].script == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


ngx_http_llm_redis_t *
ngx_http_llm_cache_redis(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->redis_cache ? mcf->redis_cache : mcf->redis;
}


void
ngx_http_llm_cache_key(u_char *p, const char *prefix, const u_char *name)
{
    u_char      high, low, hex[2 * NGX_HTTP_LLM_DIGEST_LEN];
    ngx_uint_t  i;

    /* a miss needs four: without a table many digits are made at a time */

    for (i = 0; i < NGX_HTTP_LLM_DIGEST_LEN; i++) {
        high = name[i] >> 4;
        low = name[i] & 0xf;

        hex[2 * i] = high + (high > 9 ? 'a' - 10 : '0');
        hex[2 * i + 1] = low + (low > 9 ? 'a' - 10 : '0');
    }

    p = ngx_cpymem(p, prefix, sizeof(NGX_HTTP_LLM_CACHE_PREFIX) - 1);
    ngx_memcpy(p, hex, sizeof(hex));
}


ngx_int_t
ngx_http_llm_cache_fetch(ngx_http_llm_ctx_t *ctx)
{
    u_char                 key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    u_char                 lock[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t              argv[4], holder;
    ngx_http_llm_redis_t  *rd;

    if (ctx->op) {
        return NGX_AGAIN;
    }

    rd = ngx_http_llm_cache_redis(ctx->mcf);

    if (ctx->fetched || rd == NULL || !ctx->keyed
        || ctx->cache == NGX_HTTP_LLM_CACHE_RELOAD
        || !ngx_http_llm_purge_known(ctx->mcf))
    {
        return NGX_OK;
    }

    ctx->fetched = 1;

    ngx_http_llm_cache_key(key, NGX_HTTP_LLM_CACHE_PREFIX, ctx->digest);

    if (ngx_http_llm_flight_holder(ctx, &holder) == NGX_OK) {

        ngx_http_llm_cache_key(lock, NGX_HTTP_LLM_CACHE_LOCK,
                               ngx_http_llm_flight_named(ctx));

        argv[0].data = key;
        argv[0].len = sizeof(key);
        argv[1].data = lock;
        argv[1].len = sizeof(lock);
        argv[2] = holder;
        ngx_str_set(&argv[3], NGX_HTTP_LLM_CACHE_HOLD);

        ctx->op = ngx_http_llm_redis_eval(rd, ngx_http_llm_cache_fetch_script,
                                          2, 4, argv, 0,
                                          ngx_http_llm_cache_reply, ctx);
    } else {
        ngx_str_set(&argv[0], "GET");
        argv[1].data = key;
        argv[1].len = sizeof(key);

        ctx->op = ngx_http_llm_redis_command(rd, 2, argv, 0,
                                             ngx_http_llm_cache_reply, ctx);
    }

    return ctx->op ? NGX_AGAIN : NGX_OK;
}


ngx_int_t
ngx_http_llm_cache_lock(ngx_http_llm_ctx_t *ctx)
{
    u_char     lock[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t  argv[6], holder;

    if (ctx->op) {
        return NGX_AGAIN;
    }

    if (ctx->locking
        || ngx_http_llm_flight_holder(ctx, &holder) != NGX_OK)
    {
        return NGX_OK;
    }

    ctx->locking = 1;

    ngx_http_llm_cache_key(lock, NGX_HTTP_LLM_CACHE_LOCK,
                           ngx_http_llm_flight_named(ctx));

    ngx_str_set(&argv[0], "SET");
    argv[1].data = lock;
    argv[1].len = sizeof(lock);
    argv[2] = holder;
    ngx_str_set(&argv[3], "NX");
    ngx_str_set(&argv[4], "PX");
    ngx_str_set(&argv[5], NGX_HTTP_LLM_CACHE_HOLD);

    ctx->op = ngx_http_llm_redis_command(ngx_http_llm_cache_redis(ctx->mcf),
                                         6, argv, 0,
                                         ngx_http_llm_cache_reply, ctx);

    return ctx->op ? NGX_AGAIN : NGX_OK;
}


static void
ngx_http_llm_cache_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_ctx_t  *ctx = data;

    ngx_http_llm_redis_reply_t  holder;

    ctx->op = NULL;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_STRING:
        ngx_http_llm_cache_value(ctx, &reply->str);
        break;

    case NGX_HTTP_LLM_REDIS_INTEGER:
    case NGX_HTTP_LLM_REDIS_STATUS:
        ngx_http_llm_flight_locked(ctx);
        break;

    case NGX_HTTP_LLM_REDIS_NIL:
        ctx->denied = ctx->locking;
        break;

    case NGX_HTTP_LLM_REDIS_ARRAY:
        if (ngx_http_llm_redis_element(reply, 0, &holder) == NGX_OK
            && holder.type == NGX_HTTP_LLM_REDIS_STRING)
        {
            ngx_http_llm_flight_elsewhere(ctx, &holder.str);
        }

        break;

    default:
        break;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm cache reply type:%ui hit:%d",
                   (ngx_uint_t) reply->type, ctx->answered);

    ctx->wake(ctx);
}


static void
ngx_http_llm_cache_value(ngx_http_llm_ctx_t *ctx, ngx_str_t *value)
{
    u_char                  key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    llm_str_t               piece;
    ngx_str_t               about, plain;
    ngx_int_t               rc;
    ngx_http_llm_parcel_e   why;

    ngx_http_llm_cache_key(key, NGX_HTTP_LLM_CACHE_PREFIX, ctx->digest);

    about.data = key;
    about.len = sizeof(key);

    rc = ngx_http_llm_parcel_unpack(ctx->request->pool, ctx->mcf->secret,
                                    ngx_http_llm_cache_secret(ctx) != NULL,
                                    &about, value, NGX_HTTP_LLM_CACHE_UNPACK,
                                    &plain, &why);

    if (rc == NGX_DECLINED) {
        (void) ngx_atomic_fetch_add(
                   &ctx->mcf->zone->sh->count.cache_damaged[why - 1], 1);

        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "llm: a stored answer could not be unpacked: %ui",
                      (ngx_uint_t) why);
        return;
    }

    if (rc != NGX_OK) {
        return;
    }

    if (ngx_http_llm_cache_found(ctx, plain.data, plain.len) == NGX_OK) {
        piece.data = plain.data;
        piece.len = plain.len;

        ngx_http_llm_cache_put(ctx, &ctx->entry, &piece, 1);
    }
}


static ngx_http_llm_secret_t *
ngx_http_llm_cache_secret(ngx_http_llm_ctx_t *ctx)
{
    return ctx->conf->cache_encrypt ? ctx->mcf->secret : NULL;
}


void
ngx_http_llm_cache_send(ngx_http_llm_ctx_t *ctx, llm_entry_t *e,
    ngx_str_t *piece, ngx_uint_t n)
{
    u_char                 key[NGX_HTTP_LLM_CACHE_KEY_LEN];
    u_char                 lock[NGX_HTTP_LLM_CACHE_KEY_LEN];
    u_char                 ttl[NGX_TIME_T_LEN];
    ngx_str_t              argv[5], about, holder;
    ngx_http_llm_redis_t  *rd;

    rd = ngx_http_llm_cache_redis(ctx->mcf);

    if (rd == NULL || !ngx_http_llm_redis_connected(rd)) {
        return;
    }

    ngx_http_llm_cache_key(key, NGX_HTTP_LLM_CACHE_PREFIX, ctx->digest);

    about.data = key;
    about.len = sizeof(key);

    if (ngx_http_llm_parcel_pack(ctx->request->pool,
                                 ngx_http_llm_cache_secret(ctx), &about,
                                 piece, n, &argv[2])
        != NGX_OK)
    {
        return;
    }

    argv[3].data = ttl;
    argv[3].len = ngx_sprintf(ttl, "%uL", (uint64_t) e->ttl
                                          + ngx_max(e->stale_error,
                                                    e->stale_renew))
                  - ttl;

    if (ngx_http_llm_flight_holds(ctx, &holder) == NGX_OK) {

        ngx_http_llm_cache_key(lock, NGX_HTTP_LLM_CACHE_LOCK,
                               ngx_http_llm_flight_named(ctx));

        argv[0] = about;
        argv[1].data = lock;
        argv[1].len = sizeof(lock);
        argv[4] = holder;

        (void) ngx_http_llm_redis_eval(rd, ngx_http_llm_cache_store_script, 2,
                                       5, argv, 0, NULL, NULL);

        ngx_http_llm_flight_freed(ctx);
        return;
    }

    argv[4] = argv[3];
    ngx_str_set(&argv[3], "EX");
    ngx_str_set(&argv[0], "SET");
    argv[1] = about;

    (void) ngx_http_llm_redis_command(rd, 5, argv, 0, NULL, NULL);
}


void
ngx_http_llm_cache_release(ngx_http_llm_main_conf_t *mcf, u_char *name,
    ngx_str_t *holder)
{
    ngx_http_llm_cache_lease(mcf, ngx_http_llm_cache_release_script, name,
                             holder);
}


void
ngx_http_llm_cache_renew(ngx_http_llm_main_conf_t *mcf, u_char *name,
    ngx_str_t *holder)
{
    ngx_http_llm_cache_lease(mcf, ngx_http_llm_cache_renew_script, name,
                             holder);
}


/* a script about one lock; giving back does not look at the time */

static void
ngx_http_llm_cache_lease(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_redis_script_t *script, u_char *name, ngx_str_t *holder)
{
    u_char     lock[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t  argv[3];

    ngx_http_llm_cache_key(lock, NGX_HTTP_LLM_CACHE_LOCK, name);

    argv[0].data = lock;
    argv[0].len = sizeof(lock);
    argv[1] = *holder;
    ngx_str_set(&argv[2], NGX_HTTP_LLM_CACHE_HOLD);

    (void) ngx_http_llm_redis_eval(ngx_http_llm_cache_redis(mcf), script, 1,
                                   3, argv, 0, NULL, NULL);
}


ngx_http_llm_redis_op_t *
ngx_http_llm_cache_holder(ngx_http_llm_main_conf_t *mcf, u_char *name,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    u_char     lock[NGX_HTTP_LLM_CACHE_KEY_LEN];
    ngx_str_t  argv[2];

    ngx_http_llm_cache_key(lock, NGX_HTTP_LLM_CACHE_LOCK, name);

    ngx_str_set(&argv[0], "GET");
    argv[1].data = lock;
    argv[1].len = sizeof(lock);

    return ngx_http_llm_redis_command(ngx_http_llm_cache_redis(mcf), 2, argv,
                                      0, handler, data);
}
