
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch that has ended at its provider: its files become ours, what their
 * lines used is added up and charged, and it ends here, too.
 */


#include "tasks/ngx_http_llm_batch_native.h"

#include "core/llm_json.h"


static void ngx_http_llm_native_files(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_native_open(ngx_http_llm_batch_run_t *run,
    ngx_str_t *id);
static ngx_int_t ngx_http_llm_native_part(ngx_http_llm_loopback_t *lb,
    u_char *p, size_t len);
static ngx_int_t ngx_http_llm_native_file(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_count(ngx_http_llm_batch_run_t *run,
    const u_char *p, size_t len);
static void ngx_http_llm_native_used(ngx_http_llm_batch_run_t *run,
    llm_str_t *line);
static llm_json_token_e ngx_http_llm_native_member(llm_json_t *js,
    const char *name, size_t len);
static void ngx_http_llm_native_fetched(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_pay(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_paid(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_native_unpaid(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_native_fetch(ngx_http_llm_batch_run_t *run)
{
    u_char                       *buf;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    run->finish = ngx_pcalloc(run->pool, sizeof(ngx_http_llm_batch_finish_t));
    buf = ngx_palloc(run->pool, NGX_HTTP_LLM_BATCH_LINE + 1);
    nt->rest = ngx_palloc(run->pool, NGX_HTTP_LLM_LOOPBACK_READ);

    if (run->finish == NULL || buf == NULL || nt->rest == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    nt->rest_pos = nt->rest;
    nt->rest_last = nt->rest;
    nt->lines.buf = buf;

    run->step = ngx_http_llm_native_files;
    ngx_http_llm_native_files(run);
}


/* called again and again, also when there is nothing new */

static void
ngx_http_llm_native_files(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t                     rc;
    ngx_str_t                    *id;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    for ( ;; ) {

        if (run->op) {
            return;
        }

        if (nt->i == 2) {
            ngx_http_llm_native_fetched(run);
            return;
        }

        id = nt->i ? &run->b.native_err : &run->b.native_out;

        if (id->len == 0) {
            nt->i++;
            continue;
        }

        if (nt->lb == NULL) {
            rc = ngx_http_llm_native_open(run, id);

        } else {
            rc = ngx_http_llm_native_file(run);
        }

        if (rc != NGX_OK) {
            return;
        }

        ngx_http_llm_native_done(run);
        nt->i++;
    }
}


/* NGX_AGAIN: files() will be called, or the run has ended */

static ngx_int_t
ngx_http_llm_native_open(ngx_http_llm_batch_run_t *run, ngx_str_t *id)
{
    u_char                       *p;
    ngx_int_t                     rc;
    ngx_str_t                     path;
    ngx_http_llm_loopback_t      *lb;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    rc = ngx_http_llm_batch_finish_open(run, nt->i);

    if (rc != NGX_OK) {
        ngx_http_llm_batch_finish_fail(run, rc);
        return NGX_AGAIN;
    }

    llm_lines_init(&nt->lines, nt->lines.buf, NGX_HTTP_LLM_BATCH_LINE + 1);

    p = ngx_pnalloc(run->pool, id->len + sizeof("files//content"));
    if (p == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return NGX_AGAIN;
    }

    path.data = p;
    path.len = ngx_sprintf(p, "files/%V/content", id) - p;

    lb = ngx_http_llm_native_call(run, "GET", &path);
    if (lb == NULL) {
        return NGX_AGAIN;
    }

    lb->part = ngx_http_llm_native_part;

    ngx_http_llm_native_start(run, NULL, 0, ngx_http_llm_native_files);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_native_part(ngx_http_llm_loopback_t *lb, u_char *p, size_t len)
{
    u_char                       *last;
    ngx_int_t                     rc;
    ngx_http_llm_batch_run_t     *run = lb->data;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;

    if (lb->status != NGX_HTTP_OK) {
        return NGX_OK;
    }

    ngx_http_llm_native_count(run, p, len);

    last = p + len;

    if (nt->rest_pos == nt->rest_last) {

        rc = ngx_http_llm_blob_write(&run->finish->file[nt->i], &p, last);

        if (rc != NGX_AGAIN) {
            return rc == NGX_OK ? NGX_OK : NGX_ERROR;
        }

        nt->rest_pos = nt->rest;
        nt->rest_last = nt->rest;

        ngx_http_llm_loopback_hold(lb);
    }

    if ((size_t) (last - p)
        > (size_t) (nt->rest + NGX_HTTP_LLM_LOOPBACK_READ - nt->rest_last))
    {
        return NGX_ERROR;
    }

    nt->rest_last = ngx_cpymem(nt->rest_last, p, last - p);

    return NGX_OK;
}


/* NGX_OK: it is ours, and closed; NGX_AGAIN as above */

static ngx_int_t
ngx_http_llm_native_file(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t                     rc;
    llm_str_t                     line;
    ngx_http_llm_blob_writer_t   *w;
    ngx_http_llm_batch_native_t  *nt;

    nt = run->native;
    w = &run->finish->file[nt->i];

    if (w->rc == NGX_OK && nt->rest_pos != nt->rest_last) {

        rc = ngx_http_llm_blob_write(w, &nt->rest_pos, nt->rest_last);

        if (rc == NGX_AGAIN) {
            return NGX_AGAIN;
        }
    }

    if (w->rc != NGX_OK) {
        ngx_http_llm_batch_finish_fail(run, w->rc);
        return NGX_AGAIN;
    }

    if (!nt->answered) {
        ngx_http_llm_loopback_go(nt->lb);
        return NGX_AGAIN;
    }

    if (nt->lb->result != NGX_HTTP_LLM_LOOPBACK_OK
        || nt->lb->status != NGX_HTTP_OK)
    {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: a file of batch \"%V\" could not be fetched from "
                      "provider \"%V\": %V ended with %d, status %ui",
                      &run->b.id, &run->b.native, &nt->lb->uri,
                      nt->lb->result, nt->lb->status);

        ngx_http_llm_batch_finish_fail(run, NGX_ABORT);
        return NGX_AGAIN;
    }

    if (w->closed) {
        return NGX_OK;
    }

    if (!w->closing) {

        if (llm_lines_eof(&nt->lines, &line) == LLM_OK) {
            ngx_http_llm_native_used(run, &line);
        }

        (void) ngx_http_llm_blob_close(w);

        if (w->rc != NGX_OK) {
            ngx_http_llm_batch_finish_fail(run, w->rc);
        }
    }

    return NGX_AGAIN;
}


static void
ngx_http_llm_native_count(ngx_http_llm_batch_run_t *run, const u_char *p,
    size_t len)
{
    int            rc;
    llm_str_t      line;
    const u_char  *last;

    last = p + len;

    for ( ;; ) {
        rc = llm_lines_next(&run->native->lines, &p, last, &line);

        if (rc == LLM_AGAIN) {
            return;
        }

        if (rc != LLM_OK) {
            /* too long to be read: it is kept, and not charged */
            ngx_memzero(&line, sizeof(llm_str_t));
        }

        ngx_http_llm_native_used(run, &line);
    }
}


static void
ngx_http_llm_native_used(ngx_http_llm_batch_run_t *run, llm_str_t *line)
{
    llm_json_t                    js;
    llm_answer_t                  an;
    const u_char                 *start;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;
    fin->n[run->native->i]++;

    llm_json_init(&js, line->data, line->len);

    if (llm_json_next(&js) != LLM_JSON_OBJECT
        || ngx_http_llm_native_member(&js, "response", 8) != LLM_JSON_OBJECT
        || ngx_http_llm_native_member(&js, "body", 4) != LLM_JSON_OBJECT)
    {
        return;
    }

    start = js.start;

    if (llm_json_skip(&js) != LLM_JSON_OBJECT_END) {
        return;
    }

    llm_answer_scan(&an, run->b.ob.endpoint, (u_char *) start,
                    js.end - start);

    ngx_http_llm_batch_finish_used(fin, &an);
}


/* the value of a member of the open object: its first token */

static llm_json_token_e
ngx_http_llm_native_member(llm_json_t *js, const char *name, size_t len)
{
    ngx_uint_t        found;
    llm_json_token_e  t;

    while (llm_json_next(js) == LLM_JSON_NAME) {

        found = llm_json_is(js, name, len);
        t = llm_json_next(js);

        if (found || t == LLM_JSON_ERROR) {
            return t;
        }

        if (t == LLM_JSON_OBJECT || t == LLM_JSON_ARRAY) {
            (void) llm_json_skip(js);
        }
    }

    return LLM_JSON_ERROR;
}


/*
 * Charged once: that it is about to be is written down before, so that who
 * dies then has not charged it rather than have it charged twice.
 */

static void
ngx_http_llm_native_fetched(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_queue_call_t  call;

    if (!run->finish->usage || run->b.native_paid) {
        ngx_http_llm_batch_finish_commit(run);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call, " finalizing cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_number(&call, "native_paid", 1);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_native_pay);
}


static void
ngx_http_llm_native_pay(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t                 path, value;
    ngx_http_llm_loopback_t  *lb;

    ngx_str_set(&path, "usage");

    lb = ngx_http_llm_native_call(run, "POST", &path);
    if (lb == NULL) {
        return;
    }

    if (ngx_http_llm_batch_finish_tokens(run->finish, lb->pool, &value)
        != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    if (ngx_http_llm_native_header(run, "X-Llm-Usage", &value) != NGX_OK
        || ngx_http_llm_native_header(run, "X-Llm-Endpoint",
                                      &run->b.endpoint)
           != NGX_OK
        || (run->b.native_model.len
            && ngx_http_llm_native_header(run, "X-Llm-Target",
                                          &run->b.native_model)
               != NGX_OK))
    {
        return;
    }

    ngx_http_llm_native_start(run, NULL, 0, ngx_http_llm_native_paid);
}


static void
ngx_http_llm_native_paid(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_loopback_t      *lb;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_batch_finish_t  *fin;

    lb = run->native->lb;
    fin = run->finish;

    if (lb == NULL || !run->native->answered) {
        return;
    }

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_CONNECT || lb->status == 503) {

        /* it surely was not charged: all of this once more */

        ngx_http_llm_batch_step_begin(run, &call, " finalizing cancelling ",
                                      "", 0);
        ngx_http_llm_batch_step_number(&call, "native_paid", 0);

        (void) ngx_http_llm_batch_step(run, &call,
                                       ngx_http_llm_native_unpaid);
        return;
    }

    if (lb->status != NGX_HTTP_OK) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: the batch \"%V\" could not be charged to key "
                      "\"%V\": status %ui; tokens: %uL input, %uL output",
                      &run->b.id, &run->b.owner, lb->status, fin->tokens[0],
                      fin->tokens[2]);
    }

    ngx_http_llm_native_done(run);
    ngx_http_llm_batch_finish_commit(run);
}


static void
ngx_http_llm_native_unpaid(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_finish_undo(run);
    ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
}
