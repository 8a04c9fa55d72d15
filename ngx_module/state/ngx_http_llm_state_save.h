
/*
 * Copyright (C) the ngx-llm authors
 *
 * One saving of the tallies, step by step.  The directory is what processes
 * agree by: who saves holds a lock on it (freed if it dies), the time of the
 * file is when it was saved last, and a process whose generation is below the
 * file's has been replaced (a binary upgrade, a zone of another size) and
 * leaves it alone.
 */


#ifndef _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_
#define _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_


#include "state/ngx_http_llm_state.h"

#include "core/llm_snapshot.h"

#include <pthread.h>


#define NGX_HTTP_LLM_STATE_BUFFER  32768


struct ngx_http_llm_state_s {
    ngx_str_t                   dir;             /* all end with a null */
    ngx_str_t                   file;
    ngx_str_t                   temp;
    ngx_str_t                   aside;           /* damaged */
    ngx_http_llm_zone_t        *zone;
    ngx_uid_t                   user;            /* who is to own it */
    uint64_t                    generation;
    ngx_uint_t                  failing;         /* said already */
};


typedef struct {
    ngx_http_llm_state_t       *state;
    ngx_log_t                  *log;
    llm_snapshot_t              snapshot;
    uint32_t                    row;             /* where the walk is */
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


/*
 * NGX_OK: begun; NGX_BUSY: another process saves; NGX_DECLINED: this process
 * has been replaced; NGX_ERROR: logged.
 */
ngx_int_t ngx_http_llm_state_save_begin(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_log_t *log);

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
    ngx_log_t *log);

/* all at once, however long it takes; as begin() and end() */
ngx_int_t ngx_http_llm_state_save(ngx_http_llm_state_save_t *sv,
    ngx_http_llm_state_t *state, ngx_log_t *log);


/*
 * Reads what was saved, if "restore" back into the ledger, and gives its
 * generation, 0 without a file.  One that is damaged, or has more than the
 * ledger has room for, is kept aside.
 */
uint64_t ngx_http_llm_state_load(ngx_http_llm_state_t *state,
    ngx_uint_t restore, ngx_log_t *log);


#endif /* _NGX_HTTP_LLM_STATE_SAVE_H_INCLUDED_ */
