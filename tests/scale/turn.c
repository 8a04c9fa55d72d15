
/*
 * Copyright (C) the ngx-llm authors
 *
 * Loaded into nginx by LD_PRELOAD: how long the turns of each worker's event
 * loop take.  A turn is what is done between one wait for events and the
 * next; its own time of the processor is told apart from time gone by, since
 * on a busy machine a worker waits for its turn like everybody else.  Each
 * process has a file in TURN_DIR, of words of 64 bits; whoever looks on may
 * set them to 0.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>


enum {
    TURNS = 0,
    LONGEST,                               /* ns of the processor */
    LONGEST_WALL,                          /* ns */
    LONG,                                  /* turns above 5 ms … */
    LONG_WALL,
    WORDS
};


typedef int (*wait_pt)(int, struct epoll_event *, int, int);


static char                 turn_dir[512];
static volatile uint64_t   *turn_word;
static pid_t                turn_pid;
static uint64_t             turn_cpu;
static uint64_t             turn_wall;


static uint64_t
turn_ns(clockid_t id)
{
    struct timespec  ts;

    (void) clock_gettime(id, &ts);

    return (uint64_t) ts.tv_sec * 1000000000 + (uint64_t) ts.tv_nsec;
}


__attribute__((constructor))
static void
turn_init(void)
{
    const char  *dir;

    dir = getenv("TURN_DIR");

    (void) snprintf(turn_dir, sizeof(turn_dir), "%s", dir ? dir : "");
}


static void
turn_open(void)
{
    int    fd;
    char   path[600];
    void  *p;

    turn_pid = getpid();
    turn_word = NULL;

    (void) snprintf(path, sizeof(path), "%s/turn.%d", turn_dir,
                    (int) turn_pid);

    fd = turn_dir[0] ? open(path, O_RDWR|O_CREAT|O_CLOEXEC, 0666) : -1;
    if (fd == -1) {
        return;
    }

    if (ftruncate(fd, 4096) == 0) {
        p = mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
        turn_word = p == MAP_FAILED ? NULL : p;
    }

    (void) close(fd);
}


static void
turn_note(void)
{
    uint64_t  cpu, wall;

    cpu = turn_ns(CLOCK_THREAD_CPUTIME_ID) - turn_cpu;
    wall = turn_ns(CLOCK_MONOTONIC) - turn_wall;

    turn_word[TURNS]++;
    turn_word[LONG] += cpu > 5000000;
    turn_word[LONG_WALL] += wall > 5000000;

    if (cpu > turn_word[LONGEST]) {
        turn_word[LONGEST] = cpu;
    }

    if (wall > turn_word[LONGEST_WALL]) {
        turn_word[LONGEST_WALL] = wall;
    }
}


int
epoll_wait(int ep, struct epoll_event *events, int max, int timeout)
{
    int              n;
    static wait_pt   real;

    if (real == NULL) {
        *(void **) &real = dlsym(RTLD_NEXT, "epoll_wait");
    }

    if (turn_pid != getpid()) {
        turn_open();

    } else if (turn_word != NULL) {
        turn_note();
    }

    n = real(ep, events, max, timeout);

    if (turn_word != NULL) {
        turn_wall = turn_ns(CLOCK_MONOTONIC);
        turn_cpu = turn_ns(CLOCK_THREAD_CPUTIME_ID);
    }

    return n;
}
