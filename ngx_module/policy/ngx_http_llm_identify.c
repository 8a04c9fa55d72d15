
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_identify.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_keys_store.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_siphash.h"

#include <openssl/evp.h>
#include <openssl/rand.h>


#define NGX_HTTP_LLM_SECRET_MAX     256
#define NGX_HTTP_LLM_IDENTIFY_SEEN  512         /* a power of two */


static ngx_int_t ngx_http_llm_identify_find(ngx_http_llm_ctx_t *ctx,
    const llm_keyring_found_t **found);
static ngx_int_t ngx_http_llm_identify_secret(ngx_http_request_t *r,
    ngx_str_t *secret);
static ngx_int_t ngx_http_llm_identify_hash(ngx_str_t *secret, u_char *md);
static ngx_int_t ngx_http_llm_identify_refuse(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t status, const char *code, const char *message);


/* fetched once: a fetch costs more than the digest of a key */

static EVP_MD      *ngx_http_llm_identify_md;
static EVP_MD_CTX  *ngx_http_llm_identify_ctx;


/*
 * Digests of the secrets seen last, so that a busy client's is not computed
 * anew for each request.  A secret is known again by a keyed hash, which
 * cannot be forged, and is not kept itself.
 */

typedef struct {
    uint64_t                    tag[2];
    u_char                      md[32];
} ngx_http_llm_identify_seen_t;


static uint64_t                      ngx_http_llm_identify_key[2];
static ngx_http_llm_identify_seen_t  ngx_http_llm_identify_seen[
                                         NGX_HTTP_LLM_IDENTIFY_SEEN];


ngx_int_t
ngx_http_llm_identify_init_process(ngx_cycle_t *cycle)
{
    ngx_http_llm_identify_md = EVP_MD_fetch(NULL, "SHA256", NULL);
    ngx_http_llm_identify_ctx = EVP_MD_CTX_new();

    if (ngx_http_llm_identify_md == NULL || ngx_http_llm_identify_ctx == NULL)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "no SHA-256 in OpenSSL");
        return NGX_ERROR;
    }

    if (RAND_bytes((u_char *) ngx_http_llm_identify_key,
                   sizeof(ngx_http_llm_identify_key)) != 1)
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_identify(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                   rc;
    const llm_keyring_found_t  *found;

    rc = ngx_http_llm_identify_find(ctx, &found);

    /* who is not known may be a key that this gateway has yet to hear of */

    if (rc == NGX_DECLINED && !ngx_http_llm_keys_synced(ctx->mcf)) {
        rc = NGX_AGAIN;
    }

    switch (rc) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        return ngx_http_llm_identify_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
            "invalid_api_key", "Incorrect API key provided.");

    case NGX_AGAIN:
        return ngx_http_llm_error(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
            "server_error", "policy_unavailable",
            "The gateway has not loaded its keys yet; try again.");

    default:
        return rc;
    }

    ctx->key = &found->key;

    if (!ctx->key->enabled) {
        return ngx_http_llm_identify_refuse(ctx, NGX_HTTP_FORBIDDEN,
            "key_disabled", "This API key is disabled.");
    }

    if (ctx->key->expires && ctx->key->expires <= (int64_t) ngx_time()) {
        return ngx_http_llm_identify_refuse(ctx, NGX_HTTP_FORBIDDEN,
            "key_expired", "This API key has expired.");
    }

    ctx->limits.n = 1;
    ctx->limits.limit[0] = &ctx->key->limit;

    if (ctx->key->team) {
        ctx->limits.n = 2;
        ctx->limits.limit[1] = &ctx->key->team->limit;
    }

    return NGX_OK;
}


/* by the client's secret; what this nginx asks itself names the key */

static ngx_int_t
ngx_http_llm_identify_find(ngx_http_llm_ctx_t *ctx,
    const llm_keyring_found_t **found)
{
    u_char                md[32];
    ngx_int_t             rc;
    ngx_str_t             secret;
    llm_keyring_found_t  *copy;

    rc = ngx_http_llm_loopback_key(ctx->request, &secret);

    if (rc == NGX_OK) {
        ctx->background = ngx_http_llm_loopback_background(ctx->request)
                          ? 1 : 0;

        rc = ngx_http_llm_keys_find_name(ctx->mcf, &secret,
                                         ctx->request->pool, &copy);
        *found = copy;

        return rc;
    }

    if (rc != NGX_DECLINED) {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_identify_secret(ctx->request, &secret) != NGX_OK) {
        return ngx_http_llm_identify_refuse(ctx, NGX_HTTP_UNAUTHORIZED,
            "invalid_api_key",
            "You didn't provide an API key. Put it into an Authorization "
            "header: Authorization: Bearer YOUR_KEY.");
    }

    if (ngx_http_llm_identify_hash(&secret, md) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_keys_find(ctx->mcf, md, ctx->request->pool, found);
}


static ngx_int_t
ngx_http_llm_identify_refuse(ngx_http_llm_ctx_t *ctx, ngx_uint_t status,
    const char *code, const char *message)
{
    (void) ngx_atomic_fetch_add(
               &ctx->mcf->zone->sh->count.refused[NGX_HTTP_LLM_REFUSED_KEY],
               1);

    return ngx_http_llm_error(ctx, status, "invalid_request_error", code,
                              message);
}


/* Authorization: Bearer, else api-key, as Azure's clients send it */

static ngx_int_t
ngx_http_llm_identify_secret(ngx_http_request_t *r, ngx_str_t *secret)
{
    ngx_table_elt_t  *h;

    h = r->headers_in.authorization;

    if (h) {
        *secret = h->value;

        if (secret->len < 7
            || (ngx_memcmp(secret->data, "Bearer ", 7) != 0
                && ngx_strncasecmp(secret->data, (u_char *) "Bearer ", 7)
                   != 0))
        {
            return NGX_DECLINED;
        }

        secret->data += 7;
        secret->len -= 7;

        while (secret->len && secret->data[0] == ' ') {
            secret->data++;
            secret->len--;
        }

    } else {
        h = ngx_http_llm_header_in(r, "api-key", sizeof("api-key") - 1);
        if (h == NULL) {
            return NGX_DECLINED;
        }

        *secret = h->value;
    }

    if (secret->len == 0 || secret->len > NGX_HTTP_LLM_SECRET_MAX) {
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_identify_hash(ngx_str_t *secret, u_char *md)
{
    unsigned                       len;
    uint64_t                       tag[2];
    ngx_http_llm_identify_seen_t  *seen;

    llm_siphash(ngx_http_llm_identify_key, secret->data, secret->len, tag);

    seen = &ngx_http_llm_identify_seen[tag[0]
                                       & (NGX_HTTP_LLM_IDENTIFY_SEEN - 1)];

    if (((seen->tag[0] ^ tag[0]) | (seen->tag[1] ^ tag[1])) == 0) {
        ngx_memcpy(md, seen->md, sizeof(seen->md));
        return NGX_OK;
    }

    if (EVP_DigestInit_ex(ngx_http_llm_identify_ctx,
                          ngx_http_llm_identify_md, NULL) != 1
        || EVP_DigestUpdate(ngx_http_llm_identify_ctx, secret->data,
                            secret->len) != 1
        || EVP_DigestFinal_ex(ngx_http_llm_identify_ctx, md, &len) != 1)
    {
        return NGX_ERROR;
    }

    seen->tag[0] = tag[0];
    seen->tag[1] = tag[1];
    ngx_memcpy(seen->md, md, sizeof(seen->md));

    return NGX_OK;
}
