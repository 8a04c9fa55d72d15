
/*
 * Copyright (C) the ngx-llm authors
 *
 * What decodes must encode to the same bytes; an id lies in what was read.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_affinity.h"
#include "fuzz_main.h"


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


static void
inside(const llm_str_t *s, const unsigned char *p, size_t size)
{
    check(s->data >= p && s->len <= size
          && (size_t) (s->data - p) <= size - s->len);
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    llm_str_t       id;
    llm_affinity_t  af;
    unsigned char  *copy, *again;

    copy = malloc(size == 0 ? 1 : size);

    if (size != 0) {
        memcpy(copy, p, size);
    }

    if (llm_affinity_id(copy, size, &id) == LLM_OK) {
        inside(&id, copy, size);
        check(id.len >= 1 && id.len <= LLM_AFFINITY_ID);
        check(memchr(id.data, '"', id.len) == NULL);
    }

    if (llm_affinity_decode(&af, copy, size) == LLM_OK) {
        inside(&af.owner, copy, size);
        inside(&af.provider, copy, size);
        inside(&af.model, copy, size);

        check(llm_affinity_size(&af) == size);

        again = malloc(size);
        llm_affinity_encode(&af, again);
        check(memcmp(again, copy, size) == 0);
        free(again);
    }

    free(copy);

    return 0;
}
