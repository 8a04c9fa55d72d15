
/*
 * Copyright (C) the ngx-llm authors
 *
 * Any bytes as a tenants file.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_policy.h"


int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);


#define MUST(c)  if (!(c)) abort()


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char               err[200];
    unsigned           i, j;
    unsigned char      sha[32];
    llm_policy_t      *p;
    const llm_key_t   *k;
    static llm_str_t   model = llm_string("gpt-4o-mini");

    memset(err, 'x', sizeof(err));
    err[0] = '\0';

    p = llm_policy_parse((const char *) data, size, err, sizeof(err));

    MUST((p == NULL) == (err[0] != '\0'));
    MUST(memchr(err, '\0', sizeof(err)) != NULL);

    if (p == NULL) {

        /* a line of a log can show it */

        for (i = 0; err[i] != '\0'; i++) {
            MUST(err[i] != '\n' && err[i] != '\r' && err[i] != '\033');
        }

        return 0;
    }

    for (i = 0; i < llm_policy_keys(p); i++) {
        k = llm_policy_key(p, i);

        MUST(llm_policy_find(p, k->sha256) == k);
        MUST(k->name.len >= 1 && k->name.len <= 64);
        MUST(k->limit.name.len == k->name.len + 2);
        MUST(k->terms.requests_per_minute != 0 && k->terms.concurrency != 0);
        MUST(k->terms.queue_size >= 0 && k->terms.queue_size <= 65536);
        MUST(k->terms.priority >= -100 && k->terms.priority <= 100);
        MUST(k->limit.rates.rpm == 0 || k->limit.rates.burst != 0);
        MUST(k->expires >= 0);

        for (j = 0; j < k->nmodels; j++) {
            MUST(k->models[j].len != 0);
        }

        (void) llm_policy_allows(k, &model);

        memcpy(sha, k->sha256, sizeof(sha));
        sha[31] ^= 1;
        MUST(llm_policy_find(p, sha) != k);
    }

    for (i = 0; i < llm_policy_teams(p); i++) {
        MUST(llm_policy_team(p, i)->name.len >= 1);
    }

    llm_policy_destroy(p);

    return 0;
}
