
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the ledger tells of its meters.
 */


#include "core/llm_ledger_private.h"


static void llm_ledger_read(llm_reading_t *rd, const llm_meter_t *m,
    const llm_rates_t *rt, const llm_now_t *now);
static int llm_ledger_tighter(const llm_gauge_t *a, const llm_gauge_t *b);


void
llm_ledger_gauge(llm_ledger_t *lg, const uint32_t *node, const llm_now_t *now,
    llm_reading_t *rd)
{
    unsigned            k;
    llm_meter_t         copy;
    llm_rates_t         part;
    const llm_meter_t  *m;
    const llm_rates_t  *rt;
    llm_ledger_node_t  *n;

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
            llm_ledger_quota_part(lg, n, &part);
            llm_ledger_quota_view(lg, n, now, &copy);
            llm_meter_roll(&copy, &part, now);
            rt = &part;
            m = &copy;

        } else if (m->requests.time < now->ms) {
            copy = *m;
            llm_meter_roll(&copy, rt, now);
            m = &copy;
        }

        llm_ledger_read(rd, m, rt, now);
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
            llm_ledger_read(rd, &fresh, &ls->limit[k]->rates, now);
        }
    }

    llm_ledger_gauge(lg, node, now, rd);
}


/* of several limits the tightest counts */

static void
llm_ledger_read(llm_reading_t *rd, const llm_meter_t *m,
    const llm_rates_t *rt, const llm_now_t *now)
{
    int64_t      left;
    llm_gauge_t  g;

    llm_meter_gauge_requests(m, rt, &g);

    if (llm_ledger_tighter(&g, &rd->requests)) {
        rd->requests = g;
    }

    llm_meter_gauge_tokens(m, rt, &g);

    if (llm_ledger_tighter(&g, &rd->tokens)) {
        rd->tokens = g;
    }

    left = llm_meter_tokens_left(m, rt, now);

    if (left < rd->tokens_left) {
        rd->tokens_left = left;
    }

    left = llm_meter_money_left(m, rt, now);

    if (left < rd->money_left) {
        rd->money_left = left;
    }
}


static int
llm_ledger_tighter(const llm_gauge_t *a, const llm_gauge_t *b)
{
    return a->limit != 0 && (b->limit == 0 || a->remaining < b->remaining);
}
