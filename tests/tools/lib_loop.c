
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "lib_loop.h"


#define LOOP_EVENTS  512


typedef union {
    struct sockaddr      any;
    struct sockaddr_in   in;
    struct sockaddr_un   un;
} loop_addr_t;


static int            loop_epoll;
static int            loop_ended;
static loop_io_t      loop_signals;

static loop_timer_t **loop_heap;
static size_t         loop_timers;
static size_t         loop_heap_size;

static void         **loop_garbage;
static size_t         loop_garbage_n;
static size_t         loop_garbage_size;


static void loop_signal(loop_io_t *io, uint32_t events);
static void loop_run_timers(void);
static void loop_sift(size_t slot);
static void loop_place(size_t slot, loop_timer_t *t);
static socklen_t loop_address(const char *where, loop_addr_t *addr);


void
loop_init(void)
{
    sigset_t       set;
    struct rlimit  limit;

    signal(SIGPIPE, SIG_IGN);
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigprocmask(SIG_BLOCK, &set, NULL);

    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_TIMERSLACK, 1000);

    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }

    loop_epoll = epoll_create1(EPOLL_CLOEXEC);
    if (loop_epoll == -1) {
        die("epoll_create1: %s", strerror(errno));
    }

    /* a descriptor, as a signal mask of the wait starves under load */
    loop_signals.fd = signalfd(-1, &set, SFD_NONBLOCK|SFD_CLOEXEC);
    loop_signals.handler = loop_signal;

    if (loop_signals.fd == -1) {
        die("signalfd: %s", strerror(errno));
    }

    loop_add(&loop_signals, EPOLLIN);
}


static void
loop_signal(loop_io_t *io, uint32_t events)
{
    (void) io;
    (void) events;

    loop_ended = 1;
}


void
loop_stop(void)
{
    loop_ended = 1;
}


void
loop_run(void)
{
    int                  i, n;
    uint64_t             now, wait;
    loop_io_t           *io;
    struct timespec      ts, *timeout;
    struct epoll_event   events[LOOP_EVENTS];

    while (!loop_ended) {
        timeout = NULL;

        if (loop_timers != 0) {
            now = loop_now();
            wait = loop_heap[1]->when > now ? loop_heap[1]->when - now : 0;
            ts.tv_sec = (time_t) (wait / LOOP_SEC);
            ts.tv_nsec = (long) (wait % LOOP_SEC);
            timeout = &ts;
        }

        n = epoll_pwait2(loop_epoll, events, LOOP_EVENTS, timeout, NULL);

        if (n == -1 && errno == ENOSYS) {
            n = epoll_wait(loop_epoll, events, LOOP_EVENTS,
                           timeout == NULL ? -1
                           : (int) (ts.tv_sec * 1000 + ts.tv_nsec / 1000000
                                    + (ts.tv_nsec != 0)));
        }

        for (i = 0; i < n; i++) {
            io = events[i].data.ptr;

            if (io->fd != -1) {
                io->handler(io, events[i].events);
            }
        }

        loop_run_timers();

        while (loop_garbage_n != 0) {
            free(loop_garbage[--loop_garbage_n]);
        }
    }
}


uint64_t
loop_now(void)
{
    struct timespec  ts;

    clock_gettime(CLOCK_MONOTONIC, &ts);

    return (uint64_t) ts.tv_sec * LOOP_SEC + (uint64_t) ts.tv_nsec;
}


void
loop_add(loop_io_t *io, uint32_t events)
{
    struct epoll_event  ev;

    memset(&ev, 0, sizeof(struct epoll_event));
    ev.events = events;
    ev.data.ptr = io;

    if (epoll_ctl(loop_epoll, EPOLL_CTL_ADD, io->fd, &ev) == -1) {
        die("epoll_ctl: %s", strerror(errno));
    }
}


void
loop_change(loop_io_t *io, uint32_t events)
{
    struct epoll_event  ev;

    memset(&ev, 0, sizeof(struct epoll_event));
    ev.events = events;
    ev.data.ptr = io;

    if (epoll_ctl(loop_epoll, EPOLL_CTL_MOD, io->fd, &ev) == -1) {
        die("epoll_ctl: %s", strerror(errno));
    }
}


void
loop_close(loop_io_t *io)
{
    if (io->fd != -1) {
        close(io->fd);
        io->fd = -1;
    }
}


void
loop_free(void *p)
{
    if (loop_garbage_n == loop_garbage_size) {
        loop_garbage_size = loop_garbage_size * 2 + 64;
        loop_garbage = realloc(loop_garbage,
                               loop_garbage_size * sizeof(void *));
        if (loop_garbage == NULL) {
            die("out of memory");
        }
    }

    loop_garbage[loop_garbage_n++] = p;
}


void
loop_timer(loop_timer_t *t, uint64_t when)
{
    loop_timer_del(t);

    if (loop_timers + 2 > loop_heap_size) {
        loop_heap_size = loop_heap_size * 2 + 64;
        loop_heap = realloc(loop_heap, loop_heap_size * sizeof(*loop_heap));
        if (loop_heap == NULL) {
            die("out of memory");
        }
    }

    t->when = when;
    loop_place(++loop_timers, t);
    loop_sift(loop_timers);
}


void
loop_timer_del(loop_timer_t *t)
{
    size_t         slot;
    loop_timer_t  *last;

    slot = t->slot;
    if (slot == 0) {
        return;
    }

    t->slot = 0;
    last = loop_heap[loop_timers--];

    if (last != t) {
        loop_place(slot, last);
        loop_sift(slot);
    }
}


static void
loop_run_timers(void)
{
    uint64_t       now;
    loop_timer_t  *t;

    if (loop_timers == 0) {
        return;
    }

    /* one reading: a timer set to "now" by a handler waits for the next turn,
       so that sockets have theirs */

    now = loop_now();

    while (loop_timers != 0 && loop_heap[1]->when <= now && !loop_ended) {
        t = loop_heap[1];
        loop_timer_del(t);
        t->handler(t);
    }
}


static void
loop_sift(size_t slot)
{
    size_t         child;
    loop_timer_t  *t;

    t = loop_heap[slot];

    while (slot > 1 && loop_heap[slot / 2]->when > t->when) {
        loop_place(slot, loop_heap[slot / 2]);
        slot /= 2;
    }

    for ( ;; ) {
        child = slot * 2;

        if (child > loop_timers) {
            break;
        }

        if (child < loop_timers
            && loop_heap[child + 1]->when < loop_heap[child]->when)
        {
            child++;
        }

        if (loop_heap[child]->when >= t->when) {
            break;
        }

        loop_place(slot, loop_heap[child]);
        slot = child;
    }

    loop_place(slot, t);
}


static void
loop_place(size_t slot, loop_timer_t *t)
{
    loop_heap[slot] = t;
    t->slot = slot;
}


static socklen_t
loop_address(const char *where, loop_addr_t *addr)
{
    const char  *port;

    memset(addr, 0, sizeof(loop_addr_t));

    if (strncmp(where, "unix:", 5) == 0) {
        if (strlen(where + 5) >= sizeof(addr->un.sun_path)) {
            die("too long a path: %s", where);
        }

        addr->un.sun_family = AF_UNIX;
        strcpy(addr->un.sun_path, where + 5);

        return sizeof(struct sockaddr_un);
    }

    port = strrchr(where, ':');
    port = port == NULL ? where : port + 1;

    if (*port < '0' || *port > '9' || atoi(port) > 65535
        || (port != where && strncmp(where, "127.0.0.1:", 10) != 0
            && strncmp(where, "localhost:", 10) != 0))
    {
        die("expected PORT, 127.0.0.1:PORT or unix:PATH, got \"%s\"", where);
    }

    addr->in.sin_family = AF_INET;
    addr->in.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    addr->in.sin_port = htons((uint16_t) atoi(port));

    return sizeof(struct sockaddr_in);
}


int
loop_listen(const char *where, int *port)
{
    int  fd;

    fd = loop_bind(where, port);

    if (listen(fd, 4096) == -1) {
        die("listen on %s: %s", where, strerror(errno));
    }

    return fd;
}


int
loop_bind(const char *where, int *port)
{
    int          fd, on;
    socklen_t    len;
    loop_addr_t  addr;

    len = loop_address(where, &addr);

    if (addr.any.sa_family == AF_UNIX) {
        unlink(addr.un.sun_path);
    }

    on = 1;
    fd = socket(addr.any.sa_family, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);

    if (fd == -1
        || setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(int)) == -1
        || bind(fd, &addr.any, len) == -1
        || getsockname(fd, &addr.any, &len) == -1)
    {
        die("bind to %s: %s", where, strerror(errno));
    }

    /* a worker of nginx is somebody else */

    if (addr.any.sa_family == AF_UNIX && chmod(addr.un.sun_path, 0777) == -1) {
        die("chmod %s: %s", where, strerror(errno));
    }

    *port = addr.any.sa_family == AF_INET ? ntohs(addr.in.sin_port) : 0;

    return fd;
}


int
loop_connect(const char *where)
{
    int          fd, on;
    socklen_t    len;
    loop_addr_t  addr;

    len = loop_address(where, &addr);
    fd = socket(addr.any.sa_family, SOCK_STREAM|SOCK_NONBLOCK|SOCK_CLOEXEC, 0);

    if (fd == -1) {
        return -1;
    }

    on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int));

    if (connect(fd, &addr.any, len) == -1 && errno != EINPROGRESS) {
        close(fd);
        return -1;
    }

    return fd;
}


int
loop_accept(int fd)
{
    int  on, s;

    s = accept4(fd, NULL, NULL, SOCK_NONBLOCK|SOCK_CLOEXEC);

    if (s != -1) {
        on = 1;
        setsockopt(s, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(int));
    }

    return s;
}


void
loop_linger_reset(int fd)
{
    struct linger  linger;

    linger.l_onoff = 1;
    linger.l_linger = 0;

    setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(struct linger));
}
