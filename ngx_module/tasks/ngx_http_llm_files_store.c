
/*
 * Copyright (C) the ngx-llm authors
 *
 * The writer of files: it fills one chunk while the one before is on its way;
 * what is packed lives only until it is handed over.
 */


#include "tasks/ngx_http_llm_files_private.h"


#define NGX_HTTP_LLM_FILES_POOL  4096


/* behind the memory of the chunk that is filled */

typedef struct {
    ngx_event_t                 event;       /* ready, after open() */
    ngx_uint_t                  from;        /* of the next close */
    u_char                      token[NGX_HTTP_LLM_QUEUE_TOKEN];
    unsigned                    waiting:1;   /* for room */
    unsigned                    sent:1;      /* Redis may know of it */
} ngx_http_llm_blob_own_t;


#define ngx_http_llm_blob_own(w)                                             \
    ((ngx_http_llm_blob_own_t *) ((w)->buf + NGX_HTTP_LLM_FILES_CHUNK))


static ngx_int_t ngx_http_llm_blob_fail(ngx_http_llm_blob_writer_t *w,
    ngx_int_t rc);
static void ngx_http_llm_blob_event(ngx_event_t *ev);
static ngx_http_llm_blob_own_t *ngx_http_llm_blob_take(
    ngx_http_llm_blob_writer_t *w);
static void ngx_http_llm_blob_begin(ngx_http_llm_queue_call_t *call,
    ngx_http_llm_blob_writer_t *w, ngx_pool_t *pool, const char *op);
static ngx_int_t ngx_http_llm_blob_put(ngx_http_llm_blob_writer_t *w);
static ngx_int_t ngx_http_llm_blob_put_chunk(ngx_http_llm_blob_writer_t *w,
    ngx_pool_t *pool);
static ngx_int_t ngx_http_llm_blob_end(ngx_http_llm_blob_writer_t *w);
static void ngx_http_llm_blob_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_blob_told(ngx_http_llm_blob_writer_t *w,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_files_cleared(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_uint_t ngx_http_llm_blob_is(ngx_http_llm_redis_reply_t *reply,
    const char *word);


ngx_int_t
ngx_http_llm_blob_open(ngx_http_llm_blob_writer_t *w)
{
    u_char                     *p;
    ngx_http_llm_blob_own_t    *own;
    ngx_http_llm_tasks_conf_t  *tcf;

    w->rc = NGX_OK;
    w->quota_used = 0;
    w->buf = NULL;
    w->len = 0;
    w->op = NULL;
    w->closing = 0;
    w->closed = 0;

    w->file.bytes = 0;
    w->file.chunks = 0;
    w->file.created = ngx_time();

    tcf = ngx_http_llm_tasks_conf(w->mcf);

    if (tcf->redis == NULL || !ngx_http_llm_redis_connected(tcf->redis)) {
        return ngx_http_llm_blob_fail(w, NGX_ABORT);
    }

    if (w->file.id.len == 0
        && ngx_http_llm_queue_id(w->pool, "file-", &w->file.id) != NGX_OK)
    {
        return ngx_http_llm_blob_fail(w, NGX_ERROR);
    }

    p = ngx_palloc(w->pool, NGX_HTTP_LLM_FILES_CHUNK
                            + sizeof(ngx_http_llm_blob_own_t));
    if (p == NULL) {
        return ngx_http_llm_blob_fail(w, NGX_ERROR);
    }

    w->buf = p;

    own = ngx_http_llm_blob_own(w);
    ngx_memzero(own, sizeof(ngx_http_llm_blob_own_t));

    own->event.handler = ngx_http_llm_blob_event;
    own->event.data = w;
    own->event.log = ngx_cycle->log;

    if (ngx_http_llm_queue_token(own->token) != NGX_OK) {
        return ngx_http_llm_blob_fail(w, NGX_ERROR);
    }

    /* who does not wait for it but writes at once will not be called */

    ngx_post_event(&own->event, &ngx_posted_events);

    return NGX_OK;
}


/* the first failure counts */

static ngx_int_t
ngx_http_llm_blob_fail(ngx_http_llm_blob_writer_t *w, ngx_int_t rc)
{
    if (w->rc == NGX_OK) {
        w->rc = rc;
    }

    return w->rc;
}


static void
ngx_http_llm_blob_event(ngx_event_t *ev)
{
    ngx_http_llm_blob_writer_t  *w = ev->data;

    w->ready(w);
}


/* who writes or closes need not be called; NULL: neither can be done */

static ngx_http_llm_blob_own_t *
ngx_http_llm_blob_take(ngx_http_llm_blob_writer_t *w)
{
    ngx_http_llm_blob_own_t  *own;

    if (w->rc != NGX_OK || w->buf == NULL || w->closing) {
        (void) ngx_http_llm_blob_fail(w, NGX_ERROR);
        return NULL;
    }

    own = ngx_http_llm_blob_own(w);

    if (own->event.posted) {
        ngx_delete_posted_event(&own->event);
    }

    return own;
}


ngx_int_t
ngx_http_llm_blob_write(ngx_http_llm_blob_writer_t *w, u_char **p,
    u_char *last)
{
    size_t                    n;
    ngx_http_llm_blob_own_t  *own;

    own = ngx_http_llm_blob_take(w);
    if (own == NULL) {
        return w->rc;
    }

    own->waiting = 0;

    if ((uint64_t) (last - *p) > w->max
        || w->file.bytes > w->max - (uint64_t) (last - *p))
    {
        return ngx_http_llm_blob_fail(w, NGX_BUSY);
    }

    for ( ;; ) {

        if (w->len == NGX_HTTP_LLM_FILES_CHUNK && w->op == NULL
            && ngx_http_llm_blob_put(w) != NGX_OK)
        {
            return w->rc;
        }

        n = ngx_min((size_t) (last - *p), NGX_HTTP_LLM_FILES_CHUNK - w->len);

        if (n == 0) {
            break;
        }

        ngx_memcpy(w->buf + w->len, *p, n);

        *p += n;
        w->len += n;
        w->file.bytes += n;
    }

    if (*p == last) {
        return NGX_OK;
    }

    own->waiting = 1;

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_llm_blob_close(ngx_http_llm_blob_writer_t *w)
{
    if (ngx_http_llm_blob_take(w) == NULL) {
        return w->rc;
    }

    w->closing = 1;

    if (w->op) {
        return NGX_OK;
    }

    return w->len ? ngx_http_llm_blob_put(w) : ngx_http_llm_blob_end(w);
}


void
ngx_http_llm_blob_abandon(ngx_http_llm_blob_writer_t *w)
{
    ngx_pool_t                 *pool;
    ngx_http_llm_blob_own_t    *own;
    ngx_http_llm_queue_call_t   call;
    ngx_http_llm_tasks_conf_t  *tcf;

    if (w->op) {
        ngx_http_llm_redis_detach(w->op);
        w->op = NULL;
    }

    if (w->buf == NULL) {
        return;
    }

    own = ngx_http_llm_blob_own(w);
    tcf = ngx_http_llm_tasks_conf(w->mcf);

    if (own->event.posted) {
        ngx_delete_posted_event(&own->event);
    }

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, w->pool->log, 0,
                   "llm file end: \"%V\" rc:%i closed:%d bytes:%uL",
                   &w->file.id, w->rc, w->closed, w->file.bytes);

    /* what cannot be said now lapses in an hour */

    if (!w->closed && own->sent
        && (pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL, ngx_cycle->log)))
    {
        ngx_http_llm_blob_begin(&call, w, pool, "drop");
        (void) ngx_http_llm_queue_eval(tcf, tcf->files, &call, NULL, NULL);

        ngx_destroy_pool(pool);

        ngx_http_llm_files_clear(tcf);
    }

    (void) ngx_pfree(w->pool, w->buf);
    w->buf = NULL;
}


/* what all calls of a writer begin with */

static void
ngx_http_llm_blob_begin(ngx_http_llm_queue_call_t *call,
    ngx_http_llm_blob_writer_t *w, ngx_pool_t *pool, const char *op)
{
    ngx_str_t  token;

    token.data = ngx_http_llm_blob_own(w)->token;
    token.len = NGX_HTTP_LLM_QUEUE_TOKEN;

    ngx_http_llm_queue_begin(call, pool, op);
    ngx_http_llm_queue_add(call, &w->file.team);
    ngx_http_llm_queue_add(call, &w->file.id);
    ngx_http_llm_queue_add(call, &token);
}


/* sends the chunk that was filled; the client of Redis copies it */

static ngx_int_t
ngx_http_llm_blob_put(ngx_http_llm_blob_writer_t *w)
{
    ngx_int_t    rc;
    ngx_pool_t  *pool;

    pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return ngx_http_llm_blob_fail(w, NGX_ERROR);
    }

    rc = ngx_http_llm_blob_put_chunk(w, pool);

    ngx_destroy_pool(pool);

    if (rc != NGX_OK) {
        return ngx_http_llm_blob_fail(w, rc);
    }

    ngx_http_llm_blob_own(w)->sent = 1;

    w->file.chunks++;
    w->len = 0;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_blob_put_chunk(ngx_http_llm_blob_writer_t *w, ngx_pool_t *pool)
{
    u_char                      what[NGX_INT_T_LEN + 1];
    ngx_str_t                   piece, parcel;
    ngx_http_llm_queue_call_t   call;
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_tasks_conf(w->mcf);

    *ngx_sprintf(what, "%ui", w->file.chunks) = '\0';

    piece.data = w->buf;
    piece.len = w->len;

    if (ngx_http_llm_queue_pack(tcf, pool, &w->file.id, (char *) what, &piece,
                                1, &parcel)
        != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_http_llm_blob_begin(&call, w, pool, "put");
    ngx_http_llm_queue_add_number(&call, w->file.chunks);
    ngx_http_llm_queue_add_number(&call, w->len);
    ngx_http_llm_queue_add_number(&call, tcf->file_quota);
    ngx_http_llm_queue_add(&call, &parcel);

    w->op = ngx_http_llm_queue_eval(tcf, tcf->files, &call,
                                    ngx_http_llm_blob_reply, w);

    return w->op ? NGX_OK : NGX_ABORT;
}


/* all chunks are there: it becomes visible, after some steps if it is long */

static ngx_int_t
ngx_http_llm_blob_end(ngx_http_llm_blob_writer_t *w)
{
    time_t                      ttl;
    ngx_pool_t                 *pool;
    ngx_http_llm_blob_own_t    *own;
    ngx_http_llm_queue_call_t   call;
    ngx_http_llm_tasks_conf_t  *tcf;

    own = ngx_http_llm_blob_own(w);
    tcf = ngx_http_llm_tasks_conf(w->mcf);

    ttl = w->file.expires ? w->file.expires - ngx_time() : tcf->file_ttl;

    pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return ngx_http_llm_blob_fail(w, NGX_ERROR);
    }

    ngx_http_llm_blob_begin(&call, w, pool, "close");
    ngx_http_llm_queue_add_number(&call, own->from);
    ngx_http_llm_queue_add_number(&call, w->file.chunks);
    ngx_http_llm_queue_add_number(&call, w->file.bytes);
    ngx_http_llm_queue_add(&call, &w->file.filename);
    ngx_http_llm_queue_add(&call, &w->file.purpose);
    ngx_http_llm_queue_add_number(&call, ngx_max(ttl, 1));
    ngx_http_llm_queue_add_number(&call, !w->hidden);

    w->op = ngx_http_llm_queue_eval(tcf, tcf->files, &call,
                                    ngx_http_llm_blob_reply, w);

    ngx_destroy_pool(pool);

    own->sent = 1;

    return w->op ? NGX_OK : ngx_http_llm_blob_fail(w, NGX_ABORT);
}


static void
ngx_http_llm_blob_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_blob_writer_t  *w = data;

    ngx_int_t                 rc;
    ngx_http_llm_blob_own_t  *own;

    w->op = NULL;
    own = ngx_http_llm_blob_own(w);

    rc = ngx_http_llm_blob_told(w, reply);

    if (rc != NGX_OK) {
        (void) ngx_http_llm_blob_fail(w, rc);

    } else if (w->closing && !w->closed) {
        rc = w->len ? ngx_http_llm_blob_put(w) : ngx_http_llm_blob_end(w);
    }

    if (rc == NGX_OK && !w->closed && (w->closing || !own->waiting)) {
        return;
    }

    if (rc != NGX_OK && !w->closing && !own->waiting) {
        /* the next call will tell */
        return;
    }

    own->waiting = 0;

    w->ready(w);
}


static ngx_int_t
ngx_http_llm_blob_told(ngx_http_llm_blob_writer_t *w,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_redis_reply_t  word, first, second;

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, w->pool->log, 0,
                   "llm file reply: \"%V\" type:%ui chunks:%ui", &w->file.id,
                   (ngx_uint_t) reply->type, w->file.chunks);

    if (ngx_http_llm_redis_element(reply, 0, &word) != NGX_OK) {

        if (reply->type == NGX_HTTP_LLM_REDIS_ERROR) {
            ngx_log_error(NGX_LOG_ERR, w->pool->log, 0,
                          "llm: a file could not be written: Redis says "
                          "\"%V\"", &reply->str);
        }

        return NGX_ABORT;
    }

    ngx_memzero(&first, sizeof(ngx_http_llm_redis_reply_t));
    ngx_memzero(&second, sizeof(ngx_http_llm_redis_reply_t));

    (void) ngx_http_llm_redis_element(reply, 1, &first);
    (void) ngx_http_llm_redis_element(reply, 2, &second);

    if (ngx_http_llm_blob_is(&word, "ok")) {

        if (reply->nelts == 3) {
            w->file.created = (time_t) first.integer;
            w->file.expires = (time_t) second.integer;
            w->closed = 1;
        }

        return NGX_OK;
    }

    if (ngx_http_llm_blob_is(&word, "more")) {
        ngx_http_llm_blob_own(w)->from = (ngx_uint_t) first.integer;
        return NGX_OK;
    }

    if (ngx_http_llm_blob_is(&word, "full")) {
        w->quota_used = (uint64_t) first.integer;
        return NGX_DECLINED;
    }

    ngx_log_error(NGX_LOG_WARN, w->pool->log, 0,
                  "llm: the file \"%V\" was lost while it was written",
                  &w->file.id);

    return NGX_ABORT;
}


void
ngx_http_llm_files_clear(ngx_http_llm_tasks_conf_t *tcf)
{
    ngx_pool_t                 *pool;
    ngx_http_llm_queue_call_t   call;

    pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL, ngx_cycle->log);

    if (pool) {
        ngx_http_llm_queue_begin(&call, pool, "clear");
        (void) ngx_http_llm_queue_eval(tcf, tcf->files, &call,
                                       ngx_http_llm_files_cleared, tcf);

        ngx_destroy_pool(pool);
    }
}


static void
ngx_http_llm_files_cleared(void *data, ngx_http_llm_redis_reply_t *reply)
{
    if (reply->type == NGX_HTTP_LLM_REDIS_INTEGER && reply->integer == 1) {
        ngx_http_llm_files_clear(data);
    }
}


static ngx_uint_t
ngx_http_llm_blob_is(ngx_http_llm_redis_reply_t *reply, const char *word)
{
    size_t  len;

    len = ngx_strlen(word);

    return reply->type == NGX_HTTP_LLM_REDIS_STRING && reply->str.len == len
           && ngx_memcmp(reply->str.data, word, len) == 0;
}
