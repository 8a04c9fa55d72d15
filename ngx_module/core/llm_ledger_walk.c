
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's meters by name: to be shown, kept and put back.
 */


#include "core/llm_ledger_private.h"

#include <string.h>


/* whatever a file says, numbers can be added to it */

#define LLM_LEDGER_TALLY  ((int64_t) 1 << 60)


static void llm_ledger_merge_tallies(llm_tally_t *to, const llm_tally_t *from);
static int64_t llm_ledger_larger(int64_t a, int64_t b);


const llm_meter_t *
llm_ledger_meter(llm_ledger_t *lg, const llm_limit_t *limit,
    const llm_now_t *now)
{
    uint32_t            node[LLM_LEDGER_LIMITS];
    llm_rates_t         part;
    llm_ledger_node_t  *n;

    node[0] = llm_ledger_node_find(lg, limit);
    node[1] = LLM_LEDGER_NONE;

    if (node[0] == LLM_LEDGER_NONE) {
        return NULL;
    }

    n = llm_ledger_node(lg, node[0]);

    llm_ledger_begin(lg, node, LLM_LEDGER_NONE);
    (void) llm_ledger_roll(lg, n, now, llm_meter_period(now->wall), &part);
    llm_ledger_commit(lg);

    return &n->meter;
}


uint32_t
llm_ledger_walk(llm_ledger_t *lg, uint32_t row, llm_str_t *name,
    const llm_meter_t **m)
{
    llm_ledger_node_t  *n;

    for ( /* void */ ; row < lg->nodes; row++) {
        n = llm_ledger_node(lg, row);

        if (n->used) {
            name->data = n->name;
            name->len = n->len;
            *m = &n->meter;

            return row + 1;
        }
    }

    return 0;
}


uint32_t
llm_ledger_busy(llm_ledger_t *lg, uint32_t row, unsigned look,
    llm_ledger_busy_t *busy)
{
    llm_ledger_node_t  *n;

    busy->name.len = 0;

    for ( /* void */ ; row < lg->nodes && look; row++, look--) {
        n = llm_ledger_node(lg, row);

        if (n->used && (n->held || n->waiting)) {
            busy->name.data = n->name;
            busy->name.len = n->len;
            busy->held = n->held;
            busy->waiting = n->waiting;
            busy->concurrency = n->concurrency;

            return row + 1;
        }
    }

    return row < lg->nodes ? row : 0;
}


int
llm_ledger_restore(llm_ledger_t *lg, const llm_str_t *name, uint32_t hash,
    const llm_tally_t day[2], const llm_tally_t month[2],
    const llm_now_t *now)
{
    uint32_t            node[LLM_LEDGER_LIMITS];
    llm_limit_t         limit;
    llm_ledger_node_t  *n;

    memset(&limit, 0, sizeof(llm_limit_t));

    limit.name = *name;
    limit.hash = hash;

    /* until the policy says more, all of it is to be remembered */

    limit.rates.rpd = INT64_MAX;
    limit.rates.tpd = INT64_MAX;
    limit.rates.budget = INT64_MAX;
    limit.rates.month = 1;

    node[0] = llm_ledger_node_get(lg, &limit, now, LLM_LEDGER_NONE);
    node[1] = LLM_LEDGER_NONE;

    if (node[0] == LLM_LEDGER_NONE) {
        return LLM_DECLINED;
    }

    n = llm_ledger_node(lg, node[0]);

    llm_ledger_begin(lg, node, LLM_LEDGER_NONE);

    llm_ledger_merge_tallies(n->meter.day, day);
    llm_ledger_merge_tallies(n->meter.month, month);

    llm_ledger_commit(lg);

    return LLM_OK;
}


static void
llm_ledger_merge_tallies(llm_tally_t *to, const llm_tally_t *from)
{
    unsigned      i;
    llm_tally_t  *t;

    for (i = 0; i < 2; i++) {

        if (from[i].period == 0) {
            continue;
        }

        t = &to[from[i].period & 1];

        if (t->period > from[i].period) {
            continue;
        }

        if (t->period < from[i].period) {
            memset(t, 0, sizeof(llm_tally_t));
            t->period = from[i].period;
        }

        t->requests = llm_ledger_larger(t->requests, from[i].requests);
        t->tokens = llm_ledger_larger(t->tokens, from[i].tokens);
        t->money = llm_ledger_larger(t->money, from[i].money);
    }
}


static int64_t
llm_ledger_larger(int64_t a, int64_t b)
{
    b = b < LLM_LEDGER_TALLY ? b : LLM_LEDGER_TALLY;

    return a > b ? a : b;
}
