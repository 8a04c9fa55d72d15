
/*
 * Copyright (C) the ngx-llm authors
 *
 * The endpoints below /__mock/: script, reset, stats, wait, journal, sent,
 * listen.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <string.h>

#include "mock.h"


/* the conditions of a wait, in the order of wait_for */
enum {
    WAIT_REQUESTS, WAIT_CLIENT_CLOSED, WAIT_DONE, WAIT_CUT, WAIT_BROKEN,
    WAIT_IN_FLIGHT, WAIT_CONNECTIONS, WAIT_MIN_IN_FLIGHT, WAIT_LIMITED,
    WAIT_TLS_FAILED
};

static const char *const  wait_names[MOCK_WAITS] = {
    "requests", "client_closed", "done", "cut", "broken", "in_flight",
    "connections", "min_in_flight", "limited", "tls_failed"
};


static conn_t  *waiting;


static void control_script(conn_t *c, buf_t *out);
static void control_listen(conn_t *c, buf_t *out);
static void control_stats(buf_t *out);
static int control_wait(conn_t *c, buf_t *out);
static int control_holds(const conn_t *c);
static void control_timeout(loop_timer_t *t);
static void control_sent(conn_t *c, buf_t *out);
static int64_t control_arg(const request_t *r, const char *name,
    int64_t otherwise);
static int control_known_args(const request_t *r, buf_t *out);
static void control_bad(conn_t *c, buf_t *out, const char *message);


int
control_is(const request_t *r)
{
    return r->path.len > 8 && memcmp(r->path.data, "/__mock/", 8) == 0;
}


void
control_start(conn_t *c)
{
    span_t   path;
    buf_t    out;

    memset(&out, 0, sizeof(buf_t));

    path = control_is(&c->request) ? c->request.path : span("/__mock/");
    path.data += 8;
    path.len -= 8;

    c->control = 1;

    if (span_is(path, "script") && span_is(c->head.method, "POST")) {
        control_script(c, &out);

    } else if (span_is(path, "listen") && span_is(c->head.method, "POST")) {
        control_listen(c, &out);

    } else if (span_is(path, "reset")) {
        script_restart(mock_script);
        journal_reset();
        control_stats(&out);
        send_plain(c, 200, "application/json", &out);

    } else if (span_is(path, "stats")) {
        control_stats(&out);
        send_plain(c, 200, "application/json", &out);

    } else if (span_is(path, "journal")) {
        journal_json(&out, control_arg(&c->request, "from", 0),
                     control_arg(&c->request, "limit", INT64_MAX));
        send_plain(c, 200, "application/json", &out);

    } else if (span_is(path, "sent")) {
        control_sent(c, &out);

    } else if (!span_is(path, "wait")) {
        control_bad(c, &out, "there is no such control endpoint");

    } else if (!control_known_args(&c->request, &out)) {
        send_plain(c, 400, "application/json", &out);

    } else if (control_wait(c, &out)) {
        send_plain(c, 200, "application/json", &out);
    }

    buf_free(&out);
}


static void
control_script(conn_t *c, buf_t *out)
{
    buf_t      error;
    script_t  *s;

    memset(&error, 0, sizeof(buf_t));

    s = script_parse(c->request.body, &error);

    if (s == NULL) {
        buf_add(&error, "", 1);
        control_bad(c, out, error.data);
        buf_free(&error);
        return;
    }

    script_release(mock_script);
    mock_script = s;
    journal_reset();

    buf_fmt(out, "{\"rules\":%zu}\n", s->n);
    send_plain(c, 200, "application/json", out);
}


static void
control_listen(conn_t *c, buf_t *out)
{
    span_t  what;

    if (!json_valid(c->request.body, &what)
        || listen_change(c, what, out) != 0)
    {
        out->len = 0;
        control_bad(c, out, "expected an object with booleans \"open\", "
                    "\"accept\", \"drop\" and a number \"backlog\"");
        return;
    }

    send_plain(c, 200, "application/json", out);
}


static void
control_stats(buf_t *out)
{
    const stats_t  *s;

    s = &mock_stats;

    buf_fmt(out, "{\"requests\":%lld,\"in_flight\":%lld,"
            "\"max_in_flight\":%lld,\"client_closed\":%lld,\"done\":%lld,"
            "\"cut\":%lld,\"broken\":%lld,\"connections\":%lld,"
            "\"accepted\":%lld,",
            (long long) s->requests, (long long) s->in_flight,
            (long long) s->max_in_flight, (long long) s->client_closed,
            (long long) s->done, (long long) s->cut, (long long) s->broken,
            (long long) s->connections, (long long) s->accepted);

    buf_fmt(out, "\"prompt_tokens\":%lld,\"completion_tokens\":%lld,"
            "\"cached_tokens\":%lld,\"streamed_pieces\":%lld,"
            "\"limited\":%lld,\"tls_failed\":%lld,\"batches\":%lld,"
            "\"batch_lines\":%lld,",
            (long long) s->prompt_tokens, (long long) s->completion_tokens,
            (long long) s->cached_tokens, (long long) s->streamed_pieces,
            (long long) s->limited, (long long) s->tls_failed,
            (long long) s->batches, (long long) s->batch_lines);

    limit_left(mock_script, out);
    buf_str(out, "}\n");
}


/* 1: the conditions hold already */

static int
control_wait(conn_t *c, buf_t *out)
{
    size_t  i;

    for (i = 0; i < MOCK_WAITS; i++) {
        c->wait_for[i] = control_arg(&c->request, wait_names[i], -1);
    }

    if (control_holds(c)) {
        control_stats(out);
        return 1;
    }

    c->state = CONN_WAIT;
    c->wait_next = waiting;
    waiting = c;

    c->timer.data = c;
    c->timer.handler = control_timeout;
    loop_timer(&c->timer, loop_now() + LOOP_MS
               * (uint64_t) control_arg(&c->request, "timeout_ms", 5000));

    return 0;
}


static int
control_holds(const conn_t *c)
{
    size_t          i;
    const stats_t  *s;

    s = &mock_stats;

    const int64_t  now[] = {
        s->requests, s->client_closed, s->done, s->cut, s->broken,
        s->in_flight, s->connections, s->in_flight, s->limited,
        s->tls_failed
    };

    for (i = 0; i < MOCK_WAITS; i++) {
        if (c->wait_for[i] == -1) {
            continue;
        }

        if (now[i] < c->wait_for[i]
            || ((i == WAIT_IN_FLIGHT || i == WAIT_CONNECTIONS)
                && now[i] != c->wait_for[i]))
        {
            return 0;
        }
    }

    return 1;
}


/* a number has changed: answers those who waited for this */

void
control_wake(void)
{
    buf_t    out;
    conn_t  *c;

    if (waiting == NULL) {
        return;
    }

    memset(&out, 0, sizeof(buf_t));

    for (c = waiting; c != NULL; /* void */ ) {
        if (!control_holds(c)) {
            c = c->wait_next;
            continue;
        }

        control_forget(c);

        out.len = 0;
        control_stats(&out);
        send_plain(c, 200, "application/json", &out);
        conn_next(c);

        c = waiting;
    }

    buf_free(&out);
}


void
control_forget(conn_t *c)
{
    conn_t  **link;

    for (link = &waiting; *link != NULL; link = &(*link)->wait_next) {
        if (*link == c) {
            *link = c->wait_next;
            break;
        }
    }

    loop_timer_del(&c->timer);
    c->state = CONN_ANSWER;
}


static void
control_timeout(loop_timer_t *t)
{
    buf_t    out;
    conn_t  *c;

    c = t->data;

    memset(&out, 0, sizeof(buf_t));

    control_forget(c);
    control_stats(&out);
    send_plain(c, 408, "application/json", &out);
    buf_free(&out);

    conn_next(c);
}


static void
control_sent(conn_t *c, buf_t *out)
{
    if (!journal_sent(control_arg(&c->request, "index", 0), out)) {
        control_bad(c, out, "no such index, or its body was not kept");
        return;
    }

    send_plain(c, 200, "application/octet-stream", out);
}


static int64_t
control_arg(const request_t *r, const char *name, int64_t otherwise)
{
    size_t       len;
    span_t       value;
    const char  *p, *end, *last;

    len = strlen(name);
    p = r->query.data;
    end = r->query.data + r->query.len;

    while (p < end) {
        last = memchr(p, '&', (size_t) (end - p));
        last = last == NULL ? end : last;

        if ((size_t) (last - p) > len && p[len] == '='
            && memcmp(p, name, len) == 0)
        {
            value.data = p + len + 1;
            value.len = (size_t) (last - value.data);

            return json_int(value, otherwise);
        }

        p = last + 1;
    }

    return otherwise;
}


/* a misspelt condition would hold at once and prove nothing */

static int
control_known_args(const request_t *r, buf_t *out)
{
    size_t       i, len;
    const char  *p, *end, *last, *eq;

    p = r->query.data;
    end = r->query.data + r->query.len;

    while (p < end) {
        last = memchr(p, '&', (size_t) (end - p));
        last = last == NULL ? end : last;

        eq = memchr(p, '=', (size_t) (last - p));
        eq = eq == NULL ? p : eq;
        len = (size_t) (eq - p);

        for (i = 0; i < MOCK_WAITS; i++) {
            if (strlen(wait_names[i]) == len
                && memcmp(wait_names[i], p, len) == 0)
            {
                break;
            }
        }

        if ((i == MOCK_WAITS && !span_is(((span_t) { p, len }), "timeout_ms"))
            || span_int((span_t) { eq + 1, (size_t) (last - eq - 1) }) < 0)
        {
            buf_str(out, "{\"error\":\"unknown or wrong condition\"}\n");
            return 0;
        }

        p = last + 1;
    }

    return r->query.len != 0;
}


static void
control_bad(conn_t *c, buf_t *out, const char *message)
{
    buf_str(out, "{\"error\":");
    buf_json(out, message, strlen(message));
    buf_str(out, "}\n");

    send_plain(c, control_is(&c->request)
                  && (span_ends(c->request.path, span("/script"))
                      || span_ends(c->request.path, span("/listen")))
                  ? 400 : 404,
               "application/json", out);
}
