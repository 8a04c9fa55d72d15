
/*
 * Copyright (C) the ngx-llm authors
 *
 * Things to do: taken when they are due, given to the function of their
 * kind, and ended by it: done, or to come again.
 */


#include "tasks/ngx_http_llm_todo_private.h"


#define NGX_HTTP_LLM_TODO_BATCHES   4          /* at a time */
#define NGX_HTTP_LLM_TODO_WEBHOOKS  16
#define NGX_HTTP_LLM_TODO_LATER     500        /* ms, what finds no room */


static void ngx_http_llm_todo_ask(void);
static void ngx_http_llm_todo_came(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_todo_begin(ngx_str_t *member, ngx_str_t *token);
static void ngx_http_llm_todo_run(ngx_http_llm_todo_own_t *own);
static ngx_uint_t ngx_http_llm_todo_room(u_char kind);
static void ngx_http_llm_todo_detach(ngx_http_llm_redis_op_t **op);


ngx_http_llm_todo_list_t  ngx_http_llm_todo;


void
ngx_http_llm_todo_init(void)
{
    ngx_memzero(&ngx_http_llm_todo, sizeof(ngx_http_llm_todo_list_t));
    ngx_queue_init(&ngx_http_llm_todo.things);
}


void
ngx_http_llm_todo_look(void)
{
    ngx_http_llm_todo.look = 1;
}


/* the worker does not end before what it has begun, unless it is lost */

ngx_uint_t
ngx_http_llm_todo_busy(void)
{
    return ngx_http_llm_todo.ask != NULL
           || !ngx_queue_empty(&ngx_http_llm_todo.things);
}


void
ngx_http_llm_todo_send(void)
{
    if (ngx_http_llm_redis_connected(ngx_http_llm_runner.tcf->redis)) {
        ngx_http_llm_todo_tell();
        ngx_http_llm_todo_beat();
        ngx_http_llm_todo_ask();
    }

    if (ngx_exiting) {
        ngx_http_llm_todo_lapsed();
    }
}


static void
ngx_http_llm_todo_ask(void)
{
    ngx_uint_t                  batches, webhooks;
    ngx_pool_t                 *pool;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_todo_list_t   *tl;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;
    tl = &ngx_http_llm_todo;

    if (!tl->look || tl->ask || !rn->tcf->run || ngx_exiting || ngx_quit
        || ngx_terminate)
    {
        return;
    }

    batches = ngx_http_llm_todo_room('b');
    webhooks = ngx_http_llm_todo_room('w');

    if (batches + webhooks == 0) {
        return;
    }

    pool = ngx_http_llm_todo_call(&call, "todo");
    if (pool == NULL) {
        return;
    }

    tl->look = 0;
    tl->n = batches + webhooks;
    tl->asked = ngx_current_msec;

    ngx_http_llm_queue_add_number(&call, tl->n);
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_TODO_LEASE);

    tl->ask = ngx_http_llm_queue_send(rn->tcf, &call, ngx_http_llm_todo_came,
                                      NULL);

    ngx_destroy_pool(pool);
}


/* of a reply that is lost the things come again when their lease is over */

static void
ngx_http_llm_todo_came(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i;
    ngx_http_llm_todo_list_t    *tl;
    ngx_http_llm_redis_reply_t   one, member, token;

    tl = &ngx_http_llm_todo;
    tl->ask = NULL;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_runner_complain("todo", reply);
        ngx_http_llm_runner_busy();
        return;
    }

    for (i = 0; ngx_http_llm_redis_element(reply, i, &one) == NGX_OK; i++) {

        if (ngx_http_llm_redis_element(&one, 0, &member) == NGX_OK
            && ngx_http_llm_redis_element(&one, 1, &token) == NGX_OK
            && member.type == NGX_HTTP_LLM_REDIS_STRING)
        {
            u_char  number[NGX_INT64_LEN];

            if (token.type == NGX_HTTP_LLM_REDIS_INTEGER) {
                token.str.data = number;
                token.str.len = ngx_sprintf(number, "%L", token.integer)
                                - number;
            }

            ngx_http_llm_todo_begin(&member.str, &token.str);
        }
    }

    if (i == tl->n) {
        tl->look = 1;
        ngx_http_llm_runner_soon(0);
    }

    ngx_http_llm_runner_busy();
}


static void
ngx_http_llm_todo_begin(ngx_str_t *member, ngx_str_t *token)
{
    ngx_pool_t                *pool;
    ngx_http_llm_runner_t     *rn;
    ngx_http_llm_todo_own_t   *own;
    ngx_http_llm_todo_list_t  *tl;

    rn = &ngx_http_llm_runner;
    tl = &ngx_http_llm_todo;

    pool = ngx_create_pool(512, rn->log);
    if (pool == NULL) {
        return;
    }

    own = ngx_pcalloc(pool, sizeof(ngx_http_llm_todo_own_t));

    if (own == NULL
        || (own->member.data = ngx_pstrdup(pool, member)) == NULL
        || (own->todo.token.data = ngx_pstrdup(pool, token)) == NULL
        || (own->todo.pool = ngx_create_pool(4096, rn->log)) == NULL)
    {
        ngx_destroy_pool(pool);
        return;
    }

    own->pool = pool;
    own->member.len = member->len;

    own->todo.mcf = rn->mcf;
    own->todo.tcf = rn->tcf;
    own->todo.token.len = token->len;
    own->todo.until = tl->asked + NGX_HTTP_LLM_TODO_LEASE;

    if (member->len > 2 && member->data[1] == ':') {
        own->todo.kind = own->member.data[0];
        own->todo.id.data = own->member.data + 2;
        own->todo.id.len = own->member.len - 2;
    }

    ngx_queue_insert_tail(&tl->things, &own->todo.queue);

    if (own->todo.kind == 'b') {
        tl->batches++;

    } else {
        tl->webhooks++;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                   "llm todo \"%V\" is ours: %V", &own->member, token);

    ngx_http_llm_todo_run(own);
}


static void
ngx_http_llm_todo_run(ngx_http_llm_todo_own_t *own)
{
    ngx_http_llm_todo_list_t  *tl;

    tl = &ngx_http_llm_todo;

    if (tl->batches > NGX_HTTP_LLM_TODO_BATCHES
        || tl->webhooks > NGX_HTTP_LLM_TODO_WEBHOOKS)
    {
        ngx_http_llm_todo_done(&own->todo, NGX_HTTP_LLM_TODO_LATER);
        return;
    }

    if (ngx_exiting || ngx_quit || ngx_terminate) {
        ngx_http_llm_todo_done(&own->todo, 0);
        return;
    }

    switch (own->todo.kind) {

    case 'b':
        ngx_http_llm_batch_run(&own->todo);
        break;

    case 'w':
        ngx_http_llm_webhook_run(&own->todo);
        break;

    default:
        ngx_log_error(NGX_LOG_ERR, ngx_http_llm_runner.log, 0,
                      "llm todo \"%V\" is of no known kind", &own->member);

        ngx_http_llm_todo_done(&own->todo, -1);
    }
}


void
ngx_http_llm_todo_done(ngx_http_llm_todo_t *todo, int64_t again)
{
    ngx_http_llm_todo_own_t   *own;
    ngx_http_llm_todo_list_t  *tl;

    own = (ngx_http_llm_todo_own_t *) todo;
    tl = &ngx_http_llm_todo;

    if (own->state != NGX_HTTP_LLM_TODO_RUNS) {
        ngx_log_error(NGX_LOG_ALERT, ngx_http_llm_runner.log, 0,
                      "llm todo \"%V\" is done twice", &own->member);
        return;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_http_llm_runner.log, 0,
                   "llm todo \"%V\" is done, again: %L", &own->member, again);

    own->state = NGX_HTTP_LLM_TODO_DONE;
    own->again = again;

    ngx_destroy_pool(todo->pool);
    todo->pool = NULL;

    if (todo->kind == 'b') {
        tl->batches--;

    } else {
        tl->webhooks--;
    }

    /* at once again, or there was no room before */

    if (again == 0) {
        tl->look = 1;
    }

    ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_GATHER);
}


void
ngx_http_llm_todo_keep(ngx_http_llm_todo_t *todo)
{
    ngx_http_llm_todo_own_t  *own;

    own = (ngx_http_llm_todo_own_t *) todo;
    own->keep = 1;

    ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_GATHER);
}


static ngx_uint_t
ngx_http_llm_todo_room(u_char kind)
{
    ngx_uint_t                 n, most;
    ngx_http_llm_todo_list_t  *tl;

    tl = &ngx_http_llm_todo;

    n = kind == 'b' ? tl->batches : tl->webhooks;
    most = kind == 'b' ? NGX_HTTP_LLM_TODO_BATCHES
                       : NGX_HTTP_LLM_TODO_WEBHOOKS;

    return n < most ? most - n : 0;
}


ngx_http_llm_todo_own_t *
ngx_http_llm_todo_next(ngx_http_llm_todo_own_t *own)
{
    ngx_queue_t               *q;
    ngx_http_llm_todo_list_t  *tl;

    tl = &ngx_http_llm_todo;

    q = own ? ngx_queue_next(&own->todo.queue) : ngx_queue_head(&tl->things);

    return q != ngx_queue_sentinel(&tl->things)
           ? ngx_queue_data(q, ngx_http_llm_todo_own_t, todo.queue) : NULL;
}


void
ngx_http_llm_todo_free(ngx_http_llm_todo_own_t *own)
{
    ngx_queue_remove(&own->todo.queue);
    ngx_destroy_pool(own->pool);
}


/* others go on with it at once; cleanups of its pool end what is under way */

void
ngx_http_llm_todo_exit(void)
{
    ngx_http_llm_todo_own_t   *own;
    ngx_http_llm_todo_list_t  *tl;

    tl = &ngx_http_llm_todo;

    ngx_http_llm_todo_detach(&tl->ask);
    ngx_http_llm_todo_detach(&tl->tell);
    ngx_http_llm_todo_detach(&tl->beat);

    for (own = ngx_http_llm_todo_next(NULL);
         own;
         own = ngx_http_llm_todo_next(own))
    {
        if (own->state == NGX_HTTP_LLM_TODO_RUNS) {
            ngx_http_llm_todo_done(&own->todo, 0);
        }
    }

    if (ngx_http_llm_redis_connected(ngx_http_llm_runner.tcf->redis)) {
        ngx_http_llm_todo_tell();
    }

    ngx_http_llm_todo_detach(&tl->tell);

    while ((own = ngx_http_llm_todo_next(NULL)) != NULL) {
        ngx_http_llm_todo_free(own);
    }
}


static void
ngx_http_llm_todo_detach(ngx_http_llm_redis_op_t **op)
{
    if (*op) {
        ngx_http_llm_redis_detach(*op);
        *op = NULL;
    }
}
