
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_tenant.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"
#include "state/ngx_http_llm_owner.h"
#include "state/ngx_http_llm_wake.h"


static void ngx_http_llm_limit_granted(void);
static ngx_int_t ngx_http_llm_limit_enter(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_limit_refuse_rate(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_limit_refuse_line(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t refused, const char *code, const char *message);
static void ngx_http_llm_limit_count(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t refused);


static ngx_http_llm_zone_t  *ngx_http_llm_limit_zone;

/* this worker's requests that are in line */
static ngx_queue_t           ngx_http_llm_limit_line;


ngx_int_t
ngx_http_llm_limit_init_process(ngx_http_llm_zone_t *zone,
    ngx_cycle_t *cycle)
{
    ngx_http_llm_limit_zone = zone;

    ngx_queue_init(&ngx_http_llm_limit_line);

    if (ngx_http_llm_owner_init_process(zone, cycle) != NGX_OK) {
        return NGX_ERROR;
    }

    return ngx_http_llm_wake_init_process(cycle, ngx_http_llm_owner(),
                                          ngx_http_llm_limit_granted);
}


void
ngx_http_llm_limit_exit_process(void)
{
    ngx_http_llm_owner_exit_process();
    ngx_http_llm_wake_exit_process();
}


ngx_int_t
ngx_http_llm_limit_take(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t             rc;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;

    ngx_http_llm_zone_lock(zone, &wake);

    rc = llm_ledger_take(zone->sh->ledger, &ctx->limits, ngx_current_msec,
                         &ctx->reading);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm take request: %i, remaining:%uL wait:%L", rc,
                   ctx->reading.remaining, ctx->reading.wait_ms);

    if (rc == NGX_OK) {
        ctx->taken = 1;
        return NGX_OK;
    }

    if (ctx->reading.why == LLM_WHY_MEMORY) {
        return ngx_http_llm_limit_refuse_line(ctx,
                   NGX_HTTP_LLM_REFUSED_MEMORY, "limits_unavailable",
                   "The gateway has no room for more tenants; try again.");
    }

    return ngx_http_llm_limit_refuse_rate(ctx);
}


void
ngx_http_llm_limit_untake(ngx_http_llm_ctx_t *ctx)
{
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (!ctx->taken) {
        return;
    }

    ctx->taken = 0;
    zone = ngx_http_llm_limit_zone;

    ngx_http_llm_zone_lock(zone, &wake);

    llm_ledger_untake(zone->sh->ledger, &ctx->limits, ngx_current_msec);

    ngx_http_llm_zone_unlock(zone, &wake);
}


ngx_int_t
ngx_http_llm_admit(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_int_t  left;

    if (ctx->answered) {
        return NGX_OK;
    }

    if (ctx->ticket == 0) {
        return ngx_http_llm_limit_enter(ctx);
    }

    if (!ctx->waiting) {
        /* granted: the ticket holds a slot */

        ctx->queued = ngx_current_msec - ctx->line_since;

        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "llm slot after %M ms in line", ctx->queued);

        if (ctx->timer.timer_set) {
            ngx_del_timer(&ctx->timer);
        }

        return NGX_OK;
    }

    left = (ngx_msec_int_t) (ctx->line_since
                             + (ngx_msec_t) ctx->key->terms.queue_timeout
                             - ngx_current_msec);

    if (left > 0
        && (ngx_msec_int_t) (ctx->deadline - ngx_current_msec) > 0)
    {
        return NGX_AGAIN;
    }

    ctx->queued = ngx_current_msec - ctx->line_since;

    return ngx_http_llm_limit_refuse_line(ctx,
               NGX_HTTP_LLM_REFUSED_QUEUE_TIMEOUT, "queue_timeout",
               "No slot got free in time: all of this key's or its team's "
               "concurrent requests are still running.");
}


static ngx_int_t
ngx_http_llm_limit_enter(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t             rc;
    ngx_msec_t            timeout, left;
    llm_owners_t          wake;
    llm_reading_t         rd;
    const llm_terms_t    *terms;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;
    terms = &ctx->key->terms;

    ngx_http_llm_zone_lock(zone, &wake);

    rc = llm_ledger_enter(zone->sh->ledger, &ctx->limits,
                          ngx_http_llm_owner(), ctx, terms->priority,
                          terms->queue_size, ngx_current_msec, &ctx->ticket,
                          &rd);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm enter: %i ticket:%uL", rc, ctx->ticket);

    if (rc == NGX_OK) {
        return NGX_OK;
    }

    if (rc == NGX_AGAIN) {
        ctx->waiting = 1;
        ctx->line_since = ngx_current_msec;

        ngx_queue_insert_tail(&ngx_http_llm_limit_line, &ctx->line);

        timeout = (ngx_msec_t) terms->queue_timeout;
        left = ctx->deadline - ngx_current_msec;

        ngx_add_timer(&ctx->timer, ngx_min(timeout, left));

        return NGX_AGAIN;
    }

    ctx->ticket = 0;

    if (rd.why == LLM_WHY_QUEUE_FULL) {
        return ngx_http_llm_limit_refuse_line(ctx,
                   NGX_HTTP_LLM_REFUSED_QUEUE_FULL, "queue_full",
                   "Too many requests of this key wait for a slot already.");
    }

    return ngx_http_llm_limit_refuse_line(ctx,
               NGX_HTTP_LLM_REFUSED_MEMORY, "limits_unavailable",
               "The gateway has no room for more requests; try again.");
}


/* what was granted while it stood in line is this worker's to start */

static void
ngx_http_llm_limit_granted(void)
{
    ngx_uint_t            n;
    llm_owners_t          wake;
    llm_ticket_t          ticket;
    ngx_http_llm_ctx_t   *ctx;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;

    n = 0;

    ngx_http_llm_zone_lock(zone, &wake);

    for ( ;; ) {
        ctx = llm_ledger_granted(zone->sh->ledger, ngx_http_llm_owner(),
                                 &ticket);
        if (ctx == NULL) {
            break;
        }

        /* only posts an event */

        ctx->waiting = 0;
        ngx_queue_remove(&ctx->line);
        ctx->wake(ctx);

        n++;
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "llm granted: %ui", n);
}


void
ngx_http_llm_limit_leave(ngx_http_llm_ctx_t *ctx)
{
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (ctx->ticket == 0) {
        return;
    }

    zone = ngx_http_llm_limit_zone;

    if (ctx->waiting) {
        ctx->waiting = 0;
        ngx_queue_remove(&ctx->line);
    }

    ngx_http_llm_zone_lock(zone, &wake);

    llm_ledger_leave(zone->sh->ledger, ctx->ticket, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    ctx->ticket = 0;
}


void
ngx_http_llm_limit_changed(ngx_http_llm_policy_t *policy)
{
    ngx_queue_t          *q;
    llm_owners_t          wake;
    const llm_key_t      *key;
    ngx_http_llm_ctx_t   *ctx;
    ngx_http_llm_zone_t  *zone;

    if (ngx_queue_empty(&ngx_http_llm_limit_line)) {
        return;
    }

    zone = ngx_http_llm_limit_zone;

    ngx_http_llm_zone_lock(zone, &wake);

    for (q = ngx_queue_head(&ngx_http_llm_limit_line);
         q != ngx_queue_sentinel(&ngx_http_llm_limit_line);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_llm_ctx_t, line);

        key = llm_policy_find(policy->policy, ctx->key->sha256);
        if (key == NULL) {
            continue;
        }

        llm_ledger_update(zone->sh->ledger, &key->limit, &wake);

        if (key->team) {
            llm_ledger_update(zone->sh->ledger, &key->team->limit, &wake);
        }
    }

    ngx_http_llm_zone_unlock(zone, &wake);
}


static ngx_int_t
ngx_http_llm_limit_refuse_rate(ngx_http_llm_ctx_t *ctx)
{
    u_char             *p;
    const char         *kind;
    llm_reading_t      *rd;
    const llm_str_t    *name;
    ngx_msec_t          wait;

    rd = &ctx->reading;

    ngx_http_llm_limit_count(ctx, NGX_HTTP_LLM_REFUSED_REQUESTS);

    (void) ngx_http_llm_error(ctx, NGX_HTTP_TOO_MANY_REQUESTS, "requests",
                              "rate_limit_exceeded", "");

    kind = rd->index == 0 ? "key" : "team";
    name = rd->index == 0 ? &ctx->key->name : &ctx->key->team->name;

    p = ngx_pnalloc(ctx->request->pool, 256 + ctx->model.len + name->len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    ctx->error.message.data = p;
    ctx->error.wait = (ngx_int_t) rd->wait_ms;

    /* clients read "try again in 3.2s" and "174ms" out of this text */

    p = ngx_sprintf(p, "Rate limit reached for %V in %s %*s on requests per "
                    "min (RPM): Limit %uL, Used %uL, Requested 1.",
                    &ctx->model, kind, name->len, name->data, rd->limit,
                    rd->limit - rd->remaining);

    wait = (ngx_msec_t) rd->wait_ms;

    if (rd->wait_ms < 0) {
        ctx->error.no_retry = 1;

    } else if (wait < 1000) {
        p = ngx_sprintf(p, " Please try again in %Mms.", ngx_max(wait, 1));

    } else {
        wait = (wait + 99) / 100;
        p = ngx_sprintf(p, " Please try again in %M.%Ms.", wait / 10,
                        wait % 10);
    }

    ctx->error.message.len = p - ctx->error.message.data;

    return ctx->error.status;
}


static ngx_int_t
ngx_http_llm_limit_refuse_line(ngx_http_llm_ctx_t *ctx, ngx_uint_t refused,
    const char *code, const char *message)
{
    ngx_http_llm_limit_count(ctx, refused);
    ngx_http_llm_limit_leave(ctx);
    ngx_http_llm_limit_untake(ctx);

    (void) ngx_http_llm_error(ctx, refused == NGX_HTTP_LLM_REFUSED_MEMORY
                                       ? NGX_HTTP_SERVICE_UNAVAILABLE
                                       : NGX_HTTP_TOO_MANY_REQUESTS,
                              "requests", code, message);

    /* when a slot gets free nobody knows: soon is the honest guess */
    ctx->error.wait = 1000;

    return ctx->error.status;
}


static void
ngx_http_llm_limit_count(ngx_http_llm_ctx_t *ctx, ngx_uint_t refused)
{
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;

    (void) ngx_atomic_fetch_add(&zone->sh->count.refused[refused], 1);

    ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                  "llm refused: key \"%*s\" remaining:%uL wait:%L",
                  ctx->key->name.len, ctx->key->name.data,
                  ctx->reading.remaining, ctx->reading.wait_ms);
}
