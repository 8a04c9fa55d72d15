
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_cut.h"
#include "http/ngx_http_llm_quiet.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_charge.h"


static ngx_int_t ngx_http_llm_cut_final(ngx_http_llm_attempt_t *at,
    llm_sse_stamp_t *st, uint64_t open, ngx_uint_t lf);
static void ngx_http_llm_cut_stamp(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len, llm_sse_stamp_t *st);


ngx_int_t
ngx_http_llm_cut_begin(ngx_http_llm_attempt_t *at, u_char *event, size_t len)
{
    u_char           *p;
    ngx_uint_t        i;
    llm_str_t        *value[3];
    llm_sse_stamp_t  *st;

    if (at->ctx->endpoint != LLM_RESPONSES) {
        return NGX_OK;
    }

    /* later events do not repeat it, and the buffer will be another's */

    st = ngx_palloc(at->sr->pool, sizeof(llm_sse_stamp_t));
    if (st == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_cut_stamp(at, event, len, st);

    ngx_memzero(&st->object, sizeof(llm_str_t));

    value[0] = &st->id;
    value[1] = &st->created;
    value[2] = &st->model;

    for (i = 0; i < 3; i++) {

        if (value[i]->len == 0) {
            continue;
        }

        p = ngx_pnalloc(at->sr->pool, value[i]->len);
        if (p == NULL) {
            return NGX_ERROR;
        }

        ngx_memcpy(p, value[i]->data, value[i]->len);
        value[i]->data = p;
    }

    at->stamp = st;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_cut_check(ngx_http_llm_attempt_t *at, u_char *event, size_t len,
    ngx_uint_t lf)
{
    uint64_t             open;
    const char          *more;
    llm_sse_stamp_t      st;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;

    /* what has finished costs no more, and ends by itself */

    open = at->text.begun & ~at->text.finished;

    if (at->terminal || at->error_event
        || (open == 0 && ctx->endpoint != LLM_RESPONSES))
    {
        return NGX_OK;
    }

    if (ngx_http_llm_charge_streamed(ctx, at->text_bytes) != NGX_DECLINED) {
        return NGX_OK;
    }

    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_CUT, ctx->key->name.data,
                              ctx->key->name.len);

    if (more) {
        ngx_log_error(NGX_LOG_INFO, at->sr->connection->log, 0,
                      "llm: stream of key \"%*s\" cut after %uz bytes of "
                      "text: no tokens left%s", ctx->key->name.len,
                      ctx->key->name.data, at->text_bytes, more);
    }

    ngx_http_llm_cut_stamp(at, event, len, &st);

    if (at->stamp) {
        at->stamp->sequence = st.sequence;
        st = *at->stamp;
    }

    if (ngx_http_llm_cut_final(at, &st, open, lf) != NGX_OK) {
        return NGX_ERROR;
    }

    at->cut = 1;

    (void) ngx_atomic_fetch_add(&at->ctx->mcf->zone->sh->count.cut, 1);

    /* an upstream must not be taken away from under its own reader */

    ngx_post_event(&at->cancel, &ngx_posted_events);

    return NGX_OK;
}


static void
ngx_http_llm_cut_stamp(ngx_http_llm_attempt_t *at, u_char *event, size_t len,
    llm_sse_stamp_t *st)
{
    llm_str_t    data;
    llm_arena_t  none;

    ngx_memzero(&none, sizeof(llm_arena_t));

    if (llm_sse_data(event, len, &none, &data) != LLM_OK) {
        data.data = event;
        data.len = 0;
    }

    llm_sse_stamp(st, at->ctx->endpoint, &data);
}


static ngx_int_t
ngx_http_llm_cut_final(ngx_http_llm_attempt_t *at, llm_sse_stamp_t *st,
    uint64_t open, ngx_uint_t lf)
{
    u_char              *p;
    int64_t              prompt, completion;
    ngx_buf_t           *b;
    ngx_http_llm_ctx_t  *ctx;

    ctx = at->ctx;

    /* some providers report as they go */

    prompt = at->usage.prompt_tokens >= 0 ? at->usage.prompt_tokens
                                          : ctx->estimate_prompt;
    completion = at->usage.completion_tokens >= 0
                 ? at->usage.completion_tokens : ctx->estimate_completion;

    b = ngx_create_temp_buf(at->sr->pool, 1 + llm_sse_final_size(st));
    if (b == NULL) {
        return NGX_ERROR;
    }

    p = b->last;

    if (lf) {
        *p++ = LF;
    }

    b->last = llm_sse_final(p, ctx->endpoint, st, open, ctx->rq.include_usage,
                            prompt, completion);
    b->flush = 1;

    at->final = b;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_cut_break(ngx_http_llm_ctx_t *ctx)
{
    const char              *more;
    ngx_http_llm_attempt_t  *at;

    at = ctx->attempt;

    /* a revoked key's is none of the provider's */

    more = ctx->revoked ? NULL
           : ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_BROKE,
                                at->target->provider->name.data,
                                at->target->provider->name.len);

    if (more) {
        ngx_log_error(NGX_LOG_ERR, ctx->request->connection->log, 0,
                      "llm: provider \"%V\" broke off a stream%s%s",
                      &at->target->provider->name,
                      at->silent ? ": it went silent"
                      : at->timedout ? ": its time was up"
                      : at->stream && at->overflow ? ": an event is too large"
                                                   : "", more);
    }

    if (at->silent) {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                                  "upstream_timeout",
                                  "The provider went silent in the middle "
                                  "of its answer.");

    } else if (at->timedout) {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_GATEWAY_TIME_OUT, "timeout",
                                  "upstream_timeout",
                                  "The provider's answer was cut off: its "
                                  "time was up.");

    } else if (at->stream && at->overflow) {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                                  "upstream_error",
                                  "The provider sent an event that is too "
                                  "large.");

    } else {
        (void) ngx_http_llm_error(ctx, NGX_HTTP_BAD_GATEWAY, "server_error",
                                  "upstream_error",
                                  "The provider broke off its answer.");
    }

    return ngx_http_llm_reply_break(ctx, at->stream);
}
