
/*
 * Copyright (C) the ngx-llm authors
 *
 * The fault proxy: listening and commands.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "faultproxy.h"


#define LINE_MAX  1024


typedef struct {
    loop_io_t      io;                  /* first: the loop hands it over */
    buf_t          line;
} control_t;


static loop_io_t   listening;
static char        listen_where[256];
static int         listen_on;


static void listen_start(void);
static void listen_refuse(void);
static void listen_accept(loop_io_t *io, uint32_t events);
static void control_accept(loop_io_t *io, uint32_t events);
static void control_read(loop_io_t *io, uint32_t events);
static void command(const char *line, buf_t *answer);
static void command_stats(buf_t *answer);
static int command_all(const char *name);
static int command_rule(rule_t *rule, const char *name, int n,
    const uint64_t *args);
static void start_commands(int argc, char **argv);
static void usage(void);


int
main(int argc, char **argv)
{
    int                i, port, control_port;
    const char        *where, *control_where;

    static loop_io_t   control;

    where = "0";
    control_where = "0";

    for (i = 1; i + 1 < argc; i += 2) {
        if (strcmp(argv[i], "--listen") == 0) {
            where = argv[i + 1];

        } else if (strcmp(argv[i], "--to") == 0) {
            proxy_target = argv[i + 1];

        } else if (strcmp(argv[i], "--control") == 0) {
            control_where = argv[i + 1];

        } else if (strcmp(argv[i], "--do") != 0) {
            usage();
        }
    }

    if (i != argc || proxy_target == NULL) {
        usage();
    }

    loop_init();

    listening.handler = listen_accept;
    listening.fd = loop_bind(where, &port);

    if (port != 0) {
        snprintf(listen_where, sizeof(listen_where), "127.0.0.1:%d", port);

    } else {
        snprintf(listen_where, sizeof(listen_where), "%s", where);
    }

    control.handler = control_accept;
    control.fd = loop_listen(control_where, &control_port);
    loop_add(&control, EPOLLIN);

    listen_start();
    start_commands(argc, argv);

    printf("faultproxy listening on %s control 127.0.0.1:%d\n",
           listen_where, control_port);
    fflush(stdout);

    loop_run();

    if (port == 0) {
        unlink(listen_where + 5);
    }

    return 0;
}


static void
start_commands(int argc, char **argv)
{
    int    i;
    buf_t  answer;

    memset(&answer, 0, sizeof(buf_t));

    for (i = 1; i < argc; i += 2) {
        if (strcmp(argv[i], "--do") != 0) {
            continue;
        }

        answer.len = 0;
        command(argv[i + 1], &answer);

        if (answer.len != 3 || memcmp(answer.data, "ok\n", 3) != 0) {
            die("--do %s: %.*s", argv[i + 1], (int) answer.len, answer.data);
        }
    }

    buf_free(&answer);
}


static void
usage(void)
{
    die("usage: faultproxy [--listen PORT|unix:PATH] "
        "--to 127.0.0.1:PORT|unix:PATH\n"
        "                  [--control PORT] [--do COMMAND]...");
}


static void
listen_start(void)
{
    if (listen_on) {
        return;
    }

    if (listen(listening.fd, 4096) == -1) {
        die("listen: %s", strerror(errno));
    }

    listen_on = 1;
    loop_add(&listening, EPOLLIN);
}


/* a socket that is bound and does not listen keeps the port and refuses */

static void
listen_refuse(void)
{
    int  port;

    if (listen_on) {
        listen_on = 0;
        loop_close(&listening);
        listening.fd = loop_bind(listen_where, &port);
    }
}


static void
listen_accept(loop_io_t *io, uint32_t events)
{
    int  fd;

    (void) events;

    while ((fd = loop_accept(io->fd)) != -1) {
        pair_new(fd);
    }
}


static void
control_accept(loop_io_t *io, uint32_t events)
{
    int         fd;
    control_t  *c;

    (void) events;

    fd = loop_accept(io->fd);
    if (fd == -1) {
        return;
    }

    c = calloc(1, sizeof(control_t));
    if (c == NULL) {
        die("out of memory");
    }

    c->io.fd = fd;
    c->io.handler = control_read;
    loop_add(&c->io, EPOLLIN);
}


static void
control_read(loop_io_t *io, uint32_t events)
{
    char       *lf;
    buf_t       answer;
    ssize_t     n;
    control_t  *c;

    (void) events;

    c = (control_t *) io;

    buf_reserve(&c->line, LINE_MAX);
    n = read(io->fd, c->line.data + c->line.len, LINE_MAX);

    if (n <= 0 || c->line.len > LINE_MAX) {
        loop_close(io);
        buf_free(&c->line);
        loop_free(c);
        return;
    }

    c->line.len += (size_t) n;
    memset(&answer, 0, sizeof(buf_t));

    while ((lf = memchr(c->line.data, '\n', c->line.len)) != NULL) {
        *lf = '\0';

        if (lf != c->line.data && lf[-1] == '\r') {
            lf[-1] = '\0';
        }

        command(c->line.data, &answer);
        buf_cut_front(&c->line, (size_t) (lf - c->line.data) + 1);
    }

    if (answer.len != 0 && write(io->fd, answer.data, answer.len) == -1) {
        shutdown(io->fd, SHUT_RDWR);
    }

    buf_free(&answer);
}


static void
command(const char *line, buf_t *answer)
{
    int                 n, from, to, i;
    char                name[32];
    rule_t              rules[2];
    uint64_t            args[2];
    unsigned long long  a, b;

    from = UP;
    to = DOWN;

    if (strncmp(line, "up ", 3) == 0) {
        to = UP;
        line += 3;

    } else if (strncmp(line, "down ", 5) == 0) {
        from = DOWN;
        line += 5;
    }

    a = 0;
    b = 0;
    n = sscanf(line, "%31s %llu %llu", name, &a, &b) - 1;
    args[0] = a;
    args[1] = b;

    if (n == 0 && strcmp(name, "stats") == 0) {
        command_stats(answer);
        return;
    }

    if (n == 0 && from == UP && to == DOWN && command_all(name)) {
        buf_str(answer, "ok\n");
        return;
    }

    memcpy(rules, proxy_rules, sizeof(rules));

    for (i = from; i <= to; i++) {
        if (n < 1 || !command_rule(&rules[i], name, n, args)) {
            buf_fmt(answer, "error: unknown or incomplete command \"%s\"\n",
                    line);
            return;
        }
    }

    memcpy(proxy_rules, rules, sizeof(rules));

    for (i = from; i <= to; i++) {
        if (strstr(name, "-after") != NULL) {
            pairs_counted(i);
        }
    }

    pairs_go_on();
    buf_str(answer, "ok\n");
}


static void
command_stats(buf_t *answer)
{
    const proxy_stats_t  *s;

    s = &proxy_stats;

    buf_fmt(answer, "{\"accepted\":%llu,\"open\":%llu,"
            "\"refused_by_target\":%llu,\"up_bytes\":%llu,"
            "\"down_bytes\":%llu}\n",
            (unsigned long long) s->accepted,
            (unsigned long long) s->open,
            (unsigned long long) s->refused_by_target,
            (unsigned long long) s->bytes[UP],
            (unsigned long long) s->bytes[DOWN]);
}


static int
command_all(const char *name)
{
    if (strcmp(name, "refuse") == 0) {
        listen_refuse();

    } else if (strcmp(name, "hang") == 0) {
        proxy_hang = 1;

    } else if (strcmp(name, "drop") == 0) {
        pairs_end(1);

    } else if (strcmp(name, "close") == 0) {
        pairs_end(0);

    } else if (strcmp(name, "pass") == 0) {
        memset(proxy_rules, 0, sizeof(proxy_rules));
        proxy_hang = 0;
        listen_start();
        pairs_go_on();

    } else {
        return 0;
    }

    return 1;
}


static int
command_rule(rule_t *rule, const char *name, int n, const uint64_t *args)
{
    if (strcmp(name, "slice") == 0) {
        rule->slice = args[0];
        rule->slice_ms = args[1];
        return 1;
    }

    if (n != 1) {
        return 0;
    }

    if (strcmp(name, "latency") == 0) {
        rule->latency_ms = args[0];
        return 1;
    }

    if (strcmp(name, "rate") == 0) {
        rule->rate = args[0];
        return 1;
    }

    rule->after_bytes = args[0];

    if (strcmp(name, "stall-after") == 0) {
        rule->after = AFTER_STALL;

    } else if (strcmp(name, "rst-after") == 0) {
        rule->after = AFTER_RST;

    } else if (strcmp(name, "close-after") == 0) {
        rule->after = AFTER_CLOSE;

    } else {
        return 0;
    }

    return 1;
}
