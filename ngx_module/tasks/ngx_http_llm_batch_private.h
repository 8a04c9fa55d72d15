
/*
 * Copyright (C) the ngx-llm authors
 *
 * Batches: what is known of one, for the stage that tells clients of them
 * (batches), and for the driver that takes one through its life (batch_run
 * and what it calls: check, feed, stop, finish).
 */


#ifndef _NGX_HTTP_LLM_BATCH_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_BATCH_PRIVATE_H_INCLUDED_


#include "tasks/ngx_http_llm_files.h"
#include "tasks/ngx_http_llm_runner.h"

#include "core/llm_batch.h"
#include "core/llm_lines.h"


#define NGX_HTTP_LLM_BATCH_PREFIX   "batch_"
#define NGX_HTTP_LLM_BATCH_OPEN     500      /* of a team, not ended */
#define NGX_HTTP_LLM_BATCH_KEEP     2592000  /* s, behind its end */
#define NGX_HTTP_LLM_BATCH_INDEX    3456000  /* s, in a team's list */

#define NGX_HTTP_LLM_BATCH_LINE     (4 * 1024 * 1024)
#define NGX_HTTP_LLM_BATCH_LIVE     2000     /* jobs of one batch */
#define NGX_HTTP_LLM_BATCH_ERRORS   100
#define NGX_HTTP_LLM_BATCH_SOME     2048     /* lines whose ids are known */
#define NGX_HTTP_LLM_BATCH_ARENA    2048     /* for what is spelled escaped */

#define NGX_HTTP_LLM_BATCH_SLICE    4000     /* us of a turn */
#define NGX_HTTP_LLM_BATCH_BYTES    524288   /* of results in one reply */
#define NGX_HTTP_LLM_BATCH_AGAIN    500      /* ms between looks */
#define NGX_HTTP_LLM_BATCH_FULL     3000     /* … when the queue is full */
#define NGX_HTTP_LLM_BATCH_QUOTA    60000    /* … when there is no room for
                                                the files; not longer than */
#define NGX_HTTP_LLM_BATCH_PATIENCE  3600000


/* as it stands in Redis; times in ob are s, the others ms */

typedef struct {
    llm_batch_object_t          ob;

    ngx_str_t                   id;
    ngx_str_t                   team;
    ngx_str_t                   owner;
    ngx_str_t                   endpoint;
    ngx_str_t                   input;
    ngx_str_t                   window;
    ngx_str_t                   status;
    ngx_str_t                   metadata;
    ngx_str_t                   model;
    ngx_str_t                   stop;
    ngx_str_t                   out;
    ngx_str_t                   err;
    ngx_str_t                   tokens;
    ngx_str_t                   errors;

    /* handed to a provider: its name, its name for the model, its ids */

    ngx_str_t                   native;
    ngx_str_t                   native_model;
    ngx_str_t                   native_file;
    ngx_str_t                   native_batch;
    ngx_str_t                   native_out;
    ngx_str_t                   native_err;

    int64_t                     now;
    int64_t                     created;
    int64_t                     expires;
    int64_t                     in_progress;
    int64_t                     finalizing;
    int64_t                     ended[3];    /* completed, failed, expired */
    int64_t                     cancelling;
    int64_t                     gone;        /* cancelled_at */

    int64_t                     keep;        /* s */
    int64_t                     lines;
    int64_t                     completed;
    int64_t                     error;
    int64_t                     cancelled;
    int64_t                     fed;
    int64_t                     line;
    int64_t                     chunk;
    int64_t                     offset;
    int64_t                     stop_from;
    int64_t                     stop_to;
    int64_t                     ok;
    int64_t                     bad;

    int64_t                     native_try;      /* it may be there */
    int64_t                     native_cancel;   /* it was told */
    int64_t                     native_done;     /* it has ended there */
    int64_t                     native_paid;
    int64_t                     native_pause;    /* ms, between looks */
} ngx_http_llm_batch_t;


/*
 * From the fields of a reply, which are copied; NGX_DECLINED: it is not one
 * of ours
 */
ngx_int_t ngx_http_llm_batch_read(ngx_pool_t *pool,
    ngx_http_llm_redis_reply_t *fields, ngx_http_llm_batch_t *b);

/* the words of an error, perhaps a provider's: what is too long is cut */
void ngx_http_llm_batch_say(llm_batch_error_t *err, const char *text);

/* errors of a check, as JSON that read() understands */
ngx_int_t ngx_http_llm_batch_errors(ngx_pool_t *pool, llm_batch_error_t *err,
    ngx_uint_t n, ngx_str_t *json);


typedef struct ngx_http_llm_batch_run_s     ngx_http_llm_batch_run_t;
typedef struct ngx_http_llm_batch_finish_s  ngx_http_llm_batch_finish_t;
typedef struct ngx_http_llm_batch_native_s  ngx_http_llm_batch_native_t;

typedef void (*ngx_http_llm_batch_pt)(ngx_http_llm_batch_run_t *run);
typedef void (*ngx_http_llm_batch_reply_pt)(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_reply_t *reply);


struct ngx_http_llm_batch_run_s {
    ngx_http_llm_todo_t            *todo;
    ngx_pool_t                     *pool;    /* of one look at the batch */
    ngx_http_llm_batch_t            b;

    ngx_event_t                     event;   /* calls step */
    ngx_http_llm_batch_pt           step;
    uint64_t                        began;   /* us: this turn */
    ngx_msec_t                      kept;    /* the lease, last time */

    ngx_http_llm_redis_op_t        *op;
    ngx_http_llm_batch_reply_pt     reply;
    ngx_http_llm_batch_pt           next;    /* behind a step that was ok */

    /* the lines of the input */
    ngx_http_llm_blob_reader_t      source;
    u_char                         *buf;
    llm_lines_t                     lines;
    ngx_pool_t                     *text;    /* of a chunk */
    const u_char                   *start;
    const u_char                   *pos;
    const u_char                   *last;
    ngx_uint_t                      chunk;
    size_t                          skip;
    uint64_t                        passed;  /* lines before the first one */
    unsigned                        found:1;
    unsigned                        reading:1;
    unsigned                        eof:1;

    llm_batch_t                     check;
    ngx_uint_t                      most;
    void                           *seen;
    ngx_array_t                     errors;  /* of llm_batch_error_t */

    /* feeding, stopping and dropping */
    ngx_pool_t                     *temp;
    ngx_http_llm_queue_call_t       call;
    ngx_uint_t                      jobs;    /* in the call */
    int64_t                         at;      /* number of the next job */
    int64_t                         to;
    int64_t                         flagged[2];
    unsigned                        woken:1;

    ngx_http_llm_batch_finish_t    *finish;
    ngx_http_llm_batch_native_t    *native;
};


/* where the parts begin; each ends with again() or end() */
void ngx_http_llm_batch_check(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_feed(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_stop(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_finish(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_drop(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_native(ngx_http_llm_batch_run_t *run);


/* looks at the batch anew */
void ngx_http_llm_batch_again(ngx_http_llm_batch_run_t *run);

/* gives it back, for "ms" or for good; run is gone */
void ngx_http_llm_batch_end(ngx_http_llm_batch_run_t *run, int64_t ms);

/* step is called, in this turn or when others have had theirs */
void ngx_http_llm_batch_wake(ngx_http_llm_batch_run_t *run);
void ngx_http_llm_batch_later(ngx_http_llm_batch_run_t *run);

/* is this turn's time up? */
ngx_uint_t ngx_http_llm_batch_late(ngx_http_llm_batch_run_t *run);

/*
 * Sends a call; "reply" gets what is neither an error nor lost, else the run
 * ends.  NGX_ERROR: the run is gone already.
 */
ngx_int_t ngx_http_llm_batch_send(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_redis_script_t *script, ngx_http_llm_queue_call_t *call,
    ngx_http_llm_batch_reply_pt reply);

/*
 * The fenced write: step_begin, add pairs, step.  "next" is called when it
 * was done; if the batch is not what was expected it is looked at anew.
 */
void ngx_http_llm_batch_step_begin(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call, const char *expected, const char *stamp,
    time_t ttl);
void ngx_http_llm_batch_step_text(ngx_http_llm_queue_call_t *call,
    const char *name, ngx_str_t *value);
void ngx_http_llm_batch_step_number(ngx_http_llm_queue_call_t *call,
    const char *name, int64_t value);
ngx_int_t ngx_http_llm_batch_step(ngx_http_llm_batch_run_t *run,
    ngx_http_llm_queue_call_t *call, ngx_http_llm_batch_pt next);

/* its end as failed, for one reason */
void ngx_http_llm_batch_fail(ngx_http_llm_batch_run_t *run, const char *code,
    const char *text);

/* … for several */
void ngx_http_llm_batch_fail_all(ngx_http_llm_batch_run_t *run,
    llm_batch_error_t *err, ngx_uint_t n);

/* the id of the job of line n, in memory of "pool" */
ngx_int_t ngx_http_llm_batch_job(ngx_http_llm_batch_run_t *run,
    ngx_pool_t *pool, int64_t n, ngx_str_t *id);


/*
 * The lines of the input from a place on; "most": how many custom_ids are
 * told apart.
 */
ngx_int_t ngx_http_llm_batch_open(ngx_http_llm_batch_run_t *run,
    ngx_uint_t chunk, size_t skip, uint64_t passed, ngx_uint_t most);

/*
 * NGX_OK: a line, valid until the next call; NGX_DECLINED: one too long;
 * NGX_AGAIN: step will be called; NGX_DONE: there are no more; NGX_ABORT: the
 * file is not there any more; NGX_ERROR
 */
ngx_int_t ngx_http_llm_batch_next(ngx_http_llm_batch_run_t *run,
    llm_str_t *line);

/*
 * One that is known to be right; NGX_OK or NGX_ERROR.  "buf" has
 * NGX_HTTP_LLM_BATCH_ARENA bytes, which "line" points to.
 */
ngx_int_t ngx_http_llm_batch_line(ngx_http_llm_batch_run_t *run,
    llm_str_t *text, u_char *buf, llm_batch_line_t *line);

/* a line that was there and right before could not be had (next(), line()) */
void ngx_http_llm_batch_unread(ngx_http_llm_batch_run_t *run, ngx_int_t rc);

void ngx_http_llm_batch_close(ngx_http_llm_batch_run_t *run);

/*
 * Is it its provider's to run it?  Then name and model are added to the step
 * that ends the check.
 */
void ngx_http_llm_batch_native_choose(ngx_http_llm_batch_run_t *run,
    ngx_str_t *model, ngx_http_llm_queue_call_t *call);

/* the end of what native() began */
void ngx_http_llm_batch_native_close(ngx_http_llm_batch_run_t *run);

/* they have become nobody's: files that are closed go, too */
void ngx_http_llm_batch_finish_undo(ngx_http_llm_batch_run_t *run);

/* the end of what finish() began */
void ngx_http_llm_batch_finish_close(ngx_http_llm_batch_run_t *run);


#endif /* _NGX_HTTP_LLM_BATCH_PRIVATE_H_INCLUDED_ */
