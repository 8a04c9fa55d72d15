
/*
 * Copyright (C) the ngx-llm authors
 *
 * Who is told that a task has ended: a URL of its own, on a host that
 * llm_tasks webhook= names.  It is told once or more often, in the manner of
 * the Standard Webhooks: three headers (webhook-id, webhook-timestamp,
 * webhook-signature) and a small JSON body without the result.
 */


#ifndef _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_
#define _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_


#include "tasks/ngx_http_llm_runner.h"

#include "core/llm_url.h"


/* may it be called? NGX_OK, or NGX_DECLINED: llm_tasks webhook= has it not */
ngx_int_t ngx_http_llm_webhook_check(ngx_http_llm_tasks_conf_t *tcf,
    ngx_str_t *url);


#endif /* _NGX_HTTP_LLM_WEBHOOK_H_INCLUDED_ */
