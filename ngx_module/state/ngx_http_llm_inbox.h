
/*
 * Copyright (C) the ngx-llm authors
 *
 * Letters between workers, also of other gateways: each worker has an inbox,
 * a capped stream in Redis that it reads on a connection of its own with a
 * command that waits (XREAD BLOCK).  Nothing is promised: a letter may be
 * lost with its Redis, or be the one too many of a full inbox.  None comes
 * twice.
 */


#ifndef _NGX_HTTP_LLM_INBOX_H_INCLUDED_
#define _NGX_HTTP_LLM_INBOX_H_INCLUDED_


#include "state/ngx_http_llm_redis.h"


#define NGX_HTTP_LLM_INBOX_NAME    16        /* hex digits */
#define NGX_HTTP_LLM_INBOX_MAX     4096      /* letters, about */
#define NGX_HTTP_LLM_INBOX_LETTER  1048576   /* bytes */


/*
 * A letter has come: its bytes are valid until the handler returns.  "board":
 * not to this worker but to all (ngx_http_llm_inbox_post_all()); "id" is its
 * number there, growing: ms since the epoch << 20 | a sequence.
 */
typedef void (*ngx_http_llm_inbox_handler_pt)(ngx_str_t *letter,
    ngx_uint_t board, uint64_t id);


/*
 * Configuration time: a second, waiting connection to the server of "url",
 * beside "rd", on which the letters are sent.  NULL: an error, logged.
 */
typedef struct ngx_http_llm_inbox_s  ngx_http_llm_inbox_t;

ngx_http_llm_inbox_t *ngx_http_llm_inbox_create(ngx_conf_t *cf,
    ngx_str_t *url, ngx_http_llm_redis_t *rd);

/*
 * A worker's life, within that of "rd": init after it, exit before it.  The
 * name of the inbox is new with each.  "up" is called each time when reading
 * (again) begins: letters may have been missed.  Handlers may send.
 */
ngx_int_t ngx_http_llm_inbox_init_process(ngx_http_llm_inbox_t *ib,
    ngx_cycle_t *cycle, ngx_http_llm_inbox_handler_pt handler,
    void (*up)(void));
void ngx_http_llm_inbox_exit_process(ngx_http_llm_inbox_t *ib);

/* this worker's inbox: NGX_HTTP_LLM_INBOX_NAME hex digits */
ngx_str_t *ngx_http_llm_inbox_name(ngx_http_llm_inbox_t *ib);

/* 1: letters are read now, so an answer would be heard */
ngx_uint_t ngx_http_llm_inbox_ready(ngx_http_llm_inbox_t *ib);

/*
 * Sends a letter in "n" pieces, copied; does not wait.  NGX_DECLINED: not
 * now (also with a megabyte still to be sent), or too long.  Letters of one
 * sender to one inbox come in order.
 */
ngx_int_t ngx_http_llm_inbox_send(ngx_http_llm_inbox_t *ib, ngx_str_t *to,
    ngx_str_t *piece, ngx_uint_t n);

/* the same to all workers of all gateways, the sender too */
ngx_int_t ngx_http_llm_inbox_post_all(ngx_http_llm_inbox_t *ib,
    ngx_str_t *piece, ngx_uint_t n);


#endif /* _NGX_HTTP_LLM_INBOX_H_INCLUDED_ */
