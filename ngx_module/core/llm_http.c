
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_http.h"

#include <string.h>


typedef enum {
    LLM_HTTP_HEAD = 0,
    LLM_HTTP_BODY,                          /* "left" bytes of it */
    LLM_HTTP_REST,                          /* … until the end */
    LLM_HTTP_SIZE,                          /* of a chunk */
    LLM_HTTP_EXTENSION,
    LLM_HTTP_SIZE_LF,
    LLM_HTTP_CHUNK,
    LLM_HTTP_CHUNK_END,
    LLM_HTTP_CHUNK_LF,
    LLM_HTTP_TRAILER,                       /* at the start of a line */
    LLM_HTTP_TRAILER_LINE,
    LLM_HTTP_TRAILER_LF,                    /* the last one */
    LLM_HTTP_DONE,
    LLM_HTTP_FAILED
} llm_http_state_e;


static int llm_http_collect(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last);
static int llm_http_parse(llm_http_t *h);
static int llm_http_status(llm_http_t *h, const unsigned char *p,
    const unsigned char *end);
static int llm_http_field(llm_http_t *h, const unsigned char *p,
    const unsigned char *end);
static int llm_http_length(llm_http_t *h, const llm_str_t *value);
static void llm_http_value(const unsigned char *p, const unsigned char *end,
    llm_str_t *value);
static const unsigned char *llm_http_line(const unsigned char *p,
    const unsigned char *last, const unsigned char **end);
static int llm_http_take(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last, llm_str_t *part);
static int llm_http_frame(llm_http_t *h, unsigned char c);
static int llm_http_size(llm_http_t *h, unsigned char c);
static int llm_http_trailer(llm_http_t *h, unsigned char c);
static int llm_http_is(const llm_str_t *s, const char *name, size_t len);
static unsigned char llm_http_lower(unsigned char c);


void
llm_http_init(llm_http_t *h, unsigned char *head, size_t size)
{
    memset(h, 0, sizeof(llm_http_t));

    h->head = head;
    h->size = size;
}


int
llm_http_next(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last, llm_str_t *part)
{
    int  rc;

    for ( ;; ) {

        switch (h->state) {

        case LLM_HTTP_DONE:
            return LLM_HTTP_END;

        case LLM_HTTP_FAILED:
            return LLM_ERROR;

        case LLM_HTTP_HEAD:
            rc = llm_http_collect(h, pos, last);
            break;

        case LLM_HTTP_BODY:
        case LLM_HTTP_REST:
        case LLM_HTTP_CHUNK:

            if (*pos == last) {
                return LLM_AGAIN;
            }

            return llm_http_take(h, pos, last, part);

        default:

            if (*pos == last) {
                return LLM_AGAIN;
            }

            rc = llm_http_frame(h, *(*pos)++);
        }

        if (rc == LLM_AGAIN) {
            return LLM_AGAIN;
        }

        if (rc != LLM_OK) {
            h->state = LLM_HTTP_FAILED;
        }
    }
}


int
llm_http_eof(llm_http_t *h)
{
    if (h->state == LLM_HTTP_REST || h->state == LLM_HTTP_DONE) {
        h->state = LLM_HTTP_DONE;
        return LLM_HTTP_END;
    }

    h->state = LLM_HTTP_FAILED;

    return LLM_ERROR;
}


int
llm_http_header(const llm_http_t *h, const char *name, size_t len,
    llm_str_t *value)
{
    llm_str_t             s;
    const unsigned char  *p, *end, *last, *colon;

    last = h->head + h->len;
    p = llm_http_line(h->head, last, &end);

    while (p != NULL) {
        s.data = (unsigned char *) p;
        p = llm_http_line(p, last, &end);

        if (p == NULL || end == s.data) {
            break;
        }

        colon = memchr(s.data, ':', (size_t) (end - s.data));

        if (colon == NULL) {
            continue;
        }

        s.len = (size_t) (colon - s.data);

        if (llm_http_is(&s, name, len)) {
            llm_http_value(colon + 1, end, value);
            return LLM_OK;
        }
    }

    return LLM_DECLINED;
}


/* the head, up to and with its empty line */

static int
llm_http_collect(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last)
{
    unsigned char  c;

    while (*pos < last) {

        if (h->len == h->size) {
            return LLM_ERROR;
        }

        c = *(*pos)++;
        h->head[h->len++] = c;

        if (c != '\n') {
            continue;
        }

        if ((h->len >= 2 && h->head[h->len - 2] == '\n')
            || (h->len >= 3 && h->head[h->len - 2] == '\r'
                && h->head[h->len - 3] == '\n'))
        {
            return llm_http_parse(h);
        }
    }

    return LLM_AGAIN;
}


static int
llm_http_parse(llm_http_t *h)
{
    const unsigned char  *p, *start, *end, *last;

    last = h->head + h->len;
    p = llm_http_line(h->head, last, &end);

    if (llm_http_status(h, h->head, end) != LLM_OK) {
        return LLM_ERROR;
    }

    while (p != NULL) {
        start = p;
        p = llm_http_line(p, last, &end);

        if (p == NULL || end == start) {
            break;
        }

        if (llm_http_field(h, start, end) != LLM_OK) {
            return LLM_ERROR;
        }
    }

    if (h->chunked && h->sized) {
        return LLM_ERROR;
    }

    if (h->status < 200) {

        /* the answer itself is still to come; 101 was not asked for */

        if (h->status == 101 || h->chunked || h->sized) {
            return LLM_ERROR;
        }

        h->extra += h->len;
        h->len = 0;
        h->status = 0;

        return h->extra > LLM_HTTP_EXTRA ? LLM_ERROR : LLM_OK;
    }

    h->extra = 0;

    if (h->bodiless || h->status == 204 || h->status == 304) {
        h->state = LLM_HTTP_DONE;

    } else if (h->chunked) {
        h->state = LLM_HTTP_SIZE;

    } else if (h->sized) {
        h->state = h->left != 0 ? LLM_HTTP_BODY : LLM_HTTP_DONE;

    } else {
        h->state = LLM_HTTP_REST;
    }

    return LLM_OK;
}


/* "HTTP/1.1 200 OK" */

static int
llm_http_status(llm_http_t *h, const unsigned char *p,
    const unsigned char *end)
{
    unsigned  i;

    if (end - p < 12 || memcmp(p, "HTTP/1.", 7) != 0
        || (p[7] != '0' && p[7] != '1') || p[8] != ' '
        || (end - p > 12 && p[12] != ' '))
    {
        return LLM_ERROR;
    }

    for (i = 9; i < 12; i++) {

        if (p[i] < '0' || p[i] > '9') {
            return LLM_ERROR;
        }

        h->status = h->status * 10 + (p[i] - '0');
    }

    return h->status >= 100 ? LLM_OK : LLM_ERROR;
}


static int
llm_http_field(llm_http_t *h, const unsigned char *p,
    const unsigned char *end)
{
    llm_str_t             name, value;
    const unsigned char  *colon;

    colon = memchr(p, ':', (size_t) (end - p));

    /* a blank at the start would go on with the line before */

    if (colon == NULL || colon == p || *p == ' ' || *p == '\t'
        || colon[-1] == ' ' || colon[-1] == '\t'
        || memchr(p, '\0', (size_t) (end - p)) != NULL
        || memchr(p, '\r', (size_t) (end - p)) != NULL)
    {
        return LLM_ERROR;
    }

    name.data = (unsigned char *) p;
    name.len = (size_t) (colon - p);

    llm_http_value(colon + 1, end, &value);

    if (llm_http_is(&name, "content-length", 14)) {
        return llm_http_length(h, &value);
    }

    if (llm_http_is(&name, "transfer-encoding", 17)) {

        if (h->chunked || !llm_http_is(&value, "chunked", 7)) {
            return LLM_ERROR;
        }

        h->chunked = 1;
    }

    return LLM_OK;
}


static int
llm_http_length(llm_http_t *h, const llm_str_t *value)
{
    size_t    i;
    uint64_t  n;

    if (h->sized || value->len == 0 || value->len > 18) {
        return LLM_ERROR;
    }

    for (n = 0, i = 0; i < value->len; i++) {

        if (value->data[i] < '0' || value->data[i] > '9') {
            return LLM_ERROR;
        }

        n = n * 10 + (value->data[i] - '0');
    }

    h->left = n;
    h->sized = 1;

    return LLM_OK;
}


static void
llm_http_value(const unsigned char *p, const unsigned char *end,
    llm_str_t *value)
{
    while (p < end && (*p == ' ' || *p == '\t')) {
        p++;
    }

    while (end > p && (end[-1] == ' ' || end[-1] == '\t')) {
        end--;
    }

    value->data = (unsigned char *) p;
    value->len = (size_t) (end - p);
}


/* the start of the next line, or NULL; "end" is the end of this one */

static const unsigned char *
llm_http_line(const unsigned char *p, const unsigned char *last,
    const unsigned char **end)
{
    const unsigned char  *lf;

    lf = p < last ? memchr(p, '\n', (size_t) (last - p)) : NULL;

    if (lf == NULL) {
        *end = p;
        return NULL;
    }

    *end = lf > p && lf[-1] == '\r' ? lf - 1 : lf;

    return lf + 1;
}


static int
llm_http_take(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last, llm_str_t *part)
{
    part->data = (unsigned char *) *pos;
    part->len = (size_t) (last - *pos);

    if (h->state != LLM_HTTP_REST) {

        if (part->len > h->left) {
            part->len = (size_t) h->left;
        }

        h->left -= part->len;

        if (h->left == 0) {
            h->state = h->state == LLM_HTTP_BODY ? LLM_HTTP_DONE
                                                 : LLM_HTTP_CHUNK_END;
        }
    }

    *pos += part->len;

    return LLM_OK;
}


/* one byte of what stands between chunks */

static int
llm_http_frame(llm_http_t *h, unsigned char c)
{
    switch (h->state) {

    case LLM_HTTP_SIZE:
        return llm_http_size(h, c);

    case LLM_HTTP_EXTENSION:

        if (++h->extra > LLM_HTTP_EXTRA) {
            return LLM_ERROR;
        }

        if (c == '\r') {
            h->state = LLM_HTTP_SIZE_LF;
            return LLM_OK;
        }

        if (c != '\n') {
            return LLM_OK;
        }

        /* fall through */

    case LLM_HTTP_SIZE_LF:

        if (c != '\n') {
            return LLM_ERROR;
        }

        h->state = h->left != 0 ? LLM_HTTP_CHUNK : LLM_HTTP_TRAILER;
        h->digits = 0;
        h->extra = 0;

        return LLM_OK;

    case LLM_HTTP_CHUNK_END:

        if (c == '\r') {
            h->state = LLM_HTTP_CHUNK_LF;
            return LLM_OK;
        }

        /* fall through */

    case LLM_HTTP_CHUNK_LF:

        h->state = LLM_HTTP_SIZE;
        return c == '\n' ? LLM_OK : LLM_ERROR;

    default:
        return llm_http_trailer(h, c);
    }
}


static int
llm_http_size(llm_http_t *h, unsigned char c)
{
    unsigned  n;

    if (c >= '0' && c <= '9') {
        n = c - '0';

    } else if (llm_http_lower(c) >= 'a' && llm_http_lower(c) <= 'f') {
        n = llm_http_lower(c) - 'a' + 10;

    } else {

        if (h->digits == 0) {
            return LLM_ERROR;
        }

        h->state = LLM_HTTP_EXTENSION;

        if (c == '\r' || c == '\n' || c == ';' || c == ' ' || c == '\t') {
            return llm_http_frame(h, c);
        }

        return LLM_ERROR;
    }

    if (h->digits++ == 15) {
        return LLM_ERROR;
    }

    h->left = h->left * 16 + n;

    return LLM_OK;
}


static int
llm_http_trailer(llm_http_t *h, unsigned char c)
{
    if (++h->extra > LLM_HTTP_EXTRA) {
        return LLM_ERROR;
    }

    switch (h->state) {

    case LLM_HTTP_TRAILER:

        h->state = c == '\n' ? LLM_HTTP_DONE
                   : c == '\r' ? LLM_HTTP_TRAILER_LF : LLM_HTTP_TRAILER_LINE;
        return LLM_OK;

    case LLM_HTTP_TRAILER_LINE:

        if (c == '\n') {
            h->state = LLM_HTTP_TRAILER;
        }

        return LLM_OK;

    default: /* LLM_HTTP_TRAILER_LF */

        h->state = LLM_HTTP_DONE;
        return c == '\n' ? LLM_OK : LLM_ERROR;
    }
}


static int
llm_http_is(const llm_str_t *s, const char *name, size_t len)
{
    size_t  i;

    if (s->len != len) {
        return 0;
    }

    for (i = 0; i < len; i++) {
        if (llm_http_lower(s->data[i]) != (unsigned char) name[i]) {
            return 0;
        }
    }

    return 1;
}


static unsigned char
llm_http_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? c | 0x20 : c;
}
