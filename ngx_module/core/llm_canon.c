
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdio.h>
#include <string.h>

#include "core/llm_canon.h"
#include "core/llm_json_private.h"


#define LLM_CANON_DIGITS  15              /* of an exponent that is added up */
#define LLM_CANON_NEAR    256


/* digits in front of the point and behind it, times ten to the power */

typedef struct {
    const unsigned char  *whole;
    const unsigned char  *whole_end;
    const unsigned char  *part;
    const unsigned char  *part_end;
    int64_t               power;
    int                   huge;           /* the exponent is no int64_t */
} llm_canon_number_t;


static const unsigned char *llm_canon_string(llm_canon_t *cn,
    const unsigned char *p);
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


#if (LLM_JSON_SSE2)

/* which of these are a quote or a backslash, one bit for each */

static inline unsigned
llm_canon_mask(__m128i v)
{
    __m128i  quote, slash;

    quote = _mm_cmpeq_epi8(v, _mm_set1_epi8('"'));
    slash = _mm_cmpeq_epi8(v, _mm_set1_epi8('\\'));

    return (unsigned) _mm_movemask_epi8(_mm_or_si128(quote, slash));
}

#endif


/*
 * Looks for a quote or a backslash in what comes next: where it is, or how far
 * it looked.
 */

static inline const unsigned char *
llm_canon_near(const unsigned char *p, const unsigned char *last)
{
#if (LLM_JSON_SSE2)

    unsigned              mask;
    const unsigned char  *stop;

    /* a load may go beyond the string, but not beyond the text */

    stop = last - p > LLM_CANON_NEAR ? p + LLM_CANON_NEAR : last;

    for ( /* void */ ; stop - p >= 16; p += 16) {
        mask = llm_canon_mask(llm_json_load(p));

        if (mask != 0) {
            return p + __builtin_ctz(mask);
        }
    }

#else

    (void) last;

#endif

    return p;
}


/*
 * Short runs are the rule where there are escapes at all; memchr() is for
 * what is long.
 */

const unsigned char *
llm_canon_skip_string(const unsigned char *p, const unsigned char *last)
{
    const unsigned char  *q, *slash;

    for (p++; /* void */ ; p = q) {

        q = llm_canon_near(p, last);

        if (*q == '"') {
            return q + 1;
        }

        if (*q == '\\') {
            q += 2;
            continue;
        }

        q = memchr(q, '"', (size_t) (last - q));
        slash = q;

        while (slash > p && slash[-1] == '\\') {
            slash--;
        }

        q++;

        /* backslashes escape each other in pairs */

        if (((q - slash) & 1) != 0) {
            return q;
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
            p = llm_canon_string(cn, p);
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


/* copies up to a quote or a backslash: where that is */

static inline const unsigned char *
llm_canon_run(llm_canon_t *cn, const unsigned char *p)
{
#if (LLM_JSON_SSE2)

    size_t    n, used;
    __m128i   v;
    unsigned  mask;

    used = cn->used;

    while (cn->last - p >= 16) {

        if (LLM_CANON_BUFFER - used < 16) {
            cn->used = used;
            llm_canon_flush(cn);
            used = 0;
        }

        v = llm_json_load(p);
        mask = llm_canon_mask(v);

        _mm_storeu_si128((__m128i *) (void *) (cn->buf + used), v);

        if (mask != 0) {
            n = (size_t) __builtin_ctz(mask);
            cn->used = used + n;
            return p + n;
        }

        used += 16;
        p += 16;
    }

    cn->used = used;

#endif

    while (*p != '"' && *p != '\\') {
        llm_canon_byte(cn, *p++);
    }

    return p;
}


static const unsigned char *
llm_canon_string(llm_canon_t *cn, const unsigned char *p)
{
    size_t                i, n;
    unsigned char         out[4];
    const unsigned char  *end;

    /* the body of a large file goes to the sink as it lies there */

    if (cn->last - p > LLM_CANON_BUFFER) {
        end = memchr(p + 1, '"', (size_t) (cn->last - p - 1));

        if (end - p > LLM_CANON_BUFFER
            && memchr(p, '\\', (size_t) (end - p)) == NULL)
        {
            llm_canon_put(cn, p, (size_t) (end + 1 - p));
            return end + 1;
        }
    }

    llm_canon_byte(cn, *p++);

    for ( ;; ) {
        p = llm_canon_run(cn, p);

        if (*p == '"') {
            llm_canon_byte(cn, '"');
            return p + 1;
        }

        if (p[1] == '"' || p[1] == '\\') {

            /* these two are written as they are here */

            llm_canon_byte(cn, *p++);
            llm_canon_byte(cn, *p++);
            continue;
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
