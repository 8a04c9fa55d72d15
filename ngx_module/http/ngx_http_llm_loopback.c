
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_loopback.h"


static ngx_int_t ngx_http_llm_loopback_request(ngx_http_llm_loopback_t *lb);
static void ngx_http_llm_loopback_write(ngx_event_t *wev);
static void ngx_http_llm_loopback_read(ngx_event_t *rev);
static ngx_int_t ngx_http_llm_loopback_parse(ngx_http_llm_loopback_t *lb,
    const u_char *p, const u_char *last);
static ngx_int_t ngx_http_llm_loopback_collect(ngx_http_llm_loopback_t *lb,
    u_char *p, size_t len);
static void ngx_http_llm_loopback_event(ngx_event_t *ev);
static void ngx_http_llm_loopback_finish(ngx_http_llm_loopback_t *lb,
    ngx_http_llm_loopback_e result);
static void ngx_http_llm_loopback_hang_up(ngx_http_llm_loopback_t *lb);
static u_char *ngx_http_llm_loopback_add(u_char *p, ngx_str_t *name,
    ngx_str_t *value);


static ngx_str_t  ngx_http_llm_loopback_name = ngx_string("llm_internal");


ngx_http_llm_loopback_t *
ngx_http_llm_loopback_create(ngx_log_t *log)
{
    ngx_pool_t               *pool;
    ngx_http_llm_loopback_t  *lb;

    pool = ngx_create_pool(2048, log);
    if (pool == NULL) {
        return NULL;
    }

    lb = ngx_pcalloc(pool, sizeof(ngx_http_llm_loopback_t));

    if (lb == NULL
        || ngx_array_init(&lb->headers, pool, 8, sizeof(ngx_keyval_t))
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    lb->pool = pool;

    lb->event.handler = ngx_http_llm_loopback_event;
    lb->event.data = lb;
    lb->event.log = log;

    return lb;
}


ngx_int_t
ngx_http_llm_loopback_header(ngx_http_llm_loopback_t *lb, ngx_str_t *name,
    ngx_str_t *value)
{
    size_t         i;
    ngx_keyval_t  *kv;

    for (i = 0; i < value->len; i++) {
        if (value->data[i] == CR || value->data[i] == LF
            || value->data[i] == '\0')
        {
            return NGX_DECLINED;
        }
    }

    kv = ngx_array_push(&lb->headers);
    if (kv == NULL) {
        return NGX_ERROR;
    }

    kv->key = *name;
    kv->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_loopback_start(ngx_http_llm_loopback_t *lb)
{
    u_char            *head;
    ngx_int_t          rc;
    ngx_connection_t  *c;

    head = ngx_palloc(lb->pool, NGX_HTTP_LLM_LOOPBACK_HEAD);

    if (head == NULL || ngx_http_llm_loopback_request(lb) != NGX_OK) {
        return NGX_ERROR;
    }

    llm_http_init(&lb->http, head, NGX_HTTP_LLM_LOOPBACK_HEAD);

    lb->since = ngx_current_msec;

    lb->peer.sockaddr = (struct sockaddr *) ngx_http_llm_loopback_address();
    lb->peer.socklen = sizeof(struct sockaddr_un);
    lb->peer.name = &ngx_http_llm_loopback_name;
    lb->peer.get = ngx_event_get_peer;
    lb->peer.log = lb->pool->log;
    lb->peer.log_error = NGX_ERROR_ERR;

    rc = lb->peer.sockaddr == NULL ? NGX_ERROR
         : lb->inside ? ngx_http_llm_loopback_inside(&lb->peer)
         : ngx_event_connect_peer(&lb->peer);

    ngx_log_debug2(NGX_LOG_DEBUG_HTTP, lb->pool->log, 0,
                   "llm loopback \"%V\" connect: %i", &lb->uri, rc);

    if (rc != NGX_OK && rc != NGX_AGAIN) {
        ngx_post_event(&lb->event, &ngx_posted_events);
        return NGX_OK;
    }

    c = lb->peer.connection;

    c->data = lb;
    c->pool = lb->pool;
    c->log = lb->pool->log;
    c->read->log = c->log;
    c->write->log = c->log;
    c->read->handler = ngx_http_llm_loopback_read;
    c->write->handler = ngx_http_llm_loopback_write;

    ngx_add_timer(&lb->event, lb->timeout);

    if (rc == NGX_OK) {
        ngx_post_event(c->write, &ngx_posted_events);
    }

    return NGX_OK;
}


/* the request's head, before the caller's body */

static ngx_int_t
ngx_http_llm_loopback_request(ngx_http_llm_loopback_t *lb)
{
    size_t         len;
    u_char        *p;
    ngx_buf_t     *b;
    ngx_str_t      name;
    ngx_uint_t     i;
    ngx_chain_t   *cl;
    ngx_keyval_t  *kv;

    len = lb->method.len + lb->uri.len + lb->key.len
          + NGX_HTTP_LLM_LOOPBACK_SECRET + NGX_OFF_T_LEN
          + sizeof("  HTTP/1.1" CRLF "Host: llm" CRLF "Connection: close" CRLF
                   "X-LLM-Internal: " CRLF "X-LLM-Key: " CRLF
                   "Content-Length: " CRLF CRLF);

    kv = lb->headers.elts;

    for (i = 0; i < lb->headers.nelts; i++) {
        len += kv[i].key.len + kv[i].value.len + sizeof(": " CRLF) - 1;
    }

    b = ngx_create_temp_buf(lb->pool, len);
    cl = ngx_alloc_chain_link(lb->pool);

    if (b == NULL || cl == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(b->last, "%V %V HTTP/1.1" CRLF "Host: llm" CRLF
                    "Connection: close" CRLF, &lb->method, &lb->uri);

    ngx_str_set(&name, "X-LLM-Internal");
    p = ngx_http_llm_loopback_add(p, &name, ngx_http_llm_loopback_secret());

    ngx_str_set(&name, "X-LLM-Key");
    p = ngx_http_llm_loopback_add(p, &name, &lb->key);

    for (i = 0; i < lb->headers.nelts; i++) {
        p = ngx_http_llm_loopback_add(p, &kv[i].key, &kv[i].value);
    }

    if (lb->body) {
        p = ngx_sprintf(p, "Content-Length: %uz" CRLF, lb->body_len);
    }

    *p++ = CR; *p++ = LF;

    b->last = p;

    cl->buf = b;
    cl->next = lb->body;
    lb->out = cl;

    return NGX_OK;
}


static u_char *
ngx_http_llm_loopback_add(u_char *p, ngx_str_t *name, ngx_str_t *value)
{
    p = ngx_cpymem(p, name->data, name->len);
    *p++ = ':'; *p++ = ' ';
    p = ngx_cpymem(p, value->data, value->len);
    *p++ = CR; *p++ = LF;

    return p;
}


static void
ngx_http_llm_loopback_write(ngx_event_t *wev)
{
    ngx_connection_t         *c;
    ngx_http_llm_loopback_t  *lb;

    c = wev->data;
    lb = c->data;

    if (lb->sent) {
        return;
    }

    lb->out = c->send_chain(c, lb->out, 0);

    if (lb->out == NGX_CHAIN_ERROR) {

        /* it may have been answered and closed before it came whole */

        lb->sent = 1;
        ngx_http_llm_loopback_read(c->read);
        return;
    }

    if (lb->out == NULL) {
        lb->sent = 1;
    }

    if (ngx_handle_write_event(wev, 0) != NGX_OK) {
        ngx_http_llm_loopback_finish(lb, NGX_HTTP_LLM_LOOPBACK_BROKEN);
    }
}


static void
ngx_http_llm_loopback_read(ngx_event_t *rev)
{
    ssize_t                   n;
    ngx_int_t                 rc;
    ngx_connection_t         *c;
    ngx_http_llm_loopback_t  *lb;

    /* of this worker, as it is used up at once */
    static u_char  buf[NGX_HTTP_LLM_LOOPBACK_READ];

    c = rev->data;
    lb = c->data;

    if (c->close) {
        /* worker_shutdown_timeout */
        ngx_http_llm_loopback_finish(lb, NGX_HTTP_LLM_LOOPBACK_BROKEN);
        return;
    }

    for ( ;; ) {

        if (lb->held) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                ngx_http_llm_loopback_finish(lb,
                                             NGX_HTTP_LLM_LOOPBACK_BROKEN);
            }

            return;
        }

        n = c->recv(c, buf, NGX_HTTP_LLM_LOOPBACK_READ);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                ngx_http_llm_loopback_finish(lb,
                                             NGX_HTTP_LLM_LOOPBACK_BROKEN);
            }

            return;
        }

        if (n == NGX_ERROR || n == 0) {
            rc = n == 0 && llm_http_eof(&lb->http) == LLM_HTTP_END
                 ? NGX_DONE : NGX_ERROR;

        } else {
            rc = ngx_http_llm_loopback_parse(lb, buf, buf + n);
        }

        switch (rc) {

        case NGX_AGAIN:
            continue;

        case NGX_DONE:
            ngx_http_llm_loopback_finish(lb, NGX_HTTP_LLM_LOOPBACK_OK);
            return;

        case NGX_DECLINED:
            ngx_http_llm_loopback_finish(lb, NGX_HTTP_LLM_LOOPBACK_LARGE);
            return;

        default: /* NGX_ERROR */
            ngx_http_llm_loopback_finish(lb, NGX_HTTP_LLM_LOOPBACK_BROKEN);
            return;
        }
    }
}


static ngx_int_t
ngx_http_llm_loopback_parse(ngx_http_llm_loopback_t *lb, const u_char *p,
    const u_char *last)
{
    ngx_int_t  rc;
    llm_str_t  part;

    for ( ;; ) {

        rc = llm_http_next(&lb->http, &p, last, &part);

        lb->status = lb->http.status;

        switch (rc) {

        case LLM_OK:
            rc = lb->part ? lb->part(lb, part.data, part.len)
                          : ngx_http_llm_loopback_collect(lb, part.data,
                                                          part.len);
            if (rc != NGX_OK) {
                return rc == NGX_DECLINED ? NGX_DECLINED : NGX_ERROR;
            }

            break;

        case LLM_AGAIN:
            return NGX_AGAIN;

        case LLM_HTTP_END:
            return NGX_DONE;

        default: /* LLM_ERROR */
            return NGX_ERROR;
        }
    }
}


/* NGX_DECLINED: too large */

static ngx_int_t
ngx_http_llm_loopback_collect(ngx_http_llm_loopback_t *lb, u_char *p,
    size_t len)
{
    u_char  *data;
    size_t   need, size;

    need = lb->answer.len + len;

    if (need > lb->max) {
        return NGX_DECLINED;
    }

    if (need > lb->size) {

        size = ngx_max(need, 2 * lb->size);

        if (lb->http.sized && lb->size == 0) {
            /* all of it, if that is not too much */
            size = ngx_max(need, ngx_min(len + lb->http.left, lb->max));
        }

        size = ngx_min(ngx_max(size, 4096), ngx_max(lb->max, need));

        data = ngx_palloc(lb->pool, size);
        if (data == NULL) {
            return NGX_ERROR;
        }

        if (lb->answer.len) {
            ngx_memcpy(data, lb->answer.data, lb->answer.len);
            (void) ngx_pfree(lb->pool, lb->answer.data);
        }

        lb->answer.data = data;
        lb->size = size;
    }

    ngx_memcpy(lb->answer.data + lb->answer.len, p, len);
    lb->answer.len = need;

    return NGX_OK;
}


/* the time is up, or the connection could not be made */

static void
ngx_http_llm_loopback_event(ngx_event_t *ev)
{
    ngx_http_llm_loopback_finish(ev->data,
                                 ev->timedout ? NGX_HTTP_LLM_LOOPBACK_TIMEOUT
                                              : NGX_HTTP_LLM_LOOPBACK_CONNECT);
}


static void
ngx_http_llm_loopback_finish(ngx_http_llm_loopback_t *lb,
    ngx_http_llm_loopback_e result)
{
    if (lb->done) {
        return;
    }

    lb->done = 1;
    lb->result = result;
    lb->took = ngx_current_msec - lb->since;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, lb->pool->log, 0,
                   "llm loopback \"%V\" ends: %d status:%ui bytes:%uz",
                   &lb->uri, result, lb->status, lb->answer.len);

    ngx_http_llm_loopback_hang_up(lb);

    lb->handler(lb);
}


static void
ngx_http_llm_loopback_hang_up(ngx_http_llm_loopback_t *lb)
{
    if (lb->event.timer_set) {
        ngx_del_timer(&lb->event);
    }

    if (lb->event.posted) {
        ngx_delete_posted_event(&lb->event);
    }

    if (lb->peer.connection) {
        ngx_close_connection(lb->peer.connection);
        lb->peer.connection = NULL;
    }
}


void
ngx_http_llm_loopback_hold(ngx_http_llm_loopback_t *lb)
{
    lb->held = 1;
}


void
ngx_http_llm_loopback_go(ngx_http_llm_loopback_t *lb)
{
    if (!lb->held) {
        return;
    }

    lb->held = 0;

    if (lb->peer.connection) {
        ngx_post_event(lb->peer.connection->read, &ngx_posted_events);
    }
}


ngx_int_t
ngx_http_llm_loopback_find(ngx_http_llm_loopback_t *lb, const char *name,
    size_t len, ngx_str_t *value)
{
    llm_str_t  s;

    if (lb->status == 0
        || llm_http_header(&lb->http, name, len, &s) != LLM_OK)
    {
        return NGX_DECLINED;
    }

    value->data = s.data;
    value->len = s.len;

    return NGX_OK;
}


void
ngx_http_llm_loopback_close(ngx_http_llm_loopback_t *lb)
{
    ngx_http_llm_loopback_hang_up(lb);
    ngx_destroy_pool(lb->pool);
}
