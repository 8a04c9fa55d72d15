
/*
 * Copyright (C) the ngx-llm authors
 *
 * Lists of rows, linked by index.
 */


#include "core/llm_ledger_private.h"


#define LLM_LEDGER_BINS  32


static int llm_ledger_before(llm_ledger_t *lg, llm_ledger_kind_e kind,
    uint32_t a, uint32_t b);
static uint32_t llm_ledger_merge(llm_ledger_t *lg, llm_ledger_kind_e kind,
    uint32_t a, uint32_t b);


void
llm_ledger_list_reset(llm_ledger_list_t *list)
{
    list->first = LLM_LEDGER_NONE;
    list->last = LLM_LEDGER_NONE;
}


void
llm_ledger_list_append(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i)
{
    llm_ledger_link_t  *link;

    link = llm_ledger_link(lg, kind, i);

    link->prev = list->last;
    link->next = LLM_LEDGER_NONE;

    if (list->last == LLM_LEDGER_NONE) {
        list->first = i;

    } else {
        llm_ledger_link(lg, kind, list->last)->next = i;
    }

    list->last = i;
}


void
llm_ledger_list_insert(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i)
{
    uint32_t            prev, next, ahead;
    llm_ledger_link_t  *link;

    /*
     * from the end, for who comes last mostly goes last, and as far from the
     * other one: the next of a key with an old line goes first again
     */

    next = LLM_LEDGER_NONE;
    prev = list->last;
    ahead = list->first;

    while (prev != LLM_LEDGER_NONE && llm_ledger_before(lg, kind, i, prev)) {

        if (llm_ledger_before(lg, kind, i, ahead)) {
            next = ahead;
            prev = llm_ledger_link(lg, kind, ahead)->prev;
            break;
        }

        ahead = llm_ledger_link(lg, kind, ahead)->next;

        next = prev;
        prev = llm_ledger_link(lg, kind, prev)->prev;
    }

    if (next == LLM_LEDGER_NONE) {
        llm_ledger_list_append(lg, kind, list, i);
        return;
    }

    link = llm_ledger_link(lg, kind, i);

    link->prev = prev;
    link->next = next;

    llm_ledger_link(lg, kind, next)->prev = i;

    if (prev == LLM_LEDGER_NONE) {
        list->first = i;
        return;
    }

    llm_ledger_link(lg, kind, prev)->next = i;
}


void
llm_ledger_list_remove(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i)
{
    llm_ledger_link_t  *link;

    link = llm_ledger_link(lg, kind, i);

    if (link->prev == LLM_LEDGER_NONE) {
        list->first = link->next;

    } else {
        llm_ledger_link(lg, kind, link->prev)->next = link->next;
    }

    if (link->next == LLM_LEDGER_NONE) {
        list->last = link->prev;

    } else {
        llm_ledger_link(lg, kind, link->next)->prev = link->prev;
    }
}


uint32_t
llm_ledger_list_sort(llm_ledger_t *lg, llm_ledger_kind_e kind, uint32_t first)
{
    uint32_t            i, next, run, bin[LLM_LEDGER_BINS];
    llm_ledger_link_t  *link;

    /* merge sort without recursion: bin i holds a sorted run of 2^i rows */

    for (i = 0; i < LLM_LEDGER_BINS; i++) {
        bin[i] = LLM_LEDGER_NONE;
    }

    while (first != LLM_LEDGER_NONE) {
        link = llm_ledger_link(lg, kind, first);
        next = link->next;
        link->next = LLM_LEDGER_NONE;
        run = first;

        for (i = 0; i < LLM_LEDGER_BINS - 1; i++) {
            if (bin[i] == LLM_LEDGER_NONE) {
                break;
            }

            run = llm_ledger_merge(lg, kind, bin[i], run);
            bin[i] = LLM_LEDGER_NONE;
        }

        bin[i] = run;
        first = next;
    }

    run = LLM_LEDGER_NONE;

    for (i = 0; i < LLM_LEDGER_BINS; i++) {
        run = llm_ledger_merge(lg, kind, bin[i], run);
    }

    return run;
}


static uint32_t
llm_ledger_merge(llm_ledger_t *lg, llm_ledger_kind_e kind, uint32_t a,
    uint32_t b)
{
    uint32_t  first, *tail;

    first = LLM_LEDGER_NONE;
    tail = &first;

    while (a != LLM_LEDGER_NONE && b != LLM_LEDGER_NONE) {

        if (llm_ledger_before(lg, kind, b, a)) {
            *tail = b;
            tail = &llm_ledger_link(lg, kind, b)->next;
            b = *tail;
            continue;
        }

        *tail = a;
        tail = &llm_ledger_link(lg, kind, a)->next;
        a = *tail;
    }

    *tail = a != LLM_LEDGER_NONE ? a : b;

    return first;
}


static int
llm_ledger_before(llm_ledger_t *lg, llm_ledger_kind_e kind, uint32_t a,
    uint32_t b)
{
    llm_ledger_ticket_t  *s, *t;

    if (kind == LLM_LEDGER_IDLE) {
        return llm_ledger_node(lg, a)->seq < llm_ledger_node(lg, b)->seq;
    }

    s = llm_ledger_ticket(lg, a);
    t = llm_ledger_ticket(lg, b);

    if (kind == LLM_LEDGER_READY) {

        if (s->rank != t->rank) {
            return s->rank < t->rank;
        }

        return s->seq < t->seq;
    }

    if (s->score != t->score) {
        return s->score < t->score;
    }

    return s->seq < t->seq;
}
