
/*
 * Copyright (C) the ngx-llm authors
 *
 * One saving of a file, the tallies or the accounts, step by step.  The
 * directory is what processes agree by: who saves holds a lock on it (freed
 * if it dies), the time of the file is when it was saved last, and a process
 * whose generation is below the file's has been replaced (a binary upgrade, a
 * zone of another size) and leaves it alone.
 */


#ifndef _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_
#define _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_


#include "state/ngx_http_llm_state.h"

#include "core/llm_book_file.h"
#include "core/llm_snapshot.h"

#include <pthread.h>


#define NGX_HTTP_LLM_STATE_BUFFER  32768


typedef enum {
    NGX_HTTP_LLM_STATE_TALLIES = 0,
    NGX_HTTP_LLM_STATE_USAGE,
    NGX_HTTP_LLM_STATE_FILES
} ngx_http_llm_state_file_e;


typedef struct {
    const char                 *what;            /* for the log */
    ngx_str_t                   file;            /* all end with a null */
    ngx_str_t                   temp;
    ngx_str_t                   aside;           /* damaged */
    ngx_uint_t                  failing;         /* said already */
} ngx_http_llm_state_file_t;


struct ngx_http_llm_state_s {
    ngx_str_t                   dir;             /* ends with a null */
    ngx_http_llm_state_file_t   files[NGX_HTTP_LLM_STATE_FILES];
    ngx_http_llm_zone_t        *zone;
    ngx_http_llm_area_t        *book;            /* NULL: only tallies */
    ngx_uid_t                   user;            /* who is to own it */
    uint64_t                    generation;
};


typedef struct {
    ngx_http_llm_state_t       *state;
    ngx_http_llm_state_file_t  *file;
    ngx_log_t                  *log;
    llm_snapshot_t              snapshot;
    llm_book_file_t             accounts;
    uint32_t                    row;             /* where the walk is */
    ngx_uint_t                  kind;            /* … in the accounts */
    uint64_t                    cursor;
    uint64_t                    size;            /* of the new file */
    ngx_fd_t                    lock;
    ngx_fd_t                    old;
    ngx_fd_t                    fd;
    off_t                       old_size;
    u_char                     *pos;
    const char                 *failed;          /* which call, NULL: none */
    ngx_err_t                   err;
    pthread_t                   thread;
    ngx_uint_t                  threaded;
    ngx_atomic_t                synced;
    u_char                      buffer[NGX_HTTP_LLM_STATE_BUFFER];
} ngx_http_llm_state_save_t;


typedef struct {
    ngx_http_llm_state_t       *state;
    void                       *file;            /* its parser */
    uint32_t                   *restored;        /* NULL: it is only read */
} ngx_http_llm_state_scan_t;


typedef ngx_int_t (*ngx_http_llm_state_take_pt)(ngx_http_llm_state_scan_t *sc,
    u_char **p, u_char *end);


/*
 * NGX_OK: begun; NGX_BUSY: another process saves; NGX_DECLINED: this process
 * has been replaced; NGX_ERROR: logged.
 */
ngx_int_t ngx_http_llm_state_save_begin(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_uint_t which, ngx_log_t *log);

/* some more rows: NGX_AGAIN until it is NGX_OK or NGX_ERROR */
ngx_int_t ngx_http_llm_state_save_rows(ngx_http_llm_state_save_t *sv);

/* puts the file on the disk and in its place; in a thread, since that waits:
   sv->synced is set then, or without one */
void ngx_http_llm_state_save_sync(ngx_http_llm_state_save_t *sv,
    ngx_uint_t thread);

/* waits for the thread, gives all back; NGX_ERROR: it was not saved, logged */
ngx_int_t ngx_http_llm_state_save_end(ngx_http_llm_state_save_t *sv);

/* it was saved, by this process or another: said once after a failure */
void ngx_http_llm_state_save_works(ngx_http_llm_state_t *state,
    ngx_uint_t which, ngx_log_t *log);

/* writes the buffer unless there is room for one more piece */
ngx_int_t ngx_http_llm_state_save_flush(ngx_http_llm_state_save_t *sv);

/* all at once, however long it takes; as begin() and end() */
ngx_int_t ngx_http_llm_state_save(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_uint_t which, ngx_log_t *log);

/* rows of the accounts, as save_rows(), which calls it */
ngx_int_t ngx_http_llm_state_usage_rows(ngx_http_llm_state_save_t *sv);


/*
 * Reads what was saved, if "restore" back into the ledger, and gives its
 * generation, 0 without a file.  One that is damaged, or has more than the
 * ledger has room for, is kept aside.
 */
uint64_t ngx_http_llm_state_load(ngx_http_llm_state_t *state,
    ngx_uint_t restore, ngx_log_t *log);

/* the same for the accounts */
uint64_t ngx_http_llm_state_usage_load(ngx_http_llm_state_t *state,
    ngx_uint_t restore, ngx_log_t *log);

/* NGX_OK, NGX_DONE: there is none, NGX_DECLINED: no file, NGX_ERROR: errno */
ngx_int_t ngx_http_llm_state_open(ngx_str_t *file, ngx_fd_t *fd,
    const char **error);

/*
 * Hands the whole file to "take", which moves *p behind what it has taken;
 * NGX_ERROR: errno, else what "take" says that is not NGX_OK.
 */
ngx_int_t ngx_http_llm_state_scan(ngx_fd_t fd,
    ngx_http_llm_state_take_pt take, ngx_http_llm_state_scan_t *sc,
    const char **error);

/* a file that was not taken over; what is lost with the next saving may be
   wanted by somebody */
void ngx_http_llm_state_keep(ngx_http_llm_state_file_t *file,
    ngx_log_t *log);


#endif /* _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_ */
