
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_charge.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_quota.h"
#include "policy/ngx_http_llm_refuse.h"
#include "policy/ngx_http_llm_tenant.h"
#include "state/ngx_http_llm_zone.h"
#include "state/ngx_http_llm_owner.h"
#include "state/ngx_http_llm_wake.h"


static void ngx_http_llm_limit_granted(void);
static ngx_int_t ngx_http_llm_limit_enter(ngx_http_llm_ctx_t *ctx,
    llm_limits_t *limits, llm_amount_t *need, llm_ticket_t *ticket);
static void ngx_http_llm_limit_need(ngx_http_llm_ctx_t *ctx,
    llm_amount_t *need, ngx_uint_t gate, llm_now_t *now, llm_ask_t *ask);
static void ngx_http_llm_limit_line_up(ngx_http_llm_ctx_t *ctx,
    llm_reading_t *rd);
static void ngx_http_llm_limit_read(ngx_http_llm_ctx_t *ctx, ngx_uint_t gate,
    llm_reading_t *rd);
static ngx_int_t ngx_http_llm_limit_resume(ngx_http_llm_ctx_t *ctx,
    llm_ticket_t *ticket);
static ngx_int_t ngx_http_llm_limit_retry(ngx_http_llm_ctx_t *ctx,
    llm_ticket_t *ticket);
static void ngx_http_llm_limit_park(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_limit_wait(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_limit_leave(ngx_http_llm_ctx_t *ctx,
    llm_ticket_t *ticket, ngx_uint_t undo);


static ngx_http_llm_zone_t  *ngx_http_llm_limit_zone;

/* this worker's requests that wait for the ledger */
static ngx_queue_t           ngx_http_llm_limit_line;


ngx_int_t
ngx_http_llm_limit_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_http_llm_limit_zone = mcf->zone;

    ngx_queue_init(&ngx_http_llm_limit_line);

    if (ngx_http_llm_owner_init_process(mcf->zone, cycle) != NGX_OK) {
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
    ngx_int_t     rc;
    llm_amount_t  need;

    if (ctx->ticket) {
        rc = ngx_http_llm_limit_resume(ctx, &ctx->ticket);

    } else {
        need.requests = 1;
        need.tokens = 0;
        need.money = 0;

        rc = ngx_http_llm_limit_enter(ctx, &ctx->limits, &need,
                                      &ctx->ticket);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    ctx->taken = 1;

    /* the store was asked: there is a ticket, which holds nothing more */
    ngx_http_llm_limit_leave(ctx, &ctx->ticket, 0);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_admit(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->answered) {
        return NGX_OK;
    }

    if (ctx->ticket) {
        rc = ngx_http_llm_limit_resume(ctx, &ctx->ticket);

    } else {
        rc = ngx_http_llm_limit_enter(ctx, &ctx->limits, NULL, &ctx->ticket);
    }

    if (rc == NGX_OK && ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    return rc;
}


ngx_int_t
ngx_http_llm_limit_gate(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    if (ctx->gate) {
        return ctx->lined ? ngx_http_llm_limit_resume(ctx, &ctx->gate)
                          : NGX_OK;
    }

    rc = ngx_http_llm_limit_flow(ctx);

    if (rc != NGX_OK) {
        return rc == NGX_DECLINED ? NGX_OK : rc;
    }

    return ngx_http_llm_limit_enter(ctx, &ctx->gate_limits, NULL, &ctx->gate);
}


/* whoever asks for a team stands in the team's line at this provider */

ngx_int_t
ngx_http_llm_limit_flow(ngx_http_llm_ctx_t *ctx)
{
    u_char                   *p;
    llm_limit_t              *flow;
    const llm_limit_t        *who;
    ngx_http_llm_target_t    *target;
    ngx_http_llm_provider_t  *provider;

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;
    provider = target->provider;

    if (provider->limit.name.len == 0) {
        return NGX_DECLINED;
    }

    who = ctx->limits.limit[ctx->limits.n - 1];

    flow = ngx_palloc(ctx->request->pool, sizeof(llm_limit_t));
    p = ngx_pnalloc(ctx->request->pool, who->name.len + 4 + NGX_INT_T_LEN);

    if (flow == NULL || p == NULL) {
        return NGX_ERROR;
    }

    ngx_memzero(flow, sizeof(llm_limit_t));

    flow->name.data = p;
    flow->name.len = ngx_sprintf(p, "f:%ui:%*s", provider->slot,
                                 who->name.len, who->name.data)
                     - p;
    flow->hash = llm_policy_hash(&flow->name);
    flow->weight = who->weight;

    ctx->gate_limits.limit[0] = flow;
    ctx->gate_limits.limit[1] = &provider->limit;
    ctx->gate_limits.n = 2;

    return NGX_OK;
}


/*
 * A slot, and with it, but not at a provider's gate, all that the request is
 * estimated to take; or, without a slot, "need" alone.
 */

static ngx_int_t
ngx_http_llm_limit_enter(ngx_http_llm_ctx_t *ctx, llm_limits_t *limits,
    llm_amount_t *need, llm_ticket_t *ticket)
{
    ngx_int_t             rc;
    llm_ask_t             ask;
    llm_now_t             now;
    llm_owners_t          wake;
    llm_reading_t         rd;
    const llm_terms_t    *terms;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;
    terms = &ctx->key->terms;

    ngx_memzero(&ask, sizeof(llm_ask_t));

    ask.limits = limits;
    ask.data = ctx;
    ask.owner = ngx_http_llm_owner();
    ask.priority = terms->priority;
    ask.queue = terms->queue_size;
    ask.slot = need == NULL;
    ask.park = terms->queue_rates;
    ask.background = ctx->background;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    ngx_http_llm_limit_need(ctx, need, ticket == &ctx->gate, &now, &ask);

    rc = llm_ledger_enter(zone->sh->ledger, &ask, &now, ticket, &rd);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_limit_read(ctx, ticket == &ctx->gate, &rd);

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm enter: %i ticket:%uL requests:%L tokens:%L money:%L",
                   rc, *ticket, ask.need.requests, ask.need.tokens,
                   ask.need.money);

    if (rc == NGX_AGAIN) {
        ngx_http_llm_limit_line_up(ctx, &rd);
        return NGX_AGAIN;
    }

    if (rc == NGX_DECLINED) {
        *ticket = 0;
        return ngx_http_llm_refuse(ctx, limits);
    }

    return NGX_OK;
}


/* what it asks the ledger for; the zone is locked */

static void
ngx_http_llm_limit_need(ngx_http_llm_ctx_t *ctx, llm_amount_t *need,
    ngx_uint_t gate, llm_now_t *now, llm_ask_t *ask)
{
    if (need) {
        ask->need = *need;
        ask->floor = *need;
        return;
    }

    if (!gate) {
        ngx_http_llm_charge_estimate(ctx, ngx_http_llm_limit_zone, now, ask);
        return;
    }

    /* a provider's own rates are waited for, as its slots are */

    ask->need.requests = 1;
    ask->need.tokens = ctx->estimate_prompt + ctx->estimate_completion;
    ask->floor = ask->need;
    ask->park = 1;
}


static void
ngx_http_llm_limit_line_up(ngx_http_llm_ctx_t *ctx, llm_reading_t *rd)
{
    ctx->waiting = 1;
    ctx->lined = 1;
    ctx->asking = rd->asking == 1;
    ctx->line_since = ngx_current_msec;
    ctx->patience = (ngx_msec_t) ctx->key->terms.queue_timeout;

    if (ctx->background) {
        /* it stands in no line */
        ctx->patience = ctx->mcf->quota->timeout;

    } else if (rd->asking) {
        /* one deadline is the fleet's, however short the patience */
        ctx->patience = ngx_max(ctx->patience, ctx->mcf->quota->timeout);
    }

    ngx_queue_insert_tail(&ngx_http_llm_limit_line, &ctx->line);

    ngx_http_llm_limit_park(ctx);
    ngx_http_llm_limit_wait(ctx);
}


/* a provider's gate tells nothing of what the client has left */

static void
ngx_http_llm_limit_read(ngx_http_llm_ctx_t *ctx, ngx_uint_t gate,
    llm_reading_t *rd)
{
    if (!gate) {
        ctx->reading = *rd;
        return;
    }

    ctx->reading.verdict = rd->verdict;
    ctx->reading.index = rd->index;
    ctx->reading.refusal = rd->refusal;
}


/* woken, perhaps for nothing: what has become of the ticket? */

static ngx_int_t
ngx_http_llm_limit_resume(ngx_http_llm_ctx_t *ctx, llm_ticket_t *ticket)
{
    llm_limits_t    *limits;
    ngx_msec_int_t   left;

    limits = ticket == &ctx->gate ? &ctx->gate_limits : &ctx->limits;

    if (ctx->waiting && ctx->parked
        && (ngx_msec_int_t) (ctx->park_until - ngx_current_msec) <= 0)
    {
        if (ngx_http_llm_limit_retry(ctx, ticket) == NGX_OK) {
            ctx->waiting = 0;
            ngx_queue_remove(&ctx->line);
        }
    }

    if (!ctx->waiting) {
        ctx->lined = 0;

        if (!ctx->asking) {
            ctx->queued += ngx_current_msec - ctx->line_since;
        }

        ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "llm waited %M ms, refused:%d", ctx->queued,
                       ctx->refused);

        if (ctx->timer.timer_set) {
            ngx_del_timer(&ctx->timer);
        }

        if (!ctx->refused) {
            return NGX_OK;
        }

        ctx->refused = 0;
        *ticket = 0;

        return ngx_http_llm_refuse(ctx, limits);
    }

    left = (ngx_msec_int_t) (ctx->line_since + ctx->patience
                             - ngx_current_msec);

    if (left > 0
        && (ngx_msec_int_t) (ctx->deadline - ngx_current_msec) > 0)
    {
        ngx_http_llm_limit_wait(ctx);
        return NGX_AGAIN;
    }

    ctx->lined = 0;
    ctx->queued += ngx_current_msec - ctx->line_since;

    return ngx_http_llm_refuse_timeout(ctx, ticket == &ctx->gate);
}


/* NGX_OK: the wait is over, one way or the other */

static ngx_int_t
ngx_http_llm_limit_retry(ngx_http_llm_ctx_t *ctx, llm_ticket_t *ticket)
{
    ngx_int_t             rc;
    llm_now_t             now;
    llm_owners_t          wake;
    llm_reading_t         rd;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;
    ctx->parked = 0;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    rc = llm_ledger_retry(zone->sh->ledger, *ticket, &now, &rd, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_limit_read(ctx, ticket == &ctx->gate, &rd);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm retry: %i wait:%L", rc,
                   ctx->reading.refusal.wait_ms);

    if (rc == NGX_AGAIN) {
        ngx_http_llm_limit_park(ctx);
        return NGX_AGAIN;
    }

    ctx->refused = rc == NGX_DECLINED;

    return NGX_OK;
}


/* whoever waits for rates is told for how long */

static void
ngx_http_llm_limit_park(ngx_http_llm_ctx_t *ctx)
{
    int64_t  wait;

    wait = ctx->reading.refusal.wait_ms;

    if (wait > 0) {
        ctx->parked = 1;
        ctx->park_until = ngx_current_msec + (ngx_msec_t) wait;
    }
}


/* until the line's patience ends, or the parked one's time has come */

static void
ngx_http_llm_limit_wait(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t  now, timer, left;

    now = ngx_current_msec;

    timer = ctx->line_since + ctx->patience - now;
    left = ctx->deadline - now;
    timer = ngx_min(timer, left);

    if (ctx->parked) {
        left = ctx->park_until - now;
        timer = ngx_min(timer, left);
    }

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    ngx_add_timer(&ctx->timer, timer);
}


/* what was granted or refused in its turn is this worker's to go on with */

static void
ngx_http_llm_limit_granted(void)
{
    ngx_uint_t            n;
    llm_owners_t          wake;
    llm_ticket_t          ticket;
    llm_reading_t         rd;
    ngx_http_llm_ctx_t   *ctx;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_limit_zone;

    n = 0;

    ngx_http_llm_zone_lock(zone, &wake);

    for ( ;; ) {
        ctx = llm_ledger_granted(zone->sh->ledger, ngx_http_llm_owner(),
                                 &ticket, &rd);
        if (ctx == NULL) {
            break;
        }

        ngx_http_llm_limit_read(ctx, ticket == ctx->gate, &rd);

        if (rd.verdict == NGX_AGAIN) {
            ngx_http_llm_limit_park(ctx);

        } else {
            ctx->waiting = 0;
            ctx->parked = 0;
            ctx->refused = rd.verdict == NGX_DECLINED;

            ngx_queue_remove(&ctx->line);
        }

        /* only posts an event */
        ctx->wake(ctx);

        n++;
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                   "llm granted: %ui", n);

    ngx_http_llm_quota_wake();
}


void
ngx_http_llm_limit_gate_leave(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_limit_leave(ctx, &ctx->gate, 0);
}


void
ngx_http_llm_limit_undo(ngx_http_llm_ctx_t *ctx)
{
    llm_now_t             now;
    llm_amount_t          one;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    ngx_http_llm_limit_leave(ctx, &ctx->gate, 1);
    ngx_http_llm_limit_leave(ctx, &ctx->ticket, 1);

    if (!ctx->taken) {
        return;
    }

    ctx->taken = 0;
    zone = ngx_http_llm_limit_zone;

    ngx_memzero(&one, sizeof(llm_amount_t));
    one.requests = 1;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    llm_ledger_untake(zone->sh->ledger, &ctx->limits, &one, &now);

    ngx_http_llm_zone_unlock(zone, &wake);
}


/* harmless when there is no ticket */

static void
ngx_http_llm_limit_leave(ngx_http_llm_ctx_t *ctx, llm_ticket_t *ticket,
    ngx_uint_t undo)
{
    llm_now_t             now;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    if (*ticket == 0) {
        return;
    }

    zone = ngx_http_llm_limit_zone;

    if (ctx->waiting) {
        ctx->waiting = 0;
        ctx->parked = 0;
        ngx_queue_remove(&ctx->line);
    }

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    llm_ledger_leave(zone->sh->ledger, *ticket, undo, &now, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    *ticket = 0;
}


void
ngx_http_llm_limit_changed(ngx_http_llm_main_conf_t *mcf)
{
    llm_now_t             now;
    ngx_str_t             name;
    ngx_pool_t           *pool;
    ngx_queue_t          *q;
    llm_owners_t          wake;
    const llm_key_t      *key;
    ngx_http_llm_ctx_t   *ctx;
    ngx_http_llm_zone_t  *zone;
    llm_keyring_found_t  *found;

    if (ngx_queue_empty(&ngx_http_llm_limit_line)) {
        return;
    }

    pool = ngx_create_pool(NGX_DEFAULT_POOL_SIZE, ngx_cycle->log);
    if (pool == NULL) {
        return;
    }

    zone = ngx_http_llm_limit_zone;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    for (q = ngx_queue_head(&ngx_http_llm_limit_line);
         q != ngx_queue_sentinel(&ngx_http_llm_limit_line);
         q = ngx_queue_next(q))
    {
        ctx = ngx_queue_data(q, ngx_http_llm_ctx_t, line);

        name.data = ctx->key->name.data;
        name.len = ctx->key->name.len;

        if (ngx_http_llm_keys_find_name(mcf, &name, pool, &found) != NGX_OK) {
            continue;
        }

        key = &found->key;

        llm_ledger_update(zone->sh->ledger, &key->limit, &now, &wake);

        if (key->team) {
            llm_ledger_update(zone->sh->ledger, &key->team->limit, &now,
                              &wake);
        }
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_destroy_pool(pool);
}
