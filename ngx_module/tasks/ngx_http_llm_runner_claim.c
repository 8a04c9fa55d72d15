
/*
 * Copyright (C) the ngx-llm authors
 *
 * Claims: how many, when, and what came.  One at a time; if its reply is
 * lost, what it gave is asked back by its token before there is another.
 */


#include "tasks/ngx_http_llm_runner_private.h"


#define NGX_HTTP_LLM_RUNNER_FIELDS   13        /* of a job in the reply */
#define NGX_HTTP_LLM_RUNNER_POISON                                           \
    "{\"message\":\"The gateway died each time it ran this task.\","         \
    "\"type\":\"server_error\",\"param\":null,\"code\":\"poison\"}"
#define NGX_HTTP_LLM_RUNNER_CRASH                                            \
    "{\"message\":\"The gateway died while it ran this task.\","             \
    "\"type\":\"server_error\",\"param\":null,\"code\":\"crashed\"}"
#define NGX_HTTP_LLM_RUNNER_MISSED                                           \
    "{\"message\":\"The task was not done before its deadline.\","           \
    "\"type\":\"server_error\",\"param\":null,\"code\":\"task_expired\"}"


static void ngx_http_llm_runner_claim_call(ngx_http_llm_queue_call_t *call,
    ngx_pool_t *pool, ngx_uint_t room);
static ngx_uint_t ngx_http_llm_runner_room(void);
static void ngx_http_llm_runner_claimed(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_uint_t ngx_http_llm_runner_take(
    ngx_http_llm_redis_reply_t *jobs);
static ngx_http_llm_runner_task_t *ngx_http_llm_runner_task(
    ngx_http_llm_redis_reply_t *job);
static ngx_http_llm_runner_task_t *ngx_http_llm_runner_task_create(
    ngx_pool_t *pool, ngx_str_t *field);
static void ngx_http_llm_runner_open(ngx_http_llm_runner_task_t *task,
    ngx_str_t *parcel);
static ngx_int_t ngx_http_llm_runner_unpack(ngx_http_llm_runner_task_t *task,
    ngx_str_t *parcel);
static void ngx_http_llm_runner_ended(ngx_http_llm_redis_reply_t *ended);
static void ngx_http_llm_runner_gone(ngx_http_llm_redis_reply_t *one);
static ngx_int_t ngx_http_llm_runner_string(ngx_http_llm_redis_reply_t *list,
    ngx_uint_t i, ngx_str_t *s);
static int64_t ngx_http_llm_runner_number(ngx_http_llm_redis_reply_t *list,
    ngx_uint_t i);


void
ngx_http_llm_runner_claim(void)
{
    ngx_pool_t                 *pool;
    ngx_uint_t                  room;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;

    if (rn->claim) {
        return;
    }

    if (rn->lost) {
        ngx_http_llm_runner_recall();
        return;
    }

    if (!rn->want || ngx_exiting || ngx_quit || ngx_terminate
        || !ngx_http_llm_redis_connected(rn->tcf->redis))
    {
        return;
    }

    room = ngx_http_llm_runner_room();

    /* places that ends have left are gathered, for one claim of many */

    if (room == 0
        || (!rn->now && rn->calls && room < ngx_max(rn->limit / 4, 1)))
    {
        return;
    }

    if (ngx_http_llm_queue_token(rn->token) != NGX_OK) {
        return;
    }

    pool = ngx_create_pool(1024, rn->log);
    if (pool == NULL) {
        return;
    }

    ngx_http_llm_runner_claim_call(&call, pool, room);

    rn->claimed = ngx_current_msec;
    rn->asked = room;
    rn->want = 0;
    rn->now = 0;

    rn->claim = ngx_http_llm_queue_send(rn->tcf, &call,
                                        ngx_http_llm_runner_claimed, NULL);

    ngx_destroy_pool(pool);

    if (rn->claim == NULL) {
        rn->want = 1;
    }
}


static void
ngx_http_llm_runner_claim_call(ngx_http_llm_queue_call_t *call,
    ngx_pool_t *pool, ngx_uint_t room)
{
    ngx_str_t                   token;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_tasks_conf_t  *tcf;

    rn = &ngx_http_llm_runner;
    tcf = rn->tcf;

    token.data = rn->token;
    token.len = NGX_HTTP_LLM_QUEUE_TOKEN;

    ngx_http_llm_queue_begin(call, pool, "claim");
    ngx_http_llm_queue_add(call, &rn->name);
    ngx_http_llm_queue_add_number(call, room);
    ngx_http_llm_queue_add(call, &token);
    ngx_http_llm_queue_add_number(call, tcf->lease);
    ngx_http_llm_queue_add_number(call, ngx_max(tcf->lease / 8, 100));
    ngx_http_llm_queue_add_text(call, "012");
    ngx_http_llm_queue_add_number(call, NGX_HTTP_LLM_QUEUE_BYTES);
    ngx_http_llm_queue_add_number(call, tcf->window);
    ngx_http_llm_queue_add_number(call, tcf->deaths);
    ngx_http_llm_queue_add_number(call, (int64_t) tcf->keep * 1000);
    ngx_http_llm_queue_add_text(call, NGX_HTTP_LLM_RUNNER_POISON);
    ngx_http_llm_queue_add_text(call, NGX_HTTP_LLM_RUNNER_CRASH);
    ngx_http_llm_queue_add_text(call, NGX_HTTP_LLM_RUNNER_MISSED);
    ngx_http_llm_queue_add_number(call, NGX_HTTP_LLM_RUNNER_DEAD);
}


static ngx_uint_t
ngx_http_llm_runner_room(void)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    /* what has ended and cannot be told is memory that is held */

    if (rn->calls >= rn->limit || rn->held >= 2 * rn->most + 16) {
        return 0;
    }

    return ngx_min(rn->limit - rn->calls, NGX_HTTP_LLM_QUEUE_JOBS);
}


static void
ngx_http_llm_runner_claimed(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   n;
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_redis_reply_t   jobs, ended;

    rn = &ngx_http_llm_runner;

    rn->claim = NULL;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(reply, 0, &jobs) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &ended) != NGX_OK)
    {
        /* it may have run, even one that failed half way */

        ngx_http_llm_runner_complain("claim", reply);

        rn->lost = 1;
        rn->recalls = 0;
        rn->recall_at = ngx_current_msec;

        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_AGAIN);
        ngx_http_llm_runner_busy();
        return;
    }

    if (jobs.nelts) {
        NGX_HTTP_LLM_FAULT("after-claim");
    }

    n = ngx_http_llm_runner_take(&jobs);

    ngx_http_llm_runner_ended(&ended);

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                   "llm tasks: claim of %ui: %ui tasks, %ui ended, %M ms",
                   rn->asked, n, ended.nelts,
                   ngx_current_msec - rn->claimed);

    /* there may be more */

    if (n == rn->asked || n >= NGX_HTTP_LLM_QUEUE_JOBS || ended.nelts) {
        rn->want = 1;
        ngx_http_llm_runner_soon(0);
    }

    ngx_http_llm_runner_busy();
}


static ngx_uint_t
ngx_http_llm_runner_take(ngx_http_llm_redis_reply_t *jobs)
{
    size_t                       size;
    ngx_uint_t                   i;
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_redis_reply_t   job;
    ngx_http_llm_runner_task_t  *task;

    rn = &ngx_http_llm_runner;
    size = 0;

    for (i = 0; ngx_http_llm_redis_element(jobs, i, &job) == NGX_OK; i++) {

        task = ngx_http_llm_runner_task(&job);

        if (task == NULL) {

            /* no memory: others have it again when its lease is over */

            ngx_log_error(NGX_LOG_ALERT, rn->log, 0,
                          "llm tasks: no memory for a task");
            continue;
        }

        size += task->body.len;

        if (task->op != NGX_HTTP_LLM_RUNNER_NONE) {
            continue;
        }

        if (ngx_exiting || ngx_quit || ngx_terminate) {
            ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_RELEASE);
            continue;
        }

        ngx_http_llm_runner_start(task);
    }

    /* it was cut short by their size */

    if (size >= NGX_HTTP_LLM_QUEUE_BYTES / 4) {
        rn->want = 1;
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_GATHER);
    }

    return i;
}


/* [id, class, team, owner, attempt, deaths, created, batch, line, flags,
   webhook, deadline, body] */

static ngx_http_llm_runner_task_t *
ngx_http_llm_runner_task(ngx_http_llm_redis_reply_t *job)
{
    ngx_str_t                    field[NGX_HTTP_LLM_RUNNER_FIELDS];
    ngx_pool_t                  *pool;
    ngx_uint_t                   i;
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_runner_task_t  *task;

    rn = &ngx_http_llm_runner;

    for (i = 0; i < NGX_HTTP_LLM_RUNNER_FIELDS; i++) {
        if (ngx_http_llm_runner_string(job, i, &field[i]) != NGX_OK) {
            ngx_str_null(&field[i]);
        }
    }

    pool = ngx_create_pool(2048, rn->log);
    if (pool == NULL) {
        return NULL;
    }

    task = ngx_http_llm_runner_task_create(pool, field);
    if (task == NULL) {
        ngx_destroy_pool(pool);
        return NULL;
    }

    task->attempt = ngx_max(ngx_http_llm_runner_number(job, 4), 1);
    task->created = ngx_http_llm_runner_number(job, 6);
    task->deadline = ngx_http_llm_runner_number(job, 11);

    ngx_queue_insert_tail(&rn->tasks, &task->queue);
    rn->held++;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                   "llm task \"%V\" of \"%V\" is ours, attempt %ui, "
                   "deaths %L", &task->id, &task->team, task->attempt,
                   ngx_http_llm_runner_number(job, 5));

    if (task->attempt == 1) {
        ngx_http_llm_count_task_time(&rn->count->wait,
                      ngx_max(ngx_http_llm_runner_wall() - task->created, 0));
    }

    ngx_http_llm_runner_open(task, &field[12]);

    return task;
}


/* what is text in it; NULL: no memory */

static ngx_http_llm_runner_task_t *
ngx_http_llm_runner_task_create(ngx_pool_t *pool, ngx_str_t *field)
{
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_runner_task_t  *task;

    rn = &ngx_http_llm_runner;

    task = ngx_pcalloc(pool, sizeof(ngx_http_llm_runner_task_t));
    if (task == NULL) {
        return NULL;
    }

    task->pool = pool;
    task->webhook = field[10].len != 0;
    task->since = ngx_current_msec;
    task->until = rn->claimed + rn->tcf->lease;

    task->id.len = field[0].len;
    task->id.data = ngx_pstrdup(pool, &field[0]);
    task->team.len = field[2].len;
    task->team.data = ngx_pstrdup(pool, &field[2]);
    task->owner.len = field[3].len;
    task->owner.data = ngx_pstrdup(pool, &field[3]);
    task->token.len = NGX_HTTP_LLM_QUEUE_TOKEN;
    task->token.data = ngx_pnalloc(pool, NGX_HTTP_LLM_QUEUE_TOKEN);

    if (task->id.data == NULL || task->team.data == NULL
        || task->owner.data == NULL || task->token.data == NULL)
    {
        return NULL;
    }

    ngx_memcpy(task->token.data, rn->token, NGX_HTTP_LLM_QUEUE_TOKEN);

    return task;
}


/* what cannot be run has its verdict at once */

static void
ngx_http_llm_runner_open(ngx_http_llm_runner_task_t *task, ngx_str_t *parcel)
{
    switch (ngx_http_llm_runner_unpack(task, parcel)) {

    case NGX_OK:
        break;

    case NGX_DECLINED:
        ngx_log_error(NGX_LOG_NOTICE, ngx_http_llm_runner.log, 0,
                      "llm task \"%V\" of \"%V\" cannot be read here",
                      &task->id, &task->team);

        task->reason = "unreadable";
        ngx_http_llm_runner_fail(task, "unreadable",
                                 "The task's request cannot be read by the "
                                 "gateway that was to run it.");
        break;

    default: /* NGX_ERROR */
        ngx_http_llm_runner_verdict(task, NGX_HTTP_LLM_RUNNER_RELEASE);
    }
}


/* "ENDPOINT\n" and the request */

static ngx_int_t
ngx_http_llm_runner_unpack(ngx_http_llm_runner_task_t *task,
    ngx_str_t *parcel)
{
    u_char      *p, *last;
    ngx_int_t    rc;
    ngx_str_t    text;
    ngx_uint_t   i;

    static ngx_str_t  endpoint[] = {
        ngx_string("/v1/chat/completions"),
        ngx_string("/v1/completions"),
        ngx_string("/v1/embeddings"),
        ngx_string("/v1/responses"),
        ngx_null_string
    };

    rc = ngx_http_llm_queue_open(ngx_http_llm_runner.tcf, task->pool,
                                 &task->id, "b", parcel, 16 * 1024 * 1024,
                                 &text);
    if (rc != NGX_OK) {
        return rc;
    }

    last = text.data + text.len;
    p = ngx_strlchr(text.data, last, '\n');

    if (p == NULL) {
        return NGX_DECLINED;
    }

    task->endpoint.data = text.data;
    task->endpoint.len = p - text.data;
    task->body.data = p + 1;
    task->body.len = last - (p + 1);

    /* the owner's name goes into a header */

    for (i = 0; i < task->owner.len; i++) {
        if (task->owner.data[i] < 0x20 || task->owner.data[i] == 0x7f) {
            return NGX_DECLINED;
        }
    }

    for (i = 0; endpoint[i].len; i++) {
        if (task->endpoint.len == endpoint[i].len
            && ngx_memcmp(task->endpoint.data, endpoint[i].data,
                          endpoint[i].len)
               == 0)
        {
            return task->body.len && task->owner.len ? NGX_OK : NGX_DECLINED;
        }
    }

    return NGX_DECLINED;
}


static void
ngx_http_llm_runner_ended(ngx_http_llm_redis_reply_t *ended)
{
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  one;

    for (i = 0; ngx_http_llm_redis_element(ended, i, &one) == NGX_OK; i++) {
        ngx_http_llm_runner_gone(&one);
    }
}


/* [id, state, reason, team, webhook, batch]: the claim itself ended it */

static void
ngx_http_llm_runner_gone(ngx_http_llm_redis_reply_t *one)
{
    ngx_str_t                    field[6];
    ngx_uint_t                   i;
    ngx_http_llm_runner_t       *rn;
    ngx_http_llm_runner_task_t   task;

    rn = &ngx_http_llm_runner;

    for (i = 0; i < 6; i++) {
        if (ngx_http_llm_runner_string(one, i, &field[i]) != NGX_OK) {
            ngx_str_null(&field[i]);
        }
    }

    ngx_memzero(&task, sizeof(ngx_http_llm_runner_task_t));

    task.id = field[0];
    task.team = field[3];
    task.outcome = field[1].len && field[1].data[0] == 'c'
                   ? NGX_HTTP_LLM_TASK_CANCELLED : NGX_HTTP_LLM_TASK_ERROR;

    (void) ngx_atomic_fetch_add(&rn->count->finished[task.outcome], 1);

    if (task.outcome == NGX_HTTP_LLM_TASK_ERROR) {

        if (field[2].len == sizeof("poison") - 1
            && ngx_memcmp(field[2].data, "poison", field[2].len) == 0)
        {
            ngx_str_set(&task.error, NGX_HTTP_LLM_RUNNER_POISON);

        } else if (field[2].len && field[2].data[0] == 'c') {
            ngx_str_set(&task.error, NGX_HTTP_LLM_RUNNER_CRASH);

        } else {
            ngx_str_set(&task.error, NGX_HTTP_LLM_RUNNER_MISSED);
        }

        ngx_log_error(NGX_LOG_NOTICE, rn->log, 0,
                      "llm task \"%V\" of \"%V\" is given up: %V",
                      &task.id, &task.team, &field[2]);
    }

    ngx_http_llm_runner_archive(&task);

    if (field[4].len) {
        ngx_http_llm_todo_look();
        ngx_http_llm_runner_soon(0);
    }
}


static ngx_int_t
ngx_http_llm_runner_string(ngx_http_llm_redis_reply_t *list, ngx_uint_t i,
    ngx_str_t *s)
{
    ngx_http_llm_redis_reply_t  element;

    if (ngx_http_llm_redis_element(list, i, &element) != NGX_OK
        || element.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return NGX_DECLINED;
    }

    *s = element.str;

    return NGX_OK;
}


/* as a number or as text; 0: none */

static int64_t
ngx_http_llm_runner_number(ngx_http_llm_redis_reply_t *list, ngx_uint_t i)
{
    off_t                       n;
    ngx_http_llm_redis_reply_t  element;

    if (ngx_http_llm_redis_element(list, i, &element) != NGX_OK) {
        return 0;
    }

    n = element.type == NGX_HTTP_LLM_REDIS_INTEGER
        ? element.integer
        : element.type == NGX_HTTP_LLM_REDIS_STRING
        ? ngx_atoof(element.str.data, element.str.len) : 0;

    return ngx_max(n, 0);
}
