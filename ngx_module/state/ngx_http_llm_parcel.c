
/*
 * Copyright (C) the ngx-llm authors
 *
 * A parcel:
 *
 *     2  "LP"
 *     1  version
 *     1  flags
 *     4  length of what is packed, little endian
 *     …  sealed: what a seal makes of it (ngx_http_llm_secret_seal.c)
 *        open: 8 bytes of checksum, the contents
 *
 * The contents are what is packed, or one zstd frame of it.  Seal and
 * checksum cover the first eight bytes and "about", too.
 */


#include "state/ngx_http_llm_parcel.h"

#include "core/llm_sum.h"

#include <zstd.h>


#define NGX_HTTP_LLM_PARCEL_VERSION     2
#define NGX_HTTP_LLM_PARCEL_HEAD        8
#define NGX_HTTP_LLM_PARCEL_SUM         8
#define NGX_HTTP_LLM_PARCEL_MAX         (16 * 1024 * 1024)
#define NGX_HTTP_LLM_PARCEL_LEVEL       1

#define NGX_HTTP_LLM_PARCEL_COMPRESSED  0x01
#define NGX_HTTP_LLM_PARCEL_IS_SEALED   0x02


static ngx_int_t ngx_http_llm_parcel_join(ngx_pool_t *pool, ngx_str_t *piece,
    ngx_uint_t n, ngx_str_t *plain);
static ngx_int_t ngx_http_llm_parcel_compress(ngx_pool_t *pool,
    ngx_str_t *plain, ngx_str_t *in);
static u_char *ngx_http_llm_parcel_head(u_char *p, ngx_uint_t flags,
    size_t len);
static u_char *ngx_http_llm_parcel_close(ngx_pool_t *pool,
    ngx_http_llm_secret_t *secret, ngx_str_t *about, ngx_str_t *in,
    u_char *head, u_char *p);
static ngx_int_t ngx_http_llm_parcel_about(ngx_pool_t *pool, u_char *head,
    ngx_str_t *about, ngx_str_t *both);
static void ngx_http_llm_parcel_sum(u_char *head, ngx_str_t *about,
    ngx_str_t *in, u_char *sum);
static ngx_int_t ngx_http_llm_parcel_check(u_char *head,
    ngx_http_llm_secret_t *secret, ngx_uint_t sealed, ngx_str_t *in,
    size_t max, ngx_http_llm_parcel_e *why);
static ngx_int_t ngx_http_llm_parcel_open(ngx_pool_t *pool,
    ngx_http_llm_secret_t *secret, ngx_str_t *about, ngx_str_t *in,
    ngx_str_t *content, ngx_http_llm_parcel_e *why);
static ngx_int_t ngx_http_llm_parcel_expand(ngx_pool_t *pool, u_char *head,
    ngx_str_t *content, ngx_str_t *out, ngx_http_llm_parcel_e *why);
static size_t ngx_http_llm_parcel_size(u_char *head);


static ZSTD_CCtx  *ngx_http_llm_parcel_cctx;
static ZSTD_DCtx  *ngx_http_llm_parcel_dctx;


ngx_int_t
ngx_http_llm_parcel_init_process(ngx_cycle_t *cycle)
{
    if (ngx_http_llm_parcel_cctx == NULL) {
        ngx_http_llm_parcel_cctx = ZSTD_createCCtx();
        ngx_http_llm_parcel_dctx = ZSTD_createDCtx();
    }

    /* the length is in the parcel's head */

    if (ngx_http_llm_parcel_cctx == NULL
        || ngx_http_llm_parcel_dctx == NULL
        || ZSTD_isError(ZSTD_CCtx_setParameter(ngx_http_llm_parcel_cctx,
                                               ZSTD_c_compressionLevel,
                                               NGX_HTTP_LLM_PARCEL_LEVEL))
        || ZSTD_isError(ZSTD_CCtx_setParameter(ngx_http_llm_parcel_cctx,
                                               ZSTD_c_contentSizeFlag, 0)))
    {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                      "zstd cannot be made ready");
        return NGX_ERROR;
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_parcel_pack(ngx_pool_t *pool, ngx_http_llm_secret_t *secret,
    ngx_str_t *about, ngx_str_t *piece, ngx_uint_t n, ngx_str_t *out)
{
    u_char     *p;
    ngx_int_t   rc;
    ngx_str_t   plain, in;

    if (ngx_http_llm_parcel_join(pool, piece, n, &plain) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_parcel_compress(pool, &plain, &in);
    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    p = ngx_pnalloc(pool, NGX_HTTP_LLM_PARCEL_HEAD + in.len
                          + NGX_HTTP_LLM_SEAL_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    out->data = p;

    p = ngx_http_llm_parcel_head(p,
            (rc == NGX_OK ? NGX_HTTP_LLM_PARCEL_COMPRESSED : 0)
            | (secret != NULL ? NGX_HTTP_LLM_PARCEL_IS_SEALED : 0),
            plain.len);

    p = ngx_http_llm_parcel_close(pool, secret, about, &in, out->data, p);
    if (p == NULL) {
        return NGX_ERROR;
    }

    out->len = p - out->data;

    /* large ones need not stay until the request's end */

    if (rc == NGX_OK) {
        (void) ngx_pfree(pool, in.data);
    }

    if (n > 1) {
        (void) ngx_pfree(pool, plain.data);
    }

    ngx_log_debug2(NGX_LOG_DEBUG_CORE, pool->log, 0,
                   "llm parcel: %uz bytes packed into %uz", plain.len,
                   out->len);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_parcel_join(ngx_pool_t *pool, ngx_str_t *piece, ngx_uint_t n,
    ngx_str_t *plain)
{
    u_char      *p;
    size_t       len;
    ngx_uint_t   i;

    len = 0;

    for (i = 0; i < n; i++) {
        if (piece[i].len > NGX_HTTP_LLM_PARCEL_MAX - len) {
            return NGX_ERROR;
        }

        len += piece[i].len;
    }

    if (n == 1 && len != 0) {
        *plain = piece[0];
        return NGX_OK;
    }

    p = ngx_pnalloc(pool, len + 1);
    if (p == NULL) {
        return NGX_ERROR;
    }

    plain->data = p;
    plain->len = len;

    for (i = 0; i < n; i++) {
        if (piece[i].len != 0) {
            p = ngx_cpymem(p, piece[i].data, piece[i].len);
        }
    }

    return NGX_OK;
}


/* NGX_DECLINED: "in" is the plain bytes, as compressed it would be no less */

static ngx_int_t
ngx_http_llm_parcel_compress(ngx_pool_t *pool, ngx_str_t *plain,
    ngx_str_t *in)
{
    size_t   rc;
    u_char  *p;

    *in = *plain;

    if (plain->len <= NGX_HTTP_LLM_PARCEL_SMALL) {
        return NGX_DECLINED;
    }

    p = ngx_pnalloc(pool, plain->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    rc = ZSTD_compress2(ngx_http_llm_parcel_cctx, p, plain->len - 1,
                        plain->data, plain->len);

    if (ZSTD_isError(rc)) {
        (void) ngx_pfree(pool, p);
        return NGX_DECLINED;
    }

    in->data = p;
    in->len = rc;

    return NGX_OK;
}


static u_char *
ngx_http_llm_parcel_head(u_char *p, ngx_uint_t flags, size_t len)
{
    *p++ = 'L';
    *p++ = 'P';
    *p++ = NGX_HTTP_LLM_PARCEL_VERSION;
    *p++ = (u_char) flags;
    *p++ = (u_char) len;
    *p++ = (u_char) (len >> 8);
    *p++ = (u_char) (len >> 16);
    *p++ = (u_char) (len >> 24);

    return p;
}


/* seal, or checksum and contents, to "p"; behind them, NULL: an error */

static u_char *
ngx_http_llm_parcel_close(ngx_pool_t *pool, ngx_http_llm_secret_t *secret,
    ngx_str_t *about, ngx_str_t *in, u_char *head, u_char *p)
{
    ngx_str_t  both, sealed;

    if (secret == NULL) {
        ngx_http_llm_parcel_sum(head, about, in, p);
        return ngx_cpymem(p + NGX_HTTP_LLM_PARCEL_SUM, in->data, in->len);
    }

    if (ngx_http_llm_parcel_about(pool, head, about, &both) != NGX_OK) {
        return NULL;
    }

    sealed.data = p;

    if (ngx_http_llm_seal(secret, in, &both, &sealed) != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, pool->log, 0,
                      "llm_secret: OpenSSL could not seal %uz bytes",
                      in->len);
        return NULL;
    }

    return p + sealed.len;
}


/* the head is of one length: nothing of it can be taken for "about" */

static ngx_int_t
ngx_http_llm_parcel_about(ngx_pool_t *pool, u_char *head, ngx_str_t *about,
    ngx_str_t *both)
{
    u_char  *p;

    both->len = NGX_HTTP_LLM_PARCEL_HEAD + about->len;
    both->data = ngx_pnalloc(pool, both->len);

    if (both->data == NULL) {
        return NGX_ERROR;
    }

    p = ngx_cpymem(both->data, head, NGX_HTTP_LLM_PARCEL_HEAD);

    if (about->len != 0) {
        ngx_memcpy(p, about->data, about->len);
    }

    return NGX_OK;
}


/* finds accidents; against malice there is the seal */

static void
ngx_http_llm_parcel_sum(u_char *head, ngx_str_t *about, ngx_str_t *in,
    u_char *sum)
{
    uint64_t    h;
    ngx_uint_t  i;

    h = llm_sum(0, head, NGX_HTTP_LLM_PARCEL_HEAD);
    h = llm_sum(h, about->data, about->len);
    h = llm_sum(h, in->data, in->len);

    for (i = 0; i < NGX_HTTP_LLM_PARCEL_SUM; i++) {
        sum[i] = (u_char) (h >> 8 * i);
    }
}


ngx_int_t
ngx_http_llm_parcel_unpack(ngx_pool_t *pool, ngx_http_llm_secret_t *secret,
    ngx_uint_t sealed, ngx_str_t *about, ngx_str_t *in, size_t max,
    ngx_str_t *out, ngx_http_llm_parcel_e *why)
{
    ngx_int_t  rc;
    ngx_str_t  content;

    *why = NGX_HTTP_LLM_PARCEL_OK;

    rc = ngx_http_llm_parcel_check(in->data, secret, sealed, in, max, why);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_parcel_open(pool, secret, about, in, &content, why);
    }

    if (rc == NGX_OK) {
        rc = ngx_http_llm_parcel_expand(pool, in->data, &content, out, why);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_CORE, pool->log, 0,
                   "llm parcel: %uz bytes: %i, %d", in->len, rc, *why);

    return rc;
}


/* all that can be told without opening it */

static ngx_int_t
ngx_http_llm_parcel_check(u_char *head, ngx_http_llm_secret_t *secret,
    ngx_uint_t sealed, ngx_str_t *in, size_t max, ngx_http_llm_parcel_e *why)
{
    if (in->len < NGX_HTTP_LLM_PARCEL_HEAD
        || head[0] != 'L' || head[1] != 'P'
        || head[2] != NGX_HTTP_LLM_PARCEL_VERSION
        || (head[3] & ~(NGX_HTTP_LLM_PARCEL_COMPRESSED
                        |NGX_HTTP_LLM_PARCEL_IS_SEALED)))
    {
        *why = NGX_HTTP_LLM_PARCEL_ALIEN;

    } else if (!(head[3] & NGX_HTTP_LLM_PARCEL_IS_SEALED) && sealed) {
        *why = NGX_HTTP_LLM_PARCEL_OPEN;

    } else if ((head[3] & NGX_HTTP_LLM_PARCEL_IS_SEALED) && secret == NULL) {
        *why = NGX_HTTP_LLM_PARCEL_SEALED;

    } else if (ngx_http_llm_parcel_size(head) > max) {
        *why = NGX_HTTP_LLM_PARCEL_DAMAGED;
    }

    return *why == NGX_HTTP_LLM_PARCEL_OK ? NGX_OK : NGX_DECLINED;
}


/* the contents: in memory of "pool" if they were sealed, else in the parcel */

static ngx_int_t
ngx_http_llm_parcel_open(ngx_pool_t *pool, ngx_http_llm_secret_t *secret,
    ngx_str_t *about, ngx_str_t *in, ngx_str_t *content,
    ngx_http_llm_parcel_e *why)
{
    u_char     sum[NGX_HTTP_LLM_PARCEL_SUM];
    ngx_int_t  rc;
    ngx_str_t  body, both;

    body.data = in->data + NGX_HTTP_LLM_PARCEL_HEAD;
    body.len = in->len - NGX_HTTP_LLM_PARCEL_HEAD;

    if (in->data[3] & NGX_HTTP_LLM_PARCEL_IS_SEALED) {

        if (ngx_http_llm_parcel_about(pool, in->data, about, &both)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        content->data = ngx_pnalloc(pool, body.len + 1);
        if (content->data == NULL) {
            return NGX_ERROR;
        }

        rc = ngx_http_llm_open(secret, &body, &both, content);

        if (rc == NGX_OK) {
            return NGX_OK;
        }

        (void) ngx_pfree(pool, content->data);

        *why = rc == NGX_DECLINED ? NGX_HTTP_LLM_PARCEL_SEALED
                                  : NGX_HTTP_LLM_PARCEL_DAMAGED;
        return NGX_DECLINED;
    }

    if (body.len >= NGX_HTTP_LLM_PARCEL_SUM) {

        content->data = body.data + NGX_HTTP_LLM_PARCEL_SUM;
        content->len = body.len - NGX_HTTP_LLM_PARCEL_SUM;

        ngx_http_llm_parcel_sum(in->data, about, content, sum);

        if (ngx_memcmp(sum, body.data, NGX_HTTP_LLM_PARCEL_SUM) == 0) {
            return NGX_OK;
        }
    }

    *why = NGX_HTTP_LLM_PARCEL_DAMAGED;

    return NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_parcel_expand(ngx_pool_t *pool, u_char *head,
    ngx_str_t *content, ngx_str_t *out, ngx_http_llm_parcel_e *why)
{
    size_t  size;

    out->len = ngx_http_llm_parcel_size(head);
    size = content->len;

    /* what was sealed is in memory of its own already */

    if ((head[3] & (NGX_HTTP_LLM_PARCEL_COMPRESSED
                    |NGX_HTTP_LLM_PARCEL_IS_SEALED))
        == NGX_HTTP_LLM_PARCEL_IS_SEALED)
    {
        out->data = content->data;

    } else {
        out->data = ngx_pnalloc(pool, out->len + 1);
        if (out->data == NULL) {
            return NGX_ERROR;
        }

        if (head[3] & NGX_HTTP_LLM_PARCEL_COMPRESSED) {

            /* in one go: the frame has no say in how much memory it takes */

            size = ZSTD_decompressDCtx(ngx_http_llm_parcel_dctx, out->data,
                                       out->len, content->data,
                                       content->len);

        } else if (size == out->len) {
            ngx_memcpy(out->data, content->data, size);
        }

        if (head[3] & NGX_HTTP_LLM_PARCEL_IS_SEALED) {
            (void) ngx_pfree(pool, content->data);
        }
    }

    /* an error of zstd is no size that there could be */

    if (size != out->len) {
        (void) ngx_pfree(pool, out->data);
        *why = NGX_HTTP_LLM_PARCEL_DAMAGED;
        return NGX_DECLINED;
    }

    return NGX_OK;
}


static size_t
ngx_http_llm_parcel_size(u_char *head)
{
    return (size_t) head[4] | (size_t) head[5] << 8 | (size_t) head[6] << 16
           | (size_t) head[7] << 24;
}
