
/*
 * Copyright (C) the ngx-llm authors
 *
 * The first byte chooses the endpoint.  What is found lies in the body, what
 * is said to be invalid is said to be nothing else.  Built without libFuzzer
 * (-DFUZZ_MAIN) it reads files.
 */


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_answer.h"
#include "fuzz_main.h"


static void
inside(const llm_str_t *s, const unsigned char *p, size_t size)
{
    if (s->len != 0) {
        check(s->data >= p && s->len <= size
              && (size_t) (s->data - p) <= size - s->len);
    }
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          len;
    llm_answer_t    an, again;
    unsigned char  *copy;
    llm_endpoint_e  endpoint;

    if (size == 0) {
        return 0;
    }

    len = size - 1;
    endpoint = (llm_endpoint_e) (p[0] % (LLM_ENDPOINTS + 1));

    copy = malloc(len != 0 ? len : 1);
    memcpy(copy, p + 1, len);

    llm_answer_scan(&an, endpoint, copy, len);

    inside(&an.error_message, copy, len);
    inside(&an.error_type, copy, len);
    inside(&an.error_code, copy, len);

    check(an.usage.prompt_tokens >= -1 && an.usage.cached_tokens >= -1);
    check(an.usage.completion_tokens >= -1 && an.usage.total_tokens >= -1);
    check(an.usage.reasoning_tokens >= -1);
    check(an.error || !an.error_shape);

    if (!an.valid) {
        check(!an.error && !an.error_shape && !an.complete);
        check(an.usage.prompt_tokens == -1 && an.usage.total_tokens == -1);
    }

    /* one byte less is no whole object, but for white space at the end */

    if (an.valid && copy[len - 1] == '}') {
        llm_answer_scan(&again, endpoint, copy, len - 1);
        check(!again.valid);
    }

    free(copy);

    return 0;
}
