
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_inbox_private.h"


/* ms between two renewals of this worker's own key */
#define NGX_HTTP_LLM_INBOX_RENEW    20000

/* letters of so many bytes in a reply are deleted once they are read */
#define NGX_HTTP_LLM_INBOX_LARGE    16384

/* the buffer that is kept, a larger one is for its letter only */
#define NGX_HTTP_LLM_INBOX_BUFFER   131072


static ngx_uint_t ngx_http_llm_inbox_letters(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st, ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_inbox_tidy(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply, size_t size);
static ngx_int_t ngx_http_llm_inbox_add(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st, ngx_str_t *piece, ngx_uint_t n);
static ngx_int_t ngx_http_llm_inbox_join(ngx_http_llm_inbox_t *ib,
    ngx_str_t *letter, ngx_str_t *piece, ngx_uint_t n);
static void ngx_http_llm_inbox_expire(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st);


/* [[key, [[id, [name, letter]], ...]], ...]; returns how many were read */

ngx_uint_t
ngx_http_llm_inbox_streams(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                    i, n;
    ngx_http_llm_redis_reply_t    stream, key, letters;
    ngx_http_llm_inbox_stream_t  *st;

    n = 0;

    for (i = 0; ngx_http_llm_redis_element(reply, i, &stream) == NGX_OK; i++) {

        if (ngx_http_llm_redis_element(&stream, 0, &key) != NGX_OK
            || ngx_http_llm_redis_element(&stream, 1, &letters) != NGX_OK)
        {
            continue;
        }

        if (key.str.len == ib->own.key.len
            && ngx_memcmp(key.str.data, ib->own.key.data, key.str.len) == 0)
        {
            st = &ib->own;

        } else {
            st = &ib->board;
        }

        n += ngx_http_llm_inbox_letters(ib, st, &letters);
    }

    return n;
}


static ngx_uint_t
ngx_http_llm_inbox_letters(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st, ngx_http_llm_redis_reply_t *reply)
{
    size_t                      size;
    uint64_t                    id;
    ngx_uint_t                  i, n;
    ngx_http_llm_redis_reply_t  entry, fields, letter;

    n = 0;
    size = 0;

    for (i = 0; ngx_http_llm_redis_element(reply, i, &entry) == NGX_OK; i++) {

        if (ngx_http_llm_inbox_id(&entry, st) != NGX_OK) {
            continue;
        }

        n++;

        if (ngx_http_llm_redis_element(&entry, 1, &fields) != NGX_OK
            || ngx_http_llm_redis_element(&fields, 1, &letter) != NGX_OK
            || letter.type != NGX_HTTP_LLM_REDIS_STRING)
        {
            continue;
        }

        size += letter.str.len;
        id = (st->ms << 20) | (st->seq & 0xfffff);

        ib->handler(&letter.str, st == &ib->board, id);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_EVENT, ib->log, 0,
                   "llm inbox %V: %ui letters of %V", &ib->name, n, &st->key);

    if (st == &ib->own && n != 0) {
        ngx_http_llm_inbox_tidy(ib, reply, size);
    }

    return n;
}


/*
 * Large letters leave the server's memory at once, small ones when as many
 * others have come or the key expires.
 */

static void
ngx_http_llm_inbox_tidy(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply, size_t size)
{
    ngx_str_t                   argv[2 + NGX_HTTP_LLM_INBOX_COUNT];
    ngx_uint_t                  i, n;
    ngx_http_llm_redis_reply_t  entry, id;

    if (ib->renewed == 0
        || ngx_current_msec - ib->renewed >= NGX_HTTP_LLM_INBOX_RENEW)
    {
        ib->renewed = ngx_current_msec;
        ngx_http_llm_inbox_expire(ib, &ib->own);
    }

    if (size < NGX_HTTP_LLM_INBOX_LARGE) {
        return;
    }

    ngx_str_set(&argv[0], "XDEL");
    argv[1] = ib->own.key;
    n = 2;

    for (i = 0; n < 2 + NGX_HTTP_LLM_INBOX_COUNT; i++) {

        if (ngx_http_llm_redis_element(reply, i, &entry) != NGX_OK) {
            break;
        }

        if (ngx_http_llm_redis_element(&entry, 0, &id) == NGX_OK) {
            argv[n++] = id.str;
        }
    }

    (void) ngx_http_llm_redis_offer(ib->redis, n, argv);
}


/* an entry's number, "ms-sequence", becomes the last one of the stream */

ngx_int_t
ngx_http_llm_inbox_id(ngx_http_llm_redis_reply_t *entry,
    ngx_http_llm_inbox_stream_t *st)
{
    u_char                      *p, *last;
    uint64_t                     n[2];
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   id;

    if (ngx_http_llm_redis_element(entry, 0, &id) != NGX_OK
        || id.type != NGX_HTTP_LLM_REDIS_STRING)
    {
        return NGX_ERROR;
    }

    i = 0;
    n[0] = 0;
    n[1] = 0;

    last = id.str.data + id.str.len;

    for (p = id.str.data; p < last; p++) {

        if (*p >= '0' && *p <= '9') {
            n[i] = n[i] * 10 + (*p - '0');

        } else if (*p == '-' && i == 0) {
            i = 1;

        } else {
            return NGX_ERROR;
        }
    }

    st->ms = n[0];
    st->seq = n[1];

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_inbox_send(ngx_http_llm_inbox_t *ib, ngx_str_t *to,
    ngx_str_t *piece, ngx_uint_t n)
{
    u_char                       key[sizeof(ib->text)];
    ngx_http_llm_inbox_stream_t  st;

    if (to->len != NGX_HTTP_LLM_INBOX_NAME) {
        return NGX_DECLINED;
    }

    st = ib->own;
    st.key.data = key;

    ngx_memcpy(ngx_cpymem(key, NGX_HTTP_LLM_INBOX_KEY,
                          NGX_HTTP_LLM_INBOX_PREFIX),
               to->data, to->len);

    return ngx_http_llm_inbox_add(ib, &st, piece, n);
}


ngx_int_t
ngx_http_llm_inbox_post_all(ngx_http_llm_inbox_t *ib, ngx_str_t *piece,
    ngx_uint_t n)
{
    return ngx_http_llm_inbox_add(ib, &ib->board, piece, n);
}


static ngx_int_t
ngx_http_llm_inbox_add(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st, ngx_str_t *piece, ngx_uint_t n)
{
    ngx_int_t  rc;
    ngx_str_t  argv[8];

    if (ib->log == NULL
        || !ngx_http_llm_redis_connected(ib->redis)
        || ngx_http_llm_inbox_join(ib, &argv[7], piece, n) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    ngx_str_set(&argv[0], "XADD");
    argv[1] = st->key;
    ngx_str_set(&argv[2], "MAXLEN");
    ngx_str_set(&argv[3], "~");
    argv[4] = st->max;
    ngx_str_set(&argv[5], "*");
    ngx_str_set(&argv[6], "l");

    rc = ngx_http_llm_redis_offer(ib->redis, 8, argv);

    if (rc == NGX_OK) {
        ngx_http_llm_inbox_expire(ib, st);
    }

    if (ib->size > NGX_HTTP_LLM_INBOX_BUFFER) {
        ngx_free(ib->buffer);
        ib->buffer = NULL;
        ib->size = 0;
    }

    return rc;
}


/* valid until the next letter */

static ngx_int_t
ngx_http_llm_inbox_join(ngx_http_llm_inbox_t *ib, ngx_str_t *letter,
    ngx_str_t *piece, ngx_uint_t n)
{
    u_char      *p;
    size_t       len;
    ngx_uint_t   i;

    len = 0;

    for (i = 0; i < n; i++) {
        len += piece[i].len;
    }

    if (len > NGX_HTTP_LLM_INBOX_LETTER) {
        return NGX_DECLINED;
    }

    if (n == 1) {
        *letter = piece[0];
        return NGX_OK;
    }

    if (len > ib->size) {

        if (ib->buffer != NULL) {
            ngx_free(ib->buffer);
        }

        ib->size = ngx_max(len, ngx_pagesize);
        ib->buffer = ngx_alloc(ib->size, ib->log);

        if (ib->buffer == NULL) {
            ib->size = 0;
            return NGX_DECLINED;
        }
    }

    p = ib->buffer;

    for (i = 0; i < n; i++) {

        if (piece[i].len != 0) {
            p = ngx_cpymem(p, piece[i].data, piece[i].len);
        }
    }

    letter->data = ib->buffer;
    letter->len = len;

    return NGX_OK;
}


static void
ngx_http_llm_inbox_expire(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st)
{
    ngx_str_t  argv[3];

    ngx_str_set(&argv[0], "PEXPIRE");
    argv[1] = st->key;
    argv[2] = st->expire;

    (void) ngx_http_llm_redis_offer(ib->redis, 3, argv);
}
