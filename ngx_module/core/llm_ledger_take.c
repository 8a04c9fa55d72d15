
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's buckets: requests per minute.
 */


#include "core/llm_ledger_private.h"


static int64_t llm_ledger_weigh(llm_ledger_t *lg, const llm_limits_t *ls,
    const uint32_t *node, llm_bucket_t *b, uint64_t now, unsigned *worst);
static void llm_ledger_write(llm_ledger_t *lg, uint32_t i,
    const llm_bucket_t *b, uint64_t rpm);
static void llm_ledger_read(const llm_limits_t *ls, const uint32_t *node,
    const llm_bucket_t *b, llm_reading_t *rd);


int
llm_ledger_take(llm_ledger_t *lg, const llm_limits_t *ls, uint64_t now,
    llm_reading_t *rd)
{
    int64_t       wait;
    uint32_t      node[LLM_LEDGER_LIMITS];
    unsigned      k, worst;
    llm_bucket_t  b[LLM_LEDGER_LIMITS];

    rd->why = LLM_WHY_NONE;
    rd->index = 0;
    rd->limit = 0;
    rd->rate = 0;
    rd->remaining = 0;
    rd->reset_ms = 0;
    rd->wait_ms = 0;

    for (k = 0; k < ls->n; k++) {

        node[k] = LLM_LEDGER_NONE;

        if (ls->limit[k]->rpm == LLM_UNLIMITED) {
            continue;
        }

        node[k] = llm_ledger_node_get(lg, ls->limit[k], now,
                                      k ? node[0] : LLM_LEDGER_NONE);
        if (node[k] == LLM_LEDGER_NONE) {
            rd->why = LLM_WHY_MEMORY;
            rd->index = k;
            return LLM_DECLINED;
        }
    }

    wait = llm_ledger_weigh(lg, ls, node, b, now, &worst);

    for (k = 0; k < ls->n; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        if (wait == 0) {
            llm_bucket_take(&b[k], 1);
        }

        llm_ledger_write(lg, node[k], &b[k], ls->limit[k]->rpm);
        llm_ledger_node_touch(lg, node[k]);
    }

    if (wait == 0) {
        llm_ledger_read(ls, node, b, rd);
        return LLM_OK;
    }

    rd->why = LLM_WHY_REQUESTS;
    rd->index = worst;
    rd->limit = ls->limit[worst]->burst;
    rd->rate = ls->limit[worst]->rpm;
    rd->remaining = llm_bucket_remaining(&b[worst], rd->limit);
    rd->reset_ms = llm_bucket_reset(&b[worst], rd->rate);
    rd->wait_ms = wait;

    return LLM_DECLINED;
}


void
llm_ledger_untake(llm_ledger_t *lg, const llm_limits_t *ls, uint64_t now)
{
    uint32_t            i;
    unsigned            k;
    llm_bucket_t        b;
    llm_ledger_node_t  *n;

    for (k = 0; k < ls->n; k++) {

        if (ls->limit[k]->rpm == LLM_UNLIMITED) {
            continue;
        }

        /* a node that has gone was full */

        i = llm_ledger_node_find(lg, ls->limit[k]);
        if (i == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, i);
        b = n->bucket[n->turn];

        llm_bucket_leak(&b, n->rpm, now);
        llm_bucket_take(&b, -1);

        llm_ledger_write(lg, i, &b, n->rpm);
    }
}


/* the buckets as they are now, and the longest wait of them: -1 is for ever */

static int64_t
llm_ledger_weigh(llm_ledger_t *lg, const llm_limits_t *ls,
    const uint32_t *node, llm_bucket_t *b, uint64_t now, unsigned *worst)
{
    int64_t             wait, w;
    uint64_t            rate;
    unsigned            k;
    llm_ledger_node_t  *n;

    wait = 0;
    *worst = 0;

    for (k = 0; k < ls->n; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);
        b[k] = n->bucket[n->turn];

        /* until now the rate was the old one, if there was one */

        rate = n->rpm != LLM_UNLIMITED ? n->rpm : ls->limit[k]->rpm;
        llm_bucket_leak(&b[k], rate, now);

        w = llm_bucket_wait(&b[k], ls->limit[k]->rpm, ls->limit[k]->burst, 1);

        if (wait != -1 && (w == -1 || w > wait)) {
            wait = w;
            *worst = k;
        }
    }

    return wait;
}


static void
llm_ledger_write(llm_ledger_t *lg, uint32_t i, const llm_bucket_t *b,
    uint64_t rpm)
{
    llm_ledger_node_t  *n;

    n = llm_ledger_node(lg, i);

    /* level and time change together or, after a sudden death, not at all */

    n->bucket[n->turn ^ 1] = *b;
    llm_ledger_store(&n->turn, n->turn ^ 1);

    n->rpm = rpm;
}


static void
llm_ledger_read(const llm_limits_t *ls, const uint32_t *node,
    const llm_bucket_t *b, llm_reading_t *rd)
{
    uint64_t  left;
    unsigned  k;

    for (k = 0; k < ls->n; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        left = llm_bucket_remaining(&b[k], ls->limit[k]->burst);

        if (rd->limit != 0 && left >= rd->remaining) {
            continue;
        }

        rd->index = k;
        rd->limit = ls->limit[k]->burst;
        rd->rate = ls->limit[k]->rpm;
        rd->remaining = left;
        rd->reset_ms = llm_bucket_reset(&b[k], rd->rate);
    }
}
