
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_compare_private.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"
#include "operate/ngx_http_llm_trace.h"


/* of an answer, as a provider's that is held */

#define NGX_HTTP_LLM_COMPARE_MAX     (1024 * 1024)

/* legs end by themselves, and with words of their own, a little earlier */

#define NGX_HTTP_LLM_COMPARE_MARGIN  50          /* ms */


static ngx_http_llm_compare_t *ngx_http_llm_compare_find(
    ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_compare_begin(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_compare_start(ngx_http_llm_compare_t *cp,
    ngx_uint_t i, ngx_msec_t left);
static ngx_int_t ngx_http_llm_compare_headers(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg);
static ngx_int_t ngx_http_llm_compare_header(ngx_http_llm_loopback_t *lb,
    ngx_table_elt_t *h);
static ngx_uint_t ngx_http_llm_compare_hidden(ngx_table_elt_t *h);
static ngx_int_t ngx_http_llm_compare_suffix(ngx_http_llm_compare_t *cp,
    ngx_str_t *s, size_t max, ngx_uint_t i, ngx_str_t *to);
static void ngx_http_llm_compare_ended(ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_compare_cleanup(void *data);


/*
 * Headers of the client that a leg does not inherit: those of its connection
 * and body, and those that a leg has of its own.  A name with "-" at its end
 * is a prefix.
 */

static ngx_str_t  ngx_http_llm_compare_hide[] = {
    ngx_string("accept"),
    ngx_string("accept-encoding"),
    ngx_string("api-key"),
    ngx_string("authorization"),
    ngx_string("connection"),
    ngx_string("content-"),
    ngx_string("cookie"),
    ngx_string("expect"),
    ngx_string("host"),
    ngx_string("http2-settings"),
    ngx_string("idempotency-key"),
    ngx_string("if-"),
    ngx_string("keep-alive"),
    ngx_string("proxy-"),
    ngx_string("range"),
    ngx_string("te"),
    ngx_string("trailer"),
    ngx_string("transfer-encoding"),
    ngx_string("upgrade"),
    ngx_string("x-llm-"),
    ngx_string("x-request-id"),
    ngx_string("x-request-timeout-ms"),
    ngx_null_string
};


ngx_int_t
ngx_http_llm_compare(ngx_http_llm_ctx_t *ctx)
{
    ngx_uint_t               i;
    ngx_http_llm_compare_t  *cp;

    cp = ngx_http_llm_compare_find(ctx);

    if (cp == NULL) {
        return ngx_http_llm_compare_begin(ctx);
    }

    if (cp->pending && ctx->timer.timer_set) {
        return NGX_AGAIN;
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    /* those that have not answered are late */

    for (i = 0; i < cp->n; i++) {
        if (ngx_http_llm_compare_told(cp, &cp->leg[i]) != NGX_OK) {
            ngx_http_llm_compare_cleanup(cp);
            return NGX_ERROR;
        }
    }

    if (ngx_http_llm_compare_answer(cp) != NGX_OK) {
        ngx_http_llm_compare_cleanup(cp);
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* the request's cleanup knows it */

static ngx_http_llm_compare_t *
ngx_http_llm_compare_find(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_cleanup_t  *cln;

    for (cln = ctx->request->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_llm_compare_cleanup) {
            return cln->data;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_llm_compare_begin(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_msec_t               left;
    ngx_uint_t               i;
    ngx_http_cleanup_t      *cln;
    ngx_http_request_t      *r;
    ngx_http_llm_compare_t  *cp;

    r = ctx->request;

    if (ngx_http_llm_loopback_address() == NULL) {
        return ngx_http_llm_error(ctx, NGX_HTTP_NOT_FOUND,
                                  "invalid_request_error", "unknown_url",
                                  "This gateway has no internal listener "
                                  "(llm_internal), which comparisons need.");
    }

    if (ngx_http_llm_body(r, &ctx->body) != NGX_OK) {
        return NGX_ERROR;
    }

    cp = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_compare_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (cp == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    cp->ctx = ctx;

    rc = ngx_http_llm_compare_parse(cp);

    if (rc != NGX_OK) {
        return rc;
    }

    cln->handler = ngx_http_llm_compare_cleanup;
    cln->data = cp;

    left = (ngx_msec_int_t) (ctx->deadline - ngx_current_msec) > 0
           ? ctx->deadline - ngx_current_msec : 1;

    cp->left.data = ngx_pnalloc(r->pool, NGX_INT_T_LEN);
    if (cp->left.data == NULL) {
        return NGX_ERROR;
    }

    cp->left.len = ngx_sprintf(cp->left.data, "%M",
                               left > 4 * NGX_HTTP_LLM_COMPARE_MARGIN
                               ? left - NGX_HTTP_LLM_COMPARE_MARGIN : left)
                   - cp->left.data;

    for (i = 0; i < cp->n; i++) {
        if (ngx_http_llm_compare_start(cp, i, left) != NGX_OK) {
            ngx_http_llm_compare_cleanup(cp);
            return NGX_ERROR;
        }
    }

    ngx_add_timer(&ctx->timer, left);

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_compare_start(ngx_http_llm_compare_t *cp, ngx_uint_t i,
    ngx_msec_t left)
{
    ngx_table_elt_t             *h;
    ngx_http_request_t          *r;
    ngx_http_llm_loopback_t     *lb;
    ngx_http_llm_compare_leg_t  *leg;

    r = cp->ctx->request;
    leg = &cp->leg[i];

    lb = ngx_http_llm_loopback_create(r->connection->log);
    if (lb == NULL) {
        return NGX_ERROR;
    }

    leg->call = lb;

    ngx_str_set(&lb->method, "POST");
    ngx_str_set(&lb->uri, "/v1/chat/completions");

    lb->key.data = cp->ctx->key->name.data;
    lb->key.len = cp->ctx->key->name.len;
    lb->max = NGX_HTTP_LLM_COMPARE_MAX;
    lb->timeout = left;
    lb->handler = ngx_http_llm_compare_ended;
    lb->data = cp;

    /* still an id when it is longer by its number */

    if (ngx_http_llm_compare_suffix(cp, &cp->ctx->id, NGX_HTTP_LLM_ID_LEN, i,
                                    &leg->id)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    h = ngx_http_llm_header_in(r, "idempotency-key",
                               sizeof("idempotency-key") - 1);

    if (h && ngx_http_llm_compare_suffix(cp, &h->value, NGX_MAX_SIZE_T_VALUE,
                                         i, &leg->idempotency)
             != NGX_OK)
    {
        return NGX_ERROR;
    }

    lb->body = ngx_http_llm_compare_body(cp, leg, lb->pool, &lb->body_len);

    if (lb->body == NULL
        || ngx_http_llm_compare_headers(cp, leg) != NGX_OK
        || ngx_http_llm_loopback_start(lb) != NGX_OK)
    {
        return NGX_ERROR;
    }

    cp->pending++;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_compare_headers(ngx_http_llm_compare_t *cp,
    ngx_http_llm_compare_leg_t *leg)
{
    ngx_int_t         rc;
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, own;

    ngx_str_set(&own.key, "Content-Type");
    ngx_str_set(&own.value, "application/json");

    if (ngx_http_llm_compare_header(leg->call, &own) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&own.key, "X-Request-Id");
    own.value = leg->id;

    if (ngx_http_llm_compare_header(leg->call, &own) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_str_set(&own.key, "X-Request-Timeout-Ms");
    own.value = cp->left;

    if (ngx_http_llm_compare_header(leg->call, &own) != NGX_OK) {
        return NGX_ERROR;
    }

    if (leg->idempotency.len) {
        ngx_str_set(&own.key, "Idempotency-Key");
        own.value = leg->idempotency;

        if (ngx_http_llm_compare_header(leg->call, &own) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    ngx_str_set(&own.key, "traceparent");

    rc = ngx_http_llm_trace_parent(cp->ctx, NULL, &own.value);

    if (rc == NGX_ERROR
        || (rc == NGX_OK
            && ngx_http_llm_compare_header(leg->call, &own) != NGX_OK))
    {
        return NGX_ERROR;
    }

    for (part = &cp->ctx->request->headers_in.headers.part;
         part;
         part = part->next)
    {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {
            if (!ngx_http_llm_compare_hidden(&h[i])
                && !ngx_http_llm_trace_hidden(cp->ctx, &h[i])
                && ngx_http_llm_compare_header(leg->call, &h[i]) != NGX_OK)
            {
                return NGX_ERROR;
            }
        }
    }

    return NGX_OK;
}


/* one that cannot be sent is left out */

static ngx_int_t
ngx_http_llm_compare_header(ngx_http_llm_loopback_t *lb, ngx_table_elt_t *h)
{
    return ngx_http_llm_loopback_header(lb, &h->key, &h->value) == NGX_ERROR
           ? NGX_ERROR : NGX_OK;
}


static ngx_uint_t
ngx_http_llm_compare_hidden(ngx_table_elt_t *h)
{
    ngx_str_t  *hide;

    for (hide = ngx_http_llm_compare_hide; hide->len; hide++) {

        if (h->key.len < hide->len
            || ngx_memcmp(h->lowcase_key, hide->data, hide->len) != 0)
        {
            continue;
        }

        if (h->key.len == hide->len || hide->data[hide->len - 1] == '-') {
            return 1;
        }
    }

    return 0;
}


/* "-" and the number of the leg, in at most "max" bytes */

static ngx_int_t
ngx_http_llm_compare_suffix(ngx_http_llm_compare_t *cp, ngx_str_t *s,
    size_t max, ngx_uint_t i, ngx_str_t *to)
{
    size_t   len;
    u_char  *p;

    len = ngx_min(s->len, max - (sizeof("-15") - 1));

    p = ngx_pnalloc(cp->ctx->request->pool, len + 1 + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    to->data = p;

    p = ngx_cpymem(p, s->data, len);
    p = ngx_sprintf(p, "-%ui", i);

    to->len = p - to->data;

    return NGX_OK;
}


static void
ngx_http_llm_compare_ended(ngx_http_llm_loopback_t *lb)
{
    ngx_http_llm_compare_t  *cp = lb->data;

    if (--cp->pending == 0) {
        cp->ctx->wake(cp->ctx);
    }
}


/* the client has left, or it cannot be done */

static void
ngx_http_llm_compare_cleanup(void *data)
{
    ngx_http_llm_compare_t  *cp = data;

    ngx_uint_t  i;

    for (i = 0; i < cp->n; i++) {
        if (cp->leg[i].call) {
            ngx_http_llm_loopback_close(cp->leg[i].call);
            cp->leg[i].call = NULL;
        }
    }
}
