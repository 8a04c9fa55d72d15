
/*
 * Copyright (C) the ngx-llm authors
 *
 * The page of metrics.  With many teams and models it is some megabytes, so
 * it is written a buffer at a turn of the event loop, and no further ahead of
 * the client than there are buffers.
 */


#include "operate/ngx_http_llm_metrics.h"
#include "operate/ngx_http_llm_metrics_private.h"
#include "http/ngx_http_llm_reply.h"


/* rows in one turn, for those that have nothing to write */

#define NGX_HTTP_LLM_METRICS_ROWS  1024
#define NGX_HTTP_LLM_METRICS_TURN     2000           /* us, without a line */


static ngx_int_t ngx_http_llm_metrics_header(ngx_http_request_t *r);
static ngx_http_llm_metrics_t *ngx_http_llm_metrics_create(
    ngx_http_request_t *r, ngx_http_llm_main_conf_t *mcf);
static void ngx_http_llm_metrics_cleanup(void *data);
static ngx_int_t ngx_http_llm_metrics_turn(ngx_http_llm_metrics_t *m);
static ngx_chain_t *ngx_http_llm_metrics_chain(ngx_http_llm_metrics_t *m);
static uint64_t ngx_http_llm_metrics_us(void);
static ngx_int_t ngx_http_llm_metrics_fill(ngx_http_llm_metrics_t *m,
    ngx_buf_t *b);
static ngx_int_t ngx_http_llm_metrics_send(ngx_http_llm_metrics_t *m,
    ngx_chain_t *out);
static ngx_int_t ngx_http_llm_metrics_wait(ngx_http_llm_metrics_t *m);
static void ngx_http_llm_metrics_next(ngx_event_t *ev);
static void ngx_http_llm_metrics_write(ngx_http_request_t *r);
static ngx_int_t ngx_http_llm_metrics_scrape(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
static uint64_t ngx_http_llm_metrics_clock(void);


static ngx_http_llm_metrics_pt  ngx_http_llm_metrics_sections[] = {
    ngx_http_llm_metrics_build,
    ngx_http_llm_metrics_requests,
    ngx_http_llm_metrics_usage,
    ngx_http_llm_metrics_times,
    ngx_http_llm_metrics_attempts,
    ngx_http_llm_metrics_targets,
    ngx_http_llm_metrics_routes,
    ngx_http_llm_metrics_counted,
    ngx_http_llm_metrics_cache,
    ngx_http_llm_metrics_teams,
    ngx_http_llm_metrics_slots,
    ngx_http_llm_metrics_provider_slots,
    ngx_http_llm_metrics_budgets,
    ngx_http_llm_metrics_tasks,
    ngx_http_llm_metrics_policy,
    ngx_http_llm_metrics_shared,
    ngx_http_llm_metrics_scrape,
    NULL
};


ngx_int_t
ngx_http_llm_metrics_handler(ngx_http_request_t *r)
{
    ngx_int_t                  rc;
    ngx_http_llm_metrics_t    *m;
    ngx_http_llm_main_conf_t  *mcf;

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    if (mcf->zone == NULL || mcf->zone->sh == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    m = ngx_http_llm_metrics_create(r, mcf);
    if (m == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    rc = ngx_http_llm_metrics_header(r);

    if (rc == NGX_ERROR || rc > NGX_OK || r->header_only) {
        return rc;
    }

    /* a client that leaves is noticed, who reads slowly is waited for */

    r->read_event_handler = ngx_http_test_reading;
    r->write_event_handler = ngx_http_llm_metrics_write;

    rc = ngx_http_llm_metrics_turn(m);

    if (rc == NGX_DONE) {
        r->main->count++;
    }

    return rc;
}


static ngx_int_t
ngx_http_llm_metrics_header(ngx_http_request_t *r)
{
    static ngx_str_t  type = ngx_string("text/plain; version=0.0.4; "
                                        "charset=utf-8");

    r->headers_out.status = NGX_HTTP_OK;
    r->headers_out.content_type = type;
    r->headers_out.content_type_len = sizeof("text/plain") - 1;
    r->headers_out.content_type_lowcase = NULL;

    ngx_http_clear_content_length(r);

    return ngx_http_send_header(r);
}


static ngx_http_llm_metrics_t *
ngx_http_llm_metrics_create(ngx_http_request_t *r,
    ngx_http_llm_main_conf_t *mcf)
{
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_metrics_t  *m;

    cln = ngx_pool_cleanup_add(r->pool, sizeof(ngx_http_llm_metrics_t));
    if (cln == NULL) {
        return NULL;
    }

    m = cln->data;
    ngx_memzero(m, sizeof(ngx_http_llm_metrics_t));

    m->request = r;
    m->mcf = mcf;
    m->count = &mcf->zone->sh->count;
    m->start = ngx_http_llm_metrics_clock();

    m->next.handler = ngx_http_llm_metrics_next;
    m->next.data = m;
    m->next.log = r->connection->log;

    cln->handler = ngx_http_llm_metrics_cleanup;

    return m;
}


static void
ngx_http_llm_metrics_cleanup(void *data)
{
    ngx_http_llm_metrics_t *m = data;

    if (m->next.posted) {
        ngx_delete_posted_event(&m->next);
    }
}


/* NGX_DONE: there is more to come; else what ends the request */

static ngx_int_t
ngx_http_llm_metrics_turn(ngx_http_llm_metrics_t *m)
{
    ngx_int_t     rc;
    ngx_chain_t  *out;

    out = ngx_http_llm_metrics_chain(m);
    if (out == NULL) {
        return NGX_ERROR;
    }

    /* half a page would be taken for a whole one */

    if (ngx_http_llm_metrics_fill(m, out->buf) != NGX_OK) {
        return NGX_ERROR;
    }

    if (ngx_http_llm_metrics_sections[m->section] == NULL) {
        out->buf->last_buf = 1;
        out->buf->last_in_chain = 1;

        ngx_log_debug1(NGX_LOG_DEBUG_HTTP, m->request->connection->log, 0,
                       "llm metrics: written with %ui buffers", m->buffers);

        return ngx_http_output_filter(m->request, out);
    }

    rc = ngx_http_llm_metrics_send(m, out);

    if (rc == NGX_ERROR) {
        return NGX_ERROR;
    }

    if (m->free == NULL && m->buffers == NGX_HTTP_LLM_METRICS_BUFFERS) {
        m->waiting = 1;
        return ngx_http_llm_metrics_wait(m);
    }

    /* not before other requests have had their turn */

    ngx_post_event(&m->next, &ngx_posted_next_events);

    return NGX_DONE;
}


/* a buffer that has been sent, or a new one: there is room for it */

static ngx_chain_t *
ngx_http_llm_metrics_chain(ngx_http_llm_metrics_t *m)
{
    ngx_buf_t    *b;
    ngx_chain_t  *cl;

    if (m->free) {
        cl = m->free;
        m->free = cl->next;
        cl->next = NULL;

        return cl;
    }

    cl = ngx_alloc_chain_link(m->request->pool);
    if (cl == NULL) {
        return NULL;
    }

    b = ngx_create_temp_buf(m->request->pool, NGX_HTTP_LLM_METRICS_BUFFER);
    if (b == NULL) {
        return NULL;
    }

    b->tag = (ngx_buf_tag_t) &ngx_http_llm_metrics_handler;

    cl->buf = b;
    cl->next = NULL;
    m->buffers++;

    return cl;
}


/* whole lines only; what was shared memory a moment ago is text now */

static ngx_int_t
ngx_http_llm_metrics_fill(ngx_http_llm_metrics_t *m, ngx_buf_t *b)
{
    uint64_t                   start;
    ngx_int_t                  rc;
    ngx_uint_t                 n, idle;
    llm_prometheus_t           pm;
    ngx_http_llm_metrics_at_t  at;

    pm.last = b->end;
    pm.overflow = 0;

    start = ngx_http_llm_metrics_us();

    for (n = 0; n < NGX_HTTP_LLM_METRICS_ROWS; n++) {

        if (ngx_http_llm_metrics_sections[m->section] == NULL) {
            break;
        }

        pm.pos = b->last;
        at = m->at;
        idle = 0;

        rc = ngx_http_llm_metrics_sections[m->section](m, &pm, &at);

        if (rc == NGX_ERROR) {
            return NGX_ERROR;
        }

        if (pm.overflow) {

            if (b->last != b->start) {
                break;
            }

            /* never seen; the page goes on without it */

            ngx_log_error(NGX_LOG_ALERT, m->request->connection->log, 0,
                          "llm: a piece of the metrics (%ui) is too large",
                          m->section);

            pm.overflow = 0;

        } else {
            idle = b->last == pm.pos;
            b->last = pm.pos;
        }

        m->at = at;

        if (rc == NGX_OK) {
            ngx_memzero(&m->at, sizeof(ngx_http_llm_metrics_at_t));
            m->section++;
        }

        /* a search that finds nothing takes time, too */

        if (idle && ngx_http_llm_metrics_us() - start
                    > NGX_HTTP_LLM_METRICS_TURN)
        {
            break;
        }
    }

    return NGX_OK;
}


static uint64_t
ngx_http_llm_metrics_us(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}


static ngx_int_t
ngx_http_llm_metrics_send(ngx_http_llm_metrics_t *m, ngx_chain_t *out)
{
    ngx_http_request_t  *r;

    r = m->request;

    /* many rows without a line: an empty buffer is none to be sent */

    if (out && out->buf->last == out->buf->pos) {
        out->next = m->free;
        m->free = out;
        return NGX_OK;
    }

    if (ngx_http_output_filter(r, out) == NGX_ERROR) {
        return NGX_ERROR;
    }

    ngx_chain_update_chains(r->pool, &m->free, &m->busy, &out,
                            (ngx_buf_tag_t) &ngx_http_llm_metrics_handler);

    return NGX_OK;
}


/* until a buffer has been sent; the write event or its timer will tell */

static ngx_int_t
ngx_http_llm_metrics_wait(ngx_http_llm_metrics_t *m)
{
    if (ngx_http_llm_reply_flush(m->request) == NGX_ERROR) {
        return NGX_ERROR;
    }

    return NGX_DONE;
}


static void
ngx_http_llm_metrics_next(ngx_event_t *ev)
{
    ngx_int_t                rc;
    ngx_connection_t        *c;
    ngx_http_request_t      *r;
    ngx_http_llm_metrics_t  *m;

    m = ev->data;
    r = m->request;
    c = r->connection;

    ngx_http_set_log_request(c->log, r);

    rc = ngx_http_llm_metrics_turn(m);

    if (rc != NGX_DONE) {
        ngx_http_finalize_request(r, rc);
    }

    ngx_http_run_posted_requests(c);
}


static void
ngx_http_llm_metrics_write(ngx_http_request_t *r)
{
    ngx_event_t             *wev;
    ngx_pool_cleanup_t      *cln;
    ngx_http_llm_metrics_t  *m;

    wev = r->connection->write;

    if (wev->timedout) {
        ngx_log_error(NGX_LOG_INFO, r->connection->log, NGX_ETIMEDOUT,
                      "client timed out");
        r->connection->timedout = 1;
        ngx_http_finalize_request(r, NGX_HTTP_REQUEST_TIME_OUT);
        return;
    }

    for (cln = r->pool->cleanup;
         cln->handler != ngx_http_llm_metrics_cleanup;
         cln = cln->next)
    {
        /* void */
    }

    m = cln->data;

    if (ngx_http_llm_metrics_send(m, NULL) != NGX_OK) {
        ngx_http_finalize_request(r, NGX_ERROR);
        return;
    }

    if (!m->waiting) {
        return;
    }

    if (m->free == NULL) {
        if (ngx_http_llm_metrics_wait(m) == NGX_ERROR) {
            ngx_http_finalize_request(r, NGX_ERROR);
        }

        return;
    }

    m->waiting = 0;

    if (wev->timer_set && !wev->delayed) {
        ngx_del_timer(wev);
    }

    ngx_post_event(&m->next, &ngx_posted_next_events);
}


static ngx_int_t
ngx_http_llm_metrics_scrape(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    static const char  name[] = "llm_scrape_duration_seconds";

    llm_prometheus_family(pm, name, "gauge",
                          "How long the page took before this one.");
    llm_prometheus_micro(pm, name, NULL, 0, m->count->scrape_us);

    if (!pm->overflow) {
        m->count->scrape_us = ngx_http_llm_metrics_clock() - m->start;
    }

    return NGX_OK;
}


static uint64_t
ngx_http_llm_metrics_clock(void)
{
    struct timespec  ts;

    (void) clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * 1000000 + ts.tv_nsec / 1000;
}
