
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the runner share.
 */


#ifndef _NGX_HTTP_LLM_RUNNER_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_RUNNER_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_fault.h"
#include "tasks/ngx_http_llm_runner.h"
#include "http/ngx_http_llm_loopback.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_answer.h"


#define NGX_HTTP_LLM_RUNNER_TICK     1000      /* ms; a letter comes sooner */
#define NGX_HTTP_LLM_RUNNER_BLIND    250       /* … nobody writes letters */
#define NGX_HTTP_LLM_RUNNER_GATHER   5         /* ends, for one call */
#define NGX_HTTP_LLM_RUNNER_MANY     50        /* … enough of them */
#define NGX_HTTP_LLM_RUNNER_AGAIN    250       /* after a call that failed */
#define NGX_HTTP_LLM_RUNNER_BEGIN    4         /* tasks at a time, at first */
#define NGX_HTTP_LLM_RUNNER_ERROR    1024      /* bytes of a job's error */
#define NGX_HTTP_LLM_RUNNER_DEAD     604800000 /* ms the dead are known */
#define NGX_HTTP_LLM_RUNNER_QUIET    60000     /* ms between log lines */


/* what becomes of a task: operations of queue.lua, each a call of its own */

typedef enum {
    NGX_HTTP_LLM_RUNNER_NONE = 0,              /* it runs */
    NGX_HTTP_LLM_RUNNER_END,
    NGX_HTTP_LLM_RUNNER_RETRY,
    NGX_HTTP_LLM_RUNNER_HOLD,
    NGX_HTTP_LLM_RUNNER_RELEASE,
    NGX_HTTP_LLM_RUNNER_OPS
} ngx_http_llm_runner_op_e;


/* a task that this worker holds, from its claim until its end is known */

typedef struct {
    ngx_queue_t                   queue;       /* of all */
    ngx_queue_t                   out;         /* in the outbox */
    ngx_pool_t                   *pool;
    ngx_uint_t                    refs;        /* calls to Redis */

    ngx_str_t                     id;
    ngx_str_t                     team;
    ngx_str_t                     owner;
    ngx_str_t                     token;
    ngx_str_t                     endpoint;
    ngx_str_t                     body;
    ngx_uint_t                    attempt;     /* from 1 */
    int64_t                       created;     /* ms since the epoch */
    int64_t                       deadline;    /* 0: none */
    ngx_msec_t                    since;       /* claimed */
    ngx_msec_t                    until;       /* the lease, at least */

    ngx_http_llm_loopback_t      *call;        /* NULL: none, any more */
    ngx_msec_t                    began;       /* the call */
    ngx_event_t                   moment;      /* … was cut */

    /* the verdict */

    ngx_http_llm_runner_op_e      op;
    ngx_http_llm_task_outcome_e   outcome;     /* END */
    ngx_str_t                     result;      /* END: packed */
    ngx_str_t                     error;
    ngx_str_t                     usage;
    const char                   *reason;      /* END: among the dead */
    ngx_msec_t                    delay;       /* RETRY, HOLD */
    ngx_uint_t                    status;      /* of the answer, 0: none */
    ngx_str_t                     answer;      /* … for the archive */
    ngx_uint_t                    refused;     /* times Redis said no */

    unsigned                      running:1;   /* the call is under way */
    unsigned                      webhook:1;
    unsigned                      counts:1;    /* RETRY */
    unsigned                      waiting:1;   /* in the outbox */
    unsigned                      resent:1;    /* it may be known already */
    unsigned                      over:1;      /* freed when refs is 0 */
} ngx_http_llm_runner_task_t;


/* a call to Redis about tasks, until its reply */

typedef struct {
    ngx_queue_t                   queue;
    ngx_pool_t                   *pool;
    ngx_http_llm_redis_op_t      *sent;
    ngx_http_llm_runner_op_e      op;          /* NONE: a beat */
    ngx_msec_t                    since;
    ngx_array_t                   tasks;       /* of …_task_t * */
} ngx_http_llm_runner_batch_t;


/* a worker's */

typedef struct {
    ngx_http_llm_main_conf_t     *mcf;         /* NULL: no tasks at all */
    ngx_http_llm_tasks_conf_t    *tcf;
    ngx_http_llm_count_tasks_t   *count;
    ngx_log_t                    *log;

    ngx_connection_t              dummy;
    ngx_event_t                   tick;        /* once a second */
    ngx_event_t                   turn;        /* sends what was gathered */
    ngx_event_t                   beat;        /* while something is held */

    ngx_str_t                     name;        /* the consumer */
    u_char                        text[NGX_HTTP_LLM_QUEUE_TOKEN
                                       + NGX_INT64_LEN + 1];

    ngx_queue_t                   tasks;
    ngx_queue_t                   outbox;
    ngx_queue_t                   batches;
    ngx_uint_t                    held;        /* tasks */
    ngx_uint_t                    calls;       /* … under way */
    ngx_uint_t                    nout;        /* … in the outbox */

    /* how many at a time */

    ngx_uint_t                    most;
    ngx_uint_t                    limit;
    ngx_msec_t                    shrunk;      /* when it was cut last */

    /* the claim */

    u_char                        token[NGX_HTTP_LLM_QUEUE_TOKEN];
    ngx_http_llm_redis_op_t      *claim;       /* or the recall */
    ngx_msec_t                    claimed;     /* when it was sent */
    ngx_uint_t                    asked;       /* tasks */
    ngx_uint_t                    recalls;     /* … without any found */
    ngx_msec_t                    recall_at;

    ngx_msec_t                    due;         /* what was given back here */
    ngx_msec_t                    beaten;      /* the last beats */
    ngx_msec_t                    told;        /* the last letter */
    ngx_msec_t                    logged;      /* the last complaint */

    unsigned                      want:1;      /* to claim */
    unsigned                      now:1;       /* … without gathering */
    unsigned                      waits:1;     /* "due" is set */
    unsigned                      lost:1;      /* the reply of a claim */
    unsigned                      letter:1;    /* to be posted */
    unsigned                      complained:1;
} ngx_http_llm_runner_t;


extern ngx_http_llm_runner_t  ngx_http_llm_runner;


/* _runner.c: what was gathered goes out in "delay" ms at the latest */
void ngx_http_llm_runner_soon(ngx_msec_t delay);

/* something is held, or nothing any more: does the worker wait for it? */
void ngx_http_llm_runner_busy(void);

/* a complaint about Redis, once in a while; "what" failed */
void ngx_http_llm_runner_complain(const char *what,
    ngx_http_llm_redis_reply_t *reply);

/* its calls have changed in number */
void ngx_http_llm_runner_running(ngx_int_t n);


/* _claim.c: claims if there is room */
void ngx_http_llm_runner_claim(void);


/* _recall.c: what a lost reply gave; the same at the worker's end */
void ngx_http_llm_runner_recall(void);
void ngx_http_llm_runner_claim_exit(void);


/* _call.c */
void ngx_http_llm_runner_start(ngx_http_llm_runner_task_t *task);
void ngx_http_llm_runner_leave(ngx_http_llm_runner_task_t *task);


/* _judge.c: the answer is there; or nothing that could be its task's fault */
void ngx_http_llm_runner_judge(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an);
void ngx_http_llm_runner_uncounted(ngx_http_llm_runner_task_t *task);


/* _result.c: the fields r, u and e; NGX_ERROR: no memory */
ngx_int_t ngx_http_llm_runner_result(ngx_http_llm_runner_task_t *task);
ngx_int_t ngx_http_llm_runner_usage(ngx_http_llm_runner_task_t *task,
    llm_answer_t *an);
ngx_int_t ngx_http_llm_runner_told(ngx_http_llm_runner_task_t *task);

/* is that the error's code? does a header begin so? the pause, -1: none */
ngx_uint_t ngx_http_llm_runner_code(llm_answer_t *an, const char *code);
ngx_uint_t ngx_http_llm_runner_is(ngx_http_llm_loopback_t *lb,
    const char *name, const char *value);
int64_t ngx_http_llm_runner_asked(ngx_http_llm_loopback_t *lb);


/* _end.c: the verdict is set: it goes out; and what was gathered is sent */
void ngx_http_llm_runner_verdict(ngx_http_llm_runner_task_t *task,
    ngx_http_llm_runner_op_e op);
void ngx_http_llm_runner_fail(ngx_http_llm_runner_task_t *task,
    const char *code, const char *message);
void ngx_http_llm_runner_send(void);
void ngx_http_llm_runner_drop(ngx_http_llm_runner_task_t *task);
void ngx_http_llm_runner_end_exit(void);

/* an error's object, of plain words, in memory of the pool */
ngx_int_t ngx_http_llm_runner_error(ngx_pool_t *pool, ngx_str_t *error,
    const char *code, const char *message);


/* _batch.c: a call about tasks; NULL: no memory */
ngx_http_llm_runner_batch_t *ngx_http_llm_runner_batch(
    ngx_http_llm_runner_op_e op);
ngx_int_t ngx_http_llm_runner_batch_add(ngx_http_llm_runner_batch_t *batch,
    ngx_http_llm_runner_task_t *task);
void ngx_http_llm_runner_batch_free(ngx_http_llm_runner_batch_t *batch);


/* _beat.c */
void ngx_http_llm_runner_beats(void);


/* _look.c: how the queue stands, for the metrics of all workers */
void ngx_http_llm_runner_look(void);
void ngx_http_llm_runner_look_exit(void);


/* _archive.c: one line about a task that has ended */
void ngx_http_llm_runner_archive(ngx_http_llm_runner_task_t *task);


/* ngx_http_llm_todo.c */
void ngx_http_llm_todo_init(void);
void ngx_http_llm_todo_look(void);             /* is something due? */
void ngx_http_llm_todo_send(void);             /* what was gathered */
ngx_uint_t ngx_http_llm_todo_busy(void);
void ngx_http_llm_todo_exit(void);


#endif /* _NGX_HTTP_LLM_RUNNER_PRIVATE_H_INCLUDED_ */
