
/*
 * Copyright (C) the ngx-llm authors
 *
 * Journals: a ring of records for each worker.  One process writes, without a
 * lock; who has the lock reads.
 */


#include "core/llm_book_private.h"


static llm_book_entry_t *llm_book_slot(llm_book_t *bk, unsigned owner,
    llm_book_journal_t **jn);
static int llm_book_drain_one(llm_book_t *bk, unsigned owner, unsigned *n);
static unsigned llm_book_drain_run(llm_book_t *bk, llm_book_journal_t *j,
    const llm_book_rows_t *rows, uint64_t tail, unsigned most);


int
llm_book_append(llm_book_t *bk, unsigned owner, const llm_book_record_t *rec)
{
    llm_book_entry_t    *e;
    llm_book_journal_t  *jn;

    if (owner >= bk->njournals) {
        return LLM_DECLINED;
    }

    e = llm_book_slot(bk, owner, &jn);

    if (e == NULL) {
        return LLM_AGAIN;
    }

    e->between = 0;
    e->u.record = *rec;

    /* until now it is not there */

    __atomic_store_n(&jn->tail, jn->tail + 1, __ATOMIC_RELEASE);

    return LLM_OK;
}


int
llm_book_append_between(llm_book_t *bk, unsigned owner, uint32_t model,
    uint32_t provider, const llm_book_between_t *bt)
{
    llm_book_entry_t    *e;
    llm_book_journal_t  *jn;

    if (owner >= bk->njournals) {
        return LLM_DECLINED;
    }

    e = llm_book_slot(bk, owner, &jn);

    if (e == NULL) {
        return LLM_AGAIN;
    }

    e->between = 1;
    e->model = model;
    e->provider = provider;
    e->u.pauses = *bt;

    __atomic_store_n(&jn->tail, jn->tail + 1, __ATOMIC_RELEASE);

    return LLM_OK;
}


static llm_book_entry_t *
llm_book_slot(llm_book_t *bk, unsigned owner, llm_book_journal_t **jn)
{
    uint64_t             tail;
    llm_book_journal_t  *j;

    j = llm_book_journal(bk, owner);
    tail = j->tail;

    if (tail - __atomic_load_n(&j->head, __ATOMIC_ACQUIRE) >= bk->slots) {
        return NULL;
    }

    *jn = j;

    return &j->entry[tail & (bk->slots - 1)];
}


int
llm_book_waits(const llm_book_t *bk, unsigned owner)
{
    llm_book_journal_t  *j;

    if (owner >= bk->njournals) {
        return 0;
    }

    j = llm_book_journal(bk, owner);

    return __atomic_load_n(&j->tail, __ATOMIC_ACQUIRE)
           != __atomic_load_n(&j->head, __ATOMIC_ACQUIRE);
}


int
llm_book_drain(llm_book_t *bk, unsigned owner, unsigned n)
{
    if (owner != LLM_BOOK_OWNERS) {
        return owner < bk->njournals ? llm_book_drain_one(bk, owner, &n)
                                     : LLM_OK;
    }

    for (owner = 0; owner < bk->njournals; owner++) {
        if (llm_book_drain_one(bk, owner, &n) == LLM_AGAIN) {
            return LLM_AGAIN;
        }
    }

    return LLM_OK;
}


static int
llm_book_drain_one(llm_book_t *bk, unsigned owner, unsigned *n)
{
    unsigned             k;
    uint64_t             tail;
    llm_book_entry_t    *e;
    llm_book_rows_t      rows;
    llm_book_journal_t  *j;

    j = llm_book_journal(bk, owner);
    rows.there = 0;
    tail = __atomic_load_n(&j->tail, __ATOMIC_ACQUIRE);

    while (j->head != tail) {

        if (*n == 0) {
            return LLM_AGAIN;
        }

        e = &j->entry[j->head & (bk->slots - 1)];

        if (e->between) {
            llm_book_apply_between(bk, e->model, e->provider, &e->u.pauses,
                                   &j->head);
            k = 1;

        } else {
            llm_book_rows_find(bk, &e->u.record, &rows);
            k = llm_book_drain_run(bk, j, &rows, tail, *n);
        }

        *n -= k;
    }

    return LLM_OK;
}


/* the next record, and those behind it that go into the same rows */

static unsigned
llm_book_drain_run(llm_book_t *bk, llm_book_journal_t *j,
    const llm_book_rows_t *rows, uint64_t tail, unsigned most)
{
    unsigned                  k;
    uint64_t                  i;
    const llm_book_entry_t   *e;
    const llm_book_record_t  *rec[LLM_BOOK_RUN];

    if (most > LLM_BOOK_RUN) {
        most = LLM_BOOK_RUN;
    }

    i = j->head;
    k = 0;

    do {
        e = &j->entry[i & (bk->slots - 1)];

        if (k != 0
            && (e->between || !llm_book_rows_same(rows, &e->u.record)))
        {
            break;
        }

        rec[k++] = &e->u.record;

    } while (++i != tail && k < most);

    llm_book_apply(bk, rows, rec, k, &j->head);

    return k;
}
