
/*
 * Copyright (C) the ngx-llm authors
 */


#include "ngx_http_llm_test_secret.h"


static ngx_int_t ngx_http_llm_test_refused(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx, ngx_str_t *in);
static ngx_int_t ngx_http_llm_test_round(ngx_http_request_t *r,
    ngx_http_llm_test_ctx_t *ctx, ngx_str_t *body);
static uint64_t ngx_http_llm_test_ns(void);


ngx_int_t
ngx_http_llm_test_pieces(ngx_pool_t *pool, ngx_http_llm_test_ctx_t *ctx,
    ngx_str_t *body, ngx_str_t *out)
{
    size_t      from, to;
    ngx_str_t   piece[NGX_HTTP_LLM_TEST_PIECES];
    ngx_uint_t  i;

    from = 0;

    for (i = 0; i < ctx->pieces; i++) {
        to = body->len * (i + 1) / ctx->pieces;
        piece[i].data = body->data + from;
        piece[i].len = to - from;
        from = to;
    }

    return ngx_http_llm_parcel_pack(pool, ctx->secret, &ctx->about, piece,
                                    ctx->pieces, out);
}


ngx_int_t
ngx_http_llm_test_spoil(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    size_t      i;
    u_char     *p;
    ngx_str_t   in;
    ngx_uint_t  bit, taken, tried;

    taken = 0;
    tried = 0;

    /* memory of its own length, so that reading past its end shows */

    for (i = 0; i <= ctx->body.len + 1; i++) {

        if (i == ctx->body.len) {
            continue;
        }

        p = ngx_alloc(i ? i : 1, r->connection->log);
        if (p == NULL) {
            return NGX_ERROR;
        }

        ngx_memzero(p, i);
        ngx_memcpy(p, ctx->body.data, ngx_min(i, ctx->body.len));

        in.data = p;
        in.len = i;

        tried++;
        taken += ngx_http_llm_test_refused(r, ctx, &in) != NGX_DECLINED;

        ngx_free(p);
    }

    for (i = 0; i < ctx->body.len; i++) {
        for (bit = 0; bit < 8; bit++) {
            ctx->body.data[i] ^= 1 << bit;

            tried++;
            taken += ngx_http_llm_test_refused(r, ctx, &ctx->body)
                     != NGX_DECLINED;

            ctx->body.data[i] ^= 1 << bit;
        }
    }

    ctx->out.data = ngx_pnalloc(r->pool, 64);
    if (ctx->out.data == NULL) {
        return NGX_ERROR;
    }

    ctx->out.len = ngx_sprintf(ctx->out.data, "tried=%ui taken=%ui whole=%i",
                               tried, taken,
                               ngx_http_llm_test_refused(r, ctx, &ctx->body))
                   - ctx->out.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_test_refused(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx,
    ngx_str_t *in)
{
    ngx_int_t               rc;
    ngx_str_t               out;
    ngx_pool_t             *pool;
    ngx_http_llm_parcel_e   why;

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE, r->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_parcel_unpack(pool, ctx->secret, ctx->sealed,
                                    &ctx->about, in, ctx->max, &out, &why);

    ngx_destroy_pool(pool);

    return rc;
}


/* all small ones, and then some of any length up to the largest */

ngx_int_t
ngx_http_llm_test_rounds(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    size_t      i;
    ngx_str_t   body;
    ngx_uint_t  bits, wrong, rounds;

    body.data = ngx_pnalloc(r->pool, ctx->max + 1);
    ctx->out.data = ngx_pnalloc(r->pool, 64);

    if (body.data == NULL || ctx->out.data == NULL) {
        return NGX_ERROR;
    }

    /* from what cannot be compressed to what nearly vanishes */

    wrong = 0;
    rounds = 0;

    for (bits = 0; bits <= 8; bits += 4) {

        for (i = 0; i < ctx->max; i++) {
            body.data[i] = 'a' + (ngx_random() & ((1 << bits) - 1));
        }

        for (i = 0; i <= ctx->max; i += (i < 1100 ? 1 : 1 + i / 8)) {
            body.len = i;
            rounds++;
            wrong += ngx_http_llm_test_round(r, ctx, &body) != NGX_OK;
        }

        body.len = ctx->max;
        rounds++;
        wrong += ngx_http_llm_test_round(r, ctx, &body) != NGX_OK;
    }

    ctx->out.len = ngx_sprintf(ctx->out.data, "rounds=%ui wrong=%ui", rounds,
                               wrong)
                   - ctx->out.data;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_test_round(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx,
    ngx_str_t *body)
{
    ngx_int_t               rc;
    ngx_str_t               parcel, out;
    ngx_pool_t             *pool;
    ngx_http_llm_parcel_e   why;

    pool = ngx_create_pool(NGX_MIN_POOL_SIZE, r->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_test_pieces(pool, ctx, body, &parcel);

    if (rc == NGX_OK) {
        rc = ngx_http_llm_parcel_unpack(pool, ctx->secret,
                                        ctx->secret != NULL, &ctx->about,
                                        &parcel, body->len, &out, &why);
    }

    if (rc == NGX_OK
        && (out.len != body->len
            || ngx_memcmp(out.data, body->data, out.len) != 0))
    {
        rc = NGX_ERROR;
    }

    ngx_destroy_pool(pool);

    return rc;
}


ngx_int_t
ngx_http_llm_test_bench(ngx_http_request_t *r, ngx_http_llm_test_ctx_t *ctx)
{
    uint64_t                times[4];
    ngx_str_t               parcel, out;
    ngx_uint_t              i, k;
    ngx_pool_t             *pool;
    ngx_http_llm_parcel_e   why;

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, r->connection->log);
    ctx->out.data = ngx_pnalloc(r->pool, 128);

    if (pool == NULL || ctx->out.data == NULL) {
        return NGX_ERROR;
    }

    times[2] = 0;
    times[3] = 0;
    parcel.len = 0;

    for (i = 0; i < ctx->n; i++) {
        times[0] = ngx_http_llm_test_ns();

        if (ngx_http_llm_test_pieces(pool, ctx, &ctx->body, &parcel)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        times[1] = ngx_http_llm_test_ns();
        times[2] += times[1] - times[0];

        if (ngx_http_llm_parcel_unpack(pool, ctx->secret, ctx->sealed,
                                       &ctx->about, &parcel, ctx->max, &out,
                                       &why)
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        times[3] += ngx_http_llm_test_ns() - times[1];

        ngx_reset_pool(pool);
    }

    ngx_destroy_pool(pool);

    for (k = 2; k < 4; k++) {
        times[k] /= ctx->n;
    }

    ctx->out.len = ngx_sprintf(ctx->out.data,
                               "pack=%uL unpack=%uL ns, %uz into %uz bytes",
                               times[2], times[3], ctx->body.len, parcel.len)
                   - ctx->out.data;

    return NGX_OK;
}


static uint64_t
ngx_http_llm_test_ns(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + ts.tv_nsec;
}
