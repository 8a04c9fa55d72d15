
/*
 * Copyright (C) the ngx-llm authors
 *
 * Loaded into nginx by LD_PRELOAD: one allocation of a worker fails, the one
 * of the number that a test wrote into the file ALLOC_FAIL_FILE.  The file is
 * mapped by the master, so that its workers share the count; the master's own
 * allocations neither count nor fail.  Words of 64 bits:
 *
 * 0  which one is to fail, from 1 on; 0: none, they are only counted
 * 1  allocations since the test set this to 0
 * 2  those that failed
 * 3  those that were spared, since hiredis 0.14 does not survive them: it
 *    calls abort() when hi_malloc() and the like have no memory, and does not
 *    look at what redisBufferWrite() gets; and the 20 digits of a number, for
 *    want of which nginx's proxy module sends a body without its length
 *
 * What failed, and where a worker died of it, is told as addresses in
 * ALLOC_FAIL_FILE.trace, if there is one.
 */


#define _GNU_SOURCE

#include <dlfcn.h>
#include <errno.h>
#include <execinfo.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>


enum {
    WHICH = 0,
    COUNT,
    FAILED,
    SPARED
};


#define FAIL_NUMBER  20                    /* NGX_OFF_T_LEN */


static _Atomic uint64_t  *fail_word;
static int                fail_worker;
static int                fail_trace = -1;

/* what dlsym() itself asks for while the real functions are looked up */

static unsigned char      fail_first[8192] __attribute__((aligned(16)));
static size_t             fail_used;

static void            *(*real_malloc)(size_t size);
static void            *(*real_calloc)(size_t n, size_t size);
static void            *(*real_realloc)(void *p, size_t size);
static void             (*real_free)(void *p);
static int              (*real_memalign)(void **p, size_t alignment,
                                         size_t size);


static void
fail_find(void *function, const char *name)
{
    *(void **) function = dlsym(RTLD_NEXT, name);

    if (*(void **) function == NULL) {
        abort();
    }
}


/* others' constructors may allocate before ours has run */

static int
fail_ready(void)
{
    static int  looking;

    if (real_malloc != NULL) {
        return 1;
    }

    if (looking) {
        return 0;
    }

    looking = 1;

    fail_find(&real_free, "free");
    fail_find(&real_calloc, "calloc");
    fail_find(&real_realloc, "realloc");
    fail_find(&real_memalign, "posix_memalign");
    fail_find(&real_malloc, "malloc");

    return 1;
}


static void *
fail_early(size_t size)
{
    void  *p;

    size = (size + 15) & ~(size_t) 15;

    if (size > sizeof(fail_first) - fail_used) {
        abort();
    }

    p = fail_first + fail_used;
    fail_used += size;

    return p;
}


static int
fail_is_early(void *p)
{
    return (unsigned char *) p >= fail_first
           && (unsigned char *) p < fail_first + sizeof(fail_first);
}


static void
fail_tell(const char *what)
{
    int      n;
    void    *frames[40];
    ssize_t  rc;

    if (fail_trace == -1) {
        return;
    }

    rc = write(fail_trace, what, strlen(what));
    (void) rc;

    n = backtrace(frames, 40);
    backtrace_symbols_fd(frames, n, fail_trace);
}


static void
fail_died(int signo)
{
    (void) signal(signo, SIG_DFL);
    fail_tell("died\n");
    (void) raise(signo);
}


static void
fail_child(void)
{
    size_t            i;
    struct sigaction  sa;
    static const int  signals[] = { SIGSEGV, SIGBUS, SIGABRT };

    fail_worker = 1;

    /* a sanitizer tells more of it */

    for (i = 0; fail_trace != -1 && i < 3; i++) {
        if (sigaction(signals[i], NULL, &sa) == 0
            && sa.sa_handler == SIG_DFL)
        {
            (void) signal(signals[i], fail_died);
        }
    }
}


__attribute__((constructor))
static void
fail_init(void)
{
    int          fd;
    char         trace[512];
    void        *p;
    const char  *file;

    file = getenv("ALLOC_FAIL_FILE");

    fd = file != NULL ? open(file, O_RDWR|O_CLOEXEC) : -1;
    if (fd == -1) {
        return;
    }

    p = mmap(NULL, 4096, PROT_READ|PROT_WRITE, MAP_SHARED, fd, 0);
    (void) close(fd);

    if (p != MAP_FAILED && pthread_atfork(NULL, NULL, fail_child) == 0) {
        fail_word = p;
        (void) snprintf(trace, sizeof(trace), "%s.trace", file);
        fail_trace = open(trace, O_WRONLY|O_APPEND|O_CLOEXEC);

        /* its first call allocates */

        (void) backtrace(&p, 1);
    }
}


static int
fail_spare(void)
{
    int       i, n;
    void     *frames[6];
    Dl_info   info;

    n = backtrace(frames, 6);

    for (i = 0; i < n; i++) {
        if (dladdr(frames[i], &info) != 0 && info.dli_sname != NULL
            && (strncmp(info.dli_sname, "hi_", 3) == 0
                || strcmp(info.dli_sname, "redisBufferWrite") == 0))
        {
            return 1;
        }
    }

    return 0;
}


static int
fail_now(size_t size)
{
    if (!fail_worker || fail_word == NULL
        || ++fail_word[COUNT] != fail_word[WHICH])
    {
        return 0;
    }

    if (size == FAIL_NUMBER || fail_spare()) {
        fail_word[SPARED]++;
        return 0;
    }

    fail_word[FAILED]++;
    fail_tell("failed\n");
    errno = ENOMEM;

    return 1;
}


void *
malloc(size_t size)
{
    if (!fail_ready()) {
        return fail_early(size);
    }

    return fail_now(size) ? NULL : real_malloc(size);
}


void *
calloc(size_t n, size_t size)
{
    /* the early memory is zero and never used twice */

    if (!fail_ready()) {
        return fail_early(n * size);
    }

    return fail_now(n * size) ? NULL : real_calloc(n, size);
}


void *
realloc(void *p, size_t size)
{
    void    *to;
    size_t   room;

    if (fail_is_early(p) || !fail_ready()) {
        to = malloc(size);

        if (to != NULL && p != NULL) {
            room = (size_t) (fail_first + sizeof(fail_first)
                             - (unsigned char *) p);
            memcpy(to, p, size < room ? size : room);
        }

        return to;
    }

    return fail_now(size) ? NULL : real_realloc(p, size);
}


int
posix_memalign(void **p, size_t alignment, size_t size)
{
    if (!fail_ready() || fail_now(size)) {
        return ENOMEM;
    }

    return real_memalign(p, alignment, size);
}


void
free(void *p)
{
    if (fail_is_early(p) || !fail_ready()) {
        return;
    }

    real_free(p);
}
