
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where the admin secret comes from: never from an argument, which others on
 * the machine can read.
 */


#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif

#include "llmctl.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>


static int secret_read(const char *file, const char *source, text_t *secret);
static int secret_is_local(const char *url);


int
secret_find(const args_t *a, const char *url, text_t *secret)
{
    int          rc;
    const char  *s;

    s = getenv("LLMCTL_SECRET");

    if (a->values[OPT_SECRET_FILE] != NULL) {
        rc = secret_read(a->values[OPT_SECRET_FILE], "--secret-file",
                         secret);

    } else if (s != NULL && *s != '\0') {
        text_add(secret, s);
        rc = CTL_OK;

    } else if ((s = getenv("LLMCTL_SECRET_FILE")) != NULL && *s != '\0') {
        rc = secret_read(s, "LLMCTL_SECRET_FILE", secret);

    } else if (secret_is_local(url) && access("run/admin-secret", R_OK) == 0) {
        rc = secret_read("run/admin-secret", "run/admin-secret", secret);

    } else {
        return CTL_OK;
    }

    if (rc != CTL_OK) {
        return rc;
    }

    /* a line break in it would begin another header */

    for (s = secret->data; s != NULL && *s != '\0'; s++) {
        if (*s <= 0x20 || *s >= 0x7f) {
            break;
        }
    }

    if (s == NULL || *s != '\0' || (size_t) (s - secret->data) != secret->len
        || secret->len == 0)
    {
        return args_wrong(a, "the secret is no line of printable ASCII"
                          " without blanks");
    }

    return CTL_OK;
}


static int
secret_read(const char *file, const char *source, text_t *secret)
{
    FILE    *in;
    char     buf[4096];
    size_t   len;

    in = fopen(file, "re");

    if (in == NULL) {
        fprintf(stderr, "llmctl: %s: %s\n", source, strerror(errno));
        return CTL_USAGE;
    }

    len = fread(buf, 1, sizeof(buf), in);
    fclose(in);

    while (len > 0 && (buf[len - 1] == '\n' || buf[len - 1] == '\r')) {
        len--;
    }

    text_bytes(secret, buf, len);

    return CTL_OK;
}


/* the secret of "make run" is for nobody but this machine */

static int
secret_is_local(const char *url)
{
    size_t       i, len;
    const char  *host;

    static const char *const  names[] = {
        "127.0.0.1", "localhost", "[::1]", NULL
    };

    host = strstr(url, "://") + 3;

    /* the host is what follows a user and a password */

    if (strchr(host, '@') != NULL) {
        return 0;
    }

    for (i = 0; names[i] != NULL; i++) {
        len = strlen(names[i]);

        if (strncmp(host, names[i], len) == 0
            && strchr(":/", host[len]) != NULL)
        {
            return 1;
        }
    }

    return 0;
}
