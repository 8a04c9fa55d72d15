
/*
 * Copyright (C) the ngx-llm authors
 */


#include "sim_private.h"


static event_t   *heap;
static size_t     room;
static uint64_t   event_seq;


uint64_t
sim_bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return seed >> 11;
}


double
sim_uniform(void)
{
    return ((double) sim_bits() + 1) / ((double) ((uint64_t) 1 << 53) + 1);
}


double
sim_waiting(double mean)
{
    return -log(sim_uniform()) * mean;
}


static int
before(const event_t *a, const event_t *b)
{
    return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}


void
sim_post(uint64_t at, event_e what, unsigned who, uint64_t number)
{
    size_t   i;
    event_t  e;

    if (nheap == room) {
        room = room ? room * 2 : 1024;
        heap = realloc(heap, room * sizeof(event_t));
    }

    e = (event_t) { at, event_seq++, what, who, number };

    for (i = nheap++; i != 0 && before(&e, &heap[(i - 1) / 2]);
         i = (i - 1) / 2)
    {
        heap[i] = heap[(i - 1) / 2];
    }

    heap[i] = e;
}


event_t
sim_next(void)
{
    size_t   i, k;
    event_t  first, last;

    first = heap[0];
    last = heap[--nheap];

    for (i = 0; (k = 2 * i + 1) < nheap; i = k) {

        if (k + 1 < nheap && before(&heap[k + 1], &heap[k])) {
            k++;
        }

        if (!before(&heap[k], &last)) {
            break;
        }

        heap[i] = heap[k];
    }

    heap[i] = last;

    return first;
}


void
sim_done(void)
{
    free(heap);
}
