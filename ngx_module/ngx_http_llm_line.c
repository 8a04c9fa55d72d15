
/*
 * Copyright (C) the ngx-llm authors
 *
 * The life of a request: one step() that walks its table of stages.
 *
 * A stage returns NGX_OK: go on; NGX_AGAIN: it waits and will be woken;
 * NGX_DONE: the client has its answer, finalize with ctx->rc; NGX_ERROR; or
 * the status of an error that is in ctx->error.  A stage that waited is
 * called again after every wake, also a needless one, and looks at what has
 * been recorded meanwhile.
 */


#include "ngx_http_llm_line_private.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"
#include "operate/ngx_http_llm_trace.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_revoke.h"
#include "policy/ngx_http_llm_usage.h"
#include "state/ngx_http_llm_zone.h"
#include "upstream/ngx_http_llm_attempt.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_heart.h"
#include "upstream/ngx_http_llm_hedge.h"


static ngx_msec_t ngx_http_llm_line_total(ngx_http_request_t *r,
    ngx_msec_t total);
static void ngx_http_llm_line_over(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_line_wait(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_line_wake(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_line_event(ngx_event_t *ev);
static void ngx_http_llm_line_resume(ngx_http_request_t *r);
static void ngx_http_llm_line_watch(ngx_http_request_t *r);
static void ngx_http_llm_line_settle(void *data);
static void ngx_http_llm_line_charge(ngx_http_llm_ctx_t *ctx);


/* an internal redirect forgets the contexts, the cleanup does not */

void
ngx_http_llm_line_recover(ngx_http_request_t *r)
{
    ngx_http_cleanup_t  *cln;

    for (cln = r->main->cleanup; cln; cln = cln->next) {
        if (cln->handler == ngx_http_llm_line_settle) {
            ngx_http_set_ctx(r, cln->data, ngx_http_llm_module);
            return;
        }
    }
}


ngx_int_t
ngx_http_llm_line_start(ngx_http_request_t *r, ngx_uint_t endpoint)
{
    ngx_http_cleanup_t  *cln;
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_ctx_t));
    if (ctx == NULL) {
        return NGX_ERROR;
    }

    ctx->request = r;
    ctx->mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);
    ctx->conf = ngx_http_get_module_loc_conf(r, ngx_http_llm_module);
    ctx->wake = ngx_http_llm_line_wake;
    ctx->table = ngx_http_llm_line_table(endpoint);
    ctx->endpoint = ngx_min(endpoint, LLM_ENDPOINTS);
    ctx->api = endpoint;
    ctx->start = ngx_current_msec;
    ctx->deadline = ctx->start
                    + ngx_http_llm_line_total(r, ctx->conf->timeout_total);
    ctx->hurried = ctx->deadline - ctx->start < ctx->conf->timeout_total;

    ctx->event.handler = ngx_http_llm_line_event;
    ctx->event.data = ctx;
    ctx->event.log = r->connection->log;

    ctx->timer.handler = ngx_http_llm_line_event;
    ctx->timer.data = ctx;
    ctx->timer.log = r->connection->log;

    if (ngx_http_llm_id(r, &ctx->id) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_http_cleanup_add(r, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_line_settle;
    cln->data = ctx;

    ngx_http_set_ctx(r, ctx, ngx_http_llm_module);

    ngx_http_llm_trace_begin(ctx);

    /* the line finalizes the request itself, now or later */

    r->main->count++;

    ngx_http_llm_line_step(ctx);

    return NGX_DONE;
}


/* the client may ask for less time than is configured, never for more */

static ngx_msec_t
ngx_http_llm_line_total(ngx_http_request_t *r, ngx_msec_t total)
{
    ngx_int_t         n;
    ngx_table_elt_t  *h;

    h = ngx_http_llm_header_in(r, "x-request-timeout-ms",
                               sizeof("x-request-timeout-ms") - 1);
    if (h == NULL) {
        return total;
    }

    n = ngx_atoi(h->value.data, h->value.len);

    if (n == NGX_ERROR || n == 0) {
        return total;
    }

    return ngx_min((ngx_msec_t) n, total);
}


void
ngx_http_llm_line_step(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t              rc;
    ngx_http_request_t    *r;
    ngx_http_llm_stage_t  *stage;

    r = ctx->request;

    for ( ;; ) {
        stage = (ngx_http_llm_stage_t *) ctx->table + ctx->stage;

        rc = stage->run(ctx);

        ngx_log_debug3(NGX_LOG_DEBUG_HTTP, r->connection->log, 0,
                       "llm %s: %i count:%d", stage->name, rc,
                       r->main->count);

        if (rc != NGX_OK) {
            break;
        }

        ctx->stage++;
    }

    if (rc == NGX_AGAIN) {
        ngx_http_llm_line_wait(ctx);
        return;
    }

    ngx_http_llm_line_over(ctx);

    if (rc == NGX_ERROR) {
        rc = ngx_http_llm_error(ctx, NGX_HTTP_INTERNAL_SERVER_ERROR,
                                "server_error", NULL,
                                "The gateway could not handle the request.");
    }

    if (ctx->revoked && rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        rc = ngx_http_llm_error(ctx, rc, NULL, NULL, NULL);
    }

    if (rc == NGX_DONE) {
        rc = ctx->rc;

    } else if (ctx->served) {
        /* the stale answer is out, the new one could not be had */
        rc = ctx->gone ? NGX_HTTP_CLIENT_CLOSED_REQUEST : NGX_OK;

    } else if (ctx->committed) {
        rc = NGX_ERROR;

    } else if (ctx->begun) {
        ctx->committed = 1;
        rc = ngx_http_llm_reply_break(ctx, 1);

    } else {
        ctx->committed = 1;
        rc = ngx_http_llm_reply_error(r, ctx, &ctx->error);
    }

    ngx_http_finalize_request(r, rc);
}


/*
 * What is left to be sent is nginx's now: nothing may wake the line again,
 * though the request may live for as long as its client reads.
 */

static void
ngx_http_llm_line_over(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_heart_stop(ctx);
    ngx_http_llm_revoke_leave(ctx);

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }
}


/* every wait watches the client's socket */

static void
ngx_http_llm_line_wait(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_request_t  *r;

    r = ctx->request;

    if (!ctx->body_read) {
        /* it is nginx that reads */
        return;
    }

    r->read_event_handler = ngx_http_llm_line_watch;
    r->write_event_handler = ngx_http_llm_line_resume;

    if (ctx->attempt && ctx->attempt->running) {
        ctx->attempt->sr->read_event_handler = ngx_http_llm_line_watch;
    }

    ngx_http_llm_heart_start(ctx);

    if (!ctx->gone && ngx_http_llm_attempt_client_gone(r)) {
        ngx_http_llm_line_watch(r);
    }
}


static void
ngx_http_llm_line_wake(ngx_http_llm_ctx_t *ctx)
{
    ngx_post_event(&ctx->event, &ngx_posted_events);
}


/* what a service was waited for is there, or the time is up */

static void
ngx_http_llm_line_event(ngx_event_t *ev)
{
    ngx_connection_t    *c;
    ngx_http_llm_ctx_t  *ctx;

    ctx = ev->data;
    c = ctx->request->connection;

    ngx_http_set_log_request(c->log, ctx->request);

    ngx_http_llm_line_step(ctx);

    ngx_http_run_posted_requests(c);
}


/* an attempt has ended, or the client's socket is writable again */

static void
ngx_http_llm_line_resume(ngx_http_request_t *r)
{
    ngx_connection_t    *c;
    ngx_http_llm_ctx_t  *ctx;

    c = r->connection;
    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_module);

    if (c->write->timedout) {
        ngx_log_error(NGX_LOG_INFO, c->log, NGX_ETIMEDOUT,
                      "llm: client timed out");
        c->timedout = 1;
        ctx->gone = 1;

        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    if (ctx->served && c->buffered
        && ngx_http_output_filter(r, NULL) == NGX_ERROR)
    {
        ctx->gone = 1;
    }

    if (ctx->begun && !ctx->committed && c->buffered) {
        (void) ngx_http_output_filter(r, NULL);
    }

    ngx_http_llm_line_step(ctx);
}


/* r is the main request or the attempt that holds the connection */

static void
ngx_http_llm_line_watch(ngx_http_request_t *r)
{
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r->main, ngx_http_llm_module);

    if (ctx->gone || !ngx_http_llm_attempt_client_gone(r)) {
        return;
    }

    if (ctx->served) {
        ctx->gone = 1;
        ctx->wake(ctx);
        return;
    }

    if (ngx_http_llm_forward_detach(ctx) == NGX_OK) {
        return;
    }

    ngx_log_error(NGX_LOG_INFO, r->connection->log, 0,
                  "llm: client closed connection in stage \"%s\"",
                  ((ngx_http_llm_stage_t *) ctx->table)[ctx->stage].name);

    ctx->gone = 1;

    r->connection->read->eof = 1;
    r->connection->error = 1;

    ngx_http_finalize_request(r->main, NGX_HTTP_CLIENT_CLOSED_REQUEST);
}


/* the end, however it came: exactly once, from the request's cleanup */

static void
ngx_http_llm_line_settle(void *data)
{
    ngx_http_llm_ctx_t  *ctx = data;

    ngx_uint_t               status;
    ngx_http_llm_count_t    *count;
    ngx_http_llm_attempt_t  *at;

    if (ctx->settled) {
        return;
    }

    ctx->settled = 1;

    if (ctx->event.posted) {
        ngx_delete_posted_event(&ctx->event);
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ngx_http_llm_revoke_leave(ctx);
    ngx_http_llm_heart_stop(ctx);
    ngx_http_llm_cache_cancel(ctx);
    ngx_http_llm_line_charge(ctx);
    ngx_http_llm_flight_leave(ctx);

    count = &ctx->mcf->zone->sh->count;
    at = ctx->attempt;

    if (at) {
        if (at->cancel.posted) {
            ngx_delete_posted_event(&at->cancel);
        }

        if (at->running) {
            ngx_http_llm_forward_count(ctx, NGX_HTTP_LLM_ATTEMPT_CANCELLED);
            ctx->gone = 1;
        }
    }

    ngx_http_llm_hedge_cleanup(ctx);
    ngx_http_llm_choose_end(ctx, LLM_TARGET_NEUTRAL, LLM_TARGET_UNKNOWN);

    status = ctx->gone ? NGX_HTTP_CLIENT_CLOSED_REQUEST
                       : ctx->request->headers_out.status;

    ngx_http_llm_count_request(count, ctx->endpoint, status);
    ngx_http_llm_trace_end(ctx, status);

    if (ctx->endpoint < LLM_ENDPOINTS) {
        (void) ngx_atomic_fetch_add(&count->cache[ctx->cache], 1);
        ngx_http_llm_cache_count(ctx);
        ngx_http_llm_usage_record(ctx, status);
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm settle: %ui attempts:%ui queued:%M", status,
                   ctx->attempts, ctx->queued);
}


/*
 * What ended in its regular way has been charged.  Who left in line gets all
 * back, who left while a provider worked for it pays for what came.
 */

static void
ngx_http_llm_line_charge(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    if (ctx->ticket && at && ctx->attempts) {
        ngx_http_llm_charge_settle(ctx, &at->usage, at->text_bytes,
                                   at->running);
        return;
    }

    if (ctx->ticket || ctx->gate) {
        ngx_http_llm_limit_undo(ctx);
    }
}
