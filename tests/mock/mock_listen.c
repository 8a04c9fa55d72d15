
/*
 * Copyright (C) the ngx-llm authors
 *
 * The listening sockets.  That of the provider can be closed, or left open
 * and never looked at; control goes over one of its own.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "mock.h"


#define LISTEN_BACKLOG  4096


static loop_io_t  listen_provider;
static loop_io_t  listen_control;
static char       listen_port[16];
static int        listen_open;
static int        listen_accepts;
static int        listen_filler = -1;


static void listen_handler(loop_io_t *io, uint32_t events);
static void listen_apply(int open, int accepts, int64_t backlog);
static int listen_bool(span_t value, int *to);


void
listen_start(const char *port, const char *control_port)
{
    int  n, control;

    listen_provider.handler = listen_handler;
    listen_provider.fd = loop_bind(port, &n);
    snprintf(listen_port, sizeof(listen_port), "%d", n);
    listen_apply(1, 1, -1);

    listen_control.handler = listen_handler;
    listen_control.fd = loop_listen(control_port, &control);
    loop_add(&listen_control, EPOLLIN);

    printf("mock control on 127.0.0.1:%d\n"
           "mock listening on 127.0.0.1:%d\n", control, n);
    fflush(stdout);
}


static void
listen_handler(loop_io_t *io, uint32_t events)
{
    int  fd, i;

    (void) events;

    for (i = 0; i < 64; i++) {
        fd = loop_accept(io->fd);
        if (fd == -1) {
            return;
        }

        conn_new(fd, io == &listen_control);
    }
}


int
listen_change(conn_t *c, span_t what, buf_t *out)
{
    int          open, accepts, drop;
    int64_t      backlog;
    json_iter_t  it;

    open = listen_open;
    accepts = listen_accepts;
    drop = 0;
    backlog = -1;

    if (what.data[0] != '{') {
        return -1;
    }

    json_iter(&it, what);

    while (json_next(&it)) {
        if (span_is(it.key, "open") && listen_bool(it.value, &open)) {
            continue;
        }

        if (span_is(it.key, "accept") && listen_bool(it.value, &accepts)) {
            continue;
        }

        if (span_is(it.key, "drop") && listen_bool(it.value, &drop)) {
            continue;
        }

        if (span_is(it.key, "backlog")) {
            backlog = span_int(it.value);

            if (backlog >= 0 && backlog <= LISTEN_BACKLOG) {
                continue;
            }
        }

        return -1;
    }

    listen_apply(open, accepts, backlog);

    if (drop) {
        conn_drop_all(c);
    }

    buf_fmt(out, "{\"open\":%s,\"accept\":%s}\n", open ? "true" : "false",
            accepts ? "true" : "false");

    return 0;
}


/*
 * A socket that is bound and does not listen keeps the port and refuses.  Of
 * one that does not accept, the queue is full, unless a backlog is given.
 */

static void
listen_apply(int open, int accepts, int64_t backlog)
{
    int  port;

    if (listen_filler != -1) {
        close(listen_filler);
        listen_filler = -1;
    }

    listen_accepts = accepts;

    if (!open) {
        if (listen_open) {
            listen_open = 0;
            loop_close(&listen_provider);
            listen_provider.fd = loop_bind(listen_port, &port);
        }

        return;
    }

    if (listen(listen_provider.fd,
               accepts ? LISTEN_BACKLOG : backlog < 0 ? 0 : (int) backlog)
        == -1)
    {
        die("listen: %s", strerror(errno));
    }

    if (!listen_open) {
        listen_open = 1;
        loop_add(&listen_provider, 0);
    }

    loop_change(&listen_provider, accepts ? EPOLLIN : 0);

    /* Linux queues one more than it is told */

    if (!accepts && backlog < 0) {
        listen_filler = loop_connect(listen_port);
    }
}


static int
listen_bool(span_t value, int *to)
{
    *to = json_true(value);

    return *to || span_is(value, "false");
}
