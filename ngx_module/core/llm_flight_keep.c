
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights that are kept after their end, in heaps: the first to be given up
 * is on top, among equal times the one that ended first.  No log changes its
 * size meanwhile, so what can be given up is known at any time.
 */


#include "core/llm_flight_private.h"


static llm_flight_heap_e llm_flight_heap_of(const llm_flight_row_t *f);
static void llm_flight_heap_add(llm_flights_t *fl, llm_flight_heap_e heap,
    uint32_t i);
static void llm_flight_heap_remove(llm_flights_t *fl, llm_flight_heap_e heap,
    uint32_t i);
static void llm_flight_heap_up(llm_flights_t *fl, llm_flight_heap_e heap,
    uint32_t slot, uint32_t i);
static void llm_flight_heap_down(llm_flights_t *fl, llm_flight_heap_e heap,
    uint32_t slot, uint32_t i);
static int llm_flight_before(llm_flights_t *fl, uint32_t a, uint32_t b);


void
llm_flight_keep(llm_flights_t *fl, uint32_t i)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);
    f->order = fl->order++;

    llm_flight_heap_add(fl, llm_flight_heap_of(f), i);
}


void
llm_flight_unkeep(llm_flights_t *fl, uint32_t i)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    llm_flight_heap_remove(fl, llm_flight_heap_of(f), i);
    f->keep = 0;
}


void
llm_flight_rekeep(llm_flights_t *fl, uint32_t i)
{
    llm_flight_heap_e  heap;

    heap = llm_flight_heap_of(llm_flight_row(fl, i));

    llm_flight_heap_remove(fl, heap == LLM_FLIGHT_IDLE ? LLM_FLIGHT_READ
                                                       : LLM_FLIGHT_IDLE, i);
    llm_flight_heap_add(fl, heap, i);
}


int
llm_flight_evict(llm_flights_t *fl)
{
    if (fl->kept[LLM_FLIGHT_IDLE] == 0) {
        return LLM_DECLINED;
    }

    llm_flight_shut(fl, llm_flight_heap(fl, LLM_FLIGHT_IDLE)[0]);

    return LLM_OK;
}


uint64_t
llm_flight_expire(llm_flights_t *fl, uint64_t now)
{
    unsigned   h;
    uint32_t   i;
    uint64_t   keep, next;

    next = 0;

    for (h = 0; h < LLM_FLIGHT_HEAPS; h++) {

        while (fl->kept[h] != 0) {
            i = llm_flight_heap(fl, h)[0];
            keep = llm_flight_row(fl, i)->keep;

            if (keep > now) {
                next = next == 0 || keep < next ? keep : next;
                break;
            }

            llm_flight_shut(fl, i);
        }
    }

    return next;
}


static llm_flight_heap_e
llm_flight_heap_of(const llm_flight_row_t *f)
{
    return f->followers == 0 ? LLM_FLIGHT_IDLE : LLM_FLIGHT_READ;
}


static void
llm_flight_heap_add(llm_flights_t *fl, llm_flight_heap_e heap, uint32_t i)
{
    if (heap == LLM_FLIGHT_IDLE) {
        fl->spare += llm_flight_log_blocks(llm_flight_row(fl, i));
    }

    llm_flight_heap_up(fl, heap, fl->kept[heap]++, i);
}


static void
llm_flight_heap_remove(llm_flights_t *fl, llm_flight_heap_e heap, uint32_t i)
{
    uint32_t  last, slot;

    if (heap == LLM_FLIGHT_IDLE) {
        fl->spare -= llm_flight_log_blocks(llm_flight_row(fl, i));
    }

    slot = llm_flight_row(fl, i)->slot;
    last = llm_flight_heap(fl, heap)[--fl->kept[heap]];

    if (last == i) {
        return;
    }

    /* the last one takes the place and goes where it belongs from there */

    llm_flight_heap_up(fl, heap, slot, last);
    llm_flight_heap_down(fl, heap, llm_flight_row(fl, last)->slot, last);
}


static void
llm_flight_heap_up(llm_flights_t *fl, llm_flight_heap_e heap, uint32_t slot,
    uint32_t i)
{
    uint32_t  *a, up;

    a = llm_flight_heap(fl, heap);

    while (slot != 0) {
        up = (slot - 1) / 2;

        if (!llm_flight_before(fl, i, a[up])) {
            break;
        }

        a[slot] = a[up];
        llm_flight_row(fl, a[slot])->slot = slot;
        slot = up;
    }

    a[slot] = i;
    llm_flight_row(fl, i)->slot = slot;
}


static void
llm_flight_heap_down(llm_flights_t *fl, llm_flight_heap_e heap,
    uint32_t slot, uint32_t i)
{
    uint32_t  *a, down, n;

    a = llm_flight_heap(fl, heap);
    n = fl->kept[heap];

    for ( ;; ) {
        down = 2 * slot + 1;

        if (down >= n) {
            break;
        }

        if (down + 1 < n && llm_flight_before(fl, a[down + 1], a[down])) {
            down++;
        }

        if (!llm_flight_before(fl, a[down], i)) {
            break;
        }

        a[slot] = a[down];
        llm_flight_row(fl, a[slot])->slot = slot;
        slot = down;
    }

    a[slot] = i;
    llm_flight_row(fl, i)->slot = slot;
}


static int
llm_flight_before(llm_flights_t *fl, uint32_t a, uint32_t b)
{
    llm_flight_row_t  *f, *g;

    f = llm_flight_row(fl, a);
    g = llm_flight_row(fl, b);

    return f->keep != g->keep ? f->keep < g->keep : f->order < g->order;
}
