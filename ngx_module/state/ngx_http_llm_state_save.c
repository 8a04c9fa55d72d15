
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_state_save.h"

#include <signal.h>
#include <sys/file.h>


/* rows copied under one lock of the zone: some 10 us */

#define NGX_HTTP_LLM_STATE_BATCH   64

/* of them in one step: about half a millisecond */

#define NGX_HTTP_LLM_STATE_STEP    16

#define NGX_HTTP_LLM_STATE_STACK   (128 * 1024)

/* another process may be at it for so long, in ms */

#define NGX_HTTP_LLM_STATE_WAIT    3000
#define NGX_HTTP_LLM_STATE_PAUSE   10


static ngx_int_t ngx_http_llm_state_save_open(ngx_http_llm_state_save_t *sv);
static ngx_int_t ngx_http_llm_state_save_old(ngx_http_llm_state_save_t *sv);
static ngx_uint_t ngx_http_llm_state_save_batch(
    ngx_http_llm_state_save_t *sv, llm_snapshot_row_t *rows,
    u_char (*names)[LLM_SNAPSHOT_NAME]);
static ngx_uint_t ngx_http_llm_state_save_worth(llm_str_t *name,
    const llm_meter_t *m);
static ngx_uint_t ngx_http_llm_state_save_same(ngx_http_llm_state_save_t *sv);
static void *ngx_http_llm_state_save_thread(void *data);
static ngx_int_t ngx_http_llm_state_save_failed(ngx_http_llm_state_save_t *sv,
    const char *what);
static void ngx_http_llm_state_save_close(ngx_http_llm_state_save_t *sv);


#define ngx_http_llm_state_save_usage(sv)                                     \
    ((sv)->file == &(sv)->state->files[NGX_HTTP_LLM_STATE_USAGE])


ngx_int_t
ngx_http_llm_state_save_begin(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_uint_t which, ngx_log_t *log)
{
    ngx_int_t  rc;

    sv->state = state;
    sv->file = &state->files[which];
    sv->log = log;
    sv->row = 0;
    sv->kind = LLM_BOOK_HOUR;
    sv->cursor = 0;
    sv->lock = NGX_INVALID_FILE;
    sv->old = NGX_INVALID_FILE;
    sv->fd = NGX_INVALID_FILE;
    sv->failed = NULL;
    sv->threaded = 0;
    sv->synced = 0;

    rc = ngx_http_llm_state_save_open(sv);

    if (rc == NGX_OK) {
        sv->pos = which == NGX_HTTP_LLM_STATE_USAGE
                  ? llm_book_file_head(&sv->accounts, state->generation,
                                       sv->buffer)
                  : llm_snapshot_write_head(&sv->snapshot, state->generation,
                                            sv->buffer);
        return NGX_OK;
    }

    if (rc == NGX_ERROR) {
        return ngx_http_llm_state_save_end(sv);
    }

    ngx_http_llm_state_save_close(sv);

    return rc;
}


static ngx_int_t
ngx_http_llm_state_save_open(ngx_http_llm_state_save_t *sv)
{
    ngx_int_t              rc;
    ngx_http_llm_state_t  *state;

    state = sv->state;

    sv->lock = open((const char *) state->dir.data,
                    O_RDONLY|O_DIRECTORY|O_CLOEXEC);

    if (sv->lock == NGX_INVALID_FILE) {
        return ngx_http_llm_state_save_failed(sv, "open() the directory");
    }

    if (flock(sv->lock, LOCK_EX|LOCK_NB) == -1) {

        if (ngx_errno == EWOULDBLOCK) {
            return NGX_BUSY;
        }

        return ngx_http_llm_state_save_failed(sv, "flock()");
    }

    rc = ngx_http_llm_state_save_old(sv);
    if (rc != NGX_OK) {
        return rc;
    }

    /* whoever left it is dead: the lock is ours */

    if (unlink((const char *) sv->file->temp.data) == -1
        && ngx_errno != NGX_ENOENT)
    {
        return ngx_http_llm_state_save_failed(sv, "unlink()");
    }

    sv->fd = open((const char *) sv->file->temp.data,
                  O_WRONLY|O_CREAT|O_EXCL|O_NOFOLLOW|O_CLOEXEC, 0600);

    if (sv->fd == NGX_INVALID_FILE) {
        return ngx_http_llm_state_save_failed(sv, "open() a new file");
    }

    if (state->user != (ngx_uid_t) NGX_CONF_UNSET_UINT && geteuid() == 0
        && fchown(sv->fd, state->user, -1) == -1)
    {
        return ngx_http_llm_state_save_failed(sv, "fchown()");
    }

    return NGX_OK;
}


/* the file that is there: of a later generation? */

static ngx_int_t
ngx_http_llm_state_save_old(ngx_http_llm_state_save_t *sv)
{
    u_char           head[LLM_SNAPSHOT_HEAD];
    ssize_t          n;
    uint64_t         generation;
    ngx_file_info_t  fi;

    sv->old_size = 0;

    sv->old = open((const char *) sv->file->file.data,
                   O_RDONLY|O_NONBLOCK|O_NOFOLLOW|O_CLOEXEC);

    if (sv->old == NGX_INVALID_FILE) {
        /* what cannot be opened is replaced */
        return NGX_OK;
    }

    if (ngx_fd_info(sv->old, &fi) == NGX_FILE_ERROR || !ngx_is_file(&fi)) {
        return NGX_OK;
    }

    n = pread(sv->old, head, LLM_SNAPSHOT_HEAD, 0);

    if (n == LLM_SNAPSHOT_HEAD) {
        generation = ngx_http_llm_state_save_usage(sv)
                     ? llm_book_file_generation(head)
                     : llm_snapshot_generation(head);

        if (generation > sv->state->generation) {
            return NGX_DECLINED;
        }
    }

    sv->old_size = ngx_file_size(&fi);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_state_save_rows(ngx_http_llm_state_save_t *sv)
{
    u_char              *p;
    ngx_uint_t           i, k, n;
    llm_snapshot_row_t   rows[NGX_HTTP_LLM_STATE_BATCH];
    u_char               names[NGX_HTTP_LLM_STATE_BATCH][LLM_SNAPSHOT_NAME];

    if (ngx_http_llm_state_save_usage(sv)) {
        return ngx_http_llm_state_usage_rows(sv);
    }

    for (k = 0; k < NGX_HTTP_LLM_STATE_STEP; k++) {

        n = ngx_http_llm_state_save_batch(sv, rows, names);

        for (i = 0; i < n; i++) {

            p = llm_snapshot_write_row(&sv->snapshot, &rows[i], sv->pos);

            if (p) {
                sv->pos = p;
            }

            if (ngx_http_llm_state_save_flush(sv) != NGX_OK) {
                return NGX_ERROR;
            }
        }

        if (sv->row == 0) {
            return NGX_OK;
        }
    }

    return NGX_AGAIN;
}


/* copies rows, so that hashing and writing them is not done under the lock */

static ngx_uint_t
ngx_http_llm_state_save_batch(ngx_http_llm_state_save_t *sv,
    llm_snapshot_row_t *rows, u_char (*names)[LLM_SNAPSHOT_NAME])
{
    llm_str_t             name;
    ngx_uint_t            k, n;
    llm_owners_t          wake;
    const llm_meter_t    *m;
    ngx_http_llm_zone_t  *zone;

    zone = sv->state->zone;
    n = 0;

    ngx_http_llm_zone_lock(zone, &wake);

    for (k = 0; k < NGX_HTTP_LLM_STATE_BATCH; k++) {

        sv->row = llm_ledger_walk(zone->sh->ledger, sv->row, &name, &m);

        if (sv->row == 0) {
            break;
        }

        if (ngx_http_llm_state_save_worth(&name, m)) {
            ngx_memcpy(names[n], name.data, name.len);
            rows[n].name.data = names[n];
            rows[n].name.len = name.len;
            ngx_memcpy(rows[n].day, m->day, sizeof(m->day));
            ngx_memcpy(rows[n].month, m->month, sizeof(m->month));
            n++;
        }
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    return n;
}


/* keys and teams that have used something */

static ngx_uint_t
ngx_http_llm_state_save_worth(llm_str_t *name, const llm_meter_t *m)
{
    ngx_uint_t          i;
    const llm_tally_t  *tally;

    if (name->len < 3 || name->len > LLM_SNAPSHOT_NAME
        || (name->data[0] != 'k' && name->data[0] != 't')
        || name->data[1] != ':')
    {
        return 0;
    }

    for (i = 0; i < 4; i++) {
        tally = i < 2 ? &m->day[i] : &m->month[i - 2];

        if (tally->period && (tally->requests || tally->tokens
                              || tally->money))
        {
            return 1;
        }
    }

    return 0;
}


ngx_int_t
ngx_http_llm_state_save_flush(ngx_http_llm_state_save_t *sv)
{
    size_t   size;
    ssize_t  n;

    if (sv->buffer + NGX_HTTP_LLM_STATE_BUFFER - sv->pos
        >= ngx_max(LLM_SNAPSHOT_PIECE, LLM_BOOK_FILE_PIECE))
    {
        return NGX_OK;
    }

    size = sv->pos - sv->buffer;
    sv->pos = sv->buffer;

    n = ngx_write_fd(sv->fd, sv->buffer, size);

    if (n == (ssize_t) size) {
        return NGX_OK;
    }

    if (n >= 0) {
        ngx_set_errno(ENOSPC);
    }

    return ngx_http_llm_state_save_failed(sv, "write()");
}


void
ngx_http_llm_state_save_sync(ngx_http_llm_state_save_t *sv, ngx_uint_t thread)
{
    sigset_t        all, before;
    pthread_attr_t  attr;

    if (ngx_http_llm_state_save_usage(sv)) {
        sv->pos = llm_book_file_end(&sv->accounts, sv->pos);
        sv->size = sv->accounts.offset;

    } else {
        sv->pos = llm_snapshot_write_end(&sv->snapshot, sv->pos);
        sv->size = sv->snapshot.offset;
    }

    if (!thread || pthread_attr_init(&attr) != 0) {
        (void) ngx_http_llm_state_save_thread(sv);
        return;
    }

    (void) pthread_attr_setstacksize(&attr, NGX_HTTP_LLM_STATE_STACK);

    /* signals are for the event loop to wake up by */

    sigfillset(&all);
    (void) pthread_sigmask(SIG_BLOCK, &all, &before);

    if (pthread_create(&sv->thread, &attr, ngx_http_llm_state_save_thread, sv)
        == 0)
    {
        sv->threaded = 1;
    }

    (void) pthread_sigmask(SIG_SETMASK, &before, NULL);
    (void) pthread_attr_destroy(&attr);

    if (!sv->threaded) {
        (void) ngx_http_llm_state_save_thread(sv);
    }
}


/* nothing of nginx is used here but its error numbers: it is another thread */

static void *
ngx_http_llm_state_save_thread(void *data)
{
    ngx_http_llm_state_save_t *sv = data;

    size_t   size;
    ssize_t  n;

    if (ngx_http_llm_state_save_same(sv)) {

        /* its time says that it is not due again */

        (void) futimens(sv->old, NULL);
        goto done;
    }

    size = sv->pos - sv->buffer;
    n = write(sv->fd, sv->buffer, size);

    if (n != (ssize_t) size) {

        if (n >= 0) {
            ngx_set_errno(ENOSPC);
        }

        (void) ngx_http_llm_state_save_failed(sv, "write()");
        goto done;
    }

    if (fsync(sv->fd) == -1) {
        (void) ngx_http_llm_state_save_failed(sv, "fsync()");
        goto done;
    }

    if (rename((const char *) sv->file->temp.data,
               (const char *) sv->file->file.data)
        == -1)
    {
        (void) ngx_http_llm_state_save_failed(sv, "rename()");
        goto done;
    }

    /* it is in its place: nothing to be removed */

    (void) close(sv->fd);
    sv->fd = NGX_INVALID_FILE;

done:

    ngx_memory_barrier();
    sv->synced = 1;

    return NULL;
}


/* equal rows make equal files, and equal sums */

static ngx_uint_t
ngx_http_llm_state_save_same(ngx_http_llm_state_save_t *sv)
{
    u_char  end[LLM_SNAPSHOT_END];

    return sv->old != NGX_INVALID_FILE
           && (uint64_t) sv->old_size == sv->size
           && pread(sv->old, end, LLM_SNAPSHOT_END,
                    sv->old_size - LLM_SNAPSHOT_END)
              == LLM_SNAPSHOT_END
           && ngx_memcmp(end, sv->pos - LLM_SNAPSHOT_END, LLM_SNAPSHOT_END)
              == 0;
}


ngx_int_t
ngx_http_llm_state_save_end(ngx_http_llm_state_save_t *sv)
{
    ngx_http_llm_state_t       *state;
    ngx_http_llm_state_file_t  *file;

    if (sv->threaded) {
        (void) pthread_join(sv->thread, NULL);
        sv->threaded = 0;
    }

    ngx_http_llm_state_save_close(sv);

    state = sv->state;
    file = sv->file;

    if (sv->failed == NULL) {

        if (sv->synced) {
            ngx_http_llm_state_save_works(state, file - state->files,
                                          sv->log);
        }

        return NGX_OK;
    }

    if (!file->failing) {
        file->failing = 1;
        ngx_log_error(NGX_LOG_ERR, sv->log, sv->err,
                      "llm_state \"%V\": the %s cannot be saved: %s failed",
                      &state->dir, file->what, sv->failed);
    }

    return NGX_ERROR;
}


void
ngx_http_llm_state_save_works(ngx_http_llm_state_t *state, ngx_uint_t which,
    ngx_log_t *log)
{
    ngx_http_llm_state_file_t  *file;

    file = &state->files[which];

    if (!file->failing) {
        return;
    }

    file->failing = 0;

    ngx_log_error(NGX_LOG_NOTICE, log, 0,
                  "llm_state \"%V\": the %s are saved again", &state->dir,
                  file->what);
}


ngx_int_t
ngx_http_llm_state_save(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_uint_t which, ngx_log_t *log)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    for (i = 0; /* void */ ; i++) {
        rc = ngx_http_llm_state_save_begin(sv, state, which, log);

        if (rc != NGX_BUSY) {
            break;
        }

        if (i == NGX_HTTP_LLM_STATE_WAIT / NGX_HTTP_LLM_STATE_PAUSE) {
            ngx_log_error(NGX_LOG_ERR, log, 0,
                          "llm_state \"%V\": another process does not end "
                          "saving", &state->dir);
            return NGX_ERROR;
        }

        ngx_msleep(NGX_HTTP_LLM_STATE_PAUSE);
    }

    if (rc != NGX_OK) {
        return rc;
    }

    do {
        rc = ngx_http_llm_state_save_rows(sv);
    } while (rc == NGX_AGAIN);

    if (rc == NGX_OK) {
        ngx_http_llm_state_save_sync(sv, 0);
    }

    return ngx_http_llm_state_save_end(sv);
}


static ngx_int_t
ngx_http_llm_state_save_failed(ngx_http_llm_state_save_t *sv,
    const char *what)
{
    sv->err = ngx_errno;
    sv->failed = what;

    return NGX_ERROR;
}


static void
ngx_http_llm_state_save_close(ngx_http_llm_state_save_t *sv)
{
    if (sv->fd != NGX_INVALID_FILE) {

        /* not in its place */

        (void) unlink((const char *) sv->file->temp.data);
        (void) close(sv->fd);
        sv->fd = NGX_INVALID_FILE;
    }

    if (sv->old != NGX_INVALID_FILE) {
        (void) close(sv->old);
        sv->old = NGX_INVALID_FILE;
    }

    /* the lock goes last */

    if (sv->lock != NGX_INVALID_FILE) {
        (void) close(sv->lock);
        sv->lock = NGX_INVALID_FILE;
    }
}
