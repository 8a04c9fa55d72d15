
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include <string.h>
#include <strings.h>

#include "lib_http.h"


enum {
    CHUNK_SIZE_FIRST = 0,
    CHUNK_SIZE,
    CHUNK_EXTENSION,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    CHUNK_TRAILER,
    CHUNK_TRAILER_LINE
};


static int64_t http_fields(http_head_t *h, const char *p, const char *end);
static void http_known(http_head_t *h, const http_header_t *header);
static const char *http_line(const char *p, const char *end, span_t *line);
static int http_has_token(span_t list, const char *token);
static void http_chunk_char(http_chunked_t *c, char ch);


int64_t
http_request(http_head_t *h, const char *data, size_t len)
{
    span_t       line;
    const char  *p, *end, *space, *last;

    end = memmem(data, len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }

    end += 4;
    p = http_line(data, end, &line);

    space = memchr(line.data, ' ', line.len);
    last = memrchr(line.data, ' ', line.len);

    if (space == NULL || space == last
        || line.data + line.len - last != 9
        || memcmp(last, " HTTP/1.", 8) != 0)
    {
        return -1;
    }

    h->method.data = line.data;
    h->method.len = (size_t) (space - line.data);
    h->target.data = space + 1;
    h->target.len = (size_t) (last - space - 1);
    h->minor = last[8] - '0';
    h->status = 0;

    h->len = (size_t) (end - data);

    return http_fields(h, p, end);
}


int64_t
http_answer(http_head_t *h, const char *data, size_t len)
{
    span_t       line, status;
    const char  *p, *end;

    end = memmem(data, len, "\r\n\r\n", 4);
    if (end == NULL) {
        return 0;
    }

    end += 4;
    p = http_line(data, end, &line);

    if (line.len < 12 || memcmp(line.data, "HTTP/1.", 7) != 0) {
        return -1;
    }

    status.data = line.data + 9;
    status.len = 3;

    h->method.len = 0;
    h->target.len = 0;
    h->minor = line.data[7] - '0';
    h->status = (int) span_int(status);

    if (h->status < 100) {
        return -1;
    }

    h->len = (size_t) (end - data);

    return http_fields(h, p, end);
}


const span_t *
http_header(const http_head_t *h, const char *name)
{
    size_t  i, len;

    len = strlen(name);

    for (i = 0; i < h->n; i++) {
        if (h->headers[i].name.len == len
            && strncasecmp(h->headers[i].name.data, name, len) == 0)
        {
            return &h->headers[i].value;
        }
    }

    return NULL;
}


static int64_t
http_fields(http_head_t *h, const char *p, const char *end)
{
    span_t          line;
    const char     *colon;
    http_header_t  *header;

    h->n = 0;
    h->content_length = -1;
    h->chunked = 0;
    h->expect = 0;
    h->keep_alive = h->minor != 0;

    for ( ;; ) {
        p = http_line(p, end, &line);

        if (line.len == 0) {
            return (int64_t) h->len;
        }

        colon = memchr(line.data, ':', line.len);

        if (colon == NULL || colon == line.data || h->n == HTTP_HEADERS) {
            return -1;
        }

        header = &h->headers[h->n++];

        header->name.data = line.data;
        header->name.len = (size_t) (colon - line.data);

        header->value.data = colon + 1;
        header->value.len = (size_t) (line.data + line.len - colon - 1);

        while (header->value.len != 0 && header->value.data[0] == ' ') {
            header->value.data++;
            header->value.len--;
        }

        while (header->value.len != 0
               && header->value.data[header->value.len - 1] == ' ')
        {
            header->value.len--;
        }

        http_known(h, header);
    }
}


static void
http_known(http_head_t *h, const http_header_t *header)
{
    switch (header->name.len) {

    case 6:
        if (span_eq_case(header->name, span("expect"))) {
            h->expect = http_has_token(header->value, "100-continue");
        }

        break;

    case 10:
        if (span_eq_case(header->name, span("connection"))) {
            if (http_has_token(header->value, "close")) {
                h->keep_alive = 0;

            } else if (http_has_token(header->value, "keep-alive")) {
                h->keep_alive = 1;
            }
        }

        break;

    case 14:
        if (span_eq_case(header->name, span("content-length"))) {
            h->content_length = span_int(header->value);
        }

        break;

    case 17:
        if (span_eq_case(header->name, span("transfer-encoding"))) {
            h->chunked = http_has_token(header->value, "chunked");
        }

        break;
    }
}


static const char *
http_line(const char *p, const char *end, span_t *line)
{
    const char  *lf;

    lf = memchr(p, '\n', (size_t) (end - p));

    line->data = p;
    line->len = (size_t) (lf - p);

    if (line->len != 0 && lf[-1] == '\r') {
        line->len--;
    }

    return lf + 1;
}


static int
http_has_token(span_t list, const char *token)
{
    size_t  i, len;

    len = strlen(token);

    for (i = 0; i + len <= list.len; i++) {
        if (strncasecmp(list.data + i, token, len) == 0) {
            return 1;
        }
    }

    return 0;
}


size_t
http_dechunk(http_chunked_t *c, const char *data, size_t len, buf_t *out)
{
    size_t  i, n;

    for (i = 0; i < len && !c->done && !c->bad; /* void */ ) {

        if (c->state != CHUNK_DATA) {
            http_chunk_char(c, data[i++]);
            continue;
        }

        n = len - i < c->left ? len - i : (size_t) c->left;

        if (out != NULL) {
            buf_add(out, data + i, n);
        }

        i += n;
        c->left -= n;

        if (c->left == 0) {
            c->state = CHUNK_DATA_CR;
        }
    }

    return i;
}


static void
http_chunk_char(http_chunked_t *c, char ch)
{
    int  digit;

    switch (c->state) {

    case CHUNK_SIZE_FIRST:
    case CHUNK_SIZE:
        digit = ch >= '0' && ch <= '9' ? ch - '0'
                : (ch | 0x20) >= 'a' && (ch | 0x20) <= 'f'
                  ? (ch | 0x20) - 'a' + 10 : -1;

        if (digit >= 0 && c->left < (uint64_t) 1 << 56) {
            c->left = c->left * 16 + (uint64_t) digit;
            c->state = CHUNK_SIZE;
            break;
        }

        if (digit >= 0 || c->state == CHUNK_SIZE_FIRST) {
            c->bad = 1;
            break;
        }

        c->state = CHUNK_EXTENSION;

        /* fall through */

    case CHUNK_EXTENSION:
        if (ch == '\n') {
            c->state = c->left == 0 ? CHUNK_TRAILER : CHUNK_DATA;
        }

        break;

    case CHUNK_DATA_CR:
        c->bad = ch != '\r';
        c->state = CHUNK_DATA_LF;
        break;

    case CHUNK_DATA_LF:
        c->bad = ch != '\n';
        c->state = CHUNK_SIZE_FIRST;
        break;

    case CHUNK_TRAILER:
        if (ch == '\n') {
            c->done = 1;

        } else if (ch != '\r') {
            c->state = CHUNK_TRAILER_LINE;
        }

        break;

    case CHUNK_TRAILER_LINE:
        if (ch == '\n') {
            c->state = CHUNK_TRAILER;
        }

        break;
    }
}
