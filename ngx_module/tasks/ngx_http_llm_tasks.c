
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_tasks.h"
#include "tasks/ngx_http_llm_tasks_private.h"
#include "tasks/ngx_http_llm_runner.h"
#include "http/ngx_http_llm_loopback.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_TASKS_WAIT    5000    /* retry-after of a 503, ms */
#define NGX_HTTP_LLM_TASKS_BEGINS  5       /* between two looks, ms */


ngx_http_llm_tasks_conf_t *
ngx_http_llm_tasks_conf(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->tasks;
}


ngx_int_t
ngx_http_llm_tasks_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf)
{
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = mcf->tasks;

    if (!tcf->on || tcf->redis == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_queue_secret = mcf->secret;

    /*
     * The server of the limits, but by other deadlines: one that is too slow
     * for these is not for tasks.
     */

    ngx_http_llm_redis_share(tcf->redis, &mcf->zone->sh->redis_tasks);

    if (ngx_http_llm_redis_init_process(tcf->redis, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_runner_init_process(cycle, mcf);
}


void
ngx_http_llm_tasks_exit_process(ngx_http_llm_main_conf_t *mcf)
{
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = mcf->tasks;

    if (!tcf->on || tcf->redis == NULL) {
        return;
    }

    /* it gives back what it holds while commands still go out */

    ngx_http_llm_runner_exit_process();
    ngx_http_llm_redis_exit_process(tcf->redis);
}


ngx_int_t
ngx_http_llm_tasks_team(ngx_http_llm_ctx_t *ctx, ngx_str_t *team)
{
    if (ctx->key->team) {
        team->len = ctx->key->team->name.len;

    } else {
        /* no name of a team has this character */
        team->len = 1 + ctx->key->name.len;
    }

    team->data = ngx_pnalloc(ctx->request->pool, team->len);
    if (team->data == NULL) {
        return NGX_ERROR;
    }

    if (ctx->key->team) {
        ngx_memcpy(team->data, ctx->key->team->name.data, team->len);

    } else {
        team->data[0] = '~';
        ngx_memcpy(team->data + 1, ctx->key->name.data, team->len - 1);
    }

    return NGX_OK;
}


void *
ngx_http_llm_tasks_begun(ngx_http_llm_ctx_t *ctx, ngx_http_cleanup_pt handler)
{
    ngx_http_cleanup_t  *cln;

    for (cln = ctx->request->cleanup; cln; cln = cln->next) {
        if (cln->handler == handler) {
            return cln->data;
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_llm_tasks_ready(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ctx->mcf->tasks;

    if (!tcf->on || ngx_http_llm_loopback_address() == NULL) {
        return ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                                  "invalid_request_error", "unknown_url",
                                  "This gateway runs no tasks (llm_tasks).");
    }

    if (tcf->redis == NULL) {
        return ngx_http_llm_tasks_unavailable(ctx);
    }

    if (ngx_http_llm_redis_begins(tcf->redis)) {

        /* the worker has just begun: that is no reason to send clients away */

        ngx_add_timer(&ctx->timer, NGX_HTTP_LLM_TASKS_BEGINS);
        return NGX_AGAIN;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    return ngx_http_llm_redis_connected(tcf->redis)
           ? NGX_OK : ngx_http_llm_tasks_unavailable(ctx);
}


ngx_int_t
ngx_http_llm_tasks_unavailable(ngx_http_llm_ctx_t *ctx)
{
    (void) ngx_http_llm_error(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                              "server_error", "tasks_unavailable",
                              "The gateway's task queue cannot be reached "
                              "at the moment. Try again later.");

    if (!ctx->revoked) {
        ctx->error.wait = NGX_HTTP_LLM_TASKS_WAIT;
    }

    return ctx->error.status;
}
