
/*
 * Copyright (C) the ngx-llm authors
 *
 * What must hold of every table of flights between two calls, worked out in
 * the simplest way.
 */


#ifndef _FLIGHT_CHECK_H_INCLUDED_
#define _FLIGHT_CHECK_H_INCLUDED_


#include "core/llm_flight_private.h"

#include <stdlib.h>
#include <string.h>


#define CHECK(c)  if (!(c)) return #c

#define NONE      LLM_FLIGHT_NONE
#define PAYLOAD   LLM_FLIGHT_PAYLOAD


/* a log: each block counts those who stand in it, none is without a reason */

static const char *
flight_check_log(llm_flights_t *fl, llm_flight_row_t *f, uint64_t *blocks)
{
    uint32_t              i, k, at, readers, n, used;
    llm_flight_block_t   *b;
    llm_flight_reader_t  *r;

    n = 0;
    readers = 0;

    for (i = f->first; i != NONE; i = b->next) {
        CHECK(i < fl->blocks_used);
        CHECK(++n <= fl->stat.size);
        b = llm_flight_block(fl, i);
        CHECK((b->next == NONE) == (i == f->last));

        used = 0;

        for (k = f->peers; k != NONE; k = r->peer.next) {
            r = llm_flight_reader(fl, k);
            at = r->block == NONE ? f->first : r->block;
            used += at == i;
        }

        CHECK(b->readers == used);
        readers += used;

        if (f->shut && i == f->first && i != f->last) {
            CHECK(used != 0);
        }
    }

    CHECK(n != 0 || f->last == NONE);
    CHECK(readers == (n != 0 ? f->followers : 0));
    CHECK(!f->shut || f->followers != 0 || n == 0);
    CHECK(f->shut || n == (f->end + PAYLOAD - 1) / PAYLOAD);
    CHECK(n == 0 || f->fill == (f->end - 1) % PAYLOAD + 1);

    *blocks += n;

    return NULL;
}


static const char *
flight_check_row(llm_flights_t *fl, uint32_t i)
{
    uint32_t              k, n, prev, heap;
    llm_flight_row_t     *f;
    llm_flight_reader_t  *r;

    f = llm_flight_row(fl, i);
    n = 0;
    prev = NONE;

    for (k = f->peers; k != NONE; k = r->peer.next) {
        CHECK(k >= fl->rows && k < fl->rows + fl->readers_used);
        r = llm_flight_reader(fl, k);
        CHECK(r->party.used && r->flight == i);
        CHECK(r->peer.prev == prev && r->pos <= f->end);
        CHECK(++n <= f->followers);
        prev = k;
    }

    CHECK(n == f->followers);
    CHECK((f->names == 0) == (f->shut != 0));
    CHECK(f->state != LLM_FLIGHT_OPEN || f->keep == 0);
    CHECK(!f->shut || f->keep == 0);
    CHECK(f->state == LLM_FLIGHT_OPEN || f->shut || f->keep != 0);
    CHECK(f->state == LLM_FLIGHT_OPEN || f->keep != 0 || n != 0);
    CHECK(f->state == LLM_FLIGHT_OPEN || !f->party.pending);
    CHECK(f->state != LLM_FLIGHT_FAILED || f->shut);

    n = !f->shut && f->first != NONE
        && (n == 0 ? f->state == LLM_FLIGHT_OPEN
                   : f->first != f->last
                     && llm_flight_block(fl, f->first)->readers == 0);
    CHECK(n == f->listed);

    if (f->keep != 0) {
        heap = f->followers == 0 ? LLM_FLIGHT_IDLE : LLM_FLIGHT_READ;
        CHECK(f->slot < fl->kept[heap]);
        CHECK(llm_flight_heap(fl, heap)[f->slot] == i);
    }

    return NULL;
}


static const char *
flight_check_heaps(llm_flights_t *fl, uint32_t kept)
{
    uint32_t           h, i, *a;
    llm_flight_row_t  *f, *up;

    CHECK(fl->kept[0] + fl->kept[1] == kept);

    for (h = 0; h < LLM_FLIGHT_HEAPS; h++) {
        a = llm_flight_heap(fl, h);

        for (i = 1; i < fl->kept[h]; i++) {
            f = llm_flight_row(fl, a[i]);
            up = llm_flight_row(fl, a[(i - 1) / 2]);
            CHECK(up->keep < f->keep
                  || (up->keep == f->keep && up->order < f->order));
        }
    }

    return NULL;
}


/* what can be cut, and what is kept for nobody */

static const char *
flight_check_whole(llm_flights_t *fl, uint32_t listed)
{
    uint32_t           i, k, n, prev;
    uint64_t           blocks;
    llm_flight_row_t  *f;

    n = 0;
    prev = NONE;

    for (i = fl->whole.first; i != NONE; i = f->whole.next) {
        CHECK(i < fl->rows_used);
        f = llm_flight_row(fl, i);
        CHECK(f->party.used && f->listed && f->whole.prev == prev);
        CHECK(++n <= listed);
        prev = i;
    }

    CHECK(n == listed && fl->whole.last == prev);

    blocks = 0;

    for (i = 0; i < fl->kept[LLM_FLIGHT_IDLE]; i++) {
        f = llm_flight_row(fl, llm_flight_heap(fl, LLM_FLIGHT_IDLE)[i]);

        for (k = f->first; k != NONE; k = llm_flight_block(fl, k)->next) {
            blocks++;
        }
    }

    CHECK(fl->spare == blocks);

    return NULL;
}


static const char *
flight_check_names(llm_flights_t *fl, uint32_t names)
{
    uint32_t           e, h, i, n;
    llm_flight_row_t  *f;

    n = 0;

    for (h = 0; h <= fl->mask; h++) {
        e = llm_flight_heads(fl)[h];

        while (e != NONE) {
            i = e / LLM_FLIGHT_NAMES;
            CHECK(i < fl->rows_used);
            f = llm_flight_row(fl, i);
            CHECK(f->party.used);
            CHECK(f->names & 1U << e % LLM_FLIGHT_NAMES);
            CHECK(llm_flight_name_find(fl, f->name[e % LLM_FLIGHT_NAMES])
                  == i);
            CHECK(++n <= names);
            e = f->chain[e % LLM_FLIGHT_NAMES];
        }
    }

    CHECK(n == names);

    return NULL;
}


static const char *
flight_check_news(llm_flights_t *fl, uint32_t pending)
{
    uint32_t             i, k, n, prev;
    llm_flight_party_t  *p;

    n = 0;

    for (k = 0; k < LLM_LEDGER_OWNERS; k++) {
        prev = NONE;

        for (i = fl->news[k].first; i != NONE; i = p->news.next) {
            p = llm_flight_party(fl, i);
            CHECK(p->used && p->pending && p->owner == k);
            CHECK(p->news.prev == prev);
            CHECK(++n <= pending);
            prev = i;
        }

        CHECK(fl->news[k].last == prev);
    }

    CHECK(n == pending);

    return NULL;
}


static const char *
flight_check_free(llm_flights_t *fl, uint32_t first, uint32_t n)
{
    uint32_t  i, k;

    k = 0;

    for (i = first; i != NONE; i = llm_flight_party(fl, i)->news.next) {
        CHECK(!llm_flight_party(fl, i)->used);
        CHECK(++k <= n);
    }

    CHECK(k == n);

    return NULL;
}


static const char *
flight_check(llm_flights_t *fl)
{
    uint32_t              i, k, flights, kept, ended, names, pending, rows,
                          attached, listed;
    uint64_t              blocks;
    const char           *e;
    llm_flight_row_t     *f;
    llm_flight_reader_t  *r;

    flights = kept = ended = names = pending = rows = attached = 0;
    listed = 0;
    blocks = 0;

    for (i = 0; i < fl->rows_used; i++) {
        f = llm_flight_row(fl, i);

        if (!f->party.used) {
            continue;
        }

        if ((e = flight_check_row(fl, i)) != NULL
            || (e = flight_check_log(fl, f, &blocks)) != NULL)
        {
            return e;
        }

        flights++;
        kept += f->keep != 0;
        listed += f->listed;
        ended += f->state != LLM_FLIGHT_OPEN;
        pending += f->party.pending;

        for (k = 0; k < LLM_FLIGHT_NAMES; k++) {
            names += f->names >> k & 1;
        }
    }

    for (i = fl->rows; i < fl->rows + fl->readers_used; i++) {
        r = llm_flight_reader(fl, i);
        rows += r->party.used;
        pending += r->party.used && r->party.pending;
        attached += r->party.used && r->flight != NONE;
    }

    CHECK(fl->stat.flights == flights && fl->stat.kept == ended);
    CHECK(fl->stat.followers == attached);
    CHECK(fl->stat.blocks == blocks);

    for (i = fl->free_block; i != NONE; i = llm_flight_block(fl, i)->next) {
        CHECK(++blocks <= fl->blocks_used);
    }

    CHECK(blocks == fl->blocks_used && blocks <= fl->stat.size);

    if ((e = flight_check_heaps(fl, kept)) != NULL
        || (e = flight_check_whole(fl, listed)) != NULL
        || (e = flight_check_names(fl, names)) != NULL
        || (e = flight_check_news(fl, pending)) != NULL
        || (e = flight_check_free(fl, fl->free_row,
                                  fl->rows_used - flights)) != NULL
        || (e = flight_check_free(fl, fl->free_reader,
                                  fl->readers_used - rows)) != NULL)
    {
        return e;
    }

    return NULL;
}


#endif /* _FLIGHT_CHECK_H_INCLUDED_ */
