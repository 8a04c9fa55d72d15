
/*
 * Copyright (C) the ngx-llm authors
 *
 * What an answer makes of its task: an end, another try, or as if it had not
 * been tried; and how many tasks run at a time.
 */


#include "tasks/ngx_http_llm_runner_private.h"
#include "http/ngx_http_llm_id.h"

#include "core/llm_backoff.h"


/* longer than this nobody waits for a limit */

#define NGX_HTTP_LLM_RUNNER_PATIENCE  60000    /* ms */


static void ngx_http_llm_runner_answered(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an);
static void ngx_http_llm_runner_completed(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an);
static void ngx_http_llm_runner_limited(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an);
static void ngx_http_llm_runner_failed(ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_final(ngx_http_llm_runner_task_t *task,
    const char *reason);


void
ngx_http_llm_runner_judge(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an)
{
    switch (task->call->result) {

    case NGX_HTTP_LLM_LOOPBACK_OK:
        ngx_http_llm_runner_answered(task, an);
        return;

    case NGX_HTTP_LLM_LOOPBACK_CONNECT:
        ngx_http_llm_runner_uncounted(task);
        return;

    case NGX_HTTP_LLM_LOOPBACK_LARGE:
        task->reason = "result_too_large";
        ngx_http_llm_runner_fail(task, "result_too_large",
                                 "The answer is larger than a result may be "
                                 "(llm_tasks result_max).");
        return;

    default:
        if (ngx_exiting && task->call->status == 0) {
            /* nobody was there any more who would take it */
            ngx_http_llm_runner_uncounted(task);
            return;
        }

        ngx_http_llm_runner_failed(task);
    }
}


static void
ngx_http_llm_runner_answered(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an)
{
    ngx_uint_t                status;
    ngx_http_llm_loopback_t  *lb;

    lb = task->call;
    status = lb->status;

    if (status >= 200 && status < 300) {

        if (an->valid) {
            ngx_http_llm_runner_completed(task, an);

        } else if (ngx_http_llm_runner_is(lb, "content-type",
                                          "text/event-stream"))
        {
            task->reason = "streams";
            ngx_http_llm_runner_fail(task, "unsupported_parameter",
                                     "A task cannot stream its answer.");

        } else {
            ngx_http_llm_runner_failed(task);
        }

        return;
    }

    if (status == 429) {
        ngx_http_llm_runner_limited(task, an);
        return;
    }

    if (status == 503
        && (ngx_http_llm_runner_code(an, "policy_unavailable")
            || ngx_http_llm_runner_is(lb, "x-llm-attempts", "0")))
    {
        /* no provider was asked: none can be, or the gateway is not ready */
        ngx_http_llm_runner_uncounted(task);
        return;
    }

    if (status >= 400 && status < 500 && status != 408) {
        ngx_http_llm_runner_final(task, "refused");
        return;
    }

    ngx_http_llm_runner_failed(task);
}


static void
ngx_http_llm_runner_completed(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (ngx_http_llm_runner_result(task) != NGX_OK
        || ngx_http_llm_runner_usage(task, an) != NGX_OK)
    {
        ngx_http_llm_runner_failed(task);
        return;
    }

    /* there was room for it: one more at a time */

    if (rn->limit < rn->most
        && ngx_http_llm_runner_is(task->call, "x-llm-queue-ms", "0"))
    {
        rn->limit++;
    }

    task->outcome = NGX_HTTP_LLM_TASK_COMPLETED;

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_END);
}


/* no room now, here or at the provider; or never again this month */

static void
ngx_http_llm_runner_limited(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an)
{
    int64_t                 asked;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    asked = ngx_http_llm_runner_asked(task->call);

    if (ngx_http_llm_runner_code(an, "insufficient_quota")
        || (asked > NGX_HTTP_LLM_RUNNER_PATIENCE
            && ngx_http_llm_runner_is(task->call, "x-should-retry", "false")))
    {
        ngx_http_llm_runner_final(task, "limit");
        return;
    }

    /*
     * Once per round trip: those that were sent before tell nothing new.  Of
     * slots that are all in use only the team hears, by its window.
     */

    if ((ngx_msec_int_t) (task->began - rn->shrunk) >= 0
        && !ngx_http_llm_runner_code(an, "background_busy"))
    {
        rn->limit = ngx_max(rn->limit * 7 / 10, 1);
        rn->shrunk = ngx_current_msec;
    }

    if (asked < 0) {
        asked = rn->tcf->backoff / 2
                + llm_backoff_delay(rn->tcf->backoff, rn->tcf->backoff_max,
                                    0, ngx_http_llm_random());
    }

    task->delay = (ngx_msec_t) ngx_min(asked, NGX_HTTP_LLM_RUNNER_PATIENCE);

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_HOLD);
}


/* another try, or the end of them */

static void
ngx_http_llm_runner_failed(ngx_http_llm_runner_task_t *task)
{
    int64_t                     asked;
    uint64_t                    delay;
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_runner.tcf;

    if (task->deadline && ngx_http_llm_runner_wall() >= task->deadline) {
        task->reason = "deadline";
        ngx_http_llm_runner_fail(task, "task_expired",
                                 "The task was not done before its "
                                 "deadline.");
        return;
    }

    if (task->attempt >= tcf->tries) {
        ngx_http_llm_runner_final(task, "tries");
        return;
    }

    delay = llm_backoff_delay(tcf->backoff, tcf->backoff_max,
                              (unsigned) task->attempt - 1,
                              ngx_http_llm_random());

    asked = ngx_http_llm_runner_asked(task->call);

    if (asked > 0) {
        delay = ngx_max(delay, (uint64_t) ngx_min(asked,
                                               NGX_HTTP_LLM_RUNNER_PATIENCE));
    }

    task->delay = (ngx_msec_t) delay;
    task->counts = 1;

    if (ngx_http_llm_runner_told(task) != NGX_OK) {
        ngx_str_null(&task->error);
    }

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_RETRY);
}


/* it is nothing that the task could be blamed for */

void
ngx_http_llm_runner_uncounted(ngx_http_llm_runner_task_t *task)
{
    int64_t                     asked;
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_runner.tcf;

    if (ngx_exiting) {
        ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_RELEASE);
        return;
    }

    asked = task->call ? ngx_http_llm_runner_asked(task->call) : 0;

    if (asked <= 0) {
        asked = tcf->backoff / 2
                + llm_backoff_delay(tcf->backoff, tcf->backoff_max, 1,
                                    ngx_http_llm_random());
    }

    task->delay = (ngx_msec_t) ngx_min(asked, NGX_HTTP_LLM_RUNNER_PATIENCE);
    task->counts = 0;

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_RETRY);
}


/* this answer is the task's, an error */

static void
ngx_http_llm_runner_final(ngx_http_llm_runner_task_t *task,
    const char *reason)
{
    if (ngx_http_llm_runner_told(task) != NGX_OK) {
        ngx_str_null(&task->error);
    }

    if (task->call->result != NGX_HTTP_LLM_LOOPBACK_OK
        || ngx_http_llm_runner_result(task) != NGX_OK)
    {
        ngx_str_null(&task->result);
    }

    task->reason = reason;
    task->outcome = NGX_HTTP_LLM_TASK_ERROR;

    ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_END);
}
