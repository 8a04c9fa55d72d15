
/*
 * Copyright (C) the ngx-llm authors
 *
 * Two things in one: what decodes must encode to the same bytes, and what was
 * encoded from the input must decode, whole and not when changed.
 */


#include <stdlib.h>
#include <string.h>

#include "core/llm_entry.h"
#include "fuzz_main.h"


int LLVMFuzzerTestOneInput(const uint8_t *p, size_t size);


static void
inside(const llm_str_t *s, const unsigned char *p, size_t size)
{
    check(s->data >= p && s->len <= size
          && (size_t) (s->data - p) <= size - s->len);
}


static int
decode(const uint8_t *p, size_t size)
{
    int             rc;
    size_t          head;
    llm_entry_t     e;
    unsigned char  *copy, *again;

    copy = malloc(size == 0 ? 1 : size);

    if (size != 0) {
        memcpy(copy, p, size);
    }

    rc = llm_entry_decode(&e, copy, size);

    if (rc == LLM_OK) {
        inside(&e.content_type, copy, size);
        inside(&e.provider, copy, size);
        inside(&e.model, copy, size);
        inside(&e.body, copy, size);

        head = llm_entry_head_size(&e);
        check(head + e.body.len == size);

        again = malloc(head);
        check(llm_entry_encode_head(&e, again) == again + head);
        check(memcmp(again, copy, head) == 0);
        free(again);

    } else {
        check(rc == LLM_DECLINED);
    }

    free(copy);

    return rc;
}


static void
take(llm_str_t *s, const uint8_t **p, size_t *size, size_t len)
{
    s->data = (unsigned char *) *p;
    s->len = len < *size ? len : *size;

    *p += s->len;
    *size -= s->len;
}


int
LLVMFuzzerTestOneInput(const uint8_t *p, size_t size)
{
    size_t          head, len, at;
    uint8_t         change;
    llm_entry_t     e;
    unsigned char  *stored, *body;

    (void) decode(p, size);

    if (size < 76) {
        return 0;
    }

    memset(&e, 0, sizeof(llm_entry_t));
    memcpy(&e.created, p, 8);
    memcpy(&e.ttl, p + 8, 4);
    memcpy(&e.usage, p + 12, sizeof(llm_usage_t));

    at = (size_t) p[52] << 8 | p[53];
    change = p[54];
    len = p[55];

    memcpy(&e.stale_error, p + 56, 4);
    memcpy(&e.stale_renew, p + 60, 4);
    memcpy(&e.cost, p + 64, 8);
    e.cost &= INT64_MAX;
    e.endpoint = p[72] % LLM_ENDPOINTS;

    e.usage.prompt_tokens &= INT64_MAX;
    e.usage.cached_tokens = -1;
    e.usage.completion_tokens &= INT64_MAX;
    e.usage.reasoning_tokens &= INT64_MAX;
    e.usage.total_tokens &= INT64_MAX;

    p += 73;
    size -= 73;

    take(&e.content_type, &p, &size, len & 0x0f);
    take(&e.provider, &p, &size, len >> 4);
    take(&e.model, &p, &size, len);
    take(&e.body, &p, &size, size);

    head = llm_entry_head_size(&e);
    len = head + e.body.len;
    stored = malloc(len);

    body = llm_entry_encode_head(&e, stored);
    check(body == stored + head);
    memcpy(body, e.body.data, e.body.len);

    check(decode(stored, len) == LLM_OK);
    check(decode(stored, len - 1) == LLM_DECLINED);

    if (change != 0) {
        stored[at % len] ^= change;
        check(decode(stored, len) == LLM_DECLINED);
    }

    free(stored);

    return 0;
}
