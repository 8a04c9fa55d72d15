
/*
 * Copyright (C) the ngx-llm authors
 *
 * How a batch's files are written: some lines of the input, what became of
 * them, and the line of output that is on its way.
 */


#ifndef _NGX_HTTP_LLM_BATCH_FINISH_H_INCLUDED_
#define _NGX_HTTP_LLM_BATCH_FINISH_H_INCLUDED_


#include "tasks/ngx_http_llm_batch_private.h"

#include "core/llm_answer.h"


#define NGX_HTTP_LLM_BATCH_FINISH_POOL  16384


typedef struct {
    ngx_str_t                          job;
    llm_str_t                          custom_id;
    ngx_str_t                          state;      /* empty: no such job */
    ngx_str_t                          result;     /* packed */
    ngx_str_t                          error;
} ngx_http_llm_batch_finish_line_t;


struct ngx_http_llm_batch_finish_s {
    ngx_http_llm_batch_finish_line_t   line[NGX_HTTP_LLM_QUEUE_JOBS];
    ngx_uint_t                         nlines;
    ngx_uint_t                         next;       /* to be written */
    ngx_uint_t                         nresults;   /* that are known */
    ngx_pool_t                        *temp;       /* of the lines */
    ngx_pool_t                        *results;

    ngx_pool_t                        *text;       /* of this one: */
    u_char                            *pos;        /* NULL: there is none */
    u_char                            *last;
    ngx_uint_t                         bad;        /* where it goes */

    /* output, errors */
    ngx_http_llm_blob_writer_t         file[2];
    ngx_uint_t                         opened[2];
    uint64_t                           n[2];

    uint64_t                           tokens[4];  /* input, cached, output,
                                                      reasoning */
    unsigned                           usage:1;    /* some were told */
    unsigned                           eof:1;
};


/* the line of output for one of the input: fin->pos, last, bad */
ngx_int_t ngx_http_llm_batch_finish_tell(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_batch_finish_line_t *ln);

/* what one of them used, if it is known */
void ngx_http_llm_batch_finish_used(ngx_http_llm_batch_finish_t *fin,
    llm_answer_t *an);

/* what all of them used: four numbers, with blanks between */
ngx_int_t ngx_http_llm_batch_finish_tokens(ngx_http_llm_batch_finish_t *fin,
    ngx_pool_t *pool, ngx_str_t *tokens);


/* the output (0) or the error file (1); NGX_OK, else as its writer's rc */
ngx_int_t ngx_http_llm_batch_finish_open(ngx_http_llm_batch_run_t *run,
    ngx_uint_t i);

/* both are closed: they become the batch's, which ends */
void ngx_http_llm_batch_finish_commit(ngx_http_llm_batch_run_t *run);

/* they could not be written, now or at all */
void ngx_http_llm_batch_finish_fail(ngx_http_llm_batch_run_t *run,
    ngx_int_t rc);


#endif /* _NGX_HTTP_LLM_BATCH_FINISH_H_INCLUDED_ */
