
/*
 * Copyright (C) the ngx-llm authors
 *
 * News: for each owner a list of its leaders and readers that are to look.
 */


#include "core/llm_flight_private.h"


void *
llm_flight_news(llm_flights_t *fl, unsigned owner)
{
    uint32_t             i;
    llm_flight_party_t  *p;

    i = fl->news[owner].first;

    if (i == LLM_FLIGHT_NONE) {
        return NULL;
    }

    p = llm_flight_party(fl, i);

    llm_flight_untell(fl, i);
    p->told = 1;

    return p->data;
}


/* its owner is woken once for all that it has not fetched yet */

void
llm_flight_tell(llm_flights_t *fl, uint32_t i, llm_owners_t *wake)
{
    llm_flight_list_t   *list;
    llm_flight_party_t  *p;

    p = llm_flight_party(fl, i);

    if (p->pending) {
        return;
    }

    list = &fl->news[p->owner];

    p->news.prev = list->last;
    p->news.next = LLM_FLIGHT_NONE;

    if (list->last == LLM_FLIGHT_NONE) {
        list->first = i;

    } else {
        llm_flight_party(fl, list->last)->news.next = i;
    }

    list->last = i;
    p->pending = 1;

    wake->bits[p->owner / 64] |= (uint64_t) 1 << p->owner % 64;
}


void
llm_flight_untell(llm_flights_t *fl, uint32_t i)
{
    llm_flight_list_t   *list;
    llm_flight_party_t  *p;

    p = llm_flight_party(fl, i);

    if (!p->pending) {
        return;
    }

    list = &fl->news[p->owner];

    if (p->news.prev == LLM_FLIGHT_NONE) {
        list->first = p->news.next;

    } else {
        llm_flight_party(fl, p->news.prev)->news.next = p->news.next;
    }

    if (p->news.next == LLM_FLIGHT_NONE) {
        list->last = p->news.prev;

    } else {
        llm_flight_party(fl, p->news.next)->news.prev = p->news.prev;
    }

    p->pending = 0;
}
