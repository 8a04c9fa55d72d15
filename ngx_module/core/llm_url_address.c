
/*
 * Copyright (C) the ngx-llm authors
 *
 * Addresses: as text, and which of them are of the public internet.
 */


#include "core/llm_url.h"

#include <string.h>


static int llm_address_parse4(const unsigned char *p,
    const unsigned char *end, unsigned char *bytes);
static int llm_address_parse6(const unsigned char *p,
    const unsigned char *end, unsigned char *bytes);
static const unsigned char *llm_address_group(const unsigned char *p,
    const unsigned char *end, unsigned *group);
static int llm_address_public4(const unsigned char *bytes);
static int llm_address_public6(const unsigned char *bytes);
static int llm_address_within(const unsigned char *bytes,
    const unsigned char *net, unsigned bits);


typedef struct {
    unsigned char         net[16];
    unsigned              bits;
} llm_address_net_t;


/* the IANA's registries of special purpose addresses, and what is multicast */

static const llm_address_net_t  llm_address_special4[] = {
    { { 0 }, 8 },                           /* this network */
    { { 10 }, 8 },                          /* private */
    { { 100, 64 }, 10 },                    /* shared by carriers */
    { { 127 }, 8 },                         /* loopback */
    { { 169, 254 }, 16 },                   /* link-local */
    { { 172, 16 }, 12 },                    /* private */
    { { 192, 0, 0 }, 24 },                  /* of protocols */
    { { 192, 0, 2 }, 24 },                  /* documentation */
    { { 192, 88, 99 }, 24 },                /* relays of 6to4 */
    { { 192, 168 }, 16 },                   /* private */
    { { 198, 18 }, 15 },                    /* benchmarks */
    { { 198, 51, 100 }, 24 },               /* documentation */
    { { 203, 0, 113 }, 24 },                /* documentation */
    { { 224 }, 4 },                         /* multicast */
    { { 240 }, 4 }                          /* reserved, broadcast */
};


/* within 2000::/3; all that is outside of it is not public */

static const llm_address_net_t  llm_address_special6[] = {
    { { 0x20, 0x01, 0x00 }, 23 },           /* of protocols, Teredo */
    { { 0x20, 0x01, 0x0d, 0xb8 }, 32 },     /* documentation */
    { { 0x20, 0x02 }, 16 },                 /* 6to4 */
    { { 0x3f, 0xff, 0x00 }, 20 }            /* documentation */
};


static const unsigned char  llm_address_global[16] = { 0x20 };

static const unsigned char  llm_address_mapped[16] = {
    0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff
};

static const unsigned char  llm_address_nat64[16] = { 0, 0x64, 0xff, 0x9b };


int
llm_address_parse(const unsigned char *p, size_t len, llm_address_t *a)
{
    memset(a, 0, sizeof(llm_address_t));

    if (len != 0 && memchr(p, ':', len) != NULL) {
        if (llm_address_parse6(p, p + len, a->bytes) != LLM_OK) {
            return LLM_ERROR;
        }

        a->len = 16;
        return LLM_OK;
    }

    if (llm_address_parse4(p, p + len, a->bytes) != LLM_OK) {
        return LLM_ERROR;
    }

    a->len = 4;
    return LLM_OK;
}


/* four decimal numbers, none with a zero in front: that would be octal */

static int
llm_address_parse4(const unsigned char *p, const unsigned char *end,
    unsigned char *bytes)
{
    unsigned              i, n;
    const unsigned char  *start;

    for (i = 0; i < 4; i++) {

        if (i != 0) {
            if (p == end || *p++ != '.') {
                return LLM_ERROR;
            }
        }

        n = 0;

        for (start = p; p < end && *p >= '0' && *p <= '9'; p++) {
            n = n * 10 + (unsigned) (*p - '0');

            if (p - start == 3 || n > 255) {
                return LLM_ERROR;
            }
        }

        if (p == start || (*start == '0' && p - start > 1)) {
            return LLM_ERROR;
        }

        bytes[i] = (unsigned char) n;
    }

    return p == end ? LLM_OK : LLM_ERROR;
}


static int
llm_address_parse6(const unsigned char *p, const unsigned char *end,
    unsigned char *bytes)
{
    size_t                n, gap;
    unsigned              group;
    const unsigned char  *next;

    n = 0;
    gap = 17;                               /* none */

    if (end - p >= 2 && p[0] == ':' && p[1] == ':') {
        gap = 0;
        p += 2;
    }

    while (p < end) {

        next = llm_address_group(p, end, &group);

        if (next == NULL || n == 16) {
            return LLM_ERROR;
        }

        if (next < end && *next == '.') {
            if (n > 12 || llm_address_parse4(p, end, bytes + n) != LLM_OK) {
                return LLM_ERROR;
            }

            n += 4;
            break;
        }

        bytes[n++] = (unsigned char) (group >> 8);
        bytes[n++] = (unsigned char) group;

        p = next;

        if (p == end) {
            break;
        }

        if (*p++ != ':' || p == end) {
            return LLM_ERROR;
        }

        if (*p == ':') {
            if (gap != 17) {
                return LLM_ERROR;
            }

            gap = n;
            p++;
        }
    }

    if (gap == 17) {
        return n == 16 ? LLM_OK : LLM_ERROR;
    }

    if (n == 16) {
        return LLM_ERROR;
    }

    memmove(bytes + 16 - (n - gap), bytes + gap, n - gap);
    memset(bytes + gap, 0, 16 - n);

    return LLM_OK;
}


/* one to four hex digits; NULL: they are not */

static const unsigned char *
llm_address_group(const unsigned char *p, const unsigned char *end,
    unsigned *group)
{
    unsigned              digit;
    unsigned char         c;
    const unsigned char  *start;

    *group = 0;

    for (start = p; p < end; p++) {
        c = (unsigned char) (*p | 0x20);

        if (*p >= '0' && *p <= '9') {
            digit = (unsigned) (*p - '0');

        } else if (c >= 'a' && c <= 'f') {
            digit = (unsigned) (c - 'a') + 10;

        } else {
            break;
        }

        if (p - start == 4) {
            return NULL;
        }

        *group = *group << 4 | digit;
    }

    return p == start ? NULL : p;
}


int
llm_address_public(const unsigned char *bytes, size_t len)
{
    return len == 4 ? llm_address_public4(bytes)
           : len == 16 ? llm_address_public6(bytes)
           : 0;
}


static int
llm_address_public4(const unsigned char *bytes)
{
    size_t  i;

    for (i = 0; i < sizeof(llm_address_special4)
                    / sizeof(llm_address_special4[0]); i++)
    {
        if (llm_address_within(bytes, llm_address_special4[i].net,
                               llm_address_special4[i].bits))
        {
            return 0;
        }
    }

    return 1;
}


static int
llm_address_public6(const unsigned char *bytes)
{
    size_t  i;

    if (llm_address_within(bytes, llm_address_mapped, 96)
        || llm_address_within(bytes, llm_address_nat64, 96))
    {
        return llm_address_public4(bytes + 12);
    }

    if (!llm_address_within(bytes, llm_address_global, 3)) {
        return 0;
    }

    for (i = 0; i < sizeof(llm_address_special6)
                    / sizeof(llm_address_special6[0]); i++)
    {
        if (llm_address_within(bytes, llm_address_special6[i].net,
                               llm_address_special6[i].bits))
        {
            return 0;
        }
    }

    return 1;
}


static int
llm_address_within(const unsigned char *bytes, const unsigned char *net,
    unsigned bits)
{
    unsigned  rest;

    if (memcmp(bytes, net, bits / 8) != 0) {
        return 0;
    }

    rest = bits % 8;

    return rest == 0
           || (bytes[bits / 8] ^ net[bits / 8]) >> (8 - rest) == 0;
}
