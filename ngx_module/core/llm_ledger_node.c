
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's nodes: a limit's state, found by name.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


/* idle nodes that are looked at to find one that may go */

#define LLM_LEDGER_LOOKS  64


static uint32_t llm_ledger_node_row(llm_ledger_t *lg, uint64_t now,
    uint32_t keep);
static uint32_t llm_ledger_node_evict(llm_ledger_t *lg, uint64_t now,
    uint32_t keep);


uint32_t
llm_ledger_node_find(llm_ledger_t *lg, const llm_limit_t *limit)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    i = *llm_ledger_head(lg, limit->hash);

    while (i != LLM_LEDGER_NONE) {
        n = llm_ledger_node(lg, i);

        if (n->hash == limit->hash && n->len == limit->name.len
            && memcmp(n->name, limit->name.data, n->len) == 0)
        {
            break;
        }

        i = n->chain;
    }

    return i;
}


uint32_t
llm_ledger_node_get(llm_ledger_t *lg, const llm_limit_t *limit, uint64_t now,
    uint32_t keep)
{
    uint32_t            i;
    llm_ledger_node_t  *n;

    i = llm_ledger_node_find(lg, limit);
    if (i != LLM_LEDGER_NONE) {
        return i;
    }

    if (limit->name.len > LLM_LEDGER_NAME) {
        return LLM_LEDGER_NONE;
    }

    i = llm_ledger_node_row(lg, now, keep);
    if (i == LLM_LEDGER_NONE) {
        return i;
    }

    n = llm_ledger_node(lg, i);

    n->seq = lg->seq++;
    n->rpm = limit->rpm;
    n->turn = 0;
    n->bucket[0].level = 0;
    n->bucket[0].time = now;
    n->hash = limit->hash;
    n->concurrency = limit->concurrency;
    n->len = (uint32_t) limit->name.len;
    memcpy(n->name, limit->name.data, limit->name.len);

    llm_ledger_store(&n->used, 1);

    llm_ledger_node_derive(lg, i);
    llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle, i);

    return i;
}


/* what a node without tickets has, and its place in the index */

void
llm_ledger_node_derive(llm_ledger_t *lg, uint32_t i)
{
    uint32_t           *head;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, i);

    n->held = 0;
    n->waiting = 0;
    n->front = LLM_LEDGER_NONE;
    n->todo = LLM_LEDGER_NONE;
    n->due = 0;

    llm_ledger_list_reset(&n->line);
    llm_ledger_list_reset(&n->ready);

    head = llm_ledger_head(lg, n->hash);
    n->chain = *head;
    *head = i;

    lg->nodes_used++;
}


void
llm_ledger_node_touch(llm_ledger_t *lg, uint32_t i)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, i);

    if (n->held != 0 || n->waiting != 0 || lg->idle.last == i) {
        return;
    }

    llm_ledger_list_remove(lg, LLM_LEDGER_IDLE, &lg->idle, i);
    n->seq = lg->seq++;
    llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle, i);
}


static uint32_t
llm_ledger_node_row(llm_ledger_t *lg, uint64_t now, uint32_t keep)
{
    uint32_t  i;

    i = lg->free_node;

    if (i != LLM_LEDGER_NONE) {
        lg->free_node = llm_ledger_link(lg, LLM_LEDGER_IDLE, i)->next;
        return i;
    }

    if (lg->nodes < lg->size) {
        i = lg->nodes;
        llm_ledger_store(&lg->nodes, i + 1);
        return i;
    }

    return llm_ledger_node_evict(lg, now, keep);
}


static uint32_t
llm_ledger_node_evict(llm_ledger_t *lg, uint64_t now, uint32_t keep)
{
    uint32_t            i, looks, *chain;
    llm_bucket_t        b;
    llm_ledger_node_t  *n;

    for (looks = 0; looks < LLM_LEDGER_LOOKS; looks++) {

        i = lg->idle.first;
        if (i == LLM_LEDGER_NONE) {
            return i;
        }

        n = llm_ledger_node(lg, i);

        b = n->bucket[n->turn];
        llm_bucket_leak(&b, n->rpm, now);

        if (b.level == 0 && i != keep) {
            break;
        }

        /* what it has taken is not to be forgotten: its turn comes again */

        llm_ledger_node_touch(lg, i);
    }

    if (looks == LLM_LEDGER_LOOKS) {
        return LLM_LEDGER_NONE;
    }

    llm_ledger_store(&n->used, 0);

    llm_ledger_list_remove(lg, LLM_LEDGER_IDLE, &lg->idle, i);

    for (chain = llm_ledger_head(lg, n->hash);
         *chain != i;
         chain = &llm_ledger_node(lg, *chain)->chain)
    {
        /* void */
    }

    *chain = n->chain;
    lg->nodes_used--;

    return i;
}
