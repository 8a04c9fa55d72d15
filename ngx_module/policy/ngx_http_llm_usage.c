
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_usage.h"
#include "policy/ngx_http_llm_usage_private.h"
#include "state/ngx_http_llm_owner.h"


#define NGX_HTTP_LLM_USAGE_DRAIN   100          /* ms */
#define NGX_HTTP_LLM_USAGE_SLICE   128          /* records under one lock */
#define NGX_HTTP_LLM_USAGE_KNOWN   256          /* a power of two */


static void ngx_http_llm_usage_names(ngx_http_llm_ctx_t *ctx,
    llm_str_t *name, ngx_uint_t *loose);
static void ngx_http_llm_usage_intern(ngx_http_llm_ctx_t *ctx,
    llm_book_t *bk, llm_str_t *name, ngx_uint_t loose,
    llm_book_record_t *rec);
static uint32_t ngx_http_llm_usage_find(ngx_http_llm_ctx_t *ctx,
    llm_book_t *bk, llm_book_name_e of, llm_str_t *name);
static void ngx_http_llm_usage_times(ngx_http_llm_ctx_t *ctx,
    llm_book_record_t *rec);
static void ngx_http_llm_usage_append(ngx_http_llm_ctx_t *ctx,
    llm_book_t *bk, llm_book_record_t *rec);
static void ngx_http_llm_usage_drain(ngx_http_llm_main_conf_t *mcf,
    ngx_uint_t owner);
static void ngx_http_llm_usage_timer(ngx_event_t *ev);
static void ngx_http_llm_usage_orphans(ngx_event_t *ev);


static ngx_http_llm_main_conf_t  *ngx_http_llm_usage_conf;
static ngx_event_t                ngx_http_llm_usage_event;
static ngx_connection_t           ngx_http_llm_usage_dummy;

static ngx_event_t                ngx_http_llm_usage_orphan_event;
static uint64_t                   ngx_http_llm_usage_orphan;   /* journals */

/* numbers of names as they were found last */
static uint32_t                   ngx_http_llm_usage_known
                                      [LLM_BOOK_NAMES]
                                      [NGX_HTTP_LLM_USAGE_KNOWN];


ngx_int_t
ngx_http_llm_usage_create(ngx_conf_t *cf, ngx_http_llm_main_conf_t *mcf)
{
    mcf->book = ngx_http_llm_book_create(cf,
                                         &mcf->zone->shm_zone->shm.name,
                                         mcf->usage_size,
                                         &ngx_http_llm_module);

    return mcf->book ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_usage_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    ngx_http_llm_usage_conf = mcf;
    ngx_http_llm_usage_dummy.fd = (ngx_socket_t) -1;

    ev = &ngx_http_llm_usage_event;

    ev->handler = ngx_http_llm_usage_timer;
    ev->data = &ngx_http_llm_usage_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    return ngx_http_llm_usage_write_init_process(mcf, cycle);
}


void
ngx_http_llm_usage_exit_process(ngx_http_llm_main_conf_t *mcf)
{
    if (ngx_http_llm_usage_event.timer_set) {
        ngx_del_timer(&ngx_http_llm_usage_event);
    }

    ngx_http_llm_usage_drain(mcf, ngx_http_llm_owner());
    ngx_http_llm_usage_write_exit_process(mcf);
}


/*
 * The caller holds the zone's lock: what a dead worker left is posted later.
 * It may well be another's journal by then, which goes on behind it.
 */

void
ngx_http_llm_usage_reaped(ngx_http_llm_main_conf_t *mcf, ngx_uint_t owner)
{
    ngx_event_t  *ev;

    if (mcf->book == NULL || mcf->book->sh == NULL
        || !llm_book_waits(ngx_http_llm_book_sh(mcf->book)->book, owner))
    {
        return;
    }

    /* this one ends: there is no other turn */

    if (owner == ngx_http_llm_owner()) {
        ngx_http_llm_usage_drain(mcf, owner);
        return;
    }

    ngx_http_llm_usage_orphan |= (uint64_t) 1 << owner;

    ev = &ngx_http_llm_usage_orphan_event;

    ev->handler = ngx_http_llm_usage_orphans;
    ev->data = mcf;
    ev->log = ngx_cycle->log;

    ngx_post_event(ev, &ngx_posted_next_events);
}


static void
ngx_http_llm_usage_orphans(ngx_event_t *ev)
{
    ngx_uint_t                 i;
    ngx_http_llm_main_conf_t  *mcf = ev->data;

    for (i = 0; i < LLM_BOOK_OWNERS; i++) {
        if (ngx_http_llm_usage_orphan & (uint64_t) 1 << i) {
            ngx_http_llm_usage_drain(mcf, i);

            ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ev->log, 0,
                           "llm usage: journal %ui of a worker that is gone "
                           "is posted", i);
        }
    }

    ngx_http_llm_usage_orphan = 0;
}


/* a worker's own journal; another's may also be posted by whoever reads */

static void
ngx_http_llm_usage_drain(ngx_http_llm_main_conf_t *mcf, ngx_uint_t owner)
{
    int          rc;
    llm_book_t  *bk;

    if (!llm_book_waits(ngx_http_llm_book_sh(mcf->book)->book, owner)) {
        return;
    }

    do {
        bk = ngx_http_llm_book_lock(mcf->book);
        rc = llm_book_drain(bk, owner, NGX_HTTP_LLM_USAGE_SLICE);
        ngx_http_llm_book_unlock(mcf->book);

    } while (rc == LLM_AGAIN);
}


static void
ngx_http_llm_usage_timer(ngx_event_t *ev)
{
    ngx_http_llm_usage_drain(ngx_http_llm_usage_conf, ngx_http_llm_owner());
}


void
ngx_http_llm_usage_record(ngx_http_llm_ctx_t *ctx, ngx_uint_t status)
{
    llm_str_t           name[LLM_BOOK_NAMES];
    llm_book_t         *bk;
    ngx_uint_t          loose;
    llm_book_record_t   rec;

    if (ctx->mcf->book == NULL || ctx->key == NULL
        || ctx->endpoint >= LLM_ENDPOINTS)
    {
        return;
    }

    ngx_memzero(&rec, sizeof(llm_book_record_t));

    rec.wall = ngx_time();
    rec.status = status;

    rec.flags = ctx->cache == NGX_HTTP_LLM_CACHE_HIT ? LLM_BOOK_HIT
                : ctx->cache == NGX_HTTP_LLM_CACHE_JOINED ? LLM_BOOK_JOINED
                : ctx->cache == NGX_HTTP_LLM_CACHE_STALE ? LLM_BOOK_STALE
                : 0;

    if (ctx->charged) {
        rec.prompt = ngx_max(ctx->usage.prompt_tokens, 0);
        rec.cached = ngx_max(ctx->usage.cached_tokens, 0);
        rec.completion = ngx_max(ctx->usage.completion_tokens, 0);
        rec.reasoning = ngx_max(ctx->usage.reasoning_tokens, 0);
        rec.reasoning = ngx_min(rec.reasoning, rec.completion);
        rec.money = ngx_max(ctx->cost, 0);

        if (ctx->unpriced) {
            rec.flags |= LLM_BOOK_UNPRICED;
        }
    }

    rec.saved_tokens = ngx_max(ctx->saved_tokens, 0);
    rec.saved_money = ngx_max(ctx->saved_cost, 0);

    ngx_http_llm_usage_times(ctx, &rec);

    bk = ngx_http_llm_book_sh(ctx->mcf->book)->book;

    ngx_http_llm_usage_names(ctx, name, &loose);
    ngx_http_llm_usage_intern(ctx, bk, name, loose, &rec);
    ngx_http_llm_usage_append(ctx, bk, &rec);

    ngx_log_debug5(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                   "llm usage: %ui tokens:%L+%L money:%L flags:%uD", status,
                   rec.prompt, rec.completion, rec.money, rec.flags);
}


/*
 * "loose": a name of a model that only a client has told so far.  Nobody may
 * fill the table with such.
 */

static void
ngx_http_llm_usage_names(ngx_http_llm_ctx_t *ctx, llm_str_t *name,
    ngx_uint_t *loose)
{
    ngx_str_t              *model;
    ngx_http_llm_target_t  *target;

    ngx_memzero(name, LLM_BOOK_NAMES * sizeof(llm_str_t));

    *loose = 0;

    name[LLM_BOOK_KEY] = ctx->key->name;

    if (ctx->key->team) {
        name[LLM_BOOK_TEAM] = ctx->key->team->name;
    }

    if (ctx->route == NULL) {
        return;
    }

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;
    model = target->model.len ? &target->model : &ctx->model;

    name[LLM_BOOK_MODEL].data = model->data;
    name[LLM_BOOK_MODEL].len = model->len;

    *loose = target->model.len == 0 && !ctx->route->literal && !ctx->charged
             && ctx->cache != NGX_HTTP_LLM_CACHE_HIT
             && ctx->cache != NGX_HTTP_LLM_CACHE_JOINED
             && ctx->cache != NGX_HTTP_LLM_CACHE_STALE;

    if (ctx->attempts) {
        name[LLM_BOOK_PROVIDER].data = target->provider->name.data;
        name[LLM_BOOK_PROVIDER].len = target->provider->name.len;
    }
}


static void
ngx_http_llm_usage_intern(ngx_http_llm_ctx_t *ctx, llm_book_t *bk,
    llm_str_t *name, ngx_uint_t loose, llm_book_record_t *rec)
{
    uint32_t         id;
    ngx_uint_t       i;
    llm_book_name_e  of;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        of = (llm_book_name_e) i;

        id = ngx_http_llm_usage_find(ctx, bk, of, &name[i]);

        if (id == UINT32_MAX) {

            if (of == LLM_BOOK_MODEL && loose) {
                id = LLM_BOOK_OTHER;

            } else if (llm_book_names_full(bk, of)) {
                id = LLM_BOOK_OTHER;
                rec->flags |= LLM_BOOK_FOLDED;

            } else {
                (void) ngx_http_llm_book_lock(ctx->mcf->book);
                id = llm_book_name(bk, of, &name[i]);
                ngx_http_llm_book_unlock(ctx->mcf->book);

                if (id == LLM_BOOK_OTHER) {
                    rec->flags |= LLM_BOOK_FOLDED;
                }
            }
        }

        rec->name[i] = id;
    }
}


/*
 * A name keeps its number as long as the memory does.  The one that this key
 * or target had last is tried first: comparing is less than looking for it.
 */

static uint32_t
ngx_http_llm_usage_find(ngx_http_llm_ctx_t *ctx, llm_book_t *bk,
    llm_book_name_e of, llm_str_t *name)
{
    uint32_t                id, *known;
    uintptr_t               i;
    llm_str_t               text;
    ngx_http_llm_target_t  *target;

    if (name->len == 0) {
        return LLM_BOOK_NONE;
    }

    switch (of) {

    case LLM_BOOK_TEAM:
        i = ctx->key->team->limit.hash;
        break;

    case LLM_BOOK_KEY:
        i = ctx->key->limit.hash;
        break;

    default:
        target = (ngx_http_llm_target_t *) ctx->route->targets.elts
                 + ctx->target;
        i = (uintptr_t) target / sizeof(ngx_http_llm_target_t);
        break;
    }

    known = &ngx_http_llm_usage_known[of][i & (NGX_HTTP_LLM_USAGE_KNOWN - 1)];

    llm_book_text(bk, of, *known, &text);

    if (text.len == name->len
        && ngx_memcmp(text.data, name->data, text.len) == 0)
    {
        return *known;
    }

    id = llm_book_find(bk, of, name);

    if (id != UINT32_MAX) {
        *known = id;
    }

    return id;
}


/* of who was answered by a provider, and was there until the end */

static void
ngx_http_llm_usage_times(ngx_http_llm_ctx_t *ctx, llm_book_record_t *rec)
{
    rec->latency = LLM_BOOK_UNKNOWN;
    rec->first = LLM_BOOK_UNKNOWN;
    rec->queued = LLM_BOOK_UNKNOWN;

    if (ctx->attempts == 0 || ctx->native) {
        return;
    }

    rec->queued = (uint32_t) ctx->queued;

    if (ctx->served || ctx->detached) {
        return;
    }

    rec->latency = (uint32_t) (ngx_current_msec - ctx->start);

    /* a whole answer has no first token */

    if (ctx->headed && ctx->rq.stream) {
        rec->first = (uint32_t) ctx->ttft;
    }
}


static void
ngx_http_llm_usage_append(ngx_http_llm_ctx_t *ctx, llm_book_t *bk,
    llm_book_record_t *rec)
{
    int                        rc;
    ngx_uint_t                 owner;
    ngx_http_llm_main_conf_t  *mcf;

    mcf = ctx->mcf;
    owner = ngx_http_llm_owner();

    rc = llm_book_append(bk, owner, rec);

    if (rc == LLM_AGAIN) {
        ngx_http_llm_usage_drain(mcf, owner);
        rc = llm_book_append(bk, owner, rec);
    }

    if (rc != LLM_OK) {
        (void) ngx_http_llm_book_lock(mcf->book);
        llm_book_post(bk, rec);
        ngx_http_llm_book_unlock(mcf->book);
    }

    if (ctx->pauses) {
        rc = llm_book_append_between(bk, owner, rec->name[LLM_BOOK_MODEL],
                                     rec->name[LLM_BOOK_PROVIDER],
                                     ctx->pauses);

        if (rc != LLM_OK) {
            (void) ngx_http_llm_book_lock(mcf->book);
            llm_book_post_between(bk, rec->name[LLM_BOOK_MODEL],
                                  rec->name[LLM_BOOK_PROVIDER], ctx->pauses);
            ngx_http_llm_book_unlock(mcf->book);
        }
    }

    if (!ngx_http_llm_usage_event.timer_set) {
        ngx_add_timer(&ngx_http_llm_usage_event, NGX_HTTP_LLM_USAGE_DRAIN);
    }
}


void
ngx_http_llm_usage_between(ngx_http_llm_ctx_t *ctx, ngx_msec_t ms)
{
    if (ctx->pauses == NULL) {
        ctx->pauses = ngx_pcalloc(ctx->request->pool,
                                  sizeof(llm_book_between_t));
        if (ctx->pauses == NULL) {
            return;
        }
    }

    llm_book_between(ctx->pauses, (uint32_t) ngx_min(ms, 3600000));
}


llm_book_t *
ngx_http_llm_usage_lock(ngx_http_llm_main_conf_t *mcf)
{
    return ngx_http_llm_book_read(mcf->book);
}


llm_book_t *
ngx_http_llm_usage_lock_next(ngx_http_llm_main_conf_t *mcf)
{
    return ngx_http_llm_book_lock(mcf->book);
}


void
ngx_http_llm_usage_unlock(ngx_http_llm_main_conf_t *mcf)
{
    ngx_http_llm_book_unlock(mcf->book);
}
