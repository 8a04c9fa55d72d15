
/*
 * Copyright (C) the ngx-llm authors
 *
 * Two gateways with four callers each before a provider with a true limit and
 * honest headers: each gateway sees its own starts and what the provider
 * tells of all.
 */


#include "target_help.h"


#define CALLERS  8
#define FLYING   20000
#define QUEUE    20000
#define RATE     600                        /* a minute, and the burst */
#define MARGIN   3
#define PART     60000                      /* of a request: rate * ms */


typedef struct {
    const char      *name;
    uint64_t         time;                  /* ms */
    unsigned         load;                  /* % of the rate */
    unsigned         each;                  /* calls that arrive together */
    unsigned         together;              /* % of them at both gateways */
    unsigned         fast;                  /* latency, ms */
    unsigned         slow;
    unsigned         uphill;                /* % of it, to the provider */
    unsigned         margin;
    unsigned         share;                 /* % of the load at the first */
    unsigned         begin;                 /* what is there at first */
    unsigned         windowed;
    unsigned         unpaced;
} scene_t;


typedef struct {
    unsigned         offered;
    unsigned         served;
    unsigned         limited;
    unsigned         waiting;
    unsigned         flying;
    uint64_t         waited;                /* the longest, ms */
} outcome_t;


typedef struct {
    unsigned            gateway;
    unsigned            sent;
    uint64_t            arrives;
    uint64_t            answers;
    llm_target_call_t   call;
    llm_target_limit_t  told;
    int                 refused;
} flight_t;


typedef struct {
    uint64_t            since[QUEUE];
    unsigned            head;
    unsigned            tail;
    uint64_t            next;
} caller_t;


static flight_t  flights[FLYING];
static caller_t  callers[CALLERS];
static unsigned  nflights;


static void
provider_arrive(const scene_t *sc, int64_t *level, flight_t *f, uint64_t now)
{
    f->refused = *level < PART;

    if (!f->refused) {
        *level -= PART;
    }

    f->told.limit = RATE;
    f->told.remaining = *level / PART;
    f->told.reset = sc->windowed
                    ? (int64_t) (60000 - now % 60000)
                    : ((int64_t) RATE * PART - *level + RATE - 1) / RATE;
}


static void
provider_tick(const scene_t *sc, int64_t *level, uint64_t now)
{
    if (sc->windowed) {

        if (now % 60000 == 0) {
            *level = (int64_t) RATE * PART;
        }

        return;
    }

    *level += RATE;

    if (*level > (int64_t) RATE * PART) {
        *level = (int64_t) RATE * PART;
    }
}


static void
arrivals(const scene_t *sc, outcome_t *out, uint64_t now)
{
    unsigned  i, k, n, first;

    /* RATE / 60000 a ms, in groups of "each" */

    if (any((uint64_t) 60000 * 100 * sc->each)
        >= (uint64_t) RATE * sc->load)
    {
        return;
    }

    first = any(100) < sc->share ? 0 : CALLERS / 2;

    for (i = 0; i < sc->each; i++) {
        n = first + (unsigned) any(CALLERS / 2);

        if (any(100) < sc->together) {
            n = (unsigned) any(CALLERS);
        }

        k = callers[n].tail++ % QUEUE;
        callers[n].since[k] = now;
        out->offered++;
    }
}


static void
depart(const scene_t *sc, llm_targets_t *tg, unsigned n,
    const llm_target_conf_t *conf, outcome_t *out, uint64_t now)
{
    uint64_t   wait, latency;
    caller_t  *c;
    flight_t  *f;

    c = &callers[n];

    while (c->head != c->tail && c->next <= now) {
        assert_true(nflights < FLYING);
        f = &flights[nflights];

        if (llm_target_start(tg, 0, conf, n, 0, 0, now, &wait, &f->call)
            != LLM_OK)
        {
            assert_true(wait > 0);
            c->next = now + wait;
            return;
        }

        wait = now - c->since[c->head++ % QUEUE];
        out->waited = wait > out->waited ? wait : out->waited;

        latency = sc->fast + any(sc->slow - sc->fast + 1);

        f->gateway = n / (CALLERS / 2);
        f->sent = 1;
        f->arrives = now + 1 + any(latency * sc->uphill / 100 + 1);
        f->answers = now + latency;

        if (f->answers < f->arrives) {
            f->answers = f->arrives;
        }

        nflights++;
    }
}


static void
fly(const scene_t *sc, llm_targets_t **tg, const llm_target_conf_t *conf,
    int64_t *level, outcome_t *out, uint64_t now)
{
    unsigned   i;
    flight_t  *f;

    for (i = 0; i < nflights; i++) {
        f = &flights[i];

        if (f->sent && f->arrives <= now) {
            f->sent = 0;
            provider_arrive(sc, level, f, now);
        }

        if (f->sent || f->answers > now) {
            continue;
        }

        llm_target_told(tg[f->gateway], 0, conf, &f->call, &f->told, NULL,
                        now);
        llm_target_end(tg[f->gateway], 0, conf, &f->call,
                       f->refused ? LLM_TARGET_LIMITED : LLM_TARGET_GOOD,
                       LLM_TARGET_UNKNOWN, LLM_TARGET_UNKNOWN, now);

        if (f->refused) {
            out->limited++;

        } else {
            out->served++;
        }

        *f = flights[--nflights];
        i--;
    }
}


static void
play(const scene_t *sc, uint64_t start, outcome_t *out)
{
    void               *mem[2];
    int64_t             level;
    uint64_t            now;
    unsigned            i, n;
    llm_targets_t      *tg[2];
    llm_target_conf_t   conf;

    seed = start;
    nflights = 0;
    memset(callers, 0, sizeof(callers));
    memset(out, 0, sizeof(outcome_t));

    conf = standard;
    conf.consecutive = 0;
    conf.ratio = 0;
    conf.pace = !sc->unpaced;
    conf.windowed = sc->windowed;
    conf.margin = sc->margin;

    for (i = 0; i < 2; i++) {
        tg[i] = make(&mem[i], SIZE);
        assert_int_equal(find(tg[i], "p:m"), 0);
    }

    level = (int64_t) sc->begin * PART;

    for (now = 1000; now < 1000 + sc->time; now++) {
        provider_tick(sc, &level, now);
        arrivals(sc, out, now);

        for (i = 0; i < CALLERS; i++) {
            n = (i + (unsigned) now) % CALLERS;
            depart(sc, tg[n / (CALLERS / 2)], n, &conf, out, now);
        }

        fly(sc, tg, &conf, &level, out, now);
    }

    for (i = 0; i < CALLERS; i++) {
        out->waiting += callers[i].tail - callers[i].head;
    }

    out->flying = nflights;

    for (i = 0; i < 2; i++) {
        free(mem[i]);
    }
}



/* nobody is refused, nobody waits for long, and what is offered is served */

static void
check(const scene_t *sc, unsigned seeds, unsigned waiting)
{
    unsigned   i;
    outcome_t  out;

    for (i = 1; i <= seeds; i++) {
        play(sc, i * 7919, &out);

        if (out.limited != 0 || out.waiting > waiting
            || (out.served + out.flying + waiting) * 100 < out.offered * 98)
        {
            fail_msg("%s, seed %u: %u offered, %u served, %u refused, "
                     "%u waiting", sc->name, i, out.offered, out.served,
                     out.limited, out.waiting);
        }
    }
}


static void
test_nearly_all_is_asked_for(void **state)
{
    size_t          i;

    static const scene_t  scenes[] = {
        { .name = "one by one", .each = 1, .share = 50 },
        { .name = "in bursts", .each = 20, .share = 50 },
        { .name = "in bursts at both", .each = 60, .together = 100,
          .share = 50 },
        { .name = "in large bursts", .each = 100, .share = 50 },
        { .name = "uneven", .each = 40, .share = 97 },
        { .name = "one gateway", .each = 40, .share = 100 },
        { .name = "answers in the other order", .each = 20, .share = 50,
          .uphill = 100 },
        { .name = "windowed", .each = 1, .share = 50, .windowed = 1 }
    };

    scene_t         sc;

    (void) state;

    for (i = 0; i < sizeof(scenes) / sizeof(scenes[0]); i++) {
        sc = scenes[i];
        sc.time = 120000;
        sc.load = 95;
        sc.fast = 5;
        sc.slow = 300;
        sc.uphill = sc.uphill != 0 ? sc.uphill : 50;
        sc.margin = MARGIN;
        sc.begin = RATE;

        check(&sc, 6, 0);
    }
}


/* the bucket is empty at first, and nobody knows */

static void
test_begins_at_the_wall(void **state)
{
    scene_t  sc = { .name = "empty", .time = 120000, .load = 95, .each = 1,
                    .fast = 5, .slow = 300, .uphill = 50, .share = 50,
                    .margin = MARGIN, .begin = 20 };

    (void) state;

    check(&sc, 6, 5);
}


/* answers take up to half a minute: no one waits for what is there */

static void
test_slow_answers(void **state)
{
    unsigned   i;
    outcome_t  out;
    scene_t    sc = { .name = "slow", .time = 180000, .load = 95, .each = 1,
                      .fast = 2000, .slow = 30000, .uphill = 1, .share = 50,
                      .margin = MARGIN, .begin = RATE };

    (void) state;

    check(&sc, 3, 0);

    /* too many: all that the rate gives is used, and few are refused */

    sc.load = 150;

    for (i = 1; i <= 3; i++) {
        play(&sc, i * 7919, &out);

        assert_true(out.limited * 33 < out.served);
        assert_true((out.served + out.flying) * 100
                    >= (RATE + RATE / 60 * sc.time / 1000) * 93);
    }
}


/* more than there is, for two minutes */

static void
test_too_much_is_asked_for(void **state)
{
    unsigned   i, k;
    uint64_t   most;
    outcome_t  out;
    scene_t    sc = { .name = "too much", .time = 120000, .load = 170,
                      .each = 1, .fast = 5, .slow = 300, .uphill = 50,
                      .margin = MARGIN, .begin = RATE };

    (void) state;

    for (k = 0; k < 2; k++) {
        sc.share = k == 0 ? 50 : 100;

        for (i = 1; i <= 6; i++) {
            play(&sc, i * 7919, &out);

            most = RATE + RATE / 60 * sc.time / 1000;

            assert_int_equal(out.limited, 0);
            assert_true(out.served * 100 >= most * 93);
            assert_true(out.waiting > 0);
        }
    }
}


/* a window that begins anew: two gateways wait for it with many calls */

static void
test_too_much_for_a_window(void **state)
{
    unsigned   i;
    uint64_t   most;
    outcome_t  out;
    scene_t    sc = { .name = "window", .time = 179000, .load = 150,
                      .each = 1, .fast = 5, .slow = 300, .uphill = 50,
                      .margin = MARGIN, .begin = RATE, .windowed = 1 };

    (void) state;

    most = 3 * RATE;

    for (i = 1; i <= 6; i++) {
        sc.share = 100;
        play(&sc, i * 7919, &out);

        assert_int_equal(out.limited, 0);
        assert_true(out.served * 100 >= most * 93);

        sc.share = 50;
        play(&sc, i * 7919, &out);

        assert_true(out.limited * 10 < out.served);
        assert_true(out.served * 100 >= most * 93);
    }
}


/* the simulated provider does refuse who does not look */

static void
test_without_pacing(void **state)
{
    outcome_t  out;
    scene_t    sc = { .name = "unpaced", .time = 120000, .load = 200,
                      .each = 1, .fast = 5, .slow = 300, .uphill = 50,
                      .share = 50, .begin = RATE, .unpaced = 1 };

    (void) state;

    play(&sc, 7919, &out);

    assert_true(out.limited > 10);
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_nearly_all_is_asked_for),
        cmocka_unit_test(test_begins_at_the_wall),
        cmocka_unit_test(test_slow_answers),
        cmocka_unit_test(test_too_much_is_asked_for),
        cmocka_unit_test(test_too_much_for_a_window),
        cmocka_unit_test(test_without_pacing)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
