
/*
 * Copyright (C) the ngx-llm authors
 *
 * Things to do: Redis is told which are done, when they come again, and which
 * are still ours.
 */


#include "tasks/ngx_http_llm_todo_private.h"


static void ngx_http_llm_todo_told(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_todo_kept(void *data,
    ngx_http_llm_redis_reply_t *reply);


void
ngx_http_llm_todo_tell(void)
{
    ngx_pool_t                 *pool;
    ngx_uint_t                  n;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_todo_own_t    *own;
    ngx_http_llm_todo_list_t   *tl;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;
    tl = &ngx_http_llm_todo;
    pool = NULL;
    n = 0;

    if (tl->tell) {
        return;
    }

    for (own = ngx_http_llm_todo_next(NULL);
         own && n < NGX_HTTP_LLM_QUEUE_JOBS;
         own = ngx_http_llm_todo_next(own))
    {
        if (own->state == NGX_HTTP_LLM_TODO_RUNS) {
            continue;
        }

        if (pool == NULL) {

            pool = ngx_http_llm_todo_call(&call, "todo-done");
            if (pool == NULL) {
                return;
            }
        }

        ngx_http_llm_queue_add(&call, &own->member);
        ngx_http_llm_queue_add(&call, &own->todo.token);
        ngx_http_llm_queue_add_number(&call, own->again);

        own->state = NGX_HTTP_LLM_TODO_TOLD;
        n++;
    }

    if (pool == NULL) {
        return;
    }

    tl->tell = ngx_http_llm_queue_send(rn->tcf, &call, ngx_http_llm_todo_told,
                                       NULL);

    ngx_destroy_pool(pool);
}


/* an answer that was lost is asked for again, until the lease is over */

static void
ngx_http_llm_todo_told(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                 more;
    ngx_http_llm_todo_own_t   *own, *next;
    ngx_http_llm_todo_list_t  *tl;

    tl = &ngx_http_llm_todo;
    tl->tell = NULL;
    more = 0;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_runner_complain("todo-done", reply);
    }

    for (own = ngx_http_llm_todo_next(NULL); own; own = next) {
        next = ngx_http_llm_todo_next(own);

        if (own->state == NGX_HTTP_LLM_TODO_RUNS) {
            continue;
        }

        if (own->state == NGX_HTTP_LLM_TODO_TOLD
            && (reply->type == NGX_HTTP_LLM_REDIS_ARRAY
                || (ngx_msec_int_t) (own->todo.until - ngx_current_msec) < 0))
        {
            ngx_http_llm_todo_free(own);
            continue;
        }

        more = 1;
    }

    if (more) {
        ngx_http_llm_runner_soon(reply->type == NGX_HTTP_LLM_REDIS_ARRAY
                                 ? 0 : NGX_HTTP_LLM_RUNNER_AGAIN);
    }

    ngx_http_llm_runner_busy();
}


void
ngx_http_llm_todo_beat(void)
{
    ngx_pool_t                 *pool;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_todo_own_t    *own;
    ngx_http_llm_todo_list_t   *tl;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;
    tl = &ngx_http_llm_todo;
    pool = NULL;

    if (tl->beat) {
        return;
    }

    for (own = ngx_http_llm_todo_next(NULL);
         own;
         own = ngx_http_llm_todo_next(own))
    {
        if (!own->keep || own->state != NGX_HTTP_LLM_TODO_RUNS) {
            continue;
        }

        if (pool == NULL) {

            pool = ngx_http_llm_todo_call(&call, "todo-keep");
            if (pool == NULL) {
                return;
            }

            ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_TODO_LEASE);
        }

        ngx_http_llm_queue_add(&call, &own->member);
        ngx_http_llm_queue_add(&call, &own->todo.token);

        own->keep = 0;
        own->keeping = 1;
    }

    if (pool == NULL) {
        return;
    }

    tl->beaten = ngx_current_msec;
    tl->beat = ngx_http_llm_queue_send(rn->tcf, &call, ngx_http_llm_todo_kept,
                                       NULL);

    ngx_destroy_pool(pool);
}


/* replies in the order of the list: things join it at its end only */

static void
ngx_http_llm_todo_kept(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i;
    ngx_http_llm_todo_own_t     *own;
    ngx_http_llm_todo_list_t    *tl;
    ngx_http_llm_redis_reply_t   code;

    tl = &ngx_http_llm_todo;
    tl->beat = NULL;
    i = 0;

    for (own = ngx_http_llm_todo_next(NULL);
         own;
         own = ngx_http_llm_todo_next(own))
    {
        if (!own->keeping) {
            continue;
        }

        own->keeping = 0;

        if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
            own->keep = 1;
            continue;
        }

        if (ngx_http_llm_redis_element(reply, i++, &code) != NGX_OK
            || code.type != NGX_HTTP_LLM_REDIS_INTEGER)
        {
            continue;
        }

        /* it is another's now: who runs it here sees the lease is over */

        own->todo.until = code.integer
                          ? tl->beaten + NGX_HTTP_LLM_TODO_LEASE
                          : ngx_current_msec - 1;
    }

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_runner_complain("todo-keep", reply);
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_AGAIN);
    }
}


ngx_pool_t *
ngx_http_llm_todo_call(ngx_http_llm_queue_call_t *call, const char *op)
{
    ngx_pool_t  *pool;

    pool = ngx_create_pool(2048, ngx_http_llm_runner.log);

    if (pool) {
        ngx_http_llm_queue_begin(call, pool, op);
    }

    return pool;
}


/* who is to end does not wait for Redis longer than a lease */

void
ngx_http_llm_todo_lapsed(void)
{
    ngx_http_llm_todo_own_t  *own, *next;

    for (own = ngx_http_llm_todo_next(NULL); own; own = next) {
        next = ngx_http_llm_todo_next(own);

        if (own->state != NGX_HTTP_LLM_TODO_RUNS
            && (ngx_msec_int_t) (own->todo.until - ngx_current_msec) < 0)
        {
            ngx_http_llm_todo_free(own);
        }
    }
}
