
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the ledger tells of its meters.
 */


#include "core/llm_ledger_private.h"


static inline void llm_ledger_read(llm_reading_t *rd, const llm_meter_t *m,
    const llm_rates_t *rt, llm_period_t p);
static inline int64_t llm_ledger_tightest(llm_gauge_t *g,
    const llm_bucket_t *b, uint64_t rate, uint64_t burst);


void
llm_ledger_gauge(llm_ledger_t *lg, const uint32_t *node, const llm_now_t *now,
    llm_reading_t *rd)
{
    unsigned            k;
    llm_meter_t         copy;
    llm_rates_t         part;
    llm_period_t        p;
    const llm_meter_t  *m;
    const llm_rates_t  *rt;
    llm_ledger_node_t  *n;

    p = llm_meter_period(now->wall);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        if (node[k] == LLM_LEDGER_NONE) {
            continue;
        }

        n = llm_ledger_node(lg, node[k]);
        m = &n->meter;
        rt = &n->rates;

        if ((rt->rpm | rt->tpm | rt->tpd | rt->budget) == 0) {
            continue;
        }

        if (lg->conf.mode != LLM_QUOTA_LOCAL) {
            rt = llm_ledger_rates(lg, n, &part);
            llm_ledger_quota_view(lg, n, now, &copy);
            llm_meter_pass(&copy, rt, now->ms, p);
            m = &copy;

        } else if (m->requests.time < now->ms) {
            copy = *m;
            llm_meter_pass(&copy, rt, now->ms, p);
            m = &copy;
        }

        llm_ledger_read(rd, m, rt, p);
    }
}


void
llm_ledger_peek(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_now_t *now, llm_reading_t *rd)
{
    uint32_t     node[LLM_LEDGER_LIMITS];
    unsigned     k;
    llm_meter_t  fresh;

    llm_ledger_blank(rd);

    for (k = 0; k < LLM_LEDGER_LIMITS; k++) {

        node[k] = k < ls->n ? llm_ledger_node_find(lg, ls->limit[k])
                            : LLM_LEDGER_NONE;

        if (node[k] != LLM_LEDGER_NONE) {
            llm_ledger_adopt(lg, node[k], ls->limit[k]);

        } else if (k < ls->n) {
            llm_meter_init(&fresh, now);
            llm_ledger_read(rd, &fresh, &ls->limit[k]->rates,
                            llm_meter_period(now->wall));
        }
    }

    llm_ledger_gauge(lg, node, now, rd);
}


/* of several limits the tightest counts */

static inline void
llm_ledger_read(llm_reading_t *rd, const llm_meter_t *m,
    const llm_rates_t *rt, llm_period_t p)
{
    int64_t  left;

    (void) llm_ledger_tightest(&rd->requests, &m->requests, rt->rpm,
                               rt->burst);
    left = llm_ledger_tightest(&rd->tokens, &m->tokens, rt->tpm,
                               rt->burst_tokens);

    left = left < rd->tokens_left ? left : rd->tokens_left;

    rd->tokens_left = llm_meter_least_day(left, m, rt, p);
    rd->money_left = llm_meter_least_money(rd->money_left, m, rt, p);
}


/* what is left in a bucket */

static inline int64_t
llm_ledger_tightest(llm_gauge_t *g, const llm_bucket_t *b, uint64_t rate,
    uint64_t burst)
{
    int64_t   left;
    uint64_t  remaining;

    if (rate == LLM_UNLIMITED) {
        return INT64_MAX;
    }

    left = llm_bucket_left(b, burst);
    remaining = left > 0 ? (uint64_t) left : 0;

    if (burst != 0 && (g->limit == 0 || remaining < g->remaining)) {
        g->limit = burst;
        g->rate = rate;
        g->remaining = remaining;
        g->reset_ms = llm_bucket_reset(b, rate);
    }

    return left;
}
