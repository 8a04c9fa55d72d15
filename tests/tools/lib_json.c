
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "lib_json.h"


#define JSON_DEPTH  512


static const char *json_space(const char *p, const char *end);
static const char *json_skip(const char *p, const char *end, int depth);
static const char *json_skip_string(const char *p, const char *end);
static const char *json_plain(const char *p, const char *end);
static const char *json_skip_number(const char *p, const char *end);
static const char *json_skip_list(const char *p, const char *end, int depth);
static int json_hex(const char *p, uint32_t *n);
static void json_utf8(buf_t *out, uint32_t cp);


int
json_valid(span_t text, span_t *value)
{
    const char  *p, *end, *last;

    end = text.data + text.len;
    p = json_space(text.data, end);

    last = json_skip(p, end, 0);
    if (last == NULL || json_space(last, end) != end) {
        return 0;
    }

    value->data = p;
    value->len = (size_t) (last - p);

    return 1;
}


void
json_iter(json_iter_t *it, span_t value)
{
    memset(it, 0, sizeof(json_iter_t));

    it->key.data = "";
    it->pos = value.data + 1;
    it->end = value.data + value.len;

    if (value.len < 2 || (value.data[0] != '{' && value.data[0] != '[')) {
        it->bad = 1;
        return;
    }

    it->close = value.data[0] == '{' ? '}' : ']';
}


int
json_next(json_iter_t *it)
{
    const char  *p, *last;

    if (it->done || it->bad) {
        return 0;
    }

    p = json_space(it->pos, it->end);

    if (p < it->end && *p == it->close) {
        it->pos = p + 1;
        it->done = 1;
        return 0;
    }

    if (it->count++ != 0) {
        p = p < it->end && *p == ',' ? json_space(p + 1, it->end) : it->end;
    }

    if (it->close == '}') {
        last = p < it->end && *p == '"' ? json_skip_string(p, it->end) : NULL;

        if (last != NULL) {
            it->key.data = p + 1;
            it->key.len = (size_t) (last - p - 2);
            p = json_space(last, it->end);
        }

        p = last != NULL && p < it->end && *p == ':'
            ? json_space(p + 1, it->end) : it->end;
    }

    last = json_skip(p, it->end, 0);
    if (last == NULL) {
        it->bad = 1;
        return 0;
    }

    it->value.data = p;
    it->value.len = (size_t) (last - p);
    it->pos = last;

    return 1;
}


int
json_find(span_t object, const char *name, span_t *value)
{
    span_t       key;
    json_iter_t  it;

    if (object.len == 0 || object.data[0] != '{') {
        return 0;
    }

    key.data = name;
    key.len = strlen(name);

    json_iter(&it, object);

    while (json_next(&it)) {
        if (span_eq(it.key, key)) {
            *value = it.value;
            return 1;
        }
    }

    return 0;
}


int
json_string(span_t value, buf_t *out)
{
    uint32_t     cp, low;
    const char  *p, *end, *run;

    if (value.len < 2 || value.data[0] != '"') {
        return -1;
    }

    p = value.data + 1;
    end = value.data + value.len - 1;

    while (p < end) {
        run = p;
        p = memchr(run, '\\', (size_t) (end - run));
        p = p == NULL ? end : p;

        buf_add(out, run, (size_t) (p - run));

        if (p == end) {
            break;
        }

        if (p[1] != 'u') {
            run = strchr("b\bf\fn\nr\rt\t", p[1]);
            buf_add(out, run != NULL ? run + 1 : p + 1, 1);
            p += 2;
            continue;
        }

        json_hex(p + 2, &cp);
        p += 6;

        if (cp >= 0xd800 && cp < 0xdc00 && end - p >= 6 && p[0] == '\\'
            && p[1] == 'u' && json_hex(p + 2, &low)
            && low >= 0xdc00 && low < 0xe000)
        {
            cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
            p += 6;
        }

        json_utf8(out, cp);
    }

    return 0;
}


int64_t
json_int(span_t value, int64_t otherwise)
{
    int64_t  n;

    n = span_int(value);

    return n < 0 ? otherwise : n;
}


int
json_true(span_t value)
{
    return span_is(value, "true");
}


size_t
json_count(span_t array)
{
    size_t       n;
    json_iter_t  it;

    json_iter(&it, array);

    for (n = 0; json_next(&it); n++) { /* void */ }

    return n;
}


static const char *
json_space(const char *p, const char *end)
{
    while (p < end && (*p == ' ' || *p == '\n' || *p == '\t' || *p == '\r')) {
        p++;
    }

    return p;
}


static const char *
json_skip(const char *p, const char *end, int depth)
{
    if (p >= end) {
        return NULL;
    }

    switch (*p) {

    case '"':
        return json_skip_string(p, end);

    case '{':
    case '[':
        return depth >= JSON_DEPTH ? NULL : json_skip_list(p, end, depth);

    case 't':
    case 'n':
        if (end - p >= 4 && (memcmp(p, "true", 4) == 0
                             || memcmp(p, "null", 4) == 0))
        {
            return p + 4;
        }

        return NULL;

    case 'f':
        return end - p >= 5 && memcmp(p, "false", 5) == 0 ? p + 5 : NULL;

    default:
        return json_skip_number(p, end);
    }
}


static const char *
json_skip_list(const char *p, const char *end, int depth)
{
    char  close;

    close = *p == '{' ? '}' : ']';

    p = json_space(p + 1, end);

    if (p < end && *p == close) {
        return p + 1;
    }

    while (p < end) {
        if (close == '}') {
            if (*p != '"') {
                return NULL;
            }

            p = json_skip_string(p, end);
            p = p == NULL ? end : json_space(p, end);

            if (p >= end || *p != ':') {
                return NULL;
            }

            p = json_space(p + 1, end);
        }

        p = json_skip(p, end, depth + 1);
        p = p == NULL ? end : json_space(p, end);

        if (p >= end) {
            return NULL;
        }

        if (*p == close) {
            return p + 1;
        }

        if (*p != ',') {
            return NULL;
        }

        p = json_space(p + 1, end);
    }

    return NULL;
}


static const char *
json_skip_string(const char *p, const char *end)
{
    uint32_t  n;

    for (p = json_plain(p + 1, end); p < end; p = json_plain(p + 1, end)) {
        if (*p == '"') {
            return p + 1;
        }

        if ((unsigned char) *p < 0x20) {
            return NULL;
        }

        if (*p != '\\') {
            continue;
        }

        if (++p >= end || *p == '\0' || strchr("\"\\/bfnrtu", *p) == NULL) {
            return NULL;
        }

        if (*p == 'u') {
            if (end - p < 5 || !json_hex(p + 1, &n)) {
                return NULL;
            }

            p += 4;
        }
    }

    return NULL;
}


/* passes over what needs no look: not a quote, backslash or control */

static const char *
json_plain(const char *p, const char *end)
{
    uint64_t  w, quote, slash, hit;

    static const uint64_t  ones = 0x0101010101010101;

    for ( /* void */ ; end - p >= 8; p += 8) {
        memcpy(&w, p, 8);

        quote = w ^ ones * '"';
        slash = w ^ ones * '\\';

        /* borrows can only make a false hit, which the loop below sorts out */
        hit = ((w - ones * 0x20) & ~w)
              | ((quote - ones) & ~quote) | ((slash - ones) & ~slash);

        if ((hit & ones * 0x80) != 0) {
            break;
        }
    }

    while (p < end && *p != '"' && *p != '\\' && (unsigned char) *p >= 0x20)
    {
        p++;
    }

    return p;
}


static const char *
json_skip_number(const char *p, const char *end)
{
    const char  *digits;

    if (*p == '-') {
        p++;
    }

    for (digits = p; p < end && *p >= '0' && *p <= '9'; p++) { /* void */ }

    if (p == digits || (*digits == '0' && p - digits > 1)) {
        return NULL;
    }

    if (p < end && *p == '.') {
        for (digits = ++p; p < end && *p >= '0' && *p <= '9'; p++) {
            /* void */
        }

        if (p == digits) {
            return NULL;
        }
    }

    if (p < end && (*p == 'e' || *p == 'E')) {
        p++;

        if (p < end && (*p == '+' || *p == '-')) {
            p++;
        }

        for (digits = p; p < end && *p >= '0' && *p <= '9'; p++) {
            /* void */
        }

        if (p == digits) {
            return NULL;
        }
    }

    return p;
}


static int
json_hex(const char *p, uint32_t *n)
{
    int          i;
    const char  *digit;

    static const char  digits[] = "0123456789abcdef0123456789ABCDEF";

    *n = 0;

    for (i = 0; i < 4; i++) {
        digit = p[i] == '\0' ? NULL : strchr(digits, p[i]);
        if (digit == NULL) {
            return 0;
        }

        *n = *n << 4 | (uint32_t) ((digit - digits) & 15);
    }

    return 1;
}


static void
json_utf8(buf_t *out, uint32_t cp)
{
    char    text[4];
    size_t  len;

    if (cp < 0x80) {
        text[0] = (char) cp;
        len = 1;

    } else if (cp < 0x800) {
        text[0] = (char) (0xc0 | cp >> 6);
        text[1] = (char) (0x80 | (cp & 0x3f));
        len = 2;

    } else if (cp < 0x10000) {
        text[0] = (char) (0xe0 | cp >> 12);
        text[1] = (char) (0x80 | (cp >> 6 & 0x3f));
        text[2] = (char) (0x80 | (cp & 0x3f));
        len = 3;

    } else {
        text[0] = (char) (0xf0 | cp >> 18);
        text[1] = (char) (0x80 | (cp >> 12 & 0x3f));
        text[2] = (char) (0x80 | (cp >> 6 & 0x3f));
        text[3] = (char) (0x80 | (cp & 0x3f));
        len = 4;
    }

    buf_add(out, text, len);
}
