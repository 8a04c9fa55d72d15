
/*
 * Copyright (C) the ngx-llm authors
 *
 * A hiredis connection on nginx's event loop, for the Redis client alone.
 */


#ifndef _NGX_HTTP_LLM_REDIS_EVENT_H_INCLUDED_
#define _NGX_HTTP_LLM_REDIS_EVENT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_event.h>

#include <hiredis/hiredis.h>
#include <hiredis/async.h>


typedef struct {
    redisAsyncContext          *ac;               /* NULL: closed */
    ngx_connection_t           *connection;
    ngx_log_t                  *log;
    void                       *data;

    void                      (*opened)(void *data);
    void                      (*closed)(void *data, char *why);

    size_t                      max_unsent;
    size_t                      max_reply;
    size_t                      reply_size;       /* of the one being read */

    /* why hiredis was made to close, if not by itself */
    char                       *why;
    char                        text[128];

    unsigned                    connected:1;
    unsigned                    flushing:1;
    unsigned                    closing:1;
} ngx_http_llm_redis_event_t;


/*
 * NGX_OK: on its way.  opened() follows, or closed(), with every callback of
 * a pending command called before with no reply.  NGX_ERROR: closed, "text"
 * says why.
 */
ngx_int_t ngx_http_llm_redis_event_open(ngx_http_llm_redis_event_t *ev,
    ngx_addr_t *addr);

/* callbacks of pending commands are called, closed() is not */
void ngx_http_llm_redis_event_close(ngx_http_llm_redis_event_t *ev);

/* a command in the protocol's form; calls no callback */
ngx_int_t ngx_http_llm_redis_event_send(ngx_http_llm_redis_event_t *ev,
    redisCallbackFn *fn, void *data, u_char *command, size_t len);

/* bytes */
size_t ngx_http_llm_redis_event_unsent(ngx_http_llm_redis_event_t *ev);

/* reads once if there is something to read now: NGX_OK, else NGX_AGAIN */
ngx_int_t ngx_http_llm_redis_event_drain(ngx_http_llm_redis_event_t *ev);

/* tries to write at once what would have been written in this turn */
void ngx_http_llm_redis_event_flush(ngx_http_llm_redis_event_t *ev);

/*
 * Blocks the process, for a worker that exits: writes what is to be written,
 * and reads once, after at most "msec".  NGX_ERROR: closed, or nothing came.
 */
ngx_int_t ngx_http_llm_redis_event_wait(ngx_http_llm_redis_event_t *ev,
    ngx_msec_t msec);


#endif /* _NGX_HTTP_LLM_REDIS_EVENT_H_INCLUDED_ */
