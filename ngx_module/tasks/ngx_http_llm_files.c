
/*
 * Copyright (C) the ngx-llm authors
 *
 * /v1/files: which of them is asked for, one file's object, and its end.
 */


#include "tasks/ngx_http_llm_files_private.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_batch.h"


#define NGX_HTTP_LLM_FILES_URI  "/v1/files"


static ngx_int_t ngx_http_llm_files_begin(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_files_route(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_show(ngx_http_llm_files_t *fs);
static void ngx_http_llm_files_found(ngx_http_llm_blob_reader_t *rd);
static ngx_int_t ngx_http_llm_files_delete(ngx_http_llm_files_t *fs);
static void ngx_http_llm_files_deleted(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_files_cleanup(void *data);
static void ngx_http_llm_files_free(void *data);


ngx_int_t
ngx_http_llm_files_stage(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t              rc;
    ngx_http_llm_files_t  *fs;

    fs = ngx_http_llm_tasks_begun(ctx, ngx_http_llm_files_cleanup);

    if (fs == NULL) {
        rc = ngx_http_llm_files_begin(ctx);

        if (rc != NGX_OK) {
            return rc;
        }

        fs = ngx_http_llm_tasks_begun(ctx, ngx_http_llm_files_cleanup);
    }

    if (ctx->revoked) {
        ngx_http_llm_files_cleanup(fs);

        return ctx->committed ? NGX_ERROR
                              : ngx_http_llm_error(ctx, NGX_HTTP_FORBIDDEN,
                                                   NULL, NULL, "");
    }

    if (fs->pending) {
        return NGX_AGAIN;
    }

    return fs->step(fs);
}


static ngx_int_t
ngx_http_llm_files_begin(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t              rc;
    ngx_http_cleanup_t    *cln;
    ngx_pool_cleanup_t    *pcln;
    ngx_http_request_t    *r;
    ngx_http_llm_files_t  *fs;

    rc = ngx_http_llm_tasks_ready(ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    r = ctx->request;

    fs = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_files_t));
    pcln = ngx_pool_cleanup_add(r->pool, 0);

    if (fs == NULL || pcln == NULL
        || ngx_http_llm_tasks_team(ctx, &fs->team) != NGX_OK)
    {
        return NGX_ERROR;
    }

    fs->ctx = ctx;
    fs->tcf = ngx_http_llm_tasks_conf(ctx->mcf);

    fs->reader.mcf = ctx->mcf;
    fs->reader.team = fs->team;
    fs->reader.pool = r->pool;
    fs->reader.handler = ngx_http_llm_files_found;
    fs->reader.data = fs;

    rc = ngx_http_llm_files_route(fs);

    if (rc != NGX_OK) {
        return rc;
    }

    /* what is on its way to the client outlives the request's cleanup */

    pcln->handler = ngx_http_llm_files_free;
    pcln->data = fs;

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_files_cleanup;
    cln->data = fs;

    return NGX_OK;
}


/* the gateway has let pass what there is, and no other methods */

static ngx_int_t
ngx_http_llm_files_route(ngx_http_llm_files_t *fs)
{
    u_char              *p, *last;
    ngx_http_request_t  *r;

    r = fs->ctx->request;

    p = r->uri.data + sizeof(NGX_HTTP_LLM_FILES_URI) - 1;
    last = r->uri.data + r->uri.len;

    if (p == last) {
        fs->step = r->method == NGX_HTTP_POST ? ngx_http_llm_files_upload
                                              : ngx_http_llm_files_list;
        return NGX_OK;
    }

    fs->id.data = ++p;

    p = ngx_strlchr(p, last, '/');

    fs->id.len = (p ? p : last) - fs->id.data;

    if (!ngx_http_llm_queue_is_id(&fs->id, "file-")) {
        return ngx_http_llm_files_unknown(fs, &fs->id, "id");
    }

    if (p) {
        fs->step = ngx_http_llm_files_content;

    } else if (r->method == NGX_HTTP_DELETE) {
        fs->step = ngx_http_llm_files_delete;

    } else {
        fs->step = ngx_http_llm_files_show;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_files_find(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_blob_find(&fs->reader, &fs->id);

    if (rc == NGX_OK) {
        fs->pending = 1;
        return NGX_AGAIN;
    }

    return rc == NGX_ERROR ? NGX_ERROR
                           : ngx_http_llm_tasks_unavailable(fs->ctx);
}


static void
ngx_http_llm_files_found(ngx_http_llm_blob_reader_t *rd)
{
    ngx_http_llm_files_t  *fs = rd->data;

    fs->pending = 0;
    fs->ctx->wake(fs->ctx);
}


static ngx_int_t
ngx_http_llm_files_show(ngx_http_llm_files_t *fs)
{
    if (!fs->found) {
        fs->found = 1;
        return ngx_http_llm_files_find(fs);
    }

    return fs->reader.rc == NGX_OK
           ? ngx_http_llm_files_answer(fs, &fs->reader.file)
           : ngx_http_llm_files_unread(fs);
}


ngx_int_t
ngx_http_llm_files_unread(ngx_http_llm_files_t *fs)
{
    switch (fs->reader.rc) {

    case NGX_DECLINED:
        return ngx_http_llm_files_unknown(fs, &fs->id, "id");

    case NGX_ABORT:
        return ngx_http_llm_tasks_unavailable(fs->ctx);

    default:
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_llm_files_delete(ngx_http_llm_files_t *fs)
{
    u_char                     *p;
    size_t                      len;
    llm_str_t                   id;
    ngx_http_llm_queue_call_t   call;

    if (!fs->found) {
        fs->found = 1;

        ngx_http_llm_queue_begin(&call, fs->ctx->request->pool, "delete");
        ngx_http_llm_queue_add(&call, &fs->team);
        ngx_http_llm_queue_add(&call, &fs->id);

        fs->op = ngx_http_llm_queue_eval(fs->tcf, fs->tcf->files, &call,
                                         ngx_http_llm_files_deleted, fs);
        if (fs->op == NULL) {
            return ngx_http_llm_tasks_unavailable(fs->ctx);
        }

        fs->pending = 1;

        return NGX_AGAIN;
    }

    if (fs->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(fs->ctx);
    }

    if (fs->rc != NGX_OK) {
        return ngx_http_llm_files_unknown(fs, &fs->id, "id");
    }

    id.data = fs->id.data;
    id.len = fs->id.len;

    len = llm_batch_write_deleted(NULL, 0, &id);

    p = ngx_pnalloc(fs->ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) llm_batch_write_deleted(p, len, &id);

    ngx_http_llm_files_json(fs, p, len);

    return NGX_OK;
}


static void
ngx_http_llm_files_deleted(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_files_t  *fs = data;

    fs->op = NULL;
    fs->pending = 0;

    if (reply->type != NGX_HTTP_LLM_REDIS_INTEGER) {
        fs->rc = NGX_ABORT;

    } else if (reply->integer == 0) {
        fs->rc = NGX_DECLINED;

    } else {
        fs->rc = NGX_OK;
        ngx_http_llm_files_clear(fs->tcf);
    }

    fs->ctx->wake(fs->ctx);
}


ngx_int_t
ngx_http_llm_files_answer(ngx_http_llm_files_t *fs,
    ngx_http_llm_blob_t *file)
{
    u_char  *p;
    size_t   len;

    len = ngx_http_llm_files_object(file, NULL, 0);

    p = ngx_pnalloc(fs->ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) ngx_http_llm_files_object(file, p, len);

    ngx_http_llm_files_json(fs, p, len);

    return NGX_OK;
}


size_t
ngx_http_llm_files_object(ngx_http_llm_blob_t *file, u_char *buf, size_t size)
{
    llm_batch_file_t  f;

    f.id.data = file->id.data;
    f.id.len = file->id.len;
    f.bytes = file->bytes;
    f.created = file->created;
    f.expires = file->expires;
    f.filename.data = file->filename.data;
    f.filename.len = file->filename.len;
    f.purpose = file->purpose.len == 5 ? "batch" : "batch_output";
    f.status = "processed";

    return llm_batch_write_file(buf, size, &f);
}


void
ngx_http_llm_files_json(ngx_http_llm_files_t *fs, u_char *p, size_t len)
{
    ngx_http_llm_answer_t  *an;

    an = &fs->ctx->answer;

    an->status = NGX_HTTP_OK;
    ngx_str_set(&an->content_type, "application/json");
    an->body.data = p;
    an->body.len = len;
    an->from = NULL;

    fs->ctx->answered = 1;
}


/* what is another's is told from what never was by nothing */

ngx_int_t
ngx_http_llm_files_unknown(ngx_http_llm_files_t *fs, ngx_str_t *id,
    const char *param)
{
    u_char              *p;
    ngx_int_t            rc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = fs->ctx;

    rc = ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND, "invalid_request_error",
                            NULL, "");

    if (ctx->revoked) {
        return rc;
    }

    p = ngx_pnalloc(ctx->request->pool,
                    sizeof("No such File object: ") - 1 + id->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.param = param;
    ctx->error.message.data = p;
    ctx->error.message.len = ngx_sprintf(p, "No such File object: %V", id)
                             - p;

    return rc;
}


ngx_int_t
ngx_http_llm_files_wrong(ngx_http_llm_files_t *fs, const char *param,
    const char *code, const char *message)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_error(fs->ctx, NGX_HTTP_BAD_REQUEST,
                            "invalid_request_error", code, message);

    fs->ctx->error.param = param;

    return rc;
}


static void
ngx_http_llm_files_cleanup(void *data)
{
    ngx_http_llm_files_t  *fs = data;

    if (fs->op) {
        ngx_http_llm_redis_detach(fs->op);
        fs->op = NULL;
    }

    ngx_http_llm_blob_leave(&fs->reader);

    if (fs->upload) {
        ngx_http_llm_files_upload_end(fs);
    }
}


static void
ngx_http_llm_files_free(void *data)
{
    ngx_http_llm_files_t  *fs = data;

    if (fs->pool) {
        ngx_destroy_pool(fs->pool);
        fs->pool = NULL;
    }
}
