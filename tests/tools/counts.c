
/*
 * Copyright (C) the ngx-llm authors
 *
 * Linked into the nginx of util/coverage.sh.  gcc's library writes what was
 * counted when a process exits: one that is killed takes it along.  So tests
 * kill by SIGRTMIN there (TEST_LLM_KILL), which writes and then kills, and so
 * does who kills himself.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <signal.h>
#include <string.h>
#include <unistd.h>


void __gcov_dump(void);


int
raise(int signo)
{
    if (signo == SIGKILL) {
        __gcov_dump();
    }

    return kill(getpid(), signo);
}


static void
counts_handler(int signo)
{
    (void) signo;
    (void) raise(SIGKILL);
}


__attribute__((constructor))
static void
counts_init(void)
{
    struct sigaction  sa;

    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = counts_handler;
    (void) sigaction(SIGRTMIN, &sa, NULL);
}
