
/*
 * Copyright (C) the ngx-llm authors
 *
 * The mock provider: options and connections.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "mock.h"


#define CONN_INPUT    32768
#define HEAD_MAX      65536
#define KEYS_MAX      16
#define BUFFER_SPARE  (1 << 20)


stats_t               mock_stats;
script_t             *mock_script;
uint64_t              mock_created;

static span_t         keys[KEYS_MAX];
static size_t         keys_n;
static uint64_t       conn_numbers;
static conn_t        *conns;


static void options(int argc, char **argv, const char **port,
    const char **control_port);
static void usage(void);
static script_t *script_file(const char *path);
static void conn_event(loop_io_t *io, uint32_t events);
static int conn_read(conn_t *c);
static int conn_parse(conn_t *c);
static int conn_head(conn_t *c);
static int conn_body(conn_t *c);
static int conn_bad(conn_t *c);
static void conn_provider(conn_t *c);
static void conn_linger_timeout(loop_timer_t *t);


int
main(int argc, char **argv)
{
    const char  *port, *control_port;

    port = "0";
    control_port = "0";
    mock_created = (uint64_t) time(NULL);
    mock_script = script_file(NULL);
    journal_init(1024);

    options(argc, argv, &port, &control_port);

    loop_init();
    listen_start(port, control_port);
    loop_run();

    return 0;
}


static void
options(int argc, char **argv, const char **port, const char **control_port)
{
    int          i;
    const char  *value;

    for (i = 1; i < argc; i += 2) {
        value = argv[i + 1];

        if (i + 1 == argc) {
            usage();
        }

        if (strcmp(argv[i], "--port") == 0) {
            *port = value;

        } else if (strcmp(argv[i], "--control-port") == 0) {
            *control_port = value;

        } else if (strcmp(argv[i], "--tls") == 0 && i + 2 < argc) {
            tls_init(value, argv[++i + 1]);

        } else if (strcmp(argv[i], "--script") == 0) {
            script_release(mock_script);
            mock_script = script_file(value);

        } else if (strcmp(argv[i], "--journal") == 0 && atoi(value) >= 0) {
            journal_init((size_t) atoi(value));

        } else if (strcmp(argv[i], "--key") == 0 && keys_n < KEYS_MAX) {
            keys[keys_n].data = value;
            keys[keys_n++].len = strlen(value);

        } else {
            usage();
        }
    }
}


static void
usage(void)
{
    die("usage: mock [--port N] [--control-port N] [--script FILE] "
        "[--journal N] [--key KEY] [--tls CERT KEY]");
}


static script_t *
script_file(const char *path)
{
    int        fd;
    buf_t      text, error;
    ssize_t    n;
    script_t  *s;

    memset(&text, 0, sizeof(buf_t));
    memset(&error, 0, sizeof(buf_t));

    if (path == NULL) {
        buf_str(&text, "{}");

    } else {
        fd = open(path, O_RDONLY|O_CLOEXEC);

        do {
            buf_reserve(&text, 65536);
            n = fd == -1 ? -1 : read(fd, text.data + text.len, 65536);

            if (n == -1) {
                die("%s: %s", path, strerror(errno));
            }

            text.len += (size_t) n;
        } while (n != 0);

        close(fd);
    }

    s = script_parse((span_t) { text.data, text.len }, &error);

    if (s == NULL) {
        die("%s: %.*s", path, (int) error.len, error.data);
    }

    buf_free(&text);

    return s;
}


int
mock_key_ok(const http_head_t *head)
{
    size_t         i;
    span_t         key;
    const span_t  *value;

    if (keys_n == 0) {
        return 1;
    }

    value = http_header(head, "authorization");

    if (value != NULL && value->len > 7
        && span_eq_case((span_t) { value->data, 7 }, span("Bearer ")))
    {
        key.data = value->data + 7;
        key.len = value->len - 7;

    } else {
        value = http_header(head, "api-key");
        if (value == NULL) {
            return 0;
        }

        key = *value;
    }

    for (i = 0; i < keys_n; i++) {
        if (span_eq(keys[i], key)) {
            return 1;
        }
    }

    return 0;
}


void
conn_new(int fd, int control_port)
{
    conn_t  *c;

    c = calloc(1, sizeof(conn_t));
    if (c == NULL) {
        die("out of memory");
    }

    c->io.fd = fd;
    c->io.handler = conn_event;
    c->number = ++conn_numbers;
    c->control_port = control_port != 0;
    c->tls = control_port ? NULL : tls_new(fd);

    c->next = conns;
    c->link = &conns;
    conns = c;

    if (c->next != NULL) {
        c->next->link = &c->next;
    }

    loop_add(&c->io, EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET);
}


static void
conn_event(loop_io_t *io, uint32_t events)
{
    conn_t  *c;

    c = (conn_t *) io;

    /* a handshake may wait for either */

    if ((events & (EPOLLIN|EPOLLRDHUP|EPOLLHUP|EPOLLERR)) || c->tls != NULL) {
        c->readable = 1;
    }

    if (events & (EPOLLRDHUP|EPOLLHUP|EPOLLERR)) {
        c->hup = 1;
    }

    if (c->blocked && (events & EPOLLOUT)) {
        c->blocked = 0;
        send_step(c);
    }

    conn_next(c);
}


/* reads and serves until something must be waited for */

void
conn_next(conn_t *c)
{
    while (!c->dead && (c->state == CONN_HEAD || c->state == CONN_BODY)) {
        if (conn_parse(c)) {
            continue;
        }

        if (!c->dead && !conn_read(c)) {
            break;
        }
    }

    while (!c->dead && c->state == CONN_LINGER && conn_read(c)) {
        c->in.len = 0;
    }

    /* a client that left while its answer was under way */

    if (!c->dead && c->hup
        && (c->state == CONN_ANSWER || c->state == CONN_WAIT))
    {
        conn_close(c);
    }
}


ssize_t
conn_write(conn_t *c, const void *data, size_t len)
{
    return c->tls != NULL ? tls_write(c->tls, data, len)
                          : write(c->io.fd, data, len);
}


/* 1: there is more to look at */

static int
conn_read(conn_t *c)
{
    size_t   room;
    ssize_t  n;

    if (!c->readable) {
        return 0;
    }

    buf_reserve(&c->in, c->in.size == 0 ? CONN_INPUT : 4096);

    room = c->in.size - c->in.len;
    n = c->tls != NULL ? tls_read(c->tls, c->in.data + c->in.len, room)
                       : read(c->io.fd, c->in.data + c->in.len, room);

    if (n == -1 && errno == EAGAIN) {
        c->readable = 0;
        return 0;
    }

    if (n <= 0) {
        if (c->state != CONN_LINGER && c->in.len != 0) {
            mock_stats.broken++;
            control_wake();
        }

        conn_close(c);
        return 0;
    }

    /* a short read has emptied the socket; the end comes as an event */

    if ((size_t) n < room && !c->hup && c->tls == NULL) {
        c->readable = 0;
    }

    c->in.len += (size_t) n;

    return 1;
}


/* 1: went forward */

static int
conn_parse(conn_t *c)
{
    if (c->state == CONN_HEAD) {
        return c->in.len != 0 && conn_head(c);
    }

    return conn_body(c);
}


static int
conn_head(conn_t *c)
{
    int64_t  rc;

    rc = http_request(&c->head, c->in.data, c->in.len);

    if (rc == 0 && c->in.len < HEAD_MAX) {
        return 0;
    }

    if (rc <= 0 || c->head.content_length > MOCK_BODY_MAX) {
        return conn_bad(c);
    }

    memset(&c->chunked, 0, sizeof(http_chunked_t));
    c->body.len = 0;

    if (c->head.content_length > 0) {
        buf_reserve(&c->in, c->head.len + (size_t) c->head.content_length);

    } else if (c->head.chunked) {
        buf_reserve(&c->in, CONN_INPUT);
    }

    /* the buffer may have moved */

    http_request(&c->head, c->in.data, c->in.len);
    c->state = CONN_BODY;

    if (!c->control_port && request_early(c)) {
        return 1;
    }

    if (c->head.expect && c->in.len == c->head.len) {
        buf_str(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");

        if (conn_write(c, c->out.data, c->out.len) == -1) {
            conn_close(c);
        }

        c->out.len = 0;
    }

    return 1;
}


static int
conn_body(conn_t *c)
{
    char    *data;
    size_t   len, used;

    data = c->in.data + c->head.len;
    len = c->in.len - c->head.len;

    if (c->head.chunked) {
        used = http_dechunk(&c->chunked, data, len, &c->body);
        c->in.len -= used;
        memmove(data, data + used, len - used);

        if (c->chunked.bad || c->body.len > (size_t) MOCK_BODY_MAX) {
            return conn_bad(c);
        }

        if (!c->chunked.done) {
            return 0;
        }

        data = c->body.data;
        len = c->body.len;

    } else {
        used = c->head.content_length > 0 ? (size_t) c->head.content_length
                                          : 0;
        if (len < used) {
            return 0;
        }

        len = used;
    }

    request_path(&c->request, &c->head);
    c->request.body.data = data;
    c->request.body.len = len;

    if (c->control_port || control_is(&c->request)) {
        control_start(c);

    } else {
        conn_provider(c);
        request_start(c);
    }

    return 1;
}


/* no HTTP: refused and counted as never come whole */

static int
conn_bad(conn_t *c)
{
    static const char  answer[] =
        "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
        "Connection: close\r\n\r\n";

    mock_stats.broken++;

    if (conn_write(c, answer, sizeof(answer) - 1) == -1) {
        c->hup = 1;
    }

    conn_close(c);
    control_wake();

    return 0;
}


/* counts a connection from its first request on that is not control */

static void
conn_provider(conn_t *c)
{
    if (!c->provider) {
        c->provider = 1;
        mock_stats.connections++;
        mock_stats.accepted++;
        control_wake();
    }
}


/* an answer has gone out whole */

void
conn_answered(conn_t *c)
{
    size_t     used;
    answer_t  *a;

    a = &c->answer;

    if (!c->control) {
        journal_end(c, ENDED_DONE);
        script_release(a->script);
        a->script = NULL;

        if (a->pool.list != NULL) {
            pool_free(&a->pool);
        }
    }

    used = c->head.len;

    if (!c->head.chunked && c->head.content_length > 0 && !c->early) {
        used += (size_t) c->head.content_length;
    }

    buf_cut_front(&c->in, used);

    if (a->body.size > BUFFER_SPARE) {
        buf_free(&a->body);
    }

    if (c->in.size > BUFFER_SPARE && c->in.len == 0) {
        buf_free(&c->in);
    }

    c->state = CONN_HEAD;

    if (!a->close) {
        return;
    }

    if (c->in.len == 0 && !c->early) {
        if (c->tls != NULL) {
            tls_finish(c->tls);
        }

        conn_close(c);
        return;
    }

    /* a close with unread input would reset and could outrun the answer */

    c->in.len = 0;
    c->state = CONN_LINGER;
    c->timer.data = c;
    c->timer.handler = conn_linger_timeout;

    if (c->tls != NULL) {
        tls_finish(c->tls);
    }

    shutdown(c->io.fd, SHUT_WR);
    loop_timer(&c->timer, loop_now() + LOOP_SEC);
}


static void
conn_linger_timeout(loop_timer_t *t)
{
    conn_close(t->data);
}


void
conn_close(conn_t *c)
{
    if (c->dead) {
        return;
    }

    c->dead = 1;

    if (c->state == CONN_WAIT) {
        control_forget(c);

    } else if (c->state == CONN_ANSWER && !c->control
               && c->answer.script != NULL)
    {
        journal_end(c, ENDED_CLIENT);
        script_release(c->answer.script);
    }

    *c->link = c->next;

    if (c->next != NULL) {
        c->next->link = c->link;
    }

    if (c->tls != NULL && !tls_free(c->tls)) {
        mock_stats.tls_failed++;
        control_wake();
    }

    loop_timer_del(&c->timer);
    loop_close(&c->io);
    pool_free(&c->answer.pool);

    buf_free(&c->in);
    buf_free(&c->out);
    buf_free(&c->body);
    buf_free(&c->answer.body);

    if (c->provider) {
        mock_stats.connections--;
        control_wake();
    }

    loop_free(c);
}


/* resets the connections of all who asked for more than control */

void
conn_drop_all(const conn_t *except)
{
    conn_t  *c;

    for (c = conns; c != NULL; /* void */ ) {
        if (c == except || !c->provider || c->state == CONN_WAIT
            || (c->state == CONN_ANSWER && c->control))
        {
            c = c->next;
            continue;
        }

        if (c->state == CONN_ANSWER && c->answer.script != NULL) {
            journal_end(c, ENDED_CUT);
            script_release(c->answer.script);
            c->answer.script = NULL;
        }

        loop_linger_reset(c->io.fd);
        conn_close(c);

        /* who waited for this may have gone, too */

        c = conns;
    }
}
