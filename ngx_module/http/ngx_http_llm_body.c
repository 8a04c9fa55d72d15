
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_body.h"


static u_char *ngx_http_llm_body_join(ngx_http_request_body_t *rb, size_t len);
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

    p = ngx_http_llm_body_join(r->request_body, body->len);

    if (p) {
        body->data = p;
        return NGX_OK;
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


/*
 * What came together with the header is in front of what nginx has read into
 * a buffer of its own, and that has room for both (request_body_in_single_buf
 * asks for it).  NULL: it is not so.
 */

static u_char *
ngx_http_llm_body_join(ngx_http_request_body_t *rb, size_t len)
{
    size_t        front;
    u_char       *p;
    ngx_buf_t    *b, *buf;
    ngx_chain_t  *cl;

    buf = rb->buf;

    if (buf == NULL || (size_t) (buf->end - buf->start) < len) {
        return NULL;
    }

    p = buf->start;
    front = 0;

    for (cl = rb->bufs; cl; cl = cl->next) {

        b = cl->buf;

        if (ngx_buf_size(b) == 0) {
            continue;
        }

        if (!ngx_buf_in_memory(b)) {
            return NULL;
        }

        if (b->pos == p) {
            p = b->last;
            continue;
        }

        if (cl != rb->bufs || (b->pos >= buf->start && b->pos < buf->end)) {
            return NULL;
        }

        front = b->last - b->pos;
    }

    b = rb->bufs->buf;

    if (front) {
        ngx_memmove(buf->start + front, buf->start, len - front);
        ngx_memcpy(buf->start, b->pos, front);
    }

    /* $request_body reads the chain, too */

    b->start = buf->start;
    b->pos = b->start;
    b->last = b->start + len;
    b->end = buf->end;
    b->temporary = 1;

    rb->bufs->next = NULL;

    return b->pos;
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
