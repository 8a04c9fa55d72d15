
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file comes into the shared policy in slices of a few ms: read,
 * a generation begun, row after row, and what the old one has left swept away.
 */


#include "policy/ngx_http_llm_tenant_private.h"
#include "state/ngx_http_llm_zone.h"

#include <sys/mman.h>


#define NGX_HTTP_LLM_TENANTS_SLICE  3                   /* ms */
#define NGX_HTTP_LLM_TENANTS_PAUSE  1                   /* ms between them */
#define NGX_HTTP_LLM_TENANTS_CHUNK  (256 * 1024)        /* of the file */
#define NGX_HTTP_LLM_TENANTS_BYTES  (16 * 1024)         /* parsed at once */
#define NGX_HTTP_LLM_TENANTS_BLOCKS 1024                /* swept at once */
#define NGX_HTTP_LLM_TENANTS_PAGES  (4 * 1024 * 1024)   /* freed at once */


static ngx_int_t ngx_http_llm_tenants_step(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_read(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_begin(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_rows(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_end(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_clean(ngx_http_llm_tenants_t *tn);
static ngx_int_t ngx_http_llm_tenants_free(ngx_http_llm_tenants_t *tn);
static void ngx_http_llm_tenants_fail(ngx_http_llm_tenants_t *tn,
    const char *err);
static void ngx_http_llm_tenants_finish(ngx_http_llm_tenants_t *tn);
static int ngx_http_llm_tenants_sink_defaults(void *data,
    const llm_terms_t *terms);
static int ngx_http_llm_tenants_sink_row(void *data,
    const llm_policy_row_t *row, char *other);
static int ngx_http_llm_tenants_heap_defaults(void *data,
    const llm_terms_t *terms);
static int ngx_http_llm_tenants_heap_row(void *data,
    const llm_policy_row_t *row, char *other);
static uint64_t ngx_http_llm_tenants_us(void);


/* a keyring of the master's own, being filled */

typedef struct {
    llm_keyring_t              *keyring;
    uint64_t                    ticket;
    int                         declined;
} ngx_http_llm_tenants_heap_t;


void
ngx_http_llm_tenants_load(ngx_http_llm_tenants_t *tn)
{
    ngx_http_llm_file_stat(&tn->file.name, &tn->stat);

    tn->len = 0;
    tn->fd = ngx_http_llm_file_open(&tn->file, &tn->size, NGX_LOG_ERR);

    if (tn->fd == NGX_INVALID_FILE) {
        ngx_http_llm_tenants_fail(tn, NULL);
        return;
    }

    tn->text = ngx_alloc(tn->size, tn->file.log);
    if (tn->text == NULL) {
        ngx_http_llm_tenants_fail(tn, "out of memory");
        return;
    }

    tn->state = NGX_HTTP_LLM_TENANTS_READ;
    ngx_http_llm_tenants_work(&tn->work);
}


void
ngx_http_llm_tenants_sweep(ngx_http_llm_tenants_t *tn)
{
    ngx_http_llm_keys_area_t  *sh;

    /* as whoever began it does not go on */

    sh = ngx_http_llm_area_lock(tn->mcf->keys);
    (void) llm_keyring_begin(sh->keyring, &tn->ticket);
    llm_keyring_abandon(sh->keyring, tn->ticket);
    ngx_http_llm_area_unlock(tn->mcf->keys);

    tn->state = NGX_HTTP_LLM_TENANTS_SWEEP;
    ngx_http_llm_tenants_work(&tn->work);
}


void
ngx_http_llm_tenants_work(ngx_event_t *ev)
{
    uint64_t                 start;
    ngx_http_llm_tenants_t  *tn;

    tn = (ngx_http_llm_tenants_t *)
             ((u_char *) ev - offsetof(ngx_http_llm_tenants_t, work));

    /* another worker may have taken over, or another configuration */

    if (tn->state != NGX_HTTP_LLM_TENANTS_FREE
        && !ngx_http_llm_tenants_lead(tn))
    {
        ngx_http_llm_tenants_finish(tn);
        return;
    }

    start = ngx_http_llm_tenants_us();

    do {
        if (ngx_http_llm_tenants_step(tn) != NGX_AGAIN) {
            ngx_http_llm_tenants_finish(tn);
            return;
        }

    } while (ngx_http_llm_tenants_us() - start
             < NGX_HTTP_LLM_TENANTS_SLICE * 1000);

    ngx_add_timer(ev, NGX_HTTP_LLM_TENANTS_PAUSE);
}


/* NGX_AGAIN: there is more to do */

static ngx_int_t
ngx_http_llm_tenants_step(ngx_http_llm_tenants_t *tn)
{
    switch (tn->state) {

    case NGX_HTTP_LLM_TENANTS_READ:
        return ngx_http_llm_tenants_read(tn);

    case NGX_HTTP_LLM_TENANTS_BEGIN:
        return ngx_http_llm_tenants_begin(tn);

    case NGX_HTTP_LLM_TENANTS_PARSE:
        return ngx_http_llm_tenants_rows(tn);

    case NGX_HTTP_LLM_TENANTS_SWEEP:
        return ngx_http_llm_tenants_clean(tn);

    case NGX_HTTP_LLM_TENANTS_FREE:
        return ngx_http_llm_tenants_free(tn);

    default:
        return NGX_OK;
    }
}


static ngx_int_t
ngx_http_llm_tenants_read(ngx_http_llm_tenants_t *tn)
{
    size_t   room;
    ssize_t  n;

    room = ngx_min(tn->size - tn->len, NGX_HTTP_LLM_TENANTS_CHUNK);

    n = room ? ngx_read_fd(tn->fd, tn->text + tn->len, room) : 0;

    if (n == -1) {
        ngx_log_error(NGX_LOG_ERR, tn->file.log, ngx_errno,
                      "llm_tenants: " ngx_read_fd_n " \"%V\" failed",
                      &tn->file.name);
        ngx_http_llm_tenants_fail(tn, NULL);
        return NGX_ERROR;
    }

    tn->len += n;

    if (n) {
        return NGX_AGAIN;
    }

    ngx_http_llm_file_close(&tn->file, tn->fd);
    tn->fd = NGX_INVALID_FILE;
    tn->state = NGX_HTTP_LLM_TENANTS_BEGIN;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_tenants_begin(ngx_http_llm_tenants_t *tn)
{
    int                      rc;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);

    rc = llm_keyring_begin(sh->keyring, &tn->ticket);

    if (rc == LLM_AGAIN) {
        (void) llm_keyring_sweep(sh->keyring, NGX_HTTP_LLM_TENANTS_BLOCKS);
    }

    ngx_http_llm_area_unlock(tn->mcf->keys);

    if (rc == LLM_AGAIN) {
        return NGX_AGAIN;
    }

    tn->reader = ngx_alloc(sizeof(llm_policy_file_t), tn->file.log);
    tn->scratch = ngx_alloc(LLM_POLICY_FILE_SCRATCH, tn->file.log);

    if (tn->reader == NULL || tn->scratch == NULL) {
        ngx_http_llm_tenants_fail(tn, "out of memory");
        return NGX_ERROR;
    }

    tn->rows = 0;
    tn->declined = LLM_OK;
    tn->sink.data = tn;
    tn->sink.defaults = ngx_http_llm_tenants_sink_defaults;
    tn->sink.row = ngx_http_llm_tenants_sink_row;

    llm_policy_file_init(tn->reader, tn->text, tn->len, tn->scratch,
                         &tn->sink);

    tn->state = NGX_HTTP_LLM_TENANTS_PARSE;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_tenants_rows(ngx_http_llm_tenants_t *tn)
{
    int   rc;
    char  err[NGX_HTTP_LLM_TENANTS_ERROR];

    rc = llm_policy_file_step(tn->reader, NGX_HTTP_LLM_TENANTS_BYTES, err,
                              sizeof(err));
    switch (rc) {

    case LLM_AGAIN:
        return NGX_AGAIN;

    case LLM_OK:
        return ngx_http_llm_tenants_end(tn);

    case LLM_DECLINED:

        if (tn->declined == LLM_ERROR) {
            /* somebody else is loading it */
            return NGX_ERROR;
        }

        (void) ngx_snprintf((u_char *) err, sizeof(err),
                            "keys= of llm_zone is too small: there was room "
                            "for %ui of its keys and teams%Z", tn->rows);
        break;

    default:
        break;
    }

    ngx_http_llm_tenants_fail(tn, err);

    return NGX_ERROR;
}


static ngx_int_t
ngx_http_llm_tenants_end(ngx_http_llm_tenants_t *tn)
{
    int                      rc;
    llm_keyring_stat_t       stat;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);

    rc = llm_keyring_end(sh->keyring, tn->ticket);

    if (rc == LLM_OK) {
        sh->loaded = tn->stat;
    }

    llm_keyring_stat(sh->keyring, &stat);

    ngx_http_llm_area_unlock(tn->mcf->keys);

    if (rc != LLM_OK) {
        return NGX_ERROR;
    }

    tn->mcf->zone->sh->count.policy_loaded = ngx_time();

    ngx_log_error(NGX_LOG_NOTICE, tn->file.log, 0,
                  "llm_tenants \"%V\": %uL keys, %uL teams", &tn->file.name,
                  stat.keys, stat.teams);

    tn->state = NGX_HTTP_LLM_TENANTS_SWEEP;

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_tenants_clean(ngx_http_llm_tenants_t *tn)
{
    int                      rc;
    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);
    rc = llm_keyring_sweep(sh->keyring, NGX_HTTP_LLM_TENANTS_BLOCKS);
    ngx_http_llm_area_unlock(tn->mcf->keys);

    return rc;
}


/* the file is not looked at again until it changes; "err" NULL: it is told */

static void
ngx_http_llm_tenants_fail(ngx_http_llm_tenants_t *tn, const char *err)
{
    ngx_http_llm_keys_area_t  *sh;

    if (err) {
        ngx_log_error(NGX_LOG_ERR, tn->file.log, 0,
                      "llm_tenants \"%V\": %s, the old ones stay in force",
                      &tn->file.name, err);
    }

    sh = ngx_http_llm_area_lock(tn->mcf->keys);
    llm_keyring_abandon(sh->keyring, tn->ticket);
    sh->loaded = tn->stat;
    ngx_http_llm_area_unlock(tn->mcf->keys);

    (void) ngx_atomic_fetch_add(&tn->mcf->zone->sh->count.policy_failures, 1);

    ngx_http_llm_tenants_finish(tn);
}


static void
ngx_http_llm_tenants_finish(ngx_http_llm_tenants_t *tn)
{
    if (tn->fd != NGX_INVALID_FILE) {
        ngx_http_llm_file_close(&tn->file, tn->fd);
        tn->fd = NGX_INVALID_FILE;
    }

    if (tn->reader) {
        ngx_free(tn->reader);
        tn->reader = NULL;
    }

    if (tn->scratch) {
        ngx_free(tn->scratch);
        tn->scratch = NULL;
    }

    if (tn->text) {
        tn->state = NGX_HTTP_LLM_TENANTS_FREE;
        ngx_add_timer(&tn->work, NGX_HTTP_LLM_TENANTS_PAUSE);
        return;
    }

    tn->state = NGX_HTTP_LLM_TENANTS_IDLE;
}


/* a hundred megabytes take the kernel 10 ms to take back, so not at once */

static ngx_int_t
ngx_http_llm_tenants_free(ngx_http_llm_tenants_t *tn)
{
    char  *start, *end;

    end = (char *) ((uintptr_t) (tn->text + tn->len)
                    & ~((uintptr_t) ngx_pagesize - 1));

    tn->len -= ngx_min(tn->len, NGX_HTTP_LLM_TENANTS_PAGES);

    start = (char *) ngx_align_ptr(tn->text + tn->len, ngx_pagesize);

    if (start < end) {
        (void) madvise(start, end - start, MADV_DONTNEED);
    }

    if (tn->len) {
        return NGX_AGAIN;
    }

    ngx_free(tn->text);
    tn->text = NULL;

    return NGX_OK;
}


static int
ngx_http_llm_tenants_sink_defaults(void *data, const llm_terms_t *terms)
{
    ngx_http_llm_tenants_t  *tn = data;

    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);
    tn->declined = llm_keyring_load_defaults(sh->keyring, tn->ticket, terms);
    ngx_http_llm_area_unlock(tn->mcf->keys);

    return tn->declined;
}


static int
ngx_http_llm_tenants_sink_row(void *data, const llm_policy_row_t *row,
    char *other)
{
    ngx_http_llm_tenants_t  *tn = data;

    ngx_http_llm_keys_area_t  *sh;

    sh = ngx_http_llm_area_lock(tn->mcf->keys);
    tn->declined = llm_keyring_load(sh->keyring, tn->ticket, row, other);
    ngx_http_llm_area_unlock(tn->mcf->keys);

    tn->rows += tn->declined == LLM_OK;

    return tn->declined;
}


ngx_int_t
ngx_http_llm_tenants_parse(llm_keyring_t *kr, char *text, size_t size,
    char *err, size_t errlen, ngx_log_t *log)
{
    int                           rc;
    u_char                       *scratch;
    llm_policy_file_t            *reader;
    llm_policy_sink_t             sink;
    ngx_http_llm_tenants_heap_t   heap;

    reader = ngx_alloc(sizeof(llm_policy_file_t), log);
    scratch = ngx_alloc(LLM_POLICY_FILE_SCRATCH, log);

    if (reader == NULL || scratch == NULL) {
        (void) ngx_snprintf((u_char *) err, errlen, "out of memory%Z");
        rc = LLM_ERROR;
        goto done;
    }

    heap.keyring = kr;
    sink.data = &heap;
    sink.defaults = ngx_http_llm_tenants_heap_defaults;
    sink.row = ngx_http_llm_tenants_heap_row;

    (void) llm_keyring_begin(kr, &heap.ticket);

    llm_policy_file_init(reader, text, size, scratch, &sink);

    do {
        rc = llm_policy_file_step(reader, size, err, errlen);
    } while (rc == LLM_AGAIN);

    if (rc == LLM_OK) {
        (void) llm_keyring_end(kr, heap.ticket);
    }

done:

    if (reader) {
        ngx_free(reader);
    }

    if (scratch) {
        ngx_free(scratch);
    }

    return rc;
}


static int
ngx_http_llm_tenants_heap_defaults(void *data, const llm_terms_t *terms)
{
    ngx_http_llm_tenants_heap_t  *heap = data;

    return llm_keyring_load_defaults(heap->keyring, heap->ticket, terms);
}


static int
ngx_http_llm_tenants_heap_row(void *data, const llm_policy_row_t *row,
    char *other)
{
    ngx_http_llm_tenants_heap_t  *heap = data;

    return llm_keyring_load(heap->keyring, heap->ticket, row, other);
}


/* slices are measured: how long a row takes depends on what is in it */

static uint64_t
ngx_http_llm_tenants_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
