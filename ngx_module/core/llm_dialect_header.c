
/*
 * Copyright (C) the ngx-llm authors
 *
 * What headers tell of a provider's limits.
 */


#include "core/llm_dialect_private.h"

#include <string.h>


/* a moment, in seconds since the epoch, and not a time from now on */

#define LLM_DIALECT_MOMENT     ((int64_t) 1000000000)
#define LLM_DIALECT_MOMENT_MS  ((int64_t) 1000000000000)

#define LLM_DIALECT_NUMBER     ((int64_t) 1000000000000000)


static int64_t llm_dialect_number(const llm_str_t *value, int whole);
static int64_t llm_dialect_reset(const llm_str_t *value, int64_t now);
static int64_t llm_dialect_date(const llm_str_t *value, int64_t now);
static int llm_dialect_digits(const unsigned char *p, size_t n,
    int64_t *value);


static const char *const  llm_dialect_prefixes[] = {
    "x-ratelimit-", "x-rate-limit-", "ratelimit-", "anthropic-ratelimit-",
    NULL
};


/* Anthropic has the kind in front; Mistral and Cerebras have a period */

static const struct {
    const char           *name;
    unsigned char         header;
    unsigned char         tokens;

} llm_dialect_headers[] = {
    { "limit", LLM_DIALECT_LIMIT, 0 },
    { "limit-requests", LLM_DIALECT_LIMIT, 0 },
    { "limit-tokens", LLM_DIALECT_LIMIT, 1 },
    { "limit-req-minute", LLM_DIALECT_LIMIT, 0 },
    { "limit-requests-minute", LLM_DIALECT_LIMIT, 0 },
    { "limit-tokens-minute", LLM_DIALECT_LIMIT, 1 },
    { "requests-limit", LLM_DIALECT_LIMIT, 0 },
    { "tokens-limit", LLM_DIALECT_LIMIT, 1 },

    { "remaining", LLM_DIALECT_REMAINING, 0 },
    { "remaining-requests", LLM_DIALECT_REMAINING, 0 },
    { "remaining-tokens", LLM_DIALECT_REMAINING, 1 },
    { "remaining-req-minute", LLM_DIALECT_REMAINING, 0 },
    { "remaining-requests-minute", LLM_DIALECT_REMAINING, 0 },
    { "remaining-tokens-minute", LLM_DIALECT_REMAINING, 1 },
    { "requests-remaining", LLM_DIALECT_REMAINING, 0 },
    { "tokens-remaining", LLM_DIALECT_REMAINING, 1 },

    { "reset", LLM_DIALECT_RESET, 0 },
    { "reset-requests", LLM_DIALECT_RESET, 0 },
    { "reset-tokens", LLM_DIALECT_RESET, 1 },
    { "reset-req-minute", LLM_DIALECT_RESET, 0 },
    { "reset-requests-minute", LLM_DIALECT_RESET, 0 },
    { "reset-tokens-minute", LLM_DIALECT_RESET, 1 },
    { "requests-reset", LLM_DIALECT_RESET, 0 },
    { "tokens-reset", LLM_DIALECT_RESET, 1 }
};


llm_dialect_header_e
llm_dialect_header(const llm_str_t *name, int *tokens)
{
    size_t              i, n, len;
    const char *const  *prefix;

    len = 0;

    for (prefix = llm_dialect_prefixes; *prefix != NULL; prefix++) {
        n = strlen(*prefix);

        if (name->len > n && memcmp(name->data, *prefix, n) == 0) {
            len = n;
            break;
        }
    }

    if (len == 0) {
        return LLM_DIALECT_NOTHING;
    }

    n = sizeof(llm_dialect_headers) / sizeof(llm_dialect_headers[0]);

    for (i = 0; i < n; i++) {

        if (name->len - len == strlen(llm_dialect_headers[i].name)
            && memcmp(name->data + len, llm_dialect_headers[i].name,
                      name->len - len)
               == 0)
        {
            *tokens = llm_dialect_headers[i].tokens;
            return (llm_dialect_header_e) llm_dialect_headers[i].header;
        }
    }

    return LLM_DIALECT_NOTHING;
}


int64_t
llm_dialect_value(llm_dialect_header_e header, const llm_str_t *value,
    int64_t now)
{
    int64_t    n;
    llm_str_t  s;

    s = *value;

    while (s.len != 0 && (*s.data == ' ' || *s.data == '\t')) {
        s.data++;
        s.len--;
    }

    while (s.len != 0
           && (s.data[s.len - 1] == ' ' || s.data[s.len - 1] == '\t'))
    {
        s.len--;
    }

    switch (header) {

    case LLM_DIALECT_LIMIT:

        /* nobody has a limit of nothing: it is not known */

        n = llm_dialect_number(&s, 0);
        return n != 0 ? n : -1;

    case LLM_DIALECT_REMAINING:
        return llm_dialect_number(&s, 0);

    case LLM_DIALECT_RESET:
        return llm_dialect_reset(&s, now);

    default:
        return -1;
    }
}


/* a fraction is cut off unless "whole" forbids it */

static int64_t
llm_dialect_number(const llm_str_t *value, int whole)
{
    size_t   i;
    int64_t  n;

    n = 0;

    for (i = 0; i < value->len; i++) {

        if (value->data[i] < '0' || value->data[i] > '9') {
            break;
        }

        n = n * 10 + (value->data[i] - '0');

        if (n > LLM_DIALECT_NUMBER) {
            n = LLM_DIALECT_NUMBER;
        }
    }

    if (i == 0) {
        return -1;
    }

    if (i == value->len) {
        return n;
    }

    if (whole || value->data[i] != '.' || i + 1 == value->len) {
        return -1;
    }

    for (i++; i < value->len; i++) {
        if (value->data[i] < '0' || value->data[i] > '9') {
            return -1;
        }
    }

    return n;
}


static int64_t
llm_dialect_reset(const llm_str_t *value, int64_t now)
{
    int64_t               n;
    const unsigned char  *p, *end;

    n = llm_dialect_number(value, 1);

    if (n == 0) {

        /* Azure's word for unknown; others write "0s" */

        return -1;
    }

    if (n >= LLM_DIALECT_MOMENT) {
        n = n >= LLM_DIALECT_MOMENT_MS ? n - now * 1000 : (n - now) * 1000;

        return n < 0 ? 0 : n < LLM_DIALECT_DAY ? n : LLM_DIALECT_DAY;
    }

    if (value->len == 0) {
        return -1;
    }

    p = value->data;
    end = p + value->len;

    n = llm_dialect_span(&p, end, 1000);

    if (n != -1 && p == end) {
        return n;
    }

    return llm_dialect_date(value, now);
}


/* "2026-11-21T18:00:00.123Z", or with "+01:00" (RFC 3339) */

static int64_t
llm_dialect_date(const llm_str_t *value, int64_t now)
{
    int64_t               year, month, day, hour, minute, second, zone, n;
    const unsigned char  *p, *end;

    p = value->data;
    end = p + value->len;

    if (end - p < 20
        || llm_dialect_digits(p, 4, &year) != LLM_OK || p[4] != '-'
        || llm_dialect_digits(p + 5, 2, &month) != LLM_OK || p[7] != '-'
        || llm_dialect_digits(p + 8, 2, &day) != LLM_OK
        || (p[10] != 'T' && p[10] != 't' && p[10] != ' ')
        || llm_dialect_digits(p + 11, 2, &hour) != LLM_OK || p[13] != ':'
        || llm_dialect_digits(p + 14, 2, &minute) != LLM_OK || p[16] != ':'
        || llm_dialect_digits(p + 17, 2, &second) != LLM_OK
        || month < 1 || month > 12 || day < 1 || day > 31
        || hour > 23 || minute > 59 || second > 60)
    {
        return -1;
    }

    p += 19;

    if (*p == '.') {
        for (p++; p < end && *p >= '0' && *p <= '9'; p++) { /* void */ }

        second++;
    }

    zone = 0;

    if (end - p == 1 && (*p == 'Z' || *p == 'z')) {
        p++;

    } else if (end - p == 6 && (*p == '+' || *p == '-') && p[3] == ':'
               && llm_dialect_digits(p + 1, 2, &zone) == LLM_OK
               && llm_dialect_digits(p + 4, 2, &n) == LLM_OK)
    {
        zone = (zone * 60 + n) * (*p == '+' ? 60 : -60);

    } else {
        return -1;
    }

    /* in years from March the leap day is the last, months follow a line */

    month -= 3;

    if (month < 0) {
        month += 12;
        year--;
    }

    n = year * 365 + year / 4 - year / 100 + year / 400
        + (month * 153 + 2) / 5 + day - 1 - 719468;

    n = ((n * 24 + hour) * 60 + minute) * 60 + second - zone - now;

    if (n <= 0) {
        return 0;
    }

    return n < LLM_DIALECT_DAY / 1000 ? n * 1000 : LLM_DIALECT_DAY;
}


static int
llm_dialect_digits(const unsigned char *p, size_t n, int64_t *value)
{
    *value = 0;

    for ( /* void */ ; n != 0; n--, p++) {

        if (*p < '0' || *p > '9') {
            return LLM_ERROR;
        }

        *value = *value * 10 + (*p - '0');
    }

    return LLM_OK;
}
