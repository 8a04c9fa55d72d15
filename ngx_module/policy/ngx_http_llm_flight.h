
/*
 * Copyright (C) the ngx-llm authors
 *
 * Requests that share one call to a provider: identical ones, a client's
 * retry and its first try, a stream and the one who takes it up again.  One
 * leads and calls; the others follow what it writes into the flight's log.
 */


#ifndef _NGX_HTTP_LLM_FLIGHT_H_INCLUDED_
#define _NGX_HTTP_LLM_FLIGHT_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* postconfiguration: the shared memory */
ngx_int_t ngx_http_llm_flight_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

ngx_int_t ngx_http_llm_flight_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);
void ngx_http_llm_flight_exit_process(void);

/* a worker is gone: what it led and followed is left */
void ngx_http_llm_flight_reaped(ngx_uint_t owner);

/* … and its letters: behind the init of Redis, before the exit of Redis */
ngx_int_t ngx_http_llm_fleet_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);
void ngx_http_llm_fleet_exit_process(void);

/* who hears letters to all that are of no purge; NULL: nobody */
extern void       (*ngx_http_llm_fleet_board)(ngx_str_t *letter, uint64_t id);

/* … and before: NGX_OK, it was for it */
extern ngx_int_t  (*ngx_http_llm_fleet_work)(ngx_str_t *letter);

/*
 * The names under which this request may be joined, or may join; to be called
 * while the body is there.
 */
void ngx_http_llm_flight_tag(ngx_http_llm_ctx_t *ctx);

/*
 * The stage.  NGX_OK: go on, leading, alone, or with an answer that was found
 * or followed; NGX_AGAIN: follows, or Redis is asked; NGX_DONE: a stream was
 * followed to its end and ctx->rc says how it went.
 */
ngx_int_t ngx_http_llm_join(ngx_http_llm_ctx_t *ctx);

/* the stage of GET /v1/streams/{id}: takes an earlier stream up again */
ngx_int_t ngx_http_llm_resume(ngx_http_llm_ctx_t *ctx);


/*
 * For the leader's attempt.  Does somebody want its bytes, beside the client?
 * Does somebody follow?  Does the call go on when the client leaves, or has
 * left?
 */
ngx_uint_t ngx_http_llm_flight_leads(ngx_http_llm_ctx_t *ctx);
ngx_uint_t ngx_http_llm_flight_shared(ngx_http_llm_ctx_t *ctx);
ngx_uint_t ngx_http_llm_flight_needed(ngx_http_llm_ctx_t *ctx);

/* the client has left: from now on ngx_http_llm_flight_needed() decides */
void ngx_http_llm_flight_abandon(ngx_http_llm_ctx_t *ctx);

/* the first event is there: what followers are told of the answer */
ngx_int_t ngx_http_llm_flight_head(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *content_type);

/* one whole event, as LLM_SSE_ bits say; flush() behind a turn's last one */
ngx_int_t ngx_http_llm_flight_event(ngx_http_llm_ctx_t *ctx, u_char *event,
    size_t len, unsigned bits);
void ngx_http_llm_flight_flush(ngx_http_llm_ctx_t *ctx);

/* the answer came whole: it is stored, and the flight is done */
void ngx_http_llm_flight_answer(ngx_http_llm_ctx_t *ctx, llm_answer_t *an);
void ngx_http_llm_flight_streamed(ngx_http_llm_ctx_t *ctx);

/* it ended with an error event: told, and not kept */
void ngx_http_llm_flight_over(ngx_http_llm_ctx_t *ctx);

/* it did not; "left": for reasons that are not the provider's */
void ngx_http_llm_flight_fail(ngx_http_llm_ctx_t *ctx, ngx_uint_t left);

/* the request's end, however it came */
void ngx_http_llm_flight_leave(ngx_http_llm_ctx_t *ctx);


/*
 * For the cache.  The lock of the fleet: the text that this leader would hold
 * it by (NGX_DECLINED: it wants none), or holds it by; the name it is about;
 * that it was given, gone to another, or given back.
 */
ngx_int_t ngx_http_llm_flight_holder(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *holder);
ngx_int_t ngx_http_llm_flight_holds(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *holder);
u_char *ngx_http_llm_flight_named(ngx_http_llm_ctx_t *ctx);
void ngx_http_llm_flight_locked(ngx_http_llm_ctx_t *ctx);
void ngx_http_llm_flight_elsewhere(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *holder);
void ngx_http_llm_flight_freed(ngx_http_llm_ctx_t *ctx);

/* gives it back now, if it is held */
void ngx_http_llm_flight_unlock(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_FLIGHT_H_INCLUDED_ */
