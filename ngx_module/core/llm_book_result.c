
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_book_private.h"


#define LLM_BOOK_CHUNK  256                /* groups in one piece */


struct llm_book_result_s {
    const llm_book_query_t  *query;
    llm_arena_t             *arena;
    uint32_t                 max;
    uint32_t                 n;
    uint32_t                 mask;
    uint32_t                *index;        /* group + 1, 0: none */
    llm_book_group_t       **chunk;
    uint32_t                 first;        /* periods of the span */
    uint32_t                 last;
};


static llm_book_group_t *llm_book_group(const llm_book_result_t *rs,
    uint32_t i);
static int llm_book_result_wants(const llm_book_result_t *rs,
    uint32_t period, const llm_str_t *name);
static uint32_t llm_book_result_hash(const llm_book_result_t *rs,
    int64_t start, const llm_str_t *name);
static int llm_book_result_same(const llm_book_result_t *rs,
    const llm_book_group_t *g, int64_t start, const llm_str_t *name);
static int llm_book_result_new(llm_book_result_t *rs, uint32_t *bucket,
    int64_t start, const llm_str_t *name, const llm_book_sums_t *sums);
static int llm_book_order(const llm_book_group_t *a,
    const llm_book_group_t *b);


llm_book_result_t *
llm_book_result_create(const llm_book_query_t *query, unsigned max,
    llm_arena_t *arena)
{
    uint32_t            n, chunks;
    llm_book_result_t  *rs;

    rs = llm_arena_alloc(arena, sizeof(llm_book_result_t));
    if (rs == NULL) {
        return NULL;
    }

    rs->query = query;
    rs->arena = arena;
    rs->max = max;
    rs->first = llm_book_period(query->kind, query->from);
    rs->last = query->to > 0 ? llm_book_period(query->kind, query->to - 1)
                             : 0;

    for (n = 16; n < max && n < 1u << 30; n *= 2) { /* void */ }

    rs->mask = n - 1;

    chunks = max / LLM_BOOK_CHUNK + 1;

    rs->index = llm_arena_alloc(arena, n * sizeof(uint32_t));
    rs->chunk = llm_arena_alloc(arena, chunks * sizeof(llm_book_group_t *));

    if (rs->index == NULL || rs->chunk == NULL) {
        return NULL;
    }

    memset(rs->chunk, 0, chunks * sizeof(llm_book_group_t *));

    llm_book_result_clear(rs);

    return rs;
}


void
llm_book_result_clear(llm_book_result_t *rs)
{
    rs->n = 0;
    memset(rs->index, 0, ((size_t) rs->mask + 1) * sizeof(uint32_t));
}


static llm_book_group_t *
llm_book_group(const llm_book_result_t *rs, uint32_t i)
{
    return &rs->chunk[i / LLM_BOOK_CHUNK][i % LLM_BOOK_CHUNK];
}


int
llm_book_result_add(llm_book_result_t *rs, int64_t start,
    const llm_str_t *name, const llm_book_sums_t *sums)
{
    uint32_t           i, *bucket;
    llm_book_group_t  *g;

    if (!llm_book_result_wants(rs, llm_book_period(rs->query->kind, start),
                               name))
    {
        return LLM_OK;
    }

    if ((rs->query->group & LLM_BOOK_BY_PERIOD) == 0) {
        start = 0;
    }

    bucket = &rs->index[llm_book_result_hash(rs, start, name) & rs->mask];

    for (i = *bucket; i != 0; i = g->chain) {
        g = llm_book_group(rs, i - 1);

        if (llm_book_result_same(rs, g, start, name)) {
            llm_book_add(&g->sums, sums);
            return LLM_OK;
        }
    }

    return llm_book_result_new(rs, bucket, start, name, sums);
}


static int
llm_book_result_wants(const llm_book_result_t *rs, uint32_t period,
    const llm_str_t *name)
{
    unsigned                 i;
    const llm_book_query_t  *q;

    q = rs->query;

    if (q->kind != LLM_BOOK_TOTAL
        && (period < rs->first || period > rs->last))
    {
        return 0;
    }

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if ((q->filters & LLM_BOOK_BY(i)) == 0) {
            continue;
        }

        if (q->filter[i].len != name[i].len
            || (name[i].len != 0
                && memcmp(q->filter[i].data, name[i].data, name[i].len)
                   != 0))
        {
            return 0;
        }
    }

    return 1;
}


static uint32_t
llm_book_result_hash(const llm_book_result_t *rs, int64_t start,
    const llm_str_t *name)
{
    size_t    k;
    uint64_t  h;
    unsigned  i;

    h = (uint64_t) start * 0x9e3779b97f4a7c15ULL;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if ((rs->query->group & LLM_BOOK_BY(i)) == 0) {
            continue;
        }

        for (k = 0; k < name[i].len; k++) {
            h = (h ^ name[i].data[k]) * 0x100000001b3ULL;
        }

        h = (h ^ h >> 31) * 0x9e3779b97f4a7c15ULL + i;
    }

    return (uint32_t) (h ^ h >> 32);
}


static int
llm_book_result_same(const llm_book_result_t *rs, const llm_book_group_t *g,
    int64_t start, const llm_str_t *name)
{
    unsigned  i;

    if (g->start != start) {
        return 0;
    }

    for (i = 0; i < LLM_BOOK_NAMES; i++) {

        if ((rs->query->group & LLM_BOOK_BY(i)) == 0) {
            continue;
        }

        if (g->name[i].len != name[i].len
            || (name[i].len != 0
                && memcmp(g->name[i].data, name[i].data, name[i].len) != 0))
        {
            return 0;
        }
    }

    return 1;
}


static int
llm_book_result_new(llm_book_result_t *rs, uint32_t *bucket, int64_t start,
    const llm_str_t *name, const llm_book_sums_t *sums)
{
    size_t              len;
    unsigned            i;
    unsigned char      *p;
    llm_book_group_t  **chunk, *g;

    if (rs->n == rs->max) {
        return LLM_DECLINED;
    }

    chunk = &rs->chunk[rs->n / LLM_BOOK_CHUNK];

    if (*chunk == NULL) {
        *chunk = llm_arena_alloc(rs->arena,
                                 LLM_BOOK_CHUNK * sizeof(llm_book_group_t));
        if (*chunk == NULL) {
            return LLM_ERROR;
        }
    }

    g = llm_book_group(rs, rs->n);
    memset(g, 0, sizeof(llm_book_group_t));

    for (len = 0, i = 0; i < LLM_BOOK_NAMES; i++) {
        if (rs->query->group & LLM_BOOK_BY(i)) {
            len += name[i].len;
        }
    }

    p = NULL;

    if (len != 0) {
        p = llm_arena_alloc(rs->arena, len);
        if (p == NULL) {
            return LLM_ERROR;
        }
    }

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        if (p != NULL && name[i].len != 0
            && (rs->query->group & LLM_BOOK_BY(i)))
        {
            memcpy(p, name[i].data, name[i].len);
            g->name[i].data = p;
            g->name[i].len = name[i].len;
            p += name[i].len;
        }
    }

    g->start = start;
    g->sums = *sums;
    g->chain = *bucket;
    *bucket = ++rs->n;

    return LLM_OK;
}


int
llm_book_result_rows(const llm_book_t *bk, llm_book_result_t *rs,
    uint32_t after, uint64_t *cursor, unsigned n)
{
    int                      rc;
    unsigned                 i;
    llm_str_t                name[LLM_BOOK_NAMES];
    llm_book_sums_t          sums;
    const llm_book_cell_t   *c;
    const llm_book_pool_t   *pl;
    const llm_book_query_t  *q;

    q = rs->query;
    pl = &bk->pool[q->kind];

    if (after == 0 && q->filters == 0
        && (q->group & ~LLM_BOOK_BY_PERIOD) == 0
        && (q->kind == LLM_BOOK_MINUTE || q->kind == LLM_BOOK_HOUR))
    {
        pl = &bk->pool[LLM_BOOK_ALL_MINUTE + q->kind - LLM_BOOK_MINUTE];
    }

    if (*cursor < pl->head) {
        *cursor = pl->head;
    }

    for ( /* void */ ; *cursor < pl->tail; (*cursor)++, n--) {

        if (n == 0) {
            return LLM_AGAIN;
        }

        c = llm_book_cell(bk, pl, *cursor);

        if (q->kind != LLM_BOOK_TOTAL
            && (c->key.period <= after || c->key.period < rs->first
                || c->key.period > rs->last))
        {
            continue;
        }

        for (i = 0; i < LLM_BOOK_NAMES; i++) {
            llm_book_text(bk, (llm_book_name_e) i, c->key.name[i], &name[i]);
        }

        memcpy(&sums, c->v, sizeof(llm_book_sums_t));

        /* one that was only made has nothing to tell */

        if (sums.requests == 0) {
            continue;
        }

        rc = llm_book_result_add(rs, llm_book_start(q->kind, c->key.period),
                                 name, &sums);
        if (rc != LLM_OK) {
            return rc;
        }
    }

    return LLM_OK;
}


void
llm_book_result_total(const llm_book_result_t *rs, llm_book_sums_t *sums)
{
    uint32_t  i;

    memset(sums, 0, sizeof(llm_book_sums_t));

    for (i = 0; i < rs->n; i++) {
        llm_book_add(sums, &llm_book_group(rs, i)->sums);
    }
}


/* by merging runs of 1, 2, 4, … */

llm_book_group_t **
llm_book_result_sort(llm_book_result_t *rs, unsigned *n)
{
    uint32_t            i, a, b, k, run, middle, end;
    llm_book_group_t  **from, **to, **swap;

    from = llm_arena_alloc(rs->arena,
                           (rs->n + 1) * sizeof(llm_book_group_t *));
    to = llm_arena_alloc(rs->arena,
                         (rs->n + 1) * sizeof(llm_book_group_t *));

    if (from == NULL || to == NULL) {
        return NULL;
    }

    for (i = 0; i < rs->n; i++) {
        from[i] = llm_book_group(rs, i);
    }

    for (run = 1; run < rs->n; run *= 2) {

        for (k = 0; k < rs->n; /* void */ ) {
            a = k;
            middle = rs->n - k > run ? k + run : rs->n;
            end = rs->n - middle > run ? middle + run : rs->n;
            b = middle;

            while (k < end) {
                if (b == end
                    || (a < middle && llm_book_order(from[a], from[b]) <= 0))
                {
                    to[k++] = from[a++];

                } else {
                    to[k++] = from[b++];
                }
            }
        }

        swap = from;
        from = to;
        to = swap;
    }

    *n = rs->n;

    return from;
}


static int
llm_book_order(const llm_book_group_t *a, const llm_book_group_t *b)
{
    int       rc;
    size_t    len;
    unsigned  i;

    if (a->start != b->start) {
        return a->start < b->start ? -1 : 1;
    }

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        len = a->name[i].len < b->name[i].len ? a->name[i].len
                                              : b->name[i].len;

        rc = len ? memcmp(a->name[i].data, b->name[i].data, len) : 0;

        if (rc != 0) {
            return rc;
        }

        if (a->name[i].len != b->name[i].len) {
            return a->name[i].len < b->name[i].len ? -1 : 1;
        }
    }

    return 0;
}
