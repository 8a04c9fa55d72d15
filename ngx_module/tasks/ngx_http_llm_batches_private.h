
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_BATCHES_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_BATCHES_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_batch_private.h"
#include "http/ngx_http_llm_reply.h"


/* a request of /v1/batches */

typedef struct {
    ngx_http_llm_ctx_t          *ctx;
    ngx_http_llm_tasks_conf_t   *tcf;
    ngx_str_t                    team;
    ngx_str_t                    id;         /* of the URI, or a new one */
    ngx_str_t                    after;
    ngx_uint_t                   limit;

    /* what waits, and what continues with its outcome in rc */
    ngx_http_llm_redis_op_t     *op;
    ngx_http_llm_blob_reader_t   reader;
    unsigned                     pending:1;
    unsigned                     finding:1;
    ngx_int_t                  (*next)(void *batches);
    ngx_int_t                    rc;

    /* what a client asks for */
    ngx_str_t                    input;
    ngx_str_t                    endpoint;
    ngx_str_t                    metadata;
    int64_t                      keep;       /* s, 0: not told */

    /* what came */
    ngx_array_t                  found;      /* of ngx_http_llm_batch_t */
    ngx_str_t                    was;        /* a status */
    unsigned                     more:1;
    unsigned                     full:1;
} ngx_http_llm_batches_t;


/* the body of POST /v1/batches; NGX_OK, NGX_ERROR or a status */
ngx_int_t ngx_http_llm_batches_parse(ngx_http_llm_batches_t *bs);

/* an error about a parameter; the message is copied, "%V" is "s" if given */
ngx_int_t ngx_http_llm_batches_bad(ngx_http_llm_batches_t *bs,
    ngx_uint_t status, const char *code, const char *param,
    const char *message, ngx_str_t *s);


#endif /* _NGX_HTTP_LLM_BATCHES_PRIVATE_H_INCLUDED_ */
