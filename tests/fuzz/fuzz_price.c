
/*
 * Copyright (C) the ngx-llm authors
 *
 * Any bytes as a prices file; its first bytes are also a model's name.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_price.h"
#include "fuzz_main.h"


#define MUST(c)  if (!(c)) abort()


int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char                err[200];
    unsigned            i;
    llm_str_t           model;
    llm_prices_t       *ps;
    const llm_price_t  *p;

    memset(err, 'x', sizeof(err));
    err[0] = '\0';

    ps = llm_prices_parse((const char *) data, size, err, sizeof(err));

    MUST((ps == NULL) == (err[0] != '\0'));
    MUST(memchr(err, '\0', sizeof(err)) != NULL);

    if (ps == NULL) {

        /* a line of a log can show it */

        for (i = 0; err[i] != '\0'; i++) {
            MUST(err[i] != '\n' && err[i] != '\r' && err[i] != '\033');
        }

        return 0;
    }

    MUST(llm_prices_count(ps) <= 10000);

    for (i = 0; i <= size && i < 64; i++) {
        model.data = (unsigned char *) data + i;
        model.len = size - i < 300 ? size - i : i % 5;

        p = llm_prices_find(ps, &model);

        if (p == NULL) {
            continue;
        }

        MUST(llm_prices_count(ps) > 0);
        MUST(p->input >= 0 && p->input <= 1000000000000);
        MUST(p->cached_input >= 0 && p->cached_input <= 1000000000000);
        MUST(p->output >= 0 && p->output <= 1000000000000);
        MUST(p->batch_input >= 0 && p->batch_input <= 1000000000000);
        MUST(p->batch_output >= 0 && p->batch_output <= 1000000000000);
        MUST(llm_price_cost(p, (int64_t) size << 40, i, -1) >= 0);
        MUST(llm_price_tokens(p, (int64_t) size) >= 0);
    }

    llm_prices_destroy(ps);

    return 0;
}
