
/*
 * Copyright (C) the ngx-llm authors
 *
 * The body of a request for a batch.
 */


#include "tasks/ngx_http_llm_batches_private.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_json.h"


#define NGX_HTTP_LLM_BATCHES_BODY      65536
#define NGX_HTTP_LLM_BATCHES_PAIRS     16
#define NGX_HTTP_LLM_BATCHES_NAME      64
#define NGX_HTTP_LLM_BATCHES_VALUE     512
#define NGX_HTTP_LLM_BATCHES_KEEP_MIN  3600
#define NGX_HTTP_LLM_BATCHES_KEEP_MAX  2592000


static ngx_int_t ngx_http_llm_batches_members(ngx_http_llm_batches_t *bs,
    json_t *root);
static ngx_int_t ngx_http_llm_batches_string(ngx_http_llm_batches_t *bs,
    json_t *root, const char *name, ngx_str_t *to);
static ngx_int_t ngx_http_llm_batches_metadata(ngx_http_llm_batches_t *bs,
    json_t *value);
static ngx_int_t ngx_http_llm_batches_keep(ngx_http_llm_batches_t *bs,
    json_t *value);


ngx_int_t
ngx_http_llm_batches_parse(ngx_http_llm_batches_t *bs)
{
    json_t               *root;
    ngx_int_t             rc;
    json_error_t          error;
    ngx_http_llm_ctx_t   *ctx;

    ctx = bs->ctx;

    if (ngx_http_llm_body(ctx->request, &ctx->body) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx->body.len > NGX_HTTP_LLM_BATCHES_BODY) {
        return ngx_http_llm_batches_bad(bs, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                        "request_too_large", NULL,
                                        "The request body is larger than "
                                        "64 KB.", NULL);
    }

    if (ngx_http_llm_json_load(&ctx->body, &root, &error) == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (!json_is_object(root)) {
        json_decref(root);

        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "invalid_json", NULL,
                                        "The request body must be a JSON "
                                        "object.", NULL);
    }

    rc = ngx_http_llm_batches_members(bs, root);

    json_decref(root);

    return rc;
}


static ngx_int_t
ngx_http_llm_batches_members(ngx_http_llm_batches_t *bs, json_t *root)
{
    ngx_int_t       rc;
    ngx_str_t       window;
    llm_str_t       url;
    llm_endpoint_e  endpoint;

    rc = ngx_http_llm_batches_string(bs, root, "input_file_id", &bs->input);
    if (rc != NGX_OK) {
        return rc;
    }

    rc = ngx_http_llm_batches_string(bs, root, "endpoint", &bs->endpoint);
    if (rc != NGX_OK) {
        return rc;
    }

    url.data = bs->endpoint.data;
    url.len = bs->endpoint.len;

    if (llm_batch_endpoint(&url, &endpoint) != LLM_OK) {
        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "invalid_value", "endpoint",
                                        "'endpoint' must be one of "
                                        "'/v1/chat/completions', "
                                        "'/v1/completions', '/v1/embeddings' "
                                        "and '/v1/responses'.", NULL);
    }

    rc = ngx_http_llm_batches_string(bs, root, "completion_window", &window);
    if (rc != NGX_OK) {
        return rc;
    }

    if (window.len != 3 || ngx_memcmp(window.data, "24h", 3) != 0) {
        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "invalid_value", "completion_window",
                                        "'completion_window' must be '24h'.",
                                        NULL);
    }

    rc = ngx_http_llm_batches_metadata(bs, json_object_get(root, "metadata"));
    if (rc != NGX_OK) {
        return rc;
    }

    return ngx_http_llm_batches_keep(bs,
                                     json_object_get(root,
                                                     "output_expires_after"));
}


static ngx_int_t
ngx_http_llm_batches_string(ngx_http_llm_batches_t *bs, json_t *root,
    const char *name, ngx_str_t *to)
{
    json_t     *value;
    ngx_str_t   s;

    value = json_object_get(root, name);

    if (value == NULL || json_is_null(value)) {
        s.data = (u_char *) name;
        s.len = ngx_strlen(name);

        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "missing_required_parameter", name,
                                        "Missing required parameter: '%V'.",
                                        &s);
    }

    if (!json_is_string(value)) {
        s.data = (u_char *) name;
        s.len = ngx_strlen(name);

        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "invalid_type", name,
                                        "'%V' must be a string.", &s);
    }

    s.data = (u_char *) json_string_value(value);
    s.len = json_string_length(value);

    to->len = s.len;
    to->data = ngx_pstrdup(bs->ctx->request->pool, &s);

    return to->data ? NGX_OK : NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_batches_metadata(ngx_http_llm_batches_t *bs, json_t *value)
{
    char        *text;
    json_t      *v;
    ngx_str_t    s;
    const char  *name;

    if (value == NULL || json_is_null(value)) {
        return NGX_OK;
    }

    if (!json_is_object(value)
        || json_object_size(value) > NGX_HTTP_LLM_BATCHES_PAIRS)
    {
        goto bad;
    }

    json_object_foreach(value, name, v) {

        if (!json_is_string(v)
            || ngx_strlen(name) > NGX_HTTP_LLM_BATCHES_NAME
            || json_string_length(v) > NGX_HTTP_LLM_BATCHES_VALUE)
        {
            goto bad;
        }
    }

    text = ngx_http_llm_json_dump(value, JSON_COMPACT);
    if (text == NULL) {
        return NGX_ERROR;
    }

    s.data = (u_char *) text;
    s.len = ngx_strlen(text);

    bs->metadata.len = s.len;
    bs->metadata.data = ngx_pstrdup(bs->ctx->request->pool, &s);

    free(text);

    return bs->metadata.data ? NGX_OK : NGX_ERROR;

bad:

    return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                    "invalid_value", "metadata",
                                    "'metadata' must be an object of at most "
                                    "16 strings of at most 512 bytes, with "
                                    "names of at most 64.", NULL);
}


static ngx_int_t
ngx_http_llm_batches_keep(ngx_http_llm_batches_t *bs, json_t *value)
{
    json_t      *seconds;
    const char  *anchor;

    if (value == NULL || json_is_null(value)) {
        return NGX_OK;
    }

    anchor = json_string_value(json_object_get(value, "anchor"));
    seconds = json_object_get(value, "seconds");

    bs->keep = json_integer_value(seconds);

    if (anchor && ngx_strcmp(anchor, "created_at") == 0
        && bs->keep >= NGX_HTTP_LLM_BATCHES_KEEP_MIN
        && bs->keep <= NGX_HTTP_LLM_BATCHES_KEEP_MAX)
    {
        return NGX_OK;
    }

    return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                    "invalid_value", "output_expires_after",
                                    "'output_expires_after' must have the "
                                    "anchor 'created_at' and 3600 to 2592000 "
                                    "seconds.", NULL);
}


ngx_int_t
ngx_http_llm_batches_bad(ngx_http_llm_batches_t *bs, ngx_uint_t status,
    const char *code, const char *param, const char *message, ngx_str_t *s)
{
    u_char              *p;
    size_t               len;
    ngx_int_t            rc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = bs->ctx;

    rc = ngx_http_llm_error(ctx, status, "invalid_request_error", code,
                            message);

    if (ctx->revoked) {
        return rc;
    }

    ctx->error.param = param;

    if (s == NULL) {
        return rc;
    }

    /* what a client made up is told in part only */

    len = ngx_strlen(message) + ngx_min(s->len, 64);

    p = ngx_pnalloc(ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (s->len > 64) {
        s->len = 64;
    }

    ctx->error.message.data = p;
    ctx->error.message.len = ngx_snprintf(p, len, message, s) - p;

    return rc;
}
