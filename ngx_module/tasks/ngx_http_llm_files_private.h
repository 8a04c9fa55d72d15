
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the parts of /v1/files share.
 */


#ifndef _NGX_HTTP_LLM_FILES_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_FILES_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_files.h"


typedef struct ngx_http_llm_files_s         ngx_http_llm_files_t;
typedef struct ngx_http_llm_files_list_s    ngx_http_llm_files_list_t;
typedef struct ngx_http_llm_files_upload_s  ngx_http_llm_files_upload_t;


/* a request about files; each wait is for one thing */

struct ngx_http_llm_files_s {
    ngx_http_llm_ctx_t           *ctx;
    ngx_http_llm_tasks_conf_t    *tcf;
    ngx_str_t                     team;
    ngx_str_t                     id;

    /* what the line runs, first and whenever it is woken */
    ngx_int_t                   (*step)(ngx_http_llm_files_t *fs);

    ngx_http_llm_redis_op_t      *op;
    ngx_int_t                     rc;        /* what became of it */

    ngx_http_llm_blob_reader_t    reader;
    ngx_http_llm_files_list_t    *list;
    ngx_http_llm_files_upload_t  *upload;

    /* content */
    ngx_uint_t                    chunk;     /* that is read or sent */
    ngx_uint_t                    last;      /* behind the last one */
    ngx_pool_t                   *pool;      /* that it lies in */
    ngx_buf_t                    *buf;

    unsigned                      pending:1; /* Redis will call */
    unsigned                      found:1;
    unsigned                      headed:1;  /* the header is out */
    unsigned                      sending:1; /* the buffer */
};


/* steps: ngx_http_llm_files_list.c, _content.c, _upload.c */
ngx_int_t ngx_http_llm_files_list(ngx_http_llm_files_t *fs);
ngx_int_t ngx_http_llm_files_content(ngx_http_llm_files_t *fs);
ngx_int_t ngx_http_llm_files_upload(ngx_http_llm_files_t *fs);

/* the request's end */
void ngx_http_llm_files_upload_end(ngx_http_llm_files_t *fs);

/* fs->reader asks for fs->id; NGX_AGAIN, or an error's status */
ngx_int_t ngx_http_llm_files_find(ngx_http_llm_files_t *fs);

/* the answer: the object of a file, or what is "len" bytes of JSON */
ngx_int_t ngx_http_llm_files_answer(ngx_http_llm_files_t *fs,
    ngx_http_llm_blob_t *file);
void ngx_http_llm_files_json(ngx_http_llm_files_t *fs, u_char *p, size_t len);
size_t ngx_http_llm_files_object(ngx_http_llm_blob_t *file, u_char *buf,
    size_t size);

/* errors, as ngx_http_llm_error(); unread: fs->reader.rc says which */
ngx_int_t ngx_http_llm_files_unknown(ngx_http_llm_files_t *fs, ngx_str_t *id,
    const char *param);
ngx_int_t ngx_http_llm_files_unread(ngx_http_llm_files_t *fs);
ngx_int_t ngx_http_llm_files_wrong(ngx_http_llm_files_t *fs,
    const char *param, const char *code, const char *message);

/* removes what is left of deleted files, step by step */
void ngx_http_llm_files_clear(ngx_http_llm_tasks_conf_t *tcf);


#endif /* _NGX_HTTP_LLM_FILES_PRIVATE_H_INCLUDED_ */
