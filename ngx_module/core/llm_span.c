
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_span.h"

#include <string.h>


typedef struct {
    unsigned char        *pos;
    unsigned char        *last;
    unsigned              overflow:1;
} llm_span_out_t;


static void llm_span_put(llm_span_out_t *out, const void *p, size_t len);
static void llm_span_string(llm_span_out_t *out, const char *s);
static void llm_span_escape(llm_span_out_t *out, const unsigned char *p,
    size_t len);
static size_t llm_span_utf8(const unsigned char *p, size_t len);
static void llm_span_decimal(llm_span_out_t *out, uint64_t n,
    unsigned width);
static void llm_span_int(llm_span_out_t *out, int64_t n);
static void llm_span_micro(llm_span_out_t *out, int64_t n);
static void llm_span_stamp(llm_span_out_t *out, const char *name,
    uint64_t ms);
static void llm_span_id(llm_span_out_t *out, const char *name,
    const unsigned char *id, size_t len);
static void llm_span_attr(llm_span_out_t *out, const llm_span_attr_t *attr);
static void llm_span_resource(llm_span_out_t *out, const char *key,
    const unsigned char *p, size_t len);


#define llm_span_literal(out, s)  llm_span_put(out, s, sizeof(s) - 1)


void
llm_span_text(llm_span_t *sp, const char *key, const void *data, size_t len)
{
    llm_span_attr_t  *attr;

    if (sp->nattrs == LLM_SPAN_ATTRS || len == 0) {
        return;
    }

    attr = &sp->attr[sp->nattrs++];

    attr->key = key;
    attr->type = LLM_SPAN_STRING;
    attr->text.data = (unsigned char *) data;
    attr->text.len = len;
}


void
llm_span_number(llm_span_t *sp, const char *key, llm_span_type_e type,
    int64_t number)
{
    llm_span_attr_t  *attr;

    if (sp->nattrs == LLM_SPAN_ATTRS) {
        return;
    }

    attr = &sp->attr[sp->nattrs++];

    attr->key = key;
    attr->type = type;
    attr->number = number;
}


size_t
llm_span_write(unsigned char *p, size_t size, const llm_span_t *sp)
{
    unsigned        i;
    llm_span_out_t  out;

    out.pos = p;
    out.last = p + size;
    out.overflow = 0;

    llm_span_literal(&out, "{");
    llm_span_id(&out, "traceId", sp->trace, LLM_TRACE_ID_LEN);
    llm_span_literal(&out, ",");
    llm_span_id(&out, "spanId", sp->id, LLM_SPAN_ID_LEN);

    if (sp->parent != NULL) {
        llm_span_literal(&out, ",");
        llm_span_id(&out, "parentSpanId", sp->parent, LLM_SPAN_ID_LEN);
    }

    llm_span_literal(&out, ",\"name\":\"");
    llm_span_string(&out, sp->operation);

    if (sp->subject.len != 0) {
        llm_span_literal(&out, " ");
        llm_span_escape(&out, sp->subject.data, sp->subject.len);
    }

    llm_span_literal(&out, "\",\"kind\":");
    llm_span_decimal(&out, sp->kind, 1);

    llm_span_stamp(&out, "startTimeUnixNano", sp->start);
    llm_span_stamp(&out, "endTimeUnixNano",
                   sp->end < sp->start ? sp->start : sp->end);

    llm_span_literal(&out, ",\"attributes\":[");

    for (i = 0; i < sp->nattrs; i++) {
        if (i != 0) {
            llm_span_literal(&out, ",");
        }

        llm_span_attr(&out, &sp->attr[i]);
    }

    llm_span_literal(&out, "]");

    if (sp->failed) {
        llm_span_literal(&out, ",\"status\":{\"code\":2}");
    }

    llm_span_literal(&out, "}");

    return out.overflow ? 0 : (size_t) (out.pos - p);
}


size_t
llm_span_head(unsigned char *p, size_t size, const llm_str_t *service,
    const llm_str_t *instance, const char *version)
{
    llm_span_out_t  out;

    out.pos = p;
    out.last = p + size;
    out.overflow = 0;

    llm_span_literal(&out, "{\"resourceSpans\":[{\"resource\":"
                           "{\"attributes\":[");
    llm_span_resource(&out, "service.name", service->data, service->len);
    llm_span_literal(&out, ",");
    llm_span_resource(&out, "service.version", (const unsigned char *) version,
                      strlen(version));
    llm_span_literal(&out, ",");
    llm_span_resource(&out, "service.instance.id", instance->data,
                      instance->len);
    llm_span_literal(&out, "]},\"scopeSpans\":[{\"scope\":{\"name\":"
                           "\"ngx-llm\",\"version\":\"");
    llm_span_string(&out, version);
    llm_span_literal(&out, "\"},\"spans\":[");

    return out.overflow ? 0 : (size_t) (out.pos - p);
}


size_t
llm_span_tail(unsigned char *p, size_t size)
{
    llm_span_out_t  out;

    out.pos = p;
    out.last = p + size;
    out.overflow = 0;

    llm_span_literal(&out, "]}]}]}");

    return out.overflow ? 0 : (size_t) (out.pos - p);
}


static void
llm_span_resource(llm_span_out_t *out, const char *key,
    const unsigned char *p, size_t len)
{
    llm_span_attr_t  attr;

    attr.key = key;
    attr.type = LLM_SPAN_STRING;
    attr.text.data = (unsigned char *) p;
    attr.text.len = len;

    llm_span_attr(out, &attr);
}


static void
llm_span_attr(llm_span_out_t *out, const llm_span_attr_t *attr)
{
    llm_span_literal(out, "{\"key\":\"");
    llm_span_string(out, attr->key);
    llm_span_literal(out, "\",\"value\":{\"");

    switch (attr->type) {

    case LLM_SPAN_INT:

        /* 64 bits are a string in JSON: not all readers keep more than 53 */

        llm_span_literal(out, "intValue\":\"");
        llm_span_int(out, attr->number);
        llm_span_literal(out, "\"");
        break;

    case LLM_SPAN_BOOL:
        llm_span_literal(out, "boolValue\":");
        llm_span_string(out, attr->number ? "true" : "false");
        break;

    case LLM_SPAN_MICRO:
        llm_span_literal(out, "doubleValue\":");
        llm_span_micro(out, attr->number);
        break;

    default: /* LLM_SPAN_STRING */
        llm_span_literal(out, "stringValue\":\"");
        llm_span_escape(out, attr->text.data, attr->text.len);
        llm_span_literal(out, "\"");
    }

    llm_span_literal(out, "}}");
}


static void
llm_span_stamp(llm_span_out_t *out, const char *name, uint64_t ms)
{
    llm_span_literal(out, ",\"");
    llm_span_string(out, name);
    llm_span_literal(out, "\":\"");
    llm_span_decimal(out, ms, 1);
    llm_span_literal(out, "000000\"");
}


static void
llm_span_id(llm_span_out_t *out, const char *name, const unsigned char *id,
    size_t len)
{
    llm_span_literal(out, "\"");
    llm_span_string(out, name);
    llm_span_literal(out, "\":\"");
    llm_span_put(out, id, len);
    llm_span_literal(out, "\"");
}


static void
llm_span_int(llm_span_out_t *out, int64_t n)
{
    if (n < 0) {
        llm_span_literal(out, "-");
        llm_span_decimal(out, 0 - (uint64_t) n, 1);
        return;
    }

    llm_span_decimal(out, (uint64_t) n, 1);
}


static void
llm_span_micro(llm_span_out_t *out, int64_t n)
{
    uint64_t  u;

    u = (uint64_t) n;

    if (n < 0) {
        llm_span_literal(out, "-");
        u = 0 - u;
    }

    llm_span_decimal(out, u / 1000000, 1);
    llm_span_literal(out, ".");
    llm_span_decimal(out, u % 1000000, 6);
}


/* "width": least digits */

static void
llm_span_decimal(llm_span_out_t *out, uint64_t n, unsigned width)
{
    unsigned char  *p, *end, digits[20];

    end = digits + sizeof(digits);
    p = end;

    do {
        *--p = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    while ((unsigned) (end - p) < width) {
        *--p = '0';
    }

    llm_span_put(out, p, (size_t) (end - p));
}


/* once something did not fit nothing more does: no holes */

static void
llm_span_put(llm_span_out_t *out, const void *p, size_t len)
{
    if (out->overflow || (size_t) (out->last - out->pos) < len) {
        out->overflow = 1;
        return;
    }

    memcpy(out->pos, p, len);
    out->pos += len;
}


static void
llm_span_string(llm_span_out_t *out, const char *s)
{
    llm_span_put(out, s, strlen(s));
}


/*
 * Whole characters of at most LLM_SPAN_TEXT bytes; what is no UTF-8, or a
 * zero, becomes a question mark: for one a batch may be refused as a whole.
 */

static void
llm_span_escape(llm_span_out_t *out, const unsigned char *p, size_t len)
{
    size_t         n, left;
    unsigned char  esc[6];

    static const char  hex[] = "0123456789abcdef";

    left = LLM_SPAN_TEXT;

    while (len != 0) {

        n = *p == '\0' ? 0 : llm_span_utf8(p, len);

        if ((n ? n : 1) > left) {
            return;
        }

        if (n == 0) {
            llm_span_literal(out, "?");
            n = 1;

        } else if (*p == '"' || *p == '\\') {
            esc[0] = '\\';
            esc[1] = *p;
            llm_span_put(out, esc, 2);

        } else if (*p < 0x20 || *p == 0x7f) {
            memcpy(esc, "\\u00", 4);
            esc[4] = (unsigned char) hex[*p >> 4];
            esc[5] = (unsigned char) hex[*p & 0xf];
            llm_span_put(out, esc, 6);

        } else {
            llm_span_put(out, p, n);
        }

        p += n;
        len -= n;
        left -= n;
    }
}


/* length of the character at p, 0 if it is none */

static size_t
llm_span_utf8(const unsigned char *p, size_t len)
{
    size_t    i, n;
    uint32_t  c;

    /* the least that may be written in so many bytes */
    static const uint32_t  least[] = { 0, 0, 0x80, 0x800, 0x10000 };

    c = p[0];

    if (c < 0x80) {
        return 1;
    }

    n = (c & 0xe0) == 0xc0 ? 2 : (c & 0xf0) == 0xe0 ? 3
        : (c & 0xf8) == 0xf0 ? 4 : 0;

    if (n == 0 || len < n) {
        return 0;
    }

    c &= 0x7fu >> n;

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (p[i] & 0x3fu);
    }

    return c < least[n] || c > 0x10ffff || (c >= 0xd800 && c < 0xe000)
           ? 0 : n;
}
