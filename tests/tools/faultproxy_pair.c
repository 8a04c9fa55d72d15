
/*
 * Copyright (C) the ngx-llm authors
 */


#include <errno.h>
#include <linux/sockios.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "faultproxy.h"


#define PIPE_MAX   (1 << 20)
#define PIPE_READ  65536
#define RATE_TICK  100                  /* a hundredth of a second's bytes */


typedef struct pair_s  pair_t;

typedef struct {
    loop_io_t      io;                  /* first: the loop hands it over */
    pair_t        *pair;
} end_t;


/* bytes that came in one read */

typedef struct {
    uint64_t       arrived;
    size_t         len;
} batch_t;


typedef struct {
    pair_t        *pair;
    end_t         *from;
    end_t         *to;
    int            direction;
    unsigned       eof:1;
    unsigned       shut:1;

    buf_t          data;                /* not written yet */
    buf_t          batches;
    uint64_t       passed;              /* since "after" counts */
    uint64_t       not_before;          /* pause of slice and rate */
    loop_timer_t   timer;
} pipe_t;


struct pair_s {
    pair_t        *next;
    pair_t        *prev;
    end_t          client;
    end_t          target;
    pipe_t         pipes[2];
    unsigned       connected:1;
    unsigned       hung:1;
    unsigned       dead:1;
};


rule_t           proxy_rules[2];
proxy_stats_t    proxy_stats;
const char      *proxy_target;
int              proxy_hang;

static pair_t   *pairs;


static void pair_connect(pair_t *p);
static void pair_event(loop_io_t *io, uint32_t events);
static void pair_close(pair_t *p, int reset);
static void pair_step(pair_t *p);
static void pipe_init(pipe_t *pipe, pair_t *p, int direction);
static int pipe_read(pipe_t *pipe);
static int pipe_write(pipe_t *pipe);
static size_t pipe_allowed(pipe_t *pipe, uint64_t now);
static int pipe_after(pipe_t *pipe);
static void pipe_written(pipe_t *pipe, size_t n, uint64_t now);
static void pipe_timer(loop_timer_t *t);


void
pair_new(int fd)
{
    pair_t  *p;

    p = calloc(1, sizeof(pair_t));
    if (p == NULL) {
        die("out of memory");
    }

    p->client.pair = p;
    p->client.io.fd = fd;
    p->client.io.handler = pair_event;
    p->target.pair = p;
    p->target.io.fd = -1;
    p->target.io.handler = pair_event;

    pipe_init(&p->pipes[UP], p, UP);
    pipe_init(&p->pipes[DOWN], p, DOWN);

    p->next = pairs;
    pairs = p;

    if (p->next != NULL) {
        p->next->prev = p;
    }

    proxy_stats.accepted++;
    proxy_stats.open++;

    loop_add(&p->client.io, EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET);

    if (proxy_hang) {
        p->hung = 1;
        return;
    }

    pair_connect(p);
}


static void
pipe_init(pipe_t *pipe, pair_t *p, int direction)
{
    pipe->pair = p;
    pipe->direction = direction;
    pipe->from = direction == UP ? &p->client : &p->target;
    pipe->to = direction == UP ? &p->target : &p->client;
    pipe->timer.data = pipe;
    pipe->timer.handler = pipe_timer;
}


static void
pair_connect(pair_t *p)
{
    p->hung = 0;
    p->target.io.fd = loop_connect(proxy_target);

    if (p->target.io.fd == -1) {
        proxy_stats.refused_by_target++;
        pair_close(p, 1);
        return;
    }

    loop_add(&p->target.io, EPOLLIN|EPOLLOUT|EPOLLRDHUP|EPOLLET);
}


static void
pair_event(loop_io_t *io, uint32_t events)
{
    int         error;
    pair_t     *p;
    socklen_t   len;

    p = ((end_t *) io)->pair;

    if (p->dead) {
        return;
    }

    if (p->hung) {
        if (events & (EPOLLRDHUP|EPOLLHUP|EPOLLERR)) {
            pair_close(p, 0);
        }

        return;
    }

    if (io == &p->target.io && !p->connected) {
        error = 0;
        len = sizeof(int);
        getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &len);

        if (error != 0 || (events & EPOLLERR)) {
            proxy_stats.refused_by_target++;
            pair_close(p, 1);
            return;
        }

        p->connected = (events & EPOLLOUT) != 0;
    }

    pair_step(p);
}


/* moves what can be moved, both ways */

static void
pair_step(pair_t *p)
{
    int      i, moved;
    pipe_t  *pipe;

    if (p->dead || !p->connected) {
        return;
    }

    do {
        moved = 0;

        for (i = UP; i <= DOWN; i++) {
            pipe = &p->pipes[i];

            moved |= pipe_read(pipe);

            if (!p->dead) {
                moved |= pipe_write(pipe);
            }

            if (p->dead) {
                return;
            }
        }

    } while (moved);

    /* when both sides have gone, what is held back has no reader any more */

    if (p->pipes[UP].eof && p->pipes[DOWN].eof
        && (p->pipes[UP].data.len == 0
            || proxy_rules[UP].after == AFTER_STALL)
        && (p->pipes[DOWN].data.len == 0
            || proxy_rules[DOWN].after == AFTER_STALL))
    {
        pair_close(p, 0);
    }
}


static int
pipe_read(pipe_t *pipe)
{
    ssize_t   n;
    batch_t   batch;

    if (pipe->eof || pipe->data.len >= PIPE_MAX) {
        return 0;
    }

    buf_reserve(&pipe->data, PIPE_READ);

    n = read(pipe->from->io.fd, pipe->data.data + pipe->data.len, PIPE_READ);

    if (n == -1 && errno == EAGAIN) {
        return 0;
    }

    if (n == -1) {
        pair_close(pipe->pair, 1);
        return 0;
    }

    if (n == 0) {
        pipe->eof = 1;
        return 1;
    }

    pipe->data.len += (size_t) n;

    batch.arrived = loop_now();
    batch.len = (size_t) n;
    buf_add(&pipe->batches, &batch, sizeof(batch_t));

    return 1;
}


static int
pipe_write(pipe_t *pipe)
{
    size_t    len;
    ssize_t   n;
    uint64_t  now;

    if (pipe_after(pipe)) {
        return 0;
    }

    if (pipe->data.len == 0) {
        if (pipe->eof && !pipe->shut) {
            pipe->shut = 1;
            shutdown(pipe->to->io.fd, SHUT_WR);
        }

        return 0;
    }

    now = loop_now();
    len = pipe_allowed(pipe, now);

    if (len == 0) {
        return 0;
    }

    n = write(pipe->to->io.fd, pipe->data.data, len);

    if (n == -1) {
        if (errno != EAGAIN) {
            pair_close(pipe->pair, 1);
        }

        return 0;
    }

    pipe_written(pipe, (size_t) n, now);

    return 1;
}


/* how many bytes may go now; sets the timer for those that may go later */

static size_t
pipe_allowed(pipe_t *pipe, uint64_t now)
{
    size_t         i, n, len;
    batch_t        batch;
    uint64_t       due;
    const rule_t  *rule;

    rule = &proxy_rules[pipe->direction];

    if (pipe->not_before > now && (rule->slice != 0 || rule->rate != 0)) {
        loop_timer(&pipe->timer, pipe->not_before);
        return 0;
    }

    n = pipe->batches.len / sizeof(batch_t);
    len = 0;

    for (i = 0; i < n; i++) {
        memcpy(&batch, pipe->batches.data + i * sizeof(batch_t),
               sizeof(batch_t));
        due = batch.arrived + rule->latency_ms * LOOP_MS;

        if (due > now) {
            if (len == 0) {
                loop_timer(&pipe->timer, due);
            }

            break;
        }

        len += batch.len;
    }

    if (rule->slice != 0 && len > rule->slice) {
        len = rule->slice;
    }

    if (rule->rate != 0 && len > rule->rate / RATE_TICK + 1) {
        len = rule->rate / RATE_TICK + 1;
    }

    if (rule->after != AFTER_NOTHING
        && len > rule->after_bytes - pipe->passed)
    {
        len = rule->after_bytes - pipe->passed;
    }

    return len;
}


/* 1: the limit of "after" is reached, and nothing passes */

static int
pipe_after(pipe_t *pipe)
{
    int            unsent;
    const rule_t  *rule;

    rule = &proxy_rules[pipe->direction];

    if (rule->after == AFTER_NOTHING || pipe->passed < rule->after_bytes) {
        return 0;
    }

    if (rule->after == AFTER_STALL) {
        return 1;
    }

    /* what has passed shall arrive before the reset overtakes it */

    if (rule->after == AFTER_RST
        && ioctl(pipe->to->io.fd, SIOCOUTQ, &unsent) == 0 && unsent != 0)
    {
        loop_timer(&pipe->timer, loop_now() + LOOP_MS / 4);
        return 1;
    }

    pair_close(pipe->pair, rule->after == AFTER_RST);

    return 1;
}


static void
pipe_written(pipe_t *pipe, size_t n, uint64_t now)
{
    size_t         left;
    batch_t       *batch;
    const rule_t  *rule;

    rule = &proxy_rules[pipe->direction];

    proxy_stats.bytes[pipe->direction] += n;
    pipe->passed += n;
    buf_cut_front(&pipe->data, n);

    for (left = n; left != 0; /* void */ ) {
        batch = (batch_t *) (void *) pipe->batches.data;

        if (batch->len > left) {
            batch->len -= left;
            break;
        }

        left -= batch->len;
        buf_cut_front(&pipe->batches, sizeof(batch_t));
    }

    pipe->not_before = 0;

    if (rule->slice != 0) {
        pipe->not_before = now + rule->slice_ms * LOOP_MS + 1;
    }

    if (rule->rate != 0
        && pipe->not_before < now + n * LOOP_SEC / rule->rate)
    {
        pipe->not_before = now + n * LOOP_SEC / rule->rate;
    }
}


static void
pipe_timer(loop_timer_t *t)
{
    pipe_t  *pipe;

    pipe = t->data;
    pair_step(pipe->pair);
}


static void
pair_close(pair_t *p, int reset)
{
    if (p->dead) {
        return;
    }

    p->dead = 1;
    proxy_stats.open--;

    if (reset) {
        loop_linger_reset(p->client.io.fd);

        if (p->target.io.fd != -1) {
            loop_linger_reset(p->target.io.fd);
        }
    }

    loop_close(&p->client.io);
    loop_close(&p->target.io);

    loop_timer_del(&p->pipes[UP].timer);
    loop_timer_del(&p->pipes[DOWN].timer);

    buf_free(&p->pipes[UP].data);
    buf_free(&p->pipes[UP].batches);
    buf_free(&p->pipes[DOWN].data);
    buf_free(&p->pipes[DOWN].batches);

    if (p->prev != NULL) {
        p->prev->next = p->next;

    } else {
        pairs = p->next;
    }

    if (p->next != NULL) {
        p->next->prev = p->prev;
    }

    loop_free(p);
}


void
pairs_counted(int direction)
{
    pair_t  *p;

    for (p = pairs; p != NULL; p = p->next) {
        p->pipes[direction].passed = 0;
    }
}


void
pairs_go_on(void)
{
    pair_t  *p, *next;

    for (p = pairs; p != NULL; p = next) {
        next = p->next;

        if (p->hung && !proxy_hang) {
            pair_connect(p);

        } else {
            pair_step(p);
        }
    }
}


void
pairs_end(int reset)
{
    while (pairs != NULL) {
        pair_close(pairs, reset);
    }
}
