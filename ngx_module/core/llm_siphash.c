
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_siphash.h"


typedef struct {
    uint64_t              a;
    uint64_t              b;
    uint64_t              c;
    uint64_t              d;
} llm_siphash_t;


static inline uint64_t
llm_siphash_rotate(uint64_t x, unsigned n)
{
    return x << n | x >> (64 - n);
}


static inline void
llm_siphash_round(llm_siphash_t *s)
{
    s->a += s->b;
    s->b = llm_siphash_rotate(s->b, 13) ^ s->a;
    s->a = llm_siphash_rotate(s->a, 32);

    s->c += s->d;
    s->d = llm_siphash_rotate(s->d, 16) ^ s->c;

    s->a += s->d;
    s->d = llm_siphash_rotate(s->d, 21) ^ s->a;

    s->c += s->b;
    s->b = llm_siphash_rotate(s->b, 17) ^ s->c;
    s->c = llm_siphash_rotate(s->c, 32);
}


static inline void
llm_siphash_word(llm_siphash_t *s, uint64_t word)
{
    s->d ^= word;
    llm_siphash_round(s);
    llm_siphash_round(s);
    s->a ^= word;
}


static inline uint64_t
llm_siphash_final(llm_siphash_t *s)
{
    unsigned  i;

    for (i = 0; i < 4; i++) {
        llm_siphash_round(s);
    }

    return s->a ^ s->b ^ s->c ^ s->d;
}


/* one load, wherever the compiler knows that it is the same */

static inline uint64_t
llm_siphash_load8(const unsigned char *p)
{
    return (uint64_t) p[0] | (uint64_t) p[1] << 8 | (uint64_t) p[2] << 16
           | (uint64_t) p[3] << 24 | (uint64_t) p[4] << 32
           | (uint64_t) p[5] << 40 | (uint64_t) p[6] << 48
           | (uint64_t) p[7] << 56;
}


static inline uint64_t
llm_siphash_load(const unsigned char *p, size_t len)
{
    unsigned  i;
    uint64_t  word;

    word = 0;

    for (i = 0; i < len; i++) {
        word |= (uint64_t) p[i] << 8 * i;
    }

    return word;
}


void
llm_siphash(const uint64_t key[2], const unsigned char *p, size_t len,
    uint64_t out[2])
{
    size_t         left;
    uint64_t       word;
    llm_siphash_t  s;

    s.a = key[0] ^ 0x736f6d6570736575;
    s.b = key[1] ^ 0x646f72616e646f6d ^ 0xee;
    s.c = key[0] ^ 0x6c7967656e657261;
    s.d = key[1] ^ 0x7465646279746573;

    for (left = len; left >= 8; left -= 8) {
        llm_siphash_word(&s, llm_siphash_load8(p));
        p += 8;
    }

    if (len < 8) {
        word = llm_siphash_load(p, left);

    } else {
        /* with what is before them, which goes out again */
        word = left ? llm_siphash_load8(p + left - 8) >> (64 - 8 * left) : 0;
    }

    llm_siphash_word(&s, word | (uint64_t) len << 56);

    s.c ^= 0xee;
    out[0] = llm_siphash_final(&s);

    s.b ^= 0xdd;
    out[1] = llm_siphash_final(&s);
}
