
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_queue.h"
#include "tasks/ngx_http_llm_runner.h"
#include "http/ngx_http_llm_reply.h"


ngx_http_llm_tasks_conf_t *
ngx_http_llm_tasks_conf(ngx_http_llm_main_conf_t *mcf)
{
    return mcf->tasks;
}


ngx_int_t
ngx_http_llm_tasks_init_conf(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->tasks = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_tasks_conf_t));

    return mcf->tasks ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_tasks_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf)
{
    return NGX_OK;
}


void
ngx_http_llm_tasks_exit_process(ngx_http_llm_main_conf_t *mcf)
{
}


ngx_int_t
ngx_http_llm_tasks_team(ngx_http_llm_ctx_t *ctx, ngx_str_t *team)
{
    return NGX_ERROR;
}


ngx_int_t
ngx_http_llm_tasks_unavailable(ngx_http_llm_ctx_t *ctx)
{
    return ngx_http_llm_error(ctx, NGX_HTTP_SERVICE_UNAVAILABLE,
                              "server_error", "tasks_unavailable",
                              "Tasks are not available.");
}


ngx_int_t
ngx_http_llm_tasks_ready(ngx_http_llm_ctx_t *ctx)
{
    return ngx_http_llm_tasks_unavailable(ctx);
}
