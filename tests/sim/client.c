
/*
 * Copyright (C) the ngx-llm authors
 */


#include "sim_private.h"


int64_t
sim_fault(sim_fault_e what, int gateway)
{
    unsigned            i;
    uint64_t            s;
    const sim_fault_t  *f;

    s = now / 1000;

    for (i = 0; i < sc->faults; i++) {
        f = &sc->fault[i];

        if (f->what == what && s >= f->from && s < f->to
            && (f->gateway < 0 || f->gateway == gateway))
        {
            return f->value ? f->value : 1;
        }
    }

    return 0;
}


llm_now_t
sim_clock_of(unsigned g)
{
    llm_now_t  t;

    t.ms = now + 1;
    t.wall = (int64_t) (sc->start + now / 1000) + sim_fault(SIM_WALL, (int) g);

    return t;
}


static void
point(unsigned name, uint64_t ms, int64_t requests, int64_t tokens)
{
    sim_count_t  *c;

    c = &count[name];

    if (c->n == c->room) {
        c->room = c->room ? c->room * 2 : 4096;
        c->point = realloc(c->point, c->room * sizeof(sim_point_t));
    }

    c->point[c->n++] = (sim_point_t) { ms, requests, tokens };
}


static llm_limits_t
limits(unsigned name)
{
    llm_limits_t  ls;

    ls.n = 2;
    ls.limit[0] = &limit[name];
    ls.limit[1] = &limit[sc->name[name].team];

    return ls;
}


/* a request runs: at "decided" it was admitted */

static void
admit(unsigned r, uint64_t decided)
{
    int           i, name[2];
    double        ms;
    sim_count_t  *c;

    name[0] = (int) req[r].name;
    name[1] = sc->name[req[r].name].team;

    for (i = 0; i < 2; i++) {
        c = &count[name[i]];
        c->admitted++;

        if (++c->running > c->most) {
            c->most = c->running;
        }

        point((unsigned) name[i], decided, req[r].need.requests,
              req[r].need.tokens);
    }

    req[r].waits = 0;

    ms = sim_waiting(sc->name[req[r].name].service * 1000);
    sim_post(now + 1 + (uint64_t) ms, EVENT_END, r, req[r].use);
}


void
sim_forget(unsigned r)
{
    req[r].live = 0;
    req[r].use++;
    unused[nfree++] = r;
}


void
sim_granted(unsigned g, uint64_t decided)
{
    unsigned        r;
    void           *data;
    llm_ticket_t    t;
    llm_reading_t   rd;

    for ( ;; ) {
        data = llm_ledger_granted(gw[g].lg, SIM_OWNER, &t, &rd);

        if (data == NULL) {
            break;
        }

        r = (unsigned) ((request_t *) data - req);

        if (rd.verdict == LLM_OK) {
            req[r].ticket = t;
            admit(r, decided);

        } else {
            count[req[r].name].refused++;
            sim_forget(r);
        }
    }

    sim_tell(g);
}


void
sim_arrive(unsigned name)
{
    int                rc;
    double             rate;
    unsigned           g, r;
    llm_now_t          t;
    llm_ask_t          ask;
    llm_limits_t       ls;
    llm_reading_t      rd;
    const sim_name_t  *nm;

    nm = &sc->name[name];
    rate = nm->offered;

    /* bursts: two minutes of every ten, not at once for all */

    if ((now / 60000 + name * 3) % 10 >= 2) {
        rate *= nm->quiet;
    }

    if (now < end) {
        sim_post(now + 1 + (uint64_t) sim_waiting(60000 / rate),
                 EVENT_ARRIVE, name, 0);
    }

    g = (unsigned) (sim_bits() % (unsigned) nm->gateways);

    if (gw[g].gone || nfree == 0) {
        return;
    }

    r = unused[--nfree];

    req[r].gateway = g;
    req[r].name = name;
    req[r].live = 1;
    req[r].waits = 1;
    req[r].need.requests = 1;
    req[r].need.tokens = 0;

    if (nm->tokens) {
        req[r].need.tokens = 1 + (int64_t) sim_waiting((double) nm->tokens);
    }

    req[r].need.money = req[r].need.tokens * 3;

    t = sim_clock_of(g);
    ls = limits(name);

    memset(&ask, 0, sizeof(llm_ask_t));
    ask.limits = &ls;
    ask.need = req[r].need;
    ask.data = &req[r];
    ask.owner = SIM_OWNER;
    ask.queue = 64;
    ask.slot = 1;

    count[name].offered++;
    rc = llm_ledger_enter(gw[g].lg, &ask, &t, &req[r].ticket, &rd);

    if (rc == LLM_OK) {
        admit(r, now);

    } else if (rc == LLM_AGAIN) {
        sim_post(now + SIM_PATIENCE, EVENT_LEAVE, r, req[r].use);

    } else {
        count[name].refused++;
        sim_forget(r);
    }

    sim_tell(g);
}


void
sim_vanish(unsigned g)
{
    unsigned  r;

    gw[g].gone = 1;

    for (r = 0; r < SIM_REQUESTS; r++) {

        if (!req[r].live || req[r].gateway != g) {
            continue;
        }

        if (!req[r].waits) {
            count[req[r].name].running--;
            count[sc->name[req[r].name].team].running--;
        }

        sim_forget(r);
    }
}


void
sim_leave(unsigned r, int undo)
{
    llm_now_t  t;

    t = sim_clock_of(req[r].gateway);

    llm_ledger_leave(gw[req[r].gateway].lg, req[r].ticket, undo, &t, &wake);
}


/* half of the estimate was used, more or less */

void
sim_finish(unsigned r)
{
    int                   i, name[2];
    int64_t               wall;
    uint32_t              day, month;
    unsigned              g;
    llm_now_t             t;
    llm_amount_t          used;
    sim_count_t          *c;
    llm_ledger_ticket_t  *k;

    g = req[r].gateway;

    t = sim_clock_of(g);

    k = llm_ledger_ticket(gw[g].lg, (uint32_t) (req[r].ticket
                                                & LLM_LEDGER_INDEX_MASK));
    wall = k->wall;
    day = llm_meter_day(wall);
    month = llm_meter_month(wall);

    used.requests = 1;
    used.tokens = (int64_t) ((double) req[r].need.tokens * sim_uniform());
    used.money = used.tokens * 3;

    llm_ledger_close(gw[g].lg, req[r].ticket, &used, &t, &wake);

    name[0] = (int) req[r].name;
    name[1] = sc->name[req[r].name].team;

    for (i = 0; i < 2; i++) {
        c = &count[name[i]];
        c->running--;

        c->day[day & 1].requests += used.requests;
        c->day[day & 1].tokens += used.tokens;
        c->day[day & 1].money += used.money;
        c->month[month & 1].requests += used.requests;
        c->month[month & 1].tokens += used.tokens;
        c->month[month & 1].money += used.money;

        point((unsigned) name[i], now, 0, used.tokens - req[r].need.tokens);
    }

    sim_forget(r);

    sim_granted(g, now);
}
