
/*
 * Copyright (C) the ngx-llm authors
 *
 * A call to Redis about several tasks, which it holds until its reply.
 */


#include "tasks/ngx_http_llm_runner_private.h"


ngx_http_llm_runner_batch_t *
ngx_http_llm_runner_batch(ngx_http_llm_runner_op_e op)
{
    ngx_pool_t                   *pool;
    ngx_http_llm_runner_batch_t  *batch;

    pool = ngx_create_pool(4096, ngx_http_llm_runner.log);
    if (pool == NULL) {
        return NULL;
    }

    batch = ngx_pcalloc(pool, sizeof(ngx_http_llm_runner_batch_t));

    if (batch == NULL
        || ngx_array_init(&batch->tasks, pool, 16,
                          sizeof(ngx_http_llm_runner_task_t *))
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    batch->pool = pool;
    batch->op = op;
    batch->since = ngx_current_msec;

    ngx_queue_insert_tail(&ngx_http_llm_runner.batches, &batch->queue);

    return batch;
}


ngx_int_t
ngx_http_llm_runner_batch_add(ngx_http_llm_runner_batch_t *batch,
    ngx_http_llm_runner_task_t *task)
{
    ngx_http_llm_runner_task_t  **elt;

    elt = ngx_array_push(&batch->tasks);
    if (elt == NULL) {
        return NGX_ERROR;
    }

    *elt = task;
    task->refs++;

    return NGX_OK;
}


void
ngx_http_llm_runner_batch_free(ngx_http_llm_runner_batch_t *batch)
{
    ngx_uint_t                    i;
    ngx_http_llm_runner_task_t  **task;

    task = batch->tasks.elts;

    for (i = 0; i < batch->tasks.nelts; i++) {
        if (--task[i]->refs == 0 && task[i]->over) {
            ngx_destroy_pool(task[i]->pool);
        }
    }

    ngx_queue_remove(&batch->queue);
    ngx_destroy_pool(batch->pool);
}
