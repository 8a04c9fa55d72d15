
/*
 * Copyright (C) the ngx-llm authors
 *
 * One attempt: one subrequest to a provider's internal location.
 */


#ifndef _NGX_HTTP_LLM_ATTEMPT_H_INCLUDED_
#define _NGX_HTTP_LLM_ATTEMPT_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_sse.h"


/* what the relay does with the body that comes in */

typedef enum {
    NGX_HTTP_LLM_RELAY_HOLD = 0,     /* keep it whole */
    NGX_HTTP_LLM_RELAY_EVENTS,       /* keep it until the first event */
    NGX_HTTP_LLM_RELAY_STREAM,       /* committed: event by event */
    NGX_HTTP_LLM_RELAY_PASS,         /* committed: as it comes */
    NGX_HTTP_LLM_RELAY_DROP          /* nobody wants it any more */
} ngx_http_llm_relay_e;


struct ngx_http_llm_attempt_s {
    ngx_http_llm_target_t      *target;

    ngx_http_request_body_t    *body;        /* as this target gets it */
    off_t                       body_len;
    ngx_http_llm_target_t      *body_for;
    int64_t                     body_clamp;

    ngx_list_t                  headers;     /* without what is ours alone */
    ngx_table_elt_t            *traceparent; /* … of them, or NULL */
    ngx_http_llm_span_call_t   *span;        /* NULL: not sampled */

    ngx_msec_t                  start;
    ngx_int_t                   rc;
    ngx_uint_t                  status;      /* 0: no header came */
    int64_t                     asked;       /* ms the provider asks us to
                                                wait, -1 */
    ngx_msec_int_t              first_ms;    /* to the first byte, -1 */
    llm_target_limit_t          told_requests;
    llm_target_limit_t          told_tokens;

    u_char                     *hold;
    size_t                      hold_size;
    size_t                      hold_max;

    size_t                      spare_size;
    llm_usage_t                 usage;
    llm_sse_stamp_t            *stamp;       /* of a response */
    ngx_buf_t                  *final;       /* the end of a cut stream */
    ngx_event_t                 cancel;      /* posted by the filters */

    /* what each event of a stream looks at, side by side: see _ahead() */

    llm_sse_text_t              text;
    ngx_http_upstream_handler_pt  read;      /* nginx's own */
    ngx_http_llm_ctx_t         *ctx;
    ngx_http_request_t         *sr;
    ngx_http_post_subrequest_t  ps;
    ngx_msec_t                  last_event;  /* when */
    size_t                      held;
    size_t                      scan;        /* of the event in hold */
    size_t                      text_bytes;  /* generated, of a stream */
    u_char                     *spare;       /* to read events into, NULL */
    ngx_chain_t                *free;
    ngx_chain_t                *busy;
    ngx_chain_t                *parked;      /* until it leads: the reader's */
    ngx_http_llm_relay_e        relay;

    unsigned                    running:1;
    unsigned                    done:1;
    unsigned                    last:1;      /* the body ended as framed */
    unsigned                    stream:1;
    unsigned                    finish:1;    /* a finish_reason was seen */
    unsigned                    terminal:1;  /* the last event was seen */
    unsigned                    error_event:1;
    unsigned                    cut:1;       /* we ended it, rightly */
    unsigned                    skip_lf:1;   /* of a line end taken out */
    unsigned                    overflow:1;  /* hold_max was not enough */
    unsigned                    timedout:1;
    unsigned                    silent:1;    /* … between events */
    unsigned                    hurried:1;   /* … by the client's wish */
    unsigned                    told:1;      /* of the provider's limits */
    unsigned                    sent:1;      /* its header is the client's */
    unsigned                    connected:1;
    unsigned                    filled:1;    /* spare was too small */
};


/*
 * Starts the attempt at ctx->target.  When its subrequest has ended, core
 * calls main's write handler, which resumes the line.
 */
ngx_int_t ngx_http_llm_attempt_start(ngx_http_llm_ctx_t *ctx);

/* the two halves of it; NULL: no memory */
ngx_http_llm_attempt_t *ngx_http_llm_attempt_create(ngx_http_llm_ctx_t *ctx);
ngx_int_t ngx_http_llm_attempt_launch(ngx_http_llm_attempt_t *at,
    ngx_uint_t target);

/*
 * Ends it before its time: from a timer or a posted event, never from inside
 * a filter.  The line is resumed as if it had ended by itself.
 */
void ngx_http_llm_attempt_cancel(ngx_http_llm_ctx_t *ctx);

/* the same with one of two that run */
void ngx_http_llm_attempt_stop(ngx_http_llm_attempt_t *at);

/*
 * Of two that run the first holds the client's connection.  When it has ended
 * the other one gets it; if that has ended, too, it is let go at last.
 */
void ngx_http_llm_attempt_succeed(ngx_http_llm_attempt_t *at);

/* nothing has been read of its answer yet */
void ngx_http_llm_attempt_unread(ngx_http_llm_attempt_t *at);

/*
 * Gives the client's body back once no other attempt can follow, unless the
 * provider is still being sent it: ctx->body is empty then.
 */
ngx_int_t ngx_http_llm_attempt_forget(ngx_http_llm_attempt_t *at);

/*
 * A provider's header needs a large buffer, the events of a stream that
 * trickles do not.  At the commit, before main gets the attempt's headers:
 * main's own list is spare memory from there on, to read events into.
 */
void ngx_http_llm_attempt_spare(ngx_http_llm_attempt_t *at);

/*
 * Between two reads, never from inside a filter: the large buffer gives way
 * to the spare memory, or is back once a read has filled that.
 */
void ngx_http_llm_attempt_buffer(ngx_http_llm_attempt_t *at);

/* the attempt that this subrequest is, or NULL */
ngx_http_llm_attempt_t *ngx_http_llm_attempt(ngx_http_request_t *r);

/* has the client of this request closed its connection? */
ngx_uint_t ngx_http_llm_attempt_client_gone(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_ATTEMPT_H_INCLUDED_ */
