
/*
 * Copyright (C) the ngx-llm authors
 *
 * The reader of files.
 */


#include "tasks/ngx_http_llm_files_private.h"


#define NGX_HTTP_LLM_FILES_POOL  4096
#define NGX_HTTP_LLM_FILES_NAME  (sizeof(NGX_HTTP_LLM_TASKS_PREFIX) - 1       \
                                  + sizeof("f:") - 1)


static void ngx_http_llm_blob_found(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_blob_head(ngx_http_llm_blob_reader_t *rd,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_blob_came(void *data,
    ngx_http_llm_redis_reply_t *reply);


ngx_int_t
ngx_http_llm_blob_find(ngx_http_llm_blob_reader_t *rd, ngx_str_t *id)
{
    ngx_pool_t                 *pool;
    ngx_http_llm_queue_call_t   call;
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_tasks_conf(rd->mcf);

    ngx_memzero(&rd->file, sizeof(ngx_http_llm_blob_t));

    rd->file.team = rd->team;
    rd->file.id.len = id->len;
    rd->file.id.data = ngx_pstrdup(rd->pool, id);

    if (rd->file.id.data == NULL) {
        return NGX_ERROR;
    }

    pool = ngx_create_pool(NGX_HTTP_LLM_FILES_POOL, ngx_cycle->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_queue_begin(&call, pool, "find");
    ngx_http_llm_queue_add(&call, &rd->team);
    ngx_http_llm_queue_add(&call, id);

    rd->op = ngx_http_llm_queue_eval(tcf, tcf->files, &call,
                                     ngx_http_llm_blob_found, rd);

    ngx_destroy_pool(pool);

    return rd->op ? NGX_OK : NGX_ABORT;
}


static void
ngx_http_llm_blob_found(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_blob_reader_t  *rd = data;

    rd->op = NULL;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_NIL:
        rd->rc = NGX_DECLINED;
        break;

    case NGX_HTTP_LLM_REDIS_ARRAY:
        rd->rc = ngx_http_llm_blob_head(rd, reply);
        break;

    default:
        rd->rc = NGX_ABORT;
    }

    rd->handler(rd);
}


static ngx_int_t
ngx_http_llm_blob_head(ngx_http_llm_blob_reader_t *rd,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_int_t                   n;
    ngx_uint_t                  i;
    ngx_http_llm_blob_t        *file;
    ngx_http_llm_redis_reply_t  value[6];

    file = &rd->file;

    for (i = 0; i < 6; i++) {
        if (ngx_http_llm_redis_element(reply, i, &value[i]) != NGX_OK
            || value[i].type != NGX_HTTP_LLM_REDIS_STRING)
        {
            return NGX_ERROR;
        }
    }

    file->filename.len = value[0].str.len;
    file->filename.data = ngx_pstrdup(rd->pool, &value[0].str);
    file->purpose.len = value[1].str.len;
    file->purpose.data = ngx_pstrdup(rd->pool, &value[1].str);

    if (file->filename.data == NULL || file->purpose.data == NULL) {
        return NGX_ERROR;
    }

    for (i = 2; i < 6; i++) {
        n = ngx_atoi(value[i].str.data, value[i].str.len);

        if (n == NGX_ERROR) {
            return NGX_ERROR;
        }

        switch (i) {

        case 2:
            file->bytes = (uint64_t) n;
            break;

        case 3:
            file->chunks = (ngx_uint_t) n;
            break;

        case 4:
            file->created = (time_t) n;
            break;

        default:
            file->expires = (time_t) n;
        }
    }

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_blob_read(ngx_http_llm_blob_reader_t *rd, ngx_uint_t chunk)
{
    u_char                     *p;
    ngx_str_t                   argv[2];
    ngx_http_llm_tasks_conf_t  *tcf;

    tcf = ngx_http_llm_tasks_conf(rd->mcf);

    if (tcf->redis == NULL) {
        return NGX_ABORT;
    }

    rd->chunk = chunk;
    ngx_str_null(&rd->text);

    /* not by the script: it would copy what it does not look at */

    ngx_str_set(&argv[0], "GET");

    p = ngx_pnalloc(rd->pool, NGX_HTTP_LLM_FILES_NAME + rd->file.id.len + 1
                              + NGX_INT_T_LEN);
    if (p == NULL) {
        return NGX_ERROR;
    }

    argv[1].data = p;
    argv[1].len = ngx_sprintf(p, NGX_HTTP_LLM_TASKS_PREFIX "f:%V:%ui",
                              &rd->file.id, chunk)
                  - p;

    rd->op = ngx_http_llm_redis_command(tcf->redis, 2, argv,
                                        NGX_HTTP_LLM_QUEUE_MSEC,
                                        ngx_http_llm_blob_came, rd);

    return rd->op ? NGX_OK : NGX_ABORT;
}


static void
ngx_http_llm_blob_came(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_blob_reader_t  *rd = data;

    u_char                      what[NGX_INT_T_LEN + 1];
    ngx_http_llm_tasks_conf_t  *tcf;

    rd->op = NULL;
    tcf = ngx_http_llm_tasks_conf(rd->mcf);

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_NIL:
        rd->rc = NGX_DECLINED;
        break;

    case NGX_HTTP_LLM_REDIS_STRING:
        *ngx_sprintf(what, "%ui", rd->chunk) = '\0';

        rd->rc = ngx_http_llm_queue_open(tcf, rd->pool, &rd->file.id,
                                         (char *) what, &reply->str,
                                         NGX_HTTP_LLM_FILES_CHUNK, &rd->text);
        if (rd->rc != NGX_OK) {
            ngx_log_error(NGX_LOG_ERR, rd->pool->log, 0,
                          "llm: chunk %ui of the file \"%V\" cannot be read "
                          "here", rd->chunk, &rd->file.id);
            rd->rc = NGX_ERROR;
        }

        break;

    default:
        rd->rc = NGX_ABORT;
    }

    rd->handler(rd);
}


void
ngx_http_llm_blob_leave(ngx_http_llm_blob_reader_t *rd)
{
    if (rd->op) {
        ngx_http_llm_redis_detach(rd->op);
        rd->op = NULL;
    }
}
