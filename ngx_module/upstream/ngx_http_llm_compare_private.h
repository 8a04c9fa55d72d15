
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_COMPARE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_COMPARE_PRIVATE_H_INCLUDED_


#include "http/ngx_http_llm_loopback.h"
#include "upstream/ngx_http_llm_compare.h"


#define NGX_HTTP_LLM_COMPARE_MODELS  16
#define NGX_HTTP_LLM_COMPARE_EDITS   2


/* instead of bytes of the body: a text, and behind it the leg's model */

typedef struct {
    size_t                      start;
    size_t                      end;
    ngx_str_t                   text;
    ngx_uint_t                  model;
} ngx_http_llm_compare_edit_t;


typedef struct {
    ngx_http_llm_loopback_t    *call;        /* NULL: its answer was taken */
    ngx_str_t                   model;       /* as written, with quotes */
    ngx_str_t                   id;
    ngx_str_t                   idempotency;
    ngx_str_t                   provider;    /* empty: none */
    ngx_str_t                   body;
    ngx_uint_t                  status;
    ngx_msec_t                  took;
} ngx_http_llm_compare_leg_t;


typedef struct {
    ngx_http_llm_ctx_t         *ctx;
    ngx_str_t                   left;        /* ms, as a number */
    ngx_uint_t                  pending;
    ngx_uint_t                  nedits;
    ngx_http_llm_compare_edit_t edit[NGX_HTTP_LLM_COMPARE_EDITS];
    ngx_uint_t                  n;
    ngx_http_llm_compare_leg_t  leg[NGX_HTTP_LLM_COMPARE_MODELS];
} ngx_http_llm_compare_t;


/*
 * Finds the models in ctx->body and what makes a leg's body of it.  NGX_OK,
 * or the status of the error that is in ctx->error.
 */
ngx_int_t ngx_http_llm_compare_parse(ngx_http_llm_compare_t *cp);

/* the body of a leg, in buffers of the pool; NULL: no memory */
ngx_chain_t *ngx_http_llm_compare_body(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg, ngx_pool_t *pool, size_t *len);

/* what the leg said; one that has not ended is late */
ngx_int_t ngx_http_llm_compare_told(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg);

/* ctx->answer, of what all legs said */
ngx_int_t ngx_http_llm_compare_answer(ngx_http_llm_compare_t *cp);


#endif /* _NGX_HTTP_LLM_COMPARE_PRIVATE_H_INCLUDED_ */
