
/*
 * Copyright (C) the ngx-llm authors
 *
 * One task's call: a request of its owner through the gateway's own front
 * door.
 */


#include "tasks/ngx_http_llm_runner_private.h"

#include "core/llm_answer.h"


/* the gateway ends a call by itself, and says so, a little earlier */

#define NGX_HTTP_LLM_RUNNER_MARGIN  5000       /* ms */

/* within this a worker hears that it is to end, as another one did */

#define NGX_HTTP_LLM_RUNNER_MOMENT  250        /* ms */


static ngx_int_t ngx_http_llm_runner_request(
    ngx_http_llm_runner_task_t *task);
static ngx_int_t ngx_http_llm_runner_headers(
    ngx_http_llm_runner_task_t *task, int64_t left);
static ngx_int_t ngx_http_llm_runner_header(ngx_http_llm_loopback_t *lb,
    const char *name, ngx_str_t *value);
static void ngx_http_llm_runner_answered(ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_runner_cut(ngx_http_llm_runner_task_t *task);
static void ngx_http_llm_runner_moment(ngx_event_t *ev);
static void ngx_http_llm_runner_ended(ngx_http_llm_runner_task_t *task);


void
ngx_http_llm_runner_start(ngx_http_llm_runner_task_t *task)
{
    if (ngx_http_llm_runner_request(task) != NGX_OK) {

        /* no memory: as if it had not been tried, and not at once again */

        ngx_http_llm_runner_leave(task);
        ngx_http_llm_runner_uncounted(task);
        return;
    }

    task->running = 1;
    task->began = ngx_current_msec;

    ngx_http_llm_runner_running(1);

#if (NGX_HTTP_LLM_FAULTS)

    /* it has been sent by the next turn */

    ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_GATHER);

#endif
}


static ngx_int_t
ngx_http_llm_runner_request(ngx_http_llm_runner_task_t *task)
{
    int64_t                   left;
    ngx_buf_t                *b;
    ngx_http_llm_runner_t    *rn;
    ngx_http_llm_loopback_t  *lb;

    rn = &ngx_http_llm_runner;

    lb = ngx_http_llm_loopback_create(rn->log);
    if (lb == NULL) {
        return NGX_ERROR;
    }

    task->call = lb;

    left = rn->tcf->timeout;

    if (task->deadline) {
        left = ngx_min(left, task->deadline - ngx_http_llm_runner_wall());
        left = ngx_max(left, 1000);
    }

    ngx_str_set(&lb->method, "POST");

    lb->uri = task->endpoint;
    lb->key = task->owner;
    lb->max = rn->tcf->result_max;
    lb->timeout = (ngx_msec_t) left + NGX_HTTP_LLM_RUNNER_MARGIN;
    lb->inside = ngx_exiting;
    lb->handler = ngx_http_llm_runner_answered;
    lb->data = task;

    lb->body = ngx_alloc_chain_link(lb->pool);
    b = ngx_calloc_buf(lb->pool);

    if (lb->body == NULL || b == NULL) {
        return NGX_ERROR;
    }

    b->pos = task->body.data;
    b->last = task->body.data + task->body.len;
    b->memory = 1;

    lb->body->buf = b;
    lb->body->next = NULL;
    lb->body_len = task->body.len;

    if (ngx_http_llm_runner_headers(task, left) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_loopback_start(lb);
}


static ngx_int_t
ngx_http_llm_runner_headers(ngx_http_llm_runner_task_t *task, int64_t left)
{
    u_char                   *id, *ms;
    ngx_str_t                 type, background, request, timeout;
    ngx_http_llm_loopback_t  *lb;

    lb = task->call;

    id = ngx_pnalloc(lb->pool, task->id.len + 1 + NGX_INT_T_LEN);
    ms = ngx_pnalloc(lb->pool, NGX_INT64_LEN);

    if (id == NULL || ms == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&type, "application/json");
    ngx_str_set(&background, "1");

    request.data = id;
    request.len = ngx_sprintf(id, "%V", &task->id) - id;

    if (task->attempt > 1) {
        request.len = ngx_sprintf(id + request.len, "-%ui", task->attempt)
                      - id;
    }

    timeout.data = ms;
    timeout.len = ngx_sprintf(ms, "%L", left) - ms;

    if (ngx_http_llm_runner_header(lb, "Content-Type", &type) != NGX_OK
        || ngx_http_llm_runner_header(lb, "X-Llm-Background", &background)
           != NGX_OK
        || ngx_http_llm_runner_header(lb, "X-Request-Id", &request) != NGX_OK
        || ngx_http_llm_runner_header(lb, "X-Request-Timeout-Ms", &timeout)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_runner_header(ngx_http_llm_loopback_t *lb, const char *name,
    ngx_str_t *value)
{
    ngx_str_t  s;

    s.data = (u_char *) name;
    s.len = ngx_strlen(name);

    return ngx_http_llm_loopback_header(lb, &s, value) == NGX_ERROR
           ? NGX_ERROR : NGX_OK;
}


/* the call's end, also of one that is under way: the provider's ends, too */

void
ngx_http_llm_runner_leave(ngx_http_llm_runner_task_t *task)
{
    if (task->running) {
        task->running = 0;
        ngx_http_llm_runner_running(-1);
    }

    if (task->moment.timer_set) {
        ngx_del_timer(&task->moment);
    }

    if (task->call) {
        ngx_http_llm_loopback_close(task->call);
        task->call = NULL;
    }
}


static void
ngx_http_llm_runner_answered(ngx_http_llm_loopback_t *lb)
{
    ngx_http_llm_runner_task_t  *task;

    task = lb->data;

    task->running = 0;
    ngx_http_llm_runner_running(-1);

    task->status = lb->status;

    NGX_HTTP_LLM_FAULT("after-result");

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_BROKEN && !ngx_exiting) {
        ngx_http_llm_runner_cut(task);
        return;
    }

    ngx_http_llm_runner_ended(task);
}


/*
 * The worker that had the call is gone.  Where all workers of the gateway are
 * to end, this one hears of it in a moment and gives its tasks back as if they
 * had not been tried; else it was a try.
 */

static void
ngx_http_llm_runner_cut(ngx_http_llm_runner_task_t *task)
{
    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ngx_http_llm_runner.log, 0,
                   "llm task \"%V\": its call was cut", &task->id);

    task->moment.handler = ngx_http_llm_runner_moment;
    task->moment.data = task;
    task->moment.log = ngx_http_llm_runner.log;

    ngx_add_timer(&task->moment, NGX_HTTP_LLM_RUNNER_MOMENT);
}


static void
ngx_http_llm_runner_moment(ngx_event_t *ev)
{
    if (ngx_terminate) {
        return;
    }

    ngx_http_llm_runner_ended(ev->data);
}


static void
ngx_http_llm_runner_ended(ngx_http_llm_runner_task_t *task)
{
    llm_answer_t              an;
    ngx_http_llm_runner_t    *rn;
    ngx_http_llm_loopback_t  *lb;

    rn = &ngx_http_llm_runner;
    lb = task->call;

    ngx_memzero(&an, sizeof(llm_answer_t));

    if (lb->result == NGX_HTTP_LLM_LOOPBACK_OK) {
        llm_answer_scan(&an, LLM_ENDPOINTS, lb->answer.data, lb->answer.len);
    }

    ngx_http_llm_runner_judge(task, &an);

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                   "llm task \"%V\" answered: %d, status %ui, op %d, "
                   "%ui at a time", &task->id, lb->result, lb->status,
                   task->op, rn->limit);

    /* the archive is written when the end is known */

    if (rn->tcf->archive && task->op == NGX_HTTP_LLM_RUNNER_END) {
        task->answer = lb->answer;
        return;
    }

    ngx_http_llm_runner_leave(task);
}
