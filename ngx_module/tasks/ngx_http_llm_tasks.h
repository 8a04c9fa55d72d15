
/*
 * Copyright (C) the ngx-llm authors
 *
 * Tasks: prompts that are sent now and fetched later, batches of them, and
 * the files that batches are made of.  This is what all of tasks/ shares:
 * the configuration and a worker's life.
 */


#ifndef _NGX_HTTP_LLM_TASKS_H_INCLUDED_
#define _NGX_HTTP_LLM_TASKS_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "state/ngx_http_llm_redis.h"


/* all keys of tasks, files and batches in Redis begin with it */
#define NGX_HTTP_LLM_TASKS_PREFIX   "{llm}:t:"


/*
 * One per configuration, there even with "llm_tasks off" (then on is 0); in
 * http{}.  Times are ms unless they are of type time_t (s).
 */

struct ngx_http_llm_tasks_conf_s {
    ngx_flag_t                    on;
    ngx_http_llm_redis_t         *redis;      /* a client of its own beside
                                                 the limits'; NULL: no Redis,
                                                 everything answers 503 */
    ngx_http_llm_redis_script_t  *queue;      /* queue.lua */
    ngx_http_llm_redis_script_t  *files;      /* files.lua */
    ngx_http_llm_redis_script_t  *batches;    /* batches.lua */
    ngx_http_llm_secret_t        *seal;       /* NULL: bodies lie as they are,
                                                 else encrypt=on */
    ngx_uint_t                    run;        /* runners here at all; 1 */

    /* the queue */
    ngx_uint_t                    max;        /* live tasks, 100000 */
    ngx_uint_t                    team_max;   /* … of one team, 60000 */
    ngx_uint_t                    window;     /* of a team, 64 */
    ngx_uint_t                    in_flight;  /* of this gateway, 64 */
    ngx_msec_t                    lease;      /* 20000; beats each quarter */
    ngx_uint_t                    deaths;     /* poison above, 3 */
    ngx_uint_t                    tries;      /* 8 */
    ngx_msec_t                    backoff;    /* base of the pause, 2000 */
    ngx_msec_t                    backoff_max;     /* 60000 */
    ngx_msec_t                    timeout;    /* of one task's call, 600000 */
    time_t                        deadline;   /* from its submission, 24 h */
    time_t                        keep;       /* error, cancelled: 24 h */
    time_t                        results;    /* completed: 7 d */
    size_t                        result_max; /* bytes, 4m */
    ngx_str_t                     model;      /* of prompts without one */

    ngx_msec_t                    poll;       /* a provider's batch, at first;
                                                 15000, grows fourfold */

    /* files */
    size_t                        file_max;   /* 200m */
    off_t                         file_quota; /* of a team, 2g */
    time_t                        file_ttl;   /* 30 d */

    /* elsewhere */
    ngx_array_t                  *webhooks;   /* of ngx_str_t: hosts that may
                                                 be called, NULL: none */
    ngx_str_t                     webhook_secret;  /* bytes of the HMAC key */
    ngx_open_file_t              *archive;    /* NULL: none */
};


/* the configuration of a request's http block; never NULL */
ngx_http_llm_tasks_conf_t *ngx_http_llm_tasks_conf(
    ngx_http_llm_main_conf_t *mcf);

/* at the start of http{} */
ngx_http_llm_tasks_conf_t *ngx_http_llm_tasks_create_conf(ngx_conf_t *cf);

/* llm_tasks on|off name=value … */
char *ngx_http_llm_tasks_set(ngx_conf_t *cf, ngx_command_t *cmd, void *conf);

/* at the end of http{}: defaults, the Redis client, the scripts */
ngx_int_t ngx_http_llm_tasks_init_conf(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

/* a worker's life; exit hands back what it holds */
ngx_int_t ngx_http_llm_tasks_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf);
void ngx_http_llm_tasks_exit_process(ngx_http_llm_main_conf_t *mcf);


/*
 * Who shares and owns tasks, files and batches: the key's team, or "~NAME" of
 * a key without one.  In the request's pool.
 */
ngx_int_t ngx_http_llm_tasks_team(ngx_http_llm_ctx_t *ctx, ngx_str_t *team);

/* what a request began with: the data of its cleanup "handler", or NULL */
void *ngx_http_llm_tasks_begun(ngx_http_llm_ctx_t *ctx,
    ngx_http_cleanup_pt handler);

/*
 * For the head of each endpoint: NGX_OK, or an error in ctx->error (its
 * status is returned): 404 without llm_tasks or llm_internal, 503
 * "tasks_unavailable" without Redis or while it does not answer.  NGX_AGAIN:
 * the worker's first connection is on its way; the stage is run again.
 */
ngx_int_t ngx_http_llm_tasks_ready(ngx_http_llm_ctx_t *ctx);

/* 503 "tasks_unavailable": Redis said no, or nothing; for replies */
ngx_int_t ngx_http_llm_tasks_unavailable(ngx_http_llm_ctx_t *ctx);


/*
 * Stages: those of /api/tasks, of /v1/files and of /v1/batches.  Each looks
 * at ctx->request->uri and method itself.  "files" stands in front of the
 * stage that reads the body and reads the body of an upload by itself.
 */
ngx_int_t ngx_http_llm_tasks_stage(ngx_http_llm_ctx_t *ctx);
ngx_int_t ngx_http_llm_files_stage(ngx_http_llm_ctx_t *ctx);
ngx_int_t ngx_http_llm_batches_stage(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_TASKS_H_INCLUDED_ */
