
/*
 * Copyright (C) the ngx-llm authors
 *
 * What runs in the background of others takes a slot only if enough is left
 * to them.  Of the fleet's slots those count that this gateway spares and
 * those that are nobody's, as the store told them lately.  So many are never
 * claimed for the background; if somebody claims them, they are in use.
 */


#include "core/llm_quota_private.h"


/* ms for which it is known what is nobody's, and after which it is asked */

#define LLM_BACKGROUND_KNOWN  1000
#define LLM_BACKGROUND_ASK    250


static int llm_ledger_leaves_one(const llm_ledger_t *lg,
    const llm_ledger_node_t *n, const llm_now_t *now);
static uint32_t llm_ledger_kept(uint32_t slots);
static int llm_ledger_anew(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_now_t *now);


int
llm_ledger_leaves(llm_ledger_t *lg, const uint32_t *node,
    const llm_now_t *now)
{
    unsigned  k;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] != LLM_LEDGER_NONE
            && !llm_ledger_leaves_one(lg, llm_ledger_node(lg, node[k]), now))
        {
            return 0;
        }
    }

    return 1;
}


void
llm_ledger_wish(llm_ledger_t *lg, const uint32_t *node, int refused,
    const llm_now_t *now)
{
    unsigned            k;
    llm_quota_t        *q;
    llm_ledger_node_t  *n;

    if (!llm_quota_shared(lg)) {
        return;
    }

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);
        q = &n->quota;

        /* who waits there asks for more than a wish does */

        if (n->concurrency == LLM_UNLIMITED || n->waiting != 0
            || now->ms < q->yield_until)
        {
            continue;
        }

        if (refused ? llm_ledger_leaves_one(lg, n, now)
                    : !llm_ledger_anew(lg, n, now))
        {
            continue;
        }

        if (q->wish < n->concurrency && (refused || q->wish == 0)) {
            q->wish++;
        }

        llm_quota_dirty(lg, node[k], 0);
    }
}


void
llm_ledger_busy_by(llm_ledger_t *lg, const uint32_t *node,
    const llm_now_t *now, llm_reading_t *rd)
{
    unsigned            k;
    llm_ledger_node_t  *n;

    rd->index = 0;

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);

        if (!llm_ledger_leaves_one(lg, n, now)) {
            rd->index = k;
            break;
        }
    }

    n = llm_ledger_node(lg, node[rd->index]);

    rd->refusal.why = LLM_WHY_BUSY;
    rd->refusal.wait_ms = 0;
    rd->refusal.limit = n->concurrency;
    rd->refusal.used = n->held;
    rd->refusal.need = 1;
}


static int
llm_ledger_leaves_one(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_now_t *now)
{
    uint64_t            left;
    uint32_t            slots, kept;
    const llm_quota_t  *q;

    if (n->concurrency == LLM_UNLIMITED) {
        return 1;
    }

    slots = llm_ledger_slots(lg, n);

    if (n->held >= slots) {
        return 0;
    }

    left = slots - n->held - 1;

    if (!llm_quota_shared(lg)) {
        return left >= llm_ledger_kept(slots);
    }

    q = &n->quota;
    kept = llm_ledger_kept(n->concurrency);

    /* others of the fleet want them */

    if (q->tight || now->ms < q->yield_until) {
        return 0;
    }

    if (left < kept && q->spare_at != 0
        && now->ms <= q->spare_at + LLM_BACKGROUND_KNOWN)
    {
        left += q->spare;
    }

    return left >= kept;
}


static uint32_t
llm_ledger_kept(uint32_t slots)
{
    return slots <= 1 ? 0 : slots < 8 ? 1 : slots / 4;
}


/* one has begun: what is to be known for the next one? */

static int
llm_ledger_anew(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    const llm_now_t *now)
{
    uint32_t            slots, kept;
    const llm_quota_t  *q;

    q = &n->quota;
    slots = llm_ledger_slots(lg, n);
    kept = llm_ledger_kept(n->concurrency);

    if (n->held + kept < slots) {
        return 0;
    }

    return now->ms >= q->spare_at + LLM_BACKGROUND_ASK
           || (n->held >= slots && q->spare > kept);
}
