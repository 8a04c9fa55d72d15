
/*
 * Copyright (C) the ngx-llm authors
 *
 * The lines of a batch's input, chunk by chunk.
 */


#include "tasks/ngx_http_llm_batch_private.h"

#include <openssl/rand.h>


#define NGX_HTTP_LLM_BATCH_CHUNK_POOL  4096


static void ngx_http_llm_batch_came(ngx_http_llm_blob_reader_t *rd);
static ngx_int_t ngx_http_llm_batch_fetch(ngx_http_llm_batch_run_t *run);
static ngx_int_t ngx_http_llm_batch_init(ngx_http_llm_batch_run_t *run);


ngx_int_t
ngx_http_llm_batch_open(ngx_http_llm_batch_run_t *run, ngx_uint_t chunk,
    size_t skip, uint64_t passed, ngx_uint_t most)
{
    ngx_http_llm_blob_reader_t  *rd;

    ngx_http_llm_batch_close(run);

    /* a large piece, of which only what a long line needs is touched */

    run->buf = ngx_palloc(run->pool, NGX_HTTP_LLM_BATCH_LINE + 1);
    run->seen = ngx_palloc(run->pool, llm_batch_room(most));

    if (run->buf == NULL || run->seen == NULL) {
        return NGX_ERROR;
    }

    run->most = most;

    llm_lines_init(&run->lines, run->buf, NGX_HTTP_LLM_BATCH_LINE + 1);

    if (ngx_http_llm_batch_init(run) != NGX_OK) {
        return NGX_ERROR;
    }

    run->chunk = chunk;
    run->skip = skip;
    run->passed = passed;
    run->start = NULL;
    run->pos = NULL;
    run->last = NULL;
    run->found = 0;
    run->eof = 0;

    rd = &run->source;

    ngx_memzero(rd, sizeof(ngx_http_llm_blob_reader_t));

    rd->mcf = run->todo->mcf;
    rd->team = run->b.team;
    rd->handler = ngx_http_llm_batch_came;
    rd->data = run;
    rd->pool = run->pool;
    rd->rc = NGX_OK;

    if (ngx_http_llm_blob_find(rd, &run->b.input) != NGX_OK) {
        return NGX_ERROR;
    }

    run->reading = 1;

    return NGX_OK;
}


static void
ngx_http_llm_batch_came(ngx_http_llm_blob_reader_t *rd)
{
    ngx_http_llm_batch_run_t  *run = rd->data;

    run->reading = 0;

    if (rd->rc == NGX_OK && run->found) {
        run->start = rd->text.data;
        run->pos = rd->text.data + ngx_min(run->skip, rd->text.len);
        run->last = rd->text.data + rd->text.len;
        run->skip = 0;
    }

    if (rd->rc == NGX_OK) {
        run->found = 1;
    }

    /* not in the reader's own turn, and others come first */

    ngx_http_llm_batch_later(run);
}


ngx_int_t
ngx_http_llm_batch_next(ngx_http_llm_batch_run_t *run, llm_str_t *line)
{
    int  rc;

    for ( ;; ) {

        if (run->reading) {
            return NGX_AGAIN;
        }

        if (run->source.rc != NGX_OK) {
            return run->source.rc == NGX_DECLINED ? NGX_ABORT : NGX_ERROR;
        }

        if (run->pos) {
            rc = llm_lines_next(&run->lines, &run->pos, run->last, line);

            if (rc != LLM_AGAIN) {
                return rc == LLM_OK ? NGX_OK : NGX_DECLINED;
            }

            run->pos = NULL;
            run->chunk++;
        }

        if (run->chunk < run->source.file.chunks) {
            if (ngx_http_llm_batch_fetch(run) != NGX_OK) {
                return NGX_ERROR;
            }

            continue;
        }

        if (run->eof) {
            return NGX_DONE;
        }

        run->eof = 1;

        rc = llm_lines_eof(&run->lines, line);

        if (rc != LLM_AGAIN) {
            return rc == LLM_OK ? NGX_OK : NGX_DECLINED;
        }
    }
}


static ngx_int_t
ngx_http_llm_batch_fetch(ngx_http_llm_batch_run_t *run)
{
    if (run->text) {
        ngx_destroy_pool(run->text);
    }

    run->text = ngx_create_pool(NGX_HTTP_LLM_BATCH_CHUNK_POOL,
                                ngx_cycle->log);

    if (run->text == NULL) {
        return NGX_ERROR;
    }

    run->source.pool = run->text;

    if (ngx_http_llm_blob_read(&run->source, run->chunk) != NGX_OK) {
        return NGX_ERROR;
    }

    run->reading = 1;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_batch_init(ngx_http_llm_batch_run_t *run)
{
    uint64_t  key[2];

    if (RAND_bytes((u_char *) key, sizeof(key)) != 1) {
        return NGX_ERROR;
    }

    llm_batch_init(&run->check, run->b.ob.endpoint, key, run->seen,
                   run->most);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_batch_line(ngx_http_llm_batch_run_t *run, llm_str_t *text,
    u_char *buf, llm_batch_line_t *line)
{
    llm_arena_t        arena;
    llm_batch_error_t  err;

    ngx_memzero(&arena, sizeof(llm_arena_t));

    arena.pos = buf;
    arena.end = buf + NGX_HTTP_LLM_BATCH_ARENA;

    /* that no custom_id stands twice has been checked */

    if (run->check.n == run->most && ngx_http_llm_batch_init(run) != NGX_OK) {
        return NGX_ERROR;
    }

    return llm_batch_check(&run->check, text, 0, &arena, line, &err) == LLM_OK
           ? NGX_OK : NGX_ERROR;
}


void
ngx_http_llm_batch_unread(ngx_http_llm_batch_run_t *run, ngx_int_t rc)
{
    if (rc == NGX_ERROR) {
        ngx_http_llm_batch_end(run, NGX_HTTP_LLM_BATCH_FULL);
        return;
    }

    ngx_http_llm_batch_fail(run, "invalid_input_file",
                            "The input file does not exist any more");
}


void
ngx_http_llm_batch_close(ngx_http_llm_batch_run_t *run)
{
    if (run->reading) {
        ngx_http_llm_blob_leave(&run->source);
        run->reading = 0;
    }

    if (run->text) {
        ngx_destroy_pool(run->text);
        run->text = NULL;
    }
}
