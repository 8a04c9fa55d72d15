
/*
 * Copyright (C) the ngx-llm authors
 *
 * The load generator: closed loop, or a constant rate with latencies counted
 * from the time a request was due, so that a slow server cannot hide its
 * slowness by slowing the generator.
 */


#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "load.h"


#define RETRY_MS   10

/* at a rate: as many as it takes; only those needed are opened */
#define OPEN_LOOP  1024


load_options_t        load_options;

static load_conn_t   *conns;
static load_conn_t   *idle;
static int64_t        started;
static int64_t        running;
static int64_t        late;
static uint64_t       blocked;              /* no connection was free then */
static uint64_t       begin;
static uint64_t       end;
static loop_timer_t   ticker;


static void options(int argc, char **argv);
static int option_flag(load_options_t *o, const char *name);
static int option_value(load_options_t *o, const char *name,
    const char *value);
static void option_url(load_options_t *o, char *url);
static void usage(void);
static void request_make(load_options_t *o);
static void request_body(load_options_t *o, buf_t *body, size_t *unique_at);
static void tick(loop_timer_t *t);
static int all_started(uint64_t now);
static uint64_t due_at(int64_t n);


int
main(int argc, char **argv)
{
    int64_t           i;
    load_options_t   *o;

    o = &load_options;

    options(argc, argv);
    request_make(o);
    loop_init();

    conns = calloc((size_t) o->connections, sizeof(load_conn_t));
    if (conns == NULL) {
        die("out of memory");
    }

    for (i = 0; i < o->connections; i++) {
        load_conn_init(&conns[i]);
        conns[i].idle_next = idle;
        idle = &conns[i];
    }

    begin = loop_now();
    end = o->seconds > 0
          ? begin + (uint64_t) ((o->warmup + o->seconds) * 1e9) : UINT64_MAX;

    stat_start(begin + (uint64_t) (o->warmup * 1e9));

    ticker.handler = tick;
    loop_timer(&ticker, begin);
    loop_run();

    return stat_report(late);
}


/* starts whatever is due, on whatever connection is free */

static void
tick(loop_timer_t *t)
{
    uint64_t         now, due;
    load_conn_t     *c;
    load_options_t  *o;

    (void) t;

    o = &load_options;

    for ( ;; ) {
        now = loop_now();

        if (all_started(now)) {
            if (running == 0) {
                loop_stop();
            }

            return;
        }

        due = o->rate > 0 ? due_at(started) : now;

        if (due > now) {
            loop_timer(&ticker, due);
            return;
        }

        if (idle == NULL) {
            blocked = now;
            return;
        }

        c = idle;
        idle = c->idle_next;
        started++;
        running++;
        late += o->rate > 0 && due <= blocked;

        load_conn_send(c, due);
    }
}


/* at a rate all that was due before the end is sent, however late: what a slow
   server kept from being sent would be missing among the slow answers */

static int
all_started(uint64_t now)
{
    load_options_t  *o;

    o = &load_options;

    if (o->requests != 0 && started >= o->requests) {
        return 1;
    }

    return (o->rate > 0 ? due_at(started) : now) >= end;
}


static uint64_t
due_at(int64_t n)
{
    return begin + (uint64_t) ((double) n * 1e9 / load_options.rate);
}


void
load_finished(load_conn_t *c, int unreachable)
{
    uint64_t  when;

    c->idle_next = idle;
    idle = c;
    running--;

    /* a closed loop must not spin against a closed door; a timer instead of a
       call bounds the stack */

    when = unreachable && load_options.rate == 0
           ? loop_now() + RETRY_MS * LOOP_MS : 0;

    if (ticker.slot == 0 || when < ticker.when) {
        loop_timer(&ticker, when);
    }
}


static void
options(int argc, char **argv)
{
    int              i;
    char            *url;
    load_options_t  *o;

    o = &load_options;
    url = NULL;

    o->connections = -1;
    o->size = 200;
    o->status = 200;
    o->timeout_ms = 10000;
    o->method = "POST";
    o->model = "gpt-4o";

    for (i = 1; i < argc; i++) {
        if (argv[i][0] != '-') {
            url = argv[i];

        } else if (!option_flag(o, argv[i])) {
            if (i + 1 == argc || !option_value(o, argv[i], argv[i + 1])) {
                usage();
            }

            i++;
        }
    }

    if (o->connections == -1) {
        o->connections = o->rate > 0 ? OPEN_LOOP : 1;
    }

    if (url == NULL || o->connections < 1 || o->timeout_ms < 1) {
        usage();
    }

    if (o->requests == 0 && o->seconds <= 0) {
        o->seconds = 1;
    }

    option_url(o, url);
}


static int
option_flag(load_options_t *o, const char *name)
{
    if (strcmp(name, "--stream") == 0) {
        o->stream = 1;

    } else if (strcmp(name, "--unique") == 0) {
        o->unique = 1;

    } else if (strcmp(name, "--no-done") == 0) {
        o->no_done = 1;

    } else if (strcmp(name, "--close") == 0) {
        o->close = 1;

    } else {
        return 0;
    }

    return 1;
}


static int
option_value(load_options_t *o, const char *name, const char *value)
{
    size_t  i;

    const struct {
        const char   *name;
        int64_t      *number;
        double       *real;
        const char  **text;
    } table[] = {
        { "-c",        &o->connections, NULL,        NULL },
        { "-n",        &o->requests,    NULL,        NULL },
        { "--size",    &o->size,        NULL,        NULL },
        { "--status",  &o->status,      NULL,        NULL },
        { "--timeout", &o->timeout_ms,  NULL,        NULL },
        { "-r",        NULL,            &o->rate,    NULL },
        { "-d",        NULL,            &o->seconds, NULL },
        { "--warmup",  NULL,            &o->warmup,  NULL },
        { "--model",   NULL,            NULL,        &o->model },
        { "--body",    NULL,            NULL,        &o->body_file },
        { "-m",        NULL,            NULL,        &o->method },
        { "--expect",  NULL,            NULL,        &o->expect },
    };

    if (strcmp(name, "-H") == 0) {
        buf_fmt(&o->headers, "%s\r\n", value);
        return 1;
    }

    if (strcmp(name, "--over") == 0 && o->overs < OVERS) {
        o->over[o->overs] = span_int((span_t) { value, strlen(value) });
        return o->over[o->overs++] >= 0;
    }

    for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
        if (strcmp(table[i].name, name) != 0) {
            continue;
        }

        if (table[i].number != NULL) {
            *table[i].number = span_int((span_t) { value, strlen(value) });
            return *table[i].number >= 0;
        }

        if (table[i].real != NULL) {
            *table[i].real = atof(value);
            return *table[i].real >= 0;
        }

        *table[i].text = value;
        return 1;
    }

    return 0;
}


static void
option_url(load_options_t *o, char *url)
{
    char   *path;
    buf_t   where;

    memset(&where, 0, sizeof(buf_t));

    if (strncmp(url, "unix:", 5) == 0) {
        path = strchr(url + 5, ':');
        o->host = "localhost";

        if (path == NULL) {
            usage();
        }

        *path++ = '\0';
        o->where = url;
        o->path = path;
        return;
    }

    if (strncmp(url, "http://", 7) != 0) {
        usage();
    }

    url += 7;
    path = strchr(url, '/');

    buf_add(&where, url, path == NULL ? strlen(url) : (size_t) (path - url));
    buf_add(&where, "", 1);

    o->where = where.data;
    o->host = where.data;
    o->path = path == NULL ? "/" : path;
}


static void
usage(void)
{
    die("usage: load [-c CONNECTIONS] [-r RATE] [-d SECONDS] [-n REQUESTS] "
        "[--warmup SECONDS]\n"
        "            [--stream] [--size BYTES] [--model MODEL] [--unique] "
        "[--body FILE] [-m METHOD]\n"
        "            [-H HEADER]... [--status N] [--expect TEXT] [--no-done] "
        "[--close] [--timeout MS] [--over US]...\n"
        "            http://127.0.0.1:PORT/PATH | unix:SOCKET:/PATH");
}


static void
request_make(load_options_t *o)
{
    buf_t   body;
    size_t  unique_at;

    unique_at = 0;
    memset(&body, 0, sizeof(buf_t));

    if (strcmp(o->method, "GET") != 0 || o->body_file != NULL) {
        request_body(o, &body, &unique_at);
    }

    buf_fmt(&o->request, "%s %s HTTP/1.1\r\nHost: %s\r\n%.*s", o->method,
            o->path, o->host, (int) o->headers.len, o->headers.data);

    if (body.len != 0) {
        buf_fmt(&o->request, "Content-Type: application/json\r\n"
                "Content-Length: %zu\r\n", body.len);
    }

    buf_str(&o->request, o->close ? "Connection: close\r\n\r\n" : "\r\n");

    if (unique_at != 0) {
        o->unique_at = o->request.len + unique_at;
    }

    buf_add(&o->request, body.data, body.len);
    buf_free(&body);
}


/* a chat request of the size asked for, or the file */

static void
request_body(load_options_t *o, buf_t *body, size_t *unique_at)
{
    size_t       n;
    FILE        *file;

    static const char  words[] =
        "the quick brown fox jumps over the lazy dog and says \\\"hi\\\" ";

    if (o->body_file != NULL) {
        file = fopen(o->body_file, "r");
        if (file == NULL) {
            die("%s: %s", o->body_file, strerror(errno));
        }

        do {
            buf_reserve(body, 65536);
            n = fread(body->data + body->len, 1, 65536, file);
            body->len += n;
        } while (n != 0);

        fclose(file);
        return;
    }

    buf_fmt(body, "{\"model\":\"%s\",%s\"messages\":[{\"role\":\"user\","
            "\"content\":\"", o->model, o->stream ? "\"stream\":true," : "");

    if (o->unique) {
        *unique_at = body->len;
        buf_fmt(body, "%016d ", 0);
    }

    while ((int64_t) body->len + 4 + 64 < o->size) {
        buf_add(body, words, sizeof(words) - 1);
    }

    while ((int64_t) body->len + 4 < o->size) {
        buf_add(body, ".", 1);
    }

    buf_str(body, "\"}]}");
}
