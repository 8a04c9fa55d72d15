
/*
 * Copyright (C) the ngx-llm authors
 *
 * What has become of tasks: gathered, sent in calls about many, and sent
 * again until it is answered.  The token says each time whether it was still
 * this worker's to tell.
 */


#include "tasks/ngx_http_llm_runner_private.h"


/* times that Redis may refuse a call before its tasks are let go */

#define NGX_HTTP_LLM_RUNNER_REFUSED  20

/* until a pause is over by the clock of Redis, too */

#define NGX_HTTP_LLM_RUNNER_MARGIN   20        /* ms */


static ngx_int_t ngx_http_llm_runner_send_op(ngx_http_llm_runner_op_e op,
    ngx_uint_t exiting);
static ngx_int_t ngx_http_llm_runner_gather(ngx_http_llm_runner_op_e op,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_runner_batch_t **gathered);
static size_t ngx_http_llm_runner_size(ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_words(ngx_http_llm_queue_call_t *call,
    ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_put(ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_put_back(ngx_http_llm_runner_batch_t *batch,
    ngx_uint_t sent);
static void ngx_http_llm_runner_replied(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_runner_settle(ngx_http_llm_runner_task_t *task,
    int64_t code);
static void ngx_http_llm_runner_count(ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_lapsed(void);


static const char  *ngx_http_llm_runner_ops[] = {
    NULL, "end", "retry", "hold", "release"
};

static const char  *ngx_http_llm_runner_states[] = {
    "completed", "error", "cancelled"
};


void
ngx_http_llm_runner_verdict(ngx_http_llm_runner_task_t *task,
    ngx_http_llm_runner_op_e op)
{
    ngx_msec_t              due;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    task->op = op;
    rn->want = 1;

    /* a longer pause is seen at the next look */

    if (task->delay && task->delay < NGX_HTTP_LLM_RUNNER_TICK) {
        due = ngx_current_msec + task->delay + NGX_HTTP_LLM_RUNNER_MARGIN;

        if (!rn->waits || (ngx_msec_int_t) (due - rn->due) < 0) {
            rn->waits = 1;
            rn->due = due;
        }
    }

    ngx_http_llm_runner_put(task);

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                   "llm task \"%V\": %s %s %M", &task->id,
                   ngx_http_llm_runner_ops[op],
                   op == NGX_HTTP_LLM_RUNNER_END
                   ? ngx_http_llm_runner_states[task->outcome] : "",
                   task->delay);

    ngx_http_llm_runner_soon(rn->calls == 0
                             || rn->nout >= NGX_HTTP_LLM_RUNNER_MANY
                             ? 0 : NGX_HTTP_LLM_RUNNER_GATHER);
}


void
ngx_http_llm_runner_fail(ngx_http_llm_runner_task_t *task, const char *code,
    const char *message)
{
    if (ngx_http_llm_runner_error(task->pool, &task->error, code, message)
        != NGX_OK)
    {
        ngx_str_null(&task->error);
    }

    task->outcome = NGX_HTTP_LLM_TASK_ERROR;

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_END);
}


ngx_int_t
ngx_http_llm_runner_error(ngx_pool_t *pool, ngx_str_t *error,
    const char *code, const char *message)
{
    u_char  *p;

    p = ngx_pnalloc(pool, NGX_HTTP_LLM_RUNNER_ERROR);
    if (p == NULL) {
        return NGX_ERROR;
    }

    error->data = p;
    error->len = ngx_snprintf(p, NGX_HTTP_LLM_RUNNER_ERROR,
                              "{\"message\":\"%s\",\"type\":\"server_error\","
                              "\"param\":null,\"code\":\"%s\"}",
                              message, code)
                 - p;

    return NGX_OK;
}


void
ngx_http_llm_runner_send(void)
{
    ngx_int_t               rc;
    ngx_uint_t              op;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (rn->nout == 0) {
        return;
    }

    if (ngx_http_llm_redis_connected(rn->tcf->redis)) {

        for (op = NGX_HTTP_LLM_RUNNER_END;
             op < NGX_HTTP_LLM_RUNNER_OPS;
             op++)
        {
            do {
                rc = ngx_http_llm_runner_send_op(op, 0);
            } while (rc == NGX_OK);

            if (rc == NGX_ERROR) {
                break;
            }
        }
    }

    if (rn->nout) {
        ngx_http_llm_runner_lapsed();
    }

    if (rn->nout) {
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_AGAIN);
    }
}


/* one call; NGX_DECLINED: nothing of that kind, NGX_ERROR: not now */

static ngx_int_t
ngx_http_llm_runner_send_op(ngx_http_llm_runner_op_e op, ngx_uint_t exiting)
{
    ngx_int_t                     rc;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_runner_batch_t  *batch;

    rc = ngx_http_llm_runner_gather(op, &call, &batch);

    if (rc != NGX_OK) {
        return rc;
    }

    batch->sent = ngx_http_llm_queue_send(ngx_http_llm_runner.tcf, &call,
                                     exiting ? NULL
                                             : ngx_http_llm_runner_replied,
                                     batch);

    if (exiting) {
        ngx_http_llm_runner_batch_free(batch);
        return NGX_OK;
    }

    if (batch->sent == NULL) {
        ngx_http_llm_runner_put_back(batch, 0);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* takes out of the outbox what goes into one call, and writes the call */

static ngx_int_t
ngx_http_llm_runner_gather(ngx_http_llm_runner_op_e op,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_runner_batch_t **gathered)
{
    ngx_queue_t                  *q, *next;
    ngx_http_llm_runner_t        *rn;
    ngx_http_llm_runner_task_t   *task;
    ngx_http_llm_runner_batch_t  *batch;

    rn = &ngx_http_llm_runner;
    batch = NULL;

    for (q = ngx_queue_head(&rn->outbox);
         q != ngx_queue_sentinel(&rn->outbox);
         q = next)
    {
        next = ngx_queue_next(q);
        task = ngx_queue_data(q, ngx_http_llm_runner_task_t, out);

        if (task->op != op) {
            continue;
        }

        if (batch == NULL) {

            batch = ngx_http_llm_runner_batch(op);
            if (batch == NULL) {
                return NGX_ERROR;
            }

            ngx_http_llm_queue_begin(call, batch->pool,
                                     ngx_http_llm_runner_ops[op]);
            ngx_http_llm_queue_add_number(call, rn->tcf->window);
            ngx_http_llm_queue_add_number(call,
                                      op == NGX_HTTP_LLM_RUNNER_END
                                      ? (int64_t) NGX_HTTP_LLM_RUNNER_DEAD
                                      : (int64_t) rn->tcf->keep * 1000);

        } else if (batch->tasks.nelts == NGX_HTTP_LLM_QUEUE_JOBS
                   || call->bytes + ngx_http_llm_runner_size(task)
                      > NGX_HTTP_LLM_QUEUE_BYTES)
        {
            break;
        }

        if (ngx_http_llm_runner_batch_add(batch, task) != NGX_OK) {
            ngx_http_llm_runner_put_back(batch, 0);
            return NGX_ERROR;
        }

        ngx_queue_remove(&task->out);
        task->waiting = 0;
        rn->nout--;

        ngx_http_llm_runner_words(call, task);
    }

    *gathered = batch;

    return batch ? NGX_OK : NGX_DECLINED;
}


static size_t
ngx_http_llm_runner_size(ngx_http_llm_runner_task_t *task)
{
    return task->id.len + task->token.len + task->result.len
           + task->error.len + task->usage.len + 64;
}


static void
ngx_http_llm_runner_words(ngx_http_llm_queue_call_t *call,
    ngx_http_llm_runner_task_t *task)
{
    time_t                      ttl;
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_runner.tcf;

    ngx_http_llm_queue_add(call, &task->id);
    ngx_http_llm_queue_add(call, &task->token);

    switch (task->op) {

    case NGX_HTTP_LLM_RUNNER_END:
        ttl = task->outcome == NGX_HTTP_LLM_TASK_COMPLETED ? tcf->results
                                                           : tcf->keep;

        ngx_http_llm_queue_add_text(call,
                                ngx_http_llm_runner_states[task->outcome]);
        ngx_http_llm_queue_add(call, &task->result);
        ngx_http_llm_queue_add(call, &task->error);
        ngx_http_llm_queue_add(call, &task->usage);
        ngx_http_llm_queue_add_number(call, (int64_t) ttl * 1000);
        ngx_http_llm_queue_add_text(call, task->reason ? task->reason : "");
        break;

    case NGX_HTTP_LLM_RUNNER_RETRY:
        ngx_http_llm_queue_add_number(call, task->delay);
        ngx_http_llm_queue_add_number(call, task->counts);
        ngx_http_llm_queue_add(call, &task->error);
        break;

    case NGX_HTTP_LLM_RUNNER_HOLD:
        ngx_http_llm_queue_add_number(call, task->delay);
        break;

    default: /* NGX_HTTP_LLM_RUNNER_RELEASE */
        break;
    }
}


static void
ngx_http_llm_runner_put(ngx_http_llm_runner_task_t *task)
{
    task->waiting = 1;

    ngx_queue_insert_tail(&ngx_http_llm_runner.outbox, &task->out);
    ngx_http_llm_runner.nout++;
}


static void
ngx_http_llm_runner_put_back(ngx_http_llm_runner_batch_t *batch,
    ngx_uint_t sent)
{
    ngx_uint_t                    i;
    ngx_http_llm_runner_task_t  **task;

    task = batch->tasks.elts;

    for (i = 0; i < batch->tasks.nelts; i++) {

        if (task[i]->over) {
            continue;
        }

        if (sent) {
            task[i]->resent = 1;
        }

        ngx_http_llm_runner_put(task[i]);
    }

    ngx_http_llm_runner_batch_free(batch);
}


static void
ngx_http_llm_runner_replied(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_runner_batch_t  *batch = data;

    ngx_uint_t                    i;
    ngx_http_llm_runner_task_t  **task;
    ngx_http_llm_redis_reply_t    code;

    if (batch->op == NGX_HTTP_LLM_RUNNER_END) {
        NGX_HTTP_LLM_FAULT("after-end");
    }

    task = batch->tasks.elts;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {

        ngx_http_llm_runner_complain(ngx_http_llm_runner_ops[batch->op],
                                     reply);

        for (i = 0; i < batch->tasks.nelts; i++) {

            if (reply->type == NGX_HTTP_LLM_REDIS_ERROR
                && reply->error == NGX_HTTP_LLM_REDIS_ERR_OTHER
                && task[i]->refused++ == NGX_HTTP_LLM_RUNNER_REFUSED)
            {
                ngx_http_llm_runner_settle(task[i], 0);
            }
        }

        ngx_http_llm_runner_put_back(batch, 1);
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_AGAIN);
        ngx_http_llm_runner_busy();
        return;
    }

    for (i = 0; i < batch->tasks.nelts; i++) {

        if (ngx_http_llm_redis_element(reply, i, &code) != NGX_OK
            || code.type != NGX_HTTP_LLM_REDIS_INTEGER)
        {
            code.integer = 0;
        }

        ngx_http_llm_runner_settle(task[i], code.integer);
    }

    ngx_http_llm_runner_batch_free(batch);
    ngx_http_llm_runner_busy();
}


/* codes as in the head of queue.lua */

static void
ngx_http_llm_runner_settle(ngx_http_llm_runner_task_t *task, int64_t code)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (task->over) {
        return;
    }

    if (code > 0 || (task->resent && task->op != NGX_HTTP_LLM_RUNNER_END)) {

        /* what was given back has no token any more to tell it by */

        if (code == 3) {
            task->op = NGX_HTTP_LLM_RUNNER_END;
            task->outcome = NGX_HTTP_LLM_TASK_CANCELLED;
            ngx_str_null(&task->error);
        }

        ngx_http_llm_runner_count(task);

    } else {
        (void) ngx_atomic_fetch_add(&rn->count->lost, 1);

        ngx_log_error(NGX_LOG_NOTICE, rn->log, 0,
                      "llm task \"%V\" of \"%V\" was not ours any more when "
                      "it ended here, attempt %ui", &task->id, &task->team,
                      task->attempt);
    }

    ngx_http_llm_runner_drop(task);
}


static void
ngx_http_llm_runner_count(ngx_http_llm_runner_task_t *task)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    switch (task->op) {

    case NGX_HTTP_LLM_RUNNER_END:
        (void) ngx_atomic_fetch_add(&rn->count->finished[task->outcome], 1);

        ngx_http_llm_count_task_time(&rn->count->run,
                                     ngx_current_msec - task->since);
        ngx_http_llm_runner_archive(task);

        if (task->webhook) {
            ngx_http_llm_todo_look();
            ngx_http_llm_runner_soon(0);
        }

        break;

    case NGX_HTTP_LLM_RUNNER_RETRY:
        (void) ngx_atomic_fetch_add(&rn->count->retried, 1);
        break;

    case NGX_HTTP_LLM_RUNNER_HOLD:
        (void) ngx_atomic_fetch_add(&rn->count->held, 1);
        break;

    default: /* NGX_HTTP_LLM_RUNNER_RELEASE */
        break;
    }
}


void
ngx_http_llm_runner_drop(ngx_http_llm_runner_task_t *task)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    ngx_http_llm_runner_leave(task);

    if (task->waiting) {
        ngx_queue_remove(&task->out);
        task->waiting = 0;
        rn->nout--;
    }

    ngx_queue_remove(&task->queue);
    rn->held--;

    task->over = 1;

    if (task->refs == 0) {
        ngx_destroy_pool(task->pool);
    }
}


/* who is to end does not wait for Redis longer than a lease */

static void
ngx_http_llm_runner_lapsed(void)
{
    ngx_queue_t                 *q, *next;
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_runner_task_t  *task;

    rn = &ngx_http_llm_runner;

    if (!ngx_exiting) {
        return;
    }

    for (q = ngx_queue_head(&rn->outbox);
         q != ngx_queue_sentinel(&rn->outbox);
         q = next)
    {
        next = ngx_queue_next(q);
        task = ngx_queue_data(q, ngx_http_llm_runner_task_t, out);

        if ((ngx_msec_int_t) (task->until - ngx_current_msec) < 0) {
            task->resent = 0;
            task->op = NGX_HTTP_LLM_RUNNER_RELEASE;
            ngx_http_llm_runner_settle(task, 0);
        }
    }
}


/* what runs is given back, what has ended is told once more, unheard */

void
ngx_http_llm_runner_end_exit(void)
{
    ngx_uint_t                    op;
    ngx_queue_t                  *q;
    ngx_http_llm_runner_t        *rn;
    ngx_http_llm_runner_task_t   *task;
    ngx_http_llm_runner_batch_t  *batch;

    rn = &ngx_http_llm_runner;

    while (!ngx_queue_empty(&rn->batches)) {
        q = ngx_queue_head(&rn->batches);
        batch = ngx_queue_data(q, ngx_http_llm_runner_batch_t, queue);

        ngx_http_llm_redis_detach(batch->sent);
        ngx_http_llm_runner_batch_free(batch);
    }

    for (q = ngx_queue_head(&rn->tasks);
         q != ngx_queue_sentinel(&rn->tasks);
         q = ngx_queue_next(q))
    {
        task = ngx_queue_data(q, ngx_http_llm_runner_task_t, queue);

        if (task->op == NGX_HTTP_LLM_RUNNER_NONE) {
            ngx_http_llm_runner_leave(task);
            task->op = NGX_HTTP_LLM_RUNNER_RELEASE;
            ngx_http_llm_runner_put(task);
        }
    }

    for (op = NGX_HTTP_LLM_RUNNER_END; op < NGX_HTTP_LLM_RUNNER_OPS; op++) {
        while (ngx_http_llm_runner_send_op(op, 1) == NGX_OK) { /* void */ }
    }

    while (!ngx_queue_empty(&rn->tasks)) {
        q = ngx_queue_head(&rn->tasks);
        ngx_http_llm_runner_drop(ngx_queue_data(q, ngx_http_llm_runner_task_t,
                                                queue));
    }
}
