
/*
 * Copyright (C) the ngx-llm authors
 *
 * Layout, all numbers little endian:
 *
 *      0   4  "nLLM"
 *      4   4  version
 *      8   4  length of content type, 12 of provider, 16 of model
 *     20   4  time to live
 *     24   8  created
 *     32   8  length of the body
 *     40  40  usage: prompt, cached, completion, reasoning, total
 *     80   8  cost
 *     88   4  how long it may be served stale: on failures, 92 for renewal
 *     96   4  endpoint
 *    100   4  zero
 *    104   8  checksum of the body
 *    112   8  checksum of all of the head but these eight bytes
 *    120      content type, provider, model, body
 *
 * The checksums find damage, not malice: who may write to the cache may write
 * whatever it likes.
 */


#include "core/llm_entry.h"
#include "core/llm_sum.h"

#include <string.h>


#define LLM_ENTRY_MAGIC    0x4d4c4c6e
#define LLM_ENTRY_VERSION  2

#define LLM_ENTRY_USAGE    40
#define LLM_ENTRY_COST     80
#define LLM_ENTRY_STALE    88
#define LLM_ENTRY_KIND     96
#define LLM_ENTRY_BODYSUM  104
#define LLM_ENTRY_HEADSUM  112
#define LLM_ENTRY_FIXED    120


static uint64_t llm_entry_head_sum(const unsigned char *p, size_t head);
static unsigned char *llm_entry_copy(unsigned char *p, const llm_str_t *s);
static unsigned char *llm_entry_take(unsigned char *p, llm_str_t *s,
    size_t len);


/* written out, each of these is one load or store where the machine allows
   it */

static inline uint32_t
llm_entry_get4(const unsigned char *p)
{
    return (uint32_t) p[0] | (uint32_t) p[1] << 8 | (uint32_t) p[2] << 16
           | (uint32_t) p[3] << 24;
}


static inline uint64_t
llm_entry_get8(const unsigned char *p)
{
    return (uint64_t) p[0] | (uint64_t) p[1] << 8 | (uint64_t) p[2] << 16
           | (uint64_t) p[3] << 24 | (uint64_t) p[4] << 32
           | (uint64_t) p[5] << 40 | (uint64_t) p[6] << 48
           | (uint64_t) p[7] << 56;
}


static inline void
llm_entry_put4(unsigned char *p, uint64_t v)
{
    p[0] = (unsigned char) v;
    p[1] = (unsigned char) (v >> 8);
    p[2] = (unsigned char) (v >> 16);
    p[3] = (unsigned char) (v >> 24);
}


static inline void
llm_entry_put8(unsigned char *p, uint64_t v)
{
    p[0] = (unsigned char) v;
    p[1] = (unsigned char) (v >> 8);
    p[2] = (unsigned char) (v >> 16);
    p[3] = (unsigned char) (v >> 24);
    p[4] = (unsigned char) (v >> 32);
    p[5] = (unsigned char) (v >> 40);
    p[6] = (unsigned char) (v >> 48);
    p[7] = (unsigned char) (v >> 56);
}


size_t
llm_entry_head_size(const llm_entry_t *e)
{
    return LLM_ENTRY_FIXED + e->content_type.len + e->provider.len
           + e->model.len;
}


unsigned char *
llm_entry_encode_head(const llm_entry_t *e, unsigned char *p)
{
    unsigned char  *last;

    llm_entry_put4(p, LLM_ENTRY_MAGIC);
    llm_entry_put4(p + 4, LLM_ENTRY_VERSION);
    llm_entry_put4(p + 8, e->content_type.len);
    llm_entry_put4(p + 12, e->provider.len);
    llm_entry_put4(p + 16, e->model.len);
    llm_entry_put4(p + 20, e->ttl);
    llm_entry_put8(p + 24, e->created);
    llm_entry_put8(p + 32, e->body.len);

    llm_entry_put8(p + 40, (uint64_t) e->usage.prompt_tokens);
    llm_entry_put8(p + 48, (uint64_t) e->usage.cached_tokens);
    llm_entry_put8(p + 56, (uint64_t) e->usage.completion_tokens);
    llm_entry_put8(p + 64, (uint64_t) e->usage.reasoning_tokens);
    llm_entry_put8(p + 72, (uint64_t) e->usage.total_tokens);

    llm_entry_put8(p + LLM_ENTRY_COST, (uint64_t) e->cost);
    llm_entry_put4(p + LLM_ENTRY_STALE, e->stale_error);
    llm_entry_put4(p + LLM_ENTRY_STALE + 4, e->stale_renew);
    llm_entry_put8(p + LLM_ENTRY_KIND, e->endpoint);

    llm_entry_put8(p + LLM_ENTRY_BODYSUM,
                   llm_sum(0, e->body.data, e->body.len));

    last = llm_entry_copy(p + LLM_ENTRY_FIXED, &e->content_type);
    last = llm_entry_copy(last, &e->provider);
    last = llm_entry_copy(last, &e->model);

    llm_entry_put8(p + LLM_ENTRY_HEADSUM,
                   llm_entry_head_sum(p, (size_t) (last - p)));

    return last;
}


int
llm_entry_decode(llm_entry_t *e, unsigned char *p, size_t len)
{
    size_t          i;
    uint64_t        type, provider, model, body, head;
    unsigned char  *last;

    if (len < LLM_ENTRY_FIXED
        || llm_entry_get4(p) != LLM_ENTRY_MAGIC
        || llm_entry_get4(p + 4) != LLM_ENTRY_VERSION)
    {
        return LLM_DECLINED;
    }

    type = llm_entry_get4(p + 8);
    provider = llm_entry_get4(p + 12);
    model = llm_entry_get4(p + 16);
    body = llm_entry_get8(p + 32);

    /* three 32-bit numbers: the sum cannot overflow */

    head = LLM_ENTRY_FIXED + type + provider + model;

    if (head > len || body != len - head
        || llm_entry_get8(p + LLM_ENTRY_HEADSUM)
           != llm_entry_head_sum(p, (size_t) head)
        || llm_entry_get8(p + LLM_ENTRY_BODYSUM)
           != llm_sum(0, p + head, (size_t) body))
    {
        return LLM_DECLINED;
    }

    for (i = LLM_ENTRY_USAGE; i < LLM_ENTRY_COST; i += 8) {
        if ((int64_t) llm_entry_get8(p + i) < -1) {
            return LLM_DECLINED;
        }
    }

    /* the four bytes that are zero are the upper half of the endpoint */

    if ((int64_t) llm_entry_get8(p + LLM_ENTRY_COST) < 0
        || llm_entry_get8(p + LLM_ENTRY_KIND) >= LLM_ENDPOINTS)
    {
        return LLM_DECLINED;
    }

    e->ttl = llm_entry_get4(p + 20);
    e->created = llm_entry_get8(p + 24);
    e->cost = (int64_t) llm_entry_get8(p + LLM_ENTRY_COST);
    e->stale_error = llm_entry_get4(p + LLM_ENTRY_STALE);
    e->stale_renew = llm_entry_get4(p + LLM_ENTRY_STALE + 4);
    e->endpoint = llm_entry_get4(p + LLM_ENTRY_KIND);

    e->usage.prompt_tokens = (int64_t) llm_entry_get8(p + 40);
    e->usage.cached_tokens = (int64_t) llm_entry_get8(p + 48);
    e->usage.completion_tokens = (int64_t) llm_entry_get8(p + 56);
    e->usage.reasoning_tokens = (int64_t) llm_entry_get8(p + 64);
    e->usage.total_tokens = (int64_t) llm_entry_get8(p + 72);

    last = llm_entry_take(p + LLM_ENTRY_FIXED, &e->content_type,
                          (size_t) type);
    last = llm_entry_take(last, &e->provider, (size_t) provider);
    last = llm_entry_take(last, &e->model, (size_t) model);
    (void) llm_entry_take(last, &e->body, (size_t) body);

    return LLM_OK;
}


static uint64_t
llm_entry_head_sum(const unsigned char *p, size_t head)
{
    uint64_t  h;

    h = llm_sum(0, p, LLM_ENTRY_HEADSUM);

    return llm_sum(h, p + LLM_ENTRY_FIXED, head - LLM_ENTRY_FIXED);
}


static unsigned char *
llm_entry_copy(unsigned char *p, const llm_str_t *s)
{
    if (s->len != 0) {
        memcpy(p, s->data, s->len);
    }

    return p + s->len;
}


static unsigned char *
llm_entry_take(unsigned char *p, llm_str_t *s, size_t len)
{
    s->len = len;
    s->data = p;

    return p + len;
}
