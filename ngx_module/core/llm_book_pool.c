
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_book_private.h"


#define LLM_BOOK_SWEEP  2             /* rows out of date per new one */


static uint32_t llm_book_hash(const llm_book_key_t *key);
static void llm_book_evict(llm_book_t *bk, llm_book_pool_t *pl, int early);
static void llm_book_redo(llm_book_t *bk);


/*
 * The count is what makes the words valid, and goes before any of them is
 * used; it falls when all have been.  Words are absolute, so doing it again
 * changes nothing.
 */

void
llm_book_commit(llm_book_step_t *st)
{
    llm_book_t  *bk;

    bk = st->book;

    if (st->n == 0) {
        return;
    }

    __atomic_store_n(&bk->nredo, st->n, __ATOMIC_RELEASE);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);

    llm_book_redo(bk);

    st->n = 0;
}


void
llm_book_recover(llm_book_t *bk)
{
    if (bk->nredo != 0) {
        llm_book_redo(bk);
    }
}


/* words that are read without the lock are written in the order of the log */

static void
llm_book_redo(llm_book_t *bk)
{
    uint32_t                 i, n;
    unsigned char           *p;
    const llm_book_write_t  *w;

    n = bk->nredo;

    for (i = 0; i < n && i < LLM_BOOK_REDO; i++) {
        w = &bk->redo[i];
        p = (unsigned char *) bk + (uint64_t) w->at * 4;

        if (w->size == 4) {
            __atomic_store_n((uint32_t *) (void *) p, (uint32_t) w->value,
                             __ATOMIC_RELEASE);

        } else {
            __atomic_store_n((uint64_t *) (void *) p, w->value,
                             __ATOMIC_RELEASE);
        }
    }

    __atomic_store_n(&bk->nredo, 0, __ATOMIC_RELEASE);

    /* a later step's log is not written before this one is over */
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
}


static uint32_t
llm_book_hash(const llm_book_key_t *key)
{
    uint64_t  h;

    h = ((uint64_t) key->period << 32 | key->status) * 0x9e3779b97f4a7c15ULL;
    h = (h ^ h >> 29
         ^ ((uint64_t) key->name[0] << 32 | key->name[1]))
        * 0xbf58476d1ce4e5b9ULL;
    h = (h ^ h >> 32
         ^ ((uint64_t) key->name[2] << 32 | key->name[3]))
        * 0x94d049bb133111ebULL;

    return (uint32_t) (h ^ h >> 31);
}


llm_book_cell_t *
llm_book_lookup(const llm_book_t *bk, const llm_book_pool_t *pl,
    const llm_book_key_t *key)
{
    uint32_t          i, *index;
    llm_book_cell_t  *c;

    index = llm_book_at(bk, pl->index);

    for (i = index[llm_book_hash(key) & pl->mask]; i != 0; i = c->chain) {
        c = llm_book_cell(bk, pl, i - 1);

        if (memcmp(&c->key, key, sizeof(llm_book_key_t)) == 0) {
            return c;
        }
    }

    return NULL;
}


/*
 * The oldest row goes if it is out of date, or if it is of an older period
 * and there is no room.
 */

llm_book_cell_t *
llm_book_make(llm_book_t *bk, llm_book_pool_t *pl, const llm_book_key_t *key,
    int other)
{
    uint32_t          i, hash, *bucket;
    uint64_t          room;
    llm_book_cell_t  *c, *old;
    llm_book_step_t   st;

    c = llm_book_lookup(bk, pl, key);

    if (c != NULL) {
        return c;
    }

    room = other ? pl->room : pl->room - pl->reserve;

    for (i = 0; pl->tail != pl->head; i++) {
        old = llm_book_cell(bk, pl, pl->head);

        if (i < LLM_BOOK_SWEEP && pl->keep != 0
            && (uint64_t) old->key.period + pl->keep <= key->period)
        {
            llm_book_evict(bk, pl, 0);
            continue;
        }

        if (pl->tail - pl->head < room) {
            break;
        }

        if (old->key.period >= key->period) {
            return NULL;
        }

        llm_book_evict(bk, pl, 1);
    }

    /* nobody sees it yet: it needs no log */

    hash = llm_book_hash(key);
    bucket = (uint32_t *) llm_book_at(bk, pl->index) + (hash & pl->mask);

    c = llm_book_cell(bk, pl, pl->tail);

    memset(c, 0, pl->stride);
    c->key = *key;
    c->hash = hash;
    c->chain = *bucket;

    llm_book_begin(&st, bk);
    llm_book_put8(&st, &pl->tail, pl->tail + 1);
    llm_book_put4(&st, bucket, (uint32_t) (pl->tail % pl->room) + 1);
    llm_book_commit(&st);

    return c;
}


static void
llm_book_evict(llm_book_t *bk, llm_book_pool_t *pl, int early)
{
    uint32_t         *at, i;
    llm_book_cell_t  *c;
    llm_book_step_t   st;

    c = llm_book_cell(bk, pl, pl->head);
    i = (uint32_t) (pl->head % pl->room) + 1;

    for (at = (uint32_t *) llm_book_at(bk, pl->index) + (c->hash & pl->mask);
         *at != i;
         at = &llm_book_cell(bk, pl, *at - 1)->chain)
    {
        /* void */
    }

    llm_book_begin(&st, bk);

    llm_book_put4(&st, at, c->chain);
    llm_book_put8(&st, &pl->head, pl->head + 1);

    if (early) {
        llm_book_put8(&st, &bk->evicted, bk->evicted + 1);

        if (c->key.period > pl->lost) {
            llm_book_put4(&st, &pl->lost, c->key.period);
        }
    }

    llm_book_commit(&st);
}
