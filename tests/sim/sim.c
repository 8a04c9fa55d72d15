
/*
 * Copyright (C) the ngx-llm authors
 */


#include "sim.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>


#define SIM_MEMORY    (512 * 1024)
#define SIM_OWNER     0
#define SIM_REQUESTS  65536

#define SIM_TRIP      1            /* ms, to the store and back each */
#define SIM_PACE      20           /* ms between batches nobody waits for */
#define SIM_POLL      200          /* ms between looks for hints */
#define SIM_DEADLINE  50           /* ms of a command */
#define SIM_PROBE     200          /* ms, when the store is away */
#define SIM_BEAT      1000
#define SIM_PATIENCE  30000        /* ms, how long a client waits */


typedef enum {
    EVENT_ARRIVE = 0,
    EVENT_END,
    EVENT_LEAVE,                   /* the client waits no longer */
    EVENT_PUMP,
    EVENT_EVAL,
    EVENT_REPLY,
    EVENT_LATE,
    EVENT_BEAT
} event_e;


typedef struct {
    uint64_t      at;
    uint64_t      seq;
    event_e       what;
    unsigned      who;             /* a gateway, a name, a request */
    uint64_t      number;
} event_t;


typedef struct {
    unsigned      gateway;
    unsigned      name;
    int           live;
    int           waits;
    uint64_t      use;             /* counts reuse */
    llm_ticket_t  ticket;
    llm_amount_t  need;
} request_t;


typedef struct {
    llm_ledger_t *lg;
    void         *mem;
    char          name[16];
    llm_quota_mode_e  mode;
    int           gone;
    uint64_t      pumping;         /* 1 + when the next PUMP is due */
    int           open;            /* a batch is at the store */
    unsigned      late;            /* in a row */
    uint64_t      sent;
    uint64_t      seq;             /* of the open batch */
    uint64_t      decided;         /* when the store did, first */
    uint64_t      decided_seq;
    char         *reply;
    size_t        len;
} gateway_t;


static const sim_scene_t  *sc;
static sim_count_t         count[SIM_NAMES];
static llm_limit_t         limit[SIM_NAMES];
static gateway_t           gw[SIM_GATEWAYS];
static request_t           req[SIM_REQUESTS];
static unsigned            nfree, unused[SIM_REQUESTS];
static store_t            *st;
static uint64_t            now, end, seed, event_seq;
static event_t            *heap;
static size_t              nheap, room;
static llm_owners_t        wake;
static unsigned            failed;


static uint64_t
bits(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;

    return seed >> 11;
}


static double
uniform(void)
{
    return ((double) bits() + 1) / ((double) ((uint64_t) 1 << 53) + 1);
}


static double
waiting(double mean)
{
    return -log(uniform()) * mean;
}


static int
before(const event_t *a, const event_t *b)
{
    return a->at < b->at || (a->at == b->at && a->seq < b->seq);
}


static void
post(uint64_t at, event_e what, unsigned who, uint64_t number)
{
    size_t   i;
    event_t  e;

    if (nheap == room) {
        room = room ? room * 2 : 1024;
        heap = realloc(heap, room * sizeof(event_t));
    }

    e = (event_t) { at, event_seq++, what, who, number };

    for (i = nheap++; i != 0 && before(&e, &heap[(i - 1) / 2]);
         i = (i - 1) / 2)
    {
        heap[i] = heap[(i - 1) / 2];
    }

    heap[i] = e;
}


static event_t
next(void)
{
    size_t   i, k;
    event_t  first, last;

    first = heap[0];
    last = heap[--nheap];

    for (i = 0; (k = 2 * i + 1) < nheap; i = k) {

        if (k + 1 < nheap && before(&heap[k + 1], &heap[k])) {
            k++;
        }

        if (!before(&heap[k], &last)) {
            break;
        }

        heap[i] = heap[k];
    }

    heap[i] = last;

    return first;
}


static int64_t
fault(sim_fault_e what, int gateway)
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


static llm_now_t
clock_of(unsigned g)
{
    llm_now_t  t;

    t.ms = now + 1;
    t.wall = (int64_t) (sc->start + now / 1000) + fault(SIM_WALL, (int) g);

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


static void
pump(unsigned g, uint64_t at)
{
    if (gw[g].pumping == 0 || at < gw[g].pumping) {
        gw[g].pumping = at + 1;
        post(at, EVENT_PUMP, g, 0);
    }
}


/* what the zone's unlock does: the agent hears of it */

static void
tell(unsigned g)
{
    int       pending;
    uint64_t  pace;

    pending = llm_ledger_pending(gw[g].lg);
    pace = gw[g].lg->dirty || gw[g].lg->batch.walk ? SIM_PACE : SIM_POLL;

    if (pending != 0 && !gw[g].open) {
        pump(g, pending == 2 || now >= gw[g].sent + pace
                ? now : gw[g].sent + pace);
    }
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

    ms = waiting(sc->name[req[r].name].service * 1000);
    post(now + 1 + (uint64_t) ms, EVENT_END, r, req[r].use);
}


static void
forget(unsigned r)
{
    req[r].live = 0;
    req[r].use++;
    unused[nfree++] = r;
}


static void
granted(unsigned g, uint64_t decided)
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
            forget(r);
        }
    }

    tell(g);
}


static void
arrive(unsigned name)
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
        post(now + 1 + (uint64_t) waiting(60000 / rate), EVENT_ARRIVE, name,
             0);
    }

    g = (unsigned) (bits() % (unsigned) nm->gateways);

    if (gw[g].gone || nfree == 0) {
        return;
    }

    r = unused[--nfree];

    req[r].gateway = g;
    req[r].name = name;
    req[r].live = 1;
    req[r].waits = 1;
    req[r].need.requests = 1;
    req[r].need.tokens = nm->tokens ? 1 + (int64_t) waiting(nm->tokens) : 0;
    req[r].need.money = req[r].need.tokens * 3;

    t = clock_of(g);
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
        post(now + SIM_PATIENCE, EVENT_LEAVE, r, req[r].use);

    } else {
        count[name].refused++;
        forget(r);
    }

    tell(g);
}


static void
vanish(unsigned g)
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

        forget(r);
    }
}


static void
leave(unsigned r, int undo)
{
    llm_now_t  t;

    t = clock_of(req[r].gateway);

    llm_ledger_leave(gw[req[r].gateway].lg, req[r].ticket, undo, &t, &wake);
}


/* half of the estimate was used, more or less */

static void
finish(unsigned r)
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

    t = clock_of(g);

    k = llm_ledger_ticket(gw[g].lg, (uint32_t) (req[r].ticket
                                                & LLM_LEDGER_INDEX_MASK));
    wall = k->wall;
    day = llm_meter_day(wall);
    month = llm_meter_month(wall);

    used.requests = 1;
    used.tokens = (int64_t) ((double) req[r].need.tokens * uniform());
    used.money = used.tokens * 3;

    llm_ledger_settle(gw[g].lg, req[r].ticket, &used, &t);

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

    leave(r, 0);
    forget(r);

    granted(g, now);
}


static void
mode(unsigned g, llm_quota_mode_e m)
{
    llm_now_t         t;
    llm_quota_conf_t  conf;

    t = clock_of(g);

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
    granted(g, now);
}


/* sends what there is to say; an open batch again */

static void
send_batch(unsigned g, int force)
{
    llm_now_t                 t;
    const llm_quota_batch_t  *b;

    if (gw[g].open || gw[g].gone) {
        return;
    }

    t = clock_of(g);
    b = llm_ledger_collect(gw[g].lg, force, &t);

    if (b == NULL) {
        return;
    }

    gw[g].open = 1;
    gw[g].sent = now;
    gw[g].seq = b->seq;

    post(now + SIM_TRIP, EVENT_EVAL, g, b->seq);
    post(now + SIM_DEADLINE, EVENT_LATE, g, now);
}


static void
evaluate(unsigned g, uint64_t seq)
{
    int64_t      lose;
    size_t       len;
    const char  *reply;

    if (gw[g].gone || fault(SIM_AWAY, -1) || fault(SIM_CUT, (int) g)
        || gw[g].lg->batch.seq != seq)
    {
        return;
    }

    store_clock(st, (uint64_t) ((int64_t) (sc->start * 1000000 + now * 1000)
                                + fault(SIM_CLOCK, -1) * 1000));
    store_full(st, fault(SIM_FULL, -1) != 0);

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

    lose = fault(SIM_LOSE, (int) g);

    if (lose != 0 && bits() % (uint64_t) lose == 0) {
        return;
    }

    free(gw[g].reply);
    gw[g].reply = malloc(len + 1);
    memcpy(gw[g].reply, reply, len + 1);
    gw[g].len = len;

    post(now + SIM_TRIP, EVENT_REPLY, g, gw[g].sent);
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

    t = clock_of(g);

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


static void
take_reply(unsigned g, uint64_t sent)
{
    llm_now_t  t;

    if (gw[g].gone || !gw[g].open || gw[g].sent != sent) {
        return;
    }

    t = clock_of(g);

    gw[g].open = 0;
    gw[g].late = 0;

    if (gw[g].mode == LLM_QUOTA_ALONE) {
        mode(g, sc->mode);
    }

    if (llm_ledger_apply(gw[g].lg, gw[g].seq, gw[g].reply, gw[g].len, &t,
                         &wake) != LLM_OK)
    {
        fprintf(stderr, "no reply: %s\n", gw[g].reply);
        failed++;
    }

    chunks(g);
    granted(g, gw[g].decided);

    /* it may be open still: the store had forgotten */

    if (gw[g].lg->batch.seq != 0) {
        pump(g, now);
    }
}


static void
late(unsigned g, uint64_t sent)
{
    if (gw[g].gone || !gw[g].open || gw[g].sent != sent) {
        return;
    }

    gw[g].open = 0;
    gw[g].late++;

    if (gw[g].late >= 3 && gw[g].mode != LLM_QUOTA_ALONE) {
        mode(g, LLM_QUOTA_ALONE);
    }

    if (gw[g].mode == LLM_QUOTA_ALONE) {
        post(now + SIM_PROBE, EVENT_PUMP, g, 1);
        gw[g].pumping = now + SIM_PROBE + 1;

    } else {
        pump(g, now);
    }
}


static void
beat(unsigned g)
{
    llm_now_t  t;

    if (gw[g].gone) {
        return;
    }

    t = clock_of(g);
    llm_ledger_sweep(gw[g].lg, 1000, &t);

    send_batch(g, 1);

    if (now < end + 300000) {
        post(now + SIM_BEAT, EVENT_BEAT, g, 0);
    }
}


static void
step(const event_t *e)
{
    switch (e->what) {

    case EVENT_ARRIVE:
        arrive(e->who);
        break;

    case EVENT_END:

        if (req[e->who].live && req[e->who].use == e->number) {
            finish(e->who);
        }

        break;

    case EVENT_LEAVE:

        if (req[e->who].live && req[e->who].use == e->number
            && req[e->who].waits && !gw[req[e->who].gateway].gone)
        {
            count[req[e->who].name].left++;
            leave(e->who, 1);
            granted(req[e->who].gateway, now);
            forget(e->who);
        }

        break;

    case EVENT_PUMP:

        /* unless an earlier one has come in its place */

        if (gw[e->who].pumping == now + 1) {
            gw[e->who].pumping = 0;
            send_batch(e->who, (int) e->number);
        }

        break;

    case EVENT_EVAL:
        evaluate(e->who, e->number);
        break;

    case EVENT_REPLY:
        take_reply(e->who, e->number);
        break;

    case EVENT_LATE:
        late(e->who, e->number);
        break;

    case EVENT_BEAT:
        beat(e->who);
    }
}


static void
prepare(const char *script)
{
    unsigned     i;
    const char  *p;

    st = store_create(script);

    if (st == NULL) {
        exit(1);
    }

    now = 0;
    end = sc->seconds * 1000;
    seed = 88172645463325252u;
    nheap = 0;
    nfree = 0;
    failed = 0;

    memset(count, 0, sizeof(count));
    memset(gw, 0, sizeof(gw));
    memset(limit, 0, sizeof(limit));

    for (i = 0; i < SIM_REQUESTS; i++) {
        req[i].live = 0;
        unused[nfree++] = i;
    }

    for (i = 0; i < sc->names; i++) {
        limit[i].name.data = (unsigned char *) sc->name[i].name;
        limit[i].name.len = strlen(sc->name[i].name);
        limit[i].concurrency = sc->name[i].concurrency;
        limit[i].weight = 1;
        limit[i].rates = sc->name[i].rates;
        limit[i].hash = 2166136261u;

        for (p = sc->name[i].name; *p != '\0'; p++) {
            limit[i].hash = (limit[i].hash ^ (unsigned char) *p) * 16777619;
        }

        if (sc->name[i].offered > 0) {
            post(i, EVENT_ARRIVE, i, 0);
        }
    }

    for (i = 0; i < sc->gateways; i++) {
        gw[i].mem = malloc(SIM_MEMORY);
        gw[i].lg = llm_ledger_create(gw[i].mem, SIM_MEMORY);
        snprintf(gw[i].name, sizeof(gw[i].name), "gateway-%u", i);
        mode(i, sc->mode);
        post(i * 7, EVENT_BEAT, i, 0);
    }
}


/* at the end nothing is held, and nothing is left to say */

static void
tidy(void)
{
    unsigned            i, g, held, waits;
    const char         *arg[2];
    char                key[128];
    llm_ledger_node_t  *n;

    for (i = 0; i < sc->names; i++) {

        for (g = 0; g < sc->gateways; g++) {

            if (gw[g].gone) {
                continue;
            }

            (void) llm_ledger_look(gw[g].lg, &limit[i], &held, &waits);

            if (held != 0 || waits != 0) {
                printf("  %s at %s: %u held, %u waiting\n", sc->name[i].name,
                       gw[g].name, held, waits);
                failed++;
            }
        }

        snprintf(key, sizeof(key), "{llm}:s:%s", sc->name[i].name);
        arg[0] = "HGETALL";
        arg[1] = key;

        if (store_command(st, 2, arg) != 0) {
            printf("  %s: slots are still claimed\n", sc->name[i].name);
            failed++;
        }
    }

    for (g = 0; g < sc->gateways; g++) {

        for (i = 0; !gw[g].gone && i < gw[g].lg->nodes; i++) {
            n = llm_ledger_node(gw[g].lg, i);

            if (n->used && !llm_ledger_quota_idle(gw[g].lg, n)) {
                printf("  %.*s at %s: something left to say\n", (int) n->len,
                       n->name, gw[g].name);
                failed++;
            }
        }
    }
}


static int
play(const sim_scene_t *scene, const char *script, const char *out)
{
    char             path[256];
    FILE            *csv;
    event_t          e;
    unsigned         i, g;
    uint64_t         flushed;
    struct timespec  a, b;

    sc = scene;
    prepare(script);
    flushed = 0;

    clock_gettime(CLOCK_MONOTONIC, &a);

    while (nheap != 0) {
        e = next();
        now = e.at;

        for (i = 0; i < sc->faults; i++) {

            if (now / 1000 < sc->fault[i].from || (flushed & (1u << i))) {
                continue;
            }

            if (sc->fault[i].what == SIM_FLUSH) {
                store_flush(st);
                flushed |= 1u << i;

            } else if (sc->fault[i].what == SIM_VANISH) {
                vanish((unsigned) sc->fault[i].gateway);
                flushed |= 1u << i;
            }
        }

        if (now >= end && !(flushed >> 63)) {
            flushed |= (uint64_t) 1 << 63;

            for (g = 0; g < sc->gateways; g++) {

                if (!gw[g].gone) {
                    mode(g, gw[g].mode);
                }
            }
        }

        step(&e);
    }

    clock_gettime(CLOCK_MONOTONIC, &b);

    printf("%s: %llu s in %.1f s, %llu batches\n", sc->title,
           (unsigned long long) sc->seconds,
           (double) (b.tv_sec - a.tv_sec)
           + (double) (b.tv_nsec - a.tv_nsec) / 1e9,
           (unsigned long long) store_calls(st));

    tidy();

    snprintf(path, sizeof(path), "%s/%s.csv", out, sc->title);
    csv = fopen(path, "w");
    snprintf(path, sizeof(path), "%s/%s.svg", out, sc->title);

    if (csv == NULL) {
        perror(path);
        exit(1);
    }

    failed += (unsigned) sim_check(sc, count, st, csv, path);
    fclose(csv);

    for (i = 0; i < sc->names; i++) {
        free(count[i].point);
    }

    for (g = 0; g < sc->gateways; g++) {
        free(gw[g].mem);
        free(gw[g].reply);
    }

    store_destroy(st);

    return failed != 0;
}


int
main(int argc, char **argv)
{
    int       rc;
    unsigned  i;

    if (argc < 3) {
        fprintf(stderr, "usage: sim SCRIPT OUTDIR [SCENE]\n");
        return 1;
    }

    rc = 0;

    for (i = 0; i < sim_nscenes; i++) {

        if (argc < 4 || strcmp(argv[3], sim_scenes[i].title) == 0) {
            rc |= play(&sim_scenes[i], argv[1], argv[2]);
        }
    }

    free(heap);

    printf("%s\n", rc ? "FAILED" : "all bounds held");

    return rc;
}
