
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "load.h"


#define READ_SIZE  65536


static void conn_event(loop_io_t *io, uint32_t events);
static int conn_write(load_conn_t *c);
static void conn_read(load_conn_t *c);
static int conn_take(load_conn_t *c);
static int conn_take_body(load_conn_t *c);
static int conn_whole(const load_conn_t *c);
static void conn_events(load_conn_t *c);
static void conn_one_event(load_conn_t *c, const char *data, size_t len,
    uint64_t now);
static void conn_stamp(const load_conn_t *c, const char *data, size_t len,
    uint64_t now);
static void conn_end(load_conn_t *c);
static void conn_fail(load_conn_t *c, load_error_t error);
static void conn_result(load_conn_t *c, load_error_t error);
static void conn_timeout(loop_timer_t *t);


void
load_conn_init(load_conn_t *c)
{
    c->io.fd = -1;
    c->io.handler = conn_event;
    c->timer.data = c;
    c->timer.handler = conn_timeout;
}


void
load_conn_send(load_conn_t *c, uint64_t due)
{
    char              digits[UNIQUE_DIGITS + 1];
    uint64_t          now;
    load_options_t   *o;
    static uint64_t   counter;

    o = &load_options;

    c->busy = 1;
    c->due = due;
    c->got_head = 0;
    c->done_seen = 0;
    c->found = 0;
    c->eof = 0;
    c->data_line = 0;
    c->events = 0;
    c->last_event = 0;
    c->scanned = 0;
    c->event_at = 0;
    c->body_len = 0;
    c->in.len = 0;
    c->body.len = 0;
    c->out.len = 0;
    c->out_pos = 0;

    buf_add(&c->out, o->request.data, o->request.len);

    if (o->unique_at != 0) {
        snprintf(digits, sizeof(digits), "%016llu",
                 (unsigned long long) ++counter);
        memcpy(c->out.data + o->unique_at, digits, UNIQUE_DIGITS);
    }

    if (o->rate > 0) {
        now = loop_now();
        stat_value(HIST_LAG, due, now > due ? now - due : 0);
    }

    loop_timer(&c->timer, due + (uint64_t) o->timeout_ms * LOOP_MS);

    if (c->io.fd == -1) {
        c->connected = 0;
        c->hup = 0;
        c->io.fd = loop_connect(o->where);

        if (c->io.fd == -1) {
            conn_fail(c, ERROR_CONNECT);
            return;
        }

        loop_add(&c->io, EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET);
        return;
    }

    conn_write(c);
}


static void
conn_event(loop_io_t *io, uint32_t events)
{
    int           error;
    socklen_t     len;
    load_conn_t  *c;

    c = (load_conn_t *) io;

    if (events & (EPOLLRDHUP|EPOLLHUP|EPOLLERR)) {
        c->hup = 1;
    }

    if (!c->connected) {
        error = 0;
        len = sizeof(int);
        getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &len);

        if (error != 0 || (events & EPOLLERR)) {
            conn_fail(c, ERROR_CONNECT);
            return;
        }

        if (!(events & EPOLLOUT)) {
            return;
        }

        c->connected = 1;
    }

    if (!c->busy) {
        if (events & (EPOLLIN|EPOLLRDHUP|EPOLLHUP|EPOLLERR)) {
            loop_close(io);
        }

        return;
    }

    if ((events & EPOLLOUT) && !conn_write(c)) {
        return;
    }

    if (events & (EPOLLIN|EPOLLRDHUP|EPOLLHUP|EPOLLERR)) {
        conn_read(c);
    }
}


/* 0: the request has failed; a refusal that came first shall be read */

static int
conn_write(load_conn_t *c)
{
    ssize_t  n;

    while (c->out_pos < c->out.len) {
        n = write(c->io.fd, c->out.data + c->out_pos, c->out.len - c->out_pos);

        if (n == -1 && errno == EAGAIN) {
            break;
        }

        if (n == -1) {
            c->out_pos = c->out.len;
            c->hup = 1;
            conn_read(c);
            return 0;
        }

        c->out_pos += (size_t) n;
    }

    return 1;
}


static void
conn_read(load_conn_t *c)
{
    size_t   room;
    ssize_t  n;

    for ( ;; ) {
        buf_reserve(&c->in, READ_SIZE);
        room = c->in.size - c->in.len;

        n = read(c->io.fd, c->in.data + c->in.len, room);

        if (n == -1 && errno == EAGAIN) {
            return;
        }

        if (n > 0) {
            c->in.len += (size_t) n;

        } else {
            c->eof = 1;
        }

        switch (conn_take(c)) {
        case 1:
            conn_end(c);
            return;
        case -1:
            conn_fail(c, ERROR_PROTOCOL);
            return;
        }

        if (c->eof) {
            conn_fail(c, ERROR_CLOSED);
            return;
        }

        if ((size_t) n < room && !c->hup) {
            return;
        }
    }
}


/* 1: the answer is whole, -1: it is none */

static int
conn_take(load_conn_t *c)
{
    int64_t  rc;

    while (!c->got_head) {
        rc = http_answer(&c->head, c->in.data, c->in.len);

        if (rc <= 0) {
            return (int) rc;
        }

        buf_cut_front(&c->in, c->head.len);

        if (c->head.status >= 200) {
            c->got_head = 1;
            memset(&c->chunked, 0, sizeof(http_chunked_t));
        }
    }

    return conn_take_body(c);
}


static int
conn_take_body(load_conn_t *c)
{
    size_t  used, before;

    before = c->body.len;

    if (c->head.chunked) {
        used = http_dechunk(&c->chunked, c->in.data, c->in.len, &c->body);
        buf_cut_front(&c->in, used);

        if (c->chunked.bad) {
            return -1;
        }

    } else {
        buf_add(&c->body, c->in.data, c->in.len);
        c->in.len = 0;
    }

    c->body_len += (int64_t) (c->body.len - before);

    if (load_options.stream && c->head.status == 200) {
        conn_events(c);
    }

    return conn_whole(c);
}


static int
conn_whole(const load_conn_t *c)
{
    if (c->head.chunked) {
        return c->chunked.done;
    }

    if (c->head.status == 204 || c->head.status == 304) {
        return 1;
    }

    if (c->head.content_length < 0) {
        return c->eof;
    }

    return c->body_len > c->head.content_length
           ? -1 : c->body_len == c->head.content_length;
}


/* an event ends with an empty line */

static void
conn_events(load_conn_t *c)
{
    char      *lf, *line, *end;
    size_t     len;
    int64_t    before;
    uint64_t   now;

    now = loop_now();
    before = c->events;
    end = c->body.data + c->body.len;

    while (c->scanned < c->body.len) {
        line = c->body.data + c->scanned;
        lf = memchr(line, '\n', (size_t) (end - line));

        if (lf == NULL) {
            break;
        }

        len = (size_t) (lf - line);
        len -= len != 0 && lf[-1] == '\r';
        c->scanned += (size_t) (lf - line) + 1;

        if (len >= 5 && memcmp(line, "data:", 5) == 0) {
            c->data_line = 1;
        }

        if (len == 0) {
            if (c->data_line) {
                conn_one_event(c, c->body.data + c->event_at,
                               c->scanned - c->event_at, now);
            }

            c->event_at = c->scanned;
            c->data_line = 0;
        }
    }

    buf_cut_front(&c->body, c->event_at);
    c->scanned -= c->event_at;
    c->event_at = 0;

    stat_read_events(c->events - before);
}


static void
conn_one_event(load_conn_t *c, const char *data, size_t len, uint64_t now)
{
    static const char  done[] = "data: [DONE]";

    if (len >= sizeof(done) - 1 && memcmp(data, done, sizeof(done) - 1) == 0)
    {
        c->done_seen = 1;
        c->events++;
        return;
    }

    if (c->events == 0) {
        stat_value(HIST_TTFT, c->due, now > c->due ? now - c->due : 0);

    } else {
        stat_value(HIST_GAP, c->due, now - c->last_event);
    }

    c->events++;
    c->last_event = now;

    if (load_options.expect != NULL && !c->found
        && memmem(data, len, load_options.expect,
                  strlen(load_options.expect)) != NULL)
    {
        c->found = 1;
    }

    conn_stamp(c, data, len, now);
}


/* "@" 19 digits "@": when the mock wrote this piece */

static void
conn_stamp(const load_conn_t *c, const char *data, size_t len, uint64_t now)
{
    span_t       digits;
    uint64_t     ns, low;
    const char  *at;

    at = memchr(data, '@', len);

    if (at == NULL || (size_t) (data + len - at) < 21 || at[20] != '@') {
        return;
    }

    digits.data = at + 1;
    digits.len = 10;
    ns = (uint64_t) span_int(digits);

    digits.data = at + 11;
    digits.len = 9;
    low = (uint64_t) span_int(digits);

    ns = ns * LOOP_SEC + low;

    if (ns <= now) {
        stat_value(HIST_TRANSIT, c->due, now - ns);
    }
}


static void
conn_end(load_conn_t *c)
{
    load_error_t     error;
    load_options_t  *o;

    o = &load_options;
    error = ERROR_NONE;

    if (c->head.status != o->status) {
        error = ERROR_STATUS;

    } else if (o->stream && c->head.status == 200) {
        if ((!o->no_done && !c->done_seen) || c->events == 0
            || (o->expect != NULL && !c->found))
        {
            error = ERROR_BODY;
        }

    } else if (o->expect != NULL
               && memmem(c->body.data, c->body.len, o->expect,
                         strlen(o->expect)) == NULL)
    {
        error = ERROR_BODY;
    }

    if (!c->head.keep_alive || c->eof || o->close
        || c->out_pos < c->out.len)
    {
        loop_close(&c->io);
    }

    conn_result(c, error);
}


static void
conn_fail(load_conn_t *c, load_error_t error)
{
    loop_close(&c->io);
    conn_result(c, error);
}


static void
conn_result(load_conn_t *c, load_error_t error)
{
    c->busy = 0;
    loop_timer_del(&c->timer);

    stat_result(error, c->due, loop_now(), c->body_len, c->events);
    load_finished(c, error == ERROR_CONNECT || error == ERROR_CLOSED);
}


static void
conn_timeout(loop_timer_t *t)
{
    conn_fail(t->data, ERROR_TIMEOUT);
}
