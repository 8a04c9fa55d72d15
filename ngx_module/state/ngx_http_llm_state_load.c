
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_state_save.h"
#include "core/llm_policy.h"


static ngx_int_t ngx_http_llm_state_read(ngx_http_llm_state_t *state,
    ngx_fd_t fd, llm_snapshot_t *sn, uint32_t *restored);
static ngx_int_t ngx_http_llm_state_take(ngx_http_llm_state_scan_t *sc,
    u_char **p, u_char *end);


uint64_t
ngx_http_llm_state_load(ngx_http_llm_state_t *state, ngx_uint_t restore,
    ngx_log_t *log)
{
    ngx_fd_t         fd;
    uint32_t         restored;
    ngx_err_t        err;
    ngx_int_t        rc;
    llm_snapshot_t   sn;
    ngx_str_t       *file;

    file = &state->files[NGX_HTTP_LLM_STATE_TALLIES].file;

    llm_snapshot_read_init(&sn);

    rc = ngx_http_llm_state_open(file, &fd, &sn.error);

    if (rc == NGX_DONE) {
        return 0;
    }

    /* rows are believed once the whole file was */

    if (rc == NGX_OK) {
        rc = ngx_http_llm_state_read(state, fd, &sn, NULL);
    }

    err = rc == NGX_ERROR ? ngx_errno : 0;
    restored = 0;

    if (rc != NGX_OK) {
        ngx_log_error(NGX_LOG_ERR, log, err,
                      "llm_state: \"%V\" cannot be used: %s, at byte %uL; "
                      "the tallies begin anew", file, sn.error,
                      (uint64_t) sn.offset);

    } else if (restore) {
        (void) ngx_http_llm_state_read(state, fd, &sn, &restored);

        ngx_log_error(NGX_LOG_NOTICE, log, 0,
                      "llm_state: %uD tallies of \"%V\" put back", restored,
                      file);

        if (restored < sn.rows) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "llm_state: \"llm_zone\" is too small for %uD more "
                          "tallies of \"%V\"", sn.rows - restored,
                          file);
        }
    }

    if (rc != NGX_OK || (restore && restored < sn.rows)) {
        ngx_http_llm_state_keep(&state->files[NGX_HTTP_LLM_STATE_TALLIES],
                                log);
    }

    if (fd != NGX_INVALID_FILE) {
        (void) close(fd);
    }

    return rc == NGX_OK ? sn.generation : 0;
}


void
ngx_http_llm_state_keep(ngx_http_llm_state_file_t *file, ngx_log_t *log)
{
    if (rename((const char *) file->file.data,
               (const char *) file->aside.data)
        == -1)
    {
        ngx_log_error(NGX_LOG_ERR, log, ngx_errno,
                      "llm_state: rename() \"%V\" to \"%V\" failed",
                      &file->file, &file->aside);
        return;
    }

    ngx_log_error(NGX_LOG_ERR, log, 0,
                  "llm_state: \"%V\" is kept as \"%V\"", &file->file,
                  &file->aside);
}


ngx_int_t
ngx_http_llm_state_open(ngx_str_t *file, ngx_fd_t *fd, const char **error)
{
    ngx_file_info_t  fi;

    *error = "it is no file";

    *fd = open((const char *) file->data,
               O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (*fd == NGX_INVALID_FILE) {
        return ngx_errno == NGX_ENOENT ? NGX_DONE : NGX_ERROR;
    }

    if (ngx_fd_info(*fd, &fi) == NGX_FILE_ERROR) {
        return NGX_ERROR;
    }

    return ngx_is_file(&fi) ? NGX_OK : NGX_DECLINED;
}


ngx_int_t
ngx_http_llm_state_scan(ngx_fd_t fd, ngx_http_llm_state_take_pt take,
    ngx_http_llm_state_scan_t *sc, const char **error)
{
    off_t      offset;
    size_t     len;
    u_char    *p, *end;
    ssize_t    n;
    ngx_int_t  rc;
    u_char     buf[16384];

    offset = 0;
    len = 0;

    for ( ;; ) {
        n = pread(fd, buf + len, sizeof(buf) - len, offset);

        if (n == -1) {
            *error = "pread() failed";
            return NGX_ERROR;
        }

        if (n == 0) {
            return NGX_OK;
        }

        offset += n;
        p = buf;
        end = buf + len + n;

        rc = take(sc, &p, end);
        if (rc != NGX_OK) {
            return rc;
        }

        len = end - p;
        ngx_memmove(buf, p, len);
    }
}


/* NGX_DECLINED: damaged, by sn->error; without "restored" it is only read */

static ngx_int_t
ngx_http_llm_state_read(ngx_http_llm_state_t *state, ngx_fd_t fd,
    llm_snapshot_t *sn, uint32_t *restored)
{
    ngx_int_t                  rc;
    ngx_http_llm_state_scan_t  sc;

    llm_snapshot_read_init(sn);

    sc.state = state;
    sc.file = sn;
    sc.restored = restored;

    rc = ngx_http_llm_state_scan(fd, ngx_http_llm_state_take, &sc,
                                 &sn->error);
    if (rc != NGX_OK) {
        return rc;
    }

    return llm_snapshot_finish(sn) == LLM_OK ? NGX_OK : NGX_DECLINED;
}


static ngx_int_t
ngx_http_llm_state_take(ngx_http_llm_state_scan_t *sc, u_char **p,
    u_char *end)
{
    int                  rc;
    llm_now_t            now;
    llm_owners_t         wake;
    llm_ledger_t        *ledger;
    llm_snapshot_row_t   row;

    ledger = sc->state->zone->sh->ledger;

    if (sc->restored) {
        ngx_http_llm_now(&now);
        ngx_http_llm_zone_lock(sc->state->zone, &wake);
    }

    while ((rc = llm_snapshot_read(sc->file, p, end, &row)) == LLM_OK) {

        if (sc->restored
            && llm_ledger_restore(ledger, &row.name,
                                  llm_policy_hash(&row.name), row.day,
                                  row.month, &now)
               == LLM_OK)
        {
            (*sc->restored)++;
        }
    }

    if (sc->restored) {
        ngx_http_llm_zone_unlock(sc->state->zone, &wake);
    }

    return rc == LLM_ERROR ? NGX_DECLINED : NGX_OK;
}
