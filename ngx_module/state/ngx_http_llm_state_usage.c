
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
static ngx_int_t ngx_http_llm_state_usage_take(ngx_http_llm_state_t *state,
    llm_book_file_t *f, u_char **p, u_char *end, uint32_t *restored);


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
    ngx_file_info_t             fi;
    ngx_http_llm_state_file_t  *file;

    file = &state->files[NGX_HTTP_LLM_STATE_USAGE];

    fd = open((const char *) file->file.data,
              O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (fd == NGX_INVALID_FILE && ngx_errno == NGX_ENOENT) {
        return 0;
    }

    llm_book_file_init(&f);
    f.error = "it is no file";
    rc = NGX_ERROR;

    if (fd != NGX_INVALID_FILE && ngx_fd_info(fd, &fi) != NGX_FILE_ERROR) {
        rc = ngx_is_file(&fi)
             ? ngx_http_llm_state_usage_read(state, fd, &f, NULL)
             : NGX_DECLINED;
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
    off_t      offset;
    size_t     len;
    u_char    *p, *end;
    ssize_t    n;
    ngx_int_t  rc;
    u_char     buf[16384];

    llm_book_file_init(f);

    offset = 0;
    len = 0;

    for ( ;; ) {
        n = pread(fd, buf + len, sizeof(buf) - len, offset);

        if (n == -1) {
            f->error = "pread() failed";
            return NGX_ERROR;
        }

        if (n == 0) {
            return llm_book_file_finish(f) == LLM_OK ? NGX_OK : NGX_DECLINED;
        }

        offset += n;
        p = buf;
        end = buf + len + n;

        rc = ngx_http_llm_state_usage_take(state, f, &p, end, restored);
        if (rc != NGX_OK) {
            return rc;
        }

        len = end - p;
        ngx_memmove(buf, p, len);
    }
}


static ngx_int_t
ngx_http_llm_state_usage_take(ngx_http_llm_state_t *state,
    llm_book_file_t *f, u_char **p, u_char *end, uint32_t *restored)
{
    int              rc;
    llm_book_t      *bk;
    llm_book_row_t   row;

    bk = NULL;

    if (restored) {
        bk = ngx_http_llm_book_lock(state->book);
    }

    while ((rc = llm_book_file_read(f, p, end, &row)) == LLM_OK) {

        if (bk && llm_book_restore(bk, &row, ngx_time()) == LLM_OK) {
            (*restored)++;
        }
    }

    if (bk) {
        ngx_http_llm_book_unlock(state->book);
    }

    return rc == LLM_ERROR ? NGX_DECLINED : NGX_OK;
}
