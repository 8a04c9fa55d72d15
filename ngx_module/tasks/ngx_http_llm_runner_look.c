
/*
 * Copyright (C) the ngx-llm authors
 *
 * How the fleet's queue stands, in shared memory for metrics: asked by one
 * worker of a gateway, the one that comes first when the last look is old.
 */


#include "tasks/ngx_http_llm_runner_private.h"


#define NGX_HTTP_LLM_RUNNER_LOOK   2000        /* ms between two */
#define NGX_HTTP_LLM_RUNNER_IDLE   60000       /* a consumer is forgotten */


static void ngx_http_llm_runner_looked(void *data,
    ngx_http_llm_redis_reply_t *reply);


static ngx_http_llm_redis_op_t  *ngx_http_llm_runner_sweep;


void
ngx_http_llm_runner_look(void)
{
    uint64_t                    now, looked;
    ngx_pool_t                 *pool;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;

    now = ngx_http_llm_runner_wall();
    looked = rn->count->looked;

    /* a clock that was set back is no reason not to look */

    if (ngx_http_llm_runner_sweep
        || (now >= looked && now - looked < NGX_HTTP_LLM_RUNNER_LOOK))
    {
        return;
    }

    pool = ngx_create_pool(1024, rn->log);
    if (pool == NULL) {
        return;
    }

    ngx_http_llm_queue_begin(&call, pool, "sweep");
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_RUNNER_DEAD);
    ngx_http_llm_queue_add_number(&call, ngx_max(NGX_HTTP_LLM_RUNNER_IDLE,
                                                 3 * rn->tcf->lease));

    ngx_http_llm_runner_sweep = ngx_http_llm_queue_send(rn->tcf, &call,
                                              ngx_http_llm_runner_looked,
                                              NULL);

    ngx_destroy_pool(pool);
}


static void
ngx_http_llm_runner_looked(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i, k;
    ngx_http_llm_count_tasks_t  *ct;
    ngx_http_llm_redis_reply_t   name, value;

    static ngx_str_t  names[] = {
        ngx_string("queued"),
        ngx_string("processing"),
        ngx_string("delayed"),
        ngx_string("dead"),
        ngx_string("oldest"),
        ngx_null_string
    };

    ngx_atomic_t  *to[5];

    ngx_http_llm_runner_sweep = NULL;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY) {
        ngx_http_llm_runner_complain("sweep", reply);
        return;
    }

    ct = ngx_http_llm_runner.count;

    to[0] = &ct->queued;
    to[1] = &ct->processing;
    to[2] = &ct->delayed;
    to[3] = &ct->dead;
    to[4] = &ct->oldest;

    for (i = 0; ; i += 2) {

        if (ngx_http_llm_redis_element(reply, i, &name) != NGX_OK
            || ngx_http_llm_redis_element(reply, i + 1, &value) != NGX_OK)
        {
            break;
        }

        for (k = 0; names[k].len; k++) {
            if (name.str.len == names[k].len
                && value.type == NGX_HTTP_LLM_REDIS_INTEGER
                && ngx_memcmp(name.str.data, names[k].data, names[k].len)
                   == 0)
            {
                *to[k] = (ngx_atomic_uint_t) ngx_max(value.integer, 0);
            }
        }
    }

    ct->looked = (ngx_atomic_uint_t) ngx_http_llm_runner_wall();
}


void
ngx_http_llm_runner_look_exit(void)
{
    if (ngx_http_llm_runner_sweep) {
        ngx_http_llm_redis_detach(ngx_http_llm_runner_sweep);
        ngx_http_llm_runner_sweep = NULL;
    }
}
