
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of POST /api/tasks.
 */


#ifndef _NGX_HTTP_LLM_TASKS_SUBMIT_H_INCLUDED_
#define _NGX_HTTP_LLM_TASKS_SUBMIT_H_INCLUDED_


#include "tasks/ngx_http_llm_tasks_api_private.h"

#include <openssl/evp.h>


#define NGX_HTTP_LLM_TASKS_SLICE     (256 * 1024)  /* bytes of a turn */
#define NGX_HTTP_LLM_TASKS_BODY      1048576       /* of one task */
#define NGX_HTTP_LLM_TASKS_ID_LEN    29            /* "task-" … */
#define NGX_HTTP_LLM_TASKS_DIGITS    4             /* … and at its end */
#define NGX_HTTP_LLM_TASKS_HEX       64            /* a SHA-256 */
#define NGX_HTTP_LLM_TASKS_KEY       255           /* Idempotency-Key */


struct ngx_http_llm_tasks_submit_s {
    llm_tasks_t                   ts;
    llm_tasks_t                   begin;      /* in front of the first task */
    llm_tasks_error_t             err;
    llm_arena_t                   arena;

    /* of all tasks: they differ in their last digits */
    u_char                        base[NGX_HTTP_LLM_TASKS_ID_LEN];

    /* Idempotency-Key; name.len 0: there is none */
    ngx_str_t                     name;
    ngx_str_t                     value;
    u_char                        digest[NGX_HTTP_LLM_TASKS_HEX];
    EVP_MD_CTX                   *md;
    size_t                        hashed;

    /* the call that is made up or on its way */
    ngx_pool_t                   *pool;
    ngx_http_llm_queue_call_t     call;
    ngx_uint_t                    filled;
    size_t                        bytes;
    llm_tasks_item_t              item;       /* had no room in the last */
    llm_tasks_t                   mark;       /* as it was before this call */
    llm_tasks_item_t              mark_item;

    ngx_str_t                     text;       /* memory for one body */
    ngx_uint_t                    sent;       /* tasks that Redis has */
    ngx_msec_t                    failed;     /* since, if failing is set */
    ngx_str_t                     found;      /* the value of before */
    int64_t                       limit;      /* of a full queue */
    int64_t                       live;

    unsigned                      has_item:1;
    unsigned                      mark_has_item:1;
    unsigned                      check:1;
    unsigned                      failing:1;
    unsigned                      tried:1;    /* some call went out */
    unsigned                      repeated:1;
    unsigned                      done:1;
    unsigned                      team_full:1;
};


/* SHA-256 of what "update" is called with */
ngx_int_t ngx_http_llm_tasks_digest(ngx_http_llm_tasks_submit_t *sb,
    u_char *hex);

/* the id of task "i": all can be told from the first one's */
void ngx_http_llm_tasks_submit_id(ngx_http_llm_tasks_submit_t *sb,
    ngx_uint_t i, u_char *id);

/* Idempotency-Key; NGX_OK also if there is none */
ngx_int_t ngx_http_llm_tasks_idem(ngx_http_llm_tasks_api_t *api);

/* the body is read on: a part of it for each turn */
ngx_int_t ngx_http_llm_tasks_idem_update(ngx_http_llm_tasks_submit_t *sb,
    ngx_str_t *body);

/* makes the value; the body has been read */
ngx_int_t ngx_http_llm_tasks_idem_value(ngx_http_llm_tasks_api_t *api);

/*
 * What was found: NGX_OK, and its ids are ours; NGX_DECLINED: it is of
 * another body
 */
ngx_int_t ngx_http_llm_tasks_idem_same(ngx_http_llm_tasks_submit_t *sb);

/* sends the tasks, call by call; then the answer */
ngx_int_t ngx_http_llm_tasks_fill(ngx_http_llm_tasks_api_t *api);


#endif /* _NGX_HTTP_LLM_TASKS_SUBMIT_H_INCLUDED_ */
