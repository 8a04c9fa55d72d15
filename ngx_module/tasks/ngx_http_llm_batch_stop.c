
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch that is to end before its time, or whose time is up: what waits is
 * cancelled, what runs is told; and how the jobs of one that has ended go.
 */


#include "tasks/ngx_http_llm_batch_private.h"


static void ngx_http_llm_batch_stop_some(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_stopped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_batch_stop_end(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_stop_wait(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_drop_all(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_drop_some(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_dropped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static int64_t ngx_http_llm_batch_fed_to(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_ids(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call);


void
ngx_http_llm_batch_stop(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_t  *b;

    b = &run->b;

    run->at = b->stop_from ? b->stop_from : 1;
    run->to = b->stop_to ? b->stop_to : ngx_http_llm_batch_fed_to(run);
    run->flagged[0] = 0;
    run->flagged[1] = 0;

    run->step = ngx_http_llm_batch_stop_some;
    ngx_http_llm_batch_wake(run);
}


/*
 * The last line that may have a job: of one call it is perhaps not known that
 * it was made.
 */

static int64_t
ngx_http_llm_batch_fed_to(ngx_http_llm_batch_run_t *run)
{
    return ngx_min(run->b.fed + NGX_HTTP_LLM_QUEUE_JOBS, run->b.lines);
}


static ngx_int_t
ngx_http_llm_batch_ids(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call)
{
    int64_t     n, last;
    ngx_str_t   id;

    last = ngx_min(run->to, run->at + NGX_HTTP_LLM_QUEUE_JOBS - 1);

    for (n = run->at; n <= last; n++) {

        if (ngx_http_llm_batch_job(run, call->pool, n, &id) != NGX_OK) {
            return NGX_ERROR;
        }

        ngx_http_llm_queue_add(call, &id);
    }

    return call->rc;
}


static void
ngx_http_llm_batch_stop_some(ngx_http_llm_batch_run_t *run)
{
    ngx_pool_t                 *temp;
    ngx_http_llm_queue_call_t   call;

    if (run->at > run->to) {
        ngx_http_llm_batch_stop_end(run);
        return;
    }

    temp = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ngx_cycle->log);

    if (temp == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_http_llm_queue_begin(&call, temp, "cancel");
    ngx_http_llm_queue_add(&call, &run->b.team);
    ngx_http_llm_queue_add_number(&call,
                                  (int64_t) run->todo->tcf->results * 1000);

    if (ngx_http_llm_batch_ids(run, &call) == NGX_OK) {
        (void) ngx_http_llm_batch_send(run, run->todo->tcf->queue, &call,
                                       ngx_http_llm_batch_stopped);
    } else {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
    }

    ngx_destroy_pool(temp);
}


static void
ngx_http_llm_batch_stopped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  word;

    for (i = 0; i < reply->nelts; i++) {

        if (ngx_http_llm_redis_element(reply, i, &word) == NGX_OK
            && word.str.len == sizeof("flagged") - 1
            && ngx_memcmp(word.str.data, "flagged", word.str.len) == 0)
        {
            run->flagged[1] = run->at + i;

            if (run->flagged[0] == 0) {
                run->flagged[0] = run->at + i;
            }
        }
    }

    run->at += NGX_HTTP_LLM_QUEUE_JOBS;

    ngx_http_llm_batch_wake(run);
}


static void
ngx_http_llm_batch_stop_end(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_queue_call_t  call;

    if (run->flagged[0] && run->b.ob.state == LLM_BATCH_FAILED) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    if (run->flagged[0]) {

        /* some run yet: these are looked at again */

        ngx_http_llm_batch_step_begin(run, &call, " in_progress cancelling ",
                                      "", 0);
        ngx_http_llm_batch_step_number(&call, "stop_from", run->flagged[0]);
        ngx_http_llm_batch_step_number(&call, "stop_to", run->flagged[1]);

        (void) ngx_http_llm_batch_step(run, &call,
                                       ngx_http_llm_batch_stop_wait);
        return;
    }

    if (run->b.ob.state == LLM_BATCH_CANCELLING) {
        ngx_http_llm_batch_finish(run);
        return;
    }

    if (run->b.ob.state == LLM_BATCH_FAILED) {
        ngx_http_llm_batch_drop_all(run);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call, " in_progress ",
                                  "finalizing_at", 0);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, "finalizing");
    ngx_http_llm_queue_add_text(&call, "stop");
    ngx_http_llm_queue_add_text(&call, "expired");

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


static void
ngx_http_llm_batch_stop_wait(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
}


void
ngx_http_llm_batch_drop(ngx_http_llm_batch_run_t *run)
{
    /* one that failed may have jobs that nobody waits for any more */

    if (run->b.ob.state == LLM_BATCH_FAILED) {
        ngx_http_llm_batch_stop(run);
        return;
    }

    ngx_http_llm_batch_drop_all(run);
}


static void
ngx_http_llm_batch_drop_all(ngx_http_llm_batch_run_t *run)
{
    run->at = 1;
    run->to = ngx_http_llm_batch_fed_to(run);

    run->step = ngx_http_llm_batch_drop_some;
    ngx_http_llm_batch_wake(run);
}


static void
ngx_http_llm_batch_drop_some(ngx_http_llm_batch_run_t *run)
{
    ngx_pool_t                 *temp;
    ngx_http_llm_queue_call_t   call;

    if (run->at > run->to) {
        ngx_http_llm_batch_end(run, -1);
        return;
    }

    temp = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ngx_cycle->log);

    if (temp == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_http_llm_queue_begin(&call, temp, "drop");

    if (ngx_http_llm_batch_ids(run, &call) == NGX_OK) {
        (void) ngx_http_llm_batch_send(run, run->todo->tcf->queue, &call,
                                       ngx_http_llm_batch_dropped);
    } else {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
    }

    ngx_destroy_pool(temp);
}


static void
ngx_http_llm_batch_dropped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    run->at += NGX_HTTP_LLM_QUEUE_JOBS;

    ngx_http_llm_batch_wake(run);
}
