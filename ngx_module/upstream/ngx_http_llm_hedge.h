
/*
 * Copyright (C) the ngx-llm authors
 *
 * A second attempt at another target, when the first one is late: who has an
 * answer first gives it, the other one is left.
 */


#ifndef _NGX_HTTP_LLM_HEDGE_H_INCLUDED_
#define _NGX_HTTP_LLM_HEDGE_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/*
 * Of the two attempts that run ctx->attempt leads, and with it are
 * ctx->target, ctx->tries, ctx->call and ctx->gate.  What belongs to the other
 * one is here.
 */

struct ngx_http_llm_hedge_s {
    ngx_http_llm_attempt_t     *attempt;
    ngx_uint_t                  target;
    ngx_uint_t                  tries;
    ngx_http_llm_call_t         call;
    llm_ticket_t                gate;
    ngx_event_t                 event;       /* it may win, or is not needed */
    unsigned                    second:1;    /* the later one leads */
    unsigned                    counted:1;
};


/* an attempt has started: sets ctx->hedge_at */
void ngx_http_llm_hedge_plan(ngx_http_llm_ctx_t *ctx);

/* the time has come */
void ngx_http_llm_hedge_start(ngx_http_llm_ctx_t *ctx);

/* does another attempt lead?  then this one sends nothing */
ngx_uint_t ngx_http_llm_hedge_behind(ngx_http_llm_attempt_t *at);

/*
 * It has an answer to give but does not lead: the reader's buffers wait, not
 * read, until it does, or has lost.
 */
ngx_int_t ngx_http_llm_hedge_park(ngx_http_llm_attempt_t *at,
    ngx_chain_t *in);

/* from inside a filter: ctx->attempt gives the answer, or nobody wants two */
void ngx_http_llm_hedge_settled(ngx_http_llm_ctx_t *ctx);

/* not from a filter: the other attempt is left, if there is one */
void ngx_http_llm_hedge_drop(ngx_http_llm_ctx_t *ctx);

/*
 * ctx->attempt has failed: NGX_OK, the other one goes on instead;
 * NGX_DECLINED: there is none.
 */
ngx_int_t ngx_http_llm_hedge_next(ngx_http_llm_ctx_t *ctx);

/* the other one has ended first: it is ctx->attempt now, to be judged */
ngx_int_t ngx_http_llm_hedge_ended(ngx_http_llm_ctx_t *ctx);

/* … and "good" or not; if not, the first one is ctx->attempt again */
void ngx_http_llm_hedge_judged(ngx_http_llm_ctx_t *ctx, ngx_uint_t good);

/* ctx->attempt has ended: nothing holds the client's connection but main */
void ngx_http_llm_hedge_clear(ngx_http_llm_ctx_t *ctx);

/* … and how, if it was the later one that led */
void ngx_http_llm_hedge_count(ngx_http_llm_ctx_t *ctx, ngx_uint_t good);

/* the request's cleanup */
void ngx_http_llm_hedge_cleanup(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_HEDGE_H_INCLUDED_ */
