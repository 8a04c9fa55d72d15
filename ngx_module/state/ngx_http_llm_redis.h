
/*
 * Copyright (C) the ngx-llm authors
 *
 * Redis for a worker: one connection per configured server, kept up in the
 * background, commands of one turn of the event loop in one write.  A server
 * that is down, frozen or full costs its callers nothing but the answer "not
 * now": nothing here waits, retries a caller's command or knows of requests.
 */


#ifndef _NGX_HTTP_LLM_REDIS_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>


typedef struct ngx_http_llm_redis_s         ngx_http_llm_redis_t;
typedef struct ngx_http_llm_redis_op_s      ngx_http_llm_redis_op_t;
typedef struct ngx_http_llm_redis_script_s  ngx_http_llm_redis_script_t;


/* may be changed until the end of the configuration */

typedef struct {
    ngx_msec_t                  timeout;          /* of a command: 50 */
    ngx_msec_t                  connect_timeout;  /* with AUTH etc.: 1000 */
    ngx_uint_t                  max_pending;      /* commands: 10000 */
    size_t                      max_unsent;       /* bytes: 64M */
    size_t                      max_offer;        /* unsent before it: 1M */
    size_t                      max_reply;        /* bytes: 64M */

    /*
     * A client for commands that wait in the server, beside another client
     * of the same server: it connects while that one is connected, leaves
     * the breaker to it, and the log hears of it what it alone has met.  A
     * command that is late ends its connection; none keeps a worker that
     * quits.  NULL: not of this kind.
     */
    ngx_http_llm_redis_t       *beside;

    /* called, from the event loop, whenever commands are taken again */
    void                      (*up)(void *data);
    void                       *data;
} ngx_http_llm_redis_options_t;


typedef enum {
    NGX_HTTP_LLM_REDIS_NIL = 0,
    NGX_HTTP_LLM_REDIS_STATUS,          /* str */
    NGX_HTTP_LLM_REDIS_STRING,          /* str */
    NGX_HTTP_LLM_REDIS_INTEGER,         /* integer */
    NGX_HTTP_LLM_REDIS_ARRAY,           /* nelts */
    NGX_HTTP_LLM_REDIS_ERROR,           /* str, error */
    NGX_HTTP_LLM_REDIS_TIMEOUT,         /* no reply in time; it may have run */
    NGX_HTTP_LLM_REDIS_GONE             /* connection lost; it may have run */
} ngx_http_llm_redis_type_e;


typedef enum {
    NGX_HTTP_LLM_REDIS_ERR_NOSCRIPT = 0,
    NGX_HTTP_LLM_REDIS_ERR_LOADING,
    NGX_HTTP_LLM_REDIS_ERR_READONLY,
    NGX_HTTP_LLM_REDIS_ERR_OOM,
    NGX_HTTP_LLM_REDIS_ERR_MISCONF,
    NGX_HTTP_LLM_REDIS_ERR_BUSY,
    NGX_HTTP_LLM_REDIS_ERR_NOAUTH,      /* WRONGPASS and NOPERM too */
    NGX_HTTP_LLM_REDIS_ERR_MASTERDOWN,
    NGX_HTTP_LLM_REDIS_ERR_CLUSTERDOWN,
    NGX_HTTP_LLM_REDIS_ERR_TRYAGAIN,
    NGX_HTTP_LLM_REDIS_ERR_MOVED,
    NGX_HTTP_LLM_REDIS_ERR_CLUSTER,     /* ASK, CROSSSLOT */
    NGX_HTTP_LLM_REDIS_ERR_OTHER,
    NGX_HTTP_LLM_REDIS_ERRORS
} ngx_http_llm_redis_error_e;


/* valid, with all it points to, only until the handler returns */

typedef struct {
    ngx_http_llm_redis_type_e   type;
    ngx_http_llm_redis_error_e  error;
    ngx_str_t                   str;
    int64_t                     integer;
    ngx_uint_t                  nelts;
    void                       *elts;             /* private */
} ngx_http_llm_redis_reply_t;


typedef void (*ngx_http_llm_redis_handler_pt)(void *data,
    ngx_http_llm_redis_reply_t *reply);


/* of this worker, since its start */

typedef struct {
    uint64_t                    commands;         /* accepted */
    uint64_t                    replies;          /* late ones too */
    uint64_t                    refused;          /* not usable, too much */
    uint64_t                    timeouts;
    uint64_t                    gone;
    uint64_t                    reconnects;       /* after the first time */
    uint64_t                    resent;           /* EVALSHA as EVAL */
    uint64_t                    moved;            /* sent to another node */
    uint64_t                    errors[NGX_HTTP_LLM_REDIS_ERRORS];
} ngx_http_llm_redis_stat_t;


/*
 * What the workers know together of a server, in shared memory, all zero at
 * first: that it does not answer, who may ask next, what the log has said.
 */

typedef struct {
    ngx_atomic_t                down;             /* since, ms; 0: it is not */
    ngx_atomic_t                probe;            /* not before, ms */
    ngx_atomic_t                pause;            /* ms between two */
    ngx_atomic_t                fault;            /* the log knows of */
    ngx_atomic_t                minute;           /* of the log, and */
    ngx_atomic_t                lines;            /* what it got in this one */
    ngx_atomic_t                beside;           /* fault of those beside */
} ngx_http_llm_redis_shared_t;


/* "noscript", "loading", ...: the classes of errors as metrics name them */
extern ngx_str_t  ngx_http_llm_redis_errors[NGX_HTTP_LLM_REDIS_ERRORS];


/*
 * Configuration time, inside http{}.  NULL: an error, already logged, never
 * with the password.  Names are resolved here; all their addresses are tried
 * in turn.  If http{} has a resolver, it looks them up again every 30 s and
 * after a connection that failed; without one they stay.
 */

ngx_http_llm_redis_t *ngx_http_llm_redis_create(ngx_conf_t *cf,
    ngx_str_t *url);

ngx_http_llm_redis_options_t *ngx_http_llm_redis_options(
    ngx_http_llm_redis_t *rd);

/* the text is not copied; it is loaded into the server at every connect */

ngx_http_llm_redis_script_t *ngx_http_llm_redis_script(
    ngx_http_llm_redis_t *rd, ngx_str_t *lua);


/*
 * Before a worker's init: "sh" is for this server alone and outlives the
 * worker.  A server that does not answer one worker is then left alone by
 * all; one of them asks it again, from time to time.  Without it each worker
 * finds out for itself.
 */

void ngx_http_llm_redis_share(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_shared_t *sh);


/*
 * A worker's life.  init connects in the background and does nothing in
 * processes that are no workers.  After exit no handler is called any more,
 * what could not be sent by then is lost.
 */

ngx_int_t ngx_http_llm_redis_init_process(ngx_http_llm_redis_t *rd,
    ngx_cycle_t *cycle);

void ngx_http_llm_redis_exit_process(ngx_http_llm_redis_t *rd);


/*
 * Sends a command, binary safe, its bytes copied.  "timeout" 0: the default.
 * NULL: not usable now, go on without it; the handler will not be called.
 * Else the handler is called exactly once, later, from the event loop.  It may
 * be NULL: nobody is interested in the reply, it is but counted.
 *
 * The op belongs to the client and ends when its handler returns, or, if
 * detached, at any time after that: do not use it afterwards.
 *
 * Commands share the connection: none that subscribes or monitors, and none
 * that waits unless the client is for these (options.beside).
 */

ngx_http_llm_redis_op_t *ngx_http_llm_redis_command(ngx_http_llm_redis_t *rd,
    ngx_uint_t argc, ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data);

/*
 * The same for what nobody waits for, with the default timeout.  It may be
 * forbidden to us: that ends no connection, unlike with a command.  NGX_OK:
 * it will be sent; NGX_DECLINED: not now, or commands would have to wait for
 * what has been offered before.
 */

ngx_int_t ngx_http_llm_redis_offer(ngx_http_llm_redis_t *rd,
    ngx_uint_t argc, ngx_str_t *argv);

/*
 * EVALSHA with the script's "nkeys" keys and then its arguments in argv; if
 * the server does not know the script, it is sent once more as EVAL.
 *
 * In a cluster the keys of all scripts stand under one hash tag: the client
 * is connected to the node that has it and follows when it moves.  A command
 * for another slot may be answered with the error "moved".
 */

ngx_http_llm_redis_op_t *ngx_http_llm_redis_eval(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_script_t *script, ngx_uint_t nkeys, ngx_uint_t argc,
    ngx_str_t *argv, ngx_msec_t timeout,
    ngx_http_llm_redis_handler_pt handler, void *data);

/*
 * What was sent is on its way when this returns, and not only at the end of
 * the turn: whoever hears from us after that finds it in Redis.
 */

void ngx_http_llm_redis_flush(ngx_http_llm_redis_t *rd);

/*
 * The caller goes: its handler will not be called.  The command itself has
 * been sent and runs.  To be called at most until the handler has returned.
 */

void ngx_http_llm_redis_detach(ngx_http_llm_redis_op_t *op);

/* NGX_OK and a view of the element; NGX_DECLINED: there is none */

ngx_int_t ngx_http_llm_redis_element(ngx_http_llm_redis_reply_t *reply,
    ngx_uint_t i, ngx_http_llm_redis_reply_t *element);


/* 1: commands are accepted now */
ngx_uint_t ngx_http_llm_redis_connected(ngx_http_llm_redis_t *rd);

/* 1: the worker's first connection is on its way, and nothing has failed */
ngx_uint_t ngx_http_llm_redis_begins(ngx_http_llm_redis_t *rd);

/* the URL without users and passwords */
ngx_str_t *ngx_http_llm_redis_name(ngx_http_llm_redis_t *rd);

ngx_http_llm_redis_stat_t *ngx_http_llm_redis_stat(ngx_http_llm_redis_t *rd);


#endif /* _NGX_HTTP_LLM_REDIS_H_INCLUDED_ */
