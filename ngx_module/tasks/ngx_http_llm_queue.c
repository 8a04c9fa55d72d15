
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_queue.h"
#include "tasks/ngx_http_llm_tasks_private.h"
#include "state/ngx_http_llm_parcel.h"

#include <openssl/rand.h>


/* arguments that a call has room for at first, and bytes drawn by lot */

#define NGX_HTTP_LLM_QUEUE_ARGS   32
#define NGX_HTTP_LLM_QUEUE_DRAWN  512

/* the largest multiple of 62 in a byte: above it the dice are loaded */

#define NGX_HTTP_LLM_QUEUE_FAIR   248


static ngx_int_t ngx_http_llm_queue_draw(u_char *byte);
static ngx_int_t ngx_http_llm_queue_about(ngx_pool_t *pool, ngx_str_t *id,
    const char *what, ngx_str_t *about);


ngx_http_llm_secret_t  *ngx_http_llm_queue_secret;


/* random bytes of this process, fetched many at a time */

static u_char     ngx_http_llm_queue_drawn[NGX_HTTP_LLM_QUEUE_DRAWN];
static size_t     ngx_http_llm_queue_left;
static ngx_pid_t  ngx_http_llm_queue_drawer;


void
ngx_http_llm_queue_begin(ngx_http_llm_queue_call_t *call, ngx_pool_t *pool,
    const char *op)
{
    call->pool = pool;
    call->bytes = 0;
    call->rc = ngx_array_init(&call->argv, pool, NGX_HTTP_LLM_QUEUE_ARGS,
                              sizeof(ngx_str_t));

    ngx_http_llm_queue_add_text(call, NGX_HTTP_LLM_TASKS_PREFIX);
    ngx_http_llm_queue_add_text(call, op);
}


void
ngx_http_llm_queue_add(ngx_http_llm_queue_call_t *call, ngx_str_t *s)
{
    ngx_str_t  *arg;

    if (call->rc != NGX_OK) {
        return;
    }

    arg = ngx_array_push(&call->argv);

    if (arg == NULL) {
        call->rc = NGX_ERROR;
        return;
    }

    *arg = *s;
    call->bytes += s->len;
}


void
ngx_http_llm_queue_add_text(ngx_http_llm_queue_call_t *call, const char *text)
{
    ngx_str_t  s;

    s.data = (u_char *) text;
    s.len = ngx_strlen(text);

    ngx_http_llm_queue_add(call, &s);
}


void
ngx_http_llm_queue_add_number(ngx_http_llm_queue_call_t *call, int64_t n)
{
    ngx_str_t  s;

    if (call->rc != NGX_OK) {
        return;
    }

    s.data = ngx_pnalloc(call->pool, NGX_INT64_LEN);

    if (s.data == NULL) {
        call->rc = NGX_ERROR;
        return;
    }

    s.len = ngx_sprintf(s.data, "%L", n) - s.data;

    ngx_http_llm_queue_add(call, &s);
}


ngx_http_llm_redis_op_t *
ngx_http_llm_queue_send(ngx_http_llm_tasks_conf_t *tcf,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_redis_handler_pt handler,
    void *data)
{
    return ngx_http_llm_queue_eval(tcf, tcf->queue, call, handler, data);
}


ngx_http_llm_redis_op_t *
ngx_http_llm_queue_eval(ngx_http_llm_tasks_conf_t *tcf,
    ngx_http_llm_redis_script_t *script, ngx_http_llm_queue_call_t *call,
    ngx_http_llm_redis_handler_pt handler, void *data)
{
    if (tcf->redis == NULL || call->rc != NGX_OK) {
        return NULL;
    }

    return ngx_http_llm_redis_eval(tcf->redis, script, 1, call->argv.nelts,
                                   call->argv.elts, NGX_HTTP_LLM_QUEUE_MSEC,
                                   handler, data);
}


static ngx_int_t
ngx_http_llm_queue_draw(u_char *byte)
{
    /* what a process has drawn is not its child's too */

    if (ngx_http_llm_queue_left == 0
        || ngx_http_llm_queue_drawer != ngx_pid)
    {
        if (RAND_bytes(ngx_http_llm_queue_drawn, NGX_HTTP_LLM_QUEUE_DRAWN)
            != 1)
        {
            ngx_http_llm_queue_left = 0;
            ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, 0,
                          "RAND_bytes() failed");
            return NGX_ERROR;
        }

        ngx_http_llm_queue_left = NGX_HTTP_LLM_QUEUE_DRAWN;
        ngx_http_llm_queue_drawer = ngx_pid;
    }

    *byte = ngx_http_llm_queue_drawn[--ngx_http_llm_queue_left];

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_queue_id(ngx_pool_t *pool, const char *prefix, ngx_str_t *id)
{
    u_char    *p, c;
    size_t     len;
    uint32_t   n;

    static u_char  digits[] = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ"
                              "abcdefghijklmnopqrstuvwxyz";

    len = ngx_strlen(prefix);

    id->len = len + NGX_HTTP_LLM_QUEUE_RANDOM;
    id->data = ngx_pnalloc(pool, id->len);
    if (id->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(id->data, prefix, len);

    for (n = 0; n < NGX_HTTP_LLM_QUEUE_RANDOM; /* void */ ) {

        if (ngx_http_llm_queue_draw(&c) != NGX_OK) {
            return NGX_ERROR;
        }

        if (c < NGX_HTTP_LLM_QUEUE_FAIR) {
            *p++ = digits[c % 62];
            n++;
        }
    }

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_queue_is_id(ngx_str_t *id, const char *prefix)
{
    u_char  c;
    size_t  i, len;

    len = ngx_strlen(prefix);

    if (id->len != len + NGX_HTTP_LLM_QUEUE_RANDOM
        || ngx_strncmp(id->data, prefix, len) != 0)
    {
        return 0;
    }

    for (i = len; i < id->len; i++) {
        c = id->data[i];

        if (!((c >= '0' && c <= '9') || (c >= 'A' && c <= 'Z')
              || (c >= 'a' && c <= 'z')))
        {
            return 0;
        }
    }

    return 1;
}


ngx_int_t
ngx_http_llm_queue_token(u_char *token)
{
    u_char      random[NGX_HTTP_LLM_QUEUE_TOKEN / 2];
    ngx_uint_t  i;

    for (i = 0; i < sizeof(random); i++) {
        if (ngx_http_llm_queue_draw(&random[i]) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_hex_dump(token, random, sizeof(random));

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_queue_pack(ngx_http_llm_tasks_conf_t *tcf, ngx_pool_t *pool,
    ngx_str_t *id, const char *what, ngx_str_t *piece, ngx_uint_t n,
    ngx_str_t *parcel)
{
    ngx_str_t  about;

    if (ngx_http_llm_queue_about(pool, id, what, &about) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_parcel_pack(pool, tcf->seal, &about, piece, n,
                                    parcel);
}


ngx_int_t
ngx_http_llm_queue_open(ngx_http_llm_tasks_conf_t *tcf, ngx_pool_t *pool,
    ngx_str_t *id, const char *what, ngx_str_t *parcel, size_t max,
    ngx_str_t *text)
{
    ngx_str_t              about;
    ngx_http_llm_parcel_e  why;

    if (ngx_http_llm_queue_about(pool, id, what, &about) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_parcel_unpack(pool, ngx_http_llm_queue_secret,
                                      tcf->seal != NULL, &about, parcel, max,
                                      text, &why);
}


static ngx_int_t
ngx_http_llm_queue_about(ngx_pool_t *pool, ngx_str_t *id, const char *what,
    ngx_str_t *about)
{
    u_char  *p;

    about->len = id->len + 1 + ngx_strlen(what);

    p = ngx_pnalloc(pool, about->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    about->data = p;

    p = ngx_cpymem(p, id->data, id->len);
    *p++ = ':';
    ngx_memcpy(p, what, about->len - id->len - 1);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_queue_result(ngx_str_t *text, ngx_uint_t *status,
    ngx_str_t *request_id, ngx_str_t *body)
{
    u_char     *p, *last;
    ngx_int_t   n;

    last = ngx_strlchr(text->data, text->data + text->len, LF);
    if (last == NULL) {
        return NGX_ERROR;
    }

    p = ngx_strlchr(text->data, last, ' ');
    if (p == NULL) {
        return NGX_ERROR;
    }

    n = ngx_atoi(text->data, p - text->data);
    if (n == NGX_ERROR || n > 999) {
        return NGX_ERROR;
    }

    *status = n;

    request_id->data = p + 1;
    request_id->len = last - request_id->data;

    body->data = last + 1;
    body->len = text->data + text->len - body->data;

    return NGX_OK;
}
