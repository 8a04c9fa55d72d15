
/*
 * Copyright (C) the ngx-llm authors
 *
 * The input: a clock, and two header values with a line feed between them.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_backoff.h"
#include "fuzz_main.h"


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    int64_t         now, both, ms, s, later;
    uint64_t        base, cap, delay;
    uint32_t        random;
    const uint8_t  *lf;
    llm_str_t       after_ms, after;

    if (size < 16) {
        return 0;
    }

    memcpy(&now, p, 8);
    memcpy(&random, p + 8, 4);
    cap = (uint64_t) random << (p[12] & 0x3f);
    base = (uint64_t) p[13] << (p[14] & 0x3f);

    delay = llm_backoff_delay(base, cap, p[15], random);
    check(delay <= cap);
    check(p[15] != 0 || delay <= base);

    p += 16;
    size -= 16;

    lf = size == 0 ? NULL : memchr(p, '\n', size);

    after_ms.len = lf == NULL ? 0 : (size_t) (lf - p);
    after_ms.data = malloc(after_ms.len + 1);
    memcpy(after_ms.data, p, after_ms.len);

    if (lf != NULL) {
        p += after_ms.len + 1;
        size -= after_ms.len + 1;
    }

    after.len = size;
    after.data = malloc(size == 0 ? 1 : size);
    memcpy(after.data, p, size);

    ms = llm_backoff_asked(&after_ms, NULL, now);
    s = llm_backoff_asked(NULL, &after, now);
    both = llm_backoff_asked(&after_ms, &after, now);

    check(ms >= -1 && ms <= 86400000);
    check(s >= -1 && s <= 86400000);
    check(both == (ms != -1 ? ms : s));

    /* later, the wait is shorter, unless it is no date at all */

    if (now >= 0 && now < INT64_MAX) {
        later = llm_backoff_asked(NULL, &after, now + 1);

        check((later == -1) == (s == -1));

        /* a year of two digits comes back after a century */

        check(later <= s || (s == 0 && later == 86400000));
    }

    free(after.data);
    free(after_ms.data);

    return 0;
}
