
/*
 * Copyright (C) the ngx-llm authors
 *
 * Tenants files for the tests of the policy.
 */


#ifndef _POLICY_PARSE_H_INCLUDED_
#define _POLICY_PARSE_H_INCLUDED_


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_policy.h"


#define HEX   "00112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"
#define HEX1  "10112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"
#define HEX2  "00112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543211"


static char  err[512];


static llm_policy_t *
parse(const char *text)
{
    size_t         len;
    char          *copy;
    llm_policy_t  *p;

    /* a copy of the exact length, so that a byte too far is seen */

    len = strlen(text);
    copy = malloc(len + 1);
    memcpy(copy, text, len);

    err[0] = '\0';
    p = llm_policy_parse(copy, len, err, sizeof(err));

    free(copy);

    return p;
}


#endif /* _POLICY_PARSE_H_INCLUDED_ */
