
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_wake.h"

#include <sys/eventfd.h>


static void ngx_http_llm_wake_read(ngx_event_t *ev);
static void ngx_http_llm_wake_posted(ngx_event_t *ev);
static void ngx_http_llm_wake_call(void);


static int                ngx_http_llm_wake_fd[LLM_LEDGER_OWNERS];
static ngx_uint_t         ngx_http_llm_wake_ready;

static ngx_uint_t         ngx_http_llm_wake_self = LLM_LEDGER_OWNERS;
static ngx_connection_t  *ngx_http_llm_wake_connection;
static ngx_event_t        ngx_http_llm_wake_event;
static void             (*ngx_http_llm_wake_handler)(void);
static void             (*ngx_http_llm_wake_second)(void);


ngx_int_t
ngx_http_llm_wake_init_module(ngx_cycle_t *cycle)
{
    ngx_uint_t  i;

    if (ngx_http_llm_wake_ready || ngx_test_config) {
        return NGX_OK;
    }

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        ngx_http_llm_wake_fd[i] = eventfd(0, EFD_NONBLOCK|EFD_CLOEXEC);

        if (ngx_http_llm_wake_fd[i] == -1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, ngx_errno,
                          "eventfd() failed");

            while (i) {
                (void) close(ngx_http_llm_wake_fd[--i]);
            }

            return NGX_ERROR;
        }
    }

    ngx_http_llm_wake_ready = 1;

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_wake_init_process(ngx_cycle_t *cycle, ngx_uint_t owner,
    void (*handler)(void))
{
    ngx_event_t       *rev;
    ngx_connection_t  *c;

    ngx_http_llm_wake_handler = handler;
    ngx_http_llm_wake_self = owner;

    ngx_http_llm_wake_event.handler = ngx_http_llm_wake_posted;
    ngx_http_llm_wake_event.log = cycle->log;

    c = ngx_get_connection(ngx_http_llm_wake_fd[owner], cycle->log);
    if (c == NULL) {
        return NGX_ERROR;
    }

    rev = c->read;
    rev->handler = ngx_http_llm_wake_read;
    rev->log = cycle->log;
    c->log = cycle->log;
    c->recv = NULL;

    ngx_http_llm_wake_connection = c;

    if (ngx_add_event(rev, NGX_READ_EVENT, NGX_LEVEL_EVENT) != NGX_OK) {
        return NGX_ERROR;
    }

    return NGX_OK;
}


void
ngx_http_llm_wake_also(void (*handler)(void))
{
    ngx_http_llm_wake_second = handler;
}


void
ngx_http_llm_wake_exit_process(void)
{
    ngx_connection_t  *c;

    c = ngx_http_llm_wake_connection;

    if (ngx_http_llm_wake_event.posted) {
        ngx_delete_posted_event(&ngx_http_llm_wake_event);
    }

    if (c == NULL) {
        return;
    }

    if (c->read->active) {
        (void) ngx_del_event(c->read, NGX_READ_EVENT, 0);
    }

    /* the descriptor is everybody's: it stays open */

    c->read->closed = 1;
    c->write->closed = 1;

    ngx_free_connection(c);

    c->fd = (ngx_socket_t) -1;

    ngx_http_llm_wake_connection = NULL;
}


void
ngx_http_llm_wake(llm_owners_t *owners)
{
    uint64_t    one, bits;
    ngx_uint_t  i, n, owner;

    one = 1;

    for (i = 0; i < LLM_LEDGER_OWNERS / 64; i++) {

        for (bits = owners->bits[i]; bits; bits &= bits - 1) {

            n = __builtin_ctzll(bits);
            owner = i * 64 + n;

            if (owner == ngx_http_llm_wake_self) {
                ngx_post_event(&ngx_http_llm_wake_event, &ngx_posted_events);
                continue;
            }

            ngx_log_debug1(NGX_LOG_DEBUG_EVENT, ngx_cycle->log, 0,
                           "llm wake owner:%ui", owner);

            if (write(ngx_http_llm_wake_fd[owner], &one, sizeof(one)) == -1
                && ngx_errno != NGX_EAGAIN)
            {
                ngx_log_error(NGX_LOG_ERR, ngx_cycle->log, ngx_errno,
                              "write() to eventfd failed");
            }
        }

        owners->bits[i] = 0;
    }
}


static void
ngx_http_llm_wake_read(ngx_event_t *ev)
{
    uint64_t           n;
    ngx_connection_t  *c;

    c = ev->data;

    /* the number does not matter: the ledger knows what was granted */

    if (read(c->fd, &n, sizeof(n)) == -1 && ngx_errno != NGX_EAGAIN) {
        ngx_log_error(NGX_LOG_ERR, ev->log, ngx_errno,
                      "read() from eventfd failed");
    }

    ngx_http_llm_wake_call();
}


static void
ngx_http_llm_wake_posted(ngx_event_t *ev)
{
    ngx_http_llm_wake_call();
}


static void
ngx_http_llm_wake_call(void)
{
    ngx_http_llm_wake_handler();

    if (ngx_http_llm_wake_second) {
        ngx_http_llm_wake_second();
    }
}
