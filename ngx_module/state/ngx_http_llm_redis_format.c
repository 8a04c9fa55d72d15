
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_redis_connection.h"


/* the command buffer that is kept, a larger one is for its command only */
#define NGX_HTTP_LLM_REDIS_BUFFER  65536


/* room for one command, valid until the next call */

u_char *
ngx_http_llm_redis_buffer(ngx_http_llm_redis_t *rd, size_t size)
{
    if (size <= rd->size && rd->size <= NGX_HTTP_LLM_REDIS_BUFFER) {
        return rd->buffer;
    }

    if (rd->buffer != NULL) {
        ngx_free(rd->buffer);
    }

    rd->size = ngx_max(size, ngx_pagesize);
    rd->buffer = ngx_alloc(rd->size, rd->log);

    if (rd->buffer == NULL) {
        rd->size = 0;
    }

    return rd->buffer;
}


size_t
ngx_http_llm_redis_args_size(ngx_uint_t argc, ngx_str_t *argv)
{
    size_t      size;
    ngx_uint_t  i;

    size = 0;

    for (i = 0; i < argc; i++) {
        size += NGX_HTTP_LLM_REDIS_HEADER + argv[i].len + sizeof(CRLF) - 1;
    }

    return size;
}


u_char *
ngx_http_llm_redis_args(u_char *p, ngx_uint_t argc, ngx_str_t *argv)
{
    ngx_uint_t  i;

    for (i = 0; i < argc; i++) {
        p = ngx_http_llm_redis_count(p, '$', argv[i].len);

        if (argv[i].len != 0) {
            p = ngx_cpymem(p, argv[i].data, argv[i].len);
        }

        *p++ = CR; *p++ = LF;
    }

    /*
     * hiredis looks at the byte behind a command of one word; there is room,
     * no number has as many digits as were counted for it
     */

    *p = '\0';

    return p;
}


/* a line of its own: ngx_sprintf() was half the price of a command */

u_char *
ngx_http_llm_redis_count(u_char *p, u_char type, size_t n)
{
    u_char  *t, temp[NGX_INT_T_LEN];

    *p++ = type;

    if (n < 10) {
        *p++ = (u_char) ('0' + n);

    } else if (n < 100) {
        *p++ = (u_char) ('0' + n / 10);
        *p++ = (u_char) ('0' + n % 10);

    } else {
        t = temp + NGX_INT_T_LEN;

        do {
            *--t = (u_char) ('0' + n % 10);
            n /= 10;
        } while (n != 0);

        p = ngx_cpymem(p, t, temp + NGX_INT_T_LEN - t);
    }

    *p++ = CR; *p++ = LF;

    return p;
}
