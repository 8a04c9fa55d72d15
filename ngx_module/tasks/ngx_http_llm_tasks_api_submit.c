
/*
 * Copyright (C) the ngx-llm authors
 *
 * POST /api/tasks: the body is read and looked at in slices; nothing is sent
 * before all of it is known to be right.  A client that leaves meanwhile, or a
 * Redis that fails, leaves no tasks behind that nobody knows of: they are
 * cancelled, unless an Idempotency-Key lets somebody come again for them.
 */


#include "tasks/ngx_http_llm_tasks_submit.h"
#include "tasks/ngx_http_llm_webhook.h"
#include "http/ngx_http_llm_arena.h"
#include "http/ngx_http_llm_body.h"
#include "http/ngx_http_llm_reply.h"


/* of the scan: 8 bytes for each task, and some KB */

#define NGX_HTTP_LLM_TASKS_ARENA     (1024 * 1024)

/* each task has a copy of it */

#define NGX_HTTP_LLM_TASKS_METADATA  (16 * 1024 * 1024)


static ngx_int_t ngx_http_llm_tasks_scan(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_wrong(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_scanned(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_webhook(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_measure(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_large(ngx_http_llm_tasks_api_t *api,
    ngx_uint_t i);
static void ngx_http_llm_tasks_undo(ngx_http_llm_tasks_api_t *api);


ngx_int_t
ngx_http_llm_tasks_submit(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    llm_str_t                     body, model;
    ngx_http_llm_ctx_t           *ctx;
    ngx_http_llm_tasks_submit_t  *sb;

    ctx = api->ctx;

    sb = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_tasks_submit_t));
    if (sb == NULL) {
        return NGX_ERROR;
    }

    api->submit = sb;

    if (ngx_http_llm_body(ctx->request, &ctx->body) != NGX_OK) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_tasks_idem(api);

    if (rc != NGX_OK) {
        return rc;
    }

    body.data = ctx->body.len ? ctx->body.data : (u_char *) "";
    body.len = ctx->body.len;
    model.data = api->tcf->model.data;
    model.len = api->tcf->model.len;

    sb->arena.left = NGX_HTTP_LLM_TASKS_ARENA;
    sb->arena.alloc = ngx_http_llm_arena_alloc;
    sb->arena.data = ctx->request->pool;
    sb->arena.failed = 0;

    llm_tasks_init(&sb->ts, &body, &model, LLM_TASKS_MOST, &sb->arena,
                   &sb->err);

    api->step = ngx_http_llm_tasks_scan;

    return ngx_http_llm_tasks_scan(api);
}


static ngx_int_t
ngx_http_llm_tasks_scan(ngx_http_llm_tasks_api_t *api)
{
    int                           rc;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (ngx_http_llm_tasks_left(api) == 0) {
        return ngx_http_llm_error(api->ctx, NGX_HTTP_GATEWAY_TIME_OUT,
                                  "timeout", "upstream_timeout",
                                  "The request's time was up before its "
                                  "tasks were read.");
    }

    rc = llm_tasks_scan(&sb->ts, NGX_HTTP_LLM_TASKS_SLICE);

    if (rc == LLM_ERROR) {
        return sb->arena.failed ? NGX_ERROR : ngx_http_llm_tasks_wrong(api);
    }

    if (ngx_http_llm_tasks_idem_update(sb, &api->ctx->body) != NGX_OK) {
        return NGX_ERROR;
    }

    if (rc == LLM_AGAIN
        || (sb->name.len && sb->hashed < api->ctx->body.len))
    {
        return ngx_http_llm_tasks_next_turn(api);
    }

    return ngx_http_llm_tasks_scanned(api);
}


static ngx_int_t
ngx_http_llm_tasks_wrong(ngx_http_llm_tasks_api_t *api)
{
    llm_tasks_error_t  *err;

    err = &api->submit->err;

    return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST, err->code,
                                     err->param[0] ? err->param : NULL,
                                     "%s.", err->text);
}


static ngx_int_t
ngx_http_llm_tasks_scanned(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    ngx_str_t                     id;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (sb->ts.webhook.len) {
        rc = ngx_http_llm_tasks_webhook(api);

        if (rc != NGX_OK) {
            return rc;
        }
    }

    if (sb->ts.metadata.len * sb->ts.n > NGX_HTTP_LLM_TASKS_METADATA) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "invalid_value", "metadata",
                                         "'metadata' is kept with each task: "
                                         "it is too large for %ui of them.",
                                         (ngx_uint_t) sb->ts.n);
    }

    if (ngx_http_llm_queue_id(api->ctx->request->pool, "task-", &id)
        != NGX_OK
        || id.len != NGX_HTTP_LLM_TASKS_ID_LEN)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(sb->base, id.data, id.len);

    if (ngx_http_llm_tasks_idem_value(api) != NGX_OK) {
        return NGX_ERROR;
    }

    sb->begin = sb->ts;

    api->step = ngx_http_llm_tasks_measure;

    return ngx_http_llm_tasks_measure(api);
}


static ngx_int_t
ngx_http_llm_tasks_webhook(ngx_http_llm_tasks_api_t *api)
{
    ngx_str_t  url;

    if (api->tcf->webhooks == NULL) {
        return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                         "invalid_value", "webhook",
                                         "This gateway calls no webhooks: "
                                         "no host is allowed by its "
                                         "configuration (llm_tasks "
                                         "webhook=).");
    }

    url.data = api->submit->ts.webhook.data;
    url.len = api->submit->ts.webhook.len;

    if (ngx_http_llm_webhook_check(api->tcf, &url) == NGX_OK) {
        return NGX_OK;
    }

    return ngx_http_llm_tasks_refuse(api, NGX_HTTP_BAD_REQUEST,
                                     "invalid_value", "webhook",
                                     "'webhook' must be an https URL of a "
                                     "host that this gateway may call.");
}


/* all or nothing: is there one that is too large? */

static ngx_int_t
ngx_http_llm_tasks_measure(ngx_http_llm_tasks_api_t *api)
{
    size_t                        bytes;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;
    bytes = 0;

    while (llm_tasks_next(&sb->ts, &sb->item) == LLM_OK) {

        if (sb->item.len > NGX_HTTP_LLM_TASKS_BODY) {
            return ngx_http_llm_tasks_large(api, sb->item.index);
        }

        /* a request is read once more, a prompt is not */

        bytes += sb->ts.prompts ? 64
                                : sb->item.span.end - sb->item.span.start;

        if (bytes > NGX_HTTP_LLM_TASKS_SLICE) {
            return ngx_http_llm_tasks_next_turn(api);
        }
    }

    sb->ts = sb->begin;

    return ngx_http_llm_tasks_fill(api);
}


static ngx_int_t
ngx_http_llm_tasks_large(ngx_http_llm_tasks_api_t *api, ngx_uint_t i)
{
    u_char  *param;

    param = ngx_pnalloc(api->ctx->request->pool, 48);
    if (param == NULL) {
        return NGX_ERROR;
    }

    ngx_sprintf(param, "%s[%ui]%Z",
                api->submit->ts.prompts ? "prompts" : "requests", i);

    return ngx_http_llm_tasks_refuse(api, NGX_HTTP_REQUEST_ENTITY_TOO_LARGE,
                                     "request_too_large",
                                     (const char *) param,
                                     "The request of a task may have %d "
                                     "bytes at most.",
                                     NGX_HTTP_LLM_TASKS_BODY);
}


void
ngx_http_llm_tasks_submit_cleanup(ngx_http_llm_tasks_api_t *api)
{
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (sb->pool) {
        ngx_destroy_pool(sb->pool);
        sb->pool = NULL;
    }

    EVP_MD_CTX_free(sb->md);
    sb->md = NULL;

    if (sb->tried && !sb->done && sb->name.len == 0) {
        ngx_http_llm_tasks_undo(api);
    }

    sb->done = 1;
}


/*
 * Nobody has heard of these tasks.  Commands keep their order, so those of
 * a call that is on its way are there when they are cancelled.
 */

static void
ngx_http_llm_tasks_undo(ngx_http_llm_tasks_api_t *api)
{
    ngx_str_t                     id;
    ngx_uint_t                    i, k, n;
    ngx_pool_t                   *pool;
    ngx_http_llm_queue_call_t     call;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;
    n = sb->sent + sb->filled;

    for (i = 0; i < n; i = k) {

        pool = ngx_create_pool(16 * 1024, api->slice.log);
        if (pool == NULL) {
            return;
        }

        ngx_http_llm_queue_begin(&call, pool, "cancel");
        ngx_http_llm_queue_add(&call, &api->team);
        ngx_http_llm_queue_add_number(&call, (int64_t) api->tcf->keep * 1000);

        for (k = i; k < n && k - i < NGX_HTTP_LLM_QUEUE_JOBS; k++) {

            id.len = NGX_HTTP_LLM_TASKS_ID_LEN;
            id.data = ngx_pnalloc(pool, id.len);

            if (id.data == NULL) {
                break;
            }

            ngx_http_llm_tasks_submit_id(sb, k, id.data);
            ngx_http_llm_queue_add(&call, &id);
        }

        if (ngx_http_llm_queue_send(api->tcf, &call, NULL, NULL) == NULL) {
            k = n;
        }

        ngx_destroy_pool(pool);
    }

    if (n) {
        ngx_log_error(NGX_LOG_INFO, api->slice.log, 0,
                      "llm tasks: %ui tasks of a request that was not "
                      "answered are cancelled", n);
    }
}
