
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who is told that a task has ended.
 */


#ifndef _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_
#define _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_


#include "tasks/ngx_http_llm_runner.h"


/* may it be called? NGX_OK or NGX_DECLINED: by llm_tasks webhook= it may not */
ngx_int_t ngx_http_llm_webhook_check(ngx_http_llm_tasks_conf_t *tcf,
    ngx_str_t *url);


#endif /* _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_ */
