
/*
 * Copyright (C) the ngx-llm authors
 *
 * The last names lie in a ring in shared memory; a worker that finds more new
 * ones than it holds ends what belongs to any key that is not in force.
 */


#include "policy/ngx_http_llm_revoke.h"
#include "policy/ngx_http_llm_keys.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_siphash.h"


typedef struct {
    uint64_t                    name;
    uint64_t                    version;
} ngx_http_llm_revoke_t;


static uint64_t ngx_http_llm_revoke_hash(const u_char *p, size_t len);
static ngx_uint_t ngx_http_llm_revoke_hit(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_revoke_t *cut, ngx_uint_t n);
static ngx_uint_t ngx_http_llm_revoke_invalid(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_revoke_end(ngx_http_llm_ctx_t *ctx);


static ngx_queue_t        ngx_http_llm_revoke_running = {
    &ngx_http_llm_revoke_running, &ngx_http_llm_revoke_running
};

static ngx_atomic_uint_t  ngx_http_llm_revoke_seen;
static ngx_uint_t         ngx_http_llm_revoke_begun;


void
ngx_http_llm_revoke_enter(ngx_http_llm_ctx_t *ctx)
{
    ngx_queue_insert_tail(&ngx_http_llm_revoke_running, &ctx->running);
    ctx->listed = 1;
}


void
ngx_http_llm_revoke_leave(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->listed) {
        ngx_queue_remove(&ctx->running);
        ctx->listed = 0;
    }
}


static uint64_t
ngx_http_llm_revoke_hash(const u_char *p, size_t len)
{
    uint64_t  hash[2];

    static const uint64_t  key[2] = { 0, 0 };

    llm_siphash(key, p, len, hash);

    return hash[0];
}


void
ngx_http_llm_revoke(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name,
    uint64_t version)
{
    ngx_uint_t               i;
    llm_owners_t             wake;
    ngx_http_llm_revoked_t  *sh;

    sh = &mcf->zone->sh->revoked;

    ngx_http_llm_zone_lock(mcf->zone, &wake);

    i = sh->n % NGX_HTTP_LLM_REVOKED;

    sh->key[i].name = ngx_http_llm_revoke_hash(name->data, name->len);
    sh->key[i].version = version;
    ngx_memory_barrier();
    sh->n++;

    ngx_http_llm_zone_unlock(mcf->zone, &wake);

    ngx_http_llm_revoke_check(mcf);
}


void
ngx_http_llm_revoke_check(ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t               i, k, n, ended;
    ngx_queue_t             *q, *next;
    ngx_atomic_uint_t        revoked;
    ngx_http_llm_ctx_t      *ctx;
    ngx_http_llm_revoke_t    cut[NGX_HTTP_LLM_REVOKED];
    ngx_http_llm_revoked_t  *sh;

    sh = &mcf->zone->sh->revoked;
    revoked = sh->n;

    if (!ngx_http_llm_revoke_begun) {
        ngx_http_llm_revoke_begun = 1;
        ngx_http_llm_revoke_seen = revoked;
        return;
    }

    n = revoked - ngx_http_llm_revoke_seen;

    if (n == 0) {
        return;
    }

    /* what is overwritten while it is read is one too many */

    for (i = 0; i < n && i < NGX_HTTP_LLM_REVOKED; i++) {
        k = (revoked - 1 - i) % NGX_HTTP_LLM_REVOKED;

        cut[i].name = sh->key[k].name;
        cut[i].version = sh->key[k].version;
    }

    ngx_memory_barrier();

    if (sh->n - ngx_http_llm_revoke_seen > NGX_HTTP_LLM_REVOKED) {
        n = 0;
    }

    ngx_http_llm_revoke_seen = revoked;
    ended = 0;

    for (q = ngx_queue_head(&ngx_http_llm_revoke_running);
         q != ngx_queue_sentinel(&ngx_http_llm_revoke_running);
         q = next)
    {
        next = ngx_queue_next(q);
        ctx = ngx_queue_data(q, ngx_http_llm_ctx_t, running);

        if (n ? ngx_http_llm_revoke_hit(ctx, cut, n)
              : ngx_http_llm_revoke_invalid(ctx))
        {
            ngx_http_llm_revoke_end(ctx);
            ended++;
        }
    }

    if (ended) {
        ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                      "llm: %ui requests end with their key", ended);
    }
}


/*
 * What began with a later row is not meant: the key may be in force again
 * when a worker, or another gateway, hears of the cut.
 */

static ngx_uint_t
ngx_http_llm_revoke_hit(ngx_http_llm_ctx_t *ctx, ngx_http_llm_revoke_t *cut,
    ngx_uint_t n)
{
    uint64_t    hash;
    ngx_uint_t  i;

    if (!ctx->key->dynamic) {
        /* one of the file may have the same name */
        return 0;
    }

    hash = ngx_http_llm_revoke_hash(ctx->key->name.data, ctx->key->name.len);

    for (i = 0; i < n; i++) {
        if (cut[i].name == hash && ctx->key->version <= cut[i].version) {
            return 1;
        }
    }

    return 0;
}


static ngx_uint_t
ngx_http_llm_revoke_invalid(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t  name;

    if (!ctx->key->dynamic) {
        return 0;
    }

    name.data = ctx->key->name.data;
    name.len = ctx->key->name.len;

    return ngx_http_llm_keys_enabled(ctx->mcf, &name) == NGX_DECLINED;
}


/* its time is up: every stage knows what to do then */

static void
ngx_http_llm_revoke_end(ngx_http_llm_ctx_t *ctx)
{
    ngx_log_debug0(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm revoked");

    ctx->revoked = 1;
    ctx->deadline = ngx_current_msec - 1;

    if (!ctx->body_read) {
        /* its body is nginx's to read */
        return;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ctx->wake(ctx);
}
