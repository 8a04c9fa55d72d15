
/*
 * Copyright (C) the ngx-llm authors
 *
 * Idempotency-Key of POST /api/tasks.  In Redis, by the first call, lies
 *
 *     FIRST_ID COUNT DIGEST
 *
 * under a name that is made of the team and the key.  All ids can be told
 * from the first one's, so whoever comes again with the same body gets the
 * same ids, and completes what a gateway that died had begun.
 */


#include "tasks/ngx_http_llm_tasks_submit.h"
#include "http/ngx_http_llm_id.h"


static u_char  ngx_http_llm_tasks_digits[] =
    "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";


ngx_int_t
ngx_http_llm_tasks_idem(ngx_http_llm_tasks_api_t *api)
{
    u_char                       *p;
    ngx_table_elt_t              *h;
    ngx_http_request_t           *r;
    ngx_http_llm_tasks_submit_t  *sb;

    r = api->ctx->request;
    sb = api->submit;

    h = ngx_http_llm_header_in(r, "idempotency-key",
                               sizeof("idempotency-key") - 1);

    if (h == NULL) {
        return NGX_OK;
    }

    if (h->value.len == 0 || h->value.len > NGX_HTTP_LLM_TASKS_KEY) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "invalid_value", NULL,
                                         "An Idempotency-Key has 1 to %d "
                                         "bytes.", NGX_HTTP_LLM_TASKS_KEY);
    }

    p = ngx_pnalloc(r->pool, NGX_HTTP_LLM_TASKS_HEX);
    sb->md = EVP_MD_CTX_new();

    if (p == NULL || sb->md == NULL
        || EVP_DigestInit_ex(sb->md, EVP_sha256(), NULL) != 1
        || EVP_DigestUpdate(sb->md, api->team.data, api->team.len) != 1
        || EVP_DigestUpdate(sb->md, "\n", 1) != 1
        || EVP_DigestUpdate(sb->md, h->value.data, h->value.len) != 1
        || ngx_http_llm_tasks_digest(sb, p) != NGX_OK)
    {
        return NGX_ERROR;
    }

    sb->name.data = p;
    sb->name.len = NGX_HTTP_LLM_TASKS_HEX;

    /* the body's is of no use to somebody who does not know the key */

    if (EVP_DigestInit_ex(sb->md, EVP_sha256(), NULL) != 1
        || EVP_DigestUpdate(sb->md, h->value.data, h->value.len) != 1
        || EVP_DigestUpdate(sb->md, "\n", 1) != 1)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_digest(ngx_http_llm_tasks_submit_t *sb, u_char *hex)
{
    u_char    md[32];
    unsigned  len;

    if (EVP_DigestFinal_ex(sb->md, md, &len) != 1 || len != sizeof(md)) {
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(hex, md, sizeof(md));

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_idem_update(ngx_http_llm_tasks_submit_t *sb,
    ngx_str_t *body)
{
    size_t  n;

    if (sb->name.len == 0) {
        return NGX_OK;
    }

    n = ngx_min(body->len - sb->hashed, NGX_HTTP_LLM_TASKS_SLICE);

    if (EVP_DigestUpdate(sb->md, body->data + sb->hashed, n) != 1) {
        return NGX_ERROR;
    }

    sb->hashed += n;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_idem_value(ngx_http_llm_tasks_api_t *api)
{
    u_char                       *p, id[NGX_HTTP_LLM_TASKS_ID_LEN];
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (sb->name.len == 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(api->ctx->request->pool, NGX_HTTP_LLM_TASKS_ID_LEN
                                             + NGX_HTTP_LLM_TASKS_HEX
                                             + NGX_INT_T_LEN + 2);

    if (p == NULL || ngx_http_llm_tasks_digest(sb, sb->digest) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_http_llm_tasks_submit_id(sb, 0, id);

    sb->value.data = p;
    sb->value.len = ngx_sprintf(p, "%*s %ui %*s", sizeof(id), id,
                                (ngx_uint_t) sb->ts.n,
                                (size_t) NGX_HTTP_LLM_TASKS_HEX, sb->digest)
                    - p;

    /* two at a time with one key must not enter a task twice */

    sb->check = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_idem_same(ngx_http_llm_tasks_submit_t *sb)
{
    size_t      rest;
    ngx_str_t  *found;

    found = &sb->found;
    rest = NGX_HTTP_LLM_TASKS_ID_LEN;

    /* behind the id all must be the same */

    if (found->len != sb->value.len
        || ngx_memcmp(found->data + rest, sb->value.data + rest,
                      found->len - rest)
           != 0)
    {
        return NGX_DECLINED;
    }

    ngx_memcpy(sb->base, found->data, rest);

    return NGX_OK;
}


void
ngx_http_llm_tasks_submit_id(ngx_http_llm_tasks_submit_t *sb, ngx_uint_t i,
    u_char *id)
{
    u_char  *p;

    p = ngx_cpymem(id, sb->base, NGX_HTTP_LLM_TASKS_ID_LEN);

    while (p > id + NGX_HTTP_LLM_TASKS_ID_LEN - NGX_HTTP_LLM_TASKS_DIGITS) {
        *--p = ngx_http_llm_tasks_digits[i % 62];
        i /= 62;
    }
}
