
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib_buf.h"


struct pool_node_s {
    pool_node_t   *next;
    uint64_t       data[];
};


static const char  base64_chars[] =
    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";


void
die(const char *fmt, ...)
{
    va_list  args;

    va_start(args, fmt);
    vfprintf(stderr, fmt, args);
    va_end(args);

    fputc('\n', stderr);
    exit(2);
}


int
span_eq(span_t a, span_t b)
{
    return a.len == b.len
           && (a.len == 0 || memcmp(a.data, b.data, a.len) == 0);
}


int
span_eq_case(span_t a, span_t b)
{
    return a.len == b.len
           && (a.len == 0 || strncasecmp(a.data, b.data, a.len) == 0);
}


int
span_ends(span_t s, span_t end)
{
    return s.len >= end.len
           && memcmp(s.data + s.len - end.len, end.data, end.len) == 0;
}


int64_t
span_int(span_t s)
{
    size_t   i;
    int64_t  n;

    if (s.len == 0 || s.len > 18) {
        return -1;
    }

    n = 0;

    for (i = 0; i < s.len; i++) {
        if (s.data[i] < '0' || s.data[i] > '9') {
            return -1;
        }

        n = n * 10 + (s.data[i] - '0');
    }

    return n;
}


void
buf_reserve(buf_t *b, size_t more)
{
    size_t  size;

    if (b->size - b->len >= more) {
        return;
    }

    size = b->size == 0 ? 1024 : b->size * 2;

    if (size < b->len + more) {
        size = b->len + more;
    }

    b->data = realloc(b->data, size);
    if (b->data == NULL) {
        die("out of memory: %zu bytes", size);
    }

    b->size = size;
}


void
buf_add(buf_t *b, const void *data, size_t len)
{
    if (len == 0) {
        return;
    }

    buf_reserve(b, len);
    memcpy(b->data + b->len, data, len);
    b->len += len;
}


void
buf_span(buf_t *b, span_t s)
{
    buf_add(b, s.data, s.len);
}


void
buf_str(buf_t *b, const char *text)
{
    buf_add(b, text, strlen(text));
}


void
buf_fmt(buf_t *b, const char *fmt, ...)
{
    int      n;
    size_t   room;
    va_list  args;

    buf_reserve(b, 128);

    for ( ;; ) {
        room = b->size - b->len;

        va_start(args, fmt);
        n = vsnprintf(b->data + b->len, room, fmt, args);
        va_end(args);

        if ((size_t) n < room) {
            break;
        }

        buf_reserve(b, (size_t) n + 1);
    }

    b->len += (size_t) n;
}


void
buf_cut_front(buf_t *b, size_t len)
{
    b->len -= len;

    if (b->len != 0 && len != 0) {
        memmove(b->data, b->data + len, b->len);
    }
}


void
buf_free(buf_t *b)
{
    free(b->data);
    memset(b, 0, sizeof(buf_t));
}


void
buf_json(buf_t *b, const char *data, size_t len)
{
    char           *p;
    size_t          i;
    unsigned char   ch;

    buf_reserve(b, len * 6 + 2);

    p = b->data + b->len;
    *p++ = '"';

    for (i = 0; i < len; i++) {
        ch = (unsigned char) data[i];

        if (ch >= 0x20 && ch != '"' && ch != '\\' && ch != 0x7f) {
            *p++ = (char) ch;
            continue;
        }

        *p++ = '\\';

        switch (ch) {
        case '"':
        case '\\':
            *p++ = (char) ch;
            break;
        case '\n':
            *p++ = 'n';
            break;
        case '\r':
            *p++ = 'r';
            break;
        case '\t':
            *p++ = 't';
            break;
        default:
            *p++ = 'u';
            *p++ = '0';
            *p++ = '0';
            *p++ = "0123456789abcdef"[ch >> 4];
            *p++ = "0123456789abcdef"[ch & 15];
        }
    }

    *p++ = '"';
    b->len = (size_t) (p - b->data);
}


void
buf_base64(buf_t *b, const void *data, size_t len)
{
    char                 *out;
    size_t                i;
    uint32_t              n;
    const unsigned char  *p = data;

    buf_reserve(b, (len + 2) / 3 * 4);
    out = b->data + b->len;

    for (i = 0; i < len; i += 3) {
        n = (uint32_t) p[i] << 16;
        n |= i + 1 < len ? (uint32_t) p[i + 1] << 8 : 0;
        n |= i + 2 < len ? p[i + 2] : 0;

        *out++ = base64_chars[n >> 18];
        *out++ = base64_chars[(n >> 12) & 63];
        *out++ = i + 1 < len ? base64_chars[(n >> 6) & 63] : '=';
        *out++ = i + 2 < len ? base64_chars[n & 63] : '=';
    }

    b->len = (size_t) (out - b->data);
}


int
buf_base64_decode(buf_t *b, span_t s)
{
    char         out;
    size_t       i;
    unsigned     bits;
    uint32_t     n;
    const char  *at;

    n = 0;
    bits = 0;

    for (i = 0; i < s.len && s.data[i] != '='; i++) {
        at = s.data[i] == '\0' ? NULL : strchr(base64_chars, s.data[i]);
        if (at == NULL) {
            return -1;
        }

        n = n << 6 | (uint32_t) (at - base64_chars);
        bits += 6;

        if (bits >= 8) {
            bits -= 8;
            out = (char) (n >> bits & 0xff);
            buf_add(b, &out, 1);
        }
    }

    return 0;
}


void *
pool_alloc(pool_t *p, size_t size)
{
    pool_node_t  *node;

    node = calloc(1, sizeof(pool_node_t) + size);
    if (node == NULL) {
        die("out of memory: %zu bytes", size);
    }

    node->next = p->list;
    p->list = node;

    return node->data;
}


span_t
pool_span(pool_t *p, span_t s)
{
    char    *data;
    span_t   copy;

    data = pool_alloc(p, s.len + 1);

    if (s.len != 0) {
        memcpy(data, s.data, s.len);
    }

    copy.data = data;
    copy.len = s.len;

    return copy;
}


void
pool_free(pool_t *p)
{
    pool_node_t  *node;

    while (p->list != NULL) {
        node = p->list;
        p->list = node->next;
        free(node);
    }
}


int
utf8_valid(const char *data, size_t len)
{
    size_t                i, k, n;
    uint32_t              cp;
    const unsigned char  *p = (const unsigned char *) data;

    /* the smallest code point of each length: anything below is overlong */
    static const uint32_t  least[] = { 0, 0x80, 0x800, 0x10000 };

    for (i = 0; i < len; i += n + 1) {
        if (p[i] < 0x80) {
            n = 0;
            continue;
        }

        n = p[i] >= 0xf0 ? 3 : p[i] >= 0xe0 ? 2 : 1;

        if (p[i] < 0xc2 || p[i] > 0xf4 || len - i <= n) {
            return 0;
        }

        cp = p[i] & (0x3fU >> n);

        for (k = 1; k <= n; k++) {
            if ((p[i + k] & 0xc0) != 0x80) {
                return 0;
            }

            cp = cp << 6 | (p[i + k] & 0x3f);
        }

        if (cp < least[n] || cp > 0x10ffff || (cp >= 0xd800 && cp <= 0xdfff))
        {
            return 0;
        }
    }

    return 1;
}


uint32_t
crc32_add(uint32_t crc, const void *data, size_t len)
{
    uint32_t              i, k, n, lo, hi;
    const unsigned char  *p = data;

    static uint32_t       table[8][256];

    if (table[0][1] == 0) {
        for (i = 0; i < 256; i++) {
            for (n = i, k = 0; k < 8; k++) {
                n = n >> 1 ^ ((n & 1) != 0 ? 0xedb88320 : 0);
            }

            table[0][i] = n;
        }

        for (i = 0; i < 256; i++) {
            for (k = 1; k < 8; k++) {
                n = table[k - 1][i];
                table[k][i] = n >> 8 ^ table[0][n & 0xff];
            }
        }
    }

    crc = ~crc;

    for ( /* void */ ; len >= 8; len -= 8, p += 8) {
        memcpy(&lo, p, 4);
        memcpy(&hi, p + 4, 4);
        lo ^= crc;

        crc = table[7][lo & 0xff] ^ table[6][lo >> 8 & 0xff]
              ^ table[5][lo >> 16 & 0xff] ^ table[4][lo >> 24]
              ^ table[3][hi & 0xff] ^ table[2][hi >> 8 & 0xff]
              ^ table[1][hi >> 16 & 0xff] ^ table[0][hi >> 24];
    }

    while (len-- != 0) {
        crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
    }

    return ~crc;
}
