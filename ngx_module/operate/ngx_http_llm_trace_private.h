
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_TRACE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_TRACE_PRIVATE_H_INCLUDED_


#include "operate/ngx_http_llm_trace.h"


/* where batches go on the internal listener */

#define NGX_HTTP_LLM_TRACE_URI  "/v1/traces"


struct ngx_http_llm_trace_conf_s {
    ngx_str_t                   uri;         /* as given */
    ngx_str_t                   to;          /* … and where to, in all */
    ngx_str_t                   ratio;
    ngx_uint_t                  sample;      /* millionths */
    ngx_uint_t                  batch;       /* spans */
    ngx_uint_t                  queue;
    ngx_msec_t                  interval;
    ngx_str_t                   service;
    u_char                     *file;        /* where it was configured */
    ngx_uint_t                  line;
};


/* an attempt of a request that is sampled */

struct ngx_http_llm_span_call_s {
    ngx_http_llm_span_call_t   *next;
    ngx_http_llm_target_t      *target;
    u_char                      id[LLM_SPAN_ID_LEN];
    ngx_msec_t                  start;
    ngx_msec_t                  end;
    ngx_msec_int_t              first_ms;    /* -1: nothing came */
    ngx_uint_t                  number;
    ngx_uint_t                  status;
    ngx_http_llm_attempt_e      result;
    ngx_str_t                   peer;
    llm_usage_t                 usage;
    unsigned                    stream:1;
    unsigned                    ended:1;
};


struct ngx_http_llm_spans_s {
    ngx_http_llm_span_call_t   *first;
    ngx_http_llm_span_call_t  **last;
    ngx_uint_t                  n;
};


/* a span's JSON, into the worker's queue; or it is dropped */
void ngx_http_llm_trace_push(u_char *p, size_t len);

/* one that could not even be written */
void ngx_http_llm_trace_drop(ngx_uint_t n);


#endif /* _NGX_HTTP_LLM_TRACE_PRIVATE_H_INCLUDED_ */
