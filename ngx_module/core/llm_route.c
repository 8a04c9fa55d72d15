
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_route.h"

#include <string.h>


int
llm_route_match(const llm_str_t *pattern, const llm_str_t *model)
{
    size_t  p, m, star, from;

    p = 0;
    m = 0;
    star = pattern->len;        /* no star yet */
    from = 0;

    while (m < model->len) {

        /* the star first: a model's name may have one, too */

        if (p < pattern->len && pattern->data[p] == '*') {
            star = p++;
            from = m;
            continue;
        }

        if (p < pattern->len && pattern->data[p] == model->data[m]) {
            p++;
            m++;
            continue;
        }

        if (star == pattern->len) {
            return 0;
        }

        /*
         * Only the last star need take more: what is in front of it has
         * matched as early as it can.
         */

        p = star + 1;
        m = ++from;
    }

    while (p < pattern->len && pattern->data[p] == '*') {
        p++;
    }

    return p == pattern->len;
}


int
llm_route_literal(const llm_str_t *pattern)
{
    if (pattern->len == 0) {
        return 1;
    }

    return memchr(pattern->data, '*', pattern->len) == NULL;
}
