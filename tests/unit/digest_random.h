
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random requests as trees, and the texts that clients make of them.
 */


#ifndef _DIGEST_RANDOM_H_INCLUDED_
#define _DIGEST_RANDOM_H_INCLUDED_


#include "digest_check.h"

#include <jansson.h>


typedef enum {
    STYLE_PYTHON = 0,                       /* "\u00e9", blanks, 1.0, 1e-07 */
    STYLE_SDK,                              /* of Python: no blanks, UTF-8 */
    STYLE_NODE,                             /* 1 for 1.0, 1e-7 */
    STYLE_GO,                               /* "\u003c", "\u2028" */
    STYLE_WIDE,                             /* lines and tabs, "\/" */
    STYLES
} style_e;


typedef struct {
    char                 *data;
    size_t                len;
    size_t                size;
} text_t;


static uint32_t  rnd = 1;


static inline uint32_t
draw(uint32_t n)
{
    rnd = rnd * 1664525 + 1013904223;

    return (rnd >> 8) % n;
}


static inline void
text_put(text_t *t, const char *p, size_t len)
{
    if (t->len + len + 1 > t->size) {
        t->size = 2 * (t->len + len + 1);
        t->data = realloc(t->data, t->size);
    }

    memcpy(t->data + t->len, p, len);
    t->len += len;
    t->data[t->len] = '\0';
}


static inline void
text_add(text_t *t, const char *p)
{
    text_put(t, p, strlen(p));
}


/* the code point at p, which is valid UTF-8, and how many bytes it has */

static inline unsigned
text_point(const unsigned char *p, size_t *n)
{
    if (p[0] < 0x80) {
        *n = 1;
        return p[0];
    }

    if (p[0] < 0xe0) {
        *n = 2;
        return (p[0] & 0x1fu) << 6 | (p[1] & 0x3fu);
    }

    if (p[0] < 0xf0) {
        *n = 3;
        return (p[0] & 0x0fu) << 12 | (p[1] & 0x3fu) << 6 | (p[2] & 0x3fu);
    }

    *n = 4;
    return (p[0] & 0x07u) << 18 | (p[1] & 0x3fu) << 12
           | (p[2] & 0x3fu) << 6 | (p[3] & 0x3fu);
}


static inline void
text_string(text_t *t, const char *s, size_t len, style_e style)
{
    char                  e[16];
    size_t                n;
    unsigned              c;
    const char           *from, *to = "bfnrt\"\\";
    const unsigned char  *p = (const unsigned char *) s;

    from = style == STYLE_GO ? "\1\1\n\r\t\"\\" : "\b\f\n\r\t\"\\";

    text_add(t, "\"");

    for ( /* void */ ; len != 0; p += n, len -= n) {
        c = text_point(p, &n);

        if (c != 0 && c != 1 && c < 0x80 && strchr(from, (int) c)) {
            snprintf(e, sizeof(e), "\\%c", to[strchr(from, (int) c) - from]);

        } else if (c == '/' && style == STYLE_WIDE) {
            snprintf(e, sizeof(e), "\\/");

        } else if (c >= 0x10000 && style == STYLE_PYTHON) {
            snprintf(e, sizeof(e), "\\u%04x\\u%04x",
                     0xd800 + ((c - 0x10000) >> 10),
                     0xdc00 + ((c - 0x10000) & 0x3ff));

        } else if (c < 0x20 || (c > 0x7e && style == STYLE_PYTHON)
                   || (style == STYLE_GO && (c == '<' || c == '>' || c == '&'
                                             || c == 0x2028 || c == 0x2029)))
        {
            snprintf(e, sizeof(e), style == STYLE_WIDE ? "\\u%04X"
                                                       : "\\u%04x", c);

        } else {
            memcpy(e, p, n);
            e[n] = '\0';
        }

        text_add(t, e);
    }

    text_add(t, "\"");
}


/* the fewest digits that read back as the same number, as all of them do */

static inline void
text_real(text_t *t, double d, style_e style)
{
    int    i, prec, exp, low, high;
    char   s[512], *e;

    for (prec = 0; prec < 17; prec++) {
        snprintf(s, sizeof(s), "%.*e", prec, d);

        if (strtod(s, NULL) == d) {
            break;
        }
    }

    e = strchr(s, 'e');
    exp = atoi(e + 1);

    low = style <= STYLE_SDK ? -4 : -6;
    high = style <= STYLE_SDK ? 16 : 21;

    if (exp >= low && exp < high) {
        i = prec > exp ? prec - exp : 0;
        snprintf(s, sizeof(s), "%.*f", i, d);

        /* digits behind those that matter are zeros, whatever they are */

        if (exp > prec) {
            memset(s + strlen(s) - (exp - prec), '0', (size_t) (exp - prec));
        }

        if (i == 0 && style <= STYLE_SDK) {
            strcat(s, ".0");
        }

    } else if (style > STYLE_SDK) {
        snprintf(e, 8, "e%+d", exp);
    }

    text_add(t, s);
}


static inline void
text_space(text_t *t, style_e style, unsigned depth)
{
    if (style == STYLE_WIDE) {
        text_add(t, "\r\n");

        while (depth-- != 0) {
            text_add(t, "\t");
        }
    }
}


static inline void
text_value(text_t *t, const json_t *json, style_e style, unsigned depth)
{
    char         s[32];
    size_t       i;
    json_t      *value;
    const char  *key;

    switch (json_typeof(json)) {

    case JSON_OBJECT:
        text_add(t, "{");
        i = 0;

        json_object_foreach((json_t *) json, key, value) {

            if (i++ != 0) {
                text_add(t, style == STYLE_PYTHON ? ", " : ",");
            }

            text_space(t, style, depth + 1);
            text_string(t, key, strlen(key), style);
            text_add(t, style == STYLE_PYTHON ? ": "
                        : style == STYLE_WIDE ? " :\t" : ":");
            text_value(t, value, style, depth + 1);
        }

        text_space(t, style, depth);
        text_add(t, "}");
        return;

    case JSON_ARRAY:
        text_add(t, "[");

        json_array_foreach((json_t *) json, i, value) {

            if (i != 0) {
                text_add(t, style == STYLE_PYTHON ? ", " : ",");
            }

            text_space(t, style, depth + 1);
            text_value(t, value, style, depth + 1);
        }

        text_space(t, style, depth);
        text_add(t, "]");
        return;

    case JSON_STRING:
        text_string(t, json_string_value(json), json_string_length(json),
                    style);
        return;

    case JSON_INTEGER:
        snprintf(s, sizeof(s), "%" JSON_INTEGER_FORMAT,
                 json_integer_value(json));
        text_add(t, s);
        return;

    case JSON_REAL:
        text_real(t, json_real_value(json), style);
        return;

    case JSON_TRUE:
        text_add(t, "true");
        return;

    case JSON_FALSE:
        text_add(t, "false");
        return;

    default:
        text_add(t, "null");
    }
}


/* values */

static inline json_t *
any_string(void)
{
    text_t    t = { NULL, 0, 0 };
    json_t   *json;
    unsigned  n;

    static const char *const  bits[] = {
        "a", "Z", "0", " ", "the cat ", "\"", "\\", "/", "<b>", "&", "\n",
        "\t", "\r", "\b", "\f", "\x01", "\x1f", "\x7f", "\xc3\xa9",
        "e\xcc\x81", "\xe4\xb8\xad", "\xf0\x9f\x98\x80", "\xe2\x80\xa8",
        "\xef\xbb\xbf", "\xf4\x8f\xbf\xbf", "\\u00e9", "{\"a\":1}", ",", ":",
        "null", "0123456789abcdefghijklmnopqrstuvwxyz", ""
    };

    text_put(&t, "", 0);

    for (n = draw(12); n != 0; n--) {
        if (draw(20) == 0) {
            text_put(&t, "\0", 1);

        } else {
            text_add(&t, bits[draw(sizeof(bits) / sizeof(bits[0]))]);
        }
    }

    if (draw(200) == 0) {
        while (t.len < 3000) {
            text_add(&t, "long \xc3\xa9 ");
        }
    }

    json = json_stringn(t.data, t.len);
    free(t.data);

    return json;
}


/* written alike everywhere: no whole number */

static inline json_t *
any_fraction(void)
{
    static const double  power[] = { 1e-12, 1e-7, 1e-3, 0.125, 0.1 };

    return json_real((10 * (double) draw(1000) + 3)
                     * power[draw(sizeof(power) / sizeof(power[0]))]);
}


static inline json_t *
any_real(void)
{
    static const double  some[] = { 0, 1, -1, 2, 10, 0.7, 1e-7, 1e21, -1.5,
                                    1e16, 123456789012345680000.0, 100 };

    if (draw(3) == 0) {
        return any_fraction();
    }

    return json_real(some[draw(sizeof(some) / sizeof(some[0]))]);
}


static inline json_t *
any_integer(void)
{
    static const json_int_t  some[] = { 0, 1, 2, 10, 4096, 9007199254740993,
                                        INT64_MAX - 1 };

    return json_integer(some[draw(sizeof(some) / sizeof(some[0]))]);
}


/* names that mean something elsewhere among them */

static inline const char *
any_name(void)
{
    static const char *const  names[] = {
        "user", "stream", "model", "metadata", "n", "type", "properties",
        "prompt_cache_breakpoint", "prompt_cache_key", "content", "text",
        "parameters", "temperature", "a", "b", "caf\xc3\xa9", "x/y", "<z>",
        "q\"q", "", "\xf0\x9f\x98\x80"
    };

    return names[draw(sizeof(names) / sizeof(names[0]))];
}


static inline json_t *
any_value(unsigned depth)
{
    json_t    *json;
    unsigned   n;

    switch (draw(depth != 0 ? 8 : 6)) {

    case 0:
        return any_integer();

    case 1:
        return any_fraction();

    case 2:
        return draw(2) ? json_true() : json_false();

    case 3:
        return json_null();

    case 6:
        json = json_array();

        for (n = draw(4); n != 0; n--) {
            json_array_append_new(json, any_value(depth - 1));
        }

        return json;

    case 7:
        json = json_object();

        for (n = draw(5); n != 0; n--) {
            json_object_set_new(json, any_name(), any_value(depth - 1));
        }

        return json;

    default:
        return any_string();
    }
}


static inline json_t *
any_object(void)
{
    json_t    *json;
    unsigned   n;

    json = json_object();

    for (n = 2 + draw(3); n != 0; n--) {
        json_object_set_new(json, any_name(), any_value(2));
    }

    return json;
}


#endif /* _DIGEST_RANDOM_H_INCLUDED_ */
