
/*
 * Copyright (C) the ngx-llm authors
 *
 * A call writes all of its lines or none: a scrape with half a line in it is
 * refused as a whole.
 */


#include "core/llm_prometheus.h"

#include <string.h>


static void llm_prometheus_line(llm_prometheus_t *pm, const char *name,
    const char *suffix, const llm_prometheus_label_t *labels, unsigned n);
static void llm_prometheus_bound(llm_prometheus_t *pm, uint64_t micro);
static void llm_prometheus_six(llm_prometheus_t *pm, uint64_t micro);
static void llm_prometheus_end(llm_prometheus_t *pm, unsigned char *start);
static void llm_prometheus_put(llm_prometheus_t *pm, const void *p,
    size_t len);
static void llm_prometheus_text(llm_prometheus_t *pm, const char *s);
static void llm_prometheus_escape(llm_prometheus_t *pm,
    const unsigned char *p, size_t len, int quote);
static void llm_prometheus_number(llm_prometheus_t *pm, uint64_t n);
static size_t llm_prometheus_utf8(const unsigned char *p, size_t len);


void
llm_prometheus_family(llm_prometheus_t *pm, const char *name,
    const char *type, const char *help)
{
    unsigned char  *start;

    start = pm->pos;

    llm_prometheus_text(pm, "# HELP ");
    llm_prometheus_text(pm, name);
    llm_prometheus_text(pm, " ");
    llm_prometheus_escape(pm, (const unsigned char *) help, strlen(help), 0);
    llm_prometheus_text(pm, "\n# TYPE ");
    llm_prometheus_text(pm, name);
    llm_prometheus_text(pm, " ");
    llm_prometheus_text(pm, type);
    llm_prometheus_text(pm, "\n");

    llm_prometheus_end(pm, start);
}


void
llm_prometheus_sample(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n, uint64_t value)
{
    unsigned char  *start;

    start = pm->pos;

    llm_prometheus_line(pm, name, "", labels, n);
    llm_prometheus_number(pm, value);
    llm_prometheus_text(pm, "\n");

    llm_prometheus_end(pm, start);
}


void
llm_prometheus_micro(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n, int64_t value)
{
    unsigned char  *start;

    start = pm->pos;

    llm_prometheus_line(pm, name, "", labels, n);

    if (value < 0) {
        llm_prometheus_text(pm, "-");
    }

    /* the least number has no positive twin */

    llm_prometheus_six(pm, value < 0 ? -(uint64_t) value : (uint64_t) value);
    llm_prometheus_text(pm, "\n");

    llm_prometheus_end(pm, start);
}


void
llm_prometheus_histogram(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n,
    const llm_prometheus_histogram_t *hs)
{
    unsigned                i;
    uint64_t                total;
    unsigned char          *start;
    llm_prometheus_t        le;
    llm_prometheus_label_t  all[LLM_PROMETHEUS_LABELS + 1];
    unsigned char           bound[32];

    start = pm->pos;
    total = 0;

    for (i = 0; i < n; i++) {
        all[i] = labels[i];
    }

    all[n].name = "le";
    all[n].value.data = bound;

    for (i = 0; i <= hs->n; i++) {
        le.pos = bound;
        le.last = bound + sizeof(bound);
        le.overflow = 0;

        if (i < hs->n) {
            llm_prometheus_bound(&le, hs->bounds[i]);
        } else {
            llm_prometheus_text(&le, "+Inf");
        }

        all[n].value.len = (size_t) (le.pos - bound);
        total += hs->counts[i];

        llm_prometheus_line(pm, name, "_bucket", all, n + 1);
        llm_prometheus_number(pm, total);
        llm_prometheus_text(pm, "\n");
    }

    llm_prometheus_line(pm, name, "_sum", labels, n);
    llm_prometheus_six(pm, hs->sum);
    llm_prometheus_text(pm, "\n");

    llm_prometheus_line(pm, name, "_count", labels, n);
    llm_prometheus_number(pm, total);
    llm_prometheus_text(pm, "\n");

    llm_prometheus_end(pm, start);
}


/* what stands before a value */

static void
llm_prometheus_line(llm_prometheus_t *pm, const char *name,
    const char *suffix, const llm_prometheus_label_t *labels, unsigned n)
{
    unsigned  i;

    llm_prometheus_text(pm, name);
    llm_prometheus_text(pm, suffix);

    for (i = 0; i < n; i++) {
        llm_prometheus_text(pm, i == 0 ? "{" : ",");
        llm_prometheus_text(pm, labels[i].name);
        llm_prometheus_text(pm, "=\"");
        llm_prometheus_escape(pm, labels[i].value.data, labels[i].value.len,
                              1);
        llm_prometheus_text(pm, "\"");
    }

    llm_prometheus_text(pm, n == 0 ? " " : "} ");
}


/* 2500000 is "2.5": a label that does not change with the way it is made */

static void
llm_prometheus_bound(llm_prometheus_t *pm, uint64_t micro)
{
    llm_prometheus_six(pm, micro);

    while (pm->pos[-1] == '0') {
        pm->pos--;
    }

    if (pm->pos[-1] == '.') {
        pm->pos--;
    }
}


static void
llm_prometheus_six(llm_prometheus_t *pm, uint64_t micro)
{
    unsigned       i;
    unsigned char  digits[7];

    llm_prometheus_number(pm, micro / 1000000);

    micro %= 1000000;
    digits[0] = '.';

    for (i = 6; i > 0; i--) {
        digits[i] = (unsigned char) ('0' + micro % 10);
        micro /= 10;
    }

    llm_prometheus_put(pm, digits, sizeof(digits));
}


static void
llm_prometheus_end(llm_prometheus_t *pm, unsigned char *start)
{
    if (pm->overflow) {
        pm->pos = start;
    }
}


/* once something did not fit nothing more does: no holes in the page */

static void
llm_prometheus_put(llm_prometheus_t *pm, const void *p, size_t len)
{
    if (pm->overflow || (size_t) (pm->last - pm->pos) < len) {
        pm->overflow = 1;
        return;
    }

    if (len != 0) {
        memcpy(pm->pos, p, len);
        pm->pos += len;
    }
}


static void
llm_prometheus_text(llm_prometheus_t *pm, const char *s)
{
    llm_prometheus_put(pm, s, strlen(s));
}


/*
 * One label that is not UTF-8 (a name cut in the middle of a character will
 * do) makes the whole scrape fail, hence the question marks.
 */

static void
llm_prometheus_escape(llm_prometheus_t *pm, const unsigned char *p,
    size_t len, int quote)
{
    size_t  n;

    while (len != 0) {

        n = llm_prometheus_utf8(p, len);

        if (n == 0) {
            llm_prometheus_text(pm, "?");
            n = 1;

        } else if (*p == '\\') {
            llm_prometheus_text(pm, "\\\\");

        } else if (*p == '\n') {
            llm_prometheus_text(pm, "\\n");

        } else if (*p == '"' && quote) {
            llm_prometheus_text(pm, "\\\"");

        } else {
            llm_prometheus_put(pm, p, n);
        }

        p += n;
        len -= n;
    }
}


static void
llm_prometheus_number(llm_prometheus_t *pm, uint64_t n)
{
    unsigned char  *p, digits[20];

    p = digits + sizeof(digits);

    do {
        *--p = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    llm_prometheus_put(pm, p, (size_t) (digits + sizeof(digits) - p));
}


/* length of the character at p, 0 if it is none */

static size_t
llm_prometheus_utf8(const unsigned char *p, size_t len)
{
    size_t    i, n;
    uint32_t  c, min;

    c = p[0];

    if (c < 0x80) {
        return 1;
    }

    if (c >= 0xc2 && c < 0xe0) {
        n = 2;
        min = 0x80;
        c &= 0x1f;

    } else if (c >= 0xe0 && c < 0xf0) {
        n = 3;
        min = 0x800;
        c &= 0x0f;

    } else if (c >= 0xf0 && c < 0xf5) {
        n = 4;
        min = 0x10000;
        c &= 0x07;

    } else {
        return 0;
    }

    if (len < n) {
        return 0;
    }

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (p[i] & 0x3f);
    }

    if (c < min || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)) {
        return 0;
    }

    return n;
}
