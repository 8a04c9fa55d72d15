
/*
 * Copyright (C) the ngx-llm authors
 *
 * A provider's limits, kept over all connections: two buckets, or the counts
 * of a fixed window, and the headers that tell of them.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "mock.h"


#define MINUTE  60000

/* what rounding may take from a request that is due */
#define SLACK   1e-6


static void limit_refill(limit_t *l, uint64_t now);
static int64_t limit_tokens(const conn_t *c);
static int64_t limit_wait(const limit_t *l, double left, double need,
    int64_t rate, uint64_t now);
static void limit_refuse(conn_t *c, const limit_t *l, int64_t need,
    int64_t headers, uint64_t now);
static void limit_tell(answer_t *a, const limit_t *l, int64_t style,
    uint64_t now);
static void limit_tell_one(answer_t *a, int64_t style, const char *what,
    int64_t limit, double left, int64_t reset);
static void limit_header(answer_t *a, const char *name, const char *value);
static void limit_duration(char *text, size_t size, int64_t ms);
static void limit_date(char *text, size_t size, int64_t ms);


/* NULL: no object of known members */

limit_t *
limit_parse(span_t object, pool_t *pool)
{
    int64_t      *n;
    limit_t      *l;
    json_iter_t   it;

    if (object.data[0] != '{') {
        return NULL;
    }

    l = pool_alloc(pool, sizeof(limit_t));
    memset(l, 0, sizeof(limit_t));
    l->burst = -1;

    json_iter(&it, object);

    while (json_next(&it)) {
        if (span_is(it.key, "window")) {
            if (json_true(it.value)) {
                l->window_ms = l->window_ms == 0 ? MINUTE : l->window_ms;

            } else if (!span_is(it.value, "false")) {
                return NULL;
            }

            continue;
        }

        n = span_is(it.key, "requests_per_minute") ? &l->requests
            : span_is(it.key, "burst") ? &l->burst
            : span_is(it.key, "tokens_per_minute") ? &l->tokens
            : span_is(it.key, "window_ms") ? &l->window_ms : NULL;

        if (n == NULL || span_int(it.value) <= 0) {
            return NULL;
        }

        *n = span_int(it.value);
    }

    if (l->burst < 0 || l->window_ms != 0) {
        l->burst = l->requests;
    }

    limit_restart(l);

    return l;
}


void
limit_restart(limit_t *l)
{
    l->requests_left = (double) l->burst;
    l->tokens_left = (double) l->tokens;
    l->since = 0;
}


/* takes what the request costs, or makes its answer a 429 */

void
limit_apply(conn_t *c)
{
    int64_t    need, style;
    limit_t   *l;
    uint64_t   now;
    answer_t  *a;

    a = &c->answer;
    l = a->rule == -1 ? NULL : a->script->rules[a->rule].limit;

    if (l == NULL) {
        return;
    }

    now = loop_now();
    need = limit_tokens(c);
    style = a->act.limit_headers < 0 ? LIMIT_OPENAI : a->act.limit_headers;

    limit_refill(l, now);

    if ((l->requests != 0 && l->requests_left + SLACK < 1)
        || (l->tokens != 0 && l->tokens_left + SLACK < (double) need))
    {
        mock_stats.limited++;
        limit_refuse(c, l, need, style, now);

    } else {
        l->requests_left -= l->requests != 0;
        l->tokens_left -= l->tokens != 0 ? (double) need : 0;
    }

    limit_tell(a, l, style, now);
    control_wake();
}


static void
limit_refill(limit_t *l, uint64_t now)
{
    double    minutes;
    uint64_t  window;

    if (l->since == 0) {
        l->since = now;
        return;
    }

    if (l->window_ms != 0) {
        window = (uint64_t) l->window_ms * LOOP_MS;

        if (now - l->since >= window) {
            window *= (now - l->since) / window;
            window += l->since;
            limit_restart(l);
            l->since = window;
        }

        return;
    }

    minutes = (double) (now - l->since) / (double) (MINUTE * LOOP_MS);
    l->since = now;

    l->requests_left += minutes * (double) l->requests;
    l->tokens_left += minutes * (double) l->tokens;

    if (l->requests_left > (double) l->burst) {
        l->requests_left = (double) l->burst;
    }

    if (l->tokens_left > (double) l->tokens) {
        l->tokens_left = (double) l->tokens;
    }
}


/* the usage that the answer will tell */

static int64_t
limit_tokens(const conn_t *c)
{
    int64_t          n;
    const action_t  *act;

    act = &c->answer.act;

    if (c->request.endpoint >= EP_MODELS) {
        return 0;
    }

    n = act->prompt_tokens >= 0 ? act->prompt_tokens : 10;

    if (c->request.endpoint != EP_EMBEDDINGS) {
        n += act->completion_tokens >= 0 ? act->completion_tokens : 20;
    }

    return n;
}


/* ms until there is as much as needed, rounded up */

static int64_t
limit_wait(const limit_t *l, double left, double need, int64_t rate,
    uint64_t now)
{
    double   ms;
    int64_t  whole;

    if (l->window_ms != 0) {
        ms = (double) l->window_ms
             - (double) (now - l->since) / (double) LOOP_MS;

    } else {
        ms = (need - left) * MINUTE / (double) rate;
    }

    if (ms <= SLACK) {
        return 0;
    }

    whole = (int64_t) ms;

    return whole + ((double) whole + SLACK < ms);
}


static void
limit_refuse(conn_t *c, const limit_t *l, int64_t need, int64_t headers,
    uint64_t now)
{
    int         requests;
    char        text[32], when[32];
    buf_t       message;
    int64_t     wait;
    action_t   *act;
    answer_t   *a;

    a = &c->answer;
    act = &a->act;

    requests = l->requests != 0 && l->requests_left + SLACK < 1;
    wait = requests
           ? limit_wait(l, l->requests_left, 1, l->requests, now)
           : limit_wait(l, l->tokens_left, (double) need, l->tokens, now);
    limit_duration(when, sizeof(when), wait);

    action_init(act);
    act->status = 429;
    a->status = 429;

    memset(&message, 0, sizeof(buf_t));
    buf_str(&message, "Rate limit reached for ");
    buf_span(&message, c->request.model);
    buf_fmt(&message, " on %s per min: Limit %lld, Used %lld, Requested %lld."
            " Please try again in %s.", requests ? "requests" : "tokens",
            (long long) (requests ? l->requests : l->tokens),
            (long long) (requests ? l->burst - (int64_t) l->requests_left
                                  : l->tokens - (int64_t) l->tokens_left),
            (long long) (requests ? 1 : need), when);

    act->error_message = pool_span(&a->pool,
                                   (span_t) { message.data, message.len });
    buf_free(&message);

    act->error_type = requests ? span("requests") : span("tokens");
    act->error_code = span("rate_limit_exceeded");

    if (headers == LIMIT_NONE) {
        return;
    }

    snprintf(text, sizeof(text), "%lld",
             (long long) (wait > 1000 ? (wait + 999) / 1000 : 1));
    limit_header(a, "retry-after", text);

    if (headers != LIMIT_ANTHROPIC) {
        snprintf(text, sizeof(text), "%lld", (long long) wait);
        limit_header(a, "retry-after-ms", text);
    }
}


static void
limit_tell(answer_t *a, const limit_t *l, int64_t style, uint64_t now)
{
    if (style == LIMIT_NONE) {
        return;
    }

    if (l->requests != 0) {
        limit_tell_one(a, style, "requests", l->requests, l->requests_left,
                       limit_wait(l, l->requests_left, (double) l->burst,
                                  l->requests, now));
    }

    if (l->tokens != 0) {
        limit_tell_one(a, style, "tokens", l->tokens, l->tokens_left,
                       limit_wait(l, l->tokens_left, (double) l->tokens,
                                  l->tokens, now));
    }
}


static void
limit_tell_one(answer_t *a, int64_t style, const char *what, int64_t limit,
    double left, int64_t reset)
{
    int          i;
    char         name[64], value[32];
    const char  *part;

    static const char *const  parts[] = { "limit", "remaining", "reset" };

    for (i = 0; i < 3; i++) {
        part = parts[i];

        if (style == LIMIT_ANTHROPIC) {
            snprintf(name, sizeof(name), "anthropic-ratelimit-%s-%s", what,
                     part);

        } else {
            snprintf(name, sizeof(name), "x-ratelimit-%s-%s", part, what);
        }

        if (i < 2) {
            snprintf(value, sizeof(value), "%lld",
                     (long long) (i == 0 ? limit : (int64_t) (left + SLACK)));

        } else if (style == LIMIT_AZURE) {
            snprintf(value, sizeof(value), "%lld",
                     (long long) ((reset + 999) / 1000));

        } else if (style == LIMIT_ANTHROPIC) {
            limit_date(value, sizeof(value), reset);

        } else {
            limit_duration(value, sizeof(value), reset);
        }

        limit_header(a, name, value);
    }
}


/* unless the script has a word of its own on this header */

static void
limit_header(answer_t *a, const char *name, const char *value)
{
    span_t            key;
    action_header_t  *h;

    key.data = name;
    key.len = strlen(name);

    for (h = a->act.headers; h != NULL; h = h->next) {
        if (span_eq_case(h->name, key)) {
            return;
        }
    }

    h = pool_alloc(&a->pool, sizeof(action_header_t));
    h->name = pool_span(&a->pool, key);
    h->value = pool_span(&a->pool, (span_t) { value, strlen(value) });
    h->drop = 0;
    h->next = a->act.headers;
    a->act.headers = h;
}


/* as Go writes it: "120ms", "33.023s", "6m0s", "1h0m0s" */

static void
limit_duration(char *text, size_t size, int64_t ms)
{
    int        n, part;
    long long  s;

    s = ms / 1000;
    part = (int) (ms % 1000);

    if (s == 0) {
        snprintf(text, size, ms == 0 ? "0s" : "%dms", part);
        return;
    }

    n = 0;

    if (s >= 3600) {
        n += snprintf(text, size, "%lldh", s / 3600);
    }

    if (s >= 60) {
        n += snprintf(text + n, size - (size_t) n, "%lldm", s / 60 % 60);
    }

    n += snprintf(text + n, size - (size_t) n, "%lld", s % 60);

    if (part != 0) {
        n += snprintf(text + n, size - (size_t) n, ".%03d", part);

        while (text[n - 1] == '0') {
            n--;
        }
    }

    snprintf(text + n, size - (size_t) n, "s");
}


static void
limit_date(char *text, size_t size, int64_t ms)
{
    time_t           when;
    struct tm        tm;
    struct timespec  now;

    clock_gettime(CLOCK_REALTIME, &now);

    ms += now.tv_nsec / 1000000 + 1;
    when = now.tv_sec + (time_t) ((ms + 999) / 1000);

    gmtime_r(&when, &tm);
    strftime(text, size, "%Y-%m-%dT%H:%M:%SZ", &tm);
}


/* of the first rule with a limit, as members of an object */

void
limit_left(const script_t *s, buf_t *out)
{
    size_t    i;
    limit_t  *l;

    for (i = 0; i < s->n; i++) {
        l = s->rules[i].limit;

        if (l != NULL) {
            if (l->since != 0) {
                limit_refill(l, loop_now());
            }

            break;
        }
    }

    l = i < s->n ? s->rules[i].limit : NULL;

    buf_fmt(out, l != NULL && l->requests != 0 ? "\"remaining\":%lld,"
                                               : "\"remaining\":null,",
            l != NULL ? (long long) (l->requests_left + SLACK) : 0);
    buf_fmt(out, l != NULL && l->tokens != 0 ? "\"remaining_tokens\":%lld"
                                             : "\"remaining_tokens\":null",
            l != NULL ? (long long) (l->tokens_left + SLACK) : 0);
}
