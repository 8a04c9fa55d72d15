
/*
 * Copyright (C) the ngx-llm authors
 *
 * POST /v1/files: the parts of the form, and what is wrong with it.
 */


#include "tasks/ngx_http_llm_files_upload.h"
#include "http/ngx_http_llm_reply.h"


#define NGX_HTTP_LLM_UPLOAD_TTL_MIN  3600   /* s, of expires_after */
#define NGX_HTTP_LLM_UPLOAD_TTL_MAX  2592000


static ngx_int_t ngx_http_llm_upload_open(ngx_http_llm_files_upload_t *up);
static ngx_int_t ngx_http_llm_upload_message(ngx_http_llm_ctx_t *ctx,
    size_t len, const char *fmt, ...);


/* in the order of ngx_http_llm_upload_e */

static ngx_str_t  ngx_http_llm_upload_names[] = {
    ngx_string("purpose"),
    ngx_string("expires_after[anchor]"),
    ngx_string("expires_after[seconds]"),
    ngx_string("file")
};


ngx_int_t
ngx_http_llm_upload_part(ngx_http_llm_files_upload_t *up)
{
    llm_str_t                    *name;
    ngx_str_t                    *known;
    ngx_uint_t                    i;
    ngx_http_llm_upload_field_t  *field;

    name = &up->form.name;

    for (i = 0; i < NGX_HTTP_LLM_UPLOAD_OTHER; i++) {
        known = &ngx_http_llm_upload_names[i];

        if (known->len == name->len
            && ngx_memcmp(known->data, name->data, name->len) == 0)
        {
            break;
        }
    }

    up->part = i;

    if (i < NGX_HTTP_LLM_UPLOAD_FIELDS) {
        field = &up->field[i];

        if (field->seen) {
            return ngx_http_llm_files_wrong(up->fs,
                              (char *) ngx_http_llm_upload_names[i].data,
                              "invalid_value", "This part of the form is "
                                               "there twice.");
        }

        field->seen = 1;

        return NGX_OK;
    }

    return i == NGX_HTTP_LLM_UPLOAD_FILE ? ngx_http_llm_upload_open(up)
                                         : NGX_OK;
}


static ngx_int_t
ngx_http_llm_upload_open(ngx_http_llm_files_upload_t *up)
{
    u_char                *p;
    llm_str_t             *filename;
    ngx_http_llm_files_t  *fs;

    fs = up->fs;

    if (up->file) {
        return ngx_http_llm_files_wrong(fs, "file", "invalid_value",
                                        "Only one file can be uploaded by a "
                                        "request.");
    }

    up->file = 1;

    filename = &up->form.filename;

    if (filename->len) {
        p = ngx_pnalloc(fs->ctx->request->pool, filename->len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(p, filename->data, filename->len);

        up->writer.file.filename.data = p;
        up->writer.file.filename.len = filename->len;

    } else {
        ngx_str_set(&up->writer.file.filename, "file");
    }

    return ngx_http_llm_blob_open(&up->writer) == NGX_OK
           ? NGX_OK : ngx_http_llm_upload_failed(up);
}


ngx_int_t
ngx_http_llm_upload_data(ngx_http_llm_files_upload_t *up, llm_str_t *data)
{
    ngx_http_llm_upload_field_t  *field;

    if (up->part == NGX_HTTP_LLM_UPLOAD_FILE) {
        up->pos = (u_char *) data->data;
        up->last = up->pos + data->len;
        return NGX_OK;
    }

    if (up->part == NGX_HTTP_LLM_UPLOAD_OTHER) {
        return NGX_OK;
    }

    field = &up->field[up->part];

    if (data->len > NGX_HTTP_LLM_UPLOAD_FIELD - field->len) {
        return ngx_http_llm_files_wrong(up->fs,
                       (char *) ngx_http_llm_upload_names[up->part].data,
                       "invalid_value", "The value is too long.");
    }

    ngx_memcpy(field->text + field->len, data->data, data->len);
    field->len += data->len;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_upload_field(ngx_http_llm_files_upload_t *up)
{
    if (up->part == NGX_HTTP_LLM_UPLOAD_PURPOSE) {
        return ngx_http_llm_upload_purpose(up);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_upload_purpose(ngx_http_llm_files_upload_t *up)
{
    ngx_http_llm_upload_field_t  *field;

    field = &up->field[NGX_HTTP_LLM_UPLOAD_PURPOSE];

    if (!field->seen) {
        return ngx_http_llm_files_wrong(up->fs, "purpose",
                                        "missing_required_parameter",
                                        "A part \"purpose\" is required.");
    }

    if (field->len != 5 || ngx_memcmp(field->text, "batch", 5) != 0) {
        return ngx_http_llm_files_wrong(up->fs, "purpose", "invalid_value",
                                        "purpose must be \"batch\": files "
                                        "for other purposes are not kept "
                                        "here.");
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_upload_expires(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t                     n;
    ngx_http_llm_upload_field_t  *anchor, *seconds;

    anchor = &up->field[NGX_HTTP_LLM_UPLOAD_ANCHOR];
    seconds = &up->field[NGX_HTTP_LLM_UPLOAD_SECONDS];

    if (!anchor->seen && !seconds->seen) {
        return NGX_OK;
    }

    if (anchor->len != 10 || ngx_memcmp(anchor->text, "created_at", 10) != 0)
    {
        return ngx_http_llm_files_wrong(up->fs, "expires_after[anchor]",
                                        anchor->seen
                                        ? "invalid_value"
                                        : "missing_required_parameter",
                                        "expires_after[anchor] must be "
                                        "\"created_at\".");
    }

    n = ngx_atoi(seconds->text, seconds->len);

    if (n < NGX_HTTP_LLM_UPLOAD_TTL_MIN || n > NGX_HTTP_LLM_UPLOAD_TTL_MAX) {
        return ngx_http_llm_files_wrong(up->fs, "expires_after[seconds]",
                                        seconds->seen
                                        ? "invalid_value"
                                        : "missing_required_parameter",
                                        "expires_after[seconds] must be a "
                                        "number from 3600 to 2592000.");
    }

    up->writer.file.expires = ngx_time() + n;

    return NGX_OK;
}


/* what the writer says */

ngx_int_t
ngx_http_llm_upload_failed(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t                   rc;
    ngx_http_llm_ctx_t         *ctx;
    ngx_http_llm_tasks_conf_t  *tcf;

    ctx = up->fs->ctx;
    tcf = up->fs->tcf;

    switch (up->writer.rc) {

    case NGX_ABORT:
        return ngx_http_llm_tasks_unavailable(ctx);

    case NGX_BUSY:
        return ngx_http_llm_upload_large(up->fs);

    case NGX_DECLINED:
        rc = ngx_http_llm_error(ctx, NGX_HTTP_TOO_MANY_REQUESTS,
                                "invalid_request_error",
                                "file_quota_exceeded", "");

        ctx->error.no_retry = 1;

        return ngx_http_llm_upload_message(ctx, 256,
                   "Files may take %O bytes, and %uL of them are in use. "
                   "Delete some, or let them expire.", tcf->file_quota,
                   up->writer.quota_used) == NGX_OK ? rc : NGX_ERROR;

    default:
        return NGX_ERROR;
    }
}


ngx_int_t
ngx_http_llm_upload_large(ngx_http_llm_files_t *fs)
{
    ngx_int_t            rc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = fs->ctx;

    rc = ngx_http_llm_error(ctx, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                            "invalid_request_error", "request_too_large",
                            "");
    ctx->error.param = "file";

    return ngx_http_llm_upload_message(ctx, 128,
               "A file may have at most %uz bytes.", fs->tcf->file_max)
           == NGX_OK ? rc : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_upload_malformed(ngx_http_llm_files_upload_t *up)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_files_wrong(up->fs, NULL, "invalid_form", "");

    return ngx_http_llm_upload_message(up->fs->ctx, 256,
               "The form cannot be read: at byte %uL %s.", up->form.offset,
               up->form.error) == NGX_OK ? rc : NGX_ERROR;
}


/* why a request was revoked stands in place of what is told here */

static ngx_int_t
ngx_http_llm_upload_message(ngx_http_llm_ctx_t *ctx, size_t len,
    const char *fmt, ...)
{
    u_char   *p;
    va_list   args;

    if (ctx->error.message.len) {
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    va_start(args, fmt);
    ctx->error.message.data = p;
    ctx->error.message.len = ngx_vslprintf(p, p + len, fmt, args) - p;
    va_end(args);

    return NGX_OK;
}
