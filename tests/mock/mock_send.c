
/*
 * Copyright (C) the ngx-llm authors
 *
 * Sends an answer: head, framing, delays, pace, slices, and the ways to break
 * off.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <errno.h>
#include <linux/sockios.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mock.h"


#define SEND_HIGH      65536


static int send_drain(conn_t *c);
static void send_timer(conn_t *c, uint64_t when);
static void send_timer_handler(loop_timer_t *t);
static int send_start(conn_t *c);
static int64_t send_delay(const action_t *act);
static int send_after_head(conn_t *c);
static int send_unit(conn_t *c);
static void send_body(conn_t *c, const char *data, size_t len);
static void send_cut(conn_t *c);
static void send_header(buf_t *out, const action_t *act, const char *name,
    const char *value);
static void send_length(conn_t *c);
static const char *send_reason(int64_t status);


/* goes on from wherever it stopped until it must wait or has ended */

void
send_step(conn_t *c)
{
    int        rc;
    answer_t  *a;

    a = &c->answer;

    if (c->timer.slot != 0) {
        return;
    }

    do {
        rc = 1;

        switch (a->phase) {

        case PHASE_START:
            rc = send_start(c);
            break;

        case PHASE_HEAD:
            rc = send_after_head(c);
            break;

        case PHASE_BODY:
            rc = send_unit(c);
            break;

        case PHASE_END:
            if (a->framing == FRAMING_CHUNKED) {
                buf_str(&c->out, "0\r\n\r\n");
            }

            a->phase = PHASE_FLUSH;
            break;

        case PHASE_FLUSH:
            rc = send_drain(c);

            if (rc) {
                conn_answered(c);
                return;
            }

            break;

        case PHASE_CUT:
            send_cut(c);
            return;
        }

    } while (rc);
}


/* 1: all is written; else the socket, a timer or death has the next word */

static int
send_drain(conn_t *c)
{
    size_t           len;
    ssize_t          n;
    const action_t  *act;

    act = &c->answer.act;

    while (c->out_pos < c->out.len) {
        len = c->out.len - c->out_pos;

        if (!c->control && act->slice > 0 && len > (size_t) act->slice) {
            len = (size_t) act->slice;
        }

        n = conn_write(c, c->out.data + c->out_pos, len);

        if (n == -1) {
            if (errno == EAGAIN) {
                c->blocked = 1;
                return 0;
            }

            conn_close(c);
            return 0;
        }

        if (c->out_pos == 0 && !c->control) {
            journal_first(c);
        }

        c->out_pos += (size_t) n;

        if (!c->control && act->slice > 0 && c->out_pos < c->out.len) {
            send_timer(c, loop_now()
                          + (act->slice_ms > 0
                             ? (uint64_t) act->slice_ms * LOOP_MS : 0));
            return 0;
        }
    }

    c->out.len = 0;
    c->out_pos = 0;

    return 1;
}


static void
send_timer(conn_t *c, uint64_t when)
{
    c->timer.data = c;
    c->timer.handler = send_timer_handler;

    loop_timer(&c->timer, when);
}


static void
send_timer_handler(loop_timer_t *t)
{
    conn_t  *c;

    c = t->data;

    send_step(c);
    conn_next(c);
}


static int
send_start(conn_t *c)
{
    int64_t    delay;
    answer_t  *a;

    a = &c->answer;

    if (a->act.hang == 1) {
        return 0;
    }

    delay = a->waited ? 0 : send_delay(&a->act);

    if (delay > 0) {
        a->waited = 1;
        send_timer(c, loop_now() + (uint64_t) delay * LOOP_MS);
        return 0;
    }

    a->waited = 0;

    if (a->act.cut_at == CUT_START) {
        a->phase = PHASE_CUT;
        return 1;
    }

    if (a->act.raw.data != NULL) {
        buf_span(&c->out, a->act.raw);
        a->close = 1;
        a->phase = PHASE_FLUSH;
        return 1;
    }

    send_head(c);
    a->phase = PHASE_HEAD;

    return 1;
}


/* the jitter is the same in each run */

static int64_t
send_delay(const action_t *act)
{
    int64_t          delay;

    static uint64_t  random = 88172645463325252;

    delay = act->delay_ms > 0 ? act->delay_ms : 0;

    if (act->delay_jitter_ms > 0) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        delay += (int64_t) (random % ((uint64_t) act->delay_jitter_ms + 1));
    }

    return delay;
}


static int
send_after_head(conn_t *c)
{
    int64_t    delay;
    answer_t  *a;

    a = &c->answer;

    if (a->act.cut_at == CUT_HEAD) {
        a->phase = PHASE_CUT;
        return 1;
    }

    delay = a->act.body_delay_ms > 0 ? a->act.body_delay_ms : 0;
    delay += a->sse && a->act.ttft_ms > 0 ? a->act.ttft_ms : 0;

    if (delay > 0 && !a->waited) {
        if (!send_drain(c)) {
            return 0;
        }

        a->waited = 1;
        send_timer(c, loop_now() + (uint64_t) delay * LOOP_MS);
        return 0;
    }

    a->waited = 0;
    a->phase = PHASE_BODY;

    if (a->act.pace_ms > 0) {
        a->due = loop_now();
    }

    return 1;
}


/* the next event, or the body when it is one piece */

static int
send_unit(conn_t *c)
{
    answer_t      *a;

    static buf_t   unit;

    a = &c->answer;

    if (c->out.len - c->out_pos >= SEND_HIGH && !send_drain(c)) {
        return 0;
    }

    if (a->act.cut_events >= 0 && a->event >= a->act.cut_events) {
        a->phase = PHASE_CUT;
        return 1;
    }

    if (a->act.idle_ms > 0 && a->event == a->act.idle_at && !a->idled
        && !a->fixed)
    {
        if (!send_drain(c)) {
            return 0;
        }

        a->idled = 1;
        a->due = loop_now() + (uint64_t) a->act.idle_ms * LOOP_MS;
        send_timer(c, a->due);
        return 0;
    }

    if (a->act.pace_ms > 0 && a->event != 0 && !a->waited && !a->fixed) {
        if (!send_drain(c)) {
            return 0;
        }

        a->waited = 1;
        a->due += (uint64_t) a->act.pace_ms * LOOP_MS;
        send_timer(c, a->due);
        return 0;
    }

    a->waited = 0;

    if (a->fixed) {
        if (a->event++ == 0) {
            send_body(c, a->body.data, a->body.len);

        } else {
            a->phase = PHASE_END;
        }

        return 1;
    }

    unit.len = 0;

    if (a->event == 0 && a->act.before.data != NULL) {
        buf_span(&unit, a->act.before);
    }

    if (event_add(&unit, &c->request, a, a->event)) {
        a->event++;
        send_body(c, unit.data, unit.len);

    } else {
        a->phase = PHASE_END;
    }

    return 1;
}


static void
send_body(conn_t *c, const char *data, size_t len)
{
    int        cut;
    size_t     whole;
    answer_t  *a;

    a = &c->answer;
    cut = 0;
    whole = len;

    if (a->act.cut_at >= 0 && a->sent + (int64_t) len >= a->act.cut_at) {
        cut = 1;
        len = (size_t) (a->act.cut_at - a->sent);
    }

    if (a->framing == FRAMING_CHUNKED && len != 0) {

        /* cut short means within the chunk, unless the end is to be clean */

        buf_fmt(&c->out, "%zx\r\n",
                a->act.cut == CUT_CLEAN ? len : whole);
    }

    buf_add(&c->out, data, len);

    if (a->framing == FRAMING_CHUNKED && len != 0
        && (len == whole || a->act.cut == CUT_CLEAN))
    {
        buf_str(&c->out, "\r\n");
    }

    journal_body(c, data, len);

    a->sent += (int64_t) len;
    a->crc = crc32_add(a->crc, data, len);

    if (cut) {
        a->phase = PHASE_CUT;
    }
}


static void
send_cut(conn_t *c)
{
    int        unsent;
    answer_t  *a;

    a = &c->answer;

    if (a->act.cut == CUT_CLEAN && a->act.cut_at != CUT_START) {
        if (a->framing != FRAMING_CHUNKED) {
            a->close = 1;
        }

        a->phase = PHASE_END;
        send_step(c);
        return;
    }

    if (!send_drain(c)) {
        return;
    }

    if (a->act.cut == CUT_HANG) {
        return;
    }

    if (a->act.cut == CUT_RST) {

        /* what was sent shall arrive before the reset overtakes it */

        if (ioctl(c->io.fd, SIOCOUTQ, &unsent) == 0 && unsent != 0) {
            send_timer(c, loop_now() + LOOP_MS / 4);
            return;
        }

        loop_linger_reset(c->io.fd);
    }

    journal_end(c, ENDED_CUT);
    script_release(a->script);
    a->script = NULL;

    conn_close(c);
}


int64_t
send_framing(const conn_t *c)
{
    const answer_t  *a;

    a = &c->answer;

    if (a->act.framing >= 0) {
        return a->act.framing;
    }

    if (!a->sse) {
        return FRAMING_LENGTH;
    }

    return c->head.minor == 0 ? FRAMING_CLOSE : FRAMING_CHUNKED;
}


void
send_head(conn_t *c)
{
    char              text[32];
    buf_t            *out;
    answer_t         *a;
    action_header_t  *h;

    a = &c->answer;
    out = &c->out;

    if (a->framing == FRAMING_CLOSE) {
        a->close = 1;
    }

    buf_fmt(out, "HTTP/1.1 %lld %s\r\n", (long long) a->status,
            send_reason(a->status));

    send_header(out, &a->act, "Content-Type",
                a->sse ? "text/event-stream; charset=utf-8"
                       : "application/json");

    if (a->sse) {
        send_header(out, &a->act, "Cache-Control", "no-cache");
    }

    snprintf(text, sizeof(text), "req_mock%016llx",
             (unsigned long long) a->id);
    send_header(out, &a->act, "x-request-id", text);
    send_header(out, &a->act, "openai-processing-ms", "1");
    send_header(out, &a->act, "openai-version", "2020-10-01");

    for (h = a->act.headers; h != NULL; h = h->next) {
        if (!h->drop) {
            buf_span(out, h->name);
            buf_str(out, ": ");
            buf_span(out, h->value);
            buf_str(out, "\r\n");
        }
    }

    if (a->framing == FRAMING_CHUNKED) {
        send_header(out, &a->act, "Transfer-Encoding", "chunked");
    }

    send_length(c);

    if (a->close) {
        send_header(out, &a->act, "Connection", "close");

    } else if (c->head.minor == 0) {
        send_header(out, &a->act, "Connection", "keep-alive");
    }

    buf_str(out, "\r\n");
}


/* a stream with a length is made twice: it is the same each time */

static void
send_length(conn_t *c)
{
    char           text[32];
    int64_t        k, len;
    answer_t      *a;

    static buf_t   unit;

    a = &c->answer;
    len = a->act.content_length;

    if (len < 0 && (a->framing != FRAMING_LENGTH || a->status == 204
                    || a->status == 304 || a->status < 200))
    {
        return;
    }

    if (len < 0 && a->fixed) {
        len = (int64_t) a->body.len;

    } else if (len < 0) {
        len = (int64_t) a->act.before.len;

        for (k = 0; /* void */ ; k++) {
            unit.len = 0;

            if (!event_add(&unit, &c->request, a, k)) {
                break;
            }

            len += (int64_t) unit.len;
        }
    }

    snprintf(text, sizeof(text), "%lld", (long long) len);
    send_header(&c->out, &a->act, "Content-Length", text);
}


static void
send_header(buf_t *out, const action_t *act, const char *name,
    const char *value)
{
    span_t            key;
    action_header_t  *h;

    key.data = name;
    key.len = strlen(name);

    for (h = act->headers; h != NULL; h = h->next) {
        if (span_eq_case(h->name, key)) {
            return;
        }
    }

    buf_add(out, key.data, key.len);
    buf_add(out, ": ", 2);
    buf_str(out, value);
    buf_add(out, "\r\n", 2);
}


static const char *
send_reason(int64_t status)
{
    size_t  i;

    static const struct {
        int          status;
        const char  *reason;
    } reasons[] = {
        { 200, "OK" }, { 204, "No Content" }, { 400, "Bad Request" },
        { 401, "Unauthorized" }, { 403, "Forbidden" }, { 404, "Not Found" },
        { 405, "Method Not Allowed" }, { 408, "Request Timeout" },
        { 409, "Conflict" }, { 413, "Content Too Large" },
        { 422, "Unprocessable Content" }, { 429, "Too Many Requests" },
        { 500, "Internal Server Error" }, { 502, "Bad Gateway" },
        { 503, "Service Unavailable" }, { 504, "Gateway Timeout" },
        { 0, "Mock" }
    };

    for (i = 0; reasons[i].status != 0; i++) {
        if (reasons[i].status == status) {
            break;
        }
    }

    return reasons[i].reason;
}


/* an answer of the control endpoints */

void
send_plain(conn_t *c, int status, const char *type, const buf_t *body)
{
    c->control = 1;
    c->state = CONN_ANSWER;
    c->answer.phase = PHASE_FLUSH;
    c->answer.close = !c->head.keep_alive;

    buf_fmt(&c->out, "HTTP/1.1 %d %s\r\nContent-Type: %s\r\n"
            "Content-Length: %zu\r\n%s\r\n", status, send_reason(status),
            type, body->len,
            c->head.keep_alive ? "" : "Connection: close\r\n");
    buf_add(&c->out, body->data, body->len);

    send_step(c);
}
