
/*
 * Copyright (C) the ngx-llm authors
 *
 * What Redis tells of tasks, and how it is written for the client.
 */


#include "tasks/ngx_http_llm_tasks_api_private.h"

#include "core/llm_batch_text.h"


#define NGX_HTTP_LLM_TASKS_ANSWER  (64 * 1024 * 1024)
#define NGX_HTTP_LLM_TASKS_HEAD    256         /* of a result, in its text */

/* results of one call of Redis: one by one where they are long */

#define NGX_HTTP_LLM_TASKS_MANY   32
#define NGX_HTTP_LLM_TASKS_SHORT  (128 * 1024)  /* bytes of a reply */


typedef enum {
    NGX_HTTP_LLM_TASKS_S = 0,
    NGX_HTTP_LLM_TASKS_A,
    NGX_HTTP_LLM_TASKS_G,
    NGX_HTTP_LLM_TASKS_C,
    NGX_HTTP_LLM_TASKS_ST,
    NGX_HTTP_LLM_TASKS_F,
    NGX_HTTP_LLM_TASKS_E,
    NGX_HTTP_LLM_TASKS_U,
    NGX_HTTP_LLM_TASKS_M,
    NGX_HTTP_LLM_TASKS_FIELDS
} ngx_http_llm_tasks_field_e;


static ngx_int_t ngx_http_llm_tasks_states_reply(
    ngx_http_llm_tasks_api_t *api, ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_state_of(ngx_http_llm_tasks_api_t *api,
    llm_tasks_task_t *task, ngx_http_llm_redis_reply_t *values);
static int64_t ngx_http_llm_tasks_number(ngx_http_llm_redis_reply_t *values,
    ngx_uint_t i);
static ngx_int_t ngx_http_llm_tasks_string(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *values, ngx_uint_t i, llm_str_t *s);
static ngx_int_t ngx_http_llm_tasks_results_reply(
    ngx_http_llm_tasks_api_t *api, ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_result(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_tasks_item_t *item, ngx_str_t *parcel);
static ngx_int_t ngx_http_llm_tasks_grow(ngx_http_llm_tasks_api_t *api,
    size_t more);


static const char  *ngx_http_llm_tasks_fields[] = {
    "s", "a", "g", "c", "st", "f", "e", "u", "m", NULL
};

static const char  *ngx_http_llm_tasks_result_field[] = { "r", NULL };

/* another gateway has packed it with a secret that is not known here */

static llm_str_t  ngx_http_llm_tasks_unreadable = llm_string(
    "{\"message\":\"The result cannot be read by this gateway.\","
    "\"type\":\"server_error\",\"param\":null,"
    "\"code\":\"result_unreadable\"}");


ngx_int_t
ngx_http_llm_tasks_ask(ngx_http_llm_tasks_api_t *api, const char **field,
    ngx_http_llm_tasks_reply_pt reply)
{
    ngx_int_t                   rc;
    ngx_uint_t                  i, n;
    ngx_pool_t                 *pool;
    ngx_http_llm_queue_call_t   call;

    /* a wait may ask often, and the request's memory is not freed meanwhile */

    pool = ngx_create_pool(4096, api->slice.log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    for (n = 0; field[n]; n++) { /* void */ }

    ngx_http_llm_queue_begin(&call, pool, "get");
    ngx_http_llm_queue_add(&call, &api->team);
    ngx_http_llm_queue_add_number(&call, n);

    for (i = 0; i < n; i++) {
        ngx_http_llm_queue_add_text(&call, field[i]);
    }

    for (i = 0; i < api->asked; i++) {
        ngx_http_llm_queue_add(&call, &api->item[api->ask[i]].id);
    }

    rc = ngx_http_llm_tasks_send(api, &call, reply);

    ngx_destroy_pool(pool);

    return rc;
}


ngx_int_t
ngx_http_llm_tasks_ask_states(ngx_http_llm_tasks_api_t *api)
{
    if (api->hold == NULL) {
        api->hold = ngx_create_pool(4096, api->slice.log);
        if (api->hold == NULL) {
            return NGX_ERROR;
        }

        api->held = 0;
    }

    return ngx_http_llm_tasks_ask(api, ngx_http_llm_tasks_fields,
                                  ngx_http_llm_tasks_states_reply);
}


static ngx_int_t
ngx_http_llm_tasks_states_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   values;
    ngx_http_llm_tasks_item_t   *item;

    for (i = 0; i < api->asked; i++) {
        item = &api->item[api->ask[i]];

        ngx_memzero(&item->task, sizeof(llm_tasks_task_t));
        item->task.state = LLM_TASKS_NOT_FOUND;

        if (ngx_http_llm_redis_element(reply, i, &values) == NGX_OK
            && values.type == NGX_HTTP_LLM_REDIS_ARRAY
            && ngx_http_llm_tasks_state_of(api, &item->task, &values)
               != NGX_OK)
        {
            return NGX_ERROR;
        }

        item->over = ngx_http_llm_tasks_terminal(item->task.state);
        item->fetched = 0;
    }

    return api->held > NGX_HTTP_LLM_TASKS_ANSWER ? NGX_DECLINED : NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_state_of(ngx_http_llm_tasks_api_t *api,
    llm_tasks_task_t *task, ngx_http_llm_redis_reply_t *values)
{
    int64_t                     progress;
    ngx_http_llm_redis_reply_t  el;

    if (ngx_http_llm_redis_element(values, NGX_HTTP_LLM_TASKS_S, &el)
        != NGX_OK
        || el.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return NGX_OK;
    }

    task->state = ngx_http_llm_tasks_state(&el.str);

    if (task->state == LLM_TASKS_NOT_FOUND) {
        return NGX_OK;
    }

    progress = ngx_http_llm_tasks_number(values, NGX_HTTP_LLM_TASKS_G);

    task->progress = task->state == LLM_TASKS_COMPLETED ? 100
                     : (unsigned) ngx_min(progress, 100);
    task->attempts = (unsigned) ngx_http_llm_tasks_number(values,
                                                     NGX_HTTP_LLM_TASKS_A);
    task->created = ngx_http_llm_tasks_number(values, NGX_HTTP_LLM_TASKS_C);
    task->started = ngx_http_llm_tasks_number(values, NGX_HTTP_LLM_TASKS_ST);
    task->finished = ngx_http_llm_tasks_number(values, NGX_HTTP_LLM_TASKS_F);

    if (ngx_http_llm_tasks_string(api, values, NGX_HTTP_LLM_TASKS_E,
                                  &task->error)
        != NGX_OK
        || ngx_http_llm_tasks_string(api, values, NGX_HTTP_LLM_TASKS_U,
                                     &task->usage)
           != NGX_OK
        || ngx_http_llm_tasks_string(api, values, NGX_HTTP_LLM_TASKS_M,
                                     &task->metadata)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (task->state == LLM_TASKS_COMPLETED) {
        /* what a try before the last one met with */
        task->error.len = 0;
    }

    return NGX_OK;
}


/* 0: not set */

static int64_t
ngx_http_llm_tasks_number(ngx_http_llm_redis_reply_t *values, ngx_uint_t i)
{
    off_t                       n;
    ngx_http_llm_redis_reply_t  el;

    if (ngx_http_llm_redis_element(values, i, &el) != NGX_OK
        || el.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return 0;
    }

    n = ngx_atoof(el.str.data, el.str.len);

    return n == NGX_ERROR ? 0 : n;
}


static ngx_int_t
ngx_http_llm_tasks_string(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *values, ngx_uint_t i, llm_str_t *s)
{
    ngx_http_llm_redis_reply_t  el;

    if (ngx_http_llm_redis_element(values, i, &el) != NGX_OK
        || el.type != NGX_HTTP_LLM_REDIS_STRING || el.str.len == 0)
    {
        return NGX_OK;
    }

    s->data = ngx_pnalloc(api->hold, el.str.len);
    if (s->data == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(s->data, el.str.data, el.str.len);
    s->len = el.str.len;
    api->held += s->len;

    return NGX_OK;
}


/* those of the last call have been written */

ngx_int_t
ngx_http_llm_tasks_ask_results(ngx_http_llm_tasks_api_t *api)
{
    if (api->results) {
        ngx_destroy_pool(api->results);
    }

    api->results = ngx_create_pool(4096, api->slice.log);
    if (api->results == NULL) {
        return NGX_ERROR;
    }

    return ngx_http_llm_tasks_ask(api, ngx_http_llm_tasks_result_field,
                                  ngx_http_llm_tasks_results_reply);
}


static ngx_int_t
ngx_http_llm_tasks_results_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    size_t                       bytes;
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   values, el;
    ngx_http_llm_tasks_item_t   *item;

    bytes = 0;

    for (i = 0; i < api->asked; i++) {
        item = &api->item[api->ask[i]];
        item->fetched = 1;

        if (ngx_http_llm_redis_element(reply, i, &values) != NGX_OK
            || values.type != NGX_HTTP_LLM_REDIS_ARRAY
            || ngx_http_llm_redis_element(&values, 0, &el) != NGX_OK
            || el.type != NGX_HTTP_LLM_REDIS_STRING || el.str.len == 0)
        {
            /* its time to live has ended since, or there was no room */
            continue;
        }

        if (ngx_http_llm_tasks_result(api, item, &el.str) != NGX_OK) {
            return NGX_ERROR;
        }

        bytes += item->task.result.len;
    }

    api->few = bytes > NGX_HTTP_LLM_TASKS_SHORT
               ? ngx_max(api->few / 4, 1)
               : ngx_min(api->few * 2, NGX_HTTP_LLM_TASKS_MANY);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_result(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_tasks_item_t *item, ngx_str_t *parcel)
{
    ngx_int_t   rc;
    ngx_str_t   text, id, body;
    ngx_uint_t  status;

    rc = ngx_http_llm_queue_open(api->tcf, api->results, &item->id, "r",
                                 parcel, api->tcf->result_max
                                         + NGX_HTTP_LLM_TASKS_HEAD,
                                 &text);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_queue_result(&text, &status, &id, &body);
    }

    if (rc == NGX_OK) {
        item->task.result.data = body.data;
        item->task.result.len = body.len;

        return NGX_OK;
    }

    /* queue_result() knows but NGX_OK and all else */

    item->task.error = ngx_http_llm_tasks_unreadable;

    ngx_log_error(NGX_LOG_WARN, api->slice.log, 0,
                  "llm tasks: the result of task \"%V\" cannot be read",
                  &item->id);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_put_name(ngx_http_llm_tasks_api_t *api, ngx_str_t *name)
{
    ngx_int_t         rc;
    llm_str_t         s;
    llm_batch_text_t  t;

    s.data = name->data;
    s.len = name->len;

    rc = ngx_http_llm_tasks_grow(api, 6 * s.len + 3);

    if (rc != NGX_OK) {
        return rc;
    }

    llm_batch_text_init(&t, api->out.data + api->out.len,
                        api->room - api->out.len);
    llm_batch_put_string(&t, &s);
    llm_batch_put_text(&t, ":");

    api->out.len += t.len;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_tasks_put(ngx_http_llm_tasks_api_t *api, ngx_uint_t i)
{
    size_t             len, size;
    ngx_int_t          rc;
    llm_tasks_task_t  *task;

    task = &api->item[i].task;

    /* longer only if one of them is no JSON, and becomes a string */

    size = 512 + task->result.len + task->error.len + task->usage.len
           + task->metadata.len;

    for ( ;; ) {
        rc = ngx_http_llm_tasks_grow(api, size);

        if (rc != NGX_OK) {
            return rc;
        }

        size = api->room - api->out.len;

        len = llm_tasks_write_task(api->out.data + api->out.len, size, task);

        if (len <= size) {
            api->out.len += len;
            return NGX_OK;
        }

        size = len;
    }
}


ngx_int_t
ngx_http_llm_tasks_put_text(ngx_http_llm_tasks_api_t *api, const void *p,
    size_t len)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_tasks_grow(api, len);

    if (rc == NGX_OK) {
        ngx_memcpy(api->out.data + api->out.len, p, len);
        api->out.len += len;
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_tasks_grow(ngx_http_llm_tasks_api_t *api, size_t more)
{
    u_char      *p;
    size_t       room;
    ngx_pool_t  *pool;

    if (api->room - api->out.len >= more) {
        return NGX_OK;
    }

    if (api->out.len + more > NGX_HTTP_LLM_TASKS_ANSWER) {
        return NGX_DECLINED;
    }

    /* from 4K on it is memory that can be given back at once */

    room = ngx_max(2 * api->room, api->out.len + more);
    room = ngx_max(room, ngx_pagesize);
    pool = api->ctx->request->pool;

    p = ngx_palloc(pool, room);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (api->out.len) {
        ngx_memcpy(p, api->out.data, api->out.len);
    }

    if (api->out.data) {
        (void) ngx_pfree(pool, api->out.data);
    }

    api->out.data = p;
    api->room = room;

    return NGX_OK;
}
