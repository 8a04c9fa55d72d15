
/*
 * Copyright (C) the ngx-llm authors
 *
 * Texts for the parsers of files.
 */


#ifndef _FILE_PARSE_H_INCLUDED_
#define _FILE_PARSE_H_INCLUDED_


#include <stdlib.h>
#include <string.h>


static char  err[512];


/* a copy of the exact length, so that a byte too far is seen; to be freed */

static inline char *
exact(const char *text, size_t *len)
{
    char  *copy;

    *len = strlen(text);
    copy = malloc(*len + 1);
    memcpy(copy, text, *len);

    err[0] = '\0';

    return copy;
}


#endif /* _FILE_PARSE_H_INCLUDED_ */
