
/*
 * Copyright (C) the ngx-llm authors
 *
 * Files in Redis, in chunks: what batches read and write.  A file is of a
 * team, counts against its quota and has a time to live.
 */


#ifndef _NGX_HTTP_LLM_FILES_H_INCLUDED_
#define _NGX_HTTP_LLM_FILES_H_INCLUDED_


#include "tasks/ngx_http_llm_queue.h"


#define NGX_HTTP_LLM_FILES_CHUNK  524288     /* bytes, before packing */


typedef struct {
    ngx_str_t                   id;
    ngx_str_t                   team;
    ngx_str_t                   filename;
    ngx_str_t                   purpose;     /* "batch", "batch_output" */
    uint64_t                    bytes;
    ngx_uint_t                  chunks;
    time_t                      created;
    time_t                      expires;
} ngx_http_llm_blob_t;


/*
 * Writing: open, write any number of times, close; one chunk at a time is on
 * its way.  All call "ready" when they can be called again, or have ended
 * (never from within the call).  A file that is not closed is not seen by
 * anybody and is removed by its time (an hour).
 */

typedef struct ngx_http_llm_blob_writer_s  ngx_http_llm_blob_writer_t;

struct ngx_http_llm_blob_writer_s {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_pool_t                 *pool;
    ngx_http_llm_blob_t         file;        /* id: set, or made by open() */
    uint64_t                    max;         /* bytes */

    void                      (*ready)(ngx_http_llm_blob_writer_t *w);
    void                       *data;
    ngx_uint_t                  hidden;      /* somebody else shows it */

    /*
     * NGX_OK; NGX_ABORT: Redis failed; NGX_DECLINED: the team's quota is
     * full; NGX_BUSY: more than "max" bytes; NGX_ERROR: no memory
     */
    ngx_int_t                   rc;
    uint64_t                    quota_used;  /* with NGX_DECLINED */

    /* its own */
    u_char                     *buf;         /* a chunk that is filled */
    size_t                      len;
    ngx_http_llm_redis_op_t    *op;
    unsigned                    closing:1;
    unsigned                    closed:1;
};

/* w->pool, mcf, file.team, filename, purpose, expires, max, ready, data set */
ngx_int_t ngx_http_llm_blob_open(ngx_http_llm_blob_writer_t *w);

/*
 * Takes bytes, copied, as many as fit; moves *p.  NGX_OK: all was taken;
 * NGX_AGAIN: wait for ready() and give the rest; else it has failed (w->rc).
 */
ngx_int_t ngx_http_llm_blob_write(ngx_http_llm_blob_writer_t *w, u_char **p,
    u_char *last);

/*
 * No more: the file becomes visible, unless "hidden"; ready() tells, w->rc
 * says how it went.
 */
ngx_int_t ngx_http_llm_blob_close(ngx_http_llm_blob_writer_t *w);

/* the writer's end, at any time; what was not closed is removed */
void ngx_http_llm_blob_abandon(ngx_http_llm_blob_writer_t *w);


/*
 * Reading: the head, then chunk by chunk.  "handler" is called once for each
 * find() and read(), never from within, unless abandoned.
 */

typedef struct ngx_http_llm_blob_reader_s  ngx_http_llm_blob_reader_t;

struct ngx_http_llm_blob_reader_s {
    ngx_http_llm_main_conf_t   *mcf;
    ngx_str_t                   team;        /* whose it must be */

    /*
     * rc: NGX_OK: file is set (find), or "text" is the chunk (read), in
     * "pool", which is the caller's and may be another one for each call;
     * NGX_DECLINED: there is no such file, or no such chunk any more;
     * NGX_ABORT: Redis failed; NGX_ERROR: no memory, or not readable here
     */
    void                      (*handler)(ngx_http_llm_blob_reader_t *rd);
    void                       *data;
    ngx_pool_t                 *pool;
    ngx_http_llm_blob_t         file;
    ngx_str_t                   text;
    ngx_int_t                   rc;

    /* its own */
    ngx_http_llm_redis_op_t    *op;
    ngx_uint_t                  chunk;
};

/* NGX_OK: the handler will be called; NGX_ABORT: Redis is not usable now */
ngx_int_t ngx_http_llm_blob_find(ngx_http_llm_blob_reader_t *rd,
    ngx_str_t *id);
ngx_int_t ngx_http_llm_blob_read(ngx_http_llm_blob_reader_t *rd,
    ngx_uint_t chunk);
void ngx_http_llm_blob_leave(ngx_http_llm_blob_reader_t *rd);


#endif /* _NGX_HTTP_LLM_FILES_H_INCLUDED_ */
