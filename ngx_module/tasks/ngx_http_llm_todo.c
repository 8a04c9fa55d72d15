
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_runner.h"


void
ngx_http_llm_todo_done(ngx_http_llm_todo_t *todo, int64_t again)
{
}


void
ngx_http_llm_todo_keep(ngx_http_llm_todo_t *todo)
{
}
