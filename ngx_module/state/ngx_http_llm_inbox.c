
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_inbox_private.h"

#include <openssl/rand.h>


/* ms: a read waits, and may be late as old servers look once a second */
#define NGX_HTTP_LLM_INBOX_BLOCK    5000
#define NGX_HTTP_LLM_INBOX_GRACE    1000

/* ms until a read that failed or came back at once is tried again */
#define NGX_HTTP_LLM_INBOX_RETRY    1000

/* letters of a stream in the first reply after a lost connection */
#define NGX_HTTP_LLM_INBOX_FEW      8

#define NGX_HTTP_LLM_INBOX_ID       (2 * NGX_INT64_LEN + 1)


static void ngx_http_llm_inbox_begin(void *data);
static void ngx_http_llm_inbox_timer(ngx_event_t *ev);
static void ngx_http_llm_inbox_ask(ngx_http_llm_inbox_t *ib);
static ngx_http_llm_redis_op_t *ngx_http_llm_inbox_newest(
    ngx_http_llm_inbox_t *ib, ngx_http_llm_inbox_stream_t *st);
static ngx_http_llm_redis_op_t *ngx_http_llm_inbox_read(
    ngx_http_llm_inbox_t *ib);
static void ngx_http_llm_inbox_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_inbox_failed(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply);
static void ngx_http_llm_inbox_found(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply);


ngx_http_llm_inbox_t *
ngx_http_llm_inbox_create(ngx_conf_t *cf, ngx_str_t *url,
    ngx_http_llm_redis_t *rd)
{
    ngx_http_llm_inbox_t          *ib;
    ngx_http_llm_redis_options_t  *options;

    ib = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_inbox_t));
    if (ib == NULL) {
        return NULL;
    }

    ib->redis = rd;

    ib->reader = ngx_http_llm_redis_create(cf, url);
    if (ib->reader == NULL) {
        return NULL;
    }

    options = ngx_http_llm_redis_options(ib->reader);
    options->beside = rd;
    options->up = ngx_http_llm_inbox_begin;
    options->data = ib;

    ib->name.len = NGX_HTTP_LLM_INBOX_NAME;
    ib->name.data = ib->text + NGX_HTTP_LLM_INBOX_PREFIX;

    ngx_memcpy(ib->text, NGX_HTTP_LLM_INBOX_KEY, NGX_HTTP_LLM_INBOX_PREFIX);

    ib->own.key.len = sizeof(ib->text);
    ib->own.key.data = ib->text;
    ngx_str_set(&ib->own.expire, "60000");
    ngx_str_set(&ib->own.max, ngx_value(NGX_HTTP_LLM_INBOX_MAX));

    ngx_str_set(&ib->board.key, NGX_HTTP_LLM_INBOX_BOARD);
    ngx_str_set(&ib->board.expire, "86400000");
    ngx_str_set(&ib->board.max, "1024");

    return ib;
}


ngx_int_t
ngx_http_llm_inbox_init_process(ngx_http_llm_inbox_t *ib, ngx_cycle_t *cycle,
    ngx_http_llm_inbox_handler_pt handler, void (*up)(void))
{
    u_char                         name[NGX_HTTP_LLM_INBOX_NAME / 2];
    ngx_http_llm_redis_options_t  *options;

    if (ngx_process != NGX_PROCESS_WORKER
        && ngx_process != NGX_PROCESS_SINGLE)
    {
        return NGX_OK;
    }

    if (RAND_bytes(name, sizeof(name)) != 1) {
        ngx_log_error(NGX_LOG_EMERG, cycle->log, 0, "RAND_bytes() failed");
        return NGX_ERROR;
    }

    (void) ngx_hex_dump(ib->name.data, name, sizeof(name));

    ib->log = cycle->log;
    ib->handler = handler;
    ib->up = up;
    ib->count = NGX_HTTP_LLM_INBOX_COUNT;

    ib->timer.handler = ngx_http_llm_inbox_timer;
    ib->timer.log = cycle->log;
    ib->timer.data = ib;
    ib->timer.cancelable = 1;

    /* set by others until now */

    options = ngx_http_llm_redis_options(ib->reader);
    options->timeout = ngx_http_llm_redis_options(ib->redis)->timeout;
    options->connect_timeout =
                      ngx_http_llm_redis_options(ib->redis)->connect_timeout;

    return ngx_http_llm_redis_init_process(ib->reader, cycle);
}


void
ngx_http_llm_inbox_exit_process(ngx_http_llm_inbox_t *ib)
{
    ngx_str_t  argv[3];

    if (ib->log == NULL) {
        return;
    }

    /* the same as to delete it, with no other right */

    ngx_str_set(&argv[0], "PEXPIRE");
    argv[1] = ib->own.key;
    ngx_str_set(&argv[2], "1");

    (void) ngx_http_llm_redis_offer(ib->redis, 3, argv);

    ngx_http_llm_redis_exit_process(ib->reader);

    if (ib->timer.timer_set) {
        ngx_del_timer(&ib->timer);
    }

    if (ib->buffer != NULL) {
        ngx_free(ib->buffer);
        ib->buffer = NULL;
        ib->size = 0;
    }

    ib->op = NULL;
    ib->reading = 0;
    ib->log = NULL;
}


ngx_str_t *
ngx_http_llm_inbox_name(ngx_http_llm_inbox_t *ib)
{
    return &ib->name;
}


ngx_uint_t
ngx_http_llm_inbox_ready(ngx_http_llm_inbox_t *ib)
{
    ngx_str_t  ping = ngx_string("PING");

    if (!ib->reading) {
        return 0;
    }

    if (ngx_http_llm_redis_connected(ib->redis)) {
        return 1;
    }

    /* it may be that nobody else asks whether the server is back */
    (void) ngx_http_llm_redis_offer(ib->redis, 1, &ping);

    return 0;
}


/* the connection is there, anew; or the timer */

static void
ngx_http_llm_inbox_begin(void *data)
{
    ngx_http_llm_inbox_t *ib = data;

    if (ib->op != NULL) {
        /* it went along to another node */
        return;
    }

    ib->step = NGX_HTTP_LLM_INBOX_NEWEST_OWN;

    ngx_http_llm_inbox_ask(ib);
}


static void
ngx_http_llm_inbox_timer(ngx_event_t *ev)
{
    ngx_http_llm_inbox_t  *ib;

    ib = ev->data;

    /* else it begins again when it is */

    if (ngx_http_llm_redis_connected(ib->reader)) {
        ngx_http_llm_inbox_begin(ib);
    }
}


static void
ngx_http_llm_inbox_ask(ngx_http_llm_inbox_t *ib)
{
    switch (ib->step) {

    case NGX_HTTP_LLM_INBOX_NEWEST_OWN:
        ib->op = ngx_http_llm_inbox_newest(ib, &ib->own);
        break;

    case NGX_HTTP_LLM_INBOX_NEWEST_BOARD:
        ib->op = ngx_http_llm_inbox_newest(ib, &ib->board);
        break;

    default: /* NGX_HTTP_LLM_INBOX_READ */
        ib->op = ngx_http_llm_inbox_read(ib);
        break;
    }

    if (ib->op == NULL) {
        ib->reading = 0;
        ngx_add_timer(&ib->timer, NGX_HTTP_LLM_INBOX_RETRY);
        return;
    }

    if (ib->step == NGX_HTTP_LLM_INBOX_READ && !ib->reading) {

        ngx_log_debug1(NGX_LOG_DEBUG_EVENT, ib->log, 0,
                       "llm inbox %V is read", &ib->name);

        ib->reading = 1;
        ib->up();
    }
}


static ngx_http_llm_redis_op_t *
ngx_http_llm_inbox_newest(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_inbox_stream_t *st)
{
    ngx_str_t  argv[6];

    ngx_str_set(&argv[0], "XREVRANGE");
    argv[1] = st->key;
    ngx_str_set(&argv[2], "+");
    ngx_str_set(&argv[3], "-");
    ngx_str_set(&argv[4], "COUNT");
    ngx_str_set(&argv[5], "1");

    return ngx_http_llm_redis_command(ib->reader, 6, argv, 0,
                                      ngx_http_llm_inbox_reply, ib);
}


static ngx_http_llm_redis_op_t *
ngx_http_llm_inbox_read(ngx_http_llm_inbox_t *ib)
{
    u_char     own[NGX_HTTP_LLM_INBOX_ID], board[NGX_HTTP_LLM_INBOX_ID];
    u_char     count[NGX_INT_T_LEN];
    ngx_str_t  argv[10];

    ngx_str_set(&argv[0], "XREAD");

    ngx_str_set(&argv[1], "COUNT");
    argv[2].data = count;
    argv[2].len = ngx_sprintf(count, "%ui", ib->count) - count;

    ngx_str_set(&argv[3], "BLOCK");
    ngx_str_set(&argv[4], ngx_value(NGX_HTTP_LLM_INBOX_BLOCK));

    ngx_str_set(&argv[5], "STREAMS");
    argv[6] = ib->own.key;
    argv[7] = ib->board.key;

    argv[8].data = own;
    argv[8].len = ngx_sprintf(own, "%uL-%uL", ib->own.ms, ib->own.seq) - own;

    argv[9].data = board;
    argv[9].len = ngx_sprintf(board, "%uL-%uL", ib->board.ms, ib->board.seq)
                  - board;

    ib->asked = ngx_current_msec;

    return ngx_http_llm_redis_command(ib->reader, 10, argv,
                      NGX_HTTP_LLM_INBOX_BLOCK + NGX_HTTP_LLM_INBOX_GRACE
                      + ngx_http_llm_redis_options(ib->reader)->timeout,
                      ngx_http_llm_inbox_reply, ib);
}


static void
ngx_http_llm_inbox_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_inbox_t *ib = data;

    ngx_uint_t  n;

    ib->op = NULL;

    if (reply->type != NGX_HTTP_LLM_REDIS_ARRAY
        && reply->type != NGX_HTTP_LLM_REDIS_NIL)
    {
        ngx_http_llm_inbox_failed(ib, reply);
        return;
    }

    if (ib->step != NGX_HTTP_LLM_INBOX_READ) {
        ngx_http_llm_inbox_found(ib, reply);
        ib->step++;
        ngx_http_llm_inbox_ask(ib);
        return;
    }

    n = ngx_http_llm_inbox_streams(ib, reply);

    if (n == 0
        && ngx_current_msec - ib->asked < NGX_HTTP_LLM_INBOX_RETRY)
    {
        /* a server that does not wait is not asked all the time */
        ngx_add_timer(&ib->timer, NGX_HTTP_LLM_INBOX_RETRY);
        return;
    }

    ib->count = NGX_HTTP_LLM_INBOX_COUNT;

    ngx_http_llm_inbox_ask(ib);
}


static void
ngx_http_llm_inbox_failed(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_str_t  ping = ngx_string("PING");

    ngx_log_debug2(NGX_LOG_DEBUG_EVENT, ib->log, 0,
                   "llm inbox %V is not read, type:%d", &ib->name,
                   reply->type);

    ib->reading = 0;

    /* it may have been the size of the reply */
    ib->count = NGX_HTTP_LLM_INBOX_FEW;

    if (reply->type == NGX_HTTP_LLM_REDIS_TIMEOUT) {

        /* the other connection finds out whether it is the server's fault */

        (void) ngx_http_llm_redis_offer(ib->redis, 1, &ping);
    }

    /* for an error that leaves the connection as it is */

    ngx_add_timer(&ib->timer, NGX_HTTP_LLM_INBOX_RETRY);
}


/*
 * Reading goes on after what was read last.  A stream that is behind this is
 * a new one, by a clock that was put back, or that of a replica.
 */

static void
ngx_http_llm_inbox_found(ngx_http_llm_inbox_t *ib,
    ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_redis_reply_t    entry;
    ngx_http_llm_inbox_stream_t  *st, newest;

    st = ib->step == NGX_HTTP_LLM_INBOX_NEWEST_OWN ? &ib->own : &ib->board;

    newest.ms = 0;
    newest.seq = 0;

    if (ngx_http_llm_redis_element(reply, 0, &entry) == NGX_OK) {
        (void) ngx_http_llm_inbox_id(&entry, &newest);
    }

    if (newest.ms < st->ms
        || (newest.ms == st->ms && newest.seq < st->seq)
        || (st == &ib->board && !ib->seen))
    {
        st->ms = newest.ms;
        st->seq = newest.seq;
    }

    if (st == &ib->board) {
        ib->seen = 1;
    }
}
