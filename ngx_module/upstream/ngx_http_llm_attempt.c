
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_attempt.h"
#include "http/ngx_http_llm_compat.h"
#include "operate/ngx_http_llm_trace.h"

#include "core/llm_splice.h"


static ngx_int_t ngx_http_llm_attempt_uri(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *uri);
static ngx_int_t ngx_http_llm_attempt_args(ngx_http_llm_ctx_t *ctx,
    ngx_str_t *args);
static ngx_int_t ngx_http_llm_attempt_headers(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);
static ngx_uint_t ngx_http_llm_attempt_hidden(ngx_table_elt_t *h);
static ngx_int_t ngx_http_llm_attempt_body(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_attempt_splice(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at, llm_splice_t *sp);
static ngx_chain_t **ngx_http_llm_attempt_piece(ngx_http_request_t *r,
    ngx_chain_t **ll, u_char *p, size_t len);
static void ngx_http_llm_attempt_reset(ngx_http_llm_attempt_t *at);
static ngx_int_t ngx_http_llm_attempt_done(ngx_http_request_t *sr, void *data,
    ngx_int_t rc);
static void ngx_http_llm_attempt_cancel_handler(ngx_event_t *ev);


/* behind a provider's prefix; the order is llm_endpoint_e's */

static ngx_str_t  ngx_http_llm_attempt_path[] = {
    ngx_string("chat/completions"),
    ngx_string("completions"),
    ngx_string("embeddings"),
    ngx_string("responses"),
    ngx_string("models")
};


/* a client's headers that are for the gateway, not for a provider */

static ngx_str_t  ngx_http_llm_attempt_hide[] = {
    ngx_string("api-key"),
    ngx_string("authorization"),
    ngx_string("cache-control"),
    ngx_string("cookie"),
    ngx_string("expect"),
    ngx_string("openai-organization"),
    ngx_string("openai-project"),
    ngx_string("proxy-authorization"),
    ngx_string("x-request-id"),
    ngx_string("x-request-timeout-ms"),
    ngx_null_string
};


ngx_int_t
ngx_http_llm_attempt_start(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t                uri, args;
    ngx_http_request_t      *r, *sr;
    ngx_http_llm_attempt_t  *at;

    r = ctx->request;
    at = ctx->attempt;

    if (at == NULL) {
        at = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_attempt_t));
        if (at == NULL) {
            return NGX_ERROR;
        }

        at->ctx = ctx;
        at->ps.handler = ngx_http_llm_attempt_done;
        at->ps.data = at;
        at->cancel.handler = ngx_http_llm_attempt_cancel_handler;
        at->cancel.data = at;
        at->cancel.log = r->connection->log;

        if (ngx_http_llm_attempt_headers(ctx, at) != NGX_OK) {
            return NGX_ERROR;
        }

        ctx->attempt = at;
    }

    ngx_http_llm_attempt_reset(at);

    at->target = (ngx_http_llm_target_t *) ctx->route->targets.elts
                 + ctx->target;

    if (ngx_http_llm_attempt_body(ctx, at) != NGX_OK
        || ngx_http_llm_attempt_uri(ctx, &uri) != NGX_OK
        || ngx_http_llm_attempt_args(ctx, &args) != NGX_OK
        || ngx_http_subrequest(r, &uri, &args, &sr, &at->ps, 0) != NGX_OK)
    {
        return NGX_ERROR;
    }

    at->sr = sr;
    at->running = 1;
    at->start = ngx_current_msec;

    ctx->attempts++;
    ctx->tries++;

    sr->method = r->method;
    sr->method_name = r->method_name;
    sr->request_body = at->body;
    sr->headers_in.content_length_n = at->body_len;
    sr->headers_in.chunked = 0;
    sr->headers_in.authorization = NULL;
    sr->headers_in.headers = at->headers;

    if (at->headers.last == &at->headers.part) {
        sr->headers_in.headers.last = &sr->headers_in.headers.part;
    }

    /* $upstream_* of the client's log line tell of all attempts */
    sr->upstream_states = r->upstream_states;

    /* the relay looks at the bytes */
    sr->filter_need_in_memory = 1;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm attempt %ui: \"%V\" bytes:%O count:%d",
                   ctx->attempts, &uri, at->body_len, r->main->count);

    return ngx_http_llm_trace_call(at);
}


static void
ngx_http_llm_attempt_reset(ngx_http_llm_attempt_t *at)
{
    at->sr = NULL;
    at->rc = NGX_OK;
    at->status = 0;
    at->asked = -1;
    at->first_ms = -1;
    at->told_requests.limit = LLM_TARGET_UNKNOWN;
    at->told_requests.remaining = LLM_TARGET_UNKNOWN;
    at->told_requests.reset = LLM_TARGET_UNKNOWN;
    at->told_tokens = at->told_requests;
    at->told = 0;
    at->sent = 0;
    at->silent = 0;
    at->relay = NGX_HTTP_LLM_RELAY_HOLD;
    at->held = 0;
    at->scan = 0;
    at->done = 0;
    at->last = 0;
    at->stream = 0;
    at->finish = 0;
    at->terminal = 0;
    at->error_event = 0;
    at->cut = 0;
    at->skip_lf = 0;
    at->stamp = NULL;
    at->final = NULL;
    at->text_bytes = 0;
    ngx_memzero(&at->text, offsetof(llm_sse_text_t, tail));
    at->text.several = at->ctx->rq.n > 1;
    at->overflow = 0;
    at->timedout = 0;
    at->connected = 0;

    at->usage.prompt_tokens = -1;
    at->usage.cached_tokens = -1;
    at->usage.completion_tokens = -1;
    at->usage.reasoning_tokens = -1;
    at->usage.total_tokens = -1;
}


/* the provider's prefix, perhaps with the model in it, and the endpoint */

static ngx_int_t
ngx_http_llm_attempt_uri(ngx_http_llm_ctx_t *ctx, ngx_str_t *uri)
{
    u_char                   *p;
    ngx_str_t                *path, model, none;
    ngx_http_llm_target_t    *target;
    ngx_http_llm_provider_t  *provider;

    target = ctx->attempt->target;
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


/* the provider's own query in front of the client's */

static ngx_int_t
ngx_http_llm_attempt_args(ngx_http_llm_ctx_t *ctx, ngx_str_t *args)
{
    u_char     *p;
    ngx_str_t  *own;

    own = &ctx->attempt->target->provider->args;
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

static ngx_int_t
ngx_http_llm_attempt_headers(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_attempt_t *at)
{
    ngx_uint_t           i, n;
    ngx_list_part_t     *part;
    ngx_table_elt_t     *h, *nh;
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

    for (part = &r->headers_in.headers.part; part; part = part->next) {
        h = part->elts;

        for (i = 0; i < part->nelts; i++) {

            if (ngx_http_llm_attempt_hidden(&h[i])
                || ngx_http_llm_trace_hidden(ctx, &h[i]))
            {
                continue;
            }

            nh = ngx_list_push(&at->headers);
            if (nh == NULL) {
                return NGX_ERROR;
            }

            *nh = h[i];
        }
    }

    nh = ngx_list_push(&at->headers);
    if (nh == NULL) {
        return NGX_ERROR;
    }

    ngx_str_set(&nh->key, "X-Request-Id");
    nh->lowcase_key = (u_char *) "x-request-id";
    nh->hash = ngx_hash_key(nh->lowcase_key, nh->key.len);
    nh->value = ctx->id;
    ngx_http_llm_header_unlink(nh);

    if (!ctx->trace.made) {
        return NGX_OK;
    }

    /* each attempt has its own value */

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


static ngx_uint_t
ngx_http_llm_attempt_hidden(ngx_table_elt_t *h)
{
    ngx_str_t  *hide;

    if (h->key.len > 6 && ngx_memcmp(h->lowcase_key, "x-llm-", 6) == 0) {
        return 1;
    }

    for (hide = ngx_http_llm_attempt_hide; hide->len; hide++) {
        if (h->key.len == hide->len
            && ngx_memcmp(h->lowcase_key, hide->data, hide->len) == 0)
        {
            return 1;
        }
    }

    return 0;
}


/* the client's own bytes; what must be another is spliced in between */

static ngx_int_t
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

    if (ctx->body.len == 0 || rb == NULL || at->sr->upstream == NULL
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


/* called once or more often; only records: core resumes the main request */

static ngx_int_t
ngx_http_llm_attempt_done(ngx_http_request_t *sr, void *data, ngx_int_t rc)
{
    ngx_http_llm_attempt_t  *at = data;

    ngx_http_upstream_state_t  *state;

    if (sr == at->sr && !at->done) {

        at->done = 1;
        at->rc = rc;

        if (at->ctx->detached) {
            /* core would end all that still has to be done */
            sr->connection->error = 0;
        }

        if (sr->upstream_states) {
            sr->main->upstream_states = sr->upstream_states;
        }

        if (sr->upstream && sr->upstream->state) {
            state = sr->upstream->state;
            at->connected = state->connect_time != (ngx_msec_t) -1;
        }

        ngx_log_debug5(NGX_LOG_DEBUG_HTTP, sr->connection->log, 0,
                       "llm attempt done: %i status:%ui last:%d held:%uz "
                       "terminal:%d", rc, at->status, at->last, at->held,
                       at->terminal);
    }

    if (rc == NGX_ERROR || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
        || rc == NGX_HTTP_REQUEST_TIME_OUT)
    {
        return rc;
    }

    /* an error page must not be rendered into the answer */

    return NGX_OK;
}


void
ngx_http_llm_attempt_cancel(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t      *r, *sr;
    ngx_http_upstream_t     *u;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (at == NULL || !at->running || at->done) {
        return;
    }

    r = ctx->request;
    sr = at->sr;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm attempt cancel count:%d", r->main->count);

    /* the way ngx_http_upstream_create() does it */

    u = sr->upstream;

    if (u && u->cleanup) {
        r->main->count++;
        (*u->cleanup)(sr);
    }

    ngx_http_finalize_request(sr, NGX_HTTP_GATEWAY_TIME_OUT);
}


static void
ngx_http_llm_attempt_cancel_handler(ngx_event_t *ev)
{
    ngx_connection_t        *c;
    ngx_http_llm_attempt_t  *at;

    at = ev->data;
    c = at->ctx->request->connection;

    ngx_http_set_log_request(c->log, at->ctx->request);

    ngx_http_llm_attempt_cancel(at->ctx);

    ngx_http_run_posted_requests(c);
}


ngx_http_llm_attempt_t *
ngx_http_llm_attempt(ngx_http_request_t *r)
{
    if (r == r->main || r->post_subrequest == NULL
        || r->post_subrequest->handler != ngx_http_llm_attempt_done)
    {
        return NULL;
    }

    return r->post_subrequest->data;
}


ngx_uint_t
ngx_http_llm_attempt_client_gone(ngx_http_request_t *r)
{
    int                n;
    char               buf[1];
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    c = r->connection;
    rev = c->read;

    if (c->error || rev->pending_eof) {
        return 1;
    }

    if (r->http_version >= NGX_HTTP_VERSION_20) {
        return 0;
    }

#if (NGX_HAVE_EPOLLRDHUP)
    if ((ngx_event_flags & NGX_USE_EPOLL_EVENT) && ngx_use_epoll_rdhup) {
        return 0;
    }
#endif

    n = recv(c->fd, buf, 1, MSG_PEEK);

    return n == 0 || (n == -1 && ngx_socket_errno != NGX_EAGAIN);
}
