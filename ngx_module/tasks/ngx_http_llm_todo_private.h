
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_todo*.c: a worker's things to do.
 */


#ifndef _NGX_HTTP_LLM_TODO_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_TODO_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_runner_private.h"


#define NGX_HTTP_LLM_TODO_LEASE     30000      /* ms */


typedef enum {
    NGX_HTTP_LLM_TODO_RUNS = 0,
    NGX_HTTP_LLM_TODO_DONE,                    /* to be told */
    NGX_HTTP_LLM_TODO_TOLD                     /* … and its reply awaited */
} ngx_http_llm_todo_state_e;


typedef struct {
    ngx_http_llm_todo_t        todo;
    ngx_pool_t                *pool;           /* of this, behind the end */
    ngx_str_t                  member;         /* "b:ID" */
    int64_t                    again;
    ngx_http_llm_todo_state_e  state;
    unsigned                   keep:1;         /* to be sent */
    unsigned                   keeping:1;      /* … and its reply awaited */
} ngx_http_llm_todo_own_t;


typedef struct {
    ngx_queue_t                things;
    ngx_http_llm_redis_op_t   *ask;
    ngx_http_llm_redis_op_t   *tell;
    ngx_http_llm_redis_op_t   *beat;
    ngx_msec_t                 asked;          /* when */
    ngx_uint_t                 n;              /* … for so many */
    ngx_msec_t                 beaten;
    ngx_uint_t                 webhooks;       /* under way */
    ngx_uint_t                 batches;
    unsigned                   look:1;
} ngx_http_llm_todo_list_t;


extern ngx_http_llm_todo_list_t  ngx_http_llm_todo;


/* the one behind it, of NULL the first; NULL: there is none */
ngx_http_llm_todo_own_t *ngx_http_llm_todo_next(ngx_http_llm_todo_own_t *own);

void ngx_http_llm_todo_free(ngx_http_llm_todo_own_t *own);


/* a call, in memory that is the caller's to destroy; NULL: there is none */
ngx_pool_t *ngx_http_llm_todo_call(ngx_http_llm_queue_call_t *call,
    const char *op);

/* _tell.c: in one call each: those that are done, those that run on */
void ngx_http_llm_todo_tell(void);
void ngx_http_llm_todo_beat(void);

/* done and not told for a lease: forgotten */
void ngx_http_llm_todo_lapsed(void);


#endif /* _NGX_HTTP_LLM_TODO_PRIVATE_H_INCLUDED_ */
