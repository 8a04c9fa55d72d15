
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is sealed:
 *
 *     1  length of the key id
 *     n  the key id
 *    12  nonce, random
 *     …  cipher text, as long as the plain one
 *    16  tag
 *
 * The tag also covers the key id with its length, and "about" behind them.
 */


#include "state/ngx_http_llm_secret_private.h"

#include <openssl/err.h>
#include <openssl/rand.h>


#define NGX_HTTP_LLM_SEAL_NONCE   12
#define NGX_HTTP_LLM_SEAL_TAG     16
#define NGX_HTTP_LLM_SEAL_MAX     (1024 * 1024 * 1024)

/* drawing one nonce alone costs nearly as much as drawing all of these */

#define NGX_HTTP_LLM_SEAL_NONCES  64


static ngx_int_t ngx_http_llm_secret_init_key(ngx_http_llm_secret_key_t *key,
    ngx_uint_t seal);
static u_char *ngx_http_llm_secret_nonce(void);
static ngx_http_llm_secret_key_t *ngx_http_llm_secret_find(
    ngx_http_llm_secret_t *sc, ngx_str_t *in);


static EVP_CIPHER  *ngx_http_llm_secret_cipher;

static u_char       ngx_http_llm_secret_nonces[NGX_HTTP_LLM_SEAL_NONCES]
                                              [NGX_HTTP_LLM_SEAL_NONCE];
static ngx_uint_t   ngx_http_llm_secret_nonces_left;


ngx_int_t
ngx_http_llm_secret_init_seal(ngx_http_llm_secret_t *sc)
{
    ngx_uint_t  n;

    if (ngx_http_llm_secret_cipher == NULL) {
        ngx_http_llm_secret_cipher = EVP_CIPHER_fetch(NULL, "AES-256-GCM",
                                                      NULL);
        if (ngx_http_llm_secret_cipher == NULL) {
            return NGX_ERROR;
        }
    }

    /* none that another process may have drawn, too */
    ngx_http_llm_secret_nonces_left = 0;

    for (n = 0; n < sc->n; n++) {
        if (ngx_http_llm_secret_init_key(&sc->keys[n], n == 0) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* the key's schedule is made once, later only the nonce changes */

static ngx_int_t
ngx_http_llm_secret_init_key(ngx_http_llm_secret_key_t *key,
    ngx_uint_t seal)
{
    if (seal) {
        key->seal = EVP_CIPHER_CTX_new();

        if (key->seal == NULL
            || EVP_EncryptInit_ex(key->seal, ngx_http_llm_secret_cipher, NULL,
                                  key->key, NULL)
               != 1)
        {
            return NGX_ERROR;
        }
    }

    key->open = EVP_CIPHER_CTX_new();

    if (key->open == NULL
        || EVP_DecryptInit_ex(key->open, ngx_http_llm_secret_cipher, NULL,
                              key->key, NULL)
           != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static u_char *
ngx_http_llm_secret_nonce(void)
{
    if (ngx_http_llm_secret_nonces_left == 0) {

        if (RAND_bytes(ngx_http_llm_secret_nonces[0],
                       sizeof(ngx_http_llm_secret_nonces))
            != 1)
        {
            return NULL;
        }

        ngx_http_llm_secret_nonces_left = NGX_HTTP_LLM_SEAL_NONCES;
    }

    return ngx_http_llm_secret_nonces[--ngx_http_llm_secret_nonces_left];
}


ngx_int_t
ngx_http_llm_seal(ngx_http_llm_secret_t *sc, ngx_str_t *in, ngx_str_t *about,
    ngx_str_t *out)
{
    int                         len;
    u_char                     *p, *nonce;
    EVP_CIPHER_CTX             *ctx;
    ngx_http_llm_secret_key_t  *key;

    key = &sc->keys[0];
    ctx = key->seal;

    if (in->len > NGX_HTTP_LLM_SEAL_MAX
        || about->len > NGX_HTTP_LLM_SEAL_MAX)
    {
        return NGX_ERROR;
    }

    nonce = ngx_http_llm_secret_nonce();
    if (nonce == NULL) {
        goto failed;
    }

    p = ngx_cpymem(out->data, key->aad, 1 + key->id.len);
    p = ngx_cpymem(p, nonce, NGX_HTTP_LLM_SEAL_NONCE);

    if (EVP_EncryptInit_ex(ctx, NULL, NULL, NULL, nonce) != 1
        || EVP_EncryptUpdate(ctx, NULL, &len, key->aad, 1 + key->id.len) != 1
        || EVP_EncryptUpdate(ctx, NULL, &len, about->data, about->len) != 1
        || EVP_EncryptUpdate(ctx, p, &len, in->data, in->len) != 1
        || EVP_EncryptFinal_ex(ctx, p + in->len, &len) != 1
        || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_GET_TAG,
                               NGX_HTTP_LLM_SEAL_TAG, p + in->len)
           != 1)
    {
        goto failed;
    }

    out->len = p + in->len + NGX_HTTP_LLM_SEAL_TAG - out->data;

    return NGX_OK;

failed:

    ERR_clear_error();

    return NGX_ERROR;
}


ngx_int_t
ngx_http_llm_open(ngx_http_llm_secret_t *sc, ngx_str_t *in, ngx_str_t *about,
    ngx_str_t *out)
{
    int                         len;
    size_t                      head, size;
    u_char                     *p;
    EVP_CIPHER_CTX             *ctx;
    ngx_http_llm_secret_key_t  *key;

    key = ngx_http_llm_secret_find(sc, in);
    if (key == NULL) {
        return NGX_DECLINED;
    }

    ctx = key->open;
    head = 1 + key->id.len + NGX_HTTP_LLM_SEAL_NONCE;

    if (in->len < head + NGX_HTTP_LLM_SEAL_TAG
        || in->len > NGX_HTTP_LLM_SEAL_MAX
        || about->len > NGX_HTTP_LLM_SEAL_MAX)
    {
        return NGX_ABORT;
    }

    p = in->data + head;
    size = in->len - head - NGX_HTTP_LLM_SEAL_TAG;

    if (EVP_DecryptInit_ex(ctx, NULL, NULL, NULL,
                           p - NGX_HTTP_LLM_SEAL_NONCE)
        != 1
        || EVP_DecryptUpdate(ctx, NULL, &len, key->aad, 1 + key->id.len) != 1
        || EVP_DecryptUpdate(ctx, NULL, &len, about->data, about->len) != 1
        || EVP_DecryptUpdate(ctx, out->data, &len, p, size) != 1
        || EVP_CIPHER_CTX_ctrl(ctx, EVP_CTRL_AEAD_SET_TAG,
                               NGX_HTTP_LLM_SEAL_TAG, p + size)
           != 1
        || EVP_DecryptFinal_ex(ctx, out->data + size, &len) != 1)
    {
        ERR_clear_error();
        ngx_explicit_memzero(out->data, size);
        out->len = 0;
        return NGX_ABORT;
    }

    out->len = size;

    return NGX_OK;
}


/* by its key id: a handful, and the first one is nearly always it */

static ngx_http_llm_secret_key_t *
ngx_http_llm_secret_find(ngx_http_llm_secret_t *sc, ngx_str_t *in)
{
    ngx_uint_t                  n;
    ngx_http_llm_secret_key_t  *key;

    for (n = 0; n < sc->n; n++) {
        key = &sc->keys[n];

        if (in->len > key->id.len
            && ngx_memcmp(in->data, key->aad, 1 + key->id.len) == 0)
        {
            return key;
        }
    }

    return NULL;
}
