
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /v1/files/{id}/content: one chunk in memory, and the next one is asked
 * for when the client has taken it.
 */


#include "tasks/ngx_http_llm_files_private.h"
#include "http/ngx_http_llm_compat.h"
#include "http/ngx_http_llm_reply.h"


#define NGX_HTTP_LLM_FILES_POOL  4096


static ngx_int_t ngx_http_llm_files_content_found(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_content_ask(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_content_came(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_content_header(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_content_range(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_content_send(ngx_http_llm_files_t *fs);


ngx_int_t
ngx_http_llm_files_content(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    if (fs->reader.file.id.len == 0) {
        return ngx_http_llm_files_find(fs);
    }

    if (!fs->found) {
        fs->found = 1;

        return ngx_http_llm_files_content_found(fs);
    }

    if (fs->sending) {

        if (ngx_http_output_filter(fs->ctx->request, NULL) == NGX_ERROR) {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_reply_flush(fs->ctx->request);

        if (rc != NGX_OK) {
            return rc;
        }

        fs->sending = 0;
        fs->chunk++;

        return ngx_http_llm_files_content_ask(fs);
    }

    return ngx_http_llm_files_content_came(fs);
}


static ngx_int_t
ngx_http_llm_files_content_found(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    if (fs->reader.rc != NGX_OK) {
        return ngx_http_llm_files_unread(fs);
    }

    fs->last = fs->reader.file.chunks;

    if (fs->last) {
        return ngx_http_llm_files_content_ask(fs);
    }

    rc = ngx_http_llm_files_content_header(fs);

    if (rc != NGX_OK) {
        return rc;
    }

    fs->ctx->rc = ngx_http_send_special(fs->ctx->request, NGX_HTTP_LAST);

    return NGX_DONE;
}


static ngx_int_t
ngx_http_llm_files_content_ask(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    if (fs->pool) {
        ngx_destroy_pool(fs->pool);
    }

    fs->pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL,
                               fs->ctx->request->connection->log);
    if (fs->pool == NULL) {
        return NGX_ERROR;
    }

    fs->reader.pool = fs->pool;

    rc = ngx_http_llm_blob_read(&fs->reader, fs->chunk);

    if (rc == NGX_OK) {
        fs->pending = 1;
        return NGX_AGAIN;
    }

    fs->reader.rc = rc;

    return ngx_http_llm_files_content_came(fs);
}


static ngx_int_t
ngx_http_llm_files_content_came(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    if (fs->reader.rc == NGX_OK) {

        rc = fs->headed ? NGX_OK : ngx_http_llm_files_content_header(fs);

        return rc == NGX_OK ? ngx_http_llm_files_content_send(fs) : rc;
    }

    if (fs->headed) {
        ngx_log_error(NGX_LOG_ERR, fs->ctx->request->connection->log, 0,
                      "llm: chunk %ui of the file \"%V\" is not there (%i), "
                      "the answer breaks off", fs->chunk, &fs->id,
                      fs->reader.rc);

        /* the header is out: nothing but the connection's end can tell */

        return NGX_ERROR;
    }

    return ngx_http_llm_files_unread(fs);
}


static ngx_int_t
ngx_http_llm_files_content_header(ngx_http_llm_files_t *fs)
{
    off_t                end;
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_length_n = (off_t) fs->reader.file.bytes;
    ngx_str_set(&r->headers_out.content_type, "application/octet-stream");
    r->headers_out.content_type_len = r->headers_out.content_type.len;
    r->headers_out.content_type_lowcase = NULL;

    /* nginx answers a range; several make too many buffers out of one */

    r->allow_ranges = 1;
    r->single_range = 1;

    if (ngx_http_llm_reply_headers(r, fs->ctx) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_send_header(r);

    if (rc == NGX_HTTP_RANGE_NOT_SATISFIABLE && !r->header_sent) {
        return ngx_http_llm_files_content_range(fs);
    }

    fs->headed = 1;
    fs->ctx->committed = 1;

    if (rc == NGX_ERROR || rc > NGX_OK) {
        return NGX_ERROR;
    }

    if (r->headers_out.status == NGX_HTTP_PARTIAL_CONTENT) {

        end = r->headers_out.content_offset
              + r->headers_out.content_length_n;

        fs->last = (ngx_uint_t) ((end + NGX_HTTP_LLM_FILES_CHUNK - 1)
                                 / NGX_HTTP_LLM_FILES_CHUNK);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_files_content_range(ngx_http_llm_files_t *fs)
{
    u_char              *p;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    ngx_http_clean_header(r);
    r->allow_ranges = 0;

    h = ngx_list_push(&r->headers_out.headers);
    p = ngx_pnalloc(r->pool, sizeof("bytes */") - 1 + NGX_OFF_T_LEN);

    if (h == NULL || p == NULL) {
        return NGX_ERROR;
    }

    h->hash = 1;
    ngx_str_set(&h->key, "Content-Range");
    h->value.data = p;
    h->value.len = ngx_sprintf(p, "bytes */%uL", fs->reader.file.bytes) - p;
    h->lowcase_key = NULL;
    ngx_http_llm_header_unlink(h);

    return ngx_http_llm_error(fs->ctx, NGX_HTTP_RANGE_NOT_SATISFIABLE,
                              "invalid_request_error", "invalid_range",
                              "The file has no such bytes.");
}


static ngx_int_t
ngx_http_llm_files_content_send(ngx_http_llm_files_t *fs)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_chain_t          out;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    b = fs->buf;

    if (b == NULL) {
        b = ngx_calloc_buf(r->pool);
        if (b == NULL) {
            return NGX_ERROR;
        }

        fs->buf = b;
    }

    ngx_memzero(b, sizeof(ngx_buf_t));

    b->start = fs->reader.text.data;
    b->pos = b->start;
    b->last = b->start + fs->reader.text.len;
    b->end = b->last;
    b->memory = 1;
    b->flush = 1;

    out.buf = b;
    out.next = NULL;

    if (fs->chunk + 1 >= fs->last) {

        /* the rest is nginx's, and the pool lives as long as the request */

        b->last_buf = 1;
        b->last_in_chain = 1;

        fs->ctx->rc = ngx_http_output_filter(r, &out);

        return NGX_DONE;
    }

    rc = ngx_http_output_filter(r, &out);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    fs->sending = 1;

    return ngx_http_llm_files_content(fs);
}
