
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch whose jobs have ended: its input is read once more, and for each
 * line what became of it goes into the output or the error file.  Both become
 * the batch's, and are seen, in one step at the end; who dies before begins
 * again, and what it has written lapses.
 */


#include "tasks/ngx_http_llm_batch_finish.h"
#include "tasks/ngx_http_llm_fault.h"


static void ngx_http_llm_batch_finish_lines(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_finish_line(ngx_http_llm_batch_run_t *run,
    llm_str_t *text);
static void ngx_http_llm_batch_finish_ask(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_finish_got(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_batch_finish_copy(
    ngx_http_llm_batch_finish_t *fin, ngx_http_llm_redis_reply_t *row,
    ngx_uint_t i, ngx_str_t *to);
static ngx_int_t ngx_http_llm_batch_finish_write(
    ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_finish_ready(ngx_http_llm_blob_writer_t *w);
static void ngx_http_llm_batch_finish_end(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_finished(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_batch_finish(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_finish_t  *fin;

    fin = ngx_pcalloc(run->pool, sizeof(ngx_http_llm_batch_finish_t));

    if (fin == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    run->finish = fin;
    run->at = 1;

    /* cancelled before it was checked: there is nothing to tell */

    if (run->b.lines == 0) {
        ngx_http_llm_batch_finish_commit(run);
        return;
    }

    fin->temp = ngx_create_pool(NGX_HTTP_LLM_BATCH_FINISH_POOL,
                                ngx_cycle->log);

    if (fin->temp == NULL
        || ngx_http_llm_batch_open(run, 0, 0, 0, NGX_HTTP_LLM_BATCH_SOME)
           != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    run->step = ngx_http_llm_batch_finish_lines;
}


/* called again and again, also when there is nothing new */

static void
ngx_http_llm_batch_finish_lines(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t                     rc;
    llm_str_t                     text;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;

    for ( ;; ) {

        if (run->op) {
            return;
        }

        if (fin->nresults) {
            rc = ngx_http_llm_batch_finish_write(run);

        } else if (fin->nlines == NGX_HTTP_LLM_QUEUE_JOBS
                   || (fin->nlines && fin->eof))
        {
            ngx_http_llm_batch_finish_ask(run);
            return;

        } else if (fin->eof) {
            ngx_http_llm_batch_finish_end(run);
            return;

        } else {
            rc = ngx_http_llm_batch_next(run, &text);

            if (rc == NGX_OK) {
                rc = ngx_http_llm_batch_finish_line(run, &text);

            } else if (rc == NGX_DONE) {
                fin->eof = 1;
                rc = NGX_OK;

            } else if (rc == NGX_ABORT) {
                ngx_http_llm_batch_unread(run, rc);
                return;
            }
        }

        if (rc == NGX_AGAIN) {
            return;
        }

        if (rc != NGX_OK) {
            ngx_http_llm_batch_finish_fail(run, rc);
            return;
        }

        if (ngx_http_llm_batch_late(run)) {
            ngx_http_llm_batch_later(run);
            return;
        }
    }
}


static ngx_int_t
ngx_http_llm_batch_finish_line(ngx_http_llm_batch_run_t *run, llm_str_t *text)
{
    u_char                             buf[NGX_HTTP_LLM_BATCH_ARENA];
    ngx_int_t                          rc;
    llm_batch_line_t                   line;
    ngx_http_llm_batch_finish_t       *fin;
    ngx_http_llm_batch_finish_line_t  *ln;

    fin = run->finish;

    if (ngx_http_llm_batch_line(run, text, buf, &line) != NGX_OK) {
        return NGX_ERROR;
    }

    ln = &fin->line[fin->nlines];

    rc = ngx_http_llm_batch_job(run, fin->temp, run->at, &ln->job);

    ln->custom_id.len = line.custom_id.len;
    ln->custom_id.data = ngx_pnalloc(fin->temp, line.custom_id.len);

    if (rc != NGX_OK || ln->custom_id.data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(ln->custom_id.data, line.custom_id.data, line.custom_id.len);

    fin->nlines++;
    run->at++;

    return NGX_OK;
}


/* what became of the lines from fin->next on, of as many as there is room */

static void
ngx_http_llm_batch_finish_ask(ngx_http_llm_batch_run_t *run)
{
    ngx_uint_t                    i;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;

    if (fin->results) {
        ngx_destroy_pool(fin->results);
    }

    fin->results = ngx_create_pool(NGX_HTTP_LLM_BATCH_FINISH_POOL,
                                   ngx_cycle->log);

    if (fin->results == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_http_llm_queue_begin(&call, fin->results, "results");
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_BATCH_BYTES);

    for (i = fin->next; i < fin->nlines; i++) {
        ngx_http_llm_queue_add(&call, &fin->line[i].job);
    }

    (void) ngx_http_llm_batch_send(run, run->todo->tcf->batches, &call,
                                   ngx_http_llm_batch_finish_got);
}


static void
ngx_http_llm_batch_finish_got(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                         i;
    ngx_http_llm_redis_reply_t         row;
    ngx_http_llm_batch_finish_t       *fin;
    ngx_http_llm_batch_finish_line_t  *ln;

    fin = run->finish;

    if (reply->nelts == 0 || reply->nelts > fin->nlines - fin->next) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    for (i = 0; i < reply->nelts; i++) {
        ln = &fin->line[fin->next + i];

        if (ngx_http_llm_redis_element(reply, i, &row) != NGX_OK
            || ngx_http_llm_batch_finish_copy(fin, &row, 0, &ln->state)
               != NGX_OK
            || ngx_http_llm_batch_finish_copy(fin, &row, 1, &ln->result)
               != NGX_OK
            || ngx_http_llm_batch_finish_copy(fin, &row, 2, &ln->error)
               != NGX_OK)
        {
            ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
            return;
        }
    }

    fin->nresults = reply->nelts;

    ngx_http_llm_batch_later(run);
}


/* empty if there is no such element */

static ngx_int_t
ngx_http_llm_batch_finish_copy(ngx_http_llm_batch_finish_t *fin,
    ngx_http_llm_redis_reply_t *row, ngx_uint_t i, ngx_str_t *to)
{
    ngx_http_llm_redis_reply_t  value;

    ngx_str_null(to);

    if (row->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(row, i, &value) != NGX_OK
        || value.type != NGX_HTTP_LLM_REDIS_STRING
        || value.str.len == 0)
    {
        return NGX_OK;
    }

    to->len = value.str.len;
    to->data = ngx_pstrdup(fin->results, &value.str);

    return to->data ? NGX_OK : NGX_ERROR;
}


/* one line of one of the files; NGX_AGAIN: "ready" will tell */

static ngx_int_t
ngx_http_llm_batch_finish_write(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t                     rc;
    ngx_uint_t                    i;
    ngx_http_llm_blob_writer_t   *w;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;

    if (fin->pos == NULL) {
        rc = ngx_http_llm_batch_finish_tell(run, &fin->line[fin->next]);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    i = fin->bad;
    w = &fin->file[i];

    if (!fin->opened[i]) {
        rc = ngx_http_llm_batch_finish_open(run, i);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    rc = ngx_http_llm_blob_write(w, &fin->pos, fin->last);

    if (rc != NGX_OK) {
        return rc == NGX_AGAIN ? rc : w->rc;
    }

    fin->n[i]++;
    fin->pos = NULL;
    fin->next++;
    fin->nresults--;

    if (fin->next == fin->nlines) {
        fin->next = 0;
        fin->nlines = 0;

        ngx_reset_pool(fin->temp);
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_batch_finish_open(ngx_http_llm_batch_run_t *run, ngx_uint_t i)
{
    u_char                      *p;
    ngx_http_llm_batch_t        *b;
    ngx_http_llm_blob_writer_t  *w;
    ngx_http_llm_tasks_conf_t   *tcf;

    b = &run->b;
    w = &run->finish->file[i];
    tcf = run->todo->tcf;

    p = ngx_pnalloc(run->pool, b->id.len + sizeof("_output.jsonl"));
    if (p == NULL) {
        return NGX_ERROR;
    }

    w->file.filename.data = p;
    w->file.filename.len = ngx_sprintf(p, "%V_%s.jsonl", &b->id,
                                       i ? "error" : "output")
                           - p;

    ngx_str_set(&w->file.purpose, "batch_output");

    w->mcf = run->todo->mcf;
    w->pool = run->pool;
    w->file.team = b->team;
    w->file.expires = ngx_time() + (b->keep ? b->keep : tcf->file_ttl);
    w->max = tcf->file_quota;
    w->ready = ngx_http_llm_batch_finish_ready;
    w->data = run;
    w->hidden = 1;

    if (ngx_http_llm_blob_open(w) != NGX_OK) {
        return w->rc;
    }

    run->finish->opened[i] = 1;

    return NGX_OK;
}


static void
ngx_http_llm_batch_finish_ready(ngx_http_llm_blob_writer_t *w)
{
    ngx_http_llm_batch_run_t  *run = w->data;

    ngx_http_llm_batch_wake(run);
}


/* all is written; called again until both files are there */

static void
ngx_http_llm_batch_finish_end(ngx_http_llm_batch_run_t *run)
{
    ngx_uint_t                    i, open;
    ngx_http_llm_blob_writer_t   *w;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;
    open = 0;

    for (i = 0; i < 2; i++) {
        w = &fin->file[i];

        if (!fin->opened[i] || w->closed) {
            continue;
        }

        if (w->rc == NGX_OK && !w->closing) {
            (void) ngx_http_llm_blob_close(w);
        }

        if (w->rc != NGX_OK) {
            ngx_http_llm_batch_finish_fail(run, w->rc);
            return;
        }

        open++;
    }

    if (open == 0) {
        NGX_HTTP_LLM_FAULT("batch-written");

        ngx_http_llm_batch_finish_commit(run);
    }
}


void
ngx_http_llm_batch_finish_commit(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t                     tokens;
    const char                   *status, *stamp;
    ngx_http_llm_batch_t         *b;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_batch_finish_t  *fin;

    b = &run->b;
    fin = run->finish;

    if (b->ob.state == LLM_BATCH_CANCELLING) {
        status = "cancelled";
        stamp = "cancelled_at";

    } else if (b->stop.len) {
        status = "expired";
        stamp = "expired_at";

    } else {
        status = "completed";
        stamp = "completed_at";
    }

    ngx_http_llm_batch_step_begin(run, &call,
                                  b->ob.state == LLM_BATCH_CANCELLING
                                  ? " cancelling " : " finalizing ", stamp,
                                  NGX_HTTP_LLM_BATCH_KEEP);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, status);

    if (fin->opened[0]) {
        ngx_http_llm_batch_step_text(&call, "out", &fin->file[0].file.id);
    }

    if (fin->opened[1]) {
        ngx_http_llm_batch_step_text(&call, "err", &fin->file[1].file.id);
    }

    ngx_http_llm_batch_step_number(&call, "ok", fin->n[0]);
    ngx_http_llm_batch_step_number(&call, "bad", fin->n[1]);

    if (fin->usage) {

        if (ngx_http_llm_batch_finish_tokens(fin, run->pool, &tokens)
            != NGX_OK)
        {
            ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
            return;
        }

        ngx_http_llm_batch_step_text(&call, "tokens", &tokens);
    }

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_finished);
}


/* the files stay, the jobs go */

static void
ngx_http_llm_batch_finished(ngx_http_llm_batch_run_t *run)
{
    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm batch: \"%V\" has ended, ok:%uL bad:%uL", &run->b.id,
                   run->finish->n[0], run->finish->n[1]);

    ngx_http_llm_batch_again(run);
}


void
ngx_http_llm_batch_finish_fail(ngx_http_llm_batch_run_t *run, ngx_int_t rc)
{
    int64_t                since;
    ngx_http_llm_batch_t  *b;

    b = &run->b;
    since = ngx_max(b->finalizing, b->cancelling);

    ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                  "llm: the files of batch \"%V\" could not be written: %s",
                  &b->id,
                  rc == NGX_DECLINED ? "the team's quota is full"
                  : rc == NGX_BUSY ? "they are too large"
                  : rc == NGX_ABORT ? "Redis failed"
                  : "its input or its results could not be read");

    ngx_http_llm_batch_finish_undo(run);

    if (b->now - since <= NGX_HTTP_LLM_BATCH_PATIENCE) {
        ngx_http_llm_batch_end(run, rc == NGX_DECLINED
                                    ? NGX_HTTP_LLM_BATCH_QUOTA
                                    : NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    if (rc == NGX_DECLINED || rc == NGX_BUSY) {
        ngx_http_llm_batch_fail(run, "file_quota_exceeded",
                                "There was no room for the output");
        return;
    }

    ngx_http_llm_batch_fail(run, "output_failed",
                            "The output could not be written");
}


void
ngx_http_llm_batch_finish_undo(ngx_http_llm_batch_run_t *run)
{
    /* a writer's end removes what it has not closed */

    if (run->finish) {
        run->finish->file[0].closed = 0;
        run->finish->file[1].closed = 0;
    }
}


void
ngx_http_llm_batch_finish_close(ngx_http_llm_batch_run_t *run)
{
    ngx_uint_t                    i;
    ngx_http_llm_batch_finish_t  *fin;

    fin = run->finish;

    if (fin == NULL) {
        return;
    }

    for (i = 0; i < 2; i++) {
        if (fin->opened[i]) {
            ngx_http_llm_blob_abandon(&fin->file[i]);
        }
    }

    if (fin->results) {
        ngx_destroy_pool(fin->results);
    }

    if (fin->text) {
        ngx_destroy_pool(fin->text);
    }

    if (fin->temp) {
        ngx_destroy_pool(fin->temp);
    }

    run->finish = NULL;
}
