
/*
 * Copyright (C) the ngx-llm authors
 *
 * Numbers that are the same in every run.
 */


#ifndef _UNIT_RANDOM_H_INCLUDED_
#define _UNIT_RANDOM_H_INCLUDED_


#include <stdint.h>


static uint64_t  seed;


/* 0 … n - 1; the test sets "seed" first, to anything but 0 */

static inline uint64_t
any(uint64_t n)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return (seed >> 3) % n;
}


#endif /* _UNIT_RANDOM_H_INCLUDED_ */
