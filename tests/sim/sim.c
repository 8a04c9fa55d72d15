
/*
 * Copyright (C) the ngx-llm authors
 */


#include "sim_private.h"


const sim_scene_t  *sc;
sim_count_t         count[SIM_NAMES];
llm_limit_t         limit[SIM_NAMES];
gateway_t           gw[SIM_GATEWAYS];
request_t           req[SIM_REQUESTS];
unsigned            nfree, unused[SIM_REQUESTS];
store_t            *st;
uint64_t            now, end, seed;
size_t              nheap;
llm_owners_t        wake;
unsigned            failed;


static void
step(const event_t *e)
{
    switch (e->what) {

    case EVENT_ARRIVE:
        sim_arrive(e->who);
        break;

    case EVENT_END:

        if (req[e->who].live && req[e->who].use == e->number) {
            sim_finish(e->who);
        }

        break;

    case EVENT_LEAVE:

        if (req[e->who].live && req[e->who].use == e->number
            && req[e->who].waits && !gw[req[e->who].gateway].gone)
        {
            count[req[e->who].name].left++;
            sim_leave(e->who, 1);
            sim_granted(req[e->who].gateway, now);
            sim_forget(e->who);
        }

        break;

    case EVENT_PUMP:

        /* unless an earlier one has come in its place */

        if (gw[e->who].pumping == now + 1) {
            gw[e->who].pumping = 0;
            sim_send_batch(e->who, (int) e->number);
        }

        break;

    case EVENT_EVAL:
        sim_evaluate(e->who, e->number);
        break;

    case EVENT_REPLY:
        sim_take_reply(e->who, e->number);
        break;

    case EVENT_LATE:
        sim_late(e->who, e->number);
        break;

    case EVENT_BEAT:
        sim_beat(e->who);
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
            sim_post(i, EVENT_ARRIVE, i, 0);
        }
    }

    for (i = 0; i < sc->gateways; i++) {
        gw[i].mem = malloc(SIM_MEMORY);
        gw[i].lg = llm_ledger_create(gw[i].mem, SIM_MEMORY);
        snprintf(gw[i].name, sizeof(gw[i].name), "gateway-%u", i);
        sim_mode(i, sc->mode);
        sim_post(i * 7, EVENT_BEAT, i, 0);
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
        e = sim_next();
        now = e.at;

        for (i = 0; i < sc->faults; i++) {

            if (now / 1000 < sc->fault[i].from || (flushed & (1u << i))) {
                continue;
            }

            if (sc->fault[i].what == SIM_FLUSH) {
                store_flush(st);
                flushed |= 1u << i;

            } else if (sc->fault[i].what == SIM_VANISH) {
                sim_vanish((unsigned) sc->fault[i].gateway);
                flushed |= 1u << i;
            }
        }

        if (now >= end && !(flushed >> 63)) {
            flushed |= (uint64_t) 1 << 63;

            for (g = 0; g < sc->gateways; g++) {

                if (!gw[g].gone) {
                    sim_mode(g, gw[g].mode);
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

    sim_done();

    printf("%s\n", rc ? "FAILED" : "all bounds held");

    return rc;
}
