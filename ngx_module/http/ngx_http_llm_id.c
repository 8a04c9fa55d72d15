
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_id.h"

#include <openssl/rand.h>


#define NGX_HTTP_LLM_ID_FRONT  (sizeof("req_") - 1 + 16)


static uint64_t ngx_http_llm_id_mix(uint64_t z);


/* unique, not secret: 64 random bits of the worker and a mixed counter */

static uint64_t  ngx_http_llm_id_worker;
static uint64_t  ngx_http_llm_id_count;

/* what all ids of this worker begin with */
static u_char    ngx_http_llm_id_front[NGX_HTTP_LLM_ID_FRONT];


ngx_int_t
ngx_http_llm_id_init_process(ngx_cycle_t *cycle)
{
    uint64_t  seed[2];

    if (RAND_bytes((u_char *) seed, sizeof(seed)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    ngx_http_llm_id_worker = seed[0];
    ngx_http_llm_id_count = seed[1];

    ngx_memcpy(ngx_http_llm_id_front, "req_", 4);
    ngx_hex_dump(ngx_http_llm_id_front + 4, (u_char *) seed, 8);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_id(ngx_http_request_t *r, ngx_str_t *id)
{
    u_char            c;
    size_t            i;
    uint64_t          n;
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(r, "x-request-id", sizeof("x-request-id") - 1);

    if (h && h->value.len && h->value.len <= NGX_HTTP_LLM_ID_LEN) {

        for (i = 0; i < h->value.len; i++) {
            c = h->value.data[i];

            if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')
                  || (c >= '0' && c <= '9')
                  || c == '-' || c == '_' || c == '.'))
            {
                break;
            }
        }

        if (i == h->value.len) {
            *id = h->value;
            return NGX_OK;
        }
    }

    id->len = NGX_HTTP_LLM_ID_FRONT + 16;
    id->data = ngx_pnalloc(r->pool, id->len);
    if (id->data == NULL) {
        return NGX_ERROR;
    }

    n = ngx_http_llm_id_mix(++ngx_http_llm_id_count);

    ngx_memcpy(id->data, ngx_http_llm_id_front, NGX_HTTP_LLM_ID_FRONT);
    ngx_hex_dump(id->data + NGX_HTTP_LLM_ID_FRONT, (u_char *) &n, 8);

    return NGX_OK;
}


/* ngx_random() has 31 */

uint32_t
ngx_http_llm_random(void)
{
    return (uint32_t) (ngx_http_llm_id_mix(ngx_http_llm_id_worker
                                           + ++ngx_http_llm_id_count)
                       >> 32);
}


ngx_table_elt_t *
ngx_http_llm_header_in(ngx_http_request_t *r, const char *name, size_t len)
{
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *end;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (end = h + part->nelts; h < end; h++) {
            if (h->key.len == len
                && ngx_memcmp(h->lowcase_key, name, len) == 0)
            {
                return h;
            }
        }
    }

    return NULL;
}


ngx_table_elt_t *
ngx_http_llm_header_next(ngx_http_request_t *r, const char *name, size_t len,
    ngx_table_elt_t *last)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (last) {

                if (&h[i] == last) {
                    last = NULL;
                }

                continue;
            }

            if (h[i].key.len == len
                && ngx_memcmp(h[i].lowcase_key, name, len) == 0)
            {
                return &h[i];
            }
        }
    }

    return NULL;
}


ngx_int_t
ngx_http_llm_tries(ngx_http_request_t *r)
{
    ngx_int_t         n;
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(r, "x-stainless-retry-count",
                               sizeof("x-stainless-retry-count") - 1);
    if (h == NULL) {
        return -1;
    }

    n = ngx_atoi(h->value.data, h->value.len);

    return n == NGX_ERROR ? 0 : n;
}


/* the finalizer of SplitMix64: a bijection, so a counter never repeats */

static uint64_t
ngx_http_llm_id_mix(uint64_t z)
{
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9;
    z = (z ^ (z >> 27)) * 0x94d049bb133111eb;

    return z ^ (z >> 31);
}
