
/*
 * Copyright (C) the ngx-llm authors
 *
 * A worker that is to end has closed its listeners, and when all of nginx
 * ends nobody else has one.  A pair of sockets lets it answer itself: one end
 * is handed over as if it had been accepted.
 */


#include "http/ngx_http_llm_loopback.h"


static ngx_int_t ngx_http_llm_loopback_near(ngx_peer_connection_t *pc,
    ngx_socket_t s);
static ngx_int_t ngx_http_llm_loopback_far(ngx_listening_t *ls,
    ngx_socket_t s);


/* closed listeners are forgotten, but not their memory */

static ngx_listening_t  *ngx_http_llm_loopback_ls;


void
ngx_http_llm_loopback_init_process(ngx_cycle_t *cycle)
{
    ngx_uint_t           i;
    ngx_listening_t     *ls;
    struct sockaddr_un  *addr;

    addr = ngx_http_llm_loopback_address();
    ls = cycle->listening.elts;

    for (i = 0; addr && i < cycle->listening.nelts; i++) {

        if (ls[i].sockaddr->sa_family == AF_UNIX
            && ngx_strcmp(((struct sockaddr_un *) ls[i].sockaddr)->sun_path,
                          addr->sun_path)
               == 0)
        {
            ngx_http_llm_loopback_ls = &ls[i];
            return;
        }
    }
}


ngx_int_t
ngx_http_llm_loopback_inside(ngx_peer_connection_t *pc)
{
    ngx_socket_t      fd[2];
    ngx_listening_t  *ls;

    ls = ngx_http_llm_loopback_ls;

    if (ls == NULL || socketpair(AF_UNIX, SOCK_STREAM, 0, fd) == -1) {
        return NGX_ERROR;
    }

    if (ngx_nonblocking(fd[0]) == -1 || ngx_nonblocking(fd[1]) == -1) {
        (void) ngx_close_socket(fd[0]);
        (void) ngx_close_socket(fd[1]);
        return NGX_ERROR;
    }

    if (ngx_http_llm_loopback_near(pc, fd[0]) != NGX_OK) {
        (void) ngx_close_socket(fd[1]);
        return NGX_ERROR;
    }

    if (ngx_http_llm_loopback_far(ls, fd[1]) != NGX_OK) {
        ngx_close_connection(pc->connection);
        pc->connection = NULL;
        return NGX_ERROR;
    }

    return NGX_OK;
}


/* as ngx_event_connect_peer() leaves it */

static ngx_int_t
ngx_http_llm_loopback_near(ngx_peer_connection_t *pc, ngx_socket_t s)
{
    ngx_uint_t         event;
    ngx_connection_t  *c;

    c = ngx_get_connection(s, pc->log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        return NGX_ERROR;
    }

    c->type = SOCK_STREAM;
    c->recv = ngx_recv;
    c->send = ngx_send;
    c->recv_chain = ngx_recv_chain;
    c->send_chain = ngx_send_chain;
    c->log_error = pc->log_error;
    c->read->log = pc->log;
    c->write->log = pc->log;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;

    if (ngx_add_conn) {
        if (ngx_add_conn(c) == NGX_ERROR) {
            ngx_close_connection(c);
            return NGX_ERROR;
        }

    } else {
        event = ngx_event_flags & NGX_USE_CLEAR_EVENT ? NGX_CLEAR_EVENT
                                                      : NGX_LEVEL_EVENT;

        if (ngx_add_event(c->read, NGX_READ_EVENT, event) != NGX_OK) {
            ngx_close_connection(c);
            return NGX_ERROR;
        }
    }

    c->write->ready = 1;
    pc->connection = c;

    return NGX_OK;
}


/* as ngx_event_accept() hands it over */

static ngx_int_t
ngx_http_llm_loopback_far(ngx_listening_t *ls, ngx_socket_t s)
{
    ngx_log_t         *log;
    ngx_connection_t  *c;

    c = ngx_get_connection(s, ngx_cycle->log);

    if (c == NULL) {
        (void) ngx_close_socket(s);
        return NGX_ERROR;
    }

    c->type = SOCK_STREAM;

    c->pool = ngx_create_pool(ls->pool_size, ngx_cycle->log);
    if (c->pool == NULL) {
        ngx_close_connection(c);
        return NGX_ERROR;
    }

    c->sockaddr = ngx_pcalloc(c->pool, sizeof(struct sockaddr_un));
    log = ngx_palloc(c->pool, sizeof(ngx_log_t));
    c->addr_text.data = ngx_pnalloc(c->pool, ls->addr_text_max_len);

    if (c->sockaddr == NULL || log == NULL || c->addr_text.data == NULL) {
        ngx_destroy_pool(c->pool);
        ngx_close_connection(c);
        return NGX_ERROR;
    }

    c->sockaddr->sa_family = AF_UNIX;
    c->socklen = sizeof(sa_family_t);
    c->addr_text.len = ngx_sock_ntop(c->sockaddr, c->socklen,
                                     c->addr_text.data,
                                     ls->addr_text_max_len, 0);

    *log = ls->log;

    c->recv = ngx_recv;
    c->send = ngx_send;
    c->recv_chain = ngx_recv_chain;
    c->send_chain = ngx_send_chain;
    c->log = log;
    c->pool->log = log;
    c->listening = ls;
    c->local_sockaddr = ls->sockaddr;
    c->local_socklen = ls->socklen;
    c->read->log = log;
    c->write->log = log;
    c->write->ready = 1;
    c->number = ngx_atomic_fetch_add(ngx_connection_counter, 1);
    c->start_time = ngx_current_msec;

#if (NGX_STAT_STUB)
    (void) ngx_atomic_fetch_add(ngx_stat_active, 1);
#endif

    log->data = NULL;
    log->handler = NULL;

    ls->handler(c);

    return NGX_OK;
}
