
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_runner.h"


ngx_int_t
ngx_http_llm_runner_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf)
{
    return NGX_OK;
}


void
ngx_http_llm_runner_exit_process(ngx_http_llm_main_conf_t *mcf)
{
}


void
ngx_http_llm_runner_wake(ngx_http_llm_main_conf_t *mcf)
{
}
