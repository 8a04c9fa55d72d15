
/*
 * Copyright (C) the ngx-llm authors
 *
 * /v1/batches: create, retrieve, list, cancel.
 */


#include "tasks/ngx_http_llm_batches_private.h"


#define NGX_HTTP_LLM_BATCHES_URI     (sizeof("/v1/batches/") - 1)
#define NGX_HTTP_LLM_BATCHES_WINDOW  86400000    /* ms */
#define NGX_HTTP_LLM_BATCHES_LIMIT   20
#define NGX_HTTP_LLM_BATCHES_MOST    100


static ngx_int_t ngx_http_llm_batches_begin(ngx_http_llm_ctx_t *ctx);
static ngx_int_t ngx_http_llm_batches_one(ngx_http_llm_batches_t *bs);
static ngx_int_t ngx_http_llm_batches_none(ngx_http_llm_batches_t *bs);
static ngx_int_t ngx_http_llm_batches_list(ngx_http_llm_batches_t *bs);
static ngx_int_t ngx_http_llm_batches_page(ngx_http_llm_batches_t *bs);
static ngx_int_t ngx_http_llm_batches_input(ngx_http_llm_batches_t *bs);
static void ngx_http_llm_batches_file(ngx_http_llm_blob_reader_t *rd);
static ngx_int_t ngx_http_llm_batches_create(void *data);
static ngx_int_t ngx_http_llm_batches_send(ngx_http_llm_batches_t *bs,
    ngx_http_llm_queue_call_t *call, ngx_int_t (*next)(void *data));
static void ngx_http_llm_batches_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_batches_take(ngx_http_llm_batches_t *bs,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_batches_push(ngx_http_llm_batches_t *bs,
    ngx_http_llm_redis_reply_t *reply, ngx_uint_t i);
static ngx_int_t ngx_http_llm_batches_told(void *data);
static ngx_int_t ngx_http_llm_batches_answer(ngx_http_llm_batches_t *bs);
static ngx_int_t ngx_http_llm_batches_rows(ngx_http_llm_batches_t *bs);
static void ngx_http_llm_batches_cleanup(void *data);


ngx_int_t
ngx_http_llm_batches_stage(ngx_http_llm_ctx_t *ctx)
{
    ngx_http_llm_batches_t  *bs;

    bs = ngx_http_llm_tasks_begun(ctx, ngx_http_llm_batches_cleanup);

    if (bs == NULL) {
        return ngx_http_llm_batches_begin(ctx);
    }

    return bs->pending ? NGX_AGAIN : bs->next(bs);
}


static ngx_int_t
ngx_http_llm_batches_begin(ngx_http_llm_ctx_t *ctx)
{
    ngx_int_t                rc;
    ngx_http_cleanup_t      *cln;
    ngx_http_request_t      *r;
    ngx_http_llm_batches_t  *bs;

    rc = ngx_http_llm_tasks_ready(ctx);
    if (rc != NGX_OK) {
        return rc;
    }

    r = ctx->request;

    bs = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_batches_t));
    cln = ngx_http_cleanup_add(r, 0);

    if (bs == NULL || cln == NULL) {
        return NGX_ERROR;
    }

    bs->ctx = ctx;
    bs->tcf = ngx_http_llm_tasks_conf(ctx->mcf);

    if (ngx_array_init(&bs->found, r->pool, 1, sizeof(ngx_http_llm_batch_t))
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    cln->handler = ngx_http_llm_batches_cleanup;
    cln->data = bs;

    if (ngx_http_llm_tasks_team(ctx, &bs->team) != NGX_OK) {
        return NGX_ERROR;
    }

    if (r->uri.len > NGX_HTTP_LLM_BATCHES_URI) {
        return ngx_http_llm_batches_one(bs);
    }

    if (r->method == NGX_HTTP_GET) {
        return ngx_http_llm_batches_list(bs);
    }

    rc = ngx_http_llm_batches_parse(bs);

    return rc == NGX_OK ? ngx_http_llm_batches_input(bs) : rc;
}


static ngx_int_t
ngx_http_llm_batches_one(ngx_http_llm_batches_t *bs)
{
    u_char                     *p, *last;
    ngx_http_request_t         *r;
    ngx_http_llm_queue_call_t   call;

    r = bs->ctx->request;

    last = r->uri.data + r->uri.len;

    bs->id.data = r->uri.data + NGX_HTTP_LLM_BATCHES_URI;

    p = ngx_strlchr(bs->id.data, last, '/');
    bs->id.len = (p ? p : last) - bs->id.data;

    if (!ngx_http_llm_queue_is_id(&bs->id, NGX_HTTP_LLM_BATCH_PREFIX)) {
        return ngx_http_llm_batches_none(bs);
    }

    ngx_http_llm_queue_begin(&call, r->pool,
                             r->method == NGX_HTTP_POST ? "cancel" : "get");
    ngx_http_llm_queue_add(&call, &bs->team);
    ngx_http_llm_queue_add(&call, &bs->id);

    return ngx_http_llm_batches_send(bs, &call, ngx_http_llm_batches_told);
}


/* what is another's is told from what never was by nothing */

static ngx_int_t
ngx_http_llm_batches_none(ngx_http_llm_batches_t *bs)
{
    return ngx_http_llm_batches_bad(bs, NGX_HTTP_NOT_FOUND, NULL, NULL,
                                    "No batch found with id '%V'.", &bs->id);
}


static ngx_int_t
ngx_http_llm_batches_list(ngx_http_llm_batches_t *bs)
{
    ngx_int_t                   rc;
    ngx_http_request_t         *r;
    ngx_http_llm_queue_call_t   call;

    r = bs->ctx->request;

    rc = ngx_http_llm_batches_page(bs);
    if (rc != NGX_OK) {
        return rc;
    }

    ngx_http_llm_queue_begin(&call, r->pool, "list");
    ngx_http_llm_queue_add(&call, &bs->team);
    ngx_http_llm_queue_add_number(&call, bs->limit);
    ngx_http_llm_queue_add(&call, &bs->after);

    return ngx_http_llm_batches_send(bs, &call, ngx_http_llm_batches_told);
}


static ngx_int_t
ngx_http_llm_batches_page(ngx_http_llm_batches_t *bs)
{
    ngx_int_t            n;
    ngx_str_t            value;
    ngx_http_request_t  *r;

    r = bs->ctx->request;

    bs->limit = NGX_HTTP_LLM_BATCHES_LIMIT;

    if (ngx_http_arg(r, (u_char *) "limit", 5, &value) == NGX_OK) {

        n = ngx_atoi(value.data, value.len);

        if (n < 1 || n > NGX_HTTP_LLM_BATCHES_MOST) {
            return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                            "invalid_value", "limit",
                                            "'limit' must be 1 to 100.",
                                            NULL);
        }

        bs->limit = n;
    }

    if (ngx_http_arg(r, (u_char *) "after", 5, &value) == NGX_OK
        && value.len)
    {
        bs->after = value;

        if (!ngx_http_llm_queue_is_id(&value, NGX_HTTP_LLM_BATCH_PREFIX)) {
            bs->id = value;
            return ngx_http_llm_batches_none(bs);
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batches_input(ngx_http_llm_batches_t *bs)
{
    ngx_http_llm_blob_reader_t  *rd;

    bs->next = ngx_http_llm_batches_create;

    if (!ngx_http_llm_queue_is_id(&bs->input, "file-")) {
        bs->rc = NGX_DECLINED;
        return ngx_http_llm_batches_create(bs);
    }

    rd = &bs->reader;

    rd->mcf = bs->ctx->mcf;
    rd->team = bs->team;
    rd->handler = ngx_http_llm_batches_file;
    rd->data = bs;
    rd->pool = bs->ctx->request->pool;

    bs->pending = 1;
    bs->finding = 1;

    if (ngx_http_llm_blob_find(rd, &bs->input) != NGX_OK) {
        bs->pending = 0;
        bs->finding = 0;
        return ngx_http_llm_tasks_unavailable(bs->ctx);
    }

    return NGX_AGAIN;
}


static void
ngx_http_llm_batches_file(ngx_http_llm_blob_reader_t *rd)
{
    ngx_http_llm_batches_t  *bs = rd->data;

    bs->pending = 0;
    bs->finding = 0;
    bs->rc = rd->rc;

    bs->ctx->wake(bs->ctx);
}


static ngx_int_t
ngx_http_llm_batches_create(void *data)
{
    ngx_http_llm_batches_t  *bs = data;

    ngx_str_t                   *purpose;
    ngx_http_llm_ctx_t          *ctx;
    ngx_http_llm_queue_call_t    call;

    ctx = bs->ctx;
    purpose = &bs->reader.file.purpose;

    if (bs->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(ctx);
    }

    if (bs->rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (bs->rc != NGX_OK || purpose->len != 5
        || ngx_memcmp(purpose->data, "batch", 5) != 0)
    {
        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST,
                                        "invalid_value", "input_file_id",
                                        "There is no file '%V' with the "
                                        "purpose 'batch'.", &bs->input);
    }

    if (ngx_http_llm_queue_id(ctx->request->pool, NGX_HTTP_LLM_BATCH_PREFIX,
                              &bs->id)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_begin(&call, ctx->request->pool, "create");
    ngx_http_llm_queue_add(&call, &bs->id);
    ngx_http_llm_queue_add(&call, &bs->team);
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_BATCHES_WINDOW);
    ngx_http_llm_queue_add_number(&call, NGX_HTTP_LLM_BATCH_OPEN);
    ngx_http_llm_queue_add_number(&call,
                                  (int64_t) NGX_HTTP_LLM_BATCH_INDEX * 1000);
    ngx_http_llm_batch_step_text(&call, "owner",
                                 (ngx_str_t *) &ctx->key->name);
    ngx_http_llm_batch_step_text(&call, "input", &bs->input);
    ngx_http_llm_batch_step_text(&call, "endpoint", &bs->endpoint);
    ngx_http_llm_queue_add_text(&call, "window");
    ngx_http_llm_queue_add_text(&call, "24h");

    if (bs->metadata.len) {
        ngx_http_llm_batch_step_text(&call, "metadata", &bs->metadata);
    }

    if (bs->keep) {
        ngx_http_llm_batch_step_number(&call, "keep", bs->keep);
    }

    return ngx_http_llm_batches_send(bs, &call, ngx_http_llm_batches_told);
}


static ngx_int_t
ngx_http_llm_batches_send(ngx_http_llm_batches_t *bs,
    ngx_http_llm_queue_call_t *call, ngx_int_t (*next)(void *data))
{
    bs->op = ngx_http_llm_queue_eval(bs->tcf, bs->tcf->batches, call,
                                     ngx_http_llm_batches_reply, bs);
    if (bs->op == NULL) {
        return call->rc == NGX_OK ? ngx_http_llm_tasks_unavailable(bs->ctx)
                                  : NGX_ERROR;
    }

    bs->pending = 1;
    bs->next = next;

    return NGX_AGAIN;
}


static void
ngx_http_llm_batches_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_batches_t  *bs = data;

    bs->op = NULL;
    bs->pending = 0;

    bs->rc = ngx_http_llm_batches_take(bs, reply);

    bs->ctx->wake(bs->ctx);
}


/* replies are told apart by their first element */

static ngx_int_t
ngx_http_llm_batches_take(ngx_http_llm_batches_t *bs,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_int_t                    rc;
    ngx_uint_t                   i;
    ngx_http_llm_redis_reply_t   first, word;

    if (reply->type == NGX_HTTP_LLM_REDIS_NIL) {
        return NGX_DECLINED;
    }

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        || ngx_http_llm_redis_element(reply, 0, &first) != NGX_OK)
    {
        return NGX_ABORT;
    }

    if (first.type == NGX_HTTP_LLM_REDIS_INTEGER) {

        /* [now, fields], [more, fields ...] */

        bs->more = first.integer == 1;

        for (i = 1; i < reply->nelts; i++) {
            rc = ngx_http_llm_batches_push(bs, reply, i);

            if (rc != NGX_OK) {
                return rc;
            }
        }

        return NGX_OK;
    }

    if (first.str.len == 2 && ngx_memcmp(first.str.data, "ok", 2) == 0) {
        return ngx_http_llm_batches_push(bs, reply, 1);
    }

    if (first.str.len == 3 && ngx_memcmp(first.str.data, "was", 3) == 0
        && ngx_http_llm_redis_element(reply, 1, &word) == NGX_OK
        && word.type == NGX_HTTP_LLM_REDIS_STRING)
    {
        bs->was.len = word.str.len;
        bs->was.data = ngx_pstrdup(bs->ctx->request->pool, &word.str);

        return bs->was.data ? NGX_OK : NGX_ERROR;
    }

    bs->full = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batches_push(ngx_http_llm_batches_t *bs,
    ngx_http_llm_redis_reply_t *reply, ngx_uint_t i)
{
    ngx_int_t                   rc;
    ngx_http_llm_batch_t       *b;
    ngx_http_llm_redis_reply_t  fields;

    b = ngx_array_push(&bs->found);

    if (b == NULL
        || ngx_http_llm_redis_element(reply, i, &fields) != NGX_OK)
    {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_batch_read(bs->ctx->request->pool, &fields, b);

    if (rc == NGX_DECLINED) {
        ngx_log_error(NGX_LOG_ERR, bs->ctx->request->connection->log, 0,
                      "llm: a batch in Redis cannot be read");

        /* those of a list that can be are told */

        bs->found.nelts--;

        return reply->nelts == 2 ? NGX_ERROR : NGX_OK;
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_batches_told(void *data)
{
    ngx_http_llm_batches_t  *bs = data;

    ngx_int_t            rc;
    ngx_http_llm_ctx_t  *ctx;

    ctx = bs->ctx;

    if (bs->rc == NGX_DECLINED) {
        bs->id = bs->after.len ? bs->after : bs->id;
        return ngx_http_llm_batches_none(bs);
    }

    if (bs->rc == NGX_ABORT) {
        return ngx_http_llm_tasks_unavailable(ctx);
    }

    if (bs->rc != NGX_OK) {
        return NGX_ERROR;
    }

    if (bs->was.len) {
        return ngx_http_llm_batches_bad(bs, NGX_HTTP_BAD_REQUEST, NULL, NULL,
                                        "Cannot cancel a batch with status "
                                        "'%V'.", &bs->was);
    }

    if (bs->full) {
        rc = ngx_http_llm_error(ctx, NGX_HTTP_TOO_MANY_REQUESTS, "requests",
                                "queue_full", "Too many batches of this team "
                                "have not ended yet.");

        if (!ctx->revoked) {
            ctx->error.wait = 60 * 1000;
        }

        return rc;
    }

    if (ctx->request->method == NGX_HTTP_POST) {
        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, ctx->request->connection->log, 0,
                       "llm batch: %V by its client", &bs->id);

        ngx_http_llm_runner_wake(ctx->mcf);
    }

    return ngx_http_llm_batches_answer(bs);
}


static ngx_int_t
ngx_http_llm_batches_answer(ngx_http_llm_batches_t *bs)
{
    size_t                  len;
    ngx_http_llm_ctx_t     *ctx;
    ngx_http_llm_batch_t   *b;

    ctx = bs->ctx;
    b = bs->found.elts;

    if (bs->limit) {
        if (ngx_http_llm_batches_rows(bs) != NGX_OK) {
            return NGX_ERROR;
        }

    } else {
        len = llm_batch_write_object(NULL, 0, &b->ob);

        ctx->answer.body.len = len;
        ctx->answer.body.data = ngx_pnalloc(ctx->request->pool, len);

        if (ctx->answer.body.data == NULL) {
            return NGX_ERROR;
        }

        (void) llm_batch_write_object(ctx->answer.body.data, len, &b->ob);
    }

    ctx->answer.status = NGX_HTTP_OK;
    ctx->answer.from = NULL;

    ngx_str_set(&ctx->answer.content_type, "application/json");

    ctx->answered = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batches_rows(ngx_http_llm_batches_t *bs)
{
    u_char                *p, *end;
    size_t                 len;
    llm_str_t              first, last;
    ngx_uint_t             i, n;
    ngx_http_llm_batch_t  *b;

    b = bs->found.elts;
    n = bs->found.nelts;

    ngx_memzero(&first, sizeof(llm_str_t));
    ngx_memzero(&last, sizeof(llm_str_t));

    if (n) {
        first = b[0].ob.id;
        last = b[n - 1].ob.id;
    }

    len = llm_batch_write_list_head(NULL, 0)
          + llm_batch_write_list_tail(NULL, 0, &first, &last, bs->more) + n;

    for (i = 0; i < n; i++) {
        len += llm_batch_write_object(NULL, 0, &b[i].ob);
    }

    p = ngx_pnalloc(bs->ctx->request->pool, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    bs->ctx->answer.body.data = p;
    end = p + len;

    p += llm_batch_write_list_head(p, end - p);

    for (i = 0; i < n; i++) {

        if (i) {
            *p++ = ',';
        }

        p += llm_batch_write_object(p, end - p, &b[i].ob);
    }

    p += llm_batch_write_list_tail(p, end - p, &first, &last, bs->more);

    bs->ctx->answer.body.len = p - bs->ctx->answer.body.data;

    return NGX_OK;
}


static void
ngx_http_llm_batches_cleanup(void *data)
{
    ngx_http_llm_batches_t  *bs = data;

    if (bs->op) {
        ngx_http_llm_redis_detach(bs->op);
        bs->op = NULL;
    }

    if (bs->finding) {
        bs->finding = 0;
        ngx_http_llm_blob_leave(&bs->reader);
    }
}
