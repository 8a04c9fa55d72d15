
/*
 * Copyright (C) the ngx-llm authors
 *
 * A claim whose reply was lost: what it gave is asked back.
 */


#include "tasks/ngx_http_llm_runner_private.h"


static void ngx_http_llm_runner_recalled(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_runner_recall_call(ngx_http_llm_queue_call_t *call,
    ngx_pool_t *pool);


/*
 * What the lost reply gave.  None found is asked once more a little later:
 * the claim may have come to Redis after its recall, by another connection.
 */

void
ngx_http_llm_runner_recall(void)
{
    ngx_pool_t                 *pool;
    ngx_msec_int_t              left;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;

    if (ngx_exiting && ngx_current_msec - rn->claimed > rn->tcf->lease) {
        rn->lost = 0;
        return;
    }

    left = (ngx_msec_int_t) (rn->recall_at - ngx_current_msec);

    if (left > 0 || !ngx_http_llm_redis_connected(rn->tcf->redis)) {
        ngx_http_llm_runner_soon(ngx_max(left, NGX_HTTP_LLM_RUNNER_AGAIN));
        return;
    }

    pool = ngx_create_pool(1024, rn->log);
    if (pool == NULL) {
        return;
    }

    ngx_http_llm_runner_recall_call(&call, pool);

    rn->claim = ngx_http_llm_queue_send(rn->tcf, &call,
                                        ngx_http_llm_runner_recalled, NULL);

    ngx_destroy_pool(pool);

    if (rn->claim == NULL) {
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_AGAIN);
    }
}


static void
ngx_http_llm_runner_recall_call(ngx_http_llm_queue_call_t *call,
    ngx_pool_t *pool)
{
    ngx_str_t               token;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    token.data = rn->token;
    token.len = NGX_HTTP_LLM_QUEUE_TOKEN;

    ngx_http_llm_queue_begin(call, pool, "recall");
    ngx_http_llm_queue_add_number(call, rn->tcf->window);
    ngx_http_llm_queue_add_number(call, (int64_t) rn->tcf->keep * 1000);
    ngx_http_llm_queue_add(call, &rn->name);
    ngx_http_llm_queue_add(call, &token);
}


static void
ngx_http_llm_runner_recalled(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    rn->claim = NULL;

    if (reply->type != NGX_HTTP_LLM_REDIS_INTEGER) {
        ngx_http_llm_runner_complain("recall", reply);
        rn->recall_at = ngx_current_msec + NGX_HTTP_LLM_RUNNER_AGAIN;

    } else {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, rn->log, 0,
                       "llm tasks: %L recalled", reply->integer);

        rn->recall_at = ngx_current_msec + NGX_HTTP_LLM_RUNNER_TICK;

        if (reply->integer > 0 || rn->recalls++) {
            rn->lost = 0;
            rn->want = 1;
            rn->recall_at = ngx_current_msec;
        }
    }

    ngx_http_llm_runner_soon(rn->lost ? NGX_HTTP_LLM_RUNNER_AGAIN : 0);
    ngx_http_llm_runner_busy();
}


/* the reply will never be read */

void
ngx_http_llm_runner_claim_exit(void)
{
    ngx_pool_t                 *pool;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_queue_call_t   call;

    rn = &ngx_http_llm_runner;

    if (rn->claim == NULL && !rn->lost) {
        return;
    }

    if (rn->claim) {
        ngx_http_llm_redis_detach(rn->claim);
        rn->claim = NULL;
    }

    pool = ngx_create_pool(1024, rn->log);
    if (pool == NULL) {
        return;
    }

    ngx_http_llm_runner_recall_call(&call, pool);
    (void) ngx_http_llm_queue_send(rn->tcf, &call, NULL, NULL);

    ngx_destroy_pool(pool);
}
