
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_canon.h"


#define LLM_CANON_DIGITS  15              /* of an exponent that is added up */


/* digits in front of the point and behind it, times ten to the power */

typedef struct {
    const unsigned char  *whole;
    const unsigned char  *whole_end;
    const unsigned char  *part;
    const unsigned char  *part_end;
    int64_t               power;
    int                   huge;           /* the exponent is no int64_t */
} llm_canon_number_t;


static void llm_canon_split(llm_canon_number_t *n, const unsigned char *p,
    const unsigned char *end);
static void llm_canon_strip(llm_canon_number_t *n);


void
llm_canon_init(llm_canon_t *cn, llm_sink_pt sink, void *data)
{
    cn->sink = sink;
    cn->data = data;
    cn->used = 0;
}


void
llm_canon_byte(llm_canon_t *cn, unsigned char c)
{
    if (cn->used == LLM_CANON_BUFFER) {
        llm_canon_flush(cn);
    }

    cn->buf[cn->used++] = c;
}


void
llm_canon_put(llm_canon_t *cn, const void *p, size_t len)
{
    if (len > LLM_CANON_BUFFER - cn->used) {
        llm_canon_flush(cn);

        if (len > LLM_CANON_BUFFER) {
            cn->sink(cn->data, p, len);
            return;
        }
    }

    memcpy(cn->buf + cn->used, p, len);
    cn->used += len;
}


void
llm_canon_flush(llm_canon_t *cn)
{
    if (cn->used != 0) {
        cn->sink(cn->data, cn->buf, cn->used);
        cn->used = 0;
    }
}


void
llm_canon_name(llm_canon_t *cn, const unsigned char *p, size_t len)
{
    size_t  i;

    llm_canon_byte(cn, '"');

    for (i = 0; i < len; i++) {

        if (p[i] == '"' || p[i] == '\\') {
            llm_canon_byte(cn, '\\');
        }

        llm_canon_byte(cn, p[i]);
    }

    llm_canon_put(cn, "\":", 2);
}


void
llm_canon_string(llm_canon_t *cn, const llm_json_t *js)
{
    size_t                i, n;
    unsigned char         out[4];
    const unsigned char  *p, *end, *slash;

    if (!js->escaped) {

        /* nothing in it would have to be escaped here either */

        llm_canon_put(cn, js->start, (size_t) (js->end - js->start));
        return;
    }

    llm_canon_byte(cn, '"');

    p = js->start + 1;
    end = js->end - 1;

    for ( ;; ) {
        slash = memchr(p, '\\', (size_t) (end - p));

        if (slash == NULL) {
            break;
        }

        llm_canon_put(cn, p, (size_t) (slash - p));

        p = slash;
        n = llm_json_unescape(&p, out);

        for (i = 0; i < n; i++) {

            if (out[i] == '"' || out[i] == '\\') {
                llm_canon_byte(cn, '\\');
            }

            llm_canon_byte(cn, out[i]);
        }
    }

    llm_canon_put(cn, p, (size_t) (end - p));
    llm_canon_byte(cn, '"');
}


void
llm_canon_number(llm_canon_t *cn, const llm_json_t *js, int real)
{
    int                 len, minus;
    char                power[32];
    llm_canon_number_t  n;

    minus = (*js->start == '-');

    if (!js->integer || real) {
        llm_canon_split(&n, js->start + minus, js->end);
        llm_canon_strip(&n);

        if (n.whole == n.whole_end && n.part == n.part_end) {

            if (minus && !real) {
                llm_canon_byte(cn, '-');
            }

            llm_canon_put(cn, "0e0,", 4);
            return;
        }

        if (!n.huge) {

            if (minus) {
                llm_canon_byte(cn, '-');
            }

            len = snprintf(power, sizeof(power), "e%lld,",
                           (long long) n.power);

            llm_canon_put(cn, n.whole, (size_t) (n.whole_end - n.whole));
            llm_canon_put(cn, n.part, (size_t) (n.part_end - n.part));
            llm_canon_put(cn, power, (size_t) len);
            return;
        }

        /* beyond all numbers in use: the same only if written the same */
    }

    llm_canon_put(cn, js->start, (size_t) (js->end - js->start));
    llm_canon_byte(cn, ',');
}


static inline const unsigned char *
llm_canon_digits(const unsigned char *p, const unsigned char *end)
{
    while (p < end && *p >= '0' && *p <= '9') {
        p++;
    }

    return p;
}


static void
llm_canon_split(llm_canon_number_t *n, const unsigned char *p,
    const unsigned char *end)
{
    int                   minus;
    const unsigned char  *start;

    n->whole = p;
    n->whole_end = llm_canon_digits(p, end);

    p = n->whole_end;

    if (p < end && *p == '.') {
        p++;
    }

    n->part = p;
    n->part_end = llm_canon_digits(p, end);

    p = n->part_end;
    minus = 0;

    if (p < end) {
        p++;                                                    /* e or E */
        minus = (*p == '-');
        p += (*p == '-' || *p == '+');
    }

    while (p < end && *p == '0') {
        p++;
    }

    n->power = 0;
    n->huge = (end - p > LLM_CANON_DIGITS);

    for (start = p; p < end && p - start < LLM_CANON_DIGITS; p++) {
        n->power = n->power * 10 + (*p - '0');
    }

    if (minus) {
        n->power = -n->power;
    }

    n->power -= n->part_end - n->part;
}


static void
llm_canon_strip(llm_canon_number_t *n)
{
    while (n->part_end > n->part && n->part_end[-1] == '0') {
        n->part_end--;
        n->power++;
    }

    if (n->part_end == n->part) {

        while (n->whole_end > n->whole && n->whole_end[-1] == '0') {
            n->whole_end--;
            n->power++;
        }
    }

    while (n->whole < n->whole_end && *n->whole == '0') {
        n->whole++;
    }

    if (n->whole == n->whole_end) {

        while (n->part < n->part_end && *n->part == '0') {
            n->part++;
        }
    }
}
