
/*
 * Copyright (C) the ngx-llm authors
 *
 * Growing text, and what of somebody else's text a terminal may be shown.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <wchar.h>


static int text_decode(const unsigned char *p, uint32_t *code);
static int text_hidden(uint32_t code);


void *
ctl_alloc(size_t size)
{
    void  *p;

    p = calloc(1, size);

    if (p == NULL) {
        fprintf(stderr, "llmctl: out of memory\n");
        exit(CTL_REFUSED);
    }

    return p;
}


void
text_bytes(text_t *t, const char *s, size_t len)
{
    char    *p;
    size_t   size;

    if (t->data == NULL || t->size - t->len <= len) {
        size = t->size * 2 + len + 64;
        p = ctl_alloc(size);

        if (t->data != NULL) {
            memcpy(p, t->data, t->len);
        }

        free(t->data);
        t->data = p;
        t->size = size;
    }

    if (len != 0) {
        memcpy(t->data + t->len, s, len);
    }

    t->len += len;
    t->data[t->len] = '\0';
}


void
text_add(text_t *t, const char *s)
{
    text_bytes(t, s, strlen(s));
}


void
text_printf(text_t *t, const char *format, ...)
{
    int      len;
    char     buf[256], *p;
    va_list  args;

    va_start(args, format);
    len = vsnprintf(buf, sizeof(buf), format, args);
    va_end(args);

    if (len < 0) {
        return;
    }

    if ((size_t) len < sizeof(buf)) {
        text_bytes(t, buf, (size_t) len);
        return;
    }

    p = ctl_alloc((size_t) len + 1);

    va_start(args, format);
    vsnprintf(p, (size_t) len + 1, format, args);
    va_end(args);

    text_bytes(t, p, (size_t) len);
    free(p);
}


void
text_escape(text_t *t, const char *s)
{
    for ( /* void */ ; *s != '\0'; s++) {

        if ((*s >= 'a' && *s <= 'z') || (*s >= 'A' && *s <= 'Z')
            || (*s >= '0' && *s <= '9') || strchr("-._~", *s) != NULL)
        {
            text_bytes(t, s, 1);
            continue;
        }

        text_printf(t, "%%%02X", (unsigned char) *s);
    }
}


int
text_show(text_t *t, const char *s, int max)
{
    int                   n, len, width;
    char                  hex[16];
    uint32_t              code;
    const char           *part;
    const unsigned char  *p;

    width = 0;

    for (p = (const unsigned char *) s; *p != '\0'; p += len) {

        len = text_decode(p, &code);
        part = (const char *) p;

        if (len == 0) {
            len = 1;
            n = snprintf(hex, sizeof(hex), "\\x%02x", *p);
            part = hex;

        } else if (text_hidden(code)) {
            n = snprintf(hex, sizeof(hex), code < 0x100 ? "\\x%02x"
                                                        : "\\u{%x}", code);
            part = hex;

        } else {
            n = wcwidth((wchar_t) code);
        }

        if (max != 0 && width + n > max) {
            break;
        }

        width += n;
        text_bytes(t, part, part == hex ? (size_t) n : (size_t) len);
    }

    return width;
}


int
text_width(const char *s)
{
    int     width;
    text_t  t;

    if (s == NULL) {
        return 0;
    }

    memset(&t, 0, sizeof(t));
    width = text_show(&t, s, 0);
    text_free(&t);

    return width;
}


void
text_free(text_t *t)
{
    free(t->data);
    memset(t, 0, sizeof(text_t));
}


/* the length of a character in UTF-8, 0 if it is none */

static int
text_decode(const unsigned char *p, uint32_t *code)
{
    int       i, len;
    uint32_t  c;

    if (p[0] < 0x80) {
        *code = p[0];
        return 1;
    }

    len = p[0] >= 0xf0 ? 4 : p[0] >= 0xe0 ? 3 : 2;

    if (p[0] < 0xc2 || p[0] > 0xf4) {
        return 0;
    }

    c = p[0] & (0x7fu >> len);

    for (i = 1; i < len; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (p[i] & 0x3f);
    }

    if ((len == 3 && c < 0x800) || (len == 4 && (c < 0x10000 || c > 0x10ffff))
        || (c >= 0xd800 && c <= 0xdfff))
    {
        return 0;
    }

    *code = c;

    return len;
}


/* controls, what has no width of its own to be seen by, turns of direction */

static int
text_hidden(uint32_t code)
{
    return code < 0x20 || (code >= 0x7f && code < 0xa0) || code == 0xad
           || code == 0x61c || (code >= 0x200b && code <= 0x200f)
           || (code >= 0x2028 && code <= 0x202e)
           || (code >= 0x2060 && code <= 0x206f) || code == 0xfeff
           || code >= 0xe0000 || wcwidth((wchar_t) code) < 0;
}
