
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_reply.h"


static ngx_int_t ngx_http_llm_reply_send(ngx_http_request_t *r,
    ngx_str_t *body);


static ngx_str_t  ngx_http_llm_reply_json = ngx_string("application/json");


ngx_int_t
ngx_http_llm_error(ngx_http_llm_ctx_t *ctx, ngx_uint_t status,
    const char *type, const char *code, const char *message)
{
    if (ctx->revoked) {
        /* that is why it ended, whatever came of it */
        status = NGX_HTTP_FORBIDDEN;
        type = "invalid_request_error";
        code = "key_disabled";
        message = "This API key was revoked while its request ran.";
    }

    ctx->error.status = status;
    ctx->error.type = type;
    ctx->error.code = code;
    ctx->error.param = NULL;
    ctx->error.message.data = (u_char *) message;
    ctx->error.message.len = ngx_strlen(message);
    ctx->error.wait = -1;
    ctx->error.no_retry = 0;
    ctx->failed = 1;

    return status;
}


ngx_int_t
ngx_http_llm_reply_error(ngx_http_request_t *r, ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_error_t *e)
{
    ngx_str_t  body;

    if (ngx_http_llm_reply_error_body(r, e, &body) != NGX_OK) {
        return NGX_ERROR;
    }

    /* what is still to come of the request must not be read as the next */

    if (r == r->main && (ctx == NULL || !ctx->body_read)
        && ngx_http_discard_request_body(r) != NGX_OK)
    {
        return NGX_ERROR;
    }

    r->headers_out.status = e->status;
    r->headers_out.content_type = ngx_http_llm_reply_json;
    r->headers_out.content_type_len = ngx_http_llm_reply_json.len;
    r->headers_out.content_type_lowcase = NULL;
    r->headers_out.content_length_n = body.len;

    if (ngx_http_llm_reply_wait(r, e) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ctx && ngx_http_llm_reply_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_reply_send(r, &body);
}


ngx_int_t
ngx_http_llm_reply_error_body(ngx_http_request_t *r, ngx_http_llm_error_t *e,
    ngx_str_t *body)
{
    u_char  *p;
    size_t   len, escape, param;

    escape = ngx_escape_json(NULL, e->message.data, e->message.len);
    param = e->param ? ngx_strlen(e->param) : 0;

    if (e->param) {
        escape += ngx_escape_json(NULL, (u_char *) e->param, param);
    }

    len = sizeof("{\"error\":{\"message\":\"\",\"type\":\"\",\"param\":\"\","
                 "\"code\":\"\"}}") - 1
          + e->message.len + escape + ngx_strlen(e->type)
          + sizeof("null") - 1 + param
          + sizeof("null") - 1 + (e->code ? ngx_strlen(e->code) : 0);

    p = ngx_pnalloc(r->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    p = ngx_cpymem(p, "{\"error\":{\"message\":\"", 21);
    p = (u_char *) ngx_escape_json(p, e->message.data, e->message.len);
    p = ngx_sprintf(p, "\",\"type\":\"%s\",\"param\":", e->type);

    if (e->param) {
        *p++ = '"';
        p = (u_char *) ngx_escape_json(p, (u_char *) e->param, param);
        *p++ = '"';

    } else {
        p = ngx_cpymem(p, "null", 4);
    }

    p = ngx_cpymem(p, ",\"code\":", 8);

    p = e->code ? ngx_sprintf(p, "\"%s\"", e->code)
                : ngx_cpymem(p, "null", 4);

    p = ngx_cpymem(p, "}}", 2);

    body->len = p - body->data;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_reply_answer(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t     *r;
    ngx_http_llm_answer_t  *an;

    r = ctx->request;
    an = &ctx->answer;

    if (an->from) {
        if (ngx_http_llm_reply_hoist(ctx, an->from) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_clear_content_length(r);

    } else if (ngx_http_llm_reply_headers(r, ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    r->headers_out.status = an->status;
    r->headers_out.status_line.len = 0;
    r->headers_out.content_length_n = an->body.len;

    if (an->content_type.len) {
        r->headers_out.content_type = an->content_type;
        r->headers_out.content_type_len = an->content_type.len;
        r->headers_out.content_type_lowcase = NULL;
    }

    if (ctx->failed && ngx_http_llm_reply_wait(r, &ctx->error) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ngx_http_llm_reply_send(r, &an->body);
}


ngx_int_t
ngx_http_llm_reply_body(ngx_http_request_t *r, ngx_uint_t status,
    ngx_str_t *content_type, ngx_str_t *body)
{
    r->headers_out.status = status;
    r->headers_out.content_type = content_type ? *content_type
                                               : ngx_http_llm_reply_json;
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_length_n = body->len;

    return ngx_http_llm_reply_send(r, body);
}


static ngx_int_t
ngx_http_llm_reply_send(ngx_http_request_t *r, ngx_str_t *body)
{
    ngx_int_t     rc;
    ngx_buf_t    *b;
    ngx_chain_t   out;

    rc = ngx_http_send_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    b = ngx_calloc_buf(r->pool);
    if (b == NULL) {
        return NGX_ERROR;
    }

    b->start = body->data;
    b->pos = body->data;
    b->last = body->data + body->len;
    b->end = b->last;
    b->memory = body->len ? 1 : 0;
    b->last_buf = 1;
    b->last_in_chain = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}
