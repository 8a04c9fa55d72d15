
/*
 * Copyright (C) the ngx-llm authors
 *
 * GET /v1/files: a page, newest first, made of as many calls as it needs.
 */


#include "tasks/ngx_http_llm_files_private.h"
#include "http/ngx_http_llm_reply.h"

#include "core/llm_batch.h"


#define NGX_HTTP_LLM_FILES_PAGE   10000     /* files, at most */
#define NGX_HTTP_LLM_FILES_ROWS   200       /* of a call */
#define NGX_HTTP_LLM_FILES_FROM   32        /* bytes of a place */
#define NGX_HTTP_LLM_FILES_TEXT   4096      /* room at first */


struct ngx_http_llm_files_list_s {
    ngx_str_t                   after;
    ngx_str_t                   order;
    ngx_str_t                   purpose;
    ngx_uint_t                  limit;
    ngx_uint_t                  n;           /* that are in "text" */

    size_t                      from_len;
    u_char                      from[NGX_HTTP_LLM_FILES_FROM];

    llm_str_t                   first;       /* ids */
    llm_str_t                   last;

    u_char                     *text;
    size_t                      len;
    size_t                      size;

    unsigned                    more:1;      /* than the page has */
    unsigned                    end:1;
};


static ngx_int_t ngx_http_llm_files_list_begin(ngx_http_llm_files_t *fs);
static ngx_int_t ngx_http_llm_files_list_ask(ngx_http_llm_files_t *fs);
static void ngx_http_llm_files_list_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_files_list_rows(ngx_http_llm_files_t *fs,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_files_list_row(ngx_http_llm_files_t *fs,
    ngx_http_llm_redis_reply_t *row);
static u_char *ngx_http_llm_files_list_room(ngx_http_llm_files_t *fs,
    size_t len);
static ngx_int_t ngx_http_llm_files_list_end(ngx_http_llm_files_t *fs);


ngx_int_t
ngx_http_llm_files_list(ngx_http_llm_files_t *fs)
{
    ngx_int_t  rc;

    if (fs->list == NULL) {
        rc = ngx_http_llm_files_list_begin(fs);

        return rc == NGX_OK ? ngx_http_llm_files_list_ask(fs) : rc;
    }

    switch (fs->rc) {

    case NGX_OK:
        return fs->list->end ? ngx_http_llm_files_list_end(fs)
                             : ngx_http_llm_files_list_ask(fs);

    case NGX_DECLINED:
        return ngx_http_llm_files_unknown(fs, &fs->list->after, "after");

    case NGX_ABORT:
        return ngx_http_llm_tasks_unavailable(fs->ctx);

    default:
        return NGX_ERROR;
    }
}


static ngx_int_t
ngx_http_llm_files_list_begin(ngx_http_llm_files_t *fs)
{
    u_char                     *p;
    ngx_int_t                   n;
    ngx_str_t                   limit;
    ngx_http_request_t         *r;
    ngx_http_llm_files_list_t  *ls;

    r = fs->ctx->request;

    ls = ngx_pcalloc(r->pool, sizeof(ngx_http_llm_files_list_t));
    if (ls == NULL) {
        return NGX_ERROR;
    }

    ls->limit = NGX_HTTP_LLM_FILES_PAGE;
    ngx_str_set(&ls->order, "desc");

    if (ngx_http_arg(r, (u_char *) "limit", 5, &limit) == NGX_OK
        && limit.len)
    {
        n = ngx_atoi(limit.data, limit.len);

        if (n < 1 || n > NGX_HTTP_LLM_FILES_PAGE) {
            return ngx_http_llm_files_wrong(fs, "limit", "invalid_value",
                                            "limit must be a number from 1 "
                                            "to 10000.");
        }

        ls->limit = n;
    }

    if (ngx_http_arg(r, (u_char *) "order", 5, &ls->order) == NGX_OK
        && !(ls->order.len == 3
             && ngx_memcmp(ls->order.data, "asc", 3) == 0)
        && !(ls->order.len == 4
             && ngx_memcmp(ls->order.data, "desc", 4) == 0))
    {
        return ngx_http_llm_files_wrong(fs, "order", "invalid_value",
                                        "order must be \"asc\" or "
                                        "\"desc\".");
    }

    (void) ngx_http_arg(r, (u_char *) "purpose", 7, &ls->purpose);

    if (ngx_http_arg(r, (u_char *) "after", 5, &ls->after) == NGX_OK
        && ls->after.len
        && !ngx_http_llm_queue_is_id(&ls->after, "file-"))
    {
        return ngx_http_llm_files_unknown(fs, &ls->after, "after");
    }

    fs->list = ls;

    p = ngx_http_llm_files_list_room(fs,
                                     llm_batch_write_list_head(NULL, 0));
    if (p == NULL) {
        return NGX_ERROR;
    }

    ls->len = llm_batch_write_list_head(p, ls->size);

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_files_list_ask(ngx_http_llm_files_t *fs)
{
    ngx_str_t                   from;
    ngx_pool_t                 *pool;
    ngx_http_llm_files_list_t  *ls;
    ngx_http_llm_queue_call_t   call;

    ls = fs->list;

    from.data = ls->from;
    from.len = ls->from_len;

    pool = ngx_create_pool(1024, fs->ctx->request->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    /* one more than the page has room for tells that there are more */

    ngx_http_llm_queue_begin(&call, pool, "list");
    ngx_http_llm_queue_add(&call, &fs->team);
    ngx_http_llm_queue_add(&call, &ls->after);
    ngx_http_llm_queue_add(&call, &from);
    ngx_http_llm_queue_add_number(&call,
                                  ngx_min(NGX_HTTP_LLM_FILES_ROWS,
                                          ls->limit - ls->n + 1));
    ngx_http_llm_queue_add(&call, &ls->order);
    ngx_http_llm_queue_add(&call, &ls->purpose);

    fs->op = ngx_http_llm_queue_eval(fs->tcf, fs->tcf->files, &call,
                                     ngx_http_llm_files_list_reply, fs);

    ngx_destroy_pool(pool);

    if (fs->op == NULL) {
        return ngx_http_llm_tasks_unavailable(fs->ctx);
    }

    fs->pending = 1;

    return NGX_AGAIN;
}


static void
ngx_http_llm_files_list_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_files_t  *fs = data;

    fs->op = NULL;
    fs->pending = 0;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_ARRAY:
        fs->rc = ngx_http_llm_files_list_rows(fs, reply);
        break;

    case NGX_HTTP_LLM_REDIS_NIL:
        fs->rc = NGX_DECLINED;
        break;

    default:
        fs->rc = NGX_ABORT;
    }

    fs->ctx->wake(fs->ctx);
}


static ngx_int_t
ngx_http_llm_files_list_rows(ngx_http_llm_files_t *fs,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_uint_t                   i;
    ngx_http_llm_files_list_t   *ls;
    ngx_http_llm_redis_reply_t   from, row;

    ls = fs->list;

    if (ngx_http_llm_redis_element(reply, 0, &from) != NGX_OK
        || from.str.len > NGX_HTTP_LLM_FILES_FROM)
    {
        return NGX_ERROR;
    }

    ngx_memcpy(ls->from, from.str.data, from.str.len);
    ls->from_len = from.str.len;
    ls->end = from.str.len == 0;

    for (i = 1; ngx_http_llm_redis_element(reply, i, &row) == NGX_OK; i++) {

        if (ls->n == ls->limit) {
            ls->more = 1;
            ls->end = 1;
            break;
        }

        if (ngx_http_llm_files_list_row(fs, &row) != NGX_OK) {
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_files_list_row(ngx_http_llm_files_t *fs,
    ngx_http_llm_redis_reply_t *row)
{
    u_char                      *p;
    size_t                       len;
    ngx_int_t                    n;
    ngx_uint_t                   i;
    ngx_http_llm_blob_t          file;
    ngx_http_llm_files_list_t   *ls;
    ngx_http_llm_redis_reply_t   v[6];

    ls = fs->list;

    for (i = 0; i < 6; i++) {
        if (ngx_http_llm_redis_element(row, i, &v[i]) != NGX_OK
            || v[i].type != NGX_HTTP_LLM_REDIS_STRING)
        {
            return NGX_ERROR;
        }
    }

    ngx_memzero(&file, sizeof(ngx_http_llm_blob_t));

    file.id = v[0].str;
    file.filename = v[1].str;
    file.purpose = v[2].str;

    n = ngx_atoi(v[3].str.data, v[3].str.len);
    file.bytes = (uint64_t) ngx_max(n, 0);
    file.created = ngx_atotm(v[4].str.data, v[4].str.len);
    file.expires = ngx_atotm(v[5].str.data, v[5].str.len);

    len = ngx_http_llm_files_object(&file, NULL, 0);

    p = ngx_http_llm_files_list_room(fs, 1 + len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (ls->n++) {
        *p++ = ',';
    }

    p += ngx_http_llm_files_object(&file, p, len);
    ls->len = p - ls->text;

    ls->last.len = file.id.len;
    ls->last.data = ngx_pstrdup(fs->ctx->request->pool, &file.id);

    if (ls->last.data == NULL) {
        return NGX_ERROR;
    }

    if (ls->n == 1) {
        ls->first = ls->last;
    }

    return NGX_OK;
}


/* "len" bytes behind the text */

static u_char *
ngx_http_llm_files_list_room(ngx_http_llm_files_t *fs, size_t len)
{
    size_t                      size;
    u_char                     *p;
    ngx_pool_t                 *pool;
    ngx_http_llm_files_list_t  *ls;

    ls = fs->list;
    pool = fs->ctx->request->pool;

    if (ls->size - ls->len < len) {
        size = ngx_max(2 * ls->size, ls->len + len);
        size = ngx_max(size, NGX_HTTP_LLM_FILES_TEXT);

        p = ngx_pnalloc(pool, size);
        if (p == NULL) {
            return NULL;
        }

        if (ls->text) {
            ngx_memcpy(p, ls->text, ls->len);
            (void) ngx_pfree(pool, ls->text);
        }

        ls->text = p;
        ls->size = size;
    }

    return ls->text + ls->len;
}


static ngx_int_t
ngx_http_llm_files_list_end(ngx_http_llm_files_t *fs)
{
    u_char                     *p;
    size_t                      len;
    ngx_http_llm_files_list_t  *ls;

    ls = fs->list;

    len = llm_batch_write_list_tail(NULL, 0, &ls->first, &ls->last, ls->more);

    p = ngx_http_llm_files_list_room(fs, len);
    if (p == NULL) {
        return NGX_ERROR;
    }

    (void) llm_batch_write_list_tail(p, len, &ls->first, &ls->last, ls->more);

    ngx_http_llm_files_json(fs, ls->text, ls->len + len);

    return NGX_OK;
}
