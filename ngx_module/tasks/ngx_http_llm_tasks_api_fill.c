
/*
 * Copyright (C) the ngx-llm authors
 *
 * POST /api/tasks: the tasks are sent to Redis, as many at a time as one of
 * its calls may have.  The first call makes sure that there is room for all.
 */


#include "tasks/ngx_http_llm_tasks_submit.h"
#include "tasks/ngx_http_llm_fault.h"
#include "tasks/ngx_http_llm_runner.h"
#include "http/ngx_http_llm_reply.h"
#include "state/ngx_http_llm_zone.h"


/* a call whose reply is lost is sent again, for so long */

#define NGX_HTTP_LLM_TASKS_PATIENCE  3000          /* ms */
#define NGX_HTTP_LLM_TASKS_AGAIN     200

#define NGX_HTTP_LLM_TASKS_FULL      10000         /* ms, of retry-after */

/* what reply() gives */

#define NGX_HTTP_LLM_TASKS_IS_FULL   1
#define NGX_HTTP_LLM_TASKS_IS_KNOWN  2


static ngx_int_t ngx_http_llm_tasks_open_call(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_add(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_call(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_call_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_called(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_failed(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_full(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_known(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_last_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_tasks_last(ngx_http_llm_tasks_api_t *api);
static ngx_int_t ngx_http_llm_tasks_submitted(ngx_http_llm_tasks_api_t *api);


static ngx_str_t  ngx_http_llm_tasks_endpoint =
                      ngx_string("/v1/chat/completions\n");

static const char  *ngx_http_llm_tasks_state_field[] = { "s", NULL };


/* makes up a call; what is long to pack is divided among turns */

ngx_int_t
ngx_http_llm_tasks_fill(ngx_http_llm_tasks_api_t *api)
{
    size_t                        bytes;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;
    bytes = 0;

    api->step = ngx_http_llm_tasks_fill;

    if (sb->pool == NULL && ngx_http_llm_tasks_open_call(api) != NGX_OK) {
        return NGX_ERROR;
    }

    while (sb->filled < NGX_HTTP_LLM_QUEUE_JOBS) {

        if (!sb->has_item) {

            if (llm_tasks_next(&sb->ts, &sb->item) != LLM_OK) {
                break;
            }

            sb->has_item = 1;
        }

        if (sb->filled
            && sb->bytes + sb->item.len > NGX_HTTP_LLM_QUEUE_BYTES)
        {
            break;
        }

        if (bytes > NGX_HTTP_LLM_TASKS_SLICE) {
            return ngx_http_llm_tasks_next_turn(api);
        }

        if (ngx_http_llm_tasks_add(api) != NGX_OK) {
            return NGX_ERROR;
        }

        bytes += sb->item.len;
        sb->bytes += sb->item.len;
        sb->has_item = 0;
    }

    return ngx_http_llm_tasks_call(api);
}


static ngx_int_t
ngx_http_llm_tasks_open_call(ngx_http_llm_tasks_api_t *api)
{
    ngx_str_t                     owner, s;
    ngx_http_llm_queue_call_t    *call;
    ngx_http_llm_tasks_conf_t    *tcf;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;
    tcf = api->tcf;
    call = &sb->call;

    sb->pool = ngx_create_pool(16 * 1024, api->slice.log);
    if (sb->pool == NULL) {
        return NGX_ERROR;
    }

    sb->mark = sb->ts;
    sb->mark_item = sb->item;
    sb->mark_has_item = sb->has_item;
    sb->filled = 0;
    sb->bytes = 0;

    owner.data = api->ctx->key->name.data;
    owner.len = api->ctx->key->name.len;

    ngx_http_llm_queue_begin(call, sb->pool, "submit");
    ngx_http_llm_queue_add_number(call, sb->sent || sb->repeated
                                        ? 0 : sb->ts.n);
    ngx_http_llm_queue_add_number(call, tcf->max);
    ngx_http_llm_queue_add_number(call, tcf->team_max);
    ngx_http_llm_queue_add_number(call, tcf->window);

    if (sb->sent || sb->repeated || sb->name.len == 0) {
        ngx_http_llm_queue_add_text(call, "");
        ngx_http_llm_queue_add_text(call, "");

    } else {
        ngx_http_llm_queue_add(call, &sb->name);
        ngx_http_llm_queue_add(call, &sb->value);
    }

    ngx_http_llm_queue_add_number(call, (int64_t) tcf->keep * 1000);
    ngx_http_llm_queue_add_text(call, sb->check ? "1" : "0");
    ngx_http_llm_queue_add_number(call, sb->ts.priority);
    ngx_http_llm_queue_add(call, &api->team);
    ngx_http_llm_queue_add(call, &owner);
    ngx_http_llm_queue_add_text(call, sb->ts.fail_on_crash ? "f" : "");

    s.data = sb->ts.webhook.data;
    s.len = sb->ts.webhook.len;
    ngx_http_llm_queue_add(call, &s);

    ngx_http_llm_queue_add_text(call, "");
    ngx_http_llm_queue_add_number(call, ngx_http_llm_runner_wall()
                                        + (int64_t) tcf->deadline * 1000);
    ngx_http_llm_queue_add_number(call, (int64_t) (tcf->deadline
                                       + ngx_max(tcf->keep, tcf->results))
                                        * 1000);

    s.data = sb->ts.metadata.data;
    s.len = sb->ts.metadata.len;
    ngx_http_llm_queue_add(call, &s);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_add(ngx_http_llm_tasks_api_t *api)
{
    ngx_str_t                     id, piece[2], parcel;
    ngx_pool_t                   *pool;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (sb->text.len < sb->item.len) {
        pool = api->ctx->request->pool;

        if (sb->text.data) {
            (void) ngx_pfree(pool, sb->text.data);
        }

        sb->text.len = ngx_max(2 * sb->item.len, 4 * ngx_pagesize);
        sb->text.data = ngx_palloc(pool, sb->text.len);

        if (sb->text.data == NULL) {
            sb->text.len = 0;
            return NGX_ERROR;
        }
    }

    llm_tasks_write(&sb->ts, &sb->item, sb->text.data);

    id.len = NGX_HTTP_LLM_TASKS_ID_LEN;
    id.data = ngx_pnalloc(sb->pool, id.len);
    if (id.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_tasks_submit_id(sb, sb->item.index, id.data);

    piece[0] = ngx_http_llm_tasks_endpoint;
    piece[1].data = sb->text.data;
    piece[1].len = sb->item.len;

    if (ngx_http_llm_queue_pack(api->tcf, sb->pool, &id, "b", piece, 2,
                                &parcel)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_add(&sb->call, &id);
    ngx_http_llm_queue_add_number(&sb->call, sb->item.index);
    ngx_http_llm_queue_add(&sb->call, &parcel);

    sb->filled++;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_tasks_call(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    api->step = ngx_http_llm_tasks_called;

    rc = ngx_http_llm_tasks_send(api, &sb->call,
                                 ngx_http_llm_tasks_call_reply);

    ngx_destroy_pool(sb->pool);
    sb->pool = NULL;

    if (rc == NGX_ABORT) {
        return ngx_http_llm_tasks_failed(api);
    }

    sb->tried = 1;

    return rc;
}


static ngx_int_t
ngx_http_llm_tasks_call_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_count_t         *count;
    ngx_http_llm_redis_reply_t    word, el;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (ngx_http_llm_redis_element(reply, 0, &word) != NGX_OK
        || ngx_http_llm_redis_element(reply, 1, &el) != NGX_OK)
    {
        return NGX_ABORT;
    }

    if (word.str.len == 2 && ngx_memcmp(word.str.data, "ok", 2) == 0) {
        count = &api->ctx->mcf->zone->sh->count;

        (void) ngx_atomic_fetch_add(&count->tasks.submitted, el.integer);

        return NGX_OK;
    }

    if (word.str.len == 5 && ngx_memcmp(word.str.data, "again", 5) == 0) {
        sb->found.data = ngx_pstrdup(api->ctx->request->pool, &el.str);
        if (sb->found.data == NULL) {
            return NGX_ERROR;
        }

        sb->found.len = el.str.len;

        return NGX_HTTP_LLM_TASKS_IS_KNOWN;
    }

    if (word.str.len == 4 && ngx_memcmp(word.str.data, "full", 4) == 0) {
        sb->team_full = el.str.len == 4;

        if (ngx_http_llm_redis_element(reply, 2, &el) == NGX_OK) {
            sb->limit = el.integer;
        }

        if (ngx_http_llm_redis_element(reply, 3, &el) == NGX_OK) {
            sb->live = el.integer;
        }

        return NGX_HTTP_LLM_TASKS_IS_FULL;
    }

    return NGX_ABORT;
}


static ngx_int_t
ngx_http_llm_tasks_called(ngx_http_llm_tasks_api_t *api)
{
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    switch (api->rc) {

    case NGX_OK:
        break;

    case NGX_ABORT:
        return ngx_http_llm_tasks_failed(api);

    case NGX_HTTP_LLM_TASKS_IS_FULL:
        return ngx_http_llm_tasks_full(api);

    case NGX_HTTP_LLM_TASKS_IS_KNOWN:
        return ngx_http_llm_tasks_known(api);

    default:
        return NGX_ERROR;
    }

    if (sb->sent == 0) {
        ngx_http_llm_runner_wake(api->ctx->mcf);
    }

    sb->sent += sb->filled;
    sb->filled = 0;
    sb->failing = 0;

    NGX_HTTP_LLM_FAULT("after-submit");

    if (sb->sent == sb->ts.n) {
        ngx_http_llm_runner_wake(api->ctx->mcf);

        return ngx_http_llm_tasks_submitted(api);
    }

    return ngx_http_llm_tasks_fill(api);
}


/* it may have been done or not: the same call again passes over what is */

static ngx_int_t
ngx_http_llm_tasks_failed(ngx_http_llm_tasks_api_t *api)
{
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (!sb->failing) {
        sb->failing = 1;
        sb->failed = ngx_current_msec;
    }

    if (!sb->tried || api->refused
        || ngx_current_msec - sb->failed > NGX_HTTP_LLM_TASKS_PATIENCE
        || ngx_http_llm_tasks_left(api) == 0)
    {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    sb->ts = sb->mark;
    sb->item = sb->mark_item;
    sb->has_item = sb->mark_has_item;
    sb->check = 1;

    api->step = ngx_http_llm_tasks_fill;

    return ngx_http_llm_tasks_sleep(api, NGX_HTTP_LLM_TASKS_AGAIN);
}


static ngx_int_t
ngx_http_llm_tasks_full(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (!sb->check) {
        /* nothing came in, so there is nothing to undo */
        sb->done = 1;
    }

    rc = ngx_http_llm_tasks_refuse(api, NGX_HTTP_TOO_MANY_REQUESTS,
                                   "queue_full", NULL,
                                   "%s has no room for %ui more tasks: %L of "
                                   "%L are queued or running.",
                                   sb->team_full ? "Your team's part of the "
                                                   "queue" : "The queue",
                                   (ngx_uint_t) sb->ts.n, sb->live,
                                   sb->limit);

    if (rc == NGX_HTTP_TOO_MANY_REQUESTS) {
        api->ctx->error.wait = NGX_HTTP_LLM_TASKS_FULL;
        api->ctx->error.no_retry = (int64_t) sb->ts.n > sb->limit;
    }

    return rc;
}


/* the key has been used before: is there more to do than to answer? */

static ngx_int_t
ngx_http_llm_tasks_known(ngx_http_llm_tasks_api_t *api)
{
    ngx_int_t                     rc;
    ngx_str_t                     id;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;

    if (ngx_http_llm_tasks_idem_same(sb) != NGX_OK) {
        return ngx_http_llm_tasks_refuse(api, 422, "idempotency_key_reused",
                                         NULL,
                                         "This Idempotency-Key was used with "
                                         "another body.");
    }

    sb->repeated = 1;
    sb->filled = 0;
    sb->failing = 0;

    /* they came one after the other: the last is there if all are */

    id.len = NGX_HTTP_LLM_TASKS_ID_LEN;
    id.data = ngx_pnalloc(api->ctx->request->pool, id.len);

    if (id.data == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_tasks_submit_id(sb, sb->ts.n - 1, id.data);

    if (ngx_http_llm_tasks_one(api, &id) != NGX_OK) {
        return NGX_ERROR;
    }

    api->ask[0] = 0;
    api->asked = 1;
    api->step = ngx_http_llm_tasks_last;

    rc = ngx_http_llm_tasks_ask(api, ngx_http_llm_tasks_state_field,
                                ngx_http_llm_tasks_last_reply);

    return rc == NGX_ABORT ? ngx_http_llm_tasks_unavailable(api->ctx) : rc;
}


static ngx_int_t
ngx_http_llm_tasks_last_reply(ngx_http_llm_tasks_api_t *api,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_redis_reply_t  values;

    return ngx_http_llm_redis_element(reply, 0, &values) == NGX_OK
           && values.type == NGX_HTTP_LLM_REDIS_ARRAY
           ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_tasks_last(ngx_http_llm_tasks_api_t *api)
{
    if (api->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(api->ctx);
    }

    if (api->rc == NGX_OK) {
        return ngx_http_llm_tasks_submitted(api);
    }

    api->rc = NGX_OK;
    api->submit->ts = api->submit->begin;
    api->submit->has_item = 0;

    return ngx_http_llm_tasks_fill(api);
}


static ngx_int_t
ngx_http_llm_tasks_submitted(ngx_http_llm_tasks_api_t *api)
{
    u_char                       *p;
    ngx_uint_t                    i;
    ngx_http_llm_answer_t        *an;
    ngx_http_llm_tasks_submit_t  *sb;

    sb = api->submit;
    an = &api->ctx->answer;

    p = ngx_pnalloc(api->ctx->request->pool,
                    sizeof("{\"task_ids\":[],\"status\":\"queued\"}")
                    + sb->ts.n * (NGX_HTTP_LLM_TASKS_ID_LEN + 3));
    if (p == NULL) {
        return NGX_ERROR;
    }

    sb->done = 1;

    an->body.data = p;

    p = ngx_cpymem(p, "{\"task_ids\":[", sizeof("{\"task_ids\":[") - 1);

    for (i = 0; i < sb->ts.n; i++) {

        if (i) {
            *p++ = ',';
        }

        *p++ = '"';
        ngx_http_llm_tasks_submit_id(sb, i, p);
        p += NGX_HTTP_LLM_TASKS_ID_LEN;
        *p++ = '"';
    }

    p = ngx_cpymem(p, "],\"status\":\"queued\"}",
                   sizeof("],\"status\":\"queued\"}") - 1);

    an->body.len = p - an->body.data;
    an->status = NGX_HTTP_OK;
    ngx_str_set(&an->content_type, "application/json");

    api->ctx->answered = 1;

    return NGX_OK;
}
