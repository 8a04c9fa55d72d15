
/*
 * Copyright (C) the ngx-llm authors
 *
 * /api/tasks: whose request it is, and the walk through its steps.
 */


#include "tasks/ngx_http_llm_tasks_api_private.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_TASKS_URI  (sizeof("/api/tasks/") - 1)


static ngx_int_t ngx_http_llm_tasks_begin(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_tasks_route(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_cancel(ngx_http_llm_tasks_api_t *api,
    ngx_str_t *id);
static ngx_int_t ngx_http_llm_tasks_cancel_reply(
    ngx_http_llm_tasks_api_t *api, ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_cancelled(ngx_http_llm_tasks_api_t *api);
static void ngx_http_llm_tasks_handler(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_tasks_slice(ngx_event_t *ev);
static void ngx_http_llm_tasks_cleanup(void *data);


ngx_int_t
ngx_http_llm_tasks_stage(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_tasks_api_t  *api;

    api = ngx_http_llm_tasks_begun(ctx, ngx_http_llm_tasks_cleanup);

    if (api == NULL) {
        return ngx_http_llm_tasks_begin(ctx);
    }

    if (api->op || api->slice.posted) {
        return NGX_AGAIN;
    }

    if (ctx->timer.timer_set) {

        /* a key that is cut ends a pause early */

        if (ngx_http_llm_tasks_left(api)) {
            return NGX_AGAIN;
        }

        ngx_del_timer(&ctx->timer);
    }

    return api->step(api);
}


static ngx_int_t
ngx_http_llm_tasks_begin(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                  rc;
    ngx_http_cleanup_t        *cln;
    ngx_http_llm_tasks_api_t  *api;

    rc = ngx_http_llm_tasks_ready(ctx);

    if (rc != NGX_OK) {
        return rc;
    }

    api = ngx_pcalloc(ctx->request->pool, sizeof(ngx_http_llm_tasks_api_t));
    if (api == NULL) {
        return NGX_ERROR;
    }

    api->ctx = ctx;
    api->tcf = ngx_http_llm_tasks_conf(ctx->mcf);

    api->slice.handler = ngx_http_llm_tasks_slice;
    api->slice.data = api;
    api->slice.log = ctx->request->connection->log;

    if (ngx_http_llm_tasks_team(ctx, &api->team) != NGX_OK) {
        return NGX_ERROR;
    }

    cln = ngx_http_cleanup_add(ctx->request, 0);
    if (cln == NULL) {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_tasks_cleanup;
    cln->data = api;

    return ngx_http_llm_tasks_route(api);
}


static ngx_int_t
ngx_http_llm_tasks_route(ngx_http_llm_tasks_api_t *api)
{
    u_char              *last, *p;
    ngx_str_t            id;
    ngx_http_request_t  *r;

    r = api->ctx->request;

    if (r->uri.len < NGX_HTTP_LLM_TASKS_URI) {
        return r->method == NGX_HTTP_POST ? ngx_http_llm_tasks_submit(api)
                                          : ngx_http_llm_tasks_get(api);
    }

    last = r->uri.data + r->uri.len;

    id.data = r->uri.data + NGX_HTTP_LLM_TASKS_URI;

    p = ngx_strlchr(id.data, last, '/');
    id.len = (p ? p : last) - id.data;

    if (r->method == NGX_HTTP_DELETE) {
        return ngx_http_llm_tasks_cancel(api, &id);
    }

    return p ? ngx_http_llm_tasks_events(api, &id)
             : ngx_http_llm_tasks_get_one(api, &id);
}


/* --- DELETE */

static ngx_int_t
ngx_http_llm_tasks_cancel(ngx_http_llm_tasks_api_t *api, ngx_str_t *id)
{
    ngx_http_llm_queue_call_t  call;

    if (ngx_http_llm_tasks_one(api, id) != NGX_OK) {
        return NGX_ERROR;
    }

    api->step = ngx_http_llm_tasks_cancelled;

    if (!api->item->valid) {
        return ngx_http_llm_tasks_cancelled(api);
    }

    ngx_http_llm_queue_begin(&call, api->ctx->request->pool, "cancel");
    ngx_http_llm_queue_add(&call, &api->team);
    ngx_http_llm_queue_add_number(&call, (int64_t) api->tcf->keep * 1000);
    ngx_http_llm_queue_add(&call, id);

    return ngx_http_llm_tasks_send(api, &call,
                                   ngx_http_llm_tasks_cancel_reply)
           == NGX_AGAIN
           ? NGX_AGAIN : ngx_http_llm_tasks_unavailable(api->ctx);
}


/* rc: 1 it runs, and ends soon */

static ngx_int_t
ngx_http_llm_tasks_cancel_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_str_t                    s;
    ngx_http_llm_count_t        *count;
    ngx_http_llm_redis_reply_t   el;

    if (ngx_http_llm_redis_element(reply, 0, &el) != NGX_OK) {
        return NGX_ABORT;
    }

    s = el.str;

    if (s.len == 7 && ngx_memcmp(s.data, "flagged", 7) == 0) {
        api->item->task.state = LLM_TASKS_PROCESSING;
        return 1;
    }

    if (s.len == 9 && ngx_memcmp(s.data, "cancelled", 9) == 0) {
        count = &api->ctx->mcf->zone->sh->count;

        (void) ngx_atomic_fetch_add(
                     &count->tasks.finished[NGX_HTTP_LLM_TASK_CANCELLED], 1);

    } else if (s.len > 4 && ngx_memcmp(s.data, "was ", 4) == 0) {
        s.data += 4;
        s.len -= 4;
    }

    api->item->task.state = ngx_http_llm_tasks_state(&s);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_cancelled(ngx_http_llm_tasks_api_t *api)
{
    const char             *state;
    ngx_http_llm_answer_t  *an;

    if (api->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    state = llm_tasks_state_name(api->item->task.state);

    if (ngx_http_llm_tasks_put_text(api, "{", 1) != NGX_OK
        || ngx_http_llm_tasks_put_name(api, &api->item->id) != NGX_OK
        || ngx_http_llm_tasks_put_text(api, "{\"status\":\"", 11) != NGX_OK
        || ngx_http_llm_tasks_put_text(api, state, ngx_strlen(state))
           != NGX_OK
        || ngx_http_llm_tasks_put_text(api, "\"", 1) != NGX_OK
        || (api->rc == 1
            && ngx_http_llm_tasks_put_text(api, ",\"cancelling\":true", 18)
               != NGX_OK)
        || ngx_http_llm_tasks_put_text(api, "}}", 2) != NGX_OK)
    {
        return NGX_ERROR;
    }

    an = &api->ctx->answer;

    an->status = api->item->task.state == LLM_TASKS_NOT_FOUND
                 ? NGX_HTTP_NOT_FOUND : NGX_HTTP_OK;
    an->body = api->out;
    ngx_str_set(&an->content_type, "application/json");

    api->ctx->answered = 1;

    return NGX_OK;
}


/* --- what all have in common */

ngx_int_t
ngx_http_llm_tasks_refuse(ngx_http_llm_tasks_api_t *api, ngx_uint_t status,
    const char *code, const char *param, const char *fmt, ...)
{
    u_char              *p, *last;
    va_list              args;
    const char          *type;
    ngx_http_llm_ctx_t  *ctx;

    ctx = api->ctx;

    type = status >= NGX_HTTP_INTERNAL_SERVER_ERROR ? "server_error"
           : status == NGX_HTTP_TOO_MANY_REQUESTS ? "requests"
           : "invalid_request_error";

    p = ngx_pnalloc(ctx->request->pool, 512);
    if (p == NULL) {
        return NGX_ERROR;
    }

    va_start(args, fmt);
    last = ngx_vslprintf(p, p + 511, fmt, args);
    va_end(args);

    *last = '\0';

    status = ngx_http_llm_error(ctx, status, type, code, (const char *) p);

    if (!ctx->revoked) {
        ctx->error.param = param;
    }

    return status;
}


ngx_int_t
ngx_http_llm_tasks_send(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_tasks_reply_pt reply)
{
    api->refused = 0;
    api->reply = reply;
    api->op = ngx_http_llm_queue_send(api->tcf, call,
                                      ngx_http_llm_tasks_handler, api);

    if (api->op == NULL) {
        api->rc = NGX_ABORT;
        return call->rc == NGX_ERROR ? NGX_ERROR : NGX_ABORT;
    }

    return NGX_AGAIN;
}


static void
ngx_http_llm_tasks_handler(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_tasks_api_t  *api = data;

    api->op = NULL;

    if (reply->type == NGX_HTTP_LLM_REDIS_ARRAY) {
        api->rc = api->reply(api, reply);

    } else {
        api->rc = NGX_ABORT;

        if (reply->type == NGX_HTTP_LLM_REDIS_ERROR) {
            api->refused = reply->error == NGX_HTTP_LLM_REDIS_ERR_OOM
                           || reply->error == NGX_HTTP_LLM_REDIS_ERR_OTHER;

            ngx_log_error(NGX_LOG_WARN, api->slice.log, 0,
                          "llm tasks: Redis refused a call: \"%V\"",
                          &reply->str);
        }
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, api->slice.log, 0,
                   "llm tasks: reply type:%d rc:%i", (int) reply->type,
                   api->rc);

    api->ctx->wake(api->ctx);
}


ngx_int_t
ngx_http_llm_tasks_next_turn(ngx_http_llm_tasks_api_t *api)
{
    ngx_post_event(&api->slice, &ngx_posted_next_events);

    return NGX_AGAIN;
}


static void
ngx_http_llm_tasks_slice(ngx_event_t *ev)
{
    ngx_http_llm_tasks_api_t  *api;

    api = ev->data;

    api->ctx->wake(api->ctx);
}


ngx_int_t
ngx_http_llm_tasks_sleep(ngx_http_llm_tasks_api_t *api, ngx_msec_t ms)
{
    ngx_add_timer(&api->ctx->timer, ngx_max(ms, 1));

    return NGX_AGAIN;
}


ngx_msec_t
ngx_http_llm_tasks_left(ngx_http_llm_tasks_api_t *api)
{
    ngx_msec_int_t  left;

    left = (ngx_msec_int_t) (api->ctx->deadline - ngx_current_msec);

    return left > 0 && !api->ctx->revoked ? (ngx_msec_t) left : 0;
}


ngx_uint_t
ngx_http_llm_tasks_leaving(void)
{
    return ngx_exiting || ngx_terminate || ngx_quit;
}


ngx_uint_t
ngx_http_llm_tasks_terminal(llm_tasks_state_e state)
{
    return state != LLM_TASKS_QUEUED && state != LLM_TASKS_PROCESSING;
}


llm_tasks_state_e
ngx_http_llm_tasks_state(ngx_str_t *name)
{
    const char  *s;
    ngx_uint_t   i;

    for (i = 0; i < LLM_TASKS_NOT_FOUND; i++) {
        s = llm_tasks_state_name(i);

        if (name->len == ngx_strlen(s)
            && ngx_memcmp(name->data, s, name->len) == 0)
        {
            return i;
        }
    }

    return LLM_TASKS_NOT_FOUND;
}


/* however it ends, also when the client has left */

static void
ngx_http_llm_tasks_cleanup(void *data)
{
    ngx_http_llm_tasks_api_t  *api = data;

    if (api->op) {
        ngx_http_llm_redis_detach(api->op);
        api->op = NULL;
    }

    if (api->slice.posted) {
        ngx_delete_posted_event(&api->slice);
    }

    if (api->submit) {
        ngx_http_llm_tasks_submit_cleanup(api);
    }

    if (api->hold) {
        ngx_destroy_pool(api->hold);
        api->hold = NULL;
    }

    if (api->results) {
        ngx_destroy_pool(api->results);
        api->results = NULL;
    }
}
