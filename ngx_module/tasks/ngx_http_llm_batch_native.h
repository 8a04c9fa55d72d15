
/*
 * Copyright (C) the ngx-llm authors
 *
 * A batch that its model's provider runs: one call to it at a time, by the
 * internal listener, as the owner's key.
 */


#ifndef _NGX_HTTP_LLM_BATCH_NATIVE_H_INCLUDED_
#define _NGX_HTTP_LLM_BATCH_NATIVE_H_INCLUDED_


#include "tasks/ngx_http_llm_batch_finish.h"
#include "http/ngx_http_llm_loopback.h"


#define NGX_HTTP_LLM_NATIVE_BYTES  (16 * 1024 * 1024)   /* of an upload */


struct ngx_http_llm_batch_native_s {
    ngx_http_llm_loopback_t    *lb;          /* NULL: none under way */
    ngx_event_t                 timer;       /* keeps the lease meanwhile */
    unsigned                    answered:1;

    /* an upload that is being made */
    u_char                     *body;
    u_char                     *last;
    size_t                      size;

    /* a file that is being fetched */
    ngx_uint_t                  i;           /* 0: output, 1: errors */
    llm_lines_t                 lines;
    u_char                     *rest;        /* what the writer had no room
                                                for: rest_pos, rest_last */
    u_char                     *rest_pos;
    u_char                     *rest_last;
};


/*
 * A call that is to be made; path: behind the provider's.  start: "next" will
 * be the run's step when it has ended.  Both end the run if they fail.
 */
ngx_http_llm_loopback_t *ngx_http_llm_native_call(
    ngx_http_llm_batch_run_t *run, const char *method, ngx_str_t *path);
ngx_int_t ngx_http_llm_native_header(ngx_http_llm_batch_run_t *run,
    const char *name, ngx_str_t *value);
void ngx_http_llm_native_start(ngx_http_llm_batch_run_t *run,
    u_char *body, size_t len, ngx_http_llm_batch_pt next);

/* the call is over; its answer goes with it */
void ngx_http_llm_native_done(ngx_http_llm_batch_run_t *run);

/* the provider did not answer, or not so that it helps: later */
void ngx_http_llm_native_later(ngx_http_llm_batch_run_t *run);

/* the answer "lb" to an upload or a create that was refused for good? */
ngx_int_t ngx_http_llm_native_refused(ngx_http_llm_batch_run_t *run);

/* an id in the answer, copied; NGX_DECLINED: none that may be used */
ngx_int_t ngx_http_llm_native_id(ngx_http_llm_batch_run_t *run,
    const char *text, ngx_str_t *id);


/* the input goes to the provider */
void ngx_http_llm_native_upload(ngx_http_llm_batch_run_t *run);

/* what it wrote comes here */
void ngx_http_llm_native_fetch(ngx_http_llm_batch_run_t *run);


#endif /* _NGX_HTTP_LLM_BATCH_NATIVE_H_INCLUDED_ */
