
/*
 * Copyright (C) the ngx-llm authors
 *
 * A new batch: is each line of its input right?
 */


#include "tasks/ngx_http_llm_batch_private.h"


#define NGX_HTTP_LLM_BATCH_SOONER  8         /* lines between two looks at the
                                                clock */


static void ngx_http_llm_batch_check_lines(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_check_line(ngx_http_llm_batch_run_t *run,
    llm_str_t *text, ngx_uint_t too_long);
static void ngx_http_llm_batch_checked(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_refused(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_batch_check(ngx_http_llm_batch_run_t *run)
{
    if (ngx_array_init(&run->errors, run->pool, 4, sizeof(llm_batch_error_t))
        != NGX_OK
        || ngx_http_llm_batch_open(run, 0, 0, 0, LLM_BATCH_TASKS) != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    run->step = ngx_http_llm_batch_check_lines;
}


static void
ngx_http_llm_batch_check_lines(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t   rc;
    llm_str_t   text;
    ngx_uint_t  n;

    for (n = 1; /* void */ ; n++) {

        rc = ngx_http_llm_batch_next(run, &text);

        switch (rc) {

        case NGX_AGAIN:
            return;

        case NGX_OK:
        case NGX_DECLINED:
            rc = ngx_http_llm_batch_check_line(run, &text,
                                               rc == NGX_DECLINED);
            break;

        case NGX_ABORT:
            ngx_http_llm_batch_unread(run, rc);
            return;

        default:
            break;
        }

        if (rc == NGX_DONE) {
            ngx_http_llm_batch_checked(run);
            return;
        }

        if (rc != NGX_OK && run->b.now >= run->b.expires) {
            ngx_http_llm_batch_fail(run, "invalid_input_file",
                                    "The input file cannot be read");
            return;
        }

        if (rc != NGX_OK) {
            ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
            return;
        }

        if (n % NGX_HTTP_LLM_BATCH_SOONER == 0 && ngx_http_llm_batch_late(run))
        {
            ngx_http_llm_batch_later(run);
            return;
        }
    }
}


/* NGX_DONE: nothing more need be known */

static ngx_int_t
ngx_http_llm_batch_check_line(ngx_http_llm_batch_run_t *run, llm_str_t *text,
    ngx_uint_t too_long)
{
    int                 rc;
    u_char              buf[NGX_HTTP_LLM_BATCH_ARENA];
    llm_arena_t         arena;
    llm_batch_line_t    line;
    llm_batch_error_t   err, *e;

    ngx_memzero(&arena, sizeof(llm_arena_t));
    ngx_memzero(&err, sizeof(llm_batch_error_t));

    arena.pos = buf;
    arena.end = buf + sizeof(buf);

    if (too_long) {
        rc = llm_batch_too_long(&run->check, run->lines.number,
                                NGX_HTTP_LLM_BATCH_LINE, &err);

    } else {
        rc = llm_batch_check(&run->check, text, run->lines.number, &arena,
                             &line, &err);
    }

    if (rc == LLM_OK) {
        return NGX_OK;
    }

    e = rc == LLM_DECLINED ? ngx_array_push(&run->errors) : NULL;
    if (e == NULL) {
        return NGX_ERROR;
    }

    *e = err;

    return run->check.full || run->errors.nelts == NGX_HTTP_LLM_BATCH_ERRORS
           ? NGX_DONE : NGX_OK;
}


static void
ngx_http_llm_batch_checked(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t                   model;
    llm_batch_error_t          *err;
    ngx_http_llm_queue_call_t   call;

    if (run->errors.nelts == 0 && run->check.n == 0) {

        err = ngx_array_push(&run->errors);

        if (err == NULL) {
            ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
            return;
        }

        ngx_memzero(err, sizeof(llm_batch_error_t));
        (void) llm_batch_end(&run->check, err);
    }

    if (run->errors.nelts) {
        ngx_http_llm_batch_refused(run);
        return;
    }

    model.data = run->check.model;
    model.len = run->check.model_len;

    ngx_http_llm_batch_step_begin(run, &call, " validating ",
                                  "in_progress_at", 0);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, "in_progress");
    ngx_http_llm_batch_step_text(&call, "model", &model);
    ngx_http_llm_batch_step_number(&call, "lines", run->check.n);

    ngx_http_llm_batch_native_choose(run, &model, &call);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


static void
ngx_http_llm_batch_refused(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t                  json;
    ngx_http_llm_queue_call_t  call;

    if (ngx_http_llm_batch_errors(run->pool, run->errors.elts,
                                  run->errors.nelts, &json)
        != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call, " validating ", "failed_at",
                                  NGX_HTTP_LLM_BATCH_KEEP);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, "failed");
    ngx_http_llm_batch_step_text(&call, "errors", &json);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}
