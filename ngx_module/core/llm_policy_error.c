
/*
 * Copyright (C) the ngx-llm authors
 *
 * Errors of the tenants file.  They go to a log, and what stands in the file
 * may be a secret in the wrong place.
 */


#include "core/llm_policy_private.h"

#include <stdio.h>
#include <string.h>


#define LLM_POLICY_HIDE  8                 /* shown of a name like a secret */


static int llm_policy_secret(const char *s, size_t len);
static size_t llm_policy_clean(char *buf, size_t size, const char *s,
    size_t len);


void
llm_policy_error(char *err, size_t errlen, const llm_policy_path_t *path,
    const char *expected, const char *got)
{
    char      where[4 * (LLM_POLICY_NAME_MAX + 4) + 16];
    size_t    n, len, max;
    unsigned  i;

    n = 0;

    for (i = 0; i < path->depth; i++) {
        len = strlen(path->name[i]);
        max = LLM_POLICY_NAME_MAX;

        if (llm_policy_secret(path->name[i], len)) {
            max = LLM_POLICY_HIDE;
        }

        if (i > 0) {
            where[n++] = '.';
        }

        n += llm_policy_clean(where + n, sizeof(where) - n, path->name[i],
                              len < max ? len : max);

        if (len > max) {
            memcpy(where + n, "...", 3);
            n += 3;
        }
    }

    if (n == 0) {
        where[n++] = '.';
    }

    where[n] = '\0';

    if (path->index != -1) {
        snprintf(where + n, sizeof(where) - n, "[%d]", path->index);
    }

    if (got == NULL) {
        snprintf(err, errlen, "%s: %s", where, expected);
        return;
    }

    snprintf(err, errlen, "%s: expected %s, got %s", where, expected, got);
}


void
llm_policy_show(char *buf, size_t size, const char *s, size_t len)
{
    size_t  n;

    if (len > LLM_POLICY_SHOW || llm_policy_secret(s, len)
        || size < LLM_POLICY_SHOW + sizeof("\"\""))
    {
        snprintf(buf, size, "a string of %zu bytes", len);
        return;
    }

    n = 0;
    buf[n++] = '"';
    n += llm_policy_clean(buf + n, size - n, s, len);
    buf[n++] = '"';
    buf[n] = '\0';
}


/* a key of ours or of a provider, or (most of) a digest */

static int
llm_policy_secret(const char *s, size_t len)
{
    size_t  i, digits;

    if (len >= 3 && memcmp(s, "sk-", 3) == 0) {
        return 1;
    }

    digits = 0;

    for (i = 0; i < len; i++) {

        if ((s[i] >= '0' && s[i] <= '9')
            || ((s[i] | 0x20) >= 'a' && (s[i] | 0x20) <= 'f'))
        {
            if (++digits == 32) {
                return 1;
            }

            continue;
        }

        digits = 0;
    }

    return 0;
}


/* nothing that a terminal or a line of a log could take for its own */

static size_t
llm_policy_clean(char *buf, size_t size, const char *s, size_t len)
{
    size_t  i;

    for (i = 0; i < len && i < size; i++) {
        buf[i] = s[i] >= 0x20 && s[i] < 0x7f ? s[i] : '?';
    }

    return i;
}
