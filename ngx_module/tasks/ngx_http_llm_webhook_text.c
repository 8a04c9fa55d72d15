
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_webhook_private.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>


#define NGX_HTTP_LLM_WEBHOOK_KEY  256            /* bytes of a decoded one */


static u_char *ngx_http_llm_webhook_string(u_char *p, ngx_str_t *s);
static ngx_uint_t ngx_http_llm_webhook_key(ngx_str_t *secret, ngx_str_t *key);


/*
 * Metadata and error are JSON that was looked at when they were taken in, and
 * go on as they stand: numbers keep their digits.
 */

ngx_int_t
ngx_http_llm_webhook_body(ngx_pool_t *pool, ngx_http_llm_webhook_task_t *task,
    ngx_str_t *body)
{
    u_char  *p;

    p = ngx_pnalloc(pool, 256 + 3 * NGX_INT64_LEN + task->metadata.len
                    + task->error.len
                    + 6 * (task->id.len + 2 * task->state.len
                           + task->team.len + task->batch.len));
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_sprintf(p, "{\"type\":\"task.%V\",\"created_at\":%L,"
                    "\"data\":{\"id\":", &task->state,
                    task->finished / 1000);

    p = ngx_http_llm_webhook_string(p, &task->id);

    p = ngx_sprintf(p, ",\"status\":\"%V\"", &task->state);

    /* "~NAME": a key without a team */

    if (task->team.len && task->team.data[0] != '~') {
        p = ngx_cpymem(p, ",\"team\":", 8);
        p = ngx_http_llm_webhook_string(p, &task->team);
    }

    if (task->batch.len) {
        p = ngx_cpymem(p, ",\"batch_id\":", 12);
        p = ngx_http_llm_webhook_string(p, &task->batch);
    }

    p = ngx_sprintf(p, ",\"created_at\":%L,\"finished_at\":%L",
                    task->created / 1000, task->finished / 1000);

    p = ngx_cpymem(p, ",\"metadata\":", 12);
    p = task->metadata.len ? ngx_cpymem(p, task->metadata.data,
                                        task->metadata.len)
                           : ngx_cpymem(p, "null", 4);

    p = ngx_cpymem(p, ",\"error\":", 9);
    p = task->error.len ? ngx_cpymem(p, task->error.data, task->error.len)
                        : ngx_cpymem(p, "null", 4);

    *p++ = '}'; *p++ = '}';

    body->len = p - body->data;

    return NGX_OK;
}


static u_char *
ngx_http_llm_webhook_string(u_char *p, ngx_str_t *s)
{
    *p++ = '"';
    p = (u_char *) ngx_escape_json(p, s->data, s->len);
    *p++ = '"';

    return p;
}


ngx_int_t
ngx_http_llm_webhook_sign(ngx_pool_t *pool, ngx_str_t *secret, ngx_str_t *id,
    ngx_str_t *time, ngx_str_t *body, ngx_str_t *signature)
{
    u_char      *p, mac[EVP_MAX_MD_SIZE];
    u_char       decoded[NGX_HTTP_LLM_WEBHOOK_KEY];
    unsigned     len;
    ngx_str_t    key, text;
    ngx_uint_t   wiped;

    key.data = decoded;
    wiped = ngx_http_llm_webhook_key(secret, &key);

    text.len = id->len + 1 + time->len + 1 + body->len;
    text.data = ngx_pnalloc(pool, text.len);

    signature->data = ngx_pnalloc(pool,
                                  3 + ngx_base64_encoded_length(sizeof(mac)));

    if (text.data == NULL || signature->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(text.data, "%V.%V.", id, time);
    ngx_memcpy(p, body->data, body->len);

    p = HMAC(EVP_sha256(), key.data, (int) key.len, text.data, text.len, mac,
             &len);

    if (wiped) {
        ngx_explicit_memzero(decoded, sizeof(decoded));
    }

    if (p == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(signature->data, "v1,", 3);

    text.data = mac;
    text.len = len;
    key.data = p;

    ngx_encode_base64(&key, &text);

    signature->len = 3 + key.len;

    return NGX_OK;
}


/* "whsec_" and base64 is how these secrets are handed out; else as it is */

static ngx_uint_t
ngx_http_llm_webhook_key(ngx_str_t *secret, ngx_str_t *key)
{
    ngx_str_t  s;

    if (secret->len > 6 && ngx_strncmp(secret->data, "whsec_", 6) == 0) {

        s.data = secret->data + 6;
        s.len = secret->len - 6;

        if (ngx_base64_decoded_length(s.len) <= NGX_HTTP_LLM_WEBHOOK_KEY
            && ngx_decode_base64(key, &s) == NGX_OK)
        {
            return 1;
        }
    }

    *key = *secret;

    return 0;
}
