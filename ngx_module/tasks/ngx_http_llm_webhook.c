
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_webhook.h"


void
ngx_http_llm_webhook_run(ngx_http_llm_todo_t *todo)
{
    ngx_http_llm_todo_done(todo, -1);
}


ngx_int_t
ngx_http_llm_webhook_check(ngx_http_llm_tasks_conf_t *tcf, ngx_str_t *url)
{
    return NGX_DECLINED;
}
