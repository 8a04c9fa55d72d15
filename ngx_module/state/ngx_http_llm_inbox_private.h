
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of the inbox share, for them alone.
 */


#ifndef _NGX_HTTP_LLM_INBOX_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_INBOX_PRIVATE_H_INCLUDED_


#include "state/ngx_http_llm_inbox.h"


#define NGX_HTTP_LLM_INBOX_KEY      "{llm}:i:"
#define NGX_HTTP_LLM_INBOX_BOARD    "{llm}:board"
#define NGX_HTTP_LLM_INBOX_PREFIX   (sizeof(NGX_HTTP_LLM_INBOX_KEY) - 1)

/* letters of a stream in one reply */
#define NGX_HTTP_LLM_INBOX_COUNT    256


/* what is asked next */

typedef enum {
    NGX_HTTP_LLM_INBOX_NEWEST_OWN = 0,
    NGX_HTTP_LLM_INBOX_NEWEST_BOARD,
    NGX_HTTP_LLM_INBOX_READ
} ngx_http_llm_inbox_step_e;


typedef struct {
    ngx_str_t                        key;
    ngx_str_t                        expire;   /* ms */
    ngx_str_t                        max;      /* letters */

    /* the last letter that was read */
    uint64_t                         ms;
    uint64_t                         seq;
} ngx_http_llm_inbox_stream_t;


struct ngx_http_llm_inbox_s {
    ngx_http_llm_redis_t            *redis;
    ngx_http_llm_redis_t            *reader;
    ngx_log_t                       *log;

    ngx_http_llm_inbox_handler_pt    handler;
    void                           (*up)(void);

    ngx_http_llm_inbox_stream_t      own;
    ngx_http_llm_inbox_stream_t      board;
    ngx_str_t                        name;
    u_char                           text[NGX_HTTP_LLM_INBOX_PREFIX
                                          + NGX_HTTP_LLM_INBOX_NAME];

    ngx_http_llm_inbox_step_e        step;
    ngx_http_llm_redis_op_t         *op;       /* on its way */
    ngx_event_t                      timer;
    ngx_uint_t                       count;
    ngx_msec_t                       asked;
    ngx_msec_t                       renewed;

    u_char                          *buffer;
    size_t                           size;

    unsigned                         seen:1;   /* the board, once */
    unsigned                         reading:1;
};


/* hands over what a read has found; returns how many letters */
ngx_uint_t ngx_http_llm_inbox_streams(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply);

/* an entry's number becomes the last one of the stream; NGX_ERROR: none */
ngx_int_t ngx_http_llm_inbox_id(ngx_http_llm_redis_reply_t *entry,
    ngx_http_llm_inbox_stream_t *st);


#endif /* _NGX_HTTP_LLM_INBOX_PRIVATE_H_INCLUDED_ */
