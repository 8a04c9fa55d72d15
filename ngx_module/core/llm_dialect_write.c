
/*
 * Copyright (C) the ngx-llm authors
 *
 * Errors in the API's shape: four members, each of them always there.
 */


#include "core/llm_dialect_private.h"

#include <stdio.h>
#include <string.h>


/* names, braces, and what is said where nothing was told */

#define LLM_DIALECT_FIXED  192
#define LLM_DIALECT_WORD   256


static const char *llm_dialect_default_type(const llm_dialect_error_t *e,
    unsigned status);
static const char *llm_dialect_default_code(const llm_dialect_error_t *e);
static unsigned char *llm_dialect_copy(unsigned char *p, const char *s);
static unsigned char *llm_dialect_safe(unsigned char *p, const llm_str_t *s,
    size_t most);
static size_t llm_dialect_step(const unsigned char *p,
    const unsigned char *end, int *safe);
static size_t llm_dialect_utf8(const unsigned char *p,
    const unsigned char *end);
static int llm_dialect_hex(const unsigned char *p, const unsigned char *end);


size_t
llm_dialect_size(const llm_dialect_error_t *e)
{
    return LLM_DIALECT_FIXED + 3 * LLM_DIALECT_WORD
           + (e->message.len < LLM_DIALECT_TEXT ? e->message.len
                                                : LLM_DIALECT_TEXT);
}


unsigned char *
llm_dialect_write(const llm_dialect_error_t *e, unsigned status,
    unsigned char *p)
{
    const char  *word;

    p = llm_dialect_copy(p, "{\"error\":{\"message\":\"");

    if (e->message.len != 0) {
        p = llm_dialect_safe(p, &e->message, LLM_DIALECT_TEXT);

    } else if (status < 400) {
        p = llm_dialect_copy(p, "The provider answered with an error.");

    } else {
        p += snprintf((char *) p, 64, "The provider answered with HTTP %u.",
                      status);
    }

    p = llm_dialect_copy(p, "\",\"type\":\"");

    if (e->type.len != 0) {
        p = llm_dialect_safe(p, &e->type, LLM_DIALECT_WORD);

    } else {
        p = llm_dialect_copy(p, llm_dialect_default_type(e, status));
    }

    p = llm_dialect_copy(p, "\",\"param\":");

    if (e->param.len != 0) {
        *p++ = '"';
        p = llm_dialect_safe(p, &e->param, LLM_DIALECT_WORD);
        *p++ = '"';

    } else {
        p = llm_dialect_copy(p, "null");
    }

    p = llm_dialect_copy(p, ",\"code\":");
    word = llm_dialect_default_code(e);

    if (word != NULL) {
        *p++ = '"';
        p = llm_dialect_copy(p, word);
        *p++ = '"';

    } else if (e->code.len != 0) {
        *p++ = '"';
        p = llm_dialect_safe(p, &e->code, LLM_DIALECT_WORD);
        *p++ = '"';

    } else {
        p = llm_dialect_copy(p, "null");
    }

    return llm_dialect_copy(p, "}}");
}


unsigned
llm_dialect_status(const llm_dialect_error_t *e, unsigned status)
{
    status = llm_dialect_meant(e, status);

    switch (status) {

    case 402:
        return 429;

    case 529:
        return 503;

    case 499:
    case 530:
        return 502;

    default:
        return status >= 520 && status <= 527 ? 502 : status;
    }
}


static const char *
llm_dialect_default_type(const llm_dialect_error_t *e, unsigned status)
{
    status = llm_dialect_status(e, status);

    if (e->quota) {
        return "insufficient_quota";
    }

    switch (status) {

    case 429:
        return "requests";

    case 408:
    case 504:
        return "timeout";

    default:
        return status >= 500 ? "server_error" : "invalid_request_error";
    }
}


/* clients act by these codes; a number told them nothing */

static const char *
llm_dialect_default_code(const llm_dialect_error_t *e)
{
    if (!llm_dialect_numeric(&e->code)) {
        return NULL;
    }

    return e->quota ? "insufficient_quota"
           : e->context ? "context_length_exceeded"
           : e->filtered ? "content_filter" : NULL;
}


static unsigned char *
llm_dialect_copy(unsigned char *p, const char *s)
{
    size_t  n;

    n = strlen(s);
    memcpy(p, s, n);

    return p + n;
}


/*
 * Copies what can stand in a string, up to "most" bytes, and never half a
 * character or escape; all else becomes a blank or a question mark.
 */

static unsigned char *
llm_dialect_safe(unsigned char *p, const llm_str_t *s, size_t most)
{
    int                   safe;
    size_t                n;
    const unsigned char  *from, *end;

    from = s->data;
    end = from + s->len;

    while (from < end) {
        n = llm_dialect_step(from, end, &safe);

        if (n > most) {
            break;
        }

        if (safe) {
            memcpy(p, from, n);
            p += n;
            most -= n;

        } else {
            *p++ = n > 1 || *from < 0x80 ? ' ' : '?';
            most--;
        }

        from += n;
    }

    return p;
}


/* bytes of the next character or escape */

static size_t
llm_dialect_step(const unsigned char *p, const unsigned char *end, int *safe)
{
    int  n, low;

    *safe = 1;

    if (*p >= 0x80) {
        n = (int) llm_dialect_utf8(p, end);
        *safe = (n != 0);

        return n != 0 ? (size_t) n : 1;
    }

    if (*p != '\\') {
        *safe = (*p >= 0x20 && *p != 0x7f && *p != '"');
        return 1;
    }

    *safe = 0;

    if (end - p < 2) {
        return 1;
    }

    switch (p[1]) {

    case '"':
    case '\\':
    case '/':
    case 'n':
    case 'r':
    case 't':
        *safe = 1;
        return 2;

    case 'b':
    case 'f':
        return 2;

    case 'u':
        break;

    default:
        return 1;
    }

    n = llm_dialect_hex(p + 2, end);

    if (n == -1) {
        return 2;
    }

    if (n >= 0xd800 && n <= 0xdbff && end - p >= 12
        && p[6] == '\\' && p[7] == 'u')
    {
        low = llm_dialect_hex(p + 8, end);

        if (low >= 0xdc00 && low <= 0xdfff) {
            *safe = 1;
            return 12;
        }
    }

    *safe = ((n >= 0x20 && n < 0x7f) || (n > 0x9f && n < 0xd800)
             || n > 0xdfff || n == 0x0a || n == 0x0d || n == 0x09);

    return 6;
}


/* bytes of a valid character (RFC 3629) that is not ASCII; 0: it is none */

static size_t
llm_dialect_utf8(const unsigned char *p, const unsigned char *end)
{
    size_t    i, n;
    uint32_t  c;

    if (*p >= 0xf0) {
        n = 4;
        c = *p & 0x07;

    } else if (*p >= 0xe0) {
        n = 3;
        c = *p & 0x0f;

    } else {
        n = 2;
        c = *p & 0x1f;
    }

    if (*p < 0xc2 || *p > 0xf4 || (size_t) (end - p) < n) {
        return 0;
    }

    for (i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80) {
            return 0;
        }

        c = c << 6 | (p[i] & 0x3f);
    }

    if ((n == 3 && c < 0x800) || (n == 4 && c < 0x10000) || c > 0x10ffff
        || (c >= 0xd800 && c <= 0xdfff))
    {
        return 0;
    }

    return n;
}


static int
llm_dialect_hex(const unsigned char *p, const unsigned char *end)
{
    int            i, n;
    unsigned char  c;

    if (end - p < 4) {
        return -1;
    }

    n = 0;

    for (i = 0; i < 4; i++) {
        c = p[i] | 0x20;

        if (p[i] >= '0' && p[i] <= '9') {
            n = n << 4 | (p[i] - '0');

        } else if (c >= 'a' && c <= 'f') {
            n = n << 4 | (c - 'a' + 10);

        } else {
            return -1;
        }
    }

    return n;
}
