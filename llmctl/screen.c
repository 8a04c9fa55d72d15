
/*
 * Copyright (C) the ngx-llm authors
 *
 * The terminal of the live view.  It is given back as it was found whenever
 * the program ends or is stopped: a handler does no more than write() and
 * tcsetattr(), which a handler may.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>


/* the other screen, no cursor, no line wrap; and all of it back */
#define SCREEN_ENTER  "\033[?1049h\033[?25l\033[?7l\033[2J"
#define SCREEN_LEAVE  "\033[?7h\033[?25h\033[?1049l"


static struct termios         screen_old;
static int                    screen_keys;      /* stdin is a terminal */
static volatile sig_atomic_t  screen_is_open;
static volatile sig_atomic_t  screen_resized;
static int                    screen_quit;


static void screen_enter(void);
static void screen_leave(void);
static void screen_say(const char *s, size_t len);
static void screen_fatal(int signo);
static void screen_stop(int signo);
static void screen_resize(int signo);
static void screen_key(void);


static const int  screen_signals[] = {
    SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGPIPE, SIGABRT, SIGSEGV, SIGBUS,
    SIGFPE, SIGILL, 0
};


int
screen_open(void)
{
    int               i;
    struct sigaction  sa;

    screen_keys = isatty(STDIN_FILENO)
                  && tcgetattr(STDIN_FILENO, &screen_old) == 0;

    memset(&sa, 0, sizeof(sa));
    sigfillset(&sa.sa_mask);
    sa.sa_handler = screen_fatal;
    sa.sa_flags = SA_RESETHAND;

    for (i = 0; screen_signals[i] != 0; i++) {
        sigaction(screen_signals[i], &sa, NULL);
    }

    /* the handler itself stops: nothing of it may be masked */

    sigemptyset(&sa.sa_mask);
    sa.sa_flags = SA_NODEFER;
    sa.sa_handler = screen_stop;
    sigaction(SIGTSTP, &sa, NULL);

    sa.sa_flags = 0;
    sa.sa_handler = screen_resize;
    sigaction(SIGWINCH, &sa, NULL);

    atexit(screen_close);
    screen_enter();

    return CTL_OK;
}


void
screen_close(void)
{
    sigset_t  all, old;

    sigfillset(&all);
    sigprocmask(SIG_BLOCK, &all, &old);
    screen_leave();
    sigprocmask(SIG_SETMASK, &old, NULL);
}


static void
screen_enter(void)
{
    struct termios  raw;

    if (screen_keys) {
        raw = screen_old;
        raw.c_lflag &= ~(tcflag_t) (ICANON|ECHO);
        raw.c_cc[VMIN] = 0;
        raw.c_cc[VTIME] = 0;
        tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
    }

    screen_is_open = 1;
    screen_say(SCREEN_ENTER, sizeof(SCREEN_ENTER) - 1);
}


static void
screen_leave(void)
{
    if (!screen_is_open) {
        return;
    }

    screen_is_open = 0;
    screen_say(SCREEN_LEAVE, sizeof(SCREEN_LEAVE) - 1);

    if (screen_keys) {
        tcsetattr(STDIN_FILENO, TCSANOW, &screen_old);
    }
}


static void
screen_say(const char *s, size_t len)
{
    ssize_t  n;

    while (len != 0) {
        n = write(STDOUT_FILENO, s, len);

        if (n == -1 && errno == EINTR) {
            continue;
        }

        if (n <= 0) {
            return;
        }

        s += n;
        len -= (size_t) n;
    }
}


/* the terminal first, then what the signal would have done */

static void
screen_fatal(int signo)
{
    sigset_t  one;

    screen_leave();
    raise(signo);

    sigemptyset(&one);
    sigaddset(&one, signo);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
}


static void
screen_stop(int signo)
{
    int               err;
    struct sigaction  sa, old;

    err = errno;
    screen_leave();

    memset(&sa, 0, sizeof(sa));
    sa.sa_handler = SIG_DFL;
    sigaction(signo, &sa, &old);
    raise(signo);

    /* it goes on */

    sigaction(signo, &old, NULL);
    screen_enter();
    screen_resized = 1;
    errno = err;
}


static void
screen_resize(int signo)
{
    (void) signo;

    screen_resized = 1;
}


void
screen_size(int *columns, int *lines)
{
    struct winsize  ws;

    *columns = 80;
    *lines = 24;

    if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &ws) == 0 && ws.ws_col != 0
        && ws.ws_row != 0)
    {
        *columns = ws.ws_col;
        *lines = ws.ws_row;
    }
}


/*
 * The new picture is written over the old one in one piece and each line
 * clears what the old one had behind it: nothing is ever blank in between.
 */

void
screen_draw(const text_t *picture)
{
    int          lines, columns, n;
    text_t       out;
    const char  *s, *end;

    screen_size(&columns, &lines);
    memset(&out, 0, sizeof(out));
    text_add(&out, "\033[H");

    for (n = 0, s = picture->data; *s != '\0' && n < lines; n++) {
        end = strchr(s, '\n');
        end = end != NULL ? end : s + strlen(s);

        text_add(&out, n == 0 ? "" : "\r\n");
        text_bytes(&out, s, (size_t) (end - s));
        text_add(&out, "\033[K");

        s = *end == '\n' ? end + 1 : end;
    }

    text_add(&out, n < lines ? "\r\n\033[J" : "");
    screen_say(out.data, out.len);
    text_free(&out);
}


int
screen_wait(int64_t ms)
{
    int              rc;
    int64_t          until, now;
    sigset_t         mask, old;
    struct timespec  ts;
    struct pollfd    pfd;

    clock_gettime(CLOCK_MONOTONIC, &ts);
    until = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000 + ms;

    /* a resize between the look at its flag and ppoll() would be missed */

    sigemptyset(&mask);
    sigaddset(&mask, SIGWINCH);
    sigprocmask(SIG_BLOCK, &mask, &old);

    for ( /* void */ ; !screen_quit && !screen_resized; /* void */) {

        clock_gettime(CLOCK_MONOTONIC, &ts);
        now = (int64_t) ts.tv_sec * 1000 + ts.tv_nsec / 1000000;

        if (now >= until) {
            break;
        }

        ts.tv_sec = (time_t) ((until - now) / 1000);
        ts.tv_nsec = (long) ((until - now) % 1000 * 1000000);

        pfd.fd = screen_keys ? STDIN_FILENO : -1;
        pfd.events = POLLIN;
        pfd.revents = 0;

        if (ppoll(&pfd, 1, &ts, &old) == 1) {
            screen_key();
        }
    }

    rc = screen_quit ? 'q' : screen_resized ? 'r' : 0;
    screen_resized = 0;
    sigprocmask(SIG_SETMASK, &old, NULL);

    return rc;
}


/* the end of the terminal is an end, too */

static void
screen_key(void)
{
    char     buf[64];
    ssize_t  i, n;

    n = read(STDIN_FILENO, buf, sizeof(buf));

    if (n == 0 || (n == -1 && errno != EINTR && errno != EAGAIN)) {
        screen_quit = 1;
    }

    for (i = 0; i < n; i++) {
        if (buf[i] == 'q' || buf[i] == 'Q') {
            screen_quit = 1;
        }
    }
}


int
screen_quits(void)
{
    struct pollfd  pfd;

    pfd.fd = screen_keys ? STDIN_FILENO : -1;
    pfd.events = POLLIN;
    pfd.revents = 0;

    if (!screen_quit && screen_is_open && poll(&pfd, 1, 0) == 1) {
        screen_key();
    }

    return screen_quit;
}
