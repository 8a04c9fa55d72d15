
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_secret_private.h"
#include "state/ngx_http_llm_source.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/kdf.h>


#define NGX_HTTP_LLM_SECRET_MIN    32
#define NGX_HTTP_LLM_SECRET_BLOCK  64      /* of SHA-256 */


static ngx_int_t ngx_http_llm_secret_add(ngx_conf_t *cf,
    ngx_http_llm_secret_t *sc, ngx_str_t *source, ngx_str_t *id);
static ngx_int_t ngx_http_llm_secret_id(ngx_conf_t *cf,
    ngx_http_llm_secret_t *sc, ngx_str_t *id);
static ngx_int_t ngx_http_llm_secret_strength(ngx_conf_t *cf, ngx_str_t *id,
    ngx_str_t *secret);
static ngx_int_t ngx_http_llm_secret_derive(ngx_conf_t *cf,
    ngx_str_t *secret, const char *info, u_char *key);
static void ngx_http_llm_secret_cleanup(void *data);
static ngx_int_t ngx_http_llm_secret_init_mac(ngx_http_llm_secret_t *sc);
static EVP_MD_CTX *ngx_http_llm_secret_half(u_char *key, u_char pad);


static EVP_MD      *ngx_http_llm_secret_md;

/* the name that is being made */

static EVP_MD_CTX  *ngx_http_llm_secret_mac;
static EVP_MD_CTX  *ngx_http_llm_secret_mac_outer;
static ngx_uint_t   ngx_http_llm_secret_mac_failed;


ngx_http_llm_secret_t *
ngx_http_llm_secret_create(ngx_conf_t *cf, ngx_str_t *source, ngx_str_t *id)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_llm_secret_t  *sc;

    sc = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_secret_t));
    cln = ngx_pool_cleanup_add(cf->pool, 0);

    if (sc == NULL || cln == NULL) {
        return NULL;
    }

    cln->handler = ngx_http_llm_secret_cleanup;
    cln->data = sc;

    if (ngx_http_llm_secret_add(cf, sc, source, id) != NGX_OK) {
        return NULL;
    }

    return sc;
}


ngx_int_t
ngx_http_llm_secret_old(ngx_conf_t *cf, ngx_http_llm_secret_t *sc,
    ngx_str_t *source, ngx_str_t *id)
{
    if (sc->n == 1 + NGX_HTTP_LLM_SECRET_OLD) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_secret \"%V\": more than %d old secrets", id,
                           NGX_HTTP_LLM_SECRET_OLD);
        return NGX_ERROR;
    }

    return ngx_http_llm_secret_add(cf, sc, source, id);
}


static ngx_int_t
ngx_http_llm_secret_add(ngx_conf_t *cf, ngx_http_llm_secret_t *sc,
    ngx_str_t *source, ngx_str_t *id)
{
    ngx_int_t                   rc;
    ngx_str_t                   secret;
    ngx_http_llm_secret_key_t  *key;

    if (ngx_http_llm_secret_id(cf, sc, id) != NGX_OK
        || ngx_http_llm_source_read(cf, source, "llm_secret", id, &secret)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    key = &sc->keys[sc->n];
    key->aad[0] = (u_char) id->len;
    ngx_memcpy(&key->aad[1], id->data, id->len);
    key->id.data = &key->aad[1];
    key->id.len = id->len;

    rc = ngx_http_llm_secret_strength(cf, id, &secret);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_secret_derive(cf, &secret, "ngx-llm seal",
                                        key->key);
    }

    if (rc == NGX_OK && sc->n == 0) {
        rc = ngx_http_llm_secret_derive(cf, &secret, "ngx-llm name",
                                        sc->name);
    }

    /* only what was derived is needed from here on */

    if (source->data[0] == 'f') {
        ngx_explicit_memzero(secret.data, secret.len);
    }

    if (rc == NGX_OK) {
        sc->n++;
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_secret_id(ngx_conf_t *cf, ngx_http_llm_secret_t *sc,
    ngx_str_t *id)
{
    u_char      c;
    size_t      i;
    ngx_uint_t  n;

    for (i = 0; i < id->len; i++) {
        c = id->data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
              || (c >= '0' && c <= '9') || c == '-' || c == '_'))
        {
            break;
        }
    }

    if (i < id->len || id->len == 0 || id->len > NGX_HTTP_LLM_SECRET_ID) {
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_secret: key id \"%V\": expected 1 to %d of "
                           "[A-Za-z0-9_-]", id, NGX_HTTP_LLM_SECRET_ID);
        return NGX_ERROR;
    }

    for (n = 0; n < sc->n; n++) {
        if (sc->keys[n].id.len == id->len
            && ngx_memcmp(sc->keys[n].id.data, id->data, id->len) == 0)
        {
            ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                               "llm_secret: key id \"%V\" is there twice",
                               id);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* length is not strength, but what is too short is surely weak */

static ngx_int_t
ngx_http_llm_secret_strength(ngx_conf_t *cf, ngx_str_t *id,
    ngx_str_t *secret)
{
    u_char  c;
    size_t  bytes, hex;

    bytes = secret->len;

    for (hex = 0; hex < secret->len; hex++) {
        c = secret->data[hex] | 0x20;

        if (!((c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'))) {
            break;
        }
    }

    if (hex == secret->len) {
        bytes = hex / 2;

    } else if (secret->data[secret->len - 1] == '=') {

        while (bytes && secret->data[bytes - 1] == '=') {
            bytes--;
        }

        bytes = bytes * 3 / 4;
    }

    if (bytes >= NGX_HTTP_LLM_SECRET_MIN) {
        return NGX_OK;
    }

    ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                       "llm_secret \"%V\": expected at least %d random "
                       "bytes, in hex digits or base64 as many as these make",
                       id, NGX_HTTP_LLM_SECRET_MIN);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_secret_derive(ngx_conf_t *cf, ngx_str_t *secret,
    const char *info, u_char *key)
{
    int          ok;
    EVP_KDF     *kdf;
    OSSL_PARAM   params[4];
    EVP_KDF_CTX *ctx;

    params[0] = OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST,
                                                 (char *) "SHA256", 0);
    params[1] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_KEY,
                                                  secret->data, secret->len);
    params[2] = OSSL_PARAM_construct_octet_string(OSSL_KDF_PARAM_INFO,
                                                  (char *) info,
                                                  ngx_strlen(info));
    params[3] = OSSL_PARAM_construct_end();

    kdf = EVP_KDF_fetch(NULL, "HKDF", NULL);
    ctx = EVP_KDF_CTX_new(kdf);

    ok = ctx != NULL
         && EVP_KDF_derive(ctx, key, NGX_HTTP_LLM_SECRET_KEY, params) > 0;

    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);

    if (!ok) {
        ERR_clear_error();
        ngx_conf_log_error(NGX_LOG_EMERG, cf, 0,
                           "llm_secret: no HKDF with SHA-256 in OpenSSL");
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* with the configuration's end: in the master and in each worker */

static void
ngx_http_llm_secret_cleanup(void *data)
{
    ngx_http_llm_secret_t *sc = data;

    ngx_uint_t  n;

    for (n = 0; n < sc->n; n++) {
        EVP_CIPHER_CTX_free(sc->keys[n].seal);
        EVP_CIPHER_CTX_free(sc->keys[n].open);
    }

    EVP_MD_CTX_free(sc->inner);
    EVP_MD_CTX_free(sc->outer);

    ngx_explicit_memzero(sc, sizeof(ngx_http_llm_secret_t));
}


ngx_int_t
ngx_http_llm_secret_init_process(ngx_http_llm_secret_t *sc,
    ngx_cycle_t *cycle)
{
    if (ngx_http_llm_secret_md == NULL) {
        ngx_http_llm_secret_md = EVP_MD_fetch(NULL, "SHA256", NULL);
        ngx_http_llm_secret_mac = EVP_MD_CTX_new();
    }

    if (ngx_http_llm_secret_md == NULL || ngx_http_llm_secret_mac == NULL) {
        ERR_clear_error();
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "no SHA-256 in OpenSSL");
        return NGX_ERROR;
    }

    if (sc == NULL) {
        return NGX_OK;
    }

    if (ngx_http_llm_secret_init_mac(sc) != NGX_OK
        || ngx_http_llm_secret_init_seal(sc) != NGX_OK)
    {
        ERR_clear_error();
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "llm_secret: OpenSSL cannot be made ready");
        return NGX_ERROR;
    }

    ngx_log_debug1(NGX_LOG_DEBUG_CORE, cycle->log, 0,
                   "llm secret: %ui keys", sc->n);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_secret_init_mac(ngx_http_llm_secret_t *sc)
{
    sc->inner = ngx_http_llm_secret_half(sc->name, 0x36);
    sc->outer = ngx_http_llm_secret_half(sc->name, 0x5c);

    return sc->inner != NULL && sc->outer != NULL ? NGX_OK : NGX_ERROR;
}


/*
 * RFC 2104.  A name of 200 bytes costs 317 ns by copies of these two, 343 ns
 * by EVP_MAC that is begun again (some 530 instructions more).
 */

static EVP_MD_CTX *
ngx_http_llm_secret_half(u_char *key, u_char pad)
{
    u_char       block[NGX_HTTP_LLM_SECRET_BLOCK];
    ngx_uint_t   i;
    EVP_MD_CTX  *ctx;

    ngx_memset(block, pad, NGX_HTTP_LLM_SECRET_BLOCK);

    for (i = 0; i < NGX_HTTP_LLM_SECRET_KEY; i++) {
        block[i] ^= key[i];
    }

    ctx = EVP_MD_CTX_new();

    if (ctx != NULL
        && (EVP_DigestInit_ex(ctx, ngx_http_llm_secret_md, NULL) != 1
            || EVP_DigestUpdate(ctx, block, NGX_HTTP_LLM_SECRET_BLOCK) != 1))
    {
        EVP_MD_CTX_free(ctx);
        ctx = NULL;
    }

    ngx_explicit_memzero(block, NGX_HTTP_LLM_SECRET_BLOCK);

    return ctx;
}


ngx_int_t
ngx_http_llm_mac_begin(ngx_http_llm_secret_t *sc)
{
    int  ok;

    if (sc != NULL) {
        ngx_http_llm_secret_mac_outer = sc->outer;
        ok = EVP_MD_CTX_copy_ex(ngx_http_llm_secret_mac, sc->inner);

    } else {
        ngx_http_llm_secret_mac_outer = NULL;
        ok = EVP_DigestInit_ex(ngx_http_llm_secret_mac,
                               ngx_http_llm_secret_md, NULL);
    }

    ngx_http_llm_secret_mac_failed = (ok != 1);

    if (ok != 1) {
        ERR_clear_error();
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_llm_mac_update(const u_char *p, size_t len)
{
    if (EVP_DigestUpdate(ngx_http_llm_secret_mac, p, len) != 1) {
        ngx_http_llm_secret_mac_failed = 1;
    }
}


ngx_int_t
ngx_http_llm_mac_end(u_char *name)
{
    EVP_MD_CTX  *ctx;

    ctx = ngx_http_llm_secret_mac;

    if (ngx_http_llm_secret_mac_failed
        || EVP_DigestFinal_ex(ctx, name, NULL) != 1)
    {
        goto failed;
    }

    if (ngx_http_llm_secret_mac_outer != NULL
        && (EVP_MD_CTX_copy_ex(ctx, ngx_http_llm_secret_mac_outer) != 1
            || EVP_DigestUpdate(ctx, name, NGX_HTTP_LLM_MAC_LEN) != 1
            || EVP_DigestFinal_ex(ctx, name, NULL) != 1))
    {
        goto failed;
    }

    return NGX_OK;

failed:

    ERR_clear_error();

    return NGX_ERROR;
}
