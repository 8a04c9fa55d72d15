
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is told of a task, and by whom it is signed.
 */


#ifndef _NGX_HTTP_LLM_WEBHOOK_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_WEBHOOK_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_webhook.h"


/* of a task that has ended; text of Redis, copied into the pool */

typedef struct {
    ngx_str_t                   id;
    ngx_str_t                   state;      /* completed, error, cancelled */
    ngx_str_t                   url;
    ngx_str_t                   team;
    ngx_str_t                   metadata;   /* JSON, or empty */
    ngx_str_t                   error;      /* JSON, or empty */
    ngx_str_t                   batch;      /* its id, or empty */
    int64_t                     created;    /* ms */
    int64_t                     finished;
} ngx_http_llm_webhook_task_t;


/* the body of the call */
ngx_int_t ngx_http_llm_webhook_body(ngx_pool_t *pool,
    ngx_http_llm_webhook_task_t *task, ngx_str_t *body);

/* "v1,…" of id, time ("seconds", as sent) and body */
ngx_int_t ngx_http_llm_webhook_sign(ngx_pool_t *pool, ngx_str_t *secret,
    ngx_str_t *id, ngx_str_t *time, ngx_str_t *body, ngx_str_t *signature);


#endif /* _NGX_HTTP_LLM_WEBHOOK_PRIVATE_H_INCLUDED_ */
