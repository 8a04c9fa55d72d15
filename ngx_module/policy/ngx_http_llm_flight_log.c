
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a leader writes down: for the cache, and for those who follow.  It is
 * kept in the leader's own memory, and goes into the shared one when somebody
 * follows.
 */


#include "policy/ngx_http_llm_flight_private.h"
#include "state/ngx_http_llm_wake.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_sse.h"


#define NGX_HTTP_LLM_FLIGHT_TEE     4096       /* bytes at first */
#define NGX_HTTP_LLM_FLIGHT_EVENTS  64

/* in a head: its leader wanted to see the usage */

#define NGX_HTTP_LLM_FLIGHT_ASKED   0x80


static ngx_int_t ngx_http_llm_flight_room(ngx_http_llm_flight_t *f,
    size_t len);
static void ngx_http_llm_flight_spill(ngx_http_llm_flight_t *f);
static size_t ngx_http_llm_flight_text(ngx_http_llm_flight_t *f, u_char *p);


ngx_uint_t
ngx_http_llm_flight_leads(ngx_http_llm_ctx_t *ctx)
{
    return ctx->flight && ctx->flight->leader;
}


ngx_uint_t
ngx_http_llm_flight_shared(ngx_http_llm_ctx_t *ctx)
{
    return ctx->flight && ctx->flight->leader && ctx->flight->shared;
}


ngx_uint_t
ngx_http_llm_flight_needed(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (ctx->served) {
        return 1;
    }

    if (f == NULL || !f->leader || f->id == 0) {
        return 0;
    }

    if (f->shared) {
        return 1;
    }

    if (!f->abandoned) {
        return f->tagged || f->resumable;
    }

    return (ngx_msec_int_t) (ctx->drain_until - ngx_current_msec) > 0;
}


void
ngx_http_llm_flight_abandon(ngx_http_llm_ctx_t *ctx)
{
    ngx_msec_t              drain;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;
    drain = ctx->conf->timeout_drain;

    if (f && f->leader && f->id) {
        f->abandoned = 1;

        if (f->tagged) {
            drain = ngx_max(drain, ctx->conf->join_linger);
        }

        if (f->resumable) {
            drain = ngx_max(drain, ctx->conf->join_resume);
        }
    }

    ctx->drain_until = ngx_current_msec + drain;
}


ngx_int_t
ngx_http_llm_flight_head(ngx_http_llm_ctx_t *ctx, ngx_str_t *content_type)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL || !f->leader) {
        return NGX_OK;
    }

    f->type.data = ngx_pstrdup(ctx->request->pool, content_type);
    if (f->type.data == NULL) {
        return NGX_ERROR;
    }

    f->type.len = content_type->len;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_flight_event(ngx_http_llm_ctx_t *ctx, u_char *event, size_t len,
    unsigned bits)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL || !f->leader || (f->spilled && !f->shared)) {
        return NGX_OK;
    }

    if (f->len + len > f->limits.log) {
        ngx_http_llm_flight_spill(f);

        if (!f->shared) {
            return NGX_OK;
        }
    }

    if (ngx_http_llm_flight_room(f, len) != NGX_OK) {
        return NGX_ERROR;
    }

    ngx_memcpy(f->tee + f->len, event, len);
    f->len += len;

    if (!(bits & (LLM_SSE_DATA|LLM_SSE_DONE|LLM_SSE_ERROR))) {
        /* comments go with the event behind them */
        return NGX_OK;
    }

    if (bits & LLM_SSE_DONE) {
        f->terminal = 1;
    }

    f->ends[f->events++] = (uint32_t) f->len
                           | (bits & LLM_SSE_USAGE_ONLY
                              ? NGX_HTTP_LLM_FLIGHT_USAGE : 0);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_flight_room(ngx_http_llm_flight_t *f, size_t len)
{
    size_t       size;
    void        *p;
    ngx_pool_t  *pool;

    pool = f->ctx->request->pool;

    if (f->len + len > f->size) {
        size = f->size ? 2 * f->size : NGX_HTTP_LLM_FLIGHT_TEE;
        size = ngx_max(size, f->len + len);

        p = ngx_palloc(pool, size);
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (f->tee) {
            ngx_memcpy(p, f->tee, f->len);
            (void) ngx_pfree(pool, f->tee);
        }

        f->tee = p;
        f->size = size;
    }

    if (f->events == f->max_events) {
        size = f->max_events ? 2 * f->max_events : NGX_HTTP_LLM_FLIGHT_EVENTS;

        p = ngx_palloc(pool, size * sizeof(uint32_t));
        if (p == NULL) {
            return NGX_ERROR;
        }

        if (f->ends) {
            ngx_memcpy(p, f->ends, f->events * sizeof(uint32_t));
            (void) ngx_pfree(pool, f->ends);
        }

        f->ends = p;
        f->max_events = size;
    }

    return NGX_OK;
}


/*
 * More than may be kept: it will not be stored, and nobody can join any more.
 * Those who follow go on: what they have been given is not needed here.
 */

static void
ngx_http_llm_flight_spill(ngx_http_llm_flight_t *f)
{
    u_char               *tail;
    size_t                len, done;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (!f->spilled && f->id && !f->lost) {
        area = ngx_http_llm_flight_conf->flights;

        /* who has just come, unheard of, needs the beginning, too */

        fl = ngx_http_llm_area_lock(area);
        llm_flight_close(fl, f->id);
        f->shared = llm_flight_followers(fl, f->id) != 0;
        ngx_http_llm_area_unlock(area);
    }

    if (f->shared) {
        ngx_http_llm_flight_publish(f);
    }

    f->spilled = 1;

    /* comments whose event has yet to come */

    done = f->events ? f->ends[f->events - 1] & ~NGX_HTTP_LLM_FLIGHT_USAGE
                     : 0;
    tail = f->tee + done;
    len = f->len - done;

    if (len && f->shared) {
        ngx_memmove(f->tee, tail, len);
        f->len = len;

    } else {
        f->len = 0;
    }

    f->events = 0;
    f->published = 0;
}


void
ngx_http_llm_flight_flush(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f && f->leader && f->shared && f->published < f->events) {
        ngx_http_llm_flight_publish(f);
    }
}


void
ngx_http_llm_flight_publish(ngx_http_llm_flight_t *f)
{
    u_char                head[NGX_HTTP_LLM_FLIGHT_HEAD];
    size_t                start, end;
    uint32_t              word;
    ngx_int_t             rc;
    ngx_uint_t            i;
    llm_owners_t          wake;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (f->id == 0 || f->lost) {
        return;
    }

    area = ngx_http_llm_flight_conf->flights;
    rc = LLM_OK;

    ngx_memzero(&wake, sizeof(llm_owners_t));

    fl = ngx_http_llm_area_lock(area);

    if (!f->headed) {
        rc = llm_flight_append(fl, f->id, LLM_FLIGHT_HEAD, head,
                               ngx_http_llm_flight_text(f, head), &f->limits,
                               ngx_current_msec, &wake);
        f->headed = 1;
    }

    start = f->published
            ? f->ends[f->published - 1] & ~NGX_HTTP_LLM_FLIGHT_USAGE : 0;

    for (i = f->published; i < f->events && rc == LLM_OK; i++) {
        word = f->ends[i];
        end = word & ~NGX_HTTP_LLM_FLIGHT_USAGE;

        rc = llm_flight_append(fl, f->id, word & NGX_HTTP_LLM_FLIGHT_USAGE
                                          ? LLM_FLIGHT_USAGE
                                          : LLM_FLIGHT_DATA,
                               f->tee + start, end - start, &f->limits,
                               ngx_current_msec, &wake);
        start = end;
    }

    if (f->terminal) {
        llm_flight_said(fl, f->id);
    }

    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);

    f->published = f->events;

    if (rc != LLM_OK) {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm: no room for a call that others follow in "
                      "\"%V\"", &area->shm_zone->shm.name);
        f->lost = 1;
        f->shared = 0;
    }
}


/* endpoint and whether usage was asked for; content type, provider, model */

static size_t
ngx_http_llm_flight_text(ngx_http_llm_flight_t *f, u_char *p)
{
    size_t                  len;
    u_char                 *last;
    ngx_str_t              *text[3];
    ngx_uint_t              i;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_target_t  *target;

    ctx = f->ctx;
    last = p;

    target = (ngx_http_llm_target_t *) ctx->route->targets.elts + ctx->target;

    text[0] = &f->type;
    text[1] = &target->provider->name;
    text[2] = target->model.len ? &target->model : &ctx->model;

    *last++ = (u_char) (ctx->endpoint
                        | (ctx->rq.include_usage
                           ? NGX_HTTP_LLM_FLIGHT_ASKED : 0));

    for (i = 0; i < 3; i++) {
        len = ngx_min(text[i]->len, 320);

        *last++ = (u_char) (len >> 8);
        *last++ = (u_char) len;
        last = ngx_cpymem(last, text[i]->data, len);
    }

    return last - p;
}


ngx_int_t
ngx_http_llm_flight_tell(ngx_http_llm_flight_t *f)
{
    size_t               len;
    u_char              *p, *last;
    ngx_uint_t           i;
    llm_str_t            text[3];
    ngx_http_llm_ctx_t  *ctx;

    ctx = f->ctx;
    p = f->head;
    last = p + f->head_len;

    if (p == last || (*p & ~NGX_HTTP_LLM_FLIGHT_ASKED) >= LLM_ENDPOINTS) {
        return NGX_ERROR;
    }

    if (f->resumes) {
        ctx->rq.include_usage = (*p & NGX_HTTP_LLM_FLIGHT_ASKED) != 0;
    }

    ctx->endpoint = *p++ & ~NGX_HTTP_LLM_FLIGHT_ASKED;

    for (i = 0; i < 3; i++) {
        if (last - p < 2) {
            return NGX_ERROR;
        }

        len = p[0] << 8 | p[1];
        p += 2;

        if ((size_t) (last - p) < len) {
            return NGX_ERROR;
        }

        text[i].data = p;
        text[i].len = len;
        p += len;
    }

    f->type.data = text[0].data;
    f->type.len = text[0].len;
    f->streams = f->type.len >= 17
                 && ngx_strncasecmp(f->type.data,
                                    (u_char *) "text/event-stream", 17) == 0;

    ctx->entry.provider = text[1];
    ctx->entry.model = text[2];

    return NGX_OK;
}
