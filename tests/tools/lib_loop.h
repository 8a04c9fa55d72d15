
/*
 * Copyright (C) the ngx-llm authors
 *
 * The event loop of the test tools: edge-triggered epoll, a heap of timers
 * with nanoseconds, sockets.  One loop per process.
 */


#ifndef _LIB_LOOP_H_INCLUDED_
#define _LIB_LOOP_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>

#include "lib_buf.h"


#define LOOP_MS   ((uint64_t) 1000000)
#define LOOP_SEC  ((uint64_t) 1000000000)


typedef struct loop_io_s     loop_io_t;
typedef struct loop_timer_s  loop_timer_t;


struct loop_io_s {
    int            fd;
    void         (*handler)(loop_io_t *io, uint32_t events);
};


struct loop_timer_s {
    uint64_t       when;
    size_t         slot;        /* 0: not set */
    void          *data;
    void         (*handler)(loop_timer_t *t);
};


/* signals, file limit, death with the parent */
void      loop_init(void);

/* until loop_stop() or a signal */
void      loop_run(void);
void      loop_stop(void);

uint64_t  loop_now(void);

void      loop_add(loop_io_t *io, uint32_t events);
void      loop_change(loop_io_t *io, uint32_t events);

/* closes the socket; the memory must last until loop_free() frees it */
void      loop_close(loop_io_t *io);

/* frees when no event of this turn can point there any more */
void      loop_free(void *p);

void      loop_timer(loop_timer_t *t, uint64_t when);
void      loop_timer_del(loop_timer_t *t);

/* "PORT", "127.0.0.1:PORT" or "unix:PATH" */
int       loop_bind(const char *where, int *port);
int       loop_listen(const char *where, int *port);
int       loop_connect(const char *where);

/* -1: none for now */
int       loop_accept(int fd);

/* the next close resets the connection */
void      loop_linger_reset(int fd);


#endif /* _LIB_LOOP_H_INCLUDED_ */
