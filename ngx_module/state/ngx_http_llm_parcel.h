
/*
 * Copyright (C) the ngx-llm authors
 *
 * How an answer travels to Redis and back: compressed if it is long, then
 * sealed if there is a secret and it is wished for.
 */


#ifndef _NGX_HTTP_LLM_PARCEL_H_INCLUDED_
#define _NGX_HTTP_LLM_PARCEL_H_INCLUDED_


#include "state/ngx_http_llm_secret.h"


#define NGX_HTTP_LLM_PARCEL_SMALL  1024    /* not worth the trouble */


typedef enum {
    NGX_HTTP_LLM_PARCEL_OK = 0,
    NGX_HTTP_LLM_PARCEL_ALIEN,             /* not one of ours, or a later
                                              version's */
    NGX_HTTP_LLM_PARCEL_SEALED,            /* by an unknown secret, or there
                                              is none */
    NGX_HTTP_LLM_PARCEL_DAMAGED,           /* or moved, or changed */
    NGX_HTTP_LLM_PARCEL_OPEN               /* not sealed although all are */
} ngx_http_llm_parcel_e;


ngx_int_t ngx_http_llm_parcel_init_process(ngx_cycle_t *cycle);

/*
 * Packs the pieces (their sum at most 16 MB) into "out", in memory of "pool".
 * "secret" NULL: not sealed.  "about" is the key under which it will lie.
 */
ngx_int_t ngx_http_llm_parcel_pack(ngx_pool_t *pool,
    ngx_http_llm_secret_t *secret, ngx_str_t *about, ngx_str_t *piece,
    ngx_uint_t n, ngx_str_t *out);

/*
 * Unpacks into memory of "pool", never more than "max" bytes whatever the
 * parcel says.  With "sealed" set what is not sealed is not taken.  "why" is
 * set with NGX_DECLINED; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_llm_parcel_unpack(ngx_pool_t *pool,
    ngx_http_llm_secret_t *secret, ngx_uint_t sealed, ngx_str_t *about,
    ngx_str_t *in, size_t max, ngx_str_t *out, ngx_http_llm_parcel_e *why);


#endif /* _NGX_HTTP_LLM_PARCEL_H_INCLUDED_ */
