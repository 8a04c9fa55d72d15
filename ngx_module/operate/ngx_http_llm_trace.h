
/*
 * Copyright (C) the ngx-llm authors
 *
 * Traces: whose part a request is, and its spans for a collector.  Without
 * llm_trace all of this does nothing, and what came passes on as it is.
 */


#ifndef _NGX_HTTP_LLM_TRACE_H_INCLUDED_
#define _NGX_HTTP_LLM_TRACE_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "state/ngx_http_llm_count.h"


/* llm_trace uri=/prefix/ [sample=RATIO] [batch=N] [interval=TIME] [queue=N]
   [service=NAME] */
char *ngx_http_llm_trace_slot(ngx_conf_t *cf, ngx_command_t *cmd,
    void *conf);

/* at postconfiguration: is there a location that leads to the collector? */
ngx_int_t ngx_http_llm_trace_check(ngx_conf_t *cf);

/* a worker's queue of spans; at a graceful end it is sent once more */
ngx_int_t ngx_http_llm_trace_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle);
void ngx_http_llm_trace_exit_process(void);


/* a request begins: ctx->trace and ctx->spans */
void ngx_http_llm_trace_begin(ngx_http_llm_ctx_t *ctx);

/* is a header of the client's replaced by our own, or no use without it? */
ngx_uint_t ngx_http_llm_trace_hidden(ngx_http_llm_ctx_t *ctx,
    ngx_table_elt_t *h);

/*
 * The value of traceparent for a call that this request makes; its span is
 * "id", NULL: the request's own.  NGX_DECLINED: there is none.
 */
ngx_int_t ngx_http_llm_trace_parent(ngx_http_llm_ctx_t *ctx,
    const u_char *id, ngx_str_t *value);

/* an attempt begins, with a span of its own; and it is over */
ngx_int_t ngx_http_llm_trace_call(ngx_http_llm_attempt_t *at);
void ngx_http_llm_trace_called(ngx_http_llm_attempt_t *at,
    ngx_http_llm_attempt_e result);

/* the request is over, with this status */
void ngx_http_llm_trace_end(ngx_http_llm_ctx_t *ctx, ngx_uint_t status);


/*
 * What the internal listener answers to /v1/traces: it leads on to the
 * collector's location.  NGX_DECLINED: there is no such thing for this
 * client.
 */
ngx_int_t ngx_http_llm_trace_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_TRACE_H_INCLUDED_ */
