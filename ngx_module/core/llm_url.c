
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_url.h"

#include <string.h>


static const unsigned char *llm_url_scheme(const unsigned char *p,
    const unsigned char *end, llm_url_t *url);
static const unsigned char *llm_url_host(const unsigned char *p,
    const unsigned char *end, llm_url_t *url);
static const unsigned char *llm_url_port(const unsigned char *p,
    const unsigned char *end, llm_url_t *url);
static int llm_url_name(const unsigned char *p, const unsigned char *end);
static int llm_url_numeric(const unsigned char *p, const unsigned char *end);
static int llm_url_entry(const llm_str_t *entry, llm_url_t *url, int *open);
static int llm_url_same(const llm_str_t *a, const llm_str_t *b);
static unsigned char llm_url_lower(unsigned char c);
static int llm_url_digit(unsigned char c);


int
llm_url_parse(const unsigned char *p, size_t len, llm_url_t *url)
{
    const unsigned char  *c, *end;

    memset(url, 0, sizeof(llm_url_t));

    if (len == 0 || len > LLM_URL_MAX) {
        return LLM_ERROR;
    }

    end = p + len;

    for (c = p; c < end; c++) {
        if (*c <= 0x20 || *c >= 0x7f || *c == '#' || *c == '\\') {
            return LLM_ERROR;
        }
    }

    p = llm_url_scheme(p, end, url);

    if (p == NULL) {
        return LLM_ERROR;
    }

    p = llm_url_host(p, end, url);

    if (p == NULL || (p < end && *p != '/' && *p != '?')) {
        return LLM_ERROR;
    }

    url->path.data = (unsigned char *) p;
    url->path.len = (size_t) (end - p);

    return LLM_OK;
}


static const unsigned char *
llm_url_scheme(const unsigned char *p, const unsigned char *end,
    llm_url_t *url)
{
    size_t       i, n;
    const char  *name;

    url->tls = end - p > 4 && llm_url_lower(p[4]) == 's';

    name = url->tls ? "https://" : "http://";
    n = url->tls ? 8 : 7;

    if ((size_t) (end - p) <= n) {
        return NULL;
    }

    for (i = 0; i < n; i++) {
        if (llm_url_lower(p[i]) != (unsigned char) name[i]) {
            return NULL;
        }
    }

    url->port = url->tls ? 443 : 80;

    return p + n;
}


/* the host and a port behind it */

static const unsigned char *
llm_url_host(const unsigned char *p, const unsigned char *end, llm_url_t *url)
{
    const unsigned char  *start, *last;

    start = p;

    if (p < end && *p == '[') {
        last = memchr(p, ']', (size_t) (end - p));

        if (last == NULL
            || llm_address_parse(p + 1, (size_t) (last - p - 1),
                                 &url->address)
               != LLM_OK
            || url->address.len != 16)
        {
            return NULL;
        }

        url->host.data = (unsigned char *) p + 1;
        url->host.len = (size_t) (last - p - 1);
        p = last + 1;

    } else {
        for (last = p; last < end && *last != ':' && *last != '/'
                       && *last != '?'; last++)
        {
            /* void */
        }

        if (!llm_url_name(p, last)) {
            return NULL;
        }

        url->host.data = (unsigned char *) p;
        url->host.len = (size_t) (last - p);

        if (llm_url_numeric(p, last)
            && llm_address_parse(p, url->host.len, &url->address) != LLM_OK)
        {
            return NULL;
        }

        p = last;
    }

    if (p < end && *p == ':') {
        p = llm_url_port(p + 1, end, url);
    }

    if (p != NULL) {
        url->authority.data = (unsigned char *) start;
        url->authority.len = (size_t) (p - start);
    }

    return p;
}


static const unsigned char *
llm_url_port(const unsigned char *p, const unsigned char *end, llm_url_t *url)
{
    unsigned              n;
    const unsigned char  *start;

    n = 0;

    for (start = p; p < end && llm_url_digit(*p); p++) {

        if (p - start == 5) {
            return NULL;
        }

        n = n * 10 + (unsigned) (*p - '0');
    }

    if (p == start || *start == '0' || n > 65535) {
        return NULL;
    }

    url->port = n;
    url->explicit = 1;

    return p;
}


/* labels of 1 to 63 letters, digits, "-" and "_", no "-" at their ends */

static int
llm_url_name(const unsigned char *p, const unsigned char *end)
{
    unsigned char  c, before;
    size_t         n;

    if (end - p < 1 || end - p > LLM_URL_HOST) {
        return 0;
    }

    n = 0;
    before = '.';

    for ( ; p < end; p++) {
        c = llm_url_lower(*p);

        if (c == '.') {
            if (n == 0 || before == '-') {
                return 0;
            }

            n = 0;

        } else {
            if (!llm_url_digit(c) && (c < 'a' || c > 'z') && c != '_'
                && (c != '-' || n == 0))
            {
                return 0;
            }

            if (++n > 63) {
                return 0;
            }
        }

        before = c;
    }

    return n != 0 && before != '-';
}


/* does a resolver, or who else reads it, take it for a number? */

static int
llm_url_numeric(const unsigned char *p, const unsigned char *end)
{
    const unsigned char  *label;

    for (label = end; label > p && label[-1] != '.'; label--) {
        /* void */
    }

    if (end - label >= 2 && label[0] == '0' && llm_url_lower(label[1]) == 'x')
    {
        return 1;
    }

    for ( ; label < end; label++) {
        if (!llm_url_digit(*label)) {
            return 0;
        }
    }

    return 1;
}


int
llm_url_allowed(const llm_str_t *entry, const llm_url_t *url)
{
    int        open;
    llm_str_t  rest;
    llm_url_t  e;

    if (llm_url_entry(entry, &e, &open) != LLM_OK) {
        return LLM_ERROR;
    }

    if (url == NULL || e.tls != url->tls || e.port != url->port) {
        return LLM_DECLINED;
    }

    if (e.address.len || url->address.len) {
        return e.address.len == url->address.len
               && memcmp(e.address.bytes, url->address.bytes, e.address.len)
                  == 0
               ? LLM_OK : LLM_DECLINED;
    }

    if (!open) {
        return llm_url_same(&e.host, &url->host) ? LLM_OK : LLM_DECLINED;
    }

    if (url->host.len <= e.host.len + 1) {
        return LLM_DECLINED;
    }

    rest.len = e.host.len;
    rest.data = url->host.data + url->host.len - rest.len;

    return rest.data[-1] == '.' && llm_url_same(&e.host, &rest)
           ? LLM_OK : LLM_DECLINED;
}


static int
llm_url_entry(const llm_str_t *entry, llm_url_t *url, int *open)
{
    size_t                i;
    const unsigned char  *p, *end;

    memset(url, 0, sizeof(llm_url_t));

    p = entry->data;
    end = p + entry->len;

    *open = 0;

    for (i = 0; i + 3 <= entry->len; i++) {
        if (memcmp(p + i, "://", 3) == 0) {

            if (llm_url_parse(p, entry->len, url) != LLM_OK
                || url->path.len != 0
                || (url->address.len && !url->explicit))
            {
                return LLM_ERROR;
            }

            return LLM_OK;
        }
    }

    if (entry->len > 2 && p[0] == '*' && p[1] == '.') {
        *open = 1;
        p += 2;
    }

    url->tls = 1;
    url->port = 443;

    if (entry->len == 0 || *p == '[' || llm_url_host(p, end, url) != end
        || url->address.len)
    {
        return LLM_ERROR;
    }

    return LLM_OK;
}


static int
llm_url_same(const llm_str_t *a, const llm_str_t *b)
{
    size_t  i;

    if (a->len != b->len) {
        return 0;
    }

    for (i = 0; i < a->len; i++) {
        if (llm_url_lower(a->data[i]) != llm_url_lower(b->data[i])) {
            return 0;
        }
    }

    return 1;
}


static unsigned char
llm_url_lower(unsigned char c)
{
    return c >= 'A' && c <= 'Z' ? (unsigned char) (c | 0x20) : c;
}


static int
llm_url_digit(unsigned char c)
{
    return c >= '0' && c <= '9';
}
