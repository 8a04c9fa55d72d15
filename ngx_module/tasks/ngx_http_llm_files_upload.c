
/*
 * Copyright (C) the ngx-llm authors
 *
 * POST /v1/files: the form is read as it comes in and the file in it goes on
 * to Redis.  No more is read while a chunk that is full has to wait for the
 * one before: who writes faster than Redis does waits.
 */


#include "tasks/ngx_http_llm_files_upload.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"


#define NGX_HTTP_LLM_UPLOAD_SLICE  1048576  /* bytes of one turn */


static ngx_int_t ngx_http_llm_upload_begin(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_upload_check(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_upload_start(ngx_http_llm_files_t *fs);
static void ngx_http_llm_upload_post(ngx_http_request_t *r);
static void ngx_http_llm_upload_event(ngx_http_request_t *r);
static void ngx_http_llm_upload_ready(ngx_http_llm_blob_writer_t *w);
static ngx_int_t ngx_http_llm_upload_run(ngx_http_llm_files_upload_t *up);
static ngx_int_t ngx_http_llm_upload_read(ngx_http_llm_files_upload_t *up);
static ngx_int_t ngx_http_llm_upload_broken(ngx_http_llm_files_upload_t *up,
    ngx_int_t rc);
static ngx_int_t ngx_http_llm_upload_take(ngx_http_llm_files_upload_t *up);
static ngx_int_t ngx_http_llm_upload_form(ngx_http_llm_files_upload_t *up,
    ngx_buf_t *b);
static ngx_int_t ngx_http_llm_upload_write(ngx_http_llm_files_upload_t *up);
static ngx_int_t ngx_http_llm_upload_close(ngx_http_llm_files_upload_t *up);


ngx_int_t
ngx_http_llm_files_upload(ngx_http_llm_files_t *fs)
{
    ngx_int_t                     rc;
    ngx_connection_t             *c;
    ngx_http_request_t           *r;
    ngx_http_llm_files_upload_t  *up;

    r = fs->ctx->request;
    up = fs->upload;

    if (up == NULL) {
        rc = ngx_http_llm_upload_begin(fs);

        if (rc == NGX_OK) {
            rc = ngx_http_llm_upload_start(fs);
        }

        up = fs->upload;

    } else {
        rc = NGX_OK;
    }

    if (rc == NGX_OK) {
        rc = up->closing ? ngx_http_llm_upload_close(up)
                         : ngx_http_llm_upload_run(up);
    }

    if (rc == NGX_AGAIN) {
        return rc;
    }

    if (up) {
        ngx_http_llm_files_upload_end(fs);
    }

    /* of a body that was not read to its end the rest is to be ignored */

    if (r->reading_body) {
        c = r->connection;
        r->keepalive = 0;

        if (c->read->timer_set) {
            ngx_del_timer(c->read);
        }
    }

    return rc;
}


/* what can be told without the body */

static ngx_int_t
ngx_http_llm_upload_begin(ngx_http_llm_files_t *fs)
{
    ngx_int_t                     rc;
    llm_str_t                     type;
    ngx_http_request_t           *r;
    ngx_http_llm_files_upload_t  *up;

    r = fs->ctx->request;

    rc = ngx_http_llm_upload_check(fs);

    if (rc != NGX_OK) {
        return rc;
    }

    up = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_files_upload_t));
    if (up == NULL) {
        return NGX_ERROR;
    }

    up->fs = fs;

    up->writer.mcf = fs->ctx->mcf;
    up->writer.pool = r->pool;
    up->writer.file.team = fs->team;
    up->writer.max = fs->tcf->file_max;
    up->writer.ready = ngx_http_llm_upload_ready;
    up->writer.data = up;

    type.data = (u_char *) "";
    type.len = 0;

    if (r->headers_in.content_type) {
        type.data = r->headers_in.content_type->value.data;
        type.len = r->headers_in.content_type->value.len;
    }

    rc = llm_multipart_init(&up->form, &type, up->head, sizeof(up->head));

    if (rc != LLM_OK) {
        return ngx_http_llm_files_wrong(fs, NULL, "invalid_form",
                                        rc == LLM_DECLINED
                                        ? "The body must be "
                                          "multipart/form-data."
                                        : "The Content-Type of the form has "
                                          "no boundary that could be "
                                          "used.");
    }

    fs->upload = up;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_upload_check(ngx_http_llm_files_t *fs)
{
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    h = ngx_http_llm_header_in(r, "content-encoding",
                               sizeof("content-encoding") - 1);

    if (h && !(h->value.len == 8
               && ngx_strncasecmp(h->value.data, (u_char *) "identity", 8)
                  == 0))
    {
        return ngx_http_llm_error(fs->ctx, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                  "invalid_request_error", NULL,
                                  "A compressed request body is not "
                                  "supported.");
    }

    if (r->headers_in.content_length_n
        > (off_t) fs->tcf->file_max + NGX_HTTP_LLM_UPLOAD_FORM)
    {
        /* who asks first need not send it */

        r->expect_tested = 1;
        r->keepalive = 0;

        return ngx_http_llm_upload_large(fs);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_upload_start(ngx_http_llm_files_t *fs)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    r->request_body_no_buffering = 1;

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_upload_post);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return ngx_http_llm_upload_broken(fs->upload, rc);
    }

    /* it counted on a handler that returns NGX_DONE; the line did so once */

    r->main->count--;

    r->read_event_handler = ngx_http_llm_upload_event;

    if (r->request_body) {
        fs->upload->in = r->request_body->bufs;
        r->request_body->bufs = NULL;
    }

    return NGX_OK;
}


/* called before the function above goes on */

static void
ngx_http_llm_upload_post(ngx_http_request_t *r)
{
}


/* the client's socket can be read, or it was silent for too long */

static void
ngx_http_llm_upload_event(ngx_http_request_t *r)
{
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_module);

    ctx->wake(ctx);
}


static void
ngx_http_llm_upload_ready(ngx_http_llm_blob_writer_t *w)
{
    ngx_http_llm_files_upload_t  *up = w->data;

    up->blocked = 0;
    up->fs->ctx->wake(up->fs->ctx);
}


static ngx_int_t
ngx_http_llm_upload_run(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t            rc;
    ngx_event_t         *rev;
    ngx_http_llm_ctx_t  *ctx;

    ctx = up->fs->ctx;
    rev = ctx->request->connection->read;
    up->turn = 0;

    for ( ;; ) {

        if (up->blocked) {

            /* it is not the client that we wait for */

            if (rev->timer_set) {
                ngx_del_timer(rev);
            }

            rev->timedout = 0;

            return NGX_AGAIN;
        }

        rc = ngx_http_llm_upload_take(up);

        if (rc == NGX_AGAIN) {
            up->blocked = 1;
            continue;
        }

        if (rc != NGX_OK) {
            return rc;
        }

        if (up->turn >= NGX_HTTP_LLM_UPLOAD_SLICE) {
            ngx_post_event(&ctx->event, &ngx_posted_next_events);
            return NGX_AGAIN;
        }

        if (up->eof) {
            return ngx_http_llm_upload_close(up);
        }

        rc = ngx_http_llm_upload_read(up);

        if (rc != NGX_OK) {
            return rc;
        }
    }
}


/* NGX_AGAIN: the client has to send more first */

static ngx_int_t
ngx_http_llm_upload_read(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    r = up->fs->ctx->request;

    if (!r->reading_body) {
        up->eof = 1;
        return NGX_OK;
    }

    rc = ngx_http_read_unbuffered_request_body(r);

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        return ngx_http_llm_upload_broken(up, rc);
    }

    up->in = r->request_body->bufs;
    r->request_body->bufs = NULL;

    return rc == NGX_AGAIN && up->in == NULL ? NGX_AGAIN : NGX_OK;
}


static ngx_int_t
ngx_http_llm_upload_broken(ngx_http_llm_files_upload_t *up, ngx_int_t rc)
{
    ngx_http_request_t  *r;
    ngx_http_llm_ctx_t  *ctx;

    ctx = up->fs->ctx;
    r = ctx->request;

    /* where the body ends is not known any more */

    r->keepalive = 0;
    r->lingering_close = 1;

    if (r->connection->error) {
        ctx->gone = 1;
        ctx->rc = NGX_HTTP_CLIENT_CLOSED_REQUEST;
        return NGX_DONE;
    }

    switch (rc) {

    case NGX_HTTP_REQUEST_ENTITY_TOO_LARGE:
        return ngx_http_llm_upload_large(up->fs);

    case NGX_HTTP_BAD_REQUEST:
        return ngx_http_llm_files_wrong(up->fs, NULL, NULL,
                                        "The request body could not be "
                                        "read.");

    default:
        ctx->rc = rc;
        return NGX_DONE;
    }
}


/* NGX_AGAIN: the writer has no room */

static ngx_int_t
ngx_http_llm_upload_take(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t            rc;
    ngx_buf_t           *b;
    ngx_chain_t         *cl;
    ngx_http_request_t  *r;

    r = up->fs->ctx->request;

    for ( ;; ) {

        if (up->pos != up->last) {
            rc = ngx_http_llm_upload_write(up);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        cl = up->in;

        if (cl == NULL) {
            return NGX_OK;
        }

        b = cl->buf;

        if (b->pos != b->last) {

            if (!ngx_buf_in_memory(b)) {
                return NGX_ERROR;
            }

            rc = ngx_http_llm_upload_form(up, b);

            if (rc != NGX_OK) {
                return rc;
            }

            continue;
        }

        up->in = cl->next;
        ngx_free_chain(r->pool, cl);
    }
}


/* until there is something for the writer, or all of the buffer was taken */

static ngx_int_t
ngx_http_llm_upload_form(ngx_http_llm_files_upload_t *up, ngx_buf_t *b)
{
    int                   event;
    size_t                n;
    ngx_int_t             rc;
    llm_str_t             data;
    const unsigned char  *pos;

    while (up->pos == up->last) {

        pos = b->pos;

        event = llm_multipart_next(&up->form, &pos, b->last, &data);

        n = pos - b->pos;

        b->pos += n;
        up->turn += n;
        up->bytes += n;

        switch (event) {

        case LLM_MULTIPART_PART:
            rc = ngx_http_llm_upload_part(up);
            break;

        case LLM_MULTIPART_DATA:
            rc = ngx_http_llm_upload_data(up, &data);
            break;

        case LLM_MULTIPART_PART_END:
            rc = ngx_http_llm_upload_field(up);
            break;

        case LLM_MULTIPART_END:
        case LLM_AGAIN:
            /* a form that never ends, whatever its parts are */

            if (up->bytes > up->writer.max + NGX_HTTP_LLM_UPLOAD_FORM) {
                return ngx_http_llm_upload_large(up->fs);
            }

            return NGX_OK;

        default:
            return ngx_http_llm_upload_malformed(up);
        }

        if (rc != NGX_OK) {
            return rc;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_upload_write(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_blob_write(&up->writer, &up->pos, up->last);

    if (rc == NGX_OK || rc == NGX_AGAIN) {
        return rc;
    }

    return ngx_http_llm_upload_failed(up);
}


/* all has come; then, when it has become a file */

static ngx_int_t
ngx_http_llm_upload_close(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t                    rc;
    ngx_http_llm_files_t        *fs;
    ngx_http_llm_blob_writer_t  *w;

    fs = up->fs;
    w = &up->writer;

    if (up->closing) {

        if (w->rc != NGX_OK) {
            return ngx_http_llm_upload_failed(up);
        }

        return w->closed ? ngx_http_llm_files_answer(fs, &w->file)
                         : NGX_AGAIN;
    }

    fs->ctx->body_read = 1;

    if (up->bytes != 0 && llm_multipart_eof(&up->form) != LLM_OK) {
        return ngx_http_llm_files_wrong(fs, NULL, "invalid_form",
                                        "The form ended before its last "
                                        "boundary.");
    }

    if (!up->file) {
        return ngx_http_llm_files_wrong(fs, "file",
                                        "missing_required_parameter",
                                        "A part \"file\" is required.");
    }

    rc = ngx_http_llm_upload_purpose(up);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_upload_expires(up);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    if (w->file.bytes == 0) {
        return ngx_http_llm_files_wrong(fs, "file", "empty_file",
                                        "The file is empty.");
    }

    ngx_str_set(&w->file.purpose, "batch");

    up->closing = 1;

    return ngx_http_llm_blob_close(w) == NGX_OK
           ? NGX_AGAIN : ngx_http_llm_upload_failed(up);
}


void
ngx_http_llm_files_upload_end(ngx_http_llm_files_t *fs)
{
    ngx_http_llm_blob_abandon(&fs->upload->writer);
}
