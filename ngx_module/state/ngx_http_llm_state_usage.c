
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts on disk: hours, days and months.
 */


#include "state/ngx_http_llm_book.h"
#include "state/ngx_http_llm_state_save.h"


/* rows copied under one lock, and batches of them in one step */

#define NGX_HTTP_LLM_STATE_ACCOUNTS  64
#define NGX_HTTP_LLM_STATE_BATCHES   16


static ngx_int_t ngx_http_llm_state_usage_read(ngx_http_llm_state_t *state,
    ngx_fd_t fd, llm_book_file_t *f, uint32_t *restored);
static ngx_int_t ngx_http_llm_state_usage_take(ngx_http_llm_state_scan_t *sc,
    u_char **p, u_char *end);


ngx_int_t
ngx_http_llm_state_usage_rows(ngx_http_llm_state_save_t *sv)
{
    u_char               *p;
    ngx_uint_t            i, k, n;
    llm_book_t           *bk;
    llm_book_row_t        row[NGX_HTTP_LLM_STATE_ACCOUNTS];
    ngx_http_llm_area_t  *area;

    area = sv->state->book;

    for (k = 0; k < NGX_HTTP_LLM_STATE_BATCHES; k++) {

        if (sv->kind == LLM_BOOK_KINDS) {
            return NGX_OK;
        }

        bk = ngx_http_llm_book_lock(area);
        n = llm_book_rows(bk, (llm_book_kind_e) sv->kind, &sv->cursor, 0,
                          NGX_HTTP_LLM_STATE_ACCOUNTS, row,
                          NGX_HTTP_LLM_STATE_ACCOUNTS);
        ngx_http_llm_book_unlock(area);

        for (i = 0; i < n; i++) {

            if (row[i].sums.requests == 0) {
                continue;
            }

            p = llm_book_file_row(&sv->accounts, &row[i], sv->pos);

            if (p) {
                sv->pos = p;
            }

            if (ngx_http_llm_state_save_flush(sv) != NGX_OK) {
                return NGX_ERROR;
            }
        }

        if (sv->cursor == LLM_BOOK_END) {
            sv->kind++;
            sv->cursor = 0;
        }
    }

    return NGX_AGAIN;
}


uint64_t
ngx_http_llm_state_usage_load(ngx_http_llm_state_t *state,
    ngx_uint_t restore, ngx_log_t *log)
{
    ngx_fd_t                    fd;
    uint32_t                    restored;
    ngx_err_t                   err;
    ngx_int_t                   rc;
    llm_book_file_t             f;
    ngx_http_llm_state_file_t  *file;

    file = &state->files[NGX_HTTP_LLM_STATE_USAGE];

    llm_book_file_init(&f);

    rc = ngx_http_llm_state_open(&file->file, &fd, &f.error);

    if (rc == NGX_DONE) {
        return 0;
    }

    if (rc == NGX_OK) {
        rc = ngx_http_llm_state_usage_read(state, fd, &f, NULL);
    }

    err = rc == NGX_ERROR ? ngx_errno : 0;
    restored = 0;

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, err,
                      "llm_state: \"%V\" cannot be used: %s, at byte %uL; "
                      "the accounts begin anew", &file->file, f.error,
                      f.offset);

        ngx_http_llm_state_keep(file, log);

    } else if (restore) {
        (void) ngx_http_llm_state_usage_read(state, fd, &f, &restored);

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "llm_state: %uD of %uD rows of \"%V\" put back",
                      restored, f.rows, &file->file);
    }

    if (fd != NGX_INVALID_FILE) {
        (void) close(fd);
    }

    return rc == NGX_OK ? f.generation : 0;
}


/* NGX_DECLINED: damaged, by f->error; without "restored" it is only read */

static ngx_int_t
ngx_http_llm_state_usage_read(ngx_http_llm_state_t *state, ngx_fd_t fd,
    llm_book_file_t *f, uint32_t *restored)
{
    ngx_int_t                  rc;
    ngx_http_llm_state_scan_t  sc;

    llm_book_file_init(f);

    sc.state = state;
    sc.file = f;
    sc.restored = restored;

    rc = ngx_http_llm_state_scan(fd, ngx_http_llm_state_usage_take, &sc,
                                 &f->error);
    if (rc != NGX_OK) {
        return rc;
    }

    return llm_book_file_finish(f) == LLM_OK ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_state_usage_take(ngx_http_llm_state_scan_t *sc, u_char **p,
    u_char *end)
{
    int              rc;
    llm_book_t      *bk;
    llm_book_row_t   row;

    bk = NULL;

    if (sc->restored) {
        bk = ngx_http_llm_book_lock(sc->state->book);
    }

    while ((rc = llm_book_file_read(sc->file, p, end, &row)) == LLM_OK) {

        if (bk && llm_book_restore(bk, &row, ngx_time()) == LLM_OK) {
            (*sc->restored)++;
        }
    }

    if (bk) {
        ngx_http_llm_book_unlock(sc->state->book);
    }

    return rc == LLM_ERROR ? NGX_DECLINED : NGX_OK;
}
