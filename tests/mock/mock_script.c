
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdlib.h>
#include <string.h>

#include "mock.h"


#define at(field)   offsetof(action_t, field)
#define number(f)   { #f, MEMBER_INT, at(f), NULL }
#define boolean(f)  { #f, MEMBER_BOOL, at(f), NULL }
#define text(f)     { #f, MEMBER_TEXT, at(f), NULL }
#define word(f, w)  { #f, MEMBER_WORD, at(f), w }


typedef enum {
    MEMBER_INT,
    MEMBER_BOOL,
    MEMBER_TEXT,
    MEMBER_WORD
} member_type_t;


typedef struct {
    const char     *name;
    member_type_t   type;
    size_t          offset;
    const char     *words;      /* of equal places in their enum */
} member_t;


static const member_t  members[] = {
    number(delay_ms), number(delay_jitter_ms), number(body_delay_ms),
    number(ttft_ms), number(idle_at), number(idle_ms),
    word(limit_headers, "openai azure anthropic none"),
    boolean(hang), number(status),
    number(garbage), number(truncate), number(content_length),
    word(framing, "length chunked close"), boolean(keep_alive),
    boolean(early), number(content_bytes), number(chunks),
    number(chunk_bytes), number(pace_ms), boolean(stamp),
    word(usage, "auto none always last every"), number(prompt_tokens),
    number(completion_tokens), number(cached_tokens),
    number(reasoning_tokens), word(cut, "close rst hang clean"),
    number(cut_at), number(cut_events), number(error_event),
    boolean(error_done), boolean(no_done), number(slice), number(slice_ms),
    word(eol, "lf crlf cr"), boolean(keep),
    number(batch_ms), word(batch_status, "completed failed expired"),
    text(error_message), text(error_type), text(error_code), text(body),
    text(raw), text(content), text(model), text(finish_reason),
    text(tool_name), text(tool_args), text(comment), text(before),
    { NULL, MEMBER_INT, 0, NULL }
};


static int rule_parse(rule_t *rule, span_t object, pool_t *pool,
    buf_t *error);
static int rule_match_parse(rule_t *rule, span_t object, pool_t *pool,
    buf_t *error);
static int rule_matches(const rule_t *rule, const http_head_t *head,
    const request_t *r);
static int rule_headers_match(const rule_t *rule, const http_head_t *head);
static int headers_parse(action_header_t **list, span_t object, pool_t *pool);
static int member_set(action_t *act, span_t name, span_t value, pool_t *pool);
static int member_value(action_t *act, const member_t *m, span_t value);
static span_t member_text(span_t value, pool_t *pool);


script_t *
script_parse(span_t text, buf_t *error)
{
    span_t        root, list;
    script_t     *s;
    json_iter_t   it;

    s = calloc(1, sizeof(script_t));
    if (s == NULL) {
        die("out of memory");
    }

    s->refs = 1;
    s->since = loop_now();

    if (!json_valid(text, &root)
        || (root.data[0] != '{' && root.data[0] != '['))
    {
        buf_str(error, "the script is no JSON object");
        script_release(s);
        return NULL;
    }

    list = root;

    if (root.data[0] == '{') {
        json_iter(&it, root);

        while (json_next(&it)) {
            if (!span_is(it.key, "rules")) {
                buf_fmt(error, "unknown member \"%.*s\", expected \"rules\"",
                        (int) it.key.len, it.key.data);
                script_release(s);
                return NULL;
            }
        }

        if (!json_find(root, "rules", &list)) {
            return s;
        }
    }

    if (list.data[0] != '[') {
        buf_str(error, "expected an array: \"rules\"");
        script_release(s);
        return NULL;
    }

    s->rules = pool_alloc(&s->pool, json_count(list) * sizeof(rule_t));
    json_iter(&it, list);

    while (json_next(&it)) {
        if (rule_parse(&s->rules[s->n], it.value, &s->pool, error) != 0) {
            buf_fmt(error, " in rule %zu", s->n);
            script_release(s);
            return NULL;
        }

        s->early |= s->rules[s->n++].action.early == 1;
    }

    return s;
}


void
script_release(script_t *s)
{
    if (s != NULL && --s->refs == 0) {
        pool_free(&s->pool);
        free(s);
    }
}


void
script_restart(script_t *s)
{
    size_t  i;

    s->since = loop_now();

    for (i = 0; i < s->n; i++) {
        s->rules[i].seen = 0;
        s->rules[i].acted = 0;

        if (s->rules[i].limit != NULL) {
            limit_restart(s->rules[i].limit);
        }
    }
}


int
script_match(script_t *s, const http_head_t *head, const request_t *r,
    int early)
{
    size_t   i;
    rule_t  *rule;
    int64_t  ms;

    ms = (int64_t) ((loop_now() - s->since) / LOOP_MS);

    for (i = 0; i < s->n; i++) {
        rule = &s->rules[i];

        if (ms < rule->from_ms
            || (rule->until_ms >= 0 && ms >= rule->until_ms))
        {
            continue;
        }

        if (early && rule->action.early != 1) {
            continue;
        }

        if ((rule->times >= 0 && rule->acted >= rule->times)
            || !rule_matches(rule, head, r))
        {
            continue;
        }

        rule->seen++;

        if (rule->seen <= rule->skip
            || (rule->every > 1 && (rule->seen - rule->skip) % rule->every))
        {
            continue;
        }

        rule->acted++;

        return (int) i;
    }

    return -1;
}


void
action_init(action_t *act)
{
    const member_t  *m;

    memset(act, 0, sizeof(action_t));

    for (m = members; m->name != NULL; m++) {
        if (m->type != MEMBER_TEXT) {
            *(int64_t *) ((char *) act + m->offset) = -1;
        }
    }
}


/* lays the x-mock-* headers over an action; 1: there were some */

int
action_headers(action_t *act, const http_head_t *head, pool_t *pool,
    buf_t *error)
{
    int               found;
    char             *name;
    size_t            i, k;
    span_t            key, value;
    const char       *colon;
    action_header_t  *h;

    found = 0;

    for (i = 0; i < head->n; i++) {
        key = head->headers[i].name;
        value = head->headers[i].value;

        if (key.len < 8 || (key.data[0] | 0x20) != 'x'
            || !span_eq_case((span_t) { key.data, 7 }, span("x-mock-")))
        {
            continue;
        }

        found = 1;
        key.data += 7;
        key.len -= 7;

        colon = memchr(value.data, ':', value.len);

        if (span_eq_case(key, span("header")) && colon != NULL) {
            h = pool_alloc(pool, sizeof(action_header_t));
            h->name.data = value.data;
            h->name.len = (size_t) (colon - value.data);
            h->name = pool_span(pool, h->name);
            h->value.data = colon + 1;
            h->value.len = (size_t) (value.data + value.len - colon - 1);

            while (h->value.len != 0 && h->value.data[0] == ' ') {
                h->value.data++;
                h->value.len--;
            }

            h->value = pool_span(pool, h->value);
            h->next = act->headers;
            act->headers = h;
            continue;
        }

        name = pool_alloc(pool, key.len + 1);

        for (k = 0; k < key.len; k++) {
            name[k] = key.data[k] == '-' ? '_' : (char) (key.data[k] | 0x20);
        }

        if (member_set(act, (span_t) { name, key.len },
                       pool_span(pool, value), pool) != 0)
        {
            buf_fmt(error, "unknown or wrong header x-mock-%.*s: %.*s",
                    (int) key.len, key.data, (int) value.len, value.data);
            return -1;
        }
    }

    return found;
}


static int
rule_parse(rule_t *rule, span_t object, pool_t *pool, buf_t *error)
{
    int64_t     *n;
    span_t       value;
    json_iter_t  it;

    action_init(&rule->action);
    rule->times = -1;
    rule->until_ms = -1;
    rule->stream = -1;

    if (object.data[0] != '{') {
        buf_str(error, "expected an object");
        return -1;
    }

    json_iter(&it, object);

    while (json_next(&it)) {
        if (span_is(it.key, "match")) {
            if (rule_match_parse(rule, it.value, pool, error) != 0) {
                return -1;
            }

            continue;
        }

        n = span_is(it.key, "times") ? &rule->times
            : span_is(it.key, "skip") ? &rule->skip
            : span_is(it.key, "every") ? &rule->every
            : span_is(it.key, "from_ms") ? &rule->from_ms
            : span_is(it.key, "until_ms") ? &rule->until_ms
            : span_is(it.key, "fail_for_ms") ? &rule->until_ms : NULL;

        if (n != NULL && span_int(it.value) >= 0) {
            *n = span_int(it.value);
            continue;
        }

        if (n == NULL && span_is(it.key, "headers")
            && headers_parse(&rule->action.headers, it.value, pool) == 0)
        {
            continue;
        }

        if (n == NULL && span_is(it.key, "limit")) {
            rule->limit = limit_parse(it.value, pool);

            if (rule->limit != NULL) {
                continue;
            }

            n = &rule->times;
        }

        value = member_text(it.value, pool);

        if (n != NULL
            || member_set(&rule->action, it.key, value, pool) != 0)
        {
            buf_fmt(error, "unknown member or wrong value: \"%.*s\": %.*s",
                    (int) it.key.len, it.key.data,
                    (int) it.value.len, it.value.data);
            return -1;
        }
    }

    return 0;
}


static int
rule_match_parse(rule_t *rule, span_t object, pool_t *pool, buf_t *error)
{
    span_t      *s;
    json_iter_t  it;

    if (object.data[0] != '{') {
        buf_str(error, "expected an object: \"match\"");
        return -1;
    }

    json_iter(&it, object);

    while (json_next(&it)) {
        s = span_is(it.key, "path") ? &rule->path
            : span_is(it.key, "method") ? &rule->method
            : span_is(it.key, "model") ? &rule->model
            : span_is(it.key, "body") ? &rule->body : NULL;

        if (s != NULL && it.value.data[0] == '"') {
            *s = member_text(it.value, pool);
            continue;
        }

        if (span_is(it.key, "stream")
            && (json_true(it.value) || span_is(it.value, "false")))
        {
            rule->stream = json_true(it.value);
            continue;
        }

        if (span_is(it.key, "headers")
            && headers_parse(&rule->headers, it.value, pool) == 0)
        {
            continue;
        }

        buf_fmt(error, "unknown member or wrong value: \"match\": "
                "{\"%.*s\": %.*s}", (int) it.key.len, it.key.data,
                (int) it.value.len, it.value.data);
        return -1;
    }

    return 0;
}


static int
rule_matches(const rule_t *rule, const http_head_t *head, const request_t *r)
{
    span_t  model;

    if (rule->path.data != NULL && !span_ends(r->path, rule->path)) {
        return 0;
    }

    if (rule->method.data != NULL && !span_eq(head->method, rule->method)) {
        return 0;
    }

    if (rule->stream != -1 && rule->stream != r->stream) {
        return 0;
    }

    model = rule->model;

    if (model.data != NULL && !span_eq(r->model, model)) {
        if (model.len == 0 || model.data[model.len - 1] != '*'
            || r->model.len < model.len - 1
            || memcmp(r->model.data, model.data, model.len - 1) != 0)
        {
            return 0;
        }
    }

    if (rule->body.data != NULL
        && memmem(r->body.data, r->body.len, rule->body.data, rule->body.len)
           == NULL)
    {
        return 0;
    }

    return rule_headers_match(rule, head);
}


static int
rule_headers_match(const rule_t *rule, const http_head_t *head)
{
    const span_t     *value;
    action_header_t  *h;

    for (h = rule->headers; h != NULL; h = h->next) {
        value = http_header(head, h->name.data);

        if (h->drop) {
            if (value != NULL) {
                return 0;
            }

            continue;
        }

        if (value == NULL
            || (!span_is(h->value, "*") && !span_eq(*value, h->value)))
        {
            return 0;
        }
    }

    return 1;
}


static int
headers_parse(action_header_t **list, span_t object, pool_t *pool)
{
    json_iter_t       it;
    action_header_t  *h;

    if (object.data[0] != '{') {
        return -1;
    }

    json_iter(&it, object);

    while (json_next(&it)) {
        h = pool_alloc(pool, sizeof(action_header_t));
        h->name = pool_span(pool, it.key);
        h->drop = span_is(it.value, "null");
        h->value = member_text(it.value, pool);

        *list = h;
        list = &h->next;
    }

    return 0;
}


static int
member_set(action_t *act, span_t name, span_t value, pool_t *pool)
{
    buf_t            decoded;
    const member_t  *m;

    if (span_is(name, "body_base64")) {
        memset(&decoded, 0, sizeof(buf_t));

        if (buf_base64_decode(&decoded, value) != 0) {
            buf_free(&decoded);
            return -1;
        }

        act->body = pool_span(pool, (span_t) { decoded.data, decoded.len });
        buf_free(&decoded);

        return 0;
    }

    if (span_is(name, "cut_at") && span_is(value, "start")) {
        act->cut_at = CUT_START;
        return 0;
    }

    if (span_is(name, "cut_at") && span_is(value, "head")) {
        act->cut_at = CUT_HEAD;
        return 0;
    }

    for (m = members; m->name != NULL; m++) {
        if (strlen(m->name) == name.len
            && memcmp(m->name, name.data, name.len) == 0)
        {
            return member_value(act, m, value);
        }
    }

    return -1;
}


static int
member_value(action_t *act, const member_t *m, span_t value)
{
    int64_t      n;
    const char  *p, *end;

    if (m->type == MEMBER_TEXT) {
        *(span_t *) ((char *) act + m->offset) = value;
        return 0;
    }

    if (m->type == MEMBER_INT) {
        n = span_int(value);

    } else if (m->type == MEMBER_BOOL) {
        n = json_true(value) || span_is(value, "1") ? 1
            : span_is(value, "false") || span_is(value, "0") ? 0 : -1;

    } else {
        p = m->words;

        for (n = 0; *p != '\0'; n++) {
            end = strchrnul(p, ' ');

            if (span_eq(value, (span_t) { p, (size_t) (end - p) })) {
                break;
            }

            p = *end == '\0' ? end : end + 1;
        }

        n = *p == '\0' ? -1 : n;
    }

    *(int64_t *) ((char *) act + m->offset) = n;

    return n < 0 ? -1 : 0;
}


/* a string decoded, any other value as it is written */

static span_t
member_text(span_t value, pool_t *pool)
{
    buf_t   decoded;
    span_t  s;

    if (value.data[0] != '"') {
        return pool_span(pool, value);
    }

    memset(&decoded, 0, sizeof(buf_t));
    json_string(value, &decoded);

    s = pool_span(pool, (span_t) { decoded.data, decoded.len });
    buf_free(&decoded);

    return s;
}
