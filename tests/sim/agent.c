
/*
 * Copyright (C) the ngx-llm authors
 */


#include "sim_private.h"


void
sim_pump(unsigned g, uint64_t at)
{
    if (gw[g].pumping == 0 || at < gw[g].pumping) {
        gw[g].pumping = at + 1;
        sim_post(at, EVENT_PUMP, g, 0);
    }
}


void
sim_tell(unsigned g)
{
    int       pending;
    uint64_t  pace;

    pending = llm_ledger_pending(gw[g].lg);
    pace = gw[g].lg->dirty || gw[g].lg->batch.walk ? SIM_PACE : SIM_POLL;

    if (pending != 0 && !gw[g].open) {
        sim_pump(g, pending == 2 || now >= gw[g].sent + pace
                ? now : gw[g].sent + pace);
    }
}


void
sim_mode(unsigned g, llm_quota_mode_e m)
{
    llm_now_t         t;
    llm_quota_conf_t  conf;

    t = sim_clock_of(g);

    memset(&conf, 0, sizeof(llm_quota_conf_t));
    conf.mode = m;
    conf.ahead = sc->ahead;
    conf.idle = now >= end ? 0 : 2000;
    conf.gateways = llm_ledger_quota(gw[g].lg)->gateways;

    /* the operator has said how many there are at least */

    if (m == LLM_QUOTA_ALONE && conf.gateways < sc->gateways) {
        conf.gateways = sc->gateways;
    }

    gw[g].mode = m;
    llm_ledger_mode(gw[g].lg, &conf, &t, &wake);
    sim_granted(g, now);
}


/* sends what there is to say; an open batch again */

void
sim_send_batch(unsigned g, int force)
{
    llm_now_t                 t;
    const llm_quota_batch_t  *b;

    if (gw[g].open || gw[g].gone) {
        return;
    }

    t = sim_clock_of(g);
    b = llm_ledger_collect(gw[g].lg, force, &t);

    if (b == NULL) {
        return;
    }

    gw[g].open = 1;
    gw[g].sent = now;
    gw[g].seq = b->seq;

    sim_post(now + SIM_TRIP, EVENT_EVAL, g, b->seq);
    sim_post(now + SIM_DEADLINE, EVENT_LATE, g, now);
}


void
sim_evaluate(unsigned g, uint64_t seq)
{
    int64_t      lose;
    size_t       len;
    const char  *reply;

    if (gw[g].gone || sim_fault(SIM_AWAY, -1) || sim_fault(SIM_CUT, (int) g)
        || gw[g].lg->batch.seq != seq)
    {
        return;
    }

    store_clock(st, (uint64_t) ((int64_t) (sc->start * 1000000 + now * 1000)
                                + sim_fault(SIM_CLOCK, -1) * 1000));
    store_full(st, sim_fault(SIM_FULL, -1) != 0);

    reply = store_batch(st, gw[g].lg, &gw[g].lg->batch, gw[g].name, &len);

    if (reply == NULL) {
        failed++;
        return;
    }

    if (gw[g].decided_seq != seq) {
        gw[g].decided_seq = seq;
        gw[g].decided = now;
    }

    /* lost on its way, or to an agent that died: the same from here */

    lose = sim_fault(SIM_LOSE, (int) g);

    if (lose != 0 && sim_bits() % (uint64_t) lose == 0) {
        return;
    }

    free(gw[g].reply);
    gw[g].reply = malloc(len + 1);
    memcpy(gw[g].reply, reply, len + 1);
    gw[g].len = len;

    sim_post(now + SIM_TRIP, EVENT_REPLY, g, gw[g].sent);
}


static void
chunks(unsigned g)
{
    unsigned            i;
    llm_amount_t        chunk;
    const llm_meter_t  *m;
    llm_ledger_node_t  *n;
    llm_now_t           t;

    if (sc->mode != LLM_QUOTA_LEASED) {
        return;
    }

    t = sim_clock_of(g);

    for (i = 0; i < sc->names; i++) {
        m = llm_ledger_meter(gw[g].lg, &limit[i], &t);

        if (m == NULL) {
            continue;
        }

        n = (llm_ledger_node_t *) ((char *) m
                                   - offsetof(llm_ledger_node_t, meter));

        chunk = n->quota.bucket;

        if (chunk.requests > count[i].largest) {
            count[i].largest = chunk.requests;
        }

        if (chunk.tokens > count[i].largest_tokens) {
            count[i].largest_tokens = chunk.tokens;
        }
    }
}


void
sim_take_reply(unsigned g, uint64_t sent)
{
    llm_now_t  t;

    if (gw[g].gone || !gw[g].open || gw[g].sent != sent) {
        return;
    }

    t = sim_clock_of(g);

    gw[g].open = 0;
    gw[g].late = 0;

    if (gw[g].mode == LLM_QUOTA_ALONE) {
        sim_mode(g, sc->mode);
    }

    if (llm_ledger_apply(gw[g].lg, gw[g].seq, gw[g].reply, gw[g].len, &t,
                         &wake) != LLM_OK)
    {
        fprintf(stderr, "no reply: %s\n", gw[g].reply);
        failed++;
    }

    chunks(g);
    sim_granted(g, gw[g].decided);

    /* it may be open still: the store had forgotten */

    if (gw[g].lg->batch.seq != 0) {
        sim_pump(g, now);
    }
}


void
sim_late(unsigned g, uint64_t sent)
{
    if (gw[g].gone || !gw[g].open || gw[g].sent != sent) {
        return;
    }

    gw[g].open = 0;
    gw[g].late++;

    if (gw[g].late >= 3 && gw[g].mode != LLM_QUOTA_ALONE) {
        sim_mode(g, LLM_QUOTA_ALONE);
    }

    if (gw[g].mode == LLM_QUOTA_ALONE) {
        sim_post(now + SIM_PROBE, EVENT_PUMP, g, 1);
        gw[g].pumping = now + SIM_PROBE + 1;

    } else {
        sim_pump(g, now);
    }
}


void
sim_beat(unsigned g)
{
    llm_now_t  t;

    if (gw[g].gone) {
        return;
    }

    t = sim_clock_of(g);
    llm_ledger_sweep(gw[g].lg, 1000, &t);

    sim_send_batch(g, 1);

    if (now < end + 300000) {
        sim_post(now + SIM_BEAT, EVENT_BEAT, g, 0);
    }
}
