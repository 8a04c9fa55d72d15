
/*
 * Copyright (C) the ngx-llm authors
 *
 * Rows as text: "6:search9:notebooks6:gpt-4o6:openai" and "12 0 3 0 0 841".
 */


#include <string.h>

#include "core/llm_book.h"


static size_t llm_book_put_number(uint64_t n, unsigned char *p);
static int llm_book_get_number(const unsigned char **p,
    const unsigned char *end, uint64_t max, uint64_t *n);


size_t
llm_book_put_names(const llm_str_t *name, unsigned char *p)
{
    size_t          len;
    unsigned        i;
    unsigned char  *start;

    start = p;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        len = name[i].len < LLM_BOOK_NAME ? name[i].len : LLM_BOOK_NAME;

        p += llm_book_put_number(len, p);
        *p++ = ':';

        if (len != 0) {
            memcpy(p, name[i].data, len);
            p += len;
        }
    }

    return (size_t) (p - start);
}


int
llm_book_get_names(const llm_str_t *field, llm_str_t *name)
{
    uint64_t              len;
    unsigned              i;
    const unsigned char  *p, *end;

    p = field->data;
    end = p + field->len;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if (llm_book_get_number(&p, end, LLM_BOOK_NAME, &len) != LLM_OK
            || p == end || *p++ != ':' || (uint64_t) (end - p) < len)
        {
            return LLM_ERROR;
        }

        name[i].data = (unsigned char *) p;
        name[i].len = (size_t) len;
        p += len;
    }

    return p == end ? LLM_OK : LLM_ERROR;
}


size_t
llm_book_put_sums(const llm_book_sums_t *sums, unsigned char *p)
{
    unsigned        i, n;
    const int64_t  *v;
    unsigned char  *start;

    start = p;
    v = &sums->requests;

    for (n = LLM_BOOK_SUMS; n > 1 && v[n - 1] == 0; n--) { /* void */ }

    for (i = 0; i < n; i++) {

        if (i != 0) {
            *p++ = ' ';
        }

        p += llm_book_put_number(v[i] > 0 ? (uint64_t) v[i] : 0, p);
    }

    return (size_t) (p - start);
}


int
llm_book_get_sums(const llm_str_t *value, llm_book_sums_t *sums)
{
    uint64_t              n;
    unsigned              i;
    int64_t              *v;
    const unsigned char  *p, *end;

    memset(sums, 0, sizeof(llm_book_sums_t));

    v = &sums->requests;
    p = value->data;
    end = p + value->len;

    for (i = 0; i < LLM_BOOK_SUMS; i++) {

        if (llm_book_get_number(&p, end, INT64_MAX, &n) != LLM_OK) {
            return LLM_ERROR;
        }

        v[i] = (int64_t) n;

        if (p == end) {
            return LLM_OK;
        }

        if (*p++ != ' ') {
            return LLM_ERROR;
        }
    }

    return LLM_ERROR;
}


static size_t
llm_book_put_number(uint64_t n, unsigned char *p)
{
    size_t         len, i;
    unsigned char  digit[20];

    len = 0;

    do {
        digit[len++] = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    for (i = 0; i < len; i++) {
        p[i] = digit[len - 1 - i];
    }

    return len;
}


static int
llm_book_get_number(const unsigned char **p, const unsigned char *end,
    uint64_t max, uint64_t *n)
{
    uint64_t              v;
    unsigned              digit;
    const unsigned char  *start;

    v = 0;
    start = *p;

    for ( /* void */ ; *p < end && **p >= '0' && **p <= '9'; (*p)++) {
        digit = (unsigned) (**p - '0');

        if (v > (max - digit) / 10) {
            return LLM_ERROR;
        }

        v = v * 10 + digit;
    }

    *n = v;

    return *p == start ? LLM_ERROR : LLM_OK;
}
