
/*
 * Copyright (C) the ngx-llm authors
 *
 * The index of names.  A name is as good as random, its first bytes are its
 * hash.  An entry of a chain is a flight's index and which of its names.
 */


#include "core/llm_flight_private.h"

#include <string.h>


static uint32_t *llm_flight_name_head(const llm_flights_t *fl,
    const unsigned char *name);
static uint32_t llm_flight_name_entry(const llm_flights_t *fl,
    const unsigned char *name);
static uint32_t *llm_flight_name_next(const llm_flights_t *fl,
    uint32_t entry);


uint32_t
llm_flight_name_find(const llm_flights_t *fl, const unsigned char *name)
{
    uint32_t  e;

    e = llm_flight_name_entry(fl, name);

    return e == LLM_FLIGHT_NONE ? LLM_FLIGHT_NONE : e / LLM_FLIGHT_NAMES;
}


int
llm_flight_name_take(llm_flights_t *fl, uint32_t i, unsigned k,
    const unsigned char *name, uint32_t *from)
{
    uint32_t           e, *head;
    llm_flight_row_t  *f;

    e = llm_flight_name_entry(fl, name);

    *from = LLM_FLIGHT_NONE;

    if (e != LLM_FLIGHT_NONE) {
        *from = e / LLM_FLIGHT_NAMES;

        llm_flight_name_drop(fl, *from, e % LLM_FLIGHT_NAMES);
    }

    f = llm_flight_row(fl, i);
    head = llm_flight_name_head(fl, name);

    memcpy(f->name[k], name, LLM_FLIGHT_NAME);

    f->names |= 1U << k;
    f->chain[k] = *head;
    *head = i * LLM_FLIGHT_NAMES + k;

    return *from != LLM_FLIGHT_NONE && llm_flight_row(fl, *from)->names == 0;
}


void
llm_flight_name_drop(llm_flights_t *fl, uint32_t i, unsigned k)
{
    uint32_t           e, *link;
    llm_flight_row_t  *f;

    f = llm_flight_row(fl, i);
    e = i * LLM_FLIGHT_NAMES + k;
    link = llm_flight_name_head(fl, f->name[k]);

    while (*link != e) {
        link = llm_flight_name_next(fl, *link);
    }

    *link = f->chain[k];
    f->names &= ~(1U << k);
}


static uint32_t *
llm_flight_name_head(const llm_flights_t *fl, const unsigned char *name)
{
    uint32_t  hash;

    memcpy(&hash, name, sizeof(uint32_t));

    return llm_flight_heads(fl) + (hash & fl->mask);
}


static uint32_t
llm_flight_name_entry(const llm_flights_t *fl, const unsigned char *name)
{
    uint32_t           e;
    llm_flight_row_t  *f;

    for (e = *llm_flight_name_head(fl, name);
         e != LLM_FLIGHT_NONE;
         e = *llm_flight_name_next(fl, e))
    {
        f = llm_flight_row(fl, e / LLM_FLIGHT_NAMES);

        if (memcmp(f->name[e % LLM_FLIGHT_NAMES], name, LLM_FLIGHT_NAME)
            == 0)
        {
            return e;
        }
    }

    return LLM_FLIGHT_NONE;
}


static uint32_t *
llm_flight_name_next(const llm_flights_t *fl, uint32_t entry)
{
    return &llm_flight_row(fl, entry / LLM_FLIGHT_NAMES)
                ->chain[entry % LLM_FLIGHT_NAMES];
}
