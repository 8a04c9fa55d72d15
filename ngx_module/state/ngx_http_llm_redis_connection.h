
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the Redis client share, for them alone: a server with
 * its connection and the commands on it.
 */


#ifndef _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_


#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_redis_event.h"
#include "state/ngx_http_llm_redis_url.h"


#define NGX_HTTP_LLM_REDIS_SHA1  40

/* the longest "*1\r\n" and "$1\r\n" */
#define NGX_HTTP_LLM_REDIS_HEADER  (NGX_INT_T_LEN + 3)


typedef enum {
    NGX_HTTP_LLM_REDIS_CLOSED = 0,
    NGX_HTTP_LLM_REDIS_OPENING,             /* until the server lets us in */
    NGX_HTTP_LLM_REDIS_UP
} ngx_http_llm_redis_state_e;


/* why a server is not up, in the order of what the log has to say */

typedef enum {
    NGX_HTTP_LLM_REDIS_FINE = 0,
    NGX_HTTP_LLM_REDIS_DOWN,
    NGX_HTTP_LLM_REDIS_DENIED               /* needs the operator */
} ngx_http_llm_redis_fault_e;


struct ngx_http_llm_redis_op_s {
    ngx_queue_t                     queue;  /* as sent, or free */
    ngx_http_llm_redis_t           *redis;
    ngx_http_llm_redis_handler_pt   handler;
    void                           *data;
    ngx_msec_t                      deadline;

    /* EVALSHA: what follows the script, to send it again */
    ngx_http_llm_redis_script_t    *script;
    ngx_uint_t                      argc;
    u_char                         *buffer;
    ngx_str_t                       args;

    unsigned                        expired:1;
};


struct ngx_http_llm_redis_script_s {
    ngx_str_t                       text;
    ngx_str_t                       sha1;
    u_char                          hex[NGX_HTTP_LLM_REDIS_SHA1];
};


struct ngx_http_llm_redis_s {
    ngx_http_llm_redis_options_t    options;
    ngx_http_llm_redis_stat_t       stat;
    ngx_http_llm_redis_url_t        url;
    ngx_array_t                     scripts;    /* of pointers */
    ngx_log_t                      *log;

    ngx_http_llm_redis_event_t      event;
    ngx_http_llm_redis_state_e      state;
    ngx_http_llm_redis_fault_e      fault;      /* as logged */
    ngx_uint_t                      logged;     /* classes of errors */

    ngx_event_t                     connect;    /* begin, give up, trust */
    ngx_msec_t                      backoff;
    ngx_msec_t                      probe;      /* when PING was sent */
    ngx_uint_t                      addr;
    ngx_uint_t                      tried;      /* addresses, in a row */

    ngx_event_t                     deadline;
    ngx_queue_t                     pending;
    ngx_queue_t                     free;
    ngx_uint_t                      npending;
    ngx_uint_t                      live;       /* not expired */
    ngx_uint_t                      late;       /* expired, in a row */

    u_char                         *buffer;
    size_t                          size;

    unsigned                        before:1;   /* was up before */
};


/* connection: its timer, and what its event calls */

void ngx_http_llm_redis_connect(ngx_event_t *ev);
void ngx_http_llm_redis_opened(void *data);
void ngx_http_llm_redis_closed(void *data, char *why);

/* closes, for the reason that the log may get, and begins to try again */

void ngx_http_llm_redis_down(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_fault_e fault, const char *what, const char *why);


/* command: the deadlines' timer, and the protocol's form of arguments */

void ngx_http_llm_redis_deadline(ngx_event_t *ev);

u_char *ngx_http_llm_redis_buffer(ngx_http_llm_redis_t *rd, size_t size);
size_t ngx_http_llm_redis_args_size(ngx_uint_t argc, ngx_str_t *argv);
u_char *ngx_http_llm_redis_args(u_char *p, ngx_uint_t argc, ngx_str_t *argv);


/* reply */

void ngx_http_llm_redis_view(ngx_http_llm_redis_reply_t *reply,
    redisReply *r);
void ngx_http_llm_redis_error(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_reply_t *reply);


#endif /* _NGX_HTTP_LLM_REDIS_CONNECTION_H_INCLUDED_ */
