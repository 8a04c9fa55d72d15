
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_duration.h"


static unsigned char *llm_duration_number(unsigned char *p, uint64_t n);


size_t
llm_duration_format(unsigned char *buf, uint64_t ms)
{
    uint64_t        s;
    unsigned char  *p;

    p = buf;

    if (ms > 0 && ms < 1000) {
        p = llm_duration_number(p, ms);
        *p++ = 'm';
        *p++ = 's';

        return (size_t) (p - buf);
    }

    /* up: who comes back a moment too early is refused again */

    s = ms / 1000 + (ms % 1000 != 0);

    if (s >= 3600) {
        p = llm_duration_number(p, s / 3600);
        *p++ = 'h';
    }

    if (s >= 60) {
        p = llm_duration_number(p, s / 60 % 60);
        *p++ = 'm';
    }

    p = llm_duration_number(p, s % 60);
    *p++ = 's';

    return (size_t) (p - buf);
}


static unsigned char *
llm_duration_number(unsigned char *p, uint64_t n)
{
    size_t         len;
    unsigned char  digits[20];

    len = 0;

    do {
        digits[len++] = (unsigned char) ('0' + n % 10);
        n /= 10;
    } while (n != 0);

    while (len != 0) {
        *p++ = digits[--len];
    }

    return p;
}
