
/*
 * Copyright (C) the ngx-llm authors
 *
 * Leases are kept as long as a task is held here; the answer tells which
 * are to be cancelled, and which have become another one's.
 */


#include "tasks/ngx_http_llm_runner_private.h"


static void ngx_http_llm_runner_beaten(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_runner_pulse(ngx_http_llm_runner_task_t *task,
    int64_t code, ngx_msec_t until);


void
ngx_http_llm_runner_beats(void)
{
    ngx_str_t                     none;
    ngx_queue_t                  *q;
    ngx_http_llm_runner_t        *rn;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_runner_task_t   *task;
    ngx_http_llm_runner_batch_t  *batch;

    rn = &ngx_http_llm_runner;

    if (rn->held == 0
        || ngx_current_msec - rn->beaten + 25 < rn->tcf->lease / 4
        || !ngx_http_llm_redis_connected(rn->tcf->redis))
    {
        return;
    }

    rn->beaten = ngx_current_msec;

    ngx_str_set(&none, "");

    q = ngx_queue_head(&rn->tasks);

    while (q != ngx_queue_sentinel(&rn->tasks)) {

        batch = ngx_http_llm_runner_batch(NGX_HTTP_LLM_RUNNER_NONE);
        if (batch == NULL) {
            return;
        }

        ngx_http_llm_queue_begin(&call, batch->pool, "beat");
        ngx_http_llm_queue_add(&call, &rn->name);

        for ( /* void */ ;
             q != ngx_queue_sentinel(&rn->tasks)
             && batch->tasks.nelts < NGX_HTTP_LLM_QUEUE_JOBS;
             q = ngx_queue_next(q))
        {
            task = ngx_queue_data(q, ngx_http_llm_runner_task_t, queue);

            if (ngx_http_llm_runner_batch_add(batch, task) != NGX_OK) {
                ngx_http_llm_runner_batch_free(batch);
                return;
            }

            ngx_http_llm_queue_add(&call, &task->id);
            ngx_http_llm_queue_add(&call, &task->token);
            ngx_http_llm_queue_add(&call, &none);
        }

        batch->sent = ngx_http_llm_queue_send(rn->tcf, &call,
                                              ngx_http_llm_runner_beaten,
                                              batch);
        if (batch->sent == NULL) {
            ngx_http_llm_runner_batch_free(batch);
            return;
        }
    }
}


static void
ngx_http_llm_runner_beaten(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_runner_batch_t  *batch = data;

    ngx_uint_t                    i;
    ngx_http_llm_runner_task_t  **task;
    ngx_http_llm_redis_reply_t    code;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_runner_complain("beat", reply);
        ngx_http_llm_runner_batch_free(batch);
        return;
    }

    task = batch->tasks.elts;

    for (i = 0; i < batch->tasks.nelts; i++) {

        if (!task[i]->over
            && ngx_http_llm_redis_element(reply, i, &code) == NGX_OK
            && code.type == NGX_HTTP_LLM_REDIS_INTEGER)
        {
            ngx_http_llm_runner_pulse(task[i], code.integer,
                                      batch->since
                                      + ngx_http_llm_runner.tcf->lease);
        }
    }

    ngx_http_llm_runner_batch_free(batch);
    ngx_http_llm_runner_busy();
}


static void
ngx_http_llm_runner_pulse(ngx_http_llm_runner_task_t *task, int64_t code,
    ngx_msec_t until)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (code) {
        task->until = until;
    }

    /* of one that has ended, the reply to that will tell */

    if (task->op != NGX_HTTP_LLM_RUNNER_NONE || code == 1) {
        return;
    }

    ngx_http_llm_runner_leave(task);

    if (code == 2) {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                       "llm task \"%V\" is cancelled", &task->id);

        task->outcome = NGX_HTTP_LLM_TASK_CANCELLED;
        ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_END);
        return;
    }

    (void) ngx_atomic_fetch_add(&rn->count->lost, 1);

    ngx_log_error(NGX_LOG_NOTICE, rn->log, 0,
                  "llm task \"%V\" of \"%V\" is not ours any more, its lease "
                  "was over, attempt %ui", &task->id, &task->team,
                  task->attempt);

    rn->want = 1;
    ngx_http_llm_runner_drop(task);
}
