
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_outcall_private.h"


/* what is read at a time; of this worker, as it is used up at once */

#define NGX_HTTP_LLM_OUTCALL_READ  4096


static ngx_int_t ngx_http_llm_outcall_request(ngx_http_llm_outcall_t *oc);
static void ngx_http_llm_outcall_event(ngx_event_t *ev);
static void ngx_http_llm_outcall_connect(ngx_http_llm_outcall_t *oc);
static ngx_int_t ngx_http_llm_outcall_peer(ngx_http_llm_outcall_t *oc,
    ngx_addr_t *addr);
static void ngx_http_llm_outcall_write(ngx_event_t *wev);
static ngx_int_t ngx_http_llm_outcall_test(ngx_connection_t *c);
static void ngx_http_llm_outcall_send(ngx_http_llm_outcall_t *oc);
static void ngx_http_llm_outcall_read(ngx_event_t *rev);
static ngx_int_t ngx_http_llm_outcall_parse(ngx_http_llm_outcall_t *oc,
    const u_char *p, const u_char *last);
static void ngx_http_llm_outcall_ended(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e otherwise, const char *why);
static void ngx_http_llm_outcall_finish(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e result);
static void ngx_http_llm_outcall_hang_up(ngx_http_llm_outcall_t *oc);
static void ngx_http_llm_outcall_drop(ngx_http_llm_outcall_t *oc);


/*
 * Whoever is called decides what goes wrong on the connection, and is not to
 * write into our log: nginx's own lines about it are left out.
 */

static ngx_log_t  ngx_http_llm_outcall_log;


ngx_http_llm_outcall_t *
ngx_http_llm_outcall_create(ngx_str_t *url, ngx_log_t *log)
{
    u_char                  *p;
    ngx_pool_t              *pool;
    ngx_http_llm_outcall_t  *oc;

    pool = ngx_create_pool(2048, log);
    if (pool == NULL) {
        return NULL;
    }

    oc = ngx_pcalloc(pool, sizeof(ngx_http_llm_outcall_t));
    p = ngx_pnalloc(pool, url->len + 1);

    if (oc == NULL || p == NULL
        || ngx_array_init(&oc->headers, pool, 4, sizeof(ngx_keyval_t))
           != NGX_OK)
    {
        ngx_destroy_pool(pool);
        return NULL;
    }

    ngx_memcpy(p, url->data, url->len);
    p[url->len] = '\0';

    oc->pool = pool;

    if (llm_url_parse(p, url->len, &oc->url) != LLM_OK) {
        oc->url.host.len = 0;
    }

    oc->event.handler = ngx_http_llm_outcall_event;
    oc->event.data = oc;
    oc->event.log = log;

    return oc;
}


ngx_int_t
ngx_http_llm_outcall_header(ngx_http_llm_outcall_t *oc, const char *name,
    ngx_str_t *value)
{
    ngx_keyval_t  *kv;

    kv = ngx_array_push(&oc->headers);
    if (kv == NULL) {
        return NGX_ERROR;
    }

    kv->key.data = (u_char *) name;
    kv->key.len = ngx_strlen(name);
    kv->value = *value;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_outcall_start(ngx_http_llm_outcall_t *oc)
{
    u_char  *head;

    oc->conf = ngx_http_llm_outcall_conf();

    if (oc->url.host.len == 0 || oc->conf == NULL) {
        return NGX_DECLINED;
    }

    oc->host.len = oc->url.host.len;
    oc->host.data = ngx_pnalloc(oc->pool, oc->host.len + 1);
    head = ngx_palloc(oc->pool, NGX_HTTP_LLM_OUTCALL_HEAD);

    if (oc->host.data == NULL || head == NULL
        || ngx_http_llm_outcall_request(oc) != NGX_OK)
    {
        return NGX_ERROR;
    }

    ngx_strlow(oc->host.data, oc->url.host.data, oc->host.len);
    oc->host.data[oc->host.len] = '\0';

    llm_http_init(&oc->http, head, NGX_HTTP_LLM_OUTCALL_HEAD);

    ngx_post_event(&oc->event, &ngx_posted_events);

    return NGX_OK;
}


/* head and body in one piece */

static ngx_int_t
ngx_http_llm_outcall_request(ngx_http_llm_outcall_t *oc)
{
    size_t         len;
    u_char        *p;
    ngx_uint_t     i;
    ngx_keyval_t  *kv;

    len = oc->url.path.len + oc->url.authority.len + NGX_SIZE_T_LEN
          + oc->body.len
          + sizeof("POST / HTTP/1.1" CRLF "Host: " CRLF
                   "Content-Length: " CRLF "Connection: close" CRLF CRLF);

    kv = oc->headers.elts;

    for (i = 0; i < oc->headers.nelts; i++) {
        len += kv[i].key.len + kv[i].value.len + sizeof(": " CRLF) - 1;
    }

    oc->request = ngx_create_temp_buf(oc->pool, len);
    oc->out = ngx_alloc_chain_link(oc->pool);

    if (oc->request == NULL || oc->out == NULL) {
        return NGX_ERROR;
    }

    p = ngx_sprintf(oc->request->last,
                    "POST %s%*s HTTP/1.1" CRLF "Host: %*s" CRLF,
                    oc->url.path.len == 0 || oc->url.path.data[0] != '/'
                    ? "/" : "",
                    oc->url.path.len, oc->url.path.data,
                    oc->url.authority.len, oc->url.authority.data);

    for (i = 0; i < oc->headers.nelts; i++) {
        p = ngx_sprintf(p, "%V: %V" CRLF, &kv[i].key, &kv[i].value);
    }

    p = ngx_sprintf(p, "Content-Length: %uz" CRLF "Connection: close" CRLF
                    CRLF, oc->body.len);

    oc->request->last = ngx_cpymem(p, oc->body.data, oc->body.len);

    oc->out->buf = oc->request;
    oc->out->next = NULL;

    return NGX_OK;
}


/* it begins, or its time is up */

static void
ngx_http_llm_outcall_event(ngx_event_t *ev)
{
    ngx_int_t                rc;
    ngx_http_llm_outcall_t  *oc;

    oc = ev->data;

    if (oc->started) {
        ngx_http_llm_outcall_ended(oc, NGX_HTTP_LLM_OUTCALL_LATE,
                                   "no answer in time");
        return;
    }

    oc->started = 1;
    ngx_add_timer(&oc->event, NGX_HTTP_LLM_OUTCALL_TIMEOUT);

    rc = ngx_http_llm_outcall_address(oc);

    if (rc != NGX_AGAIN) {
        ngx_http_llm_outcall_addressed(oc, rc);
    }
}


void
ngx_http_llm_outcall_addressed(ngx_http_llm_outcall_t *oc, ngx_int_t rc)
{
    if (rc != NGX_OK) {
        ngx_http_llm_outcall_finish(oc, oc->result);
        return;
    }

    ngx_http_llm_outcall_connect(oc);
}


/* to the next address that can be reached */

static void
ngx_http_llm_outcall_connect(ngx_http_llm_outcall_t *oc)
{
    ngx_int_t          rc;
    ngx_addr_t        *addr;
    ngx_connection_t  *c;

    while (oc->next < oc->naddrs) {

        addr = &oc->addrs[oc->next++];
        rc = ngx_http_llm_outcall_peer(oc, addr);

        ngx_log_debug3(NGX_LOG_DEBUG_HTTP, oc->pool->log, 0,
                       "llm outcall \"%V\" connect %V: %i", &oc->host,
                       &addr->name, rc);

        if (rc != NGX_OK && rc != NGX_AGAIN) {
            continue;
        }

        c = oc->peer.connection;

        c->data = oc;
        c->pool = oc->pool;
        c->log = &ngx_http_llm_outcall_log;
        c->read->log = c->log;
        c->write->log = c->log;
        c->read->handler = ngx_http_llm_outcall_read;
        c->write->handler = ngx_http_llm_outcall_write;

        if (rc == NGX_AGAIN) {
            ngx_add_timer(c->write, NGX_HTTP_LLM_OUTCALL_CONNECT);

        } else {
            ngx_http_llm_outcall_write(c->write);
        }

        return;
    }

    oc->why = "it cannot be reached";

    ngx_http_llm_outcall_finish(oc, NGX_HTTP_LLM_OUTCALL_UNREACHABLE);
}


static ngx_int_t
ngx_http_llm_outcall_peer(ngx_http_llm_outcall_t *oc, ngx_addr_t *addr)
{
    ngx_memzero(&oc->peer, sizeof(ngx_peer_connection_t));

    ngx_http_llm_outcall_log = *ngx_cycle->log;
    ngx_http_llm_outcall_log.log_level = NGX_LOG_ALERT;

    oc->peer.sockaddr = addr->sockaddr;
    oc->peer.socklen = addr->socklen;
    oc->peer.name = &addr->name;
    oc->peer.get = ngx_event_get_peer;
    oc->peer.log = &ngx_http_llm_outcall_log;
    oc->peer.log_error = NGX_ERROR_INFO;

    return ngx_event_connect_peer(&oc->peer);
}


static void
ngx_http_llm_outcall_write(ngx_event_t *wev)
{
    ngx_connection_t        *c;
    ngx_http_llm_outcall_t  *oc;

    c = wev->data;
    oc = c->data;

    if (oc->connected) {
        ngx_http_llm_outcall_send(oc);
        return;
    }

    if (wev->timedout || ngx_http_llm_outcall_test(c) != NGX_OK) {
        ngx_http_llm_outcall_drop(oc);
        ngx_http_llm_outcall_connect(oc);
        return;
    }

    if (wev->timer_set) {
        ngx_del_timer(wev);
    }

    oc->connected = 1;

    if (oc->url.tls) {
        ngx_http_llm_outcall_tls(oc);
        return;
    }

    ngx_http_llm_outcall_send(oc);
}


static ngx_int_t
ngx_http_llm_outcall_test(ngx_connection_t *c)
{
    int        err;
    socklen_t  len;

    err = 0;
    len = sizeof(int);

    if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, (void *) &err, &len) == -1) {
        err = ngx_socket_errno;
    }

    return err ? NGX_ERROR : NGX_OK;
}


void
ngx_http_llm_outcall_trusted(ngx_http_llm_outcall_t *oc, ngx_int_t rc)
{
    ngx_connection_t  *c;

    if (rc != NGX_OK) {
        ngx_http_llm_outcall_finish(oc, NGX_HTTP_LLM_OUTCALL_TLS);
        return;
    }

    c = oc->peer.connection;

    c->read->handler = ngx_http_llm_outcall_read;
    c->write->handler = ngx_http_llm_outcall_write;

    ngx_http_llm_outcall_send(oc);
}


static void
ngx_http_llm_outcall_send(ngx_http_llm_outcall_t *oc)
{
    ngx_connection_t  *c;

    c = oc->peer.connection;

    if (oc->out) {
        oc->out = c->send_chain(c, oc->out, 0);

        if (oc->out == NGX_CHAIN_ERROR) {

            /* it may have been answered before it came whole */

            oc->out = NULL;
            ngx_http_llm_outcall_read(c->read);
            return;
        }
    }

    if (ngx_handle_write_event(c->write, 0) != NGX_OK) {
        ngx_http_llm_outcall_ended(oc, NGX_HTTP_LLM_OUTCALL_BROKEN,
                                   "no memory");
        return;
    }

    /* what came with the end of a handshake has no event of its own */

    if (c->read->ready) {
        ngx_http_llm_outcall_read(c->read);
    }
}


static void
ngx_http_llm_outcall_read(ngx_event_t *rev)
{
    ssize_t                  n;
    ngx_connection_t        *c;
    ngx_http_llm_outcall_t  *oc;

    static u_char  buf[NGX_HTTP_LLM_OUTCALL_READ];

    c = rev->data;
    oc = c->data;

    if (c->close) {
        /* worker_shutdown_timeout */
        ngx_http_llm_outcall_ended(oc, NGX_HTTP_LLM_OUTCALL_BROKEN,
                                   "this worker ends");
        return;
    }

    if (!oc->connected) {
        ngx_http_llm_outcall_write(c->write);
        return;
    }

    for ( ;; ) {

        n = c->recv(c, buf, NGX_HTTP_LLM_OUTCALL_READ);

        if (n == NGX_AGAIN) {

            if (ngx_handle_read_event(rev, 0) != NGX_OK) {
                n = NGX_ERROR;

            } else {
                return;
            }
        }

        if (n == NGX_ERROR || n == 0) {
            ngx_http_llm_outcall_ended(oc, NGX_HTTP_LLM_OUTCALL_BROKEN,
                                       "the connection was closed");
            return;
        }

        if (ngx_http_llm_outcall_parse(oc, buf, buf + n) != NGX_AGAIN) {
            ngx_http_llm_outcall_ended(oc, NGX_HTTP_LLM_OUTCALL_BROKEN,
                                       "its answer is not one of HTTP");
            return;
        }
    }
}


/* NGX_AGAIN: there is more to come that is read */

static ngx_int_t
ngx_http_llm_outcall_parse(ngx_http_llm_outcall_t *oc, const u_char *p,
    const u_char *last)
{
    int        rc;
    llm_str_t  part;

    for ( ;; ) {

        rc = llm_http_next(&oc->http, &p, last, &part);

        if (rc == LLM_ERROR) {
            return NGX_DONE;
        }

        oc->status = oc->http.status;

        switch (rc) {

        case LLM_OK:
            oc->dropped += part.len;

            if (oc->dropped > NGX_HTTP_LLM_OUTCALL_BODY) {
                return NGX_DONE;
            }

            break;

        case LLM_AGAIN:
            return NGX_AGAIN;

        default: /* LLM_HTTP_END */
            return NGX_DONE;
        }
    }
}


/* once there is a head, it is the answer, whatever becomes of the body */

static void
ngx_http_llm_outcall_ended(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e otherwise, const char *why)
{
    if (oc->status) {
        ngx_http_llm_outcall_finish(oc, NGX_HTTP_LLM_OUTCALL_OK);
        return;
    }

    oc->why = why;

    ngx_http_llm_outcall_finish(oc, otherwise);
}


static void
ngx_http_llm_outcall_finish(ngx_http_llm_outcall_t *oc,
    ngx_http_llm_outcall_e result)
{
    if (oc->done) {
        return;
    }

    oc->done = 1;
    oc->result = result;

    ngx_log_debug4(NGX_LOG_DEBUG_HTTP, oc->pool->log, 0,
                   "llm outcall \"%V\" ends: %d status:%ui %s", &oc->host,
                   result, oc->status, oc->why ? oc->why : "");

    ngx_http_llm_outcall_hang_up(oc);

    oc->handler(oc);
}


static void
ngx_http_llm_outcall_hang_up(ngx_http_llm_outcall_t *oc)
{
    ngx_resolver_ctx_t  *ctx;

    if (oc->event.timer_set) {
        ngx_del_timer(&oc->event);
    }

    if (oc->event.posted) {
        ngx_delete_posted_event(&oc->event);
    }

    ctx = oc->resolve;

    if (ctx != NULL) {
        oc->resolve = NULL;
        ngx_resolve_name_done(ctx);
    }

    ngx_http_llm_outcall_drop(oc);
}


static void
ngx_http_llm_outcall_drop(ngx_http_llm_outcall_t *oc)
{
    ngx_connection_t  *c;

    c = oc->peer.connection;

    if (c == NULL) {
        return;
    }

    oc->peer.connection = NULL;

#if (NGX_SSL)
    if (c->ssl) {
        c->ssl->no_wait_shutdown = 1;
        (void) ngx_ssl_shutdown(c);
    }
#endif

    ngx_close_connection(c);
}


void
ngx_http_llm_outcall_close(ngx_http_llm_outcall_t *oc)
{
    ngx_http_llm_outcall_hang_up(oc);
    ngx_destroy_pool(oc->pool);
}
