
/*
 * Copyright (C) the ngx-llm authors
 *
 * One thing to do is one try: the task is read, its URL is called, and from
 * how long ago the task ended follows when to try again.  So nothing has to
 * be kept of it, and a worker that dies costs one try.
 */


#include "tasks/ngx_http_llm_webhook_private.h"
#include "http/ngx_http_llm_outcall.h"
#include "http/ngx_http_llm_quiet.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_WEBHOOK_FIRST  5000         /* ms, the shortest pause */
#define NGX_HTTP_LLM_WEBHOOK_PAUSE  3600000      /* … the longest */
#define NGX_HTTP_LLM_WEBHOOK_END    86400000     /* … from the task's end */

/* beside those of ngx_http_llm_quiet_e */

#define NGX_HTTP_LLM_WEBHOOK_QUIET  1024


typedef enum {
    NGX_HTTP_LLM_WEBHOOK_S = 0,
    NGX_HTTP_LLM_WEBHOOK_W,
    NGX_HTTP_LLM_WEBHOOK_T,
    NGX_HTTP_LLM_WEBHOOK_C,
    NGX_HTTP_LLM_WEBHOOK_F,
    NGX_HTTP_LLM_WEBHOOK_M,
    NGX_HTTP_LLM_WEBHOOK_E,
    NGX_HTTP_LLM_WEBHOOK_N,
    NGX_HTTP_LLM_WEBHOOK_FIELDS
} ngx_http_llm_webhook_field_e;


static ngx_int_t ngx_http_llm_webhook_allowed(ngx_http_llm_tasks_conf_t *tcf,
    llm_url_t *url);
static void ngx_http_llm_webhook_read(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_webhook_task(ngx_http_llm_todo_t *todo,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_webhook_fields(ngx_http_llm_todo_t *todo,
    ngx_http_llm_redis_reply_t *reply, ngx_str_t *field);
static void ngx_http_llm_webhook_call(ngx_http_llm_todo_t *todo);
static ngx_int_t ngx_http_llm_webhook_start(ngx_http_llm_todo_t *todo,
    ngx_http_llm_outcall_t *oc);
static void ngx_http_llm_webhook_answered(ngx_http_llm_outcall_t *oc);
static void ngx_http_llm_webhook_again(ngx_http_llm_todo_t *todo,
    llm_url_t *url, ngx_uint_t status, const char *why);
static void ngx_http_llm_webhook_over(ngx_http_llm_todo_t *todo,
    llm_url_t *url, const char *why);
static void ngx_http_llm_webhook_count(ngx_http_llm_todo_t *todo,
    ngx_uint_t given_up);
static int64_t ngx_http_llm_webhook_elapsed(
    ngx_http_llm_webhook_task_t *task);


static const char  *ngx_http_llm_webhook_names[] = {
    "s", "w", "t", "c", "f", "m", "e", "n"
};


ngx_int_t
ngx_http_llm_webhook_check(ngx_http_llm_tasks_conf_t *tcf, ngx_str_t *url)
{
    llm_url_t  u;

    if (llm_url_parse(url->data, url->len, &u) != LLM_OK) {
        return NGX_DECLINED;
    }

    return ngx_http_llm_webhook_allowed(tcf, &u);
}


static ngx_int_t
ngx_http_llm_webhook_allowed(ngx_http_llm_tasks_conf_t *tcf, llm_url_t *url)
{
    llm_str_t    s;
    ngx_str_t   *entry;
    ngx_uint_t   i;

    if (tcf->webhooks == NULL) {
        return NGX_DECLINED;
    }

    entry = tcf->webhooks->elts;

    for (i = 0; i < tcf->webhooks->nelts; i++) {
        s.data = entry[i].data;
        s.len = entry[i].len;

        if (llm_url_allowed(&s, url) == LLM_OK) {
            return NGX_OK;
        }
    }

    return NGX_DECLINED;
}


void
ngx_http_llm_webhook_run(ngx_http_llm_todo_t *todo)
{
    ngx_str_t                   any = ngx_string("*");
    ngx_uint_t                  i;
    ngx_http_llm_queue_call_t   call;

    ngx_http_llm_queue_begin(&call, todo->pool, "get");
    ngx_http_llm_queue_add(&call, &any);
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_WEBHOOK_FIELDS);

    for (i = 0; i < NGX_HTTP_LLM_WEBHOOK_FIELDS; i++) {
        ngx_http_llm_queue_add_text(&call, ngx_http_llm_webhook_names[i]);
    }

    ngx_http_llm_queue_add(&call, &todo->id);

    if (ngx_http_llm_queue_send(todo->tcf, &call, ngx_http_llm_webhook_read,
                                todo)
        == NULL)
    {
        ngx_http_llm_todo_done(todo, NGX_HTTP_LLM_WEBHOOK_FIRST);
    }
}


static void
ngx_http_llm_webhook_read(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_todo_t *todo = data;

    switch (ngx_http_llm_webhook_task(todo, reply)) {

    case NGX_OK:
        ngx_http_llm_webhook_call(todo);
        return;

    case NGX_DECLINED:
        ngx_http_llm_todo_done(todo, -1);
        return;

    default: /* NGX_ERROR */
        ngx_http_llm_todo_done(todo, NGX_HTTP_LLM_WEBHOOK_FIRST);
    }
}


/* NGX_DECLINED: there is none any more, or nobody to be told */

static ngx_int_t
ngx_http_llm_webhook_task(ngx_http_llm_todo_t *todo,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_int_t                     rc;
    ngx_str_t                     field[NGX_HTTP_LLM_WEBHOOK_FIELDS];
    ngx_http_llm_webhook_task_t  *task;

    rc = ngx_http_llm_webhook_fields(todo, reply, field);
    if (rc != NGX_OK) {
        return rc;
    }

    task = ngx_pcalloc(todo->pool, sizeof(ngx_http_llm_webhook_task_t));
    if (task == NULL) {
        return NGX_ERROR;
    }

    task->id = todo->id;
    task->state = field[NGX_HTTP_LLM_WEBHOOK_S];
    task->url = field[NGX_HTTP_LLM_WEBHOOK_W];
    task->team = field[NGX_HTTP_LLM_WEBHOOK_T];
    task->metadata = field[NGX_HTTP_LLM_WEBHOOK_M];
    task->error = field[NGX_HTTP_LLM_WEBHOOK_E];
    task->batch = field[NGX_HTTP_LLM_WEBHOOK_N];
    task->created = ngx_max(ngx_atoof(field[NGX_HTTP_LLM_WEBHOOK_C].data,
                                      field[NGX_HTTP_LLM_WEBHOOK_C].len), 0);
    task->finished = ngx_max(ngx_atoof(field[NGX_HTTP_LLM_WEBHOOK_F].data,
                                       field[NGX_HTTP_LLM_WEBHOOK_F].len), 0);

    todo->data = task;

    if (task->url.len == 0 || task->finished == 0) {
        return NGX_DECLINED;
    }

    /* that of an attempt before the one that came through */

    if (task->state.len != 5 || ngx_strncmp(task->state.data, "error", 5) != 0)
    {
        task->error.len = 0;
    }

    return NGX_OK;
}


/* copies of what the task has; a field it has not is empty */

static ngx_int_t
ngx_http_llm_webhook_fields(ngx_http_llm_todo_t *todo,
    ngx_http_llm_redis_reply_t *reply, ngx_str_t *field)
{
    ngx_uint_t                  i;
    ngx_http_llm_redis_reply_t  row, value;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(reply, 0, &row) != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (row.type != NGX_HTTP_LLM_REDIS_ARRAY) {
        return NGX_DECLINED;
    }

    for (i = 0; i < NGX_HTTP_LLM_WEBHOOK_FIELDS; i++) {

        ngx_str_null(&field[i]);

        if (ngx_http_llm_redis_element(&row, i, &value) != NGX_OK
            || value.type != NGX_HTTP_LLM_REDIS_STRING || value.str.len == 0)
        {
            continue;
        }

        field[i].len = value.str.len;
        field[i].data = ngx_pstrdup(todo->pool, &value.str);

        if (field[i].data == NULL) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static void
ngx_http_llm_webhook_call(ngx_http_llm_todo_t *todo)
{
    ngx_http_llm_outcall_t       *oc;
    ngx_http_llm_webhook_task_t  *task;

    task = todo->data;

    oc = ngx_http_llm_outcall_create(&task->url, ngx_cycle->log);
    if (oc == NULL) {
        ngx_http_llm_todo_done(todo, NGX_HTTP_LLM_WEBHOOK_FIRST);
        return;
    }

    /* the list may be another than when the task was taken */

    if (oc->url.host.len == 0
        || ngx_http_llm_webhook_allowed(todo->tcf, &oc->url) != NGX_OK)
    {
        ngx_http_llm_webhook_over(todo, &oc->url,
                                  "the host is not to be called");
        ngx_http_llm_outcall_close(oc);
        return;
    }

    if (ngx_http_llm_webhook_start(todo, oc) != NGX_OK) {
        ngx_http_llm_outcall_close(oc);
        ngx_http_llm_todo_done(todo, NGX_HTTP_LLM_WEBHOOK_FIRST);
    }
}


static ngx_int_t
ngx_http_llm_webhook_start(ngx_http_llm_todo_t *todo,
    ngx_http_llm_outcall_t *oc)
{
    ngx_str_t                     json = ngx_string("application/json");
    ngx_str_t                     agent = ngx_string("ngx-llm");
    ngx_str_t                     now, signature;
    ngx_http_llm_webhook_task_t  *task;

    task = todo->data;

    now.data = ngx_pnalloc(oc->pool, NGX_TIME_T_LEN);
    if (now.data == NULL) {
        return NGX_ERROR;
    }

    now.len = ngx_sprintf(now.data, "%T", ngx_time()) - now.data;

    if (ngx_http_llm_webhook_body(oc->pool, task, &oc->body) != NGX_OK
        || ngx_http_llm_webhook_sign(oc->pool, &todo->tcf->webhook_secret,
                                     &task->id, &now, &oc->body, &signature)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_outcall_header(oc, "User-Agent", &agent) != NGX_OK
        || ngx_http_llm_outcall_header(oc, "Content-Type", &json) != NGX_OK
        || ngx_http_llm_outcall_header(oc, "webhook-id", &task->id) != NGX_OK
        || ngx_http_llm_outcall_header(oc, "webhook-timestamp", &now)
           != NGX_OK
        || ngx_http_llm_outcall_header(oc, "webhook-signature", &signature)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    /* an address is on the list only as itself, so it may be a private one */

    oc->named = (oc->url.address.len != 0);
    oc->handler = ngx_http_llm_webhook_answered;
    oc->data = todo;

    return ngx_http_llm_outcall_start(oc);
}


static void
ngx_http_llm_webhook_answered(ngx_http_llm_outcall_t *oc)
{
    ngx_http_llm_todo_t *todo = oc->data;

    if (oc->result != NGX_HTTP_LLM_OUTCALL_OK) {
        ngx_http_llm_webhook_again(todo, &oc->url, 0, oc->why);

    } else if (oc->status >= 200 && oc->status <= 299) {

        ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                       "llm webhook \"%V\" delivered: %ui", &todo->id,
                       oc->status);

        ngx_http_llm_webhook_count(todo, 0);
        ngx_http_llm_todo_done(todo, -1);

    } else if (oc->status == 410) {
        ngx_http_llm_webhook_over(todo, &oc->url, "it is gone (410)");

    } else {
        ngx_http_llm_webhook_again(todo, &oc->url, oc->status, NULL);
    }

    ngx_http_llm_outcall_close(oc);
}


/* as long again as it has lasted by now, more or less */

static void
ngx_http_llm_webhook_again(ngx_http_llm_todo_t *todo, llm_url_t *url,
    ngx_uint_t status, const char *why)
{
    u_char                        text[32];
    int64_t                       elapsed, pause;
    ngx_http_llm_webhook_task_t  *task;

    task = todo->data;

    if (why == NULL) {
        *ngx_sprintf(text, "status %ui", status) = '\0';
        why = (const char *) text;
    }

    elapsed = ngx_http_llm_webhook_elapsed(task);

    pause = ngx_max(elapsed, NGX_HTTP_LLM_WEBHOOK_FIRST);
    pause = ngx_min(pause, NGX_HTTP_LLM_WEBHOOK_PAUSE);
    pause += ngx_random() % (pause / 4);

    if (elapsed + pause > NGX_HTTP_LLM_WEBHOOK_END) {
        ngx_http_llm_webhook_over(todo, url, why);
        return;
    }

    ngx_log_error(NGX_LOG_INFO, ngx_cycle->log, 0,
                  "llm: the webhook of \"%V\" at \"%*s\" failed (%s), again "
                  "in %L s", &todo->id, url->authority.len,
                  url->authority.data, why, pause / 1000);

    ngx_http_llm_todo_done(todo, pause);
}


/* given up; the URL may hold secrets, so its host alone is told */

static void
ngx_http_llm_webhook_over(ngx_http_llm_todo_t *todo, llm_url_t *url,
    const char *why)
{
    const char  *left;

    left = ngx_http_llm_quiet(NGX_HTTP_LLM_WEBHOOK_QUIET,
                              url->authority.data, url->authority.len);

    if (left != NULL) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: the webhook of \"%V\" at \"%*s\" is given up: "
                      "%s%s", &todo->id, url->authority.len,
                      url->authority.data, why, left);
    }

    ngx_http_llm_webhook_count(todo, 1);
    ngx_http_llm_todo_done(todo, -1);
}


static void
ngx_http_llm_webhook_count(ngx_http_llm_todo_t *todo, ngx_uint_t given_up)
{
    ngx_http_llm_zone_sh_t  *sh;

    if (todo->mcf->zone == NULL || todo->mcf->zone->sh == NULL) {
        return;
    }

    sh = todo->mcf->zone->sh;

    (void) ngx_atomic_fetch_add(&sh->count.tasks.webhooks[given_up], 1);
}


/* ms since the task ended; clocks may differ */

static int64_t
ngx_http_llm_webhook_elapsed(ngx_http_llm_webhook_task_t *task)
{
    int64_t  ms;

    ms = ngx_http_llm_runner_wall() - task->finished;

    return ngx_max(ms, 0);
}
