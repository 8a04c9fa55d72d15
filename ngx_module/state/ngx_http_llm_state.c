
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_book.h"
#include "state/ngx_http_llm_owner.h"
#include "state/ngx_http_llm_state_save.h"

#include <ngx_event.h>


#define NGX_HTTP_LLM_STATE_INTERVAL  4000      /* ms between two savings */
#define NGX_HTTP_LLM_STATE_TICK      500       /* ms between two looks */
#define NGX_HTTP_LLM_STATE_SLICE     1         /* ms between two steps */
#define NGX_HTTP_LLM_STATE_DISK      10        /* ms, is it on the disk? */


typedef enum {
    NGX_HTTP_LLM_STATE_IDLE = 0,
    NGX_HTTP_LLM_STATE_ROWS,
    NGX_HTTP_LLM_STATE_SYNC,
    NGX_HTTP_LLM_STATE_REPLACED
} ngx_http_llm_state_phase_e;


/* of the master, over reloads: which directory, and as who */

typedef struct {
    dev_t                       device;
    ino_t                       inode;
    uint64_t                    generation;
} ngx_http_llm_state_past_t;


static void ngx_http_llm_state_restore(ngx_http_llm_state_t *state,
    ngx_file_info_t *fi, ngx_log_t *log);
static ngx_int_t ngx_http_llm_state_first(ngx_http_llm_state_t *state,
    ngx_cycle_t *cycle);
static ngx_uint_t ngx_http_llm_state_empty(ngx_http_llm_zone_t *zone);
static ngx_uint_t ngx_http_llm_state_blank(ngx_http_llm_area_t *book);
static void ngx_http_llm_state_replaced(ngx_http_llm_state_t *state,
    ngx_log_t *log);
static void ngx_http_llm_state_handler(ngx_event_t *ev);
static ngx_msec_t ngx_http_llm_state_step(ngx_http_llm_state_t *state,
    ngx_log_t *log);
static ngx_int_t ngx_http_llm_state_begin(ngx_http_llm_state_t *state,
    ngx_msec_t *next, ngx_log_t *log);
static ngx_msec_t ngx_http_llm_state_end(ngx_http_llm_state_t *state,
    ngx_log_t *log);
static ngx_uint_t ngx_http_llm_state_which(ngx_http_llm_state_t *state,
    ngx_log_t *log);
static void ngx_http_llm_state_again(ngx_uint_t which);
static ngx_uint_t ngx_http_llm_state_due(ngx_http_llm_state_t *state,
    ngx_uint_t which);
static ngx_uint_t ngx_http_llm_state_changed(ngx_http_llm_state_t *state);
static ngx_uint_t ngx_http_llm_state_used(ngx_http_llm_state_t *state);
static ngx_uint_t ngx_http_llm_state_last(ngx_http_llm_zone_t *zone);


static ngx_http_llm_state_past_t   ngx_http_llm_state_past;

/* this process's own */
static ngx_http_llm_state_save_t   ngx_http_llm_state_saving;
static ngx_http_llm_state_phase_e  ngx_http_llm_state_phase;
static ngx_connection_t            ngx_http_llm_state_dummy;
static ngx_event_t                 ngx_http_llm_state_event;
static ngx_atomic_uint_t           ngx_http_llm_state_seen;
static ngx_uint_t                  ngx_http_llm_state_busy;
static uint64_t                    ngx_http_llm_state_posted;


#define ngx_http_llm_state_files(state)                                       \
    ((ngx_uint_t) ((state)->book ? NGX_HTTP_LLM_STATE_FILES                   \
                                 : NGX_HTTP_LLM_STATE_USAGE))


ngx_int_t
ngx_http_llm_state_init_module(ngx_http_llm_state_t *state,
    ngx_http_llm_zone_t *zone, ngx_http_llm_area_t *book, ngx_cycle_t *cycle)
{
    ngx_core_conf_t  *ccf;
    ngx_file_info_t   fi;

    state->zone = zone;
    state->book = book;

    if (ngx_test_config) {
        return NGX_OK;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);
    state->user = ccf->user;

    if (ngx_file_info(state->dir.data, &fi) == NGX_FILE_ERROR) {
        ngx_memzero(&fi, sizeof(ngx_file_info_t));
    }

    ngx_http_llm_state_restore(state, &fi, cycle->log);

    return ngx_http_llm_state_first(state, cycle);
}


/* what was saved, and by it the generation that this start is */

static void
ngx_http_llm_state_restore(ngx_http_llm_state_t *state, ngx_file_info_t *fi,
    ngx_log_t *log)
{
    uint64_t                    generation;
    ngx_uint_t                  empty, blank;
    ngx_http_llm_state_past_t  *past;

    past = &ngx_http_llm_state_past;
    empty = ngx_http_llm_state_empty(state->zone);
    blank = ngx_http_llm_state_blank(state->book);

    if (!empty && past->generation && past->device == fi->st_dev
        && past->inode == fi->st_ino)
    {
        /* a reload: the zone knows more than the file */
        state->generation = past->generation;

        if (state->book && blank) {
            (void) ngx_http_llm_state_usage_load(state, 1, log);
        }

    } else {
        generation = ngx_http_llm_state_load(state, empty, log);
        state->generation = generation + 1;

        if (state->book) {
            generation = ngx_http_llm_state_usage_load(state, blank, log);
            state->generation = ngx_max(state->generation, generation + 1);
        }

        /* a file that was lost may have had any */
        state->generation = ngx_max(state->generation,
                                    (uint64_t) ngx_time());
    }

    past->device = fi->st_dev;
    past->inode = fi->st_ino;
    past->generation = state->generation;
}


/* saves at once: what cannot be written is to be known at the start */

static ngx_int_t
ngx_http_llm_state_first(ngx_http_llm_state_t *state, ngx_cycle_t *cycle)
{
    ngx_int_t   rc;
    ngx_uint_t  i;

    for (i = 0; i < ngx_http_llm_state_files(state); i++) {
        rc = ngx_http_llm_state_save(&ngx_http_llm_state_saving, state, i,
                                     cycle->log);

        if (rc == NGX_DECLINED) {
            ngx_http_llm_state_replaced(state, cycle->log);
            break;
        }

        if (rc != NGX_OK && ngx_is_init_cycle(cycle->old_cycle)) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "llm_state \"%V\" cannot be used", &state->dir);
            return NGX_ERROR;
        }
    }

    return NGX_OK;
}


/* a ledger that nobody has used, and that holds nothing put back earlier */

static ngx_uint_t
ngx_http_llm_state_empty(ngx_http_llm_zone_t *zone)
{
    uint32_t            row;
    llm_str_t           name;
    llm_owners_t        wake;
    const llm_meter_t  *m;

    ngx_http_llm_zone_lock(zone, &wake);
    row = llm_ledger_walk(zone->sh->ledger, 0, &name, &m);
    ngx_http_llm_zone_unlock(zone, &wake);

    return row == 0;
}


static ngx_uint_t
ngx_http_llm_state_blank(ngx_http_llm_area_t *book)
{
    ngx_uint_t  blank;

    if (book == NULL) {
        return 0;
    }

    blank = llm_book_changed(ngx_http_llm_book_read(book)) == 0;
    ngx_http_llm_book_unlock(book);

    return blank;
}


static void
ngx_http_llm_state_replaced(ngx_http_llm_state_t *state, ngx_log_t *log)
{
    ngx_log_error(NGX_LOG_WARN, log, 0,
                  "llm_state \"%V\": a later start of nginx keeps its tallies "
                  "there, those of this one are not saved any more",
                  &state->dir);
}


ngx_int_t
ngx_http_llm_state_init_process(ngx_http_llm_state_t *state,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_IDLE;
    ngx_http_llm_state_dummy.fd = (ngx_socket_t) -1;

    ev = &ngx_http_llm_state_event;

    ev->handler = ngx_http_llm_state_handler;
    ev->data = &ngx_http_llm_state_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_http_llm_state_dummy.data = state;

    ngx_add_timer(ev, NGX_HTTP_LLM_STATE_TICK);

    return NGX_OK;
}


static void
ngx_http_llm_state_handler(ngx_event_t *ev)
{
    ngx_msec_t         next;
    ngx_connection_t  *c;

    c = ev->data;

    next = ngx_http_llm_state_step(c->data, ev->log);

    if (ngx_http_llm_state_phase != NGX_HTTP_LLM_STATE_REPLACED) {
        ngx_add_timer(ev, next);
    }
}


/* how long until the next step */

static ngx_msec_t
ngx_http_llm_state_step(ngx_http_llm_state_t *state, ngx_log_t *log)
{
    ngx_int_t                   rc;
    ngx_msec_t                  next;
    ngx_http_llm_state_save_t  *sv;

    sv = &ngx_http_llm_state_saving;

    switch (ngx_http_llm_state_phase) {

    case NGX_HTTP_LLM_STATE_IDLE:

        if (ngx_http_llm_state_begin(state, &next, log) != NGX_OK) {
            return next;
        }

        ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_ROWS;

        /* fall through */

    case NGX_HTTP_LLM_STATE_ROWS:

        rc = ngx_http_llm_state_save_rows(sv);

        if (rc == NGX_AGAIN) {
            return NGX_HTTP_LLM_STATE_SLICE;
        }

        ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_SYNC;

        if (rc == NGX_OK) {
            ngx_http_llm_state_save_sync(sv, 1);
            return NGX_HTTP_LLM_STATE_DISK;
        }

        sv->synced = 1;

        /* fall through */

    default: /* NGX_HTTP_LLM_STATE_SYNC */

        if (!sv->synced) {
            return NGX_HTTP_LLM_STATE_DISK;
        }

        ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_IDLE;

        return ngx_http_llm_state_end(state, log);
    }
}


/* unless NGX_OK: not now, and how long until it is tried again */

static ngx_int_t
ngx_http_llm_state_begin(ngx_http_llm_state_t *state, ngx_msec_t *next,
    ngx_log_t *log)
{
    ngx_int_t   rc;
    ngx_uint_t  which;

    *next = NGX_HTTP_LLM_STATE_TICK;

    which = ngx_http_llm_state_which(state, log);

    if (which == NGX_HTTP_LLM_STATE_FILES) {
        return NGX_DECLINED;
    }

    rc = ngx_http_llm_state_save_begin(&ngx_http_llm_state_saving, state,
                                       which, log);

    if (rc == NGX_DECLINED) {
        ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_REPLACED;
        ngx_http_llm_state_replaced(state, log);
        *next = 0;
        return NGX_DECLINED;
    }

    if (rc != NGX_OK) {
        ngx_http_llm_state_again(which);

        if (rc != NGX_BUSY) {
            *next = NGX_HTTP_LLM_STATE_INTERVAL;
        }

        return rc;
    }

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, log, 0, "llm state save");

    return NGX_OK;
}


static ngx_msec_t
ngx_http_llm_state_end(ngx_http_llm_state_t *state, ngx_log_t *log)
{
    ngx_http_llm_state_save_t  *sv;

    sv = &ngx_http_llm_state_saving;

    if (ngx_http_llm_state_save_end(sv) != NGX_OK) {
        ngx_http_llm_state_again(sv->file - state->files);
        return NGX_HTTP_LLM_STATE_INTERVAL;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, log, 0,
                   "llm state saved %s bytes:%uL", sv->file->what, sv->size);

    return NGX_HTTP_LLM_STATE_TICK;
}


/* which file is to be saved now, NGX_HTTP_LLM_STATE_FILES: none */

static ngx_uint_t
ngx_http_llm_state_which(ngx_http_llm_state_t *state, ngx_log_t *log)
{
    ngx_uint_t  i;

    for (i = 0; i < ngx_http_llm_state_files(state); i++) {

        if (!ngx_http_llm_state_due(state, i)) {
            ngx_http_llm_state_save_works(state, i, log);
            continue;
        }

        if (i == NGX_HTTP_LLM_STATE_TALLIES
            ? ngx_http_llm_state_changed(state)
            : ngx_http_llm_state_used(state))
        {
            return i;
        }
    }

    return NGX_HTTP_LLM_STATE_FILES;
}


/* it was not saved: it is due even if nothing changes any more */

static void
ngx_http_llm_state_again(ngx_uint_t which)
{
    if (which == NGX_HTTP_LLM_STATE_TALLIES) {
        ngx_http_llm_state_busy = 1;

    } else {
        ngx_http_llm_state_posted = 0;
    }
}


/* also when the file's time is to come: then the clock was set back */

static ngx_uint_t
ngx_http_llm_state_due(ngx_http_llm_state_t *state, ngx_uint_t which)
{
    int64_t           age;
    ngx_time_t       *tp;
    ngx_file_info_t   fi;

    if (ngx_file_info(state->files[which].file.data, &fi) == NGX_FILE_ERROR) {
        return 1;
    }

    tp = ngx_timeofday();

    age = ((int64_t) tp->sec - fi.st_mtim.tv_sec) * 1000 + (int64_t) tp->msec
          - fi.st_mtim.tv_nsec / 1000000;

    return age >= NGX_HTTP_LLM_STATE_INTERVAL || age < -1000;
}


/*
 * Has anything happened since this worker saved?  Tallies change while
 * requests hold something and when they end.
 */

static ngx_uint_t
ngx_http_llm_state_changed(ngx_http_llm_state_t *state)
{
    ngx_uint_t              i, j, busy;
    llm_owners_t            wake;
    ngx_atomic_uint_t       sum;
    llm_ledger_stat_t       st;
    ngx_http_llm_zone_t    *zone;
    ngx_http_llm_count_t   *count;

    zone = state->zone;
    count = &zone->sh->count;

    /* the count first: what ends meanwhile is seen the next time */

    for (sum = 0, i = 0; i < LLM_ENDPOINTS + 1; i++) {
        for (j = 0; j < NGX_HTTP_LLM_STATUSES; j++) {
            sum += count->requests[i][j];
        }
    }

    ngx_http_llm_zone_lock(zone, &wake);
    llm_ledger_stat(zone->sh->ledger, &st);
    ngx_http_llm_zone_unlock(zone, &wake);

    busy = ngx_http_llm_state_busy || st.tickets_used;

    if (!busy && sum == ngx_http_llm_state_seen) {
        return 0;
    }

    ngx_http_llm_state_busy = st.tickets_used != 0;
    ngx_http_llm_state_seen = sum;

    return 1;
}


/* the same of the accounts */

static ngx_uint_t
ngx_http_llm_state_used(ngx_http_llm_state_t *state)
{
    uint64_t  changed;

    changed = llm_book_changed(ngx_http_llm_book_read(state->book));
    ngx_http_llm_book_unlock(state->book);

    if (changed == ngx_http_llm_state_posted) {
        return 0;
    }

    ngx_http_llm_state_posted = changed;

    return 1;
}


void
ngx_http_llm_state_exit_process(ngx_http_llm_state_t *state)
{
    ngx_uint_t                  i;
    ngx_http_llm_state_save_t  *sv;

    if (ngx_http_llm_state_event.timer_set) {
        ngx_del_timer(&ngx_http_llm_state_event);
    }

    sv = &ngx_http_llm_state_saving;

    /* one that is under way is ended if it is on its way to the disk */

    if (ngx_http_llm_state_phase == NGX_HTTP_LLM_STATE_ROWS
        || ngx_http_llm_state_phase == NGX_HTTP_LLM_STATE_SYNC)
    {
        (void) ngx_http_llm_state_save_end(sv);
    }

    if (ngx_http_llm_state_phase != NGX_HTTP_LLM_STATE_REPLACED
        && ngx_http_llm_state_last(state->zone))
    {
        for (i = 0; i < ngx_http_llm_state_files(state); i++) {
            (void) ngx_http_llm_state_save(sv, state, i, ngx_cycle->log);
        }
    }

    ngx_http_llm_state_phase = NGX_HTTP_LLM_STATE_IDLE;
}


/* each has given up its own place before: at least one finds none */

static ngx_uint_t
ngx_http_llm_state_last(ngx_http_llm_zone_t *zone)
{
    ngx_pid_t   pid;
    ngx_uint_t  i;

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        pid = zone->sh->owner[i];

        if (pid && pid != ngx_pid
            && (kill(pid, 0) == 0 || ngx_errno != NGX_ESRCH))
        {
            return 0;
        }
    }

    return 1;
}
