
/*
 * Copyright (C) the ngx-llm authors
 */


#include "tasks/ngx_http_llm_fault.h"


#if (NGX_HTTP_LLM_FAULTS)

void
ngx_http_llm_fault(const char *label)
{
    int      fd;
    char    *path, text[64];
    ssize_t  n;

    path = getenv("LLM_FAULT_FILE");
    if (path == NULL) {
        return;
    }

    fd = open(path, O_RDONLY);
    if (fd == -1) {
        return;
    }

    n = read(fd, text, sizeof(text) - 1);
    (void) close(fd);

    if (n <= 0) {
        return;
    }

    text[n] = '\0';

    /* of several workers that come here, one dies */

    if (strcmp(text, label) == 0 && unlink(path) == 0) {
        (void) raise(SIGKILL);
    }
}

#else

/* a translation unit holds something */

typedef int  ngx_http_llm_fault_t;

#endif
