
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of flights.
 */


#ifndef _NGX_HTTP_LLM_FLIGHT_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_FLIGHT_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_flight.h"
#include "state/ngx_http_llm_area.h"
#include "state/ngx_http_llm_inbox.h"

#include "core/llm_flight.h"


/* the names of a flight, in the order in which they are looked for */

#define NGX_HTTP_LLM_FLIGHT_EQUAL    0     /* equal requests, of this shape */
#define NGX_HTTP_LLM_FLIGHT_STREAM   1     /* a stream, for who wants none */
#define NGX_HTTP_LLM_FLIGHT_OWN      2     /* this client's, and its retries */
#define NGX_HTTP_LLM_FLIGHT_ID       3     /* x-request-id: to be resumed */

/* what a head tells of an answer: three texts behind their lengths */

#define NGX_HTTP_LLM_FLIGHT_HEAD     1024

/* "inbox:gateway:number" */

#define NGX_HTTP_LLM_FLIGHT_GATEWAY  16
#define NGX_HTTP_LLM_FLIGHT_HOLDER   (NGX_HTTP_LLM_INBOX_NAME + 1            \
                                      + NGX_HTTP_LLM_FLIGHT_GATEWAY + 1      \
                                      + NGX_INT64_LEN)


/* what one request, or this worker for others, has to do with a flight */

struct ngx_http_llm_flight_s {
    ngx_http_llm_ctx_t         *ctx;         /* NULL: no request's */
    void                      (*news)(ngx_http_llm_flight_t *f);
    llm_flight_id_t             id;          /* 0: not in the table */
    llm_flight_limits_t         limits;
    u_char                      name[4][LLM_FLIGHT_NAME];
    unsigned                    lead;        /* the names it leads by */
    unsigned                    follow;      /* … and may follow */

    /* a leader's: all events so far, and where each ends */
    u_char                     *tee;
    size_t                      len;
    size_t                      size;
    uint32_t                   *ends;
    ngx_uint_t                  events;
    ngx_uint_t                  max_events;
    ngx_uint_t                  published;   /* events */
    ngx_str_t                   type;

    /* … and the fleet's lock */
    u_char                      holder[NGX_HTTP_LLM_FLIGHT_HOLDER];
    size_t                      holder_len;
    ngx_str_t                   elsewhere;
    ngx_queue_t                 queue;       /* of those that hold it */
    ngx_msec_t                  renewed;

    /* a follower's */
    u_char                     *head;
    size_t                      head_len;
    u_char                     *body;        /* that is put together */
    size_t                      body_len;
    size_t                      body_size;
    ngx_buf_t                  *buf;         /* on its way to the client */
    ngx_chain_t                 out;
    ngx_uint_t                  skip;        /* events the client has */

    unsigned                    leader:1;
    unsigned                    shared:1;    /* somebody follows */
    unsigned                    headed:1;    /* the log has its head */
    unsigned                    spilled:1;   /* too long to be kept */
    unsigned                    lost:1;      /* the log took no more */
    unsigned                    locked:1;
    unsigned                    equal:1;     /* leads those that are equal */
    unsigned                    tagged:1;    /* the client retries */
    unsigned                    resumable:1;
    unsigned                    resumes:1;
    unsigned                    abandoned:1; /* by the client */
    unsigned                    streams:1;   /* the answer is a stream */
    unsigned                    terminal:1;  /* its last event is there */
};


#define NGX_HTTP_LLM_FLIGHT_USAGE  0x80000000u      /* in "ends" */


extern ngx_http_llm_main_conf_t  *ngx_http_llm_flight_conf;


/* joins or leads by the names of ctx->flight; NGX_AGAIN: follows */
ngx_int_t ngx_http_llm_flight_enter(ngx_http_llm_flight_t *f,
    unsigned follow, unsigned lead);

/* what the leader wrote down, into the log that others read */
void ngx_http_llm_flight_publish(ngx_http_llm_flight_t *f);

/* the end of a leader's part: an llm_flight_state_e, and kept until */
void ngx_http_llm_flight_end(ngx_http_llm_flight_t *f, ngx_uint_t state,
    ngx_msec_t keep);

/* a follower goes */
void ngx_http_llm_flight_quit(ngx_http_llm_flight_t *f);

/* what the head says, into ctx->entry and f->type */
ngx_int_t ngx_http_llm_flight_tell(ngx_http_llm_flight_t *f);

/*
 * NGX_DECLINED: the flight is no more and nothing of it has been sent: the
 * request has to find its own way; ctx->alone: without following again.
 */
ngx_int_t ngx_http_llm_follow(ngx_http_llm_ctx_t *ctx);


/* lets this worker lead here what f->elsewhere leads there */
ngx_int_t ngx_http_llm_fleet_follow(ngx_http_llm_ctx_t *ctx);

void ngx_http_llm_fleet_hold(ngx_http_llm_flight_t *f);
void ngx_http_llm_fleet_let_go(ngx_http_llm_flight_t *f);


#endif /* _NGX_HTTP_LLM_FLIGHT_PRIVATE_H_INCLUDED_ */
