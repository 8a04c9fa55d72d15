
/*
 * Copyright (C) the ngx-llm authors
 *
 * The rows of flights and readers, and the numbers by which they are known.
 */


#include "core/llm_flight_private.h"


uint32_t
llm_flight_find(const llm_flights_t *fl, llm_flight_id_t id)
{
    uint32_t             i;
    llm_flight_party_t  *p;

    i = id & LLM_FLIGHT_INDEX_MASK;

    if (i >= fl->rows) {
        return LLM_FLIGHT_NONE;
    }

    p = llm_flight_party(fl, i);

    return p->used && p->id == id ? i : LLM_FLIGHT_NONE;
}


uint32_t
llm_flight_find_reader(const llm_flights_t *fl, llm_flight_id_t id)
{
    uint32_t             i;
    llm_flight_party_t  *p;

    i = id & LLM_FLIGHT_INDEX_MASK;

    if (i < fl->rows || i >= fl->rows + fl->readers) {
        return LLM_FLIGHT_NONE;
    }

    p = llm_flight_party(fl, i);

    return p->used && p->id == id ? i : LLM_FLIGHT_NONE;
}


uint32_t
llm_flight_new_row(llm_flights_t *fl)
{
    uint32_t  i;

    i = fl->free_row;

    if (i != LLM_FLIGHT_NONE) {
        fl->free_row = llm_flight_party(fl, i)->news.next;
        return i;
    }

    return fl->rows_used < fl->rows ? fl->rows_used++ : LLM_FLIGHT_NONE;
}


uint32_t
llm_flight_new_reader(llm_flights_t *fl)
{
    uint32_t  i;

    i = fl->free_reader;

    if (i != LLM_FLIGHT_NONE) {
        fl->free_reader = llm_flight_party(fl, i)->news.next;
        return i;
    }

    return fl->readers_used < fl->readers ? fl->rows + fl->readers_used++
                                          : LLM_FLIGHT_NONE;
}


void
llm_flight_number(llm_flight_party_t *p, uint32_t i,
    const llm_flight_ask_t *ask)
{
    p->id = (p->id & ~LLM_FLIGHT_INDEX_MASK) + LLM_FLIGHT_INDEX_MASK + 1 + i;
    p->data = ask->data;
    p->owner = ask->owner;
    p->pending = 0;
    p->told = 0;
    p->used = 1;
}


void
llm_flight_free_row(llm_flights_t *fl, uint32_t i)
{
    llm_flight_party_t  *p;

    llm_flight_untell(fl, i);

    p = llm_flight_party(fl, i);

    p->used = 0;
    p->news.next = fl->free_row;

    fl->free_row = i;
    fl->stat.flights--;
    fl->stat.kept--;
}


void
llm_flight_free_reader(llm_flights_t *fl, uint32_t i)
{
    llm_flight_party_t  *p;

    llm_flight_untell(fl, i);

    p = llm_flight_party(fl, i);

    p->used = 0;
    p->news.next = fl->free_reader;

    fl->free_reader = i;
}
