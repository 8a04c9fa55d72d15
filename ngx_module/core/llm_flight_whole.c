
/*
 * Copyright (C) the ngx-llm authors
 *
 * Flights that keep their beginning for newcomers although nobody who is
 * there has to read it: what can be cut if the memory is short.
 */


#include "core/llm_flight_private.h"


static int llm_flight_cuttable(const llm_flights_t *fl,
    const llm_flight_row_t *f);
static void llm_flight_whole_add(llm_flights_t *fl, uint32_t i);
static void llm_flight_whole_remove(llm_flights_t *fl, uint32_t i);


void
llm_flight_whole(llm_flights_t *fl, uint32_t i)
{
    int                cut;
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);
    cut = llm_flight_cuttable(fl, f);

    if (cut && !f->listed) {
        llm_flight_whole_add(fl, i);

    } else if (!cut && f->listed) {
        llm_flight_whole_remove(fl, i);
    }
}


int
llm_flight_cut(llm_flights_t *fl, uint32_t except)
{
    uint32_t  i;

    i = fl->whole.first;

    if (i != LLM_FLIGHT_NONE && i == except) {
        i = llm_flight_row(fl, i)->whole.next;
    }

    if (i == LLM_FLIGHT_NONE) {
        return LLM_DECLINED;
    }

    llm_flight_shut(fl, i);

    return LLM_OK;
}


int
llm_flight_roomy(llm_flights_t *fl, uint32_t i)
{
    unsigned           n;
    uint64_t           least, own;
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    if (f->followers != 0) {
        return 1;
    }

    least = fl->stat.size / LLM_FLIGHT_RESERVE;
    least = least < LLM_FLIGHT_RESERVED ? LLM_FLIGHT_RESERVED : least;

    /* what it holds is kept for somebody from then on */

    own = f->keep != 0 ? llm_flight_log_blocks(f) : 0;

    for (n = 0;
         fl->stat.size - fl->stat.blocks + fl->spare - own < least;
         n++)
    {
        if (n == LLM_FLIGHT_CUTS || llm_flight_cut(fl, i) != LLM_OK) {
            return 0;
        }
    }

    return 1;
}


/*
 * Whether a block would be free if it was shut.  What is kept and not read is
 * in its heap.
 */

static int
llm_flight_cuttable(const llm_flights_t *fl, const llm_flight_row_t *f)
{
    if (f->shut || f->first == LLM_FLIGHT_NONE) {
        return 0;
    }

    if (f->followers == 0) {
        return f->state == LLM_FLIGHT_OPEN;
    }

    return llm_flight_block(fl, f->first)->readers == 0;
}


static void
llm_flight_whole_add(llm_flights_t *fl, uint32_t i)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    f->whole.prev = fl->whole.last;
    f->whole.next = LLM_FLIGHT_NONE;

    if (fl->whole.last == LLM_FLIGHT_NONE) {
        fl->whole.first = i;

    } else {
        llm_flight_row(fl, fl->whole.last)->whole.next = i;
    }

    fl->whole.last = i;
    f->listed = 1;
}


static void
llm_flight_whole_remove(llm_flights_t *fl, uint32_t i)
{
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);

    if (f->whole.prev == LLM_FLIGHT_NONE) {
        fl->whole.first = f->whole.next;

    } else {
        llm_flight_row(fl, f->whole.prev)->whole.next = f->whole.next;
    }

    if (f->whole.next == LLM_FLIGHT_NONE) {
        fl->whole.last = f->whole.prev;

    } else {
        llm_flight_row(fl, f->whole.next)->whole.prev = f->whole.prev;
    }

    f->listed = 0;
}
