
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the parts of the queue's C side share among themselves.
 */


#ifndef _NGX_HTTP_LLM_TASKS_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_TASKS_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_tasks.h"


/*
 * This worker's llm_secret, NULL: none.  It opens what was sealed while
 * encrypt= was on, also when it is off now.
 */
extern ngx_http_llm_secret_t  *ngx_http_llm_queue_secret;


#endif /* _NGX_HTTP_LLM_TASKS_PRIVATE_H_INCLUDED_ */
