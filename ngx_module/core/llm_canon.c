
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_canon.h"
#include "core/llm_json_private.h"


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


static void llm_canon_string(llm_canon_t *cn, const unsigned char *p,
    const unsigned char *end);
static const unsigned char *llm_canon_number(llm_canon_t *cn,
    const unsigned char *p, int real);
static void llm_canon_split(llm_canon_number_t *n, const unsigned char *p,
    const unsigned char *end);
static void llm_canon_strip(llm_canon_number_t *n);


void
llm_canon_init(llm_canon_t *cn, const unsigned char *last, llm_sink_pt sink,
    void *data)
{
    cn->last = last;
    cn->sink = sink;
    cn->data = data;
    cn->used = 0;
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


const unsigned char *
llm_canon_skip_string(const unsigned char *p, const unsigned char *last)
{
    const unsigned char  *q, *slash;

    for (q = p + 1; /* void */ ; q++) {
        q = memchr(q, '"', (size_t) (last - q));
        slash = q;

        while (slash[-1] == '\\') {
            slash--;
        }

        /* backslashes escape each other in pairs */

        if (((q - slash) & 1) == 0) {
            return q + 1;
        }
    }
}


/* behind a number or a literal */

static inline const unsigned char *
llm_canon_word(const unsigned char *p)
{
    while (*p > ' ' && *p != ',' && *p != ']' && *p != '}') {
        p++;
    }

    return p;
}


const unsigned char *
llm_canon_skip(const unsigned char *p, const unsigned char *last)
{
    unsigned  depth;

    depth = 0;

    do {
        switch (*p) {

        case '"':
            p = llm_canon_skip_string(p, last);
            continue;

        case '{':
        case '[':
            depth++;
            break;

        case '}':
        case ']':
            depth--;
            break;

        default:

            if (depth == 0) {
                return llm_canon_word(p);
            }
        }

        p++;
    } while (depth != 0);

    return p;
}


const unsigned char *
llm_canon_value(llm_canon_t *cn, const unsigned char *p)
{
    unsigned              depth;
    const unsigned char  *end;

    depth = 0;

    do {
        switch (*p) {

        case ' ':
        case '\t':
        case '\n':
        case '\r':
            p++;
            continue;

        case '"':
            end = llm_canon_skip_string(p, cn->last);
            llm_canon_string(cn, p, end);
            p = end;
            continue;

        case '-':
        case '0': case '1': case '2': case '3': case '4':
        case '5': case '6': case '7': case '8': case '9':
            p = llm_canon_number(cn, p, 0);
            continue;

        case '{':
        case '[':
            depth++;
            break;

        case '}':
        case ']':
            depth--;
            break;

        case ',':
        case ':':
            break;

        default:
            end = llm_canon_word(p);
            llm_canon_put(cn, p, (size_t) (end - p));
            p = end;
            continue;
        }

        llm_canon_byte(cn, *p++);
    } while (depth != 0);

    return p;
}


const unsigned char *
llm_canon_real(llm_canon_t *cn, const unsigned char *p)
{
    return llm_canon_number(cn, p, 1);
}


/*
 * Copies up to a backslash or the end: where that is.  Short runs are the
 * rule where there are escapes at all, so this is no memchr() and memcpy().
 */

static inline const unsigned char *
llm_canon_run(llm_canon_t *cn, const unsigned char *p,
    const unsigned char *end)
{
#if (LLM_JSON_SSE2)

    size_t    n;
    __m128i   v;
    unsigned  mask;

    /* a load may go beyond the string, but not beyond the text */

    while (p < end && cn->last - p >= 16) {

        if (LLM_CANON_BUFFER - cn->used < 16) {
            llm_canon_flush(cn);
        }

        v = llm_json_load(p);
        mask = (unsigned) _mm_movemask_epi8(
                                   _mm_cmpeq_epi8(v, _mm_set1_epi8('\\')));

        _mm_storeu_si128((__m128i *) (void *) (cn->buf + cn->used), v);

        n = mask != 0 ? (size_t) __builtin_ctz(mask) : 16;
        n = n < (size_t) (end - p) ? n : (size_t) (end - p);

        cn->used += n;
        p += n;

        if (n < 16) {
            return p;
        }
    }

#endif

    while (p < end && *p != '\\') {
        llm_canon_byte(cn, *p++);
    }

    return p;
}


static void
llm_canon_string(llm_canon_t *cn, const unsigned char *p,
    const unsigned char *end)
{
    size_t         i, n;
    unsigned char  out[4];

    /* the body of a large file goes to the sink as it lies there */

    if (end - p > LLM_CANON_BUFFER
        && memchr(p, '\\', (size_t) (end - p)) == NULL)
    {
        llm_canon_put(cn, p, (size_t) (end - p));
        return;
    }

    for ( ;; ) {
        p = llm_canon_run(cn, p, end);

        if (p == end) {
            return;
        }

        n = llm_json_unescape(&p, out);

        for (i = 0; i < n; i++) {

            if (out[i] == '"' || out[i] == '\\') {
                llm_canon_byte(cn, '\\');
            }

            llm_canon_byte(cn, out[i]);
        }
    }
}


static const unsigned char *
llm_canon_number(llm_canon_t *cn, const unsigned char *p, int real)
{
    int                   len, minus;
    char                  power[32];
    llm_canon_number_t    n;
    const unsigned char  *end;

    end = llm_canon_word(p);
    minus = (*p == '-');

    llm_canon_split(&n, p + minus, end);

    if (n.whole_end == end && !real) {
        llm_canon_put(cn, p, (size_t) (end - p));
        return end;
    }

    llm_canon_strip(&n);

    if (n.whole == n.whole_end && n.part == n.part_end) {

        if (minus && !real) {
            llm_canon_byte(cn, '-');
        }

        llm_canon_put(cn, "0e0", 3);
        return end;
    }

    if (n.huge) {

        /* beyond all numbers in use: the same only if written the same */

        llm_canon_put(cn, p, (size_t) (end - p));
        return end;
    }

    if (minus) {
        llm_canon_byte(cn, '-');
    }

    len = snprintf(power, sizeof(power), "e%lld", (long long) n.power);

    llm_canon_put(cn, n.whole, (size_t) (n.whole_end - n.whole));
    llm_canon_put(cn, n.part, (size_t) (n.part_end - n.part));
    llm_canon_put(cn, power, (size_t) len);

    return end;
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
