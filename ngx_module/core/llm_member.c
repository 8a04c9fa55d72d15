
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_json.h"
#include "core/llm_member.h"


#define LLM_MEMBER_INITIAL  16


static void llm_members_insertion(llm_member_t *m, uint32_t n);
static int llm_members_merge(llm_members_t *ms, llm_member_t *m, uint32_t n);


static inline int
llm_member_cmp(const llm_member_t *a, const llm_member_t *b)
{
    int       rc;
    uint32_t  len;

    len = a->len < b->len ? a->len : b->len;
    rc = memcmp(a->name, b->name, len);

    if (rc != 0) {
        return rc;
    }

    return (a->len > b->len) - (a->len < b->len);
}


int
llm_member_decode(llm_members_t *ms, llm_member_t *m)
{
    unsigned char  *name;

    /* decoding never makes a name longer */

    name = llm_arena_alloc(ms->arena, m->len);
    if (name == NULL) {
        return LLM_ERROR;
    }

    m->len = (uint32_t) llm_json_decode(m->name, m->name + m->len, name);
    m->name = name;

    return LLM_OK;
}


int
llm_members_grow(llm_members_t *ms)
{
    uint32_t       size;
    llm_member_t  *elts;

    size = ms->size != 0 ? ms->size * 2 : LLM_MEMBER_INITIAL;

    if (size < ms->size) {
        return LLM_ERROR;
    }

    elts = llm_arena_alloc(ms->arena, (size_t) size * sizeof(llm_member_t));
    if (elts == NULL) {
        return LLM_ERROR;
    }

    if (ms->n != 0) {
        memcpy(elts, ms->elts, (size_t) ms->n * sizeof(llm_member_t));
    }

    ms->elts = elts;
    ms->size = size;

    return LLM_OK;
}


int
llm_members_check(llm_members_t *ms, uint32_t base, uint32_t *first,
    uint32_t *second)
{
    int                  rc;
    const llm_member_t  *m, *end;

    if (ms->n - base <= LLM_MEMBER_FEW) {
        return LLM_OK;
    }

    if (llm_members_sort(ms, base) != LLM_OK) {
        return LLM_ERROR;
    }

    rc = LLM_OK;
    end = &ms->elts[ms->n];

    /* the sort is stable, so that equal names stay as they came */

    for (m = &ms->elts[base + 1]; m < end; m++) {

        if (llm_member_cmp(m - 1, m) == 0
            && (rc == LLM_OK || m->at < *second))
        {
            *first = m[-1].at;
            *second = m->at;
            rc = LLM_DECLINED;
        }
    }

    return rc;
}


int
llm_members_sort(llm_members_t *ms, uint32_t base)
{
    uint32_t       n;
    llm_member_t  *m;

    n = ms->n - base;
    m = ms->elts + base;

    if (n <= LLM_MEMBER_FEW) {
        llm_members_insertion(m, n);
        return LLM_OK;
    }

    return llm_members_merge(ms, m, n);
}


static void
llm_members_insertion(llm_member_t *m, uint32_t n)
{
    uint32_t      i, j;
    llm_member_t  key;

    for (i = 1; i < n; i++) {

        if (llm_member_cmp(&m[i - 1], &m[i]) <= 0) {
            continue;
        }

        key = m[i];
        j = i;

        do {
            m[j] = m[j - 1];
            j--;
        } while (j > 0 && llm_member_cmp(&m[j - 1], &key) > 0);

        m[j] = key;
    }
}


/*
 * A merge compares each name about once per level and reads no more of it
 * than it is long: whatever names an attacker chooses, the work is bounded by
 * their bytes times log n.
 */

static int
llm_members_merge(llm_members_t *ms, llm_member_t *m, uint32_t n)
{
    uint64_t       lo, mid, hi, width;
    llm_member_t  *a, *b, *aend, *bend, *out, *temp, *swap, *from;

    if (ms->temp_size < n) {

        temp = llm_arena_alloc(ms->arena,
                               (size_t) ms->size * sizeof(llm_member_t));
        if (temp == NULL) {
            return LLM_ERROR;
        }

        ms->temp = temp;
        ms->temp_size = ms->size;
    }

    for (lo = 0; lo < n; lo += LLM_MEMBER_FEW) {
        hi = n - lo < LLM_MEMBER_FEW ? n - lo : LLM_MEMBER_FEW;
        llm_members_insertion(m + lo, (uint32_t) hi);
    }

    from = m;
    temp = ms->temp;

    for (width = LLM_MEMBER_FEW; width < n; width *= 2) {

        for (lo = 0; lo < n; lo += 2 * width) {
            mid = lo + width < n ? lo + width : n;
            hi = mid + width < n ? mid + width : n;

            a = from + lo;
            aend = from + mid;
            b = aend;
            bend = from + hi;
            out = temp + lo;

            while (a < aend && b < bend) {
                *out++ = llm_member_cmp(a, b) <= 0 ? *a++ : *b++;
            }

            memcpy(out, a, (size_t) (aend - a) * sizeof(llm_member_t));
            out += aend - a;
            memcpy(out, b, (size_t) (bend - b) * sizeof(llm_member_t));
        }

        swap = from;
        from = temp;
        temp = swap;
    }

    if (from != m) {
        memcpy(m, from, (size_t) n * sizeof(llm_member_t));
    }

    return LLM_OK;
}
