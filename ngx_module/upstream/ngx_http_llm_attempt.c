
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_attempt_private.h"
#include "operate/ngx_http_llm_trace.h"


/* an attempt has two: one of nginx's own and one of its peer */

#define NGX_HTTP_LLM_ATTEMPT_STATES  4


static ngx_http_request_t *ngx_http_llm_attempt_subrequest(
    ngx_http_llm_attempt_t *at, ngx_str_t *uri, ngx_str_t *args);
static void ngx_http_llm_attempt_reset(ngx_http_llm_attempt_t *at);
static void ngx_http_llm_attempt_states(ngx_http_llm_ctx_t *ctx,
    ngx_http_request_t *sr);
static ngx_int_t ngx_http_llm_attempt_done(ngx_http_request_t *sr, void *data,
    ngx_int_t rc);
static void ngx_http_llm_attempt_cancel_handler(ngx_event_t *ev);


ngx_int_t
ngx_http_llm_attempt_start(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->attempt == NULL) {
        ctx->attempt = ngx_http_llm_attempt_create(ctx);

        if (ctx->attempt == NULL) {
            return NGX_ERROR;
        }
    }

    return ngx_http_llm_attempt_launch(ctx->attempt, ctx->target);
}


ngx_http_llm_attempt_t *
ngx_http_llm_attempt_create(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t      *r;
    ngx_http_llm_attempt_t  *at;

    r = ctx->request;

    at = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_attempt_t));
    if (at == NULL) {
        return NULL;
    }

    at->ctx = ctx;
    at->ps.handler = ngx_http_llm_attempt_done;
    at->ps.data = at;
    at->cancel.handler = ngx_http_llm_attempt_cancel_handler;
    at->cancel.data = at;
    at->cancel.log = r->connection->log;

    return ngx_http_llm_attempt_headers(ctx, at) == NGX_OK ? at : NULL;
}


ngx_int_t
ngx_http_llm_attempt_launch(ngx_http_llm_attempt_t *at, ngx_uint_t target)
{
    ngx_str_t            uri, args;
    ngx_http_request_t  *r, *sr;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;
    r = ctx->request;

    ngx_http_llm_attempt_reset(at);

    at->target = (ngx_http_llm_target_t *) ctx->route->targets.elts + target;

    if (ngx_http_llm_attempt_body(ctx, at) != NGX_OK
        || ngx_http_llm_attempt_uri(at, &uri) != NGX_OK
        || ngx_http_llm_attempt_args(at, &args) != NGX_OK)
    {
        return NGX_ERROR;
    }

    sr = ngx_http_llm_attempt_subrequest(at, &uri, &args);
    if (sr == NULL) {
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

    /* a provider that answers 101 is no tunnel, and nginx would hang up */
    sr->headers_in.upgrade = NULL;

    if (at->headers.last == &at->headers.part) {
        sr->headers_in.headers.last = &sr->headers_in.headers.part;
    }

    ngx_http_llm_attempt_states(ctx, sr);

    /* the relay looks at the bytes */
    sr->filter_need_in_memory = 1;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                   "llm attempt %ui: \"%V\" bytes:%O count:%d",
                   ctx->attempts, &uri, at->body_len, r->main->count);

    return ngx_http_llm_trace_call(at);
}


/*
 * nginx leaves a subrequest for which there was not enough memory half made:
 * never run, but waited for.  What it changed is taken back.
 */

static ngx_http_request_t *
ngx_http_llm_attempt_subrequest(ngx_http_llm_attempt_t *at, ngx_str_t *uri,
    ngx_str_t *args)
{
    void                          *active;
    ngx_uint_t                     count;
    ngx_http_request_t            *r, *sr;
    ngx_http_postponed_request_t  **p;

    r = at->ctx->request;

    /* nor does it end one that finds no room for its state: it has to be */

    if (r->upstream_states && at->ctx->beside == NULL) {

        if (ngx_array_push(r->upstream_states) == NULL) {
            return NULL;
        }

        r->upstream_states->nelts--;
    }

    active = r->connection->data;
    count = r->main->count;
    sr = NULL;

    if (ngx_http_subrequest(r, uri, args, &sr, &at->ps, 0) == NGX_OK) {
        return sr;
    }

    r->connection->data = active;
    r->main->count = count;

    for (p = &r->postponed; sr && *p; p = &(*p)->next) {
        if ((*p)->request == sr) {
            *p = NULL;
            break;
        }
    }

    return NULL;
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
    at->hurried = 0;
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
    at->parked = NULL;
    at->spare = NULL;
    at->filled = 0;
    at->overflow = 0;
    at->timedout = 0;
    at->connected = 0;

    ngx_http_llm_attempt_unread(at);
}


void
ngx_http_llm_attempt_unread(ngx_http_llm_attempt_t *at)
{
    at->scan = 0;
    at->text_bytes = 0;
    ngx_memzero(&at->text, offsetof(llm_sse_text_t, tail));
    at->text.several = at->ctx->rq.n > 1;

    at->usage.prompt_tokens = -1;
    at->usage.cached_tokens = -1;
    at->usage.completion_tokens = -1;
    at->usage.reasoning_tokens = -1;
    at->usage.total_tokens = -1;
}


/*
 * $upstream_* of the client's log line tell of all attempts.  Of two that run
 * neither may move what the other one writes to.
 */

static void
ngx_http_llm_attempt_states(ngx_http_llm_ctx_t *ctx, ngx_http_request_t *sr)
{
    void                 *p;
    size_t                size;
    ngx_array_t          *states;
    ngx_http_request_t   *first;
    ngx_http_upstream_t  *u;

    sr->upstream_states = ctx->request->upstream_states;

    first = ctx->beside;

    if (first == NULL || first->upstream_states == NULL) {
        return;
    }

    states = first->upstream_states;
    u = first->upstream;
    size = sizeof(ngx_http_upstream_state_t);

    p = ngx_palloc(ctx->request->pool,
                   (states->nelts + NGX_HTTP_LLM_ATTEMPT_STATES) * size);

    if (p == NULL || u == NULL || u->state == NULL) {
        return;
    }

    ngx_memcpy(p, states->elts, states->nelts * size);

    u->state = (ngx_http_upstream_state_t *)
               ((u_char *) p + ((u_char *) u->state
                                - (u_char *) states->elts));
    states->elts = p;
    states->nalloc = states->nelts + NGX_HTTP_LLM_ATTEMPT_STATES;

    sr->upstream_states = states;
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

    /*
     * NGX_ERROR without an error of the client's connection is the provider's
     * framing: nginx would hang up, main has something to say.
     */

    if ((rc == NGX_ERROR && (sr->connection->error || sr != at->sr))
        || rc == NGX_HTTP_CLIENT_CLOSED_REQUEST
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
    if (ctx->attempt) {
        ngx_http_llm_attempt_stop(ctx->attempt);
    }
}


void
ngx_http_llm_attempt_stop(ngx_http_llm_attempt_t *at)
{
    ngx_http_request_t   *r, *sr;
    ngx_http_upstream_t  *u;

    if (!at->running || at->done) {
        return;
    }

    sr = at->sr;
    r = sr->main;

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

    ngx_http_llm_attempt_stop(at);

    ngx_http_run_posted_requests(c);
}


void
ngx_http_llm_attempt_succeed(ngx_http_llm_attempt_t *at)
{
    ngx_connection_t    *c;
    ngx_http_request_t  *r, *sr;

    sr = at->sr;
    r = sr->main;
    c = r->connection;

    if (at->ctx->detached) {
        c->error = 0;
    }

    if (c->data != r || r->postponed == NULL || c->error) {
        return;
    }

    /* the postpone filter makes the next in line the active one */

    (void) ngx_http_output_filter(r, NULL);

    if (!at->done || c->data != sr) {
        return;
    }

    ngx_http_finalize_request(sr, NGX_OK);

    /* it is posted, too, and must not end twice */

    sr->write_event_handler = ngx_http_request_empty_handler;
}


void
ngx_http_llm_attempt_spare(ngx_http_llm_attempt_t *at)
{
    ngx_list_t       *list;
    ngx_list_part_t  *part;

    list = &at->ctx->request->headers_out.headers;
    part = &list->part;

    if (list->last == part && part->nelts == 0) {
        at->spare = part->elts;
        at->spare_size = list->nalloc * list->size;

        at->ctx->wake(at->ctx);
    }
}


void
ngx_http_llm_attempt_buffer(ngx_http_llm_attempt_t *at)
{
    u_char               *p;
    size_t                size;
    ngx_buf_t            *b;
    ngx_http_upstream_t  *u;

    u = at->sr->upstream;

    if (at->spare == NULL || at->done || u == NULL || u->buffering) {
        return;
    }

    b = &u->buffer;

    if (u->out_bufs || u->busy_bufs || b->last != b->start) {
        return;
    }

    if (b->start != at->spare) {
        size = at->spare_size;

        if (size >= (size_t) (b->end - b->start)
            || ngx_pfree(at->sr->pool, b->start) != NGX_OK)
        {
            at->spare = NULL;
            return;
        }

        p = at->spare;

    } else if (at->filled) {
        size = u->conf->buffer_size;

        p = ngx_palloc(at->sr->pool, size);
        if (p == NULL) {
            return;
        }

        at->spare = NULL;

    } else {
        return;
    }

    b->start = p;
    b->pos = p;
    b->last = p;
    b->end = p + size;

    ngx_log_debug1(NGX_LOG_DEBUG_HTTP, at->sr->connection->log, 0,
                   "llm attempt buffer: %uz", size);
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
