
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch that runs: its lines become jobs, a few at a time, as long as its
 * time lasts.  Its job number n is the n-th line that is not blank, and has
 * an id that follows from that, so that what was submitted by one who died
 * then is not submitted twice.
 */


#include "tasks/ngx_http_llm_batch_private.h"
#include "state/ngx_http_llm_count.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_BATCH_CLASS  "2"        /* the lowest priority */
#define NGX_HTTP_LLM_BATCH_TEMP   65536


static void ngx_http_llm_batch_feed_lines(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_feed_begin(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_feed_line(ngx_http_llm_batch_run_t *run,
    llm_str_t *text);
static void ngx_http_llm_batch_feed_send(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_fed(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_batch_feed_on(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_done(ngx_http_llm_batch_run_t *run);


void
ngx_http_llm_batch_feed(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_t  *b;

    b = &run->b;

    /* those that are cancelled here are so because its time is up */

    if (b->completed + b->error + b->cancelled >= b->lines
        && (b->cancelled == 0 || b->now < b->expires))
    {
        ngx_http_llm_batch_done(run);
        return;
    }

    if (b->now >= b->expires) {
        ngx_http_llm_batch_stop(run);
        return;
    }

    run->at = b->fed + 1;
    run->to = b->completed + b->error + b->cancelled
              + NGX_HTTP_LLM_BATCH_LIVE;

    if (run->to > b->lines) {
        run->to = b->lines;
    }

    if (run->at > run->to) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    if (ngx_http_llm_batch_open(run, b->chunk, b->offset, b->line,
                                NGX_HTTP_LLM_BATCH_SOME)
        != NGX_OK)
    {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    run->step = ngx_http_llm_batch_feed_lines;
}


static void
ngx_http_llm_batch_feed_lines(ngx_http_llm_batch_run_t *run)
{
    ngx_int_t  rc;
    llm_str_t  text;

    while (run->at <= run->to) {

        rc = ngx_http_llm_batch_next(run, &text);

        if (rc == NGX_AGAIN) {
            return;
        }

        if (rc == NGX_OK) {
            rc = ngx_http_llm_batch_feed_line(run, &text);
        }

        if (rc != NGX_OK) {
            ngx_http_llm_batch_unread(run, rc);
            return;
        }

        run->at++;

        if (++run->jobs == NGX_HTTP_LLM_QUEUE_JOBS
            || run->call.bytes >= NGX_HTTP_LLM_QUEUE_BYTES / 2
            || ngx_http_llm_batch_late(run))
        {
            break;
        }
    }

    if (run->jobs) {
        ngx_http_llm_batch_feed_send(run);
        return;
    }

    ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
}


/* what all jobs of a call share */

static ngx_int_t
ngx_http_llm_batch_feed_begin(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_t       *b;
    ngx_http_llm_queue_call_t  *call;
    ngx_http_llm_tasks_conf_t  *tcf;

    b = &run->b;
    call = &run->call;
    tcf = run->todo->tcf;

    run->temp = ngx_create_pool(NGX_HTTP_LLM_BATCH_TEMP, ngx_cycle->log);

    if (run->temp == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_begin(call, run->temp, "submit");
    ngx_http_llm_queue_add_number(call, 1);          /* "need", set below */
    ngx_http_llm_queue_add_number(call, tcf->max);
    ngx_http_llm_queue_add_number(call, tcf->team_max);
    ngx_http_llm_queue_add_number(call, tcf->window);
    ngx_http_llm_queue_add_text(call, "");
    ngx_http_llm_queue_add_text(call, "");
    ngx_http_llm_queue_add_text(call, "0");
    ngx_http_llm_queue_add_text(call, "1");
    ngx_http_llm_queue_add_text(call, NGX_HTTP_LLM_BATCH_CLASS);
    ngx_http_llm_queue_add(call, &b->team);
    ngx_http_llm_queue_add(call, &b->owner);
    ngx_http_llm_queue_add_text(call, "");
    ngx_http_llm_queue_add_text(call, "");
    ngx_http_llm_queue_add(call, &b->id);
    ngx_http_llm_queue_add_number(call, b->expires);
    ngx_http_llm_queue_add_number(call, (int64_t) tcf->results * 1000);
    ngx_http_llm_queue_add_text(call, "");

    return call->rc;
}


static ngx_int_t
ngx_http_llm_batch_feed_line(ngx_http_llm_batch_run_t *run, llm_str_t *text)
{
    u_char            buf[NGX_HTTP_LLM_BATCH_ARENA];
    ngx_str_t         id, piece[3], parcel;
    llm_batch_line_t  line;

    if (run->jobs == 0 && ngx_http_llm_batch_feed_begin(run) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_llm_batch_line(run, text, buf, &line) != NGX_OK) {
        return NGX_DECLINED;
    }

    if (ngx_http_llm_batch_job(run, run->temp, run->at, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    piece[0] = run->b.endpoint;
    ngx_str_set(&piece[1], "\n");
    piece[2].data = line.body.data;
    piece[2].len = line.body.len;

    if (ngx_http_llm_queue_pack(run->todo->tcf, run->temp, &id, "b", piece, 3,
                                &parcel)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_add(&run->call, &id);
    ngx_http_llm_queue_add_number(&run->call,
                                  run->passed + run->lines.number);
    ngx_http_llm_queue_add(&run->call, &parcel);

    return run->call.rc;
}


static void
ngx_http_llm_batch_feed_send(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t   *argv;
    ngx_pool_t  *temp;

    argv = run->call.argv.elts;

    argv[2].data = ngx_pnalloc(run->temp, NGX_INT_T_LEN);

    if (argv[2].data == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    argv[2].len = ngx_sprintf(argv[2].data, "%ui", run->jobs) - argv[2].data;

    temp = run->temp;
    run->temp = NULL;

    (void) ngx_http_llm_batch_send(run, run->todo->tcf->queue, &run->call,
                                   ngx_http_llm_batch_fed);

    ngx_destroy_pool(temp);
}


static void
ngx_http_llm_batch_fed(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_queue_call_t    call;
    ngx_http_llm_redis_reply_t   word, n;

    if (ngx_http_llm_redis_element(reply, 0, &word) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &n) != NGX_OK
        || word.str.len != 2 || ngx_memcmp(word.str.data, "ok", 2) != 0)
    {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                       "llm batch: \"%V\" waits, the queue is full",
                       &run->b.id);

        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    if (n.type == NGX_HTTP_LLM_REDIS_INTEGER && n.integer > 0) {
        (void) ngx_atomic_fetch_add(
                       &run->todo->mcf->zone->sh->count.tasks.submitted,
                       n.integer);
    }

    run->jobs = 0;

    if (!run->woken) {
        run->woken = 1;
        ngx_http_llm_runner_wake(run->todo->mcf);
    }

    /* where the next line is: in this chunk, or at the start of one */

    ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ", "",
                                  0);
    ngx_http_llm_batch_step_number(&call, "fed", run->at - 1);
    ngx_http_llm_batch_step_number(&call, "line",
                                   run->passed + run->lines.number);
    ngx_http_llm_batch_step_number(&call, "chunk", run->chunk);
    ngx_http_llm_batch_step_number(&call, "offset",
                                   run->pos ? run->pos - run->start : 0);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_feed_on);
}


static void
ngx_http_llm_batch_feed_on(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_wake(run);
}


/* every line has a job, and all of these have ended */

static void
ngx_http_llm_batch_done(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_queue_call_t  call;

    ngx_http_llm_batch_step_begin(run, &call, " in_progress ",
                                  "finalizing_at", 0);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, "finalizing");

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}
