
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_batch_text.h"
#include "core/llm_json.h"




void
llm_batch_text_init(llm_batch_text_t *t, unsigned char *buf, size_t size)
{
    t->buf = buf;
    t->size = size;
    t->len = 0;
    t->comma = 0;
}


void
llm_batch_put(llm_batch_text_t *t, const void *p, size_t len)
{
    if (len != 0 && t->len <= t->size && len <= t->size - t->len) {
        memcpy(t->buf + t->len, p, len);
    }

    t->len += len;
}


void
llm_batch_put_name(llm_batch_text_t *t, const char *name)
{
    if (t->comma) {
        llm_batch_put_text(t, ",");
    }

    t->comma = 1;

    llm_batch_put_text(t, "\"");
    llm_batch_put(t, name, strlen(name));
    llm_batch_put_text(t, "\":");
}


void
llm_batch_put_number(llm_batch_text_t *t, int64_t n)
{
    uint64_t       u;
    unsigned char  buf[20], *p;

    p = buf + sizeof(buf);
    u = n < 0 ? 0 - (uint64_t) n : (uint64_t) n;

    do {
        *--p = (unsigned char) ('0' + u % 10);
        u /= 10;
    } while (u != 0);

    if (n < 0) {
        *--p = '-';
    }

    llm_batch_put(t, p, (size_t) (buf + sizeof(buf) - p));
}


void
llm_batch_put_stamp(llm_batch_text_t *t, int64_t sec)
{
    if (sec <= 0) {
        llm_batch_put_text(t, "null");
        return;
    }

    llm_batch_put_number(t, sec);
}


void
llm_batch_put_maybe(llm_batch_text_t *t, const llm_str_t *s)
{
    if (s->len == 0) {
        llm_batch_put_text(t, "null");
        return;
    }

    llm_batch_put_string(t, s);
}


void
llm_batch_put_string(llm_batch_text_t *t, const llm_str_t *s)
{
    size_t                n;
    unsigned char         esc[6];
    const unsigned char  *p, *start, *last;

    static const char  hex[] = "0123456789abcdef";

    llm_batch_put_text(t, "\"");

    p = s->data;
    last = s->len != 0 ? p + s->len : p;

    for (start = p; p < last; start = p) {

        while (p < last && *p >= 0x20 && *p != '"' && *p != '\\'
               && (n = llm_batch_utf8(p, last)) != 0)
        {
            p += n;
        }

        llm_batch_put(t, start, (size_t) (p - start));

        if (p == last) {
            break;
        }

        if (*p == '"' || *p == '\\') {
            esc[0] = '\\';
            esc[1] = *p;
            llm_batch_put(t, esc, 2);

        } else if (*p == '\n') {
            llm_batch_put_text(t, "\\n");

        } else if (*p < 0x20) {
            memcpy(esc, "\\u00", 4);
            esc[4] = (unsigned char) hex[*p >> 4];
            esc[5] = (unsigned char) hex[*p & 15];
            llm_batch_put(t, esc, 6);

        } else {
            llm_batch_put_text(t, "\xef\xbf\xbd");
        }

        p++;
    }

    llm_batch_put_text(t, "\"");
}


void
llm_batch_put_json(llm_batch_text_t *t, const llm_str_t *json)
{
    const unsigned char  *p, *start, *last;

    if (json->len == 0) {
        llm_batch_put_text(t, "null");
        return;
    }

    if (!llm_json_valid(json->data, json->len)) {
        llm_batch_put_string(t, json);
        return;
    }

    if (memchr(json->data, '\n', json->len) == NULL
        && memchr(json->data, '\r', json->len) == NULL)
    {
        llm_batch_put(t, json->data, json->len);
        return;
    }

    /* they stand outside of strings, where they have to be escaped */

    last = json->data + json->len;

    for (p = json->data, start = p; p < last; p++) {

        if (*p == '\n' || *p == '\r') {
            llm_batch_put(t, start, (size_t) (p - start));
            llm_batch_put_text(t, " ");
            start = p + 1;
        }
    }

    llm_batch_put(t, start, (size_t) (p - start));
}


size_t
llm_batch_utf8(const unsigned char *p, const unsigned char *last)
{
    size_t         i, n;
    unsigned char  c, low, high;

    c = *p;

    if (c < 0x80) {
        return 1;
    }

    if (c < 0xc2 || c > 0xf4) {
        return 0;
    }

    n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;

    if ((size_t) (last - p) < n) {
        return 0;
    }

    /* no longer than needed, no surrogate, not above U+10FFFF */

    low = c == 0xe0 ? 0xa0 : c == 0xf0 ? 0x90 : 0x80;
    high = c == 0xed ? 0x9f : c == 0xf4 ? 0x8f : 0xbf;

    if (p[1] < low || p[1] > high) {
        return 0;
    }

    for (i = 2; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }
    }

    return n;
}
