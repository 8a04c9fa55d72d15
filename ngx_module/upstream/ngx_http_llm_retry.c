
/*
 * Copyright (C) the ngx-llm authors
 */


#include "upstream/ngx_http_llm_retry.h"
#include "upstream/ngx_http_llm_choose.h"
#include "upstream/ngx_http_llm_forward.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_quiet.h"

#include "core/llm_backoff.h"


static ngx_int_t ngx_http_llm_retry_chosen(ngx_http_llm_ctx_t *ctx);
static int64_t ngx_http_llm_retry_delay(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_retry_spent(ngx_http_llm_ctx_t *ctx);


ngx_int_t
ngx_http_llm_retry(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_outcome_t *oc)
{
    int64_t                   delay;
    ngx_uint_t                same, other;
    ngx_http_llm_loc_conf_t  *conf;

    conf = ctx->conf;

    /* a hedge is no retry */

    if (ctx->attempts - (ctx->hedge ? 1 : 0)
        >= conf->retry_tries * ctx->route->targets.nelts)
    {
        return NGX_DECLINED;
    }

    delay = ngx_http_llm_retry_delay(ctx);

    same = ctx->tries < conf->retry_tries
           && !oc->barred
           && delay <= (int64_t) conf->retry_max_wait
           && delay < (int64_t) ngx_http_llm_forward_left(ctx);

    other = ngx_http_llm_choose_other(ctx, oc->elsewhere);

    /* nobody there, or no more room there: another may have it at once */

    if (same && !(other && (oc->elsewhere
                            || oc->result == NGX_HTTP_LLM_ATTEMPT_429)))
    {
        if (ngx_http_llm_choose_retry(ctx) == NGX_OK) {
            ctx->stick = 1;

            return ngx_http_llm_forward_pause(ctx, (ngx_msec_t) delay);
        }

        /* it gets no more of them; another may still have its first */

        (void) ngx_http_llm_retry_spent(ctx);

        if (!other) {
            return NGX_DECLINED;
        }

        same = 0;
    }

    if (!same || oc->elsewhere) {
        ngx_http_llm_choose_bar(ctx);
    }

    ctx->stick = 0;

    return ngx_http_llm_retry_chosen(ctx);
}


/* whoever can be asked next: another, or the same one again */

static ngx_int_t
ngx_http_llm_retry_chosen(ngx_http_llm_ctx_t *ctx)
{
    switch (ngx_http_llm_choose(ctx)) {

    case NGX_OK:
        ctx->chosen = 1;

        /* who has not been asked yet is asked for the first time */

        if (!(ctx->visited & (1u << ctx->target))) {
            return NGX_OK;
        }

        return ngx_http_llm_choose_retry(ctx) == NGX_OK
               ? NGX_OK : ngx_http_llm_retry_spent(ctx);

    case NGX_AGAIN:
        if (ctx->choose_wait > ctx->conf->retry_max_wait
            || (ngx_msec_int_t) ctx->choose_wait
               >= ngx_http_llm_forward_left(ctx))
        {
            return NGX_DECLINED;
        }

        return ngx_http_llm_forward_pause(ctx, ngx_max(ctx->choose_wait, 1));

    default:
        return NGX_DECLINED;
    }
}


/* what the provider asks for, else by this status's own base, else by ours */

static int64_t
ngx_http_llm_retry_delay(ngx_http_llm_ctx_t *ctx)
{
    uint64_t                    base;
    ngx_uint_t                  i;
    ngx_array_t                *waits;
    ngx_http_llm_retry_wait_t  *w;

    if (ctx->attempt->asked >= 0) {
        return ctx->attempt->asked;
    }

    base = ctx->conf->retry_base;
    waits = ctx->conf->retry_waits;

    if (waits) {
        w = waits->elts;

        for (i = 0; i < waits->nelts; i++) {
            if (w[i].status == ctx->attempt->status) {
                base = w[i].base;
            }
        }
    }

    return (int64_t) llm_backoff_delay(base, ctx->conf->retry_cap,
                                       (unsigned) ctx->tries - 1,
                                       ngx_http_llm_random());
}


static ngx_int_t
ngx_http_llm_retry_spent(ngx_http_llm_ctx_t *ctx)
{
    const char  *more;
    ngx_str_t   *name;

    (void) ngx_atomic_fetch_add(&ctx->mcf->zone->sh->count.retry_denied, 1);

    name = &ctx->attempt->target->provider->name;
    more = ngx_http_llm_quiet(NGX_HTTP_LLM_QUIET_RETRY, name->data,
                              name->len);

    if (more) {
        ngx_log_error(NGX_LOG_INFO, ctx->request->connection->log, 0,
                      "llm: provider \"%V\": the budget of retries is "
                      "spent%s", name, more);
    }

    return NGX_DECLINED;
}
