
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_book_private.h"


static void llm_book_copy(const llm_book_t *bk, llm_book_kind_e kind,
    const llm_book_cell_t *c, llm_book_row_t *row);
static uint32_t llm_book_percentile(const uint32_t *n, uint64_t all,
    unsigned percent);


uint64_t
llm_book_changed(const llm_book_t *bk)
{
    return bk->change;
}


uint32_t
llm_book_lost(const llm_book_t *bk, llm_book_kind_e kind)
{
    return bk->pool[kind].lost;
}


unsigned
llm_book_rows(const llm_book_t *bk, llm_book_kind_e kind, uint64_t *cursor,
    uint64_t since, unsigned look, llm_book_row_t *row, unsigned n)
{
    unsigned                found;
    const llm_book_cell_t  *c;
    const llm_book_pool_t  *pl;

    pl = &bk->pool[kind];
    found = 0;

    if (*cursor < pl->head) {
        *cursor = pl->head;
    }

    for ( /* void */ ; *cursor < pl->tail; (*cursor)++) {

        if (found == n || look == 0) {
            return found;
        }

        look--;
        c = llm_book_cell(bk, pl, *cursor);

        if (c->changed > since) {
            llm_book_copy(bk, kind, c, &row[found]);
            row[found++].number = *cursor;
        }
    }

    *cursor = LLM_BOOK_END;

    return found;
}


static void
llm_book_copy(const llm_book_t *bk, llm_book_kind_e kind,
    const llm_book_cell_t *c, llm_book_row_t *row)
{
    unsigned  i;

    row->kind = kind;
    row->period = c->key.period;
    row->start = llm_book_start(kind, c->key.period);
    row->status = c->key.status;
    row->changed = c->changed;

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        llm_book_text(bk, (llm_book_name_e) i, c->key.name[i], &row->name[i]);
    }

    memcpy(&row->sums, c->v, sizeof(llm_book_sums_t));
}


int
llm_book_hists(const llm_book_t *bk, uint64_t *cursor, llm_book_hists_t *out)
{
    const llm_book_cell_t  *c;
    const llm_book_pool_t  *pl;

    pl = &bk->pool[LLM_BOOK_HIST];

    if (*cursor >= pl->tail) {
        return LLM_DECLINED;
    }

    c = llm_book_cell(bk, pl, (*cursor)++);

    llm_book_text(bk, LLM_BOOK_MODEL, c->key.name[LLM_BOOK_MODEL],
                  &out->model);
    llm_book_text(bk, LLM_BOOK_PROVIDER, c->key.name[LLM_BOOK_PROVIDER],
                  &out->provider);

    memcpy(out->hist, c->v, sizeof(out->hist));

    return LLM_OK;
}


int
llm_book_latency(const llm_book_t *bk, llm_book_kind_e kind, uint32_t period,
    const llm_str_t *model, llm_book_latency_t *out)
{
    unsigned                i, k, pool;
    const uint32_t         *n;
    llm_book_key_t          key;
    const llm_book_cell_t  *c;

    if (kind != LLM_BOOK_MINUTE && kind != LLM_BOOK_HOUR) {
        return LLM_DECLINED;
    }

    memset(&key, 0, sizeof(llm_book_key_t));
    key.period = period;
    pool = LLM_BOOK_ALL_MINUTE + kind - LLM_BOOK_MINUTE;

    if (model != NULL) {
        pool = LLM_BOOK_MODEL_MINUTE + kind - LLM_BOOK_MINUTE;
        key.name[LLM_BOOK_MODEL] = llm_book_find(bk, LLM_BOOK_MODEL, model);
    }

    c = llm_book_lookup(bk, &bk->pool[pool], &key);

    if (c == NULL) {
        return LLM_DECLINED;
    }

    n = (const uint32_t *) (const void *) (c->v + (model ? 0
                                                         : LLM_BOOK_SUMS));

    for (i = 0; i < 2; i++) {
        out->n[i] = 0;

        for (k = 0; k < LLM_BOOK_STEPS; k++) {
            out->n[i] += n[k];
        }

        out->p50[i] = llm_book_percentile(n, out->n[i], 50);
        out->p95[i] = llm_book_percentile(n, out->n[i], 95);
        out->p99[i] = llm_book_percentile(n, out->n[i], 99);

        n += LLM_BOOK_STEPS;
    }

    return LLM_OK;
}


/* the middle of the step that the nearest rank is in */

static uint32_t
llm_book_percentile(const uint32_t *n, uint64_t all, unsigned percent)
{
    uint64_t  rank;
    unsigned  i;

    if (all == 0) {
        return 0;
    }

    rank = (all * percent + 99) / 100;

    for (i = 0; i < LLM_BOOK_STEPS - 1; i++) {

        if (n[i] >= rank) {
            return (llm_book_steps[i] + llm_book_steps[i + 1] - 1) / 2;
        }

        rank -= n[i];
    }

    return llm_book_steps[i];
}


void
llm_book_add(llm_book_sums_t *to, const llm_book_sums_t *sums)
{
    unsigned        i;
    int64_t        *v;
    const int64_t  *w;

    v = &to->requests;
    w = &sums->requests;

    for (i = 0; i < LLM_BOOK_SUMS; i++) {
        v[i] = (int64_t) ((uint64_t) v[i] + (uint64_t) w[i]);
    }
}


void
llm_book_stat(const llm_book_t *bk, llm_book_stat_t *stat)
{
    unsigned                 i;
    const llm_book_pool_t   *pl;
    const llm_book_names_t  *nm;

    memset(stat, 0, sizeof(llm_book_stat_t));

    stat->size = bk->size;
    stat->folded = bk->folded;
    stat->evicted = bk->evicted;
    stat->posted = bk->posted;

    for (i = 0; i < LLM_BOOK_POOLS; i++) {
        pl = &bk->pool[i];

        stat->rows += pl->tail - pl->head;
        stat->room += pl->room;
        stat->used += (pl->tail - pl->head) * pl->stride;

        if (i < LLM_BOOK_KINDS) {
            stat->kind[i] = pl->tail - pl->head;
            stat->kind_room[i] = pl->room;
        }
    }

    for (i = 0; i < LLM_BOOK_NAMES; i++) {
        nm = &bk->names[i];

        stat->names[i] = nm->used;
        stat->names_room[i] = nm->room;
        stat->used += nm->used * sizeof(llm_book_text_t);
    }
}
