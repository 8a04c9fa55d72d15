
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tables of stages, and those stages that are of no other file.
 */


#include "ngx_http_llm_line_private.h"
#include "ngx_http_llm_parse.h"
#include "http/ngx_http_llm_id.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_flight.h"
#include "policy/ngx_http_llm_identify.h"
#include "policy/ngx_http_llm_limit.h"
#include "policy/ngx_http_llm_revoke.h"
#include "tasks/ngx_http_llm_tasks.h"
#include "upstream/ngx_http_llm_affinity.h"
#include "upstream/ngx_http_llm_compare.h"
#include "upstream/ngx_http_llm_forward.h"
#include "upstream/ngx_http_llm_heart.h"
#include "upstream/ngx_http_llm_models.h"
#include "upstream/ngx_http_llm_native.h"


/* of a body that has no memory of its own: as much as it is worth */

#define NGX_HTTP_LLM_LINE_BODY  1535


static ngx_int_t ngx_http_llm_line_identify(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_line_read(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_line_late(ngx_http_llm_ctx_t *ctx);
static void ngx_http_llm_line_body(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_line_recall(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_line_take(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_line_serve(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_line_reply(ngx_http_llm_ctx_t *ctx);


static ngx_http_llm_stage_t  ngx_http_llm_line_call[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "parse",    ngx_http_llm_parse },
    { "recall",   ngx_http_llm_line_recall },
    { "affinity", ngx_http_llm_affinity },
    { "join",     ngx_http_llm_join },
    { "take",     ngx_http_llm_line_take },
    { "serve",    ngx_http_llm_line_serve },
    { "admit",    ngx_http_llm_admit },
    { "forward",  ngx_http_llm_forward },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_models[] = {
    { "identify", ngx_http_llm_line_identify },
    { "models",   ngx_http_llm_models },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_streams[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "resume",   ngx_http_llm_resume },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_compare[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "compare",  ngx_http_llm_compare },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_stored[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "stored",   ngx_http_llm_affinity_stored },
    { "forward",  ngx_http_llm_forward },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_tasks[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "tasks",    ngx_http_llm_tasks_stage },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_batches[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "batches",  ngx_http_llm_batches_stage },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_files[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "files",    ngx_http_llm_files_stage },
    { "reply",    ngx_http_llm_line_reply }
};


/* what is sent is not kept in memory */

static ngx_http_llm_stage_t  ngx_http_llm_line_upload[] = {
    { "identify", ngx_http_llm_line_identify },
    { "files",    ngx_http_llm_files_stage },
    { "reply",    ngx_http_llm_line_reply }
};


static ngx_http_llm_stage_t  ngx_http_llm_line_native[] = {
    { "identify", ngx_http_llm_line_identify },
    { "read",     ngx_http_llm_line_read },
    { "native",   ngx_http_llm_native },
    { "forward",  ngx_http_llm_forward },
    { "reply",    ngx_http_llm_line_reply }
};


/* by what a request asks for, behind the endpoints of calls */

static ngx_http_llm_stage_t  *ngx_http_llm_line_tables[] = {
    ngx_http_llm_line_models,
    ngx_http_llm_line_streams,
    ngx_http_llm_line_compare,
    ngx_http_llm_line_stored,
    ngx_http_llm_line_tasks,
    ngx_http_llm_line_batches,
    ngx_http_llm_line_files,
    ngx_http_llm_line_upload,
    ngx_http_llm_line_native
};


ngx_http_llm_stage_t *
ngx_http_llm_line_table(ngx_uint_t endpoint)
{
    return endpoint < LLM_ENDPOINTS
           ? ngx_http_llm_line_call
           : ngx_http_llm_line_tables[endpoint - LLM_ENDPOINTS];
}


static ngx_int_t
ngx_http_llm_line_identify(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    rc = ngx_http_llm_identify(ctx);

    if (rc == NGX_OK) {
        ngx_http_llm_revoke_enter(ctx);
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_line_read(ngx_http_llm_ctx_t *ctx)
{
    size_t               max;
    ngx_int_t            rc;
    ngx_table_elt_t     *h;
    ngx_http_request_t  *r;

    if (ctx->body_read) {
        return NGX_OK;
    }

    if (ctx->body_wait) {
        return ngx_http_llm_line_late(ctx);
    }

    r = ctx->request;

    h = ngx_http_llm_header_in(r, "content-encoding",
                               sizeof("content-encoding") - 1);

    if (h && !(h->value.len == 8
               && ngx_strncasecmp(h->value.data, (u_char *) "identity", 8)
                  == 0))
    {
        return ngx_http_llm_error(ctx, NGX_HTTP_UNSUPPORTED_MEDIA_TYPE,
                                  "invalid_request_error", NULL,
                                  "A compressed request body is not "
                                  "supported.");
    }

    r->request_body_in_single_buf = 1;

    /* a block that is not the pool's can be given back before its end */

    max = r->pool->max;
    r->pool->max = ngx_min(max, NGX_HTTP_LLM_LINE_BODY);

    rc = ngx_http_read_client_request_body(r, ngx_http_llm_line_body);

    r->pool->max = max;

    if (rc >= NGX_HTTP_SPECIAL_RESPONSE) {
        ctx->rc = rc;
        return NGX_DONE;
    }

    /* it counted on a handler that returns NGX_DONE; ours did so once */

    r->main->count--;

    if (ctx->body_read) {
        return NGX_OK;
    }

    ctx->body_wait = 1;

    ngx_add_timer(&ctx->timer,
                  ngx_max((ngx_msec_int_t) (ctx->deadline - ngx_current_msec),
                          1));

    return NGX_AGAIN;
}


/* nginx bounds the time between two pieces of a body, we that of all */

static ngx_int_t
ngx_http_llm_line_late(ngx_http_llm_ctx_t *ctx)
{
    if ((ngx_msec_int_t) (ctx->deadline - ngx_current_msec) > 0) {
        return NGX_AGAIN;
    }

    return ngx_http_llm_error(ctx, NGX_HTTP_REQUEST_TIME_OUT,
                              "invalid_request_error", "request_timeout",
                              "The request's body did not come in time.");
}


static void
ngx_http_llm_line_body(ngx_http_request_t *r)
{
    ngx_uint_t           waited;
    ngx_http_llm_ctx_t  *ctx;

    ctx = ngx_http_get_module_ctx(r, ngx_http_llm_module);

    waited = ctx->body_wait;
    ctx->body_wait = 0;
    ctx->body_read = 1;

    if (ctx->timer.timer_set) {
        ngx_del_timer(&ctx->timer);
    }

    if (waited) {
        ngx_http_llm_line_step(ctx);
    }
}


/*
 * Without a cache there is nothing to be had for a request alone.  With one,
 * the limits may still be asked while the answer is looked for.
 */

static ngx_int_t
ngx_http_llm_line_recall(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t  rc;

    ngx_http_llm_flight_tag(ctx);

    if (!ngx_http_llm_cache_usable(ctx)) {
        return NGX_OK;
    }

    if (!ctx->looking) {
        ctx->looking = 1;
        ctx->look_since = ngx_current_msec;
    }

    ngx_http_llm_cache_name(ctx);

    rc = ngx_http_llm_limit_take(ctx);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        return rc;
    }

    return ngx_http_llm_cache_recall(ctx);
}


static ngx_int_t
ngx_http_llm_line_take(ngx_http_llm_ctx_t *ctx)
{
    if (ctx->looking && !ctx->looked) {
        ctx->looked = 1;
        ctx->look_ms = ngx_current_msec - ctx->look_since;
    }

    if (ctx->taken || !ngx_http_llm_cache_usable(ctx)) {
        return NGX_OK;
    }

    return ngx_http_llm_limit_take(ctx);
}


/*
 * A stale answer, and then the call for a new one on the same request: its
 * client has all it gets, and does not have to wait.
 */

static ngx_int_t
ngx_http_llm_line_serve(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t            rc;
    ngx_http_request_t  *r;

    if (ctx->answered || !ctx->renew
        || ctx->cache != NGX_HTTP_LLM_CACHE_STALE)
    {
        return NGX_OK;
    }

    r = ctx->request;

    if (!ctx->served) {

        /* not committed: the call's answer is judged as any other */

        ctx->served = 1;
        ctx->detached = 1;

        /* the next request must not wait for this one's end */
        r->keepalive = 0;

        rc = ctx->begun ? ngx_http_llm_heart_answer(ctx)
                        : ngx_http_llm_reply_answer(ctx);

        if (rc == NGX_ERROR || rc > NGX_OK) {
            return NGX_ERROR;
        }
    }

    /* while an attempt runs, nobody sends what is left of this */

    return ctx->gone ? NGX_OK : ngx_http_llm_reply_flush(r);
}


static ngx_int_t
ngx_http_llm_line_reply(ngx_http_llm_ctx_t *ctx)
{
    ctx->committed = 1;
    ctx->rc = ctx->begun ? ngx_http_llm_heart_answer(ctx)
                         : ngx_http_llm_reply_answer(ctx);

    return NGX_DONE;
}
