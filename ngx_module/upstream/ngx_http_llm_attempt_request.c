
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a provider is sent.
 */


#include "upstream/ngx_http_llm_attempt_private.h"
#include "http/ngx_http_llm_compat.h"
#include "operate/ngx_http_llm_trace.h"

#include "core/llm_splice.h"


static ngx_int_t ngx_http_llm_attempt_pass(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_attempt_id(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_attempt_trace(ngx_http_llm_attempt_t *at);
static ngx_uint_t ngx_http_llm_attempt_hidden(ngx_table_elt_t *h);
static void ngx_http_llm_attempt_bears(ngx_http_llm_ctx_t *ctx,
    ngx_table_elt_t *h);
static ngx_int_t ngx_http_llm_attempt_splice(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at, llm_splice_t *sp);
static ngx_chain_t **ngx_http_llm_attempt_piece(ngx_http_request_t *r,
    ngx_chain_t **ll, u_char *p, size_t len);


/* behind a provider's prefix; the order is llm_endpoint_e's */

static ngx_str_t  ngx_http_llm_attempt_path[] = {
    ngx_string("chat/completions"),
    ngx_string("completions"),
    ngx_string("embeddings"),
    ngx_string("responses"),
    ngx_string("models")
};


/* a client's headers that are for the gateway, not for a provider; sorted */

static ngx_str_t  ngx_http_llm_attempt_hide[] = {
    ngx_string("api-key"),
    ngx_string("authorization"),
    ngx_string("cache-control"),
    ngx_string("cookie"),
    ngx_string("expect"),
    ngx_string("openai-organization"),
    ngx_string("openai-project"),
    ngx_string("proxy-authorization"),
    ngx_string("x-api-key"),
    ngx_string("x-goog-api-key"),
    ngx_string("x-request-id"),
    ngx_string("x-request-timeout-ms"),
    ngx_null_string
};


/* of the header "x-request-id", when it has been needed once */

static ngx_uint_t  ngx_http_llm_attempt_id_hash;


static ngx_str_t  ngx_http_llm_attempt_patience[] = {
    ngx_string("x-stainless-read-timeout"),
    ngx_string("x-stainless-timeout"),
    ngx_null_string
};


ngx_int_t
ngx_http_llm_attempt_uri(ngx_http_llm_attempt_t *at, ngx_str_t *uri)
{
    u_char                   *p;
    ngx_str_t                *path, model, none;
    ngx_http_llm_ctx_t       *ctx;
    ngx_http_llm_target_t    *target;
    ngx_http_llm_provider_t  *provider;

    ctx = at->ctx;
    target = at->target;
    provider = target->provider;

    path = ctx->path.len ? &ctx->path
                         : &ngx_http_llm_attempt_path[ctx->endpoint];

    ngx_str_null(&none);

    model = !provider->templated ? none
            : target->model.len ? target->model : ctx->model;

    uri->len = provider->uri.len + model.len + provider->uri_rest.len
               + path->len;

    p = ngx_pnalloc(ctx->request->pool, uri->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    uri->data = p;

    p = ngx_cpymem(p, provider->uri.data, provider->uri.len);

    if (provider->templated) {
        p = ngx_cpymem(p, model.data, model.len);
        p = ngx_cpymem(p, provider->uri_rest.data, provider->uri_rest.len);
    }

    ngx_memcpy(p, path->data, path->len);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_attempt_args(ngx_http_llm_attempt_t *at, ngx_str_t *args)
{
    u_char              *p;
    ngx_str_t           *own;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;
    own = &at->target->provider->args;
    *args = ctx->request->args;

    if (own->len == 0) {
        return NGX_OK;
    }

    if (args->len == 0) {
        *args = *own;
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, own->len + 1 + args->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    args->data = p;
    args->len = own->len + 1 + ctx->request->args.len;

    p = ngx_cpymem(p, own->data, own->len);
    *p++ = '&';
    ngx_memcpy(p, ctx->request->args.data, ctx->request->args.len);

    return NGX_OK;
}


/*
 * A list of its own: a subrequest's is a copy that shares its parts with the
 * client's, and the client's key must not reach a provider whatever the
 * location forgets to override.
 */

ngx_int_t
ngx_http_llm_attempt_headers(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at)
{
    ngx_uint_t           n;
    ngx_list_part_t     *part;
    ngx_http_request_t  *r;

    r = ctx->request;

    n = 2;

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        n += part->nelts;
    }

    if (ngx_list_init(&at->headers, r->pool, n, sizeof(ngx_table_elt_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    if (ngx_http_llm_attempt_pass(ctx, at) != NGX_OK
        || ngx_http_llm_attempt_id(ctx, at) != NGX_OK)
    {
        return NGX_ERROR;
    }

    return ctx->trace.made ? ngx_http_llm_attempt_trace(at) : NGX_OK;
}


/* what of the client's is passed on */

static ngx_int_t
ngx_http_llm_attempt_pass(ngx_http_llm_ctx_t *ctx, ngx_http_llm_attempt_t *at)
{
    ngx_uint_t        i;
    ngx_list_part_t  *part;
    ngx_table_elt_t  *h, *nh;

    part = &ctx->request->headers_in.headers.part;

    for ( /* void */ ; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_llm_attempt_hidden(&h[i])
                || ngx_http_llm_trace_hidden(ctx, &h[i]))
            {
                continue;
            }

            ngx_http_llm_attempt_bears(ctx, &h[i]);

            nh = ngx_list_push(&at->headers);
            if (nh == NULL) {
                return NGX_ERROR;
            }

            *nh = h[i];
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_attempt_id(ngx_http_llm_ctx_t *ctx, ngx_http_llm_attempt_t *at)
{
    ngx_table_elt_t  *nh;

    nh = ngx_list_push(&at->headers);
    if (nh == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&nh->key, "X-Request-Id");
    nh->lowcase_key = (u_char *) "x-request-id";

    if (ngx_http_llm_attempt_id_hash == 0) {
        ngx_http_llm_attempt_id_hash = ngx_hash_key(nh->lowcase_key,
                                                    nh->key.len);
    }

    nh->hash = ngx_http_llm_attempt_id_hash;
    nh->value = ctx->id;
    ngx_http_llm_header_unlink(nh);

    return NGX_OK;
}


/* each attempt has its own value */

static ngx_int_t
ngx_http_llm_attempt_trace(ngx_http_llm_attempt_t *at)
{
    ngx_table_elt_t  *nh;

    nh = ngx_list_push(&at->headers);
    if (nh == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&nh->key, "traceparent");
    nh->lowcase_key = nh->key.data;
    nh->hash = ngx_hash_key(nh->lowcase_key, nh->key.len);
    ngx_str_null(&nh->value);
    ngx_http_llm_header_unlink(nh);

    at->traceparent = nh;

    return NGX_OK;
}


/*
 * For how long the official clients bear silence, in seconds, perhaps with a
 * fraction; 0 is less than one, or for ever.
 */

static void
ngx_http_llm_attempt_bears(ngx_http_llm_ctx_t *ctx, ngx_table_elt_t *h)
{
    u_char     *p;
    size_t      len;
    ngx_int_t   ms;
    ngx_str_t  *name;

    for (name = ngx_http_llm_attempt_patience; name->len; name++) {
        if (h->key.len == name->len
            && ngx_memcmp(h->lowcase_key, name->data, name->len) == 0)
        {
            break;
        }
    }

    if (name->len == 0) {
        return;
    }

    /* a fraction of less than a ms is none */

    p = ngx_strlchr(h->value.data, h->value.data + h->value.len, '.');
    len = p ? ngx_min(h->value.len, (size_t) (p - h->value.data) + 4)
            : h->value.len;

    ms = ngx_atofp(h->value.data, len, 3);

    if (ms > 0 && (ctx->bears == 0 || (ngx_msec_t) ms < ctx->bears)) {
        ctx->bears = (ngx_msec_t) ms;
    }
}


static ngx_uint_t
ngx_http_llm_attempt_hidden(ngx_table_elt_t *h)
{
    u_char      c;
    ngx_str_t  *hide;

    if (h->key.len > 6 && ngx_memcmp(h->lowcase_key, "x-llm-", 6) == 0) {
        return 1;
    }

    c = h->lowcase_key[0];

    for (hide = ngx_http_llm_attempt_hide; hide->len && hide->data[0] <= c;
         hide++)
    {
        if (h->key.len == hide->len
            && ngx_memcmp(h->lowcase_key, hide->data, hide->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_llm_attempt_body(ngx_http_llm_ctx_t *ctx, ngx_http_llm_attempt_t *at)
{
    size_t          len;
    unsigned        i, n;
    llm_str_t       piece[LLM_SPLICE_PIECES];
    ngx_chain_t   **ll;
    llm_splice_t    sp;

    if (at->body && at->body_for == at->target
        && at->body_clamp == ctx->clamp)
    {
        return NGX_OK;
    }

    at->body = ngx_pcalloc(ctx->request->pool,
                           sizeof(ngx_http_request_body_t));
    if (at->body == NULL) {
        return NGX_ERROR;
    }

    at->body_for = at->target;
    at->body_clamp = ctx->clamp;
    at->body_len = ctx->request->method == NGX_HTTP_POST ? 0 : -1;

    if (ctx->body.len == 0) {
        return NGX_OK;
    }

    if (ngx_http_llm_attempt_splice(ctx, at, &sp) != NGX_OK) {
        return NGX_ERROR;
    }

    n = llm_splice_pieces(&sp, &ctx->rq, piece, &len);
    ll = &at->body->bufs;

    for (i = 0; i < n; i++) {
        ll = ngx_http_llm_attempt_piece(ctx->request, ll, piece[i].data,
                                        piece[i].len);
        if (ll == NULL) {
            return NGX_ERROR;
        }
    }

    at->body_len = len;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_attempt_splice(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at, llm_splice_t *sp)
{
    u_char     *p;
    llm_str_t   model;

    ngx_memzero(sp, sizeof(llm_splice_t));

    if (at->target->model.len) {

        /* the configured name needs no escapes */

        model.data = at->target->model.data;
        model.len = at->target->model.len;

        llm_splice_model(sp, &ctx->rq, &model);
    }

    if (ctx->inject_usage && ctx->rq.stream
        && !at->target->provider->no_usage)
    {
        llm_splice_usage(sp, &ctx->rq);
    }

    if (ctx->clamp <= 0) {
        return NGX_OK;
    }

    p = ngx_pnalloc(ctx->request->pool, LLM_SPLICE_CAP);
    if (p == NULL) {
        return NGX_ERROR;
    }

    llm_splice_cap(sp, &ctx->rq, ctx->clamp, p);

    return NGX_OK;
}


static ngx_chain_t **
ngx_http_llm_attempt_piece(ngx_http_request_t *r, ngx_chain_t **ll, u_char *p,
    size_t len)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    b = ngx_calloc_buf(r->pool);
    cl = ngx_alloc_chain_link(r->pool);

    if (b == NULL || cl == NULL) {
        return NULL;
    }

    /* upstream rewinds to start when it sends again */

    b->start = p;
    b->pos = p;
    b->last = p + len;
    b->end = b->last;
    b->memory = 1;

    cl->buf = b;
    cl->next = NULL;
    *ll = cl;

    return &cl->next;
}


ngx_int_t
ngx_http_llm_attempt_forget(ngx_http_llm_attempt_t *at)
{
    u_char                   *p;
    ngx_http_request_t       *r;
    ngx_http_llm_ctx_t       *ctx;
    ngx_http_request_body_t  *rb;

    ctx = at->ctx;
    r = ctx->request;
    rb = r->request_body;

    if (ctx->hedged || ctx->body.len == 0 || rb == NULL
        || at->sr->upstream == NULL
        || !at->sr->upstream->request_body_sent)
    {
        return NGX_OK;
    }

    /* headers, logs and prices go on speaking of the model */

    p = ngx_pnalloc(r->pool, ctx->model.len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ngx_memcpy(p, ctx->model.data, ctx->model.len);

    ctx->model.data = p;
    ctx->rq.model.data = p;
    ctx->rq.model.len = ctx->model.len;

    /* what has no block of its own in the pool stays, and does no harm */

    if (rb->buf) {
        (void) ngx_pfree(r->pool, rb->buf->start);
    }

    (void) ngx_pfree(r->pool, ctx->body.data);

    rb->buf = NULL;
    rb->bufs = NULL;
    at->body->bufs = NULL;
    at->body_for = NULL;

    ngx_str_null(&ctx->body);
    ngx_memzero(&ctx->rq.body, sizeof(llm_str_t));

    return NGX_OK;
}
