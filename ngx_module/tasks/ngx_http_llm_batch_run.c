
/*
 * Copyright (C) the ngx-llm authors
 *
 * The driver of a batch: one look at it, and what is to be done next.
 */


#include "tasks/ngx_http_llm_batch_private.h"


#define NGX_HTTP_LLM_BATCH_POOL  16384
#define NGX_HTTP_LLM_BATCH_RENEW  5000       /* ms, of the lease */


static void ngx_http_llm_batch_look(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_seen(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_batch_clear(ngx_http_llm_batch_run_t *run);
static void ngx_http_llm_batch_event(ngx_event_t *ev);
static void ngx_http_llm_batch_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_batch_stepped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);
static uint64_t ngx_http_llm_batch_clock(void);


void
ngx_http_llm_batch_run(ngx_http_llm_todo_t *todo)
{
    ngx_http_llm_batch_run_t  *run;

    run = ngx_pcalloc(todo->pool, sizeof(ngx_http_llm_batch_run_t));

    if (run == NULL) {
        ngx_http_llm_todo_done(todo, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    todo->data = run;

    run->todo = todo;
    run->kept = ngx_current_msec;
    run->event.handler = ngx_http_llm_batch_event;
    run->event.data = run;
    run->event.log = ngx_cycle->log;

    /* it is the caller's turn yet */

    run->step = ngx_http_llm_batch_look;
    ngx_http_llm_batch_wake(run);
}


static void
ngx_http_llm_batch_look(ngx_http_llm_batch_run_t *run)
{
    ngx_str_t                   any = ngx_string("*");
    ngx_http_llm_queue_call_t   call;

    run->pool = ngx_create_pool(NGX_HTTP_LLM_BATCH_POOL, ngx_cycle->log);

    if (run->pool == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    ngx_http_llm_queue_begin(&call, run->pool, "get");
    ngx_http_llm_queue_add(&call, &any);
    ngx_http_llm_queue_add(&call, &run->todo->id);

    (void) ngx_http_llm_batch_send(run, run->todo->tcf->batches, &call,
                                   ngx_http_llm_batch_seen);
}


static void
ngx_http_llm_batch_seen(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_int_t                    rc;
    ngx_http_llm_batch_t        *b;
    ngx_http_llm_redis_reply_t   now, fields;

    if (reply->type == NGX_HTTP_LLM_REDIS_NIL) {
        ngx_http_llm_batch_end(run, -1);
        return;
    }

    b = &run->b;
    rc = NGX_DECLINED;

    if (ngx_http_llm_redis_element(reply, 0, &now) == NGX_OK
        && ngx_http_llm_redis_element(reply, 1, &fields) == NGX_OK)
    {
        rc = ngx_http_llm_batch_read(run->pool, &fields, b);
    }

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: the batch \"%V\" cannot be read",
                      &run->todo->id);

        /* another version of the gateway may know it */

        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_QUOTA);
        return;
    }

    b->now = now.integer;

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm batch: \"%V\" %V lines:%L fed:%L ended:%L", &b->id,
                   &b->status, b->lines, b->fed,
                   b->completed + b->error + b->cancelled);

    switch (b->ob.state) {

    case LLM_BATCH_VALIDATING:
        run->step = ngx_http_llm_batch_check;
        break;

    case LLM_BATCH_IN_PROGRESS:
        run->step = ngx_http_llm_batch_feed;
        break;

    case LLM_BATCH_CANCELLING:
        run->step = ngx_http_llm_batch_stop;
        break;

    case LLM_BATCH_FINALIZING:
        run->step = ngx_http_llm_batch_finish;
        break;

    default:
        run->step = ngx_http_llm_batch_drop;
    }

    if (b->native.len && run->step != ngx_http_llm_batch_check
        && run->step != ngx_http_llm_batch_drop)
    {
        run->step = ngx_http_llm_batch_native;
    }

    ngx_http_llm_batch_wake(run);
}


void
ngx_http_llm_batch_again(ngx_http_llm_batch_run_t *run)
{
    ngx_http_llm_batch_clear(run);

    run->step = ngx_http_llm_batch_look;
    ngx_http_llm_batch_wake(run);
}


/* all that belongs to one look at the batch */

static void
ngx_http_llm_batch_clear(ngx_http_llm_batch_run_t *run)
{
    if (run->op) {
        ngx_http_llm_redis_detach(run->op);
        run->op = NULL;
    }

    if (run->event.posted) {
        ngx_delete_posted_event(&run->event);
    }

    ngx_http_llm_batch_native_close(run);
    ngx_http_llm_batch_finish_close(run);
    ngx_http_llm_batch_close(run);

    if (run->temp) {
        ngx_destroy_pool(run->temp);
        run->temp = NULL;
    }

    if (run->pool) {
        ngx_destroy_pool(run->pool);
        run->pool = NULL;
    }

    run->jobs = 0;
    run->at = 0;
    run->to = 0;
}


void
ngx_http_llm_batch_end(ngx_http_llm_batch_run_t *run, int64_t ms)
{
    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm batch: \"%V\" again in %L ms", &run->todo->id, ms);

    ngx_http_llm_batch_clear(run);

    run->todo->data = NULL;

    ngx_http_llm_todo_done(run->todo, ms);
}


void
ngx_http_llm_batch_wake(ngx_http_llm_batch_run_t *run)
{
    ngx_post_event(&run->event, &ngx_posted_events);
}


void
ngx_http_llm_batch_later(ngx_http_llm_batch_run_t *run)
{
    ngx_post_event(&run->event, &ngx_posted_next_events);
}


static void
ngx_http_llm_batch_event(ngx_event_t *ev)
{
    ngx_http_llm_batch_run_t  *run = ev->data;

    /* who leaves lets another one go on */

    if (ngx_exiting || ngx_terminate || ngx_quit) {
        ngx_http_llm_batch_end(run, 0);
        return;
    }

    if (ngx_current_msec - run->kept > NGX_HTTP_LLM_BATCH_RENEW) {
        run->kept = ngx_current_msec;
        ngx_http_llm_todo_keep(run->todo);
    }

    run->began = ngx_http_llm_batch_clock();

    run->step(run);
}


ngx_uint_t
ngx_http_llm_batch_late(ngx_http_llm_batch_run_t *run)
{
    return ngx_http_llm_batch_clock() - run->began
           > NGX_HTTP_LLM_BATCH_SLICE;
}


static uint64_t
ngx_http_llm_batch_clock(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


ngx_int_t
ngx_http_llm_batch_send(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_script_t *script, ngx_http_llm_queue_call_t *call,
    ngx_http_llm_batch_reply_pt reply)
{
    run->reply = reply;
    run->op = ngx_http_llm_queue_eval(run->todo->tcf, script, call,
                                      ngx_http_llm_batch_reply, run);
    if (run->op == NULL) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return NGX_ERROR;
    }

    return NGX_OK;
}


static void
ngx_http_llm_batch_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_batch_run_t  *run = data;

    run->op = NULL;
    run->began = ngx_http_llm_batch_clock();

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_ERROR:
        ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                      "llm: the batch \"%V\" has to wait: Redis says \"%V\"",
                      &run->todo->id, &reply->str);

        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;

    case NGX_HTTP_LLM_REDIS_TIMEOUT:
    case NGX_HTTP_LLM_REDIS_GONE:
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;

    default:
        run->reply(run, reply);
    }
}


void
ngx_http_llm_batch_step_begin(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call, const char *expected, const char *stamp,
    time_t ttl)
{
    ngx_http_llm_queue_begin(call, run->pool, "step");
    ngx_http_llm_queue_add(call, &run->todo->id);
    ngx_http_llm_queue_add(call, &run->todo->token);
    ngx_http_llm_queue_add_text(call, expected);
    ngx_http_llm_queue_add_text(call, stamp);
    ngx_http_llm_queue_add_number(call, (int64_t) ttl * 1000);
}


void
ngx_http_llm_batch_step_text(ngx_http_llm_queue_call_t *call,
    const char *name, ngx_str_t *value)
{
    ngx_http_llm_queue_add_text(call, name);
    ngx_http_llm_queue_add(call, value);
}


void
ngx_http_llm_batch_step_number(ngx_http_llm_queue_call_t *call,
    const char *name, int64_t value)
{
    ngx_http_llm_queue_add_text(call, name);
    ngx_http_llm_queue_add_number(call, value);
}


ngx_int_t
ngx_http_llm_batch_step(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_batch_pt next)
{
    run->next = next;

    return ngx_http_llm_batch_send(run, run->todo->tcf->batches, call,
                                   ngx_http_llm_batch_stepped);
}


static void
ngx_http_llm_batch_stepped(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_redis_reply_t  word, status;

    if (ngx_http_llm_redis_element(reply, 0, &word) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &status) != NGX_OK)
    {
        /* somebody else drives it by now */

        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                       "llm batch: \"%V\" lost", &run->todo->id);

        ngx_http_llm_batch_finish_undo(run);
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    if (word.str.len != 2 || ngx_memcmp(word.str.data, "ok", 2) != 0) {
        ngx_http_llm_batch_finish_undo(run);
        ngx_http_llm_batch_again(run);
        return;
    }

    /* a client may have cancelled it meanwhile */

    if (status.str.len == sizeof("cancelling") - 1
        && ngx_memcmp(status.str.data, "cancelling", status.str.len) == 0
        && run->b.ob.state != LLM_BATCH_CANCELLING)
    {
        ngx_http_llm_batch_again(run);
        return;
    }

    run->next(run);
}


void
ngx_http_llm_batch_fail(ngx_http_llm_batch_run_t *run, const char *code,
    const char *text)
{
    llm_batch_error_t  err;

    ngx_memzero(&err, sizeof(llm_batch_error_t));

    err.code = code;
    ngx_http_llm_batch_say(&err, text);

    ngx_http_llm_batch_fail_all(run, &err, 1);
}


void
ngx_http_llm_batch_fail_all(ngx_http_llm_batch_run_t *run,
    llm_batch_error_t *err, ngx_uint_t n)
{
    ngx_str_t                  json;
    ngx_http_llm_queue_call_t  call;

    if (ngx_http_llm_batch_errors(run->pool, err, n, &json) != NGX_OK) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_AGAIN);
        return;
    }

    ngx_http_llm_batch_step_begin(run, &call,
                                  " validating in_progress finalizing "
                                  "cancelling ", "failed_at",
                                  NGX_HTTP_LLM_BATCH_KEEP);
    ngx_http_llm_queue_add_text(&call, "status");
    ngx_http_llm_queue_add_text(&call, "failed");
    ngx_http_llm_batch_step_text(&call, "errors", &json);

    (void) ngx_http_llm_batch_step(run, &call, ngx_http_llm_batch_again);
}


ngx_int_t
ngx_http_llm_batch_job(ngx_http_llm_batch_run_t *run, ngx_pool_t *pool,
    int64_t n, ngx_str_t *id)
{
    size_t  prefix;

    prefix = sizeof(NGX_HTTP_LLM_BATCH_PREFIX) - 1;

    id->data = ngx_pnalloc(pool, run->b.id.len + NGX_INT64_LEN + 1);
    if (id->data == NULL) {
        return NGX_ERROR;
    }

    id->len = ngx_sprintf(id->data, "%*s-%L", run->b.id.len - prefix,
                          run->b.id.data + prefix, n)
              - id->data;

    return NGX_OK;
}
