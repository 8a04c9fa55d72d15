
/*
 * Copyright (C) the ngx-llm authors
 *
 * Streams that are not a provider's own, and those that break.
 */


#include "http/ngx_http_llm_reply.h"
#include "http/ngx_http_llm_compat.h"


static ngx_int_t ngx_http_llm_reply_unstored(ngx_http_request_t *r);
static u_char *ngx_http_llm_reply_failed(u_char *p, ngx_http_llm_error_t *e,
    ngx_str_t *body);


ngx_int_t
ngx_http_llm_reply_begin(ngx_http_llm_ctx_t *ctx, ngx_str_t *content_type)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = ctx->request;

    if (ctx->begun && r->header_sent) {
        ctx->committed = 1;
        return NGX_OK;
    }

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_type = *content_type;
    r->headers_out.content_type_len = content_type->len;
    r->headers_out.content_type_lowcase = NULL;

    ngx_http_clear_content_length(r);

    if (ngx_http_llm_reply_unstored(r) != NGX_OK
        || ngx_http_llm_reply_headers(r, ctx) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ctx->committed = !ctx->begun;

    rc = ngx_http_send_header(r);

    return rc == NGX_ERROR || rc > NGX_OK ? NGX_ERROR : NGX_OK;
}


ngx_int_t
ngx_http_llm_reply_flush(ngx_http_request_t *r)
{
    ngx_event_t               *wev;
    ngx_http_core_loc_conf_t  *clcf;

    wev = r->connection->write;

    if (!r->buffered && !r->connection->buffered) {

        if (wev->timer_set) {
            ngx_del_timer(wev);
        }

        return NGX_OK;
    }

    clcf = ngx_http_get_module_loc_conf(r, ngx_http_core_module);

    if (!wev->delayed) {
        ngx_add_timer(wev, clcf->send_timeout);
    }

    if (ngx_handle_write_event(wev, clcf->send_lowat) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_AGAIN;
}


/* nobody between us and the client may keep a stream, or hold it back */

static ngx_int_t
ngx_http_llm_reply_unstored(ngx_http_request_t *r)
{
    ngx_uint_t        i;
    ngx_table_elt_t  *h;

    static ngx_str_t  header[] = {
        ngx_string("Cache-Control"), ngx_string("no-cache"),
        ngx_string("X-Accel-Buffering"), ngx_string("no")
    };

    for (i = 0; i < 4; i += 2) {
        h = ngx_list_push(&r->headers_out.headers);
        if (h == NULL) {
            return NGX_ERROR;
        }

        h->hash = 1;
        h->key = header[i];
        h->value = header[i + 1];
        h->lowcase_key = NULL;
        ngx_http_llm_header_unlink(h);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_reply_break(ngx_http_llm_ctx_t *ctx, ngx_uint_t stream)
{
    ngx_str_t            body;
    ngx_buf_t           *b;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    r = ctx->request;

    r->keepalive = 0;

    if (!stream) {
        return ngx_http_send_special(r, NGX_HTTP_FLUSH);
    }

    if (ngx_http_llm_reply_error_body(r, &ctx->error, &body) != NGX_OK) {
        return NGX_ERROR;
    }

    b = ngx_create_temp_buf(r->pool, 256 + 2 * body.len);
    if (b == NULL) {
        return NGX_ERROR;
    }

    if (ctx->endpoint == LLM_RESPONSES) {
        b->last = ngx_http_llm_reply_failed(b->last, &ctx->error, &body);
    } else {
        b->last = ngx_sprintf(b->last, "data: %V\n\n", &body);
    }

    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    return ngx_http_output_filter(r, &out);
}


/* of responses: what the API's own event has, and the usual object as well */

static u_char *
ngx_http_llm_reply_failed(u_char *p, ngx_http_llm_error_t *e, ngx_str_t *body)
{
    p = ngx_cpymem(p, "event: error\ndata: {\"type\":\"error\",\"message\":\"",
                   sizeof("event: error\ndata: {\"type\":\"error\","
                          "\"message\":\"") - 1);
    p = (u_char *) ngx_escape_json(p, e->message.data, e->message.len);

    p = e->code ? ngx_sprintf(p, "\",\"code\":\"%s\"", e->code)
                : ngx_sprintf(p, "\",\"code\":null");
    p = e->param ? ngx_sprintf(p, ",\"param\":\"%s\"", e->param)
                 : ngx_sprintf(p, ",\"param\":null");

    return ngx_sprintf(p, ",\"sequence_number\":0,%*s\n\n", body->len - 1,
                       body->data + 1);
}
