
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_body.h"


static ngx_int_t ngx_http_llm_body_read(ngx_http_request_t *r, ngx_buf_t *b,
    u_char *p, size_t size);


ngx_int_t
ngx_http_llm_body(ngx_http_request_t *r, ngx_str_t *body)
{
    u_char       *p;
    size_t        size;
    ngx_buf_t    *b;
    ngx_chain_t  *cl, *bufs;

    ngx_str_null(body);

    if (r->request_body == NULL || r->request_body->bufs == NULL) {
        return NGX_OK;
    }

    bufs = r->request_body->bufs;

    /* behind a chunked body, or one of HTTP/2, comes an empty last buffer */

    if ((bufs->next == NULL || (bufs->next->next == NULL
                                && ngx_buf_size(bufs->next->buf) == 0))
        && ngx_buf_in_memory(bufs->buf))
    {
        body->data = bufs->buf->pos;
        body->len = bufs->buf->last - bufs->buf->pos;
        return NGX_OK;
    }

    for (cl = bufs; cl; cl = cl->next) {
        body->len += (size_t) ngx_buf_size(cl->buf);
    }

    p = ngx_pnalloc(r->pool, body->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    body->data = p;

    for (cl = bufs; cl; cl = cl->next) {
        b = cl->buf;
        size = (size_t) ngx_buf_size(b);

        if (size == 0) {
            continue;
        }

        if (ngx_buf_in_memory(b)) {
            ngx_memcpy(p, b->pos, size);

        } else if (ngx_http_llm_body_read(r, b, p, size) != NGX_OK) {
            return NGX_ERROR;
        }

        p += size;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_body_read(ngx_http_request_t *r, ngx_buf_t *b, u_char *p,
    size_t size)
{
    ssize_t  n;

    n = ngx_read_file(b->file, p, size, b->file_pos);

    if (n == (ssize_t) size) {
        return NGX_OK;
    }

    ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                  "llm: read %z of %uz bytes of the request body from \"%V\"",
                  n, size, &b->file->name);

    return NGX_ERROR;
}
