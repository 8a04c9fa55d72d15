
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch at its provider: its input, as a form with a file, with the model
 * as the provider calls it.
 */


#include "tasks/ngx_http_llm_batch_native.h"

#include "core/llm_tree.h"


#define NGX_HTTP_LLM_NATIVE_FORM  1024       /* bytes around the file */


static void ngx_http_llm_native_lines(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_native_first(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_native_line(ngx_http_llm_batch_run_t *run,
    llm_str_t *text);
static ngx_int_t ngx_http_llm_native_put(ngx_http_llm_batch_run_t *run,
    const u_char *p, size_t len);
static void ngx_http_llm_native_form(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_uploaded(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_here(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_native_upload(ngx_http_llm_batch_run_t *run)
{
    if (ngx_http_llm_batch_open(run, 0, 0, 0, NGX_HTTP_LLM_BATCH_SOME)
        != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    run->step = ngx_http_llm_native_lines;
}


static void
ngx_http_llm_native_lines(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t  rc;
    llm_str_t  text;

    for ( ;; ) {

        rc = ngx_http_llm_batch_next(run, &text);

        if (rc == NGX_AGAIN) {
            return;
        }

        if (run->native->body == NULL && (rc == NGX_OK || rc == NGX_DONE)
            && ngx_http_llm_native_first(run) != NGX_OK)
        {
            rc = NGX_ERROR;
        }

        if (rc == NGX_DONE) {
            ngx_http_llm_native_form(run);
            return;
        }

        if (rc == NGX_OK) {
            rc = ngx_http_llm_native_line(run, &text);
        }

        if (rc != NGX_OK) {
            ngx_http_llm_batch_unread(run, rc);
            return;
        }

        if (ngx_http_llm_batch_late(run)) {
            ngx_http_llm_batch_later(run);
            return;
        }
    }
}


/* the file's size is known now; with what is added it has room enough */

static ngx_int_t
ngx_http_llm_native_first(ngx_http_llm_batch_run_t *run)
{
    u_char                       *p;
    ngx_http_llm_batch_t         *b;
    ngx_http_llm_batch_native_t  *nt;

    b = &run->b;
    nt = run->native;

    nt->size = run->source.file.bytes
               + b->lines * (b->native_model.len + 3)
               + NGX_HTTP_LLM_NATIVE_FORM;

    p = ngx_palloc(run->pool, nt->size);
    if (p == NULL) {
        return NGX_ERROR;
    }

    nt->body = p;

    nt->last = ngx_sprintf(p, "--%V" CRLF
                           "Content-Disposition: form-data; "
                           "name=\"purpose\"" CRLF CRLF "batch" CRLF
                           "--%V" CRLF
                           "Content-Disposition: form-data; name=\"file\"; "
                           "filename=\"%V.jsonl\"" CRLF
                           "Content-Type: application/octet-stream" CRLF CRLF,
                           &b->id, &b->id, &b->id);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_native_line(ngx_http_llm_batch_run_t *run, llm_str_t *text)
{
    u_char             buf[NGX_HTTP_LLM_BATCH_ARENA];
    const u_char      *start, *end;
    ngx_str_t         *model;
    llm_batch_line_t   line;

    model = &run->b.native_model;

    start = text->data + text->len;
    end = start;

    if (model->len) {

        if (ngx_http_llm_batch_line(run, text, buf, &line) != NGX_OK) {
            return NGX_DECLINED;
        }

        start = line.body.data + line.model_start;
        end = line.body.data + line.model_end;
    }

    if (ngx_http_llm_native_put(run, text->data, start - text->data)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    /* a configured name needs no escapes */

    if (model->len
        && (ngx_http_llm_native_put(run, (u_char *) "\"", 1) != NGX_OK
            || ngx_http_llm_native_put(run, model->data, model->len)
               != NGX_OK
            || ngx_http_llm_native_put(run, (u_char *) "\"", 1) != NGX_OK))
    {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_native_put(run, end, text->data + text->len - end)
        != NGX_OK)
    {
        return NGX_DECLINED;
    }

    return ngx_http_llm_native_put(run, (u_char *) "\n", 1);
}


static ngx_int_t
ngx_http_llm_native_put(ngx_http_llm_batch_run_t *run, const u_char *p,
    size_t len)
{
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    if (len > (size_t) (nt->body + nt->size - nt->last)) {
        return NGX_DECLINED;
    }

    nt->last = ngx_cpymem(nt->last, p, len);

    return NGX_OK;
}


static void
ngx_http_llm_native_form(ngx_http_llm_batch_run_t *run)
{
    u_char                       *p;
    ngx_str_t                     path, value, *id;
    ngx_http_llm_loopback_t      *lb;
    ngx_http_llm_batch_native_t  *nt;

    id = &run->b.id;
    nt = run->native;

    ngx_http_llm_batch_close(run);

    if (ngx_http_llm_native_put(run, (u_char *) CRLF "--", 4) != NGX_OK
        || ngx_http_llm_native_put(run, id->data, id->len) != NGX_OK
        || ngx_http_llm_native_put(run, (u_char *) "--" CRLF, 4) != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_str_set(&path, "files");

    lb = ngx_http_llm_native_call(run, "POST", &path);
    if (lb == NULL) {
        return;
    }

    p = ngx_pnalloc(lb->pool, id->len + 64);
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    value.data = p;
    value.len = ngx_sprintf(p, "multipart/form-data; boundary=%V", id) - p;

    if (ngx_http_llm_native_header(run, "Content-Type", &value) == NGX_OK) {
        ngx_http_llm_native_start(run, nt->body, nt->last - nt->body,
                                  ngx_http_llm_native_uploaded);
    }
}


static void
ngx_http_llm_native_uploaded(ngx_http_llm_batch_run_t *run)
{
    json_t                     *root;
    ngx_int_t                   rc;
    ngx_str_t                   id;
    ngx_http_llm_loopback_t    *lb;
    ngx_http_llm_queue_call_t   call;

    lb = run->native->lb;

    if (lb->status == NGX_HTTP_REQUEST_ENTITY_TOO_LARGE) {
        ngx_http_llm_native_here(run);
        return;
    }

    if (lb->result != NGX_HTTP_LLM_LOOPBACK_OK || lb->status < 200
        || lb->status > 299)
    {
        if (ngx_http_llm_native_refused(run) != NGX_OK) {
            ngx_http_llm_native_later(run);
        }

        return;
    }

    root = llm_tree_load((char *) lb->answer.data, lb->answer.len, 0, NULL);
    rc = ngx_http_llm_native_id(run, json_string_value(
                                         json_object_get(root, "id")), &id);
    json_decref(root);

    if (rc != NGX_OK) {
        ngx_http_llm_native_later(run);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_text(&call, "native_file", &id);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


/* our own listener or the provider takes no body of this size */

static void
ngx_http_llm_native_here(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_queue_call_t  call;

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "llm: the batch \"%V\" is run here: %uz bytes are more than "
                  "client_max_body_size or provider \"%V\" allow", &run->b.id,
                  run->native->lb->body_len, &run->b.native);

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_queue_add_text(&call, "native");
    ngx_http_llm_queue_add_text(&call, "");

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}
