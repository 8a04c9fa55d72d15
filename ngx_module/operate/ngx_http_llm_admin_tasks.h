
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_admin_tasks*.c: a request about tasks, which waits for
 * Redis.
 */


#ifndef _NGX_HTTP_LLM_ADMIN_TASKS_H_INCLUDED_
#define _NGX_HTTP_LLM_ADMIN_TASKS_H_INCLUDED_


#include "operate/ngx_http_llm_admin_private.h"
#include "tasks/ngx_http_llm_queue.h"


typedef struct {
    ngx_http_llm_admin_t       *ad;
    ngx_http_llm_tasks_conf_t  *tcf;
    ngx_http_llm_queue_call_t   call;
    ngx_http_llm_redis_op_t    *op;
    json_t                     *json;
    ngx_str_t                   team;
    uint64_t                    removed;
    uint64_t                    flagged;
} ngx_http_llm_admin_tasks_t;


/* NULL: "*rc" is what the handler returns */
ngx_http_llm_admin_tasks_t *ngx_http_llm_admin_tasks_create(
    ngx_http_llm_admin_t *ad, ngx_int_t *rc);

/*
 * A call of queue.lua: begin (NGX_OK, NGX_ERROR), add to at->call, send.  The
 * answer's handler calls replied() first.  send: NGX_OK, it will be called;
 * NGX_DECLINED, Redis is not usable now, answer with away().  first() sends
 * the first call of a request and returns what the request's handler returns.
 */
ngx_int_t ngx_http_llm_admin_tasks_begin(ngx_http_llm_admin_tasks_t *at,
    const char *op);
ngx_int_t ngx_http_llm_admin_tasks_send(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_handler_pt handler);
ngx_int_t ngx_http_llm_admin_tasks_first(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_handler_pt handler);
ngx_int_t ngx_http_llm_admin_tasks_away(ngx_http_llm_admin_t *ad);

/* NGX_OK: an array; NGX_DECLINED: it is none, the request is answered so */
ngx_int_t ngx_http_llm_admin_tasks_replied(ngx_http_llm_admin_tasks_t *at,
    ngx_http_llm_redis_reply_t *reply);

/* an element of an array; 0: it is no number */
int64_t ngx_http_llm_admin_tasks_number(ngx_http_llm_redis_reply_t *reply,
    ngx_uint_t i);


#endif /* _NGX_HTTP_LLM_ADMIN_TASKS_H_INCLUDED_ */
