
/*
 * Copyright (C) the ngx-llm authors
 *
 * A worker's queue of spans, and the batches that it becomes.  One batch is
 * on its way at a time; what finds no room, or no collector, is dropped.
 */


#include "operate/ngx_http_llm_trace_private.h"
#include "http/ngx_http_llm_loopback.h"
#include "state/ngx_http_llm_zone.h"


#define NGX_HTTP_LLM_TRACE_TIMEOUT  10000        /* ms, of a batch */
#define NGX_HTTP_LLM_TRACE_EXIT     2000         /* … of one at the end */
#define NGX_HTTP_LLM_TRACE_TICK     500
#define NGX_HTTP_LLM_TRACE_QUIET    60000        /* between two log lines */
#define NGX_HTTP_LLM_TRACE_BYTES    (512 * 1024) /* of a batch */
#define NGX_HTTP_LLM_TRACE_HEAD     4096
#define NGX_HTTP_LLM_TRACE_ANSWER   (64 * 1024)


typedef struct {
    size_t                      len;
    u_char                      data[1];
} ngx_http_llm_trace_item_t;


static void ngx_http_llm_trace_event(ngx_event_t *ev);
static void ngx_http_llm_trace_wait(void);
static ngx_int_t ngx_http_llm_trace_send(void);
static ngx_chain_t *ngx_http_llm_trace_body(ngx_pool_t *pool, ngx_uint_t n,
    size_t size, size_t *len);
static ngx_http_llm_trace_item_t *ngx_http_llm_trace_pop(void);
static void ngx_http_llm_trace_sent(ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_trace_failed(const char *why, ngx_uint_t status);


static ngx_http_llm_main_conf_t    *ngx_http_llm_trace_main;
static ngx_http_llm_trace_item_t  **ngx_http_llm_trace_ring;
static ngx_uint_t                   ngx_http_llm_trace_head;
static ngx_uint_t                   ngx_http_llm_trace_n;

static ngx_event_t                  ngx_http_llm_trace_timer;
static ngx_connection_t             ngx_http_llm_trace_dummy;
static ngx_msec_t                   ngx_http_llm_trace_due;

static ngx_http_llm_loopback_t     *ngx_http_llm_trace_out;  /* or NULL */
static ngx_uint_t                   ngx_http_llm_trace_outn;
static ngx_msec_t                   ngx_http_llm_trace_told;
static ngx_uint_t                   ngx_http_llm_trace_lost;  /* since */
static ngx_uint_t                   ngx_http_llm_trace_tells;


ngx_int_t
ngx_http_llm_trace_init_process(ngx_http_llm_main_conf_t *mcf,
    ngx_cycle_t *cycle)
{
    if (mcf->trace == NULL) {
        return NGX_OK;
    }

    ngx_http_llm_trace_ring = ngx_pcalloc(cycle->pool, mcf->trace->queue
                                       * sizeof(ngx_http_llm_trace_item_t *));

    if (ngx_http_llm_trace_ring == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_trace_main = mcf;
    ngx_http_llm_trace_dummy.fd = (ngx_socket_t) -1;

    /* while there is something to send the worker does not end */

    ngx_http_llm_trace_timer.handler = ngx_http_llm_trace_event;
    ngx_http_llm_trace_timer.data = &ngx_http_llm_trace_dummy;
    ngx_http_llm_trace_timer.log = cycle->log;

    return NGX_OK;
}


void
ngx_http_llm_trace_exit_process(void)
{
    if (ngx_http_llm_trace_ring == NULL) {
        return;
    }

    ngx_http_llm_trace_drop(ngx_http_llm_trace_n + ngx_http_llm_trace_outn);

    while (ngx_http_llm_trace_n) {
        ngx_free(ngx_http_llm_trace_pop());
    }

    if (ngx_http_llm_trace_out) {
        ngx_http_llm_loopback_close(ngx_http_llm_trace_out);
        ngx_http_llm_trace_out = NULL;
    }

    ngx_http_llm_trace_ring = NULL;
}


void
ngx_http_llm_trace_push(u_char *p, size_t len)
{
    ngx_uint_t                  queue;
    ngx_http_llm_trace_item_t  *item;

    if (ngx_http_llm_trace_ring == NULL) {
        return;
    }

    queue = ngx_http_llm_trace_main->trace->queue;

    item = ngx_http_llm_trace_n < queue
           ? ngx_alloc(sizeof(ngx_http_llm_trace_item_t) + len,
                       ngx_cycle->log)
           : NULL;

    if (item == NULL) {
        ngx_http_llm_trace_drop(1);
        return;
    }

    item->len = len;
    ngx_memcpy(item->data, p, len);

    if (ngx_http_llm_trace_n == 0) {
        ngx_http_llm_trace_due = ngx_current_msec
                                 + ngx_http_llm_trace_main->trace->interval;
    }

    ngx_http_llm_trace_ring[(ngx_http_llm_trace_head + ngx_http_llm_trace_n)
                            % queue] = item;
    ngx_http_llm_trace_n++;

    ngx_http_llm_trace_wait();
}


void
ngx_http_llm_trace_drop(ngx_uint_t n)
{
    if (n && ngx_http_llm_trace_main) {
        (void) ngx_atomic_fetch_add(
                   &ngx_http_llm_trace_main->zone->sh->count.spans_dropped,
                   n);
    }
}


/* until a batch is full, its time has come, or the worker is to end */

static void
ngx_http_llm_trace_wait(void)
{
    ngx_event_t     *ev;
    ngx_msec_int_t   left;

    ev = &ngx_http_llm_trace_timer;

    if (ngx_http_llm_trace_n == 0 || ngx_http_llm_trace_out || ev->posted) {
        return;
    }

    left = (ngx_msec_int_t) (ngx_http_llm_trace_due - ngx_current_msec);

    if (left <= 0 || ngx_exiting
        || ngx_http_llm_trace_n >= ngx_http_llm_trace_main->trace->batch)
    {
        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

        ngx_post_event(ev, &ngx_posted_events);
        return;
    }

    if (!ev->timer_set) {

        /* in steps, as nobody tells that the worker is to end */

        ngx_add_timer(ev, ngx_min((ngx_msec_t) left,
                                  NGX_HTTP_LLM_TRACE_TICK));
    }
}


static void
ngx_http_llm_trace_event(ngx_event_t *ev)
{
    ngx_msec_int_t  left;

    if (ngx_http_llm_trace_n == 0 || ngx_http_llm_trace_out) {
        return;
    }

    left = (ngx_msec_int_t) (ngx_http_llm_trace_due - ngx_current_msec);

    if (left > 0 && !ngx_exiting
        && ngx_http_llm_trace_n < ngx_http_llm_trace_main->trace->batch)
    {
        ngx_http_llm_trace_wait();
        return;
    }

    if (ngx_http_llm_trace_send() != NGX_OK) {
        ngx_http_llm_trace_failed("no memory", 0);
    }
}


static ngx_int_t
ngx_http_llm_trace_send(void)
{
    size_t                      size;
    ngx_str_t                   name, value;
    ngx_uint_t                  i, n;
    ngx_http_llm_loopback_t    *lb;
    ngx_http_llm_trace_item_t  *item;
    ngx_http_llm_trace_conf_t  *tc;

    tc = ngx_http_llm_trace_main->trace;

    n = ngx_min(ngx_http_llm_trace_n, tc->batch);
    size = 0;

    for (i = 0; i < n; i++) {
        item = ngx_http_llm_trace_ring[(ngx_http_llm_trace_head + i)
                                       % tc->queue];

        if (i && size + item->len + 1 > NGX_HTTP_LLM_TRACE_BYTES) {
            n = i;
            break;
        }

        size += item->len + 1;
    }

    ngx_http_llm_trace_outn = n;

    lb = ngx_http_llm_loopback_create(ngx_cycle->log);
    if (lb == NULL) {
        return NGX_ERROR;
    }

    ngx_http_llm_trace_out = lb;

    ngx_str_set(&lb->method, "POST");
    ngx_str_set(&lb->uri, NGX_HTTP_LLM_TRACE_URI);
    ngx_str_set(&lb->key, "");
    ngx_str_set(&name, "Content-Type");
    ngx_str_set(&value, "application/json");

    lb->max = NGX_HTTP_LLM_TRACE_ANSWER;
    lb->timeout = ngx_exiting ? NGX_HTTP_LLM_TRACE_EXIT
                              : NGX_HTTP_LLM_TRACE_TIMEOUT;
    lb->handler = ngx_http_llm_trace_sent;
    lb->inside = ngx_exiting;

    lb->body = ngx_http_llm_trace_body(lb->pool, n, size, &lb->body_len);

    if (lb->body == NULL
        || ngx_http_llm_loopback_header(lb, &name, &value) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, ngx_cycle->log, 0,
                   "llm trace: %ui spans, %uz bytes", n, lb->body_len);

    return ngx_http_llm_loopback_start(lb);
}


/* takes the spans out of the queue, also when there is no memory for them */

static ngx_chain_t *
ngx_http_llm_trace_body(ngx_pool_t *pool, ngx_uint_t n, size_t size,
    size_t *len)
{
    u_char                     *p, *last, text[NGX_MAXHOSTNAMELEN
                                               + NGX_INT_T_LEN + 2];
    ngx_buf_t                  *b;
    llm_str_t                   service, instance;
    ngx_uint_t                  i;
    ngx_chain_t                *cl;
    ngx_http_llm_trace_item_t  *item;
    ngx_http_llm_trace_conf_t  *tc;

    tc = ngx_http_llm_trace_main->trace;

    service.data = tc->service.data;
    service.len = tc->service.len;

    instance.data = text;
    instance.len = ngx_sprintf(text, "%V:%P", &ngx_cycle->hostname, ngx_pid)
                   - text;

    b = ngx_create_temp_buf(pool, NGX_HTTP_LLM_TRACE_HEAD + size);
    cl = ngx_alloc_chain_link(pool);

    p = b ? b->last : NULL;
    last = b ? b->end : NULL;

    if (p) {
        p += llm_span_head(p, last - p, &service, &instance,
                           NGX_HTTP_LLM_VERSION);
    }

    for (i = 0; i < n; i++) {

        item = ngx_http_llm_trace_pop();

        if (p) {
            if (i) {
                *p++ = ',';
            }

            p = ngx_cpymem(p, item->data, item->len);
        }

        ngx_free(item);
    }

    if (p == NULL || cl == NULL) {
        return NULL;
    }

    p += llm_span_tail(p, last - p);

    *len = p - b->last;
    b->last = p;

    cl->buf = b;
    cl->next = NULL;

    return cl;
}


static ngx_http_llm_trace_item_t *
ngx_http_llm_trace_pop(void)
{
    ngx_http_llm_trace_item_t  *item;

    item = ngx_http_llm_trace_ring[ngx_http_llm_trace_head];

    ngx_http_llm_trace_head = (ngx_http_llm_trace_head + 1)
                              % ngx_http_llm_trace_main->trace->queue;
    ngx_http_llm_trace_n--;

    return item;
}


static void
ngx_http_llm_trace_sent(ngx_http_llm_loopback_t *lb)
{
    static const char  *why[] = {
        NULL, "nobody listens on the internal listener", "it took too long",
        "the connection broke", NULL
    };

    /* what it says beside its status is of no use */

    if ((lb->result == NGX_HTTP_LLM_LOOPBACK_OK
         || lb->result == NGX_HTTP_LLM_LOOPBACK_LARGE)
        && lb->status >= 200 && lb->status < 300)
    {
        (void) ngx_atomic_fetch_add(
                   &ngx_http_llm_trace_main->zone->sh->count.spans_sent,
                   ngx_http_llm_trace_outn);

        ngx_http_llm_trace_outn = 0;
        ngx_http_llm_trace_out = NULL;
        ngx_http_llm_loopback_close(lb);

        ngx_http_llm_trace_due = ngx_current_msec
                                 + ngx_http_llm_trace_main->trace->interval;
        ngx_http_llm_trace_wait();
        return;
    }

    ngx_http_llm_trace_failed(why[lb->result], lb->status);
}


/* the batch is lost; the log says so once in a while */

static void
ngx_http_llm_trace_failed(const char *why, ngx_uint_t status)
{
    ngx_http_llm_trace_drop(ngx_http_llm_trace_outn);

    ngx_http_llm_trace_lost += ngx_http_llm_trace_outn;
    ngx_http_llm_trace_outn = 0;

    if (ngx_http_llm_trace_out) {
        ngx_http_llm_loopback_close(ngx_http_llm_trace_out);
        ngx_http_llm_trace_out = NULL;
    }

    if (ngx_http_llm_trace_tells == 0
        || ngx_current_msec - ngx_http_llm_trace_told
           >= NGX_HTTP_LLM_TRACE_QUIET)
    {
        ngx_log_error(NGX_LOG_WARN, ngx_cycle->log, 0,
                      "llm trace: the collector at \"%V\" takes no spans, "
                      "%ui of this worker are lost: %s, status %ui",
                      &ngx_http_llm_trace_main->trace->to,
                      ngx_http_llm_trace_lost, why ? why : "it says no",
                      status);

        ngx_http_llm_trace_tells = 1;
        ngx_http_llm_trace_told = ngx_current_msec;
        ngx_http_llm_trace_lost = 0;
    }

    ngx_http_llm_trace_due = ngx_current_msec
                             + ngx_http_llm_trace_main->trace->interval;
    ngx_http_llm_trace_wait();
}
