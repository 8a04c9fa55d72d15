
/*
 * Copyright (C) the ngx-llm authors
 *
 * The runner: in each worker, it claims tasks and sends them through the
 * gateway's own front door (http/loopback) as requests of their owner's key,
 * in the background of what people wait for; and it drives what has to be
 * done from time to time for batches and webhooks.
 */


#ifndef _NGX_HTTP_LLM_RUNNER_H_INCLUDED_
#define _NGX_HTTP_LLM_RUNNER_H_INCLUDED_


#include "tasks/ngx_http_llm_queue.h"


/*
 * A worker's life, where llm_tasks is on and has a Redis.  It claims when it
 * is told that there is work, when a task has ended, and once a second.
 * exit: what has not been answered goes back into the queue.
 */
ngx_int_t ngx_http_llm_runner_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf);
void ngx_http_llm_runner_exit_process(void);

/*
 * There is new work (tasks were submitted, something is due now): this
 * worker looks at once, and so do all others, by a letter to the board.
 */
void ngx_http_llm_runner_wake(ngx_http_llm_main_conf_t *mcf);

/*
 * The letter that wake() posts (mcf->inbox may be NULL: then all others find
 * the work when they look by themselves) comes by ngx_http_llm_fleet_work
 * (policy/ngx_http_llm_flight.h), which init sets.
 */


/* ms since the epoch, as tasks have their times */
int64_t ngx_http_llm_runner_wall(void);


/*
 * Things to do (operation "todo" of queue.lua): "b:ID" a batch, "w:ID" the
 * webhook of a task.  The runner takes due ones and calls the function of
 * their kind, which calls done() once, then or later.  Until then the thing
 * is leased to this worker; one whose worker dies comes again elsewhere, so
 * all that is done must bear being done twice.
 */

typedef struct ngx_http_llm_todo_s  ngx_http_llm_todo_t;

struct ngx_http_llm_todo_s {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_http_llm_tasks_conf_t  *tcf;
    ngx_pool_t                 *pool;        /* destroyed by done() */
    ngx_str_t                   id;          /* without "b:" */
    u_char                      kind;        /* 'b', 'w' */
    ngx_str_t                   token;       /* fences what is done for it:
                                                {llm}:t:doing has it as the
                                                value of field "b:ID" */
    ngx_msec_t                  until;       /* the lease, ngx_current_msec */
    void                       *data;        /* the function's own */
    ngx_queue_t                 queue;
};

/* again: ms until it is to come again, -1: it is over */
void ngx_http_llm_todo_done(ngx_http_llm_todo_t *todo, int64_t again);

/* it goes on: the lease runs for its full time (30 s) from now on */
void ngx_http_llm_todo_keep(ngx_http_llm_todo_t *todo);

/* the functions: tasks/ngx_http_llm_batch_run.c, ngx_http_llm_webhook.c */
void ngx_http_llm_batch_run(ngx_http_llm_todo_t *todo);
void ngx_http_llm_webhook_run(ngx_http_llm_todo_t *todo);


#endif /* _NGX_HTTP_LLM_RUNNER_H_INCLUDED_ */
