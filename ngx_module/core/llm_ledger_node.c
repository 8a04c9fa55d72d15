
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's nodes: a limit's state, found by name.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


/* idle nodes that are looked at to find one that may go */

#define LLM_LEDGER_LOOKS  64


static uint32_t llm_ledger_node_row(llm_ledger_t *lg, const llm_now_t *now,
    uint32_t keep);
static uint32_t llm_ledger_node_evict(llm_ledger_t *lg, const llm_now_t *now,
    uint32_t keep);
static int llm_ledger_node_idle(const llm_ledger_t *lg,
    const llm_ledger_node_t *n, const llm_now_t *now);


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
llm_ledger_node_get(llm_ledger_t *lg, const llm_limit_t *limit,
    const llm_now_t *now, uint32_t keep)
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
    n->rates = limit->rates;
    n->hash = limit->hash;
    n->concurrency = limit->concurrency;
    n->weight = limit->weight ? limit->weight : 1;
    n->fair = limit->fair != 0;
    n->round = 1;
    n->start = 0;
    n->finish = 0;
    n->len = (uint32_t) limit->name.len;
    memcpy(n->name, limit->name.data, limit->name.len);

    llm_meter_init(&n->meter, now);

    memset(&n->quota, 0, sizeof(llm_quota_t));
    llm_ledger_quota_node(lg, i, now);

    llm_ledger_store(&n->used, 1);

    llm_ledger_node_derive(lg, i);
    llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle, i);

    return i;
}


/* what a node without tickets has, and its place in the index */

void
llm_ledger_node_derive(llm_ledger_t *lg, uint32_t i)
{
    unsigned            k;
    uint32_t           *head;
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, i);

    memset(&n->parked, 0, sizeof(llm_amount_t));

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {
        llm_ledger_list_reset(&n->ahead[k]);
    }

    n->tickets = 0;
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

    if (n->tickets != 0 || lg->idle.last == i) {
        return;
    }

    llm_ledger_list_remove(lg, LLM_LEDGER_IDLE, &lg->idle, i);
    n->seq = lg->seq++;
    llm_ledger_list_append(lg, LLM_LEDGER_IDLE, &lg->idle, i);
}


void
llm_ledger_adopt(llm_ledger_t *lg, uint32_t i, const llm_limit_t *limit)
{
    uint32_t            weight, fair;
    llm_ledger_node_t  *n;
    const llm_rates_t  *a, *b;

    n = llm_ledger_node(lg, i);
    a = &n->rates;
    b = &limit->rates;

    if ((a->rpm ^ b->rpm) | (a->burst ^ b->burst)
        | (a->tpm ^ b->tpm) | (a->burst_tokens ^ b->burst_tokens)
        | (a->rpd ^ b->rpd) | (a->tpd ^ b->tpd)
        | (a->budget ^ b->budget) | (a->month ^ b->month))
    {
        n->rates = *b;
    }

    weight = limit->weight ? limit->weight : 1;
    fair = limit->fair != 0;

    n->weight = weight;

    if (n->fair != fair) {
        n->fair = fair;
        llm_ledger_regate(lg, i);
    }

    if (n->concurrency == limit->concurrency) {
        return;
    }

    n->concurrency = limit->concurrency;

    if (lg->conf.mode != LLM_QUOTA_LOCAL) {
        llm_ledger_quota_slots(lg, i);
    }

    /* as a key, and as a gate */

    llm_ledger_front(lg, i);
    llm_ledger_due(lg, i);
}


static uint32_t
llm_ledger_node_row(llm_ledger_t *lg, const llm_now_t *now, uint32_t keep)
{
    uint32_t  i;

    i = lg->free_node;

    if (i != LLM_LEDGER_NONE) {
        lg->free_node = llm_ledger_link(lg, LLM_LEDGER_IDLE, i)->next;
        return i;
    }

    if (lg->nodes < lg->size) {
        i = lg->nodes;
        memset(llm_ledger_node(lg, i), 0, sizeof(llm_ledger_node_t));
        llm_ledger_store(&lg->nodes, i + 1);
        return i;
    }

    return llm_ledger_node_evict(lg, now, keep);
}


static uint32_t
llm_ledger_node_evict(llm_ledger_t *lg, const llm_now_t *now, uint32_t keep)
{
    uint32_t            i, looks, *chain;
    llm_ledger_node_t  *n;

    for (looks = 0; /* void */ ; looks++) {

        i = lg->idle.first;
        if (i == LLM_LEDGER_NONE || looks == LLM_LEDGER_LOOKS) {
            return LLM_LEDGER_NONE;
        }

        n = llm_ledger_node(lg, i);

        if (i != keep && llm_ledger_node_idle(lg, n, now)) {
            break;
        }

        /* what it has taken is not to be forgotten: its turn comes again */

        llm_ledger_node_touch(lg, i);
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


static int
llm_ledger_node_idle(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_now_t *now)
{
    llm_meter_t  m;

    m = n->meter;
    llm_meter_roll(&m, &n->rates, now);

    return llm_meter_idle(&m, &n->rates, now) && llm_ledger_quota_idle(lg, n);
}
