
/*
 * Copyright (C) the ngx-llm authors
 *
 * The gateway's own sums on their way to Redis: once a second one worker
 * writes the rows that have changed since all was written last.  Only when
 * all of a round was taken, its changes count as written; so whatever fails
 * is done again.
 */


#include "policy/ngx_http_llm_usage.h"
#include "policy/ngx_http_llm_usage_private.h"


#define NGX_HTTP_LLM_USAGE_EVERY   1000        /* ms */
#define NGX_HTTP_LLM_USAGE_LOOK    2000        /* rows under one lock */
#define NGX_HTTP_LLM_USAGE_LOOKS   8           /* … in one turn */
#define NGX_HTTP_LLM_USAGE_BATCH   64          /* … written in one turn */
#define NGX_HTTP_LLM_USAGE_DAY     86400
#define NGX_HTTP_LLM_USAGE_CHECK   5           /* s, while nothing changes */
#define NGX_HTTP_LLM_USAGE_LAST    4000        /* rows of a worker that ends */


typedef struct {
    ngx_http_llm_main_conf_t   *mcf;
    uint64_t                    since;
    uint64_t                    target;
    uint64_t                    cursor;
    ngx_uint_t                  kind;
    ngx_uint_t                  busy;          /* commands */
    unsigned                    running:1;
    unsigned                    failed:1;
    unsigned                    lost:1;        /* Redis has forgotten */
    unsigned                    leaving:1;     /* replies are not awaited */
} ngx_http_llm_usage_write_t;


static void ngx_http_llm_usage_write_timer(ngx_event_t *ev);
static void ngx_http_llm_usage_write_begin(ngx_http_llm_usage_write_t *w);
static void ngx_http_llm_usage_write_check(ngx_http_llm_usage_write_t *w);
static void ngx_http_llm_usage_write_checked(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_usage_write_lost(ngx_http_llm_usage_write_t *w);
static void ngx_http_llm_usage_write_step(ngx_http_llm_usage_write_t *w);
static void ngx_http_llm_usage_write_next(ngx_event_t *ev);
static ngx_uint_t ngx_http_llm_usage_write_rows(
    ngx_http_llm_usage_write_t *w);
static void ngx_http_llm_usage_write_shard(ngx_http_llm_usage_write_t *w,
    llm_book_row_t *row, ngx_uint_t n);
static void ngx_http_llm_usage_write_hash(ngx_http_llm_usage_write_t *w,
    ngx_str_t *hash, llm_book_row_t *row, ngx_uint_t n);
static void ngx_http_llm_usage_write_index(ngx_http_llm_usage_write_t *w,
    ngx_str_t *index, ngx_str_t *member, llm_book_row_t *row);
static void ngx_http_llm_usage_write_expire(ngx_http_llm_usage_write_t *w,
    ngx_str_t *key, ngx_uint_t kind);
static void ngx_http_llm_usage_write_send(ngx_http_llm_usage_write_t *w,
    ngx_uint_t argc, ngx_str_t *argv, ngx_http_llm_redis_handler_pt handler);
static void ngx_http_llm_usage_write_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_usage_write_known(void *data,
    ngx_http_llm_redis_reply_t *reply);


/* how long Redis keeps them, in days, by kind */

static const ngx_uint_t  ngx_http_llm_usage_days[LLM_BOOK_KINDS] = {
    0, 0, 92, 64, 800
};

static ngx_http_llm_usage_write_t  ngx_http_llm_usage_writing;
static ngx_event_t                 ngx_http_llm_usage_write_event;
static ngx_event_t                 ngx_http_llm_usage_write_more;
static ngx_connection_t            ngx_http_llm_usage_write_dummy;


ngx_int_t
ngx_http_llm_usage_write_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    ngx_event_t  *ev;

    if (mcf->redis == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_usage_writing.mcf = mcf;
    ngx_http_llm_usage_write_dummy.fd = (ngx_socket_t) -1;

    ev = &ngx_http_llm_usage_write_event;

    ev->handler = ngx_http_llm_usage_write_timer;
    ev->data = &ngx_http_llm_usage_write_dummy;
    ev->log = cycle->log;
    ev->cancelable = 1;

    ngx_add_timer(ev, NGX_HTTP_LLM_USAGE_EVERY);

    ev = &ngx_http_llm_usage_write_more;

    ev->handler = ngx_http_llm_usage_write_next;
    ev->data = &ngx_http_llm_usage_write_dummy;
    ev->log = cycle->log;

    return NGX_OK;
}


static void
ngx_http_llm_usage_write_timer(ngx_event_t *ev)
{
    ngx_http_llm_usage_write_t  *w;

    w = &ngx_http_llm_usage_writing;

    if (!w->running
        && ngx_http_llm_redis_connected(w->mcf->redis)
        && ngx_http_llm_book_turn(w->mcf->book, NGX_HTTP_LLM_USAGE_EVERY))
    {
        ngx_http_llm_usage_write_begin(w);
    }

    /*
     * not a second from now: whose turn has just not come would be late by
     * a second, and if all workers are, the others hear of it after two
     */

    ngx_add_timer(ev, ngx_http_llm_book_due(w->mcf->book,
                                            NGX_HTTP_LLM_USAGE_EVERY));
}


static void
ngx_http_llm_usage_write_begin(ngx_http_llm_usage_write_t *w)
{
    llm_book_t  *bk;

    bk = ngx_http_llm_book_read(w->mcf->book);
    w->target = llm_book_changed(bk);
    ngx_http_llm_book_unlock(w->mcf->book);

    w->since = ngx_http_llm_book_sh(w->mcf->book)->written;

    if (w->target == w->since) {
        ngx_http_llm_usage_write_check(w);
        return;
    }

    w->kind = LLM_BOOK_HOUR;
    w->cursor = 0;
    w->failed = 0;
    w->lost = 0;
    w->running = 1;

    ngx_http_llm_usage_write_step(w);
}


/* nothing is new: does Redis still have what was written last? */

static void
ngx_http_llm_usage_write_check(ngx_http_llm_usage_write_t *w)
{
    u_char                     *p;
    ngx_str_t                   argv[3];
    ngx_http_llm_book_past_t   *past;
    u_char                      set[NGX_HTTP_LLM_USAGE_KEY];
    u_char                      self[NGX_HTTP_LLM_USAGE_EPOCH
                                     + NGX_INT64_LEN + 2];

    past = &ngx_http_llm_book_sh(w->mcf->book)->past[LLM_BOOK_MONTH];

    if (past->start == 0 || ngx_time() % NGX_HTTP_LLM_USAGE_CHECK) {
        return;
    }

    p = ngx_sprintf(self, "%016xL:%uL", ngx_http_llm_book_epoch(w->mcf->book),
                    past->shard);

    ngx_str_set(&argv[0], "SISMEMBER");
    ngx_http_llm_usage_index_key(LLM_BOOK_MONTH, past->start, &argv[1], set);
    argv[2].data = self;
    argv[2].len = p - self;

    (void) ngx_http_llm_redis_command(w->mcf->redis, 3, argv, 0,
                                      ngx_http_llm_usage_write_checked, w);
}


static void
ngx_http_llm_usage_write_checked(void *data,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_usage_write_t *w = data;

    if (reply->type == NGX_HTTP_LLM_REDIS_INTEGER && reply->integer == 0
        && !w->running)
    {
        ngx_http_llm_usage_write_lost(w);
    }
}


static void
ngx_http_llm_usage_write_lost(ngx_http_llm_usage_write_t *w)
{
    ngx_http_llm_book_sh_t  *sh;

    ngx_log_error(NGX_LOG_NOTICE, ngx_cycle->log, 0,
                  "llm usage: Redis does not know of what was written, all "
                  "is written anew");

    sh = ngx_http_llm_book_sh(w->mcf->book);

    ngx_memzero(sh->past, sizeof(sh->past));
    sh->written = 0;
}


/* the next rows, unless replies to the last ones are yet to come */

static void
ngx_http_llm_usage_write_step(ngx_http_llm_usage_write_t *w)
{
    ngx_uint_t               n;
    ngx_http_llm_book_sh_t  *sh;

    for (n = 0; w->busy == 0 && !w->failed && w->kind < LLM_BOOK_KINDS; n++) {

        /* a large book is looked through in many turns */

        if (n == NGX_HTTP_LLM_USAGE_LOOKS) {
            ngx_post_event(&ngx_http_llm_usage_write_more,
                           &ngx_posted_next_events);
            return;
        }

        (void) ngx_http_llm_usage_write_rows(w);
    }

    if (w->busy) {
        return;
    }

    w->running = 0;
    ngx_http_llm_book_hold(w->mcf->book, NGX_HTTP_LLM_USAGE_EVERY);

    sh = ngx_http_llm_book_sh(w->mcf->book);

    if (w->lost) {
        ngx_http_llm_usage_write_lost(w);
        return;
    }

    /* another worker may have been faster */

    if (!w->failed && sh->written == w->since) {
        sh->written = w->target;
    }

    ngx_log_debug3(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm usage written: changes %uL to %uL, failed:%d",
                   w->since, w->target, (int) w->failed);
}


static void
ngx_http_llm_usage_write_next(ngx_event_t *ev)
{
    ngx_http_llm_usage_write_step(&ngx_http_llm_usage_writing);
}


/* how many there were */

static ngx_uint_t
ngx_http_llm_usage_write_rows(ngx_http_llm_usage_write_t *w)
{
    ngx_uint_t      i, k, n;
    llm_book_t     *bk;
    llm_book_row_t  row[NGX_HTTP_LLM_USAGE_BATCH];

    bk = ngx_http_llm_book_lock(w->mcf->book);

    n = llm_book_rows(bk, (llm_book_kind_e) w->kind, &w->cursor, w->since,
                      NGX_HTTP_LLM_USAGE_LOOK, row, NGX_HTTP_LLM_USAGE_BATCH);

    ngx_http_llm_book_unlock(w->mcf->book);

    for (i = 0; i < n; i = k) {

        for (k = i + 1; k < n; k++) {
            if (row[k].start != row[i].start
                || row[k].number / NGX_HTTP_LLM_USAGE_SHARD
                   != row[i].number / NGX_HTTP_LLM_USAGE_SHARD)
            {
                break;
            }
        }

        ngx_http_llm_usage_write_shard(w, &row[i], k - i);
    }

    if (w->cursor == LLM_BOOK_END) {
        w->kind++;
        w->cursor = 0;
    }

    return n;
}


static void
ngx_http_llm_usage_write_shard(ngx_http_llm_usage_write_t *w,
    llm_book_row_t *row, ngx_uint_t n)
{
    ngx_str_t  member, index, hash;
    u_char     set[NGX_HTTP_LLM_USAGE_KEY];
    u_char     key[NGX_HTTP_LLM_USAGE_KEY];
    u_char     self[NGX_HTTP_LLM_USAGE_EPOCH + NGX_INT64_LEN + 2];

    member.data = self;
    member.len = ngx_sprintf(self, "%016xL:%uL",
                             ngx_http_llm_book_epoch(w->mcf->book),
                             row->number / NGX_HTTP_LLM_USAGE_SHARD)
                 - self;

    ngx_http_llm_usage_index_key(row->kind, row->start, &index, set);
    ngx_http_llm_usage_hash_key(row->kind, row->start, &member, &hash, key);

    ngx_http_llm_usage_write_hash(w, &hash, row, n);
    ngx_http_llm_usage_write_expire(w, &hash, row->kind);

    ngx_http_llm_usage_write_index(w, &index, &member, row);
    ngx_http_llm_usage_write_expire(w, &index, row->kind);
}


static void
ngx_http_llm_usage_write_hash(ngx_http_llm_usage_write_t *w, ngx_str_t *hash,
    llm_book_row_t *row, ngx_uint_t n)
{
    u_char         *p;
    ngx_str_t       argv[2 + 2 * NGX_HTTP_LLM_USAGE_BATCH];
    ngx_uint_t      i;
    static u_char   text[NGX_HTTP_LLM_USAGE_BATCH]
                        [LLM_BOOK_FIELD + LLM_BOOK_VALUE + NGX_INT64_LEN];

    ngx_str_set(&argv[0], "HSET");
    argv[1] = *hash;

    for (i = 0; i < n; i++) {
        p = text[i];

        argv[2 + 2 * i].data = p;
        p = ngx_sprintf(p, "%uL;", row[i].number);
        p += llm_book_put_names(row[i].name, p);
        argv[2 + 2 * i].len = p - argv[2 + 2 * i].data;

        argv[3 + 2 * i].data = p;
        argv[3 + 2 * i].len = llm_book_put_sums(&row[i].sums, p);
    }

    ngx_http_llm_usage_write_send(w, 2 + 2 * n, argv,
                                  ngx_http_llm_usage_write_reply);
}


/* this shard, in the set of those that there are */

static void
ngx_http_llm_usage_write_index(ngx_http_llm_usage_write_t *w,
    ngx_str_t *index, ngx_str_t *member, llm_book_row_t *row)
{
    ngx_str_t                  argv[3];
    ngx_http_llm_book_past_t  *past;

    ngx_str_set(&argv[0], "SADD");
    argv[1] = *index;
    argv[2] = *member;

    past = &ngx_http_llm_book_sh(w->mcf->book)->past[row->kind];

    ngx_http_llm_usage_write_send(w, 3, argv,
        past->start == row->start
        && past->shard == row->number / NGX_HTTP_LLM_USAGE_SHARD
        ? ngx_http_llm_usage_write_known : ngx_http_llm_usage_write_reply);

    past->start = row->start;
    past->shard = row->number / NGX_HTTP_LLM_USAGE_SHARD;
}


static void
ngx_http_llm_usage_write_expire(ngx_http_llm_usage_write_t *w,
    ngx_str_t *key, ngx_uint_t kind)
{
    u_char     life[NGX_INT64_LEN];
    ngx_str_t  argv[3];

    ngx_str_set(&argv[0], "EXPIRE");
    argv[1] = *key;
    argv[2].data = life;
    argv[2].len = ngx_sprintf(life, "%ui",
                              ngx_http_llm_usage_days[kind]
                              * NGX_HTTP_LLM_USAGE_DAY)
                  - life;

    ngx_http_llm_usage_write_send(w, 3, argv, ngx_http_llm_usage_write_reply);
}


static void
ngx_http_llm_usage_write_send(ngx_http_llm_usage_write_t *w, ngx_uint_t argc,
    ngx_str_t *argv, ngx_http_llm_redis_handler_pt handler)
{
    if (w->leaving) {
        handler = NULL;
    }

    /* another one's newer sums must not be overtaken by these */

    ngx_http_llm_book_hold(w->mcf->book, NGX_HTTP_LLM_BOOK_HELD);

    if (ngx_http_llm_redis_command(w->mcf->redis, argc, argv, 0, handler, w)
        == NULL)
    {
        w->failed = 1;
        return;
    }

    if (handler) {
        w->busy++;
    }
}


static void
ngx_http_llm_usage_write_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_usage_write_t *w = data;

    w->busy--;

    if (reply->type != NGX_HTTP_LLM_REDIS_INTEGER) {
        w->failed = 1;
    }

    if (w->busy == 0) {
        ngx_http_llm_usage_write_step(w);
    }
}


/* a set in which this gateway is must know it */

static void
ngx_http_llm_usage_write_known(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_usage_write_t *w = data;

    if (reply->type == NGX_HTTP_LLM_REDIS_INTEGER && reply->integer != 0) {
        w->lost = 1;
    }

    ngx_http_llm_usage_write_reply(data, reply);
}


/* what is new goes out before the connection does, and nobody waits for it */

void
ngx_http_llm_usage_write_exit_process(ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t                   n;
    llm_book_t                  *bk;
    ngx_http_llm_usage_write_t  *w;

    w = &ngx_http_llm_usage_writing;

    if (w->mcf == NULL) {
        return;
    }

    if (ngx_http_llm_usage_write_event.timer_set) {
        ngx_del_timer(&ngx_http_llm_usage_write_event);
    }

    if (ngx_http_llm_usage_write_more.posted) {
        ngx_delete_posted_event(&ngx_http_llm_usage_write_more);
    }

    if (!ngx_http_llm_redis_connected(mcf->redis)) {
        return;
    }

    bk = ngx_http_llm_book_read(mcf->book);
    w->target = llm_book_changed(bk);
    ngx_http_llm_book_unlock(mcf->book);

    w->leaving = 1;
    w->failed = 0;
    w->since = ngx_http_llm_book_sh(mcf->book)->written;
    w->kind = LLM_BOOK_HOUR;
    w->cursor = 0;

    for (n = 0; w->kind < LLM_BOOK_KINDS && !w->failed
                && n < NGX_HTTP_LLM_USAGE_LAST; /* void */ )
    {
        n += ngx_http_llm_usage_write_rows(w);
    }
}
