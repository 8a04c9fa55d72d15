
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of /api/tasks.  A request is walked in steps: each ends
 * with an answer, an error, or NGX_AGAIN when it waits for Redis, for its
 * next slice or for a pause to be over; then comes the step that "step" is
 * set to.
 */


#ifndef _NGX_HTTP_LLM_TASKS_API_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_TASKS_API_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_queue.h"

#include "core/llm_tasks.h"


#define NGX_HTTP_LLM_TASKS_IDS      1000      /* of one question */
#define NGX_HTTP_LLM_TASKS_WAIT_MAX     300       /* s, at most */
#define NGX_HTTP_LLM_TASKS_MARGIN   50        /* ms before the deadline */

/* pauses between two looks at tasks that are waited for, ms */

#define NGX_HTTP_LLM_TASKS_PAUSE      50
#define NGX_HTTP_LLM_TASKS_PAUSE_MAX  1000


typedef struct ngx_http_llm_tasks_api_s     ngx_http_llm_tasks_api_t;
typedef struct ngx_http_llm_tasks_submit_s  ngx_http_llm_tasks_submit_t;
typedef struct ngx_http_llm_tasks_stream_s  ngx_http_llm_tasks_stream_t;

typedef ngx_int_t (*ngx_http_llm_tasks_step_pt)(
    ngx_http_llm_tasks_api_t *api);
typedef ngx_int_t (*ngx_http_llm_tasks_reply_pt)(
    ngx_http_llm_tasks_api_t *api, ngx_http_llm_redis_reply_t *reply);


/* a task that is asked for; its strings are in api->hold and api->results */

typedef struct {
    ngx_str_t                     id;
    llm_tasks_task_t              task;
    unsigned                      valid:1;    /* it could be an id */
    unsigned                      over:1;     /* nothing to wait for */
    unsigned                      fetched:1;  /* the result */
} ngx_http_llm_tasks_item_t;


struct ngx_http_llm_tasks_api_s {
    ngx_http_llm_ctx_t           *ctx;
    ngx_http_llm_tasks_conf_t    *tcf;
    ngx_str_t                     team;

    ngx_http_llm_tasks_step_pt    step;
    ngx_http_llm_redis_op_t      *op;         /* on its way, or NULL */
    ngx_http_llm_tasks_reply_pt   reply;
    ngx_int_t                     rc;         /* of the last call: what
                                                 reply() gave, NGX_ABORT: none
                                                 that can be used */
    ngx_event_t                   slice;

    /* what is asked for */
    ngx_http_llm_tasks_item_t    *item;
    ngx_uint_t                    n;
    ngx_uint_t                    at;         /* behind those dealt with */
    ngx_uint_t                    ask[NGX_HTTP_LLM_QUEUE_JOBS];
    ngx_uint_t                    asked;
    ngx_uint_t                    few;        /* results of a call */
    ngx_pool_t                   *hold;       /* strings of states */
    ngx_pool_t                   *results;    /* of one call */
    size_t                        held;       /* bytes of hold */
    ngx_str_t                     out;        /* the answer, and its … */
    size_t                        room;       /* … memory */
    ngx_msec_t                    until;      /* of a wait */
    ngx_msec_t                    pause;

    ngx_http_llm_tasks_submit_t  *submit;     /* or NULL */
    ngx_http_llm_tasks_stream_t  *stream;

    unsigned                      bare:1;     /* without results */
    unsigned                      refused:1;  /* Redis said a clear no */
};


/* an error; "code", "param" may be NULL; "param" is not copied */
ngx_int_t ngx_http_llm_tasks_refuse(ngx_http_llm_tasks_api_t *api,
    ngx_uint_t status, const char *code, const char *param, const char *fmt,
    ...);

/*
 * NGX_AGAIN: reply() is called with the array that comes, then the next step;
 * NGX_ABORT: Redis takes nothing now; NGX_ERROR
 */
ngx_int_t ngx_http_llm_tasks_send(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_tasks_reply_pt reply);

/* NGX_AGAIN; the step is called in the next turn, or in so many ms */
ngx_int_t ngx_http_llm_tasks_next_turn(ngx_http_llm_tasks_api_t *api);
ngx_int_t ngx_http_llm_tasks_sleep(ngx_http_llm_tasks_api_t *api,
    ngx_msec_t ms);

/* ms that the request may still take; 0: none */
ngx_msec_t ngx_http_llm_tasks_left(ngx_http_llm_tasks_api_t *api);

/* a worker that ends does not wait for tasks */
ngx_uint_t ngx_http_llm_tasks_leaving(void);

/* the same for everything that is over */
ngx_uint_t ngx_http_llm_tasks_terminal(llm_tasks_state_e state);
llm_tasks_state_e ngx_http_llm_tasks_state(ngx_str_t *name);


/* _submit.c: POST */
ngx_int_t ngx_http_llm_tasks_submit(ngx_http_llm_tasks_api_t *api);
void ngx_http_llm_tasks_submit_cleanup(ngx_http_llm_tasks_api_t *api);

/* _get.c: GET */
ngx_int_t ngx_http_llm_tasks_get(ngx_http_llm_tasks_api_t *api);
ngx_int_t ngx_http_llm_tasks_get_one(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *id);

/* one item; NGX_ERROR: no memory */
ngx_int_t ngx_http_llm_tasks_one(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *id);

/* asks for the states, from api->at on; then, with at 0, the answer */
ngx_int_t ngx_http_llm_tasks_states(ngx_http_llm_tasks_api_t *api);

/* sends a question about those of api->ask */
ngx_int_t ngx_http_llm_tasks_ask(ngx_http_llm_tasks_api_t *api,
    const char **field, ngx_http_llm_tasks_reply_pt reply);
ngx_int_t ngx_http_llm_tasks_ask_states(ngx_http_llm_tasks_api_t *api);
ngx_int_t ngx_http_llm_tasks_ask_results(ngx_http_llm_tasks_api_t *api);

/*
 * Behind api->out: a member's name and colon, what is told of item "i",
 * bytes.  NGX_DECLINED: that would be too much for one answer.
 */
ngx_int_t ngx_http_llm_tasks_put_name(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *name);
ngx_int_t ngx_http_llm_tasks_put(ngx_http_llm_tasks_api_t *api, ngx_uint_t i);
ngx_int_t ngx_http_llm_tasks_put_text(ngx_http_llm_tasks_api_t *api,
    const void *p, size_t len);

/* _wait.c: until all are over, or the time is */
ngx_int_t ngx_http_llm_tasks_wait(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *value);

/* _events.c: GET /api/tasks/ID/events */
ngx_int_t ngx_http_llm_tasks_events(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *id);


#endif /* _NGX_HTTP_LLM_TASKS_API_PRIVATE_H_INCLUDED_ */
