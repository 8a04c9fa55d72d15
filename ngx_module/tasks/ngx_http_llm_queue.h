
/*
 * Copyright (C) the ngx-llm authors
 *
 * The queue as C sees it: calls of queue.lua, files.lua and batches.lua, whose
 * heads tell what each operation takes and gives; ids; and how bodies and
 * results lie in Redis.
 */


#ifndef _NGX_HTTP_LLM_QUEUE_H_INCLUDED_
#define _NGX_HTTP_LLM_QUEUE_H_INCLUDED_


#include "tasks/ngx_http_llm_tasks.h"


#define NGX_HTTP_LLM_QUEUE_JOBS    200            /* of a call, at most */
#define NGX_HTTP_LLM_QUEUE_BYTES   1048576        /* … and their bodies */
#define NGX_HTTP_LLM_QUEUE_MSEC    5000           /* a call's deadline */
#define NGX_HTTP_LLM_QUEUE_TOKEN   32             /* hex digits */
#define NGX_HTTP_LLM_QUEUE_RANDOM  24             /* base62, of an id */


/* arguments of a call, in memory of a pool; their bytes are not copied */

typedef struct {
    ngx_pool_t                 *pool;
    ngx_array_t                 argv;             /* of ngx_str_t */
    size_t                      bytes;            /* their sum */
    ngx_int_t                   rc;               /* NGX_ERROR: no memory */
} ngx_http_llm_queue_call_t;


/* begins the arguments with KEYS[1] and the operation's name */
void ngx_http_llm_queue_begin(ngx_http_llm_queue_call_t *call,
    ngx_pool_t *pool, const char *op);

/* one more argument; a failure is remembered and returned by send() */
void ngx_http_llm_queue_add(ngx_http_llm_queue_call_t *call, ngx_str_t *s);
void ngx_http_llm_queue_add_text(ngx_http_llm_queue_call_t *call,
    const char *text);
void ngx_http_llm_queue_add_number(ngx_http_llm_queue_call_t *call,
    int64_t n);

/*
 * Sends it; as ngx_http_llm_redis_eval(): the handler is called exactly once,
 * later, with any reply, also TIMEOUT and GONE, unless the op is detached.
 * NULL: Redis is not usable now, or no memory.
 */
ngx_http_llm_redis_op_t *ngx_http_llm_queue_send(
    ngx_http_llm_tasks_conf_t *tcf, ngx_http_llm_queue_call_t *call,
    ngx_http_llm_redis_handler_pt handler, void *data);

/* the same for another script: tcf->files, tcf->batches */
ngx_http_llm_redis_op_t *ngx_http_llm_queue_eval(
    ngx_http_llm_tasks_conf_t *tcf, ngx_http_llm_redis_script_t *script,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_redis_handler_pt handler,
    void *data);


/* "task-", "file-" or "batch_" and 24 random base62 characters */
ngx_int_t ngx_http_llm_queue_id(ngx_pool_t *pool, const char *prefix,
    ngx_str_t *id);

/* is it such an id? else there is no need to ask for it */
ngx_uint_t ngx_http_llm_queue_is_id(ngx_str_t *id, const char *prefix);

/* NGX_HTTP_LLM_QUEUE_TOKEN random hex digits */
ngx_int_t ngx_http_llm_queue_token(u_char *token);

/*
 * How text lies in Redis (state/parcel: compressed when long, sealed when
 * llm_tasks has encrypt=on).  "about" is the id it belongs to and a letter
 * for what it is, "b" or "r", or the number of a file's chunk: a parcel that
 * was moved cannot be opened.  open(): NGX_DECLINED: it is not readable
 * here (another secret, damaged).
 */
ngx_int_t ngx_http_llm_queue_pack(ngx_http_llm_tasks_conf_t *tcf,
    ngx_pool_t *pool, ngx_str_t *id, const char *what, ngx_str_t *piece,
    ngx_uint_t n, ngx_str_t *parcel);
ngx_int_t ngx_http_llm_queue_open(ngx_http_llm_tasks_conf_t *tcf,
    ngx_pool_t *pool, ngx_str_t *id, const char *what, ngx_str_t *parcel,
    size_t max, ngx_str_t *text);


/*
 * The body of a job, field "b", before it is packed: the endpoint's path,
 * which decides what the runner asks, and the request.
 *
 *     "/v1/chat/completions\n{…}"
 */

/*
 * The result of a job, field "r", before it is packed: a head and the body of
 * the answer as the gateway gave it, of any status.
 *
 *     "STATUS REQUEST_ID\n" BODY        "200 req-9f…\n{\"id\":…"
 */
ngx_int_t ngx_http_llm_queue_result(ngx_str_t *text, ngx_uint_t *status,
    ngx_str_t *request_id, ngx_str_t *body);

/*
 * The error of a job, field "e", is a JSON object as in an error answer:
 * {"message", "type", "param", "code"}, plain in Redis, since it holds no
 * prompt; at most 1 KB.
 */


#endif /* _NGX_HTTP_LLM_QUEUE_H_INCLUDED_ */
