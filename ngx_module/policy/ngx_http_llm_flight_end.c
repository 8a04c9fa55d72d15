
/*
 * Copyright (C) the ngx-llm authors
 *
 * How a leader's part ends: what it wrote down is stored, or kept for a while
 * for those who come back, or left.
 */


#include "policy/ngx_http_llm_flight_private.h"
#include "policy/ngx_http_llm_cache.h"
#include "http/ngx_http_llm_arena.h"
#include "state/ngx_http_llm_wake.h"

#include "core/llm_gather.h"


/* what the answer that is put together from events may take of memory */

#define NGX_HTTP_LLM_FLIGHT_GATHER  (32 * 1024 * 1024)


static void ngx_http_llm_flight_look(ngx_http_llm_flight_t *f);
static ngx_msec_t ngx_http_llm_flight_keep(ngx_http_llm_flight_t *f);


void
ngx_http_llm_flight_answer(ngx_http_llm_ctx_t *ctx, llm_answer_t *an)
{
    ngx_msec_t              keep;
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (an->complete) {
        ngx_http_llm_cache_store(ctx, &ctx->answer.body,
                                 &ctx->answer.content_type, &an->usage);
    }

    if (f == NULL || !f->leader) {
        return;
    }

    ngx_http_llm_flight_look(f);

    keep = ngx_http_llm_flight_keep(f);

    if (f->id && (f->shared || keep) && ctx->clamp <= 0) {

        f->tee = ctx->answer.body.data;
        f->len = ctx->answer.body.len;
        f->type = ctx->answer.content_type;

        if (f->max_events == 0) {
            f->ends = ngx_palloc(ctx->request->pool, sizeof(uint32_t));
            if (f->ends == NULL) {
                ngx_http_llm_flight_fail(ctx, 1);
                return;
            }
        }

        f->ends[0] = (uint32_t) f->len;
        f->events = 1;
        f->published = 0;

        ngx_http_llm_flight_publish(f);
        ngx_http_llm_flight_end(f, LLM_FLIGHT_DONE, keep);

        return;
    }

    ngx_http_llm_flight_end(f, LLM_FLIGHT_LEFT, 0);
}


void
ngx_http_llm_flight_streamed(ngx_http_llm_ctx_t *ctx)
{
    ngx_str_t               body;
    ngx_msec_t              keep;
    llm_str_t               text;
    llm_arena_t             arena;
    llm_usage_t             usage;
    ngx_http_llm_flight_t  *f;

    static ngx_str_t  type = ngx_string("application/json");

    f = ctx->flight;

    if (f == NULL || !f->leader) {
        return;
    }

    if (ctx->keyed && !ctx->no_store && !f->spilled && ctx->clamp <= 0) {

        ngx_memzero(&arena, sizeof(llm_arena_t));

        arena.left = NGX_HTTP_LLM_FLIGHT_GATHER;
        arena.alloc = ngx_http_llm_arena_alloc;
        arena.data = ctx->request->pool;

        if (llm_gather(ctx->endpoint, f->tee, f->len, &arena, &text, &usage)
            == LLM_OK)
        {
            body.data = text.data;
            body.len = text.len;

            ngx_http_llm_cache_store(ctx, &body, &type, &usage);
        }
    }

    ngx_http_llm_flight_look(f);

    if (f->id == 0) {
        return;
    }

    keep = ngx_http_llm_flight_keep(f);

    if (!f->shared && (keep == 0 || f->spilled)) {
        ngx_http_llm_flight_end(f, LLM_FLIGHT_LEFT, 0);
        return;
    }

    if (f->published < f->events) {
        ngx_http_llm_flight_publish(f);
    }

    ngx_http_llm_flight_end(f, LLM_FLIGHT_DONE, f->spilled ? 0 : keep);
}


void
ngx_http_llm_flight_over(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f == NULL || !f->leader) {
        return;
    }

    ngx_http_llm_flight_look(f);
    ngx_http_llm_flight_flush(ctx);
    ngx_http_llm_flight_end(f, f->headed && f->shared ? LLM_FLIGHT_DONE
                                                      : LLM_FLIGHT_LEFT, 0);
}


/* somebody may have come whose news has not been read yet */

static void
ngx_http_llm_flight_look(ngx_http_llm_flight_t *f)
{
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (f->id == 0 || f->lost) {
        return;
    }

    area = ngx_http_llm_flight_conf->flights;

    fl = ngx_http_llm_area_lock(area);
    f->shared = llm_flight_followers(fl, f->id) != 0;
    ngx_http_llm_area_unlock(area);
}


/* a client that retries may have missed the end; 0: nobody needs it again */

static ngx_msec_t
ngx_http_llm_flight_keep(ngx_http_llm_flight_t *f)
{
    ngx_msec_t                keep;
    ngx_http_llm_loc_conf_t  *conf;

    conf = f->ctx->conf;
    keep = 0;

    if (f->tagged && (!f->ctx->keyed || f->ctx->no_store)) {
        keep = conf->join_linger;
    }

    if (f->resumable) {
        keep = ngx_max(keep, conf->join_resume);
    }

    return keep ? ngx_current_msec + keep : 0;
}


void
ngx_http_llm_flight_fail(ngx_http_llm_ctx_t *ctx, ngx_uint_t left)
{
    ngx_http_llm_flight_t  *f;

    f = ctx->flight;

    if (f && f->leader) {
        ngx_http_llm_flight_end(f, left ? LLM_FLIGHT_LEFT : LLM_FLIGHT_FAILED,
                                0);
    }
}


void
ngx_http_llm_flight_end(ngx_http_llm_flight_t *f, ngx_uint_t state,
    ngx_msec_t keep)
{
    int64_t               note[LLM_FLIGHT_NOTES];
    llm_owners_t          wake;
    llm_flights_t        *fl;
    ngx_http_llm_area_t  *area;

    if (f->locked) {
        ngx_http_llm_fleet_let_go(f);
    }

    if (f->id == 0) {
        return;
    }

    area = ngx_http_llm_flight_conf->flights;

    ngx_memzero(&wake, sizeof(llm_owners_t));

    fl = ngx_http_llm_area_lock(area);

    if (f->ctx && f->ctx->charged) {

        /* what each who follows has been spared */

        note[0] = f->ctx->usage.prompt_tokens
                  + f->ctx->usage.completion_tokens;
        note[1] = f->ctx->cost;

        llm_flight_note(fl, f->id, note);
    }

    llm_flight_end(fl, f->id, state, keep, &wake);
    ngx_http_llm_area_unlock(area);

    ngx_http_llm_wake(&wake);

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm flight end: id:%uL state:%ui shared:%d", f->id,
                   state, f->shared);

    f->id = 0;
    f->shared = 0;
}
