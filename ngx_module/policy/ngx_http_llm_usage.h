
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts of a gateway, and with Redis of the fleet: requests are
 * recorded here, pages and the admin API read here.
 */


#ifndef _NGX_HTTP_LLM_USAGE_H_INCLUDED_
#define _NGX_HTTP_LLM_USAGE_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_book.h"


#define NGX_HTTP_LLM_USAGE_SIZE  (16 * 1024 * 1024)   /* usage=, by default */
#define NGX_HTTP_LLM_USAGE_MIN   (1024 * 1024)


typedef struct ngx_http_llm_usage_query_s  ngx_http_llm_usage_query_t;


/* what a query came to; "rs" is good until the handler returns */

typedef struct {
    ngx_int_t                   rc;       /* NGX_OK; NGX_DECLINED: more
                                             groups than "max"; NGX_ERROR:
                                             no memory */
    llm_book_result_t          *rs;       /* by llm_book_result_sort() … */
    ngx_uint_t                  fleet;    /* 1: of all gateways */
} ngx_http_llm_usage_answer_t;

typedef void (*ngx_http_llm_usage_handler_pt)(void *data,
    ngx_http_llm_usage_answer_t *answer);


/* at configuration time: the area "NAME:usage" */
ngx_int_t ngx_http_llm_usage_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

/* a worker's life; init after the owner's and Redis' */
ngx_int_t ngx_http_llm_usage_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);
void ngx_http_llm_usage_exit_process(ngx_http_llm_main_conf_t *mcf);

/* a worker is gone: what it recorded is posted */
void ngx_http_llm_usage_reaped(ngx_http_llm_main_conf_t *mcf,
    ngx_uint_t owner);


/*
 * The end of a request of the API (once; ctx->key may be NULL: then it is not
 * recorded), when usage, cost and status are known.  Names are those of the
 * log's variables, but the model is as its provider was asked.  Of a request
 * that a provider was asked for, time in all, to the first token and in line
 * go into histograms.
 */
void ngx_http_llm_usage_record(ngx_http_llm_ctx_t *ctx, ngx_uint_t status);

/* from the relay: "ms" went by between two arrivals of a stream's events */
void ngx_http_llm_usage_between(ngx_http_llm_ctx_t *ctx, ngx_msec_t ms);


/*
 * The book, with all that was recorded posted; nothing may be kept locked for
 * longer than a slice of some 500 rows takes.
 */
llm_book_t *ngx_http_llm_usage_lock(ngx_http_llm_main_conf_t *mcf);
void ngx_http_llm_usage_unlock(ngx_http_llm_main_conf_t *mcf);

/* the same without posting: for the slices after the first */
llm_book_t *ngx_http_llm_usage_lock_next(ngx_http_llm_main_conf_t *mcf);


/*
 * Runs a query in slices and calls the handler once, from the event loop,
 * never from inside.  The query is copied; its names must stay until then.
 * "pool" is for the query's bookkeeping: if it goes before, the handler is not
 * called; the result's memory is freed when the handler returns.  "max": of
 * groups, 0: LLM_BOOK_GROUPS.  With Redis hours, days and months are of the
 * fleet, unless "own" is set or Redis does not answer.  NULL: no memory.
 */
ngx_http_llm_usage_query_t *ngx_http_llm_usage_query(
    ngx_http_llm_main_conf_t *mcf, ngx_pool_t *pool,
    const llm_book_query_t *query, ngx_uint_t max, ngx_uint_t own,
    ngx_http_llm_usage_handler_pt handler, void *data);


#endif /* _NGX_HTTP_LLM_USAGE_H_INCLUDED_ */
