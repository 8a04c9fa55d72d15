
/*
 * Copyright (C) the ngx-llm authors
 *
 * Random steps against a simple model: names, running calls and the breaker,
 * also after the memory was moved or reset.
 */


#include "target_help.h"


#define NAMES   300                         /* more than there is room for */
#define CALLS   400
#define OWNERS  5
#define ENDS    4000


typedef struct {
    uint64_t            time;
    int                 bad;
} ended_t;


/* what is known of a name, all of it written down */

typedef struct {
    int                 known;
    uint32_t            place;
    unsigned            running[OWNERS];
    unsigned            nended;             /* since it was closed */
    ended_t             ended[ENDS];
    uint64_t            until;              /* 0: closed */
    uint64_t            healthy;
    unsigned            times;
    int                 call;               /* the probe; -1: none */
    uint64_t            probed;
    uint64_t            cool;
} thing_t;


typedef struct {
    int                 used;
    int                 reaped;
    unsigned            name;
    llm_target_call_t   call;
} flying_t;


static thing_t             things[NAMES];
static flying_t            flying[CALLS];
static llm_target_conf_t   conf;
static llm_targets_t      *tg;
static void               *block;
static size_t              length;          /* of what tg has of it */
static uint64_t            now;


static unsigned
model_running(const thing_t *t)
{
    unsigned  i, n;

    for (n = 0, i = 0; i < OWNERS; i++) {
        n += t->running[i];
    }

    return n;
}


static void
model_forget(thing_t *t)
{
    memset(t, 0, sizeof(thing_t));
    t->call = -1;
}


static uint32_t
step_find(unsigned name)
{
    char      text[32];
    uint32_t  place;
    unsigned  i, busy;
    thing_t  *t;

    snprintf(text, sizeof(text), "provider-%u:model", name);
    place = find(tg, text);
    t = &things[name];

    if (t->known) {

        /* it has gone only if it had no calls */

        if (place == t->place) {
            return place;
        }

        assert_int_equal(model_running(t), 0);
    }

    if (place == LLM_TARGET_NONE) {

        for (busy = 0, i = 0; i < NAMES; i++) {
            busy += model_running(&things[i]) != 0;
        }

        assert_int_equal(busy, tg->size);
        return place;
    }

    for (i = 0; i < NAMES; i++) {
        if (things[i].known && things[i].place == place) {
            assert_int_equal(model_running(&things[i]), 0);
            model_forget(&things[i]);
        }
    }

    model_forget(t);
    t->known = 1;
    t->place = place;

    return place;
}


static int
model_may(const thing_t *t, int force)
{
    if (!force && t->until != 0) {

        if (now < t->until || (t->call != -1 && now < t->probed + 60000)) {
            return LLM_DECLINED;
        }
    }

    if (!force && now < t->cool) {
        return LLM_AGAIN;
    }

    return model_running(t) < conf.most ? LLM_OK : LLM_AGAIN;
}


static void
step_start(void)
{
    int                 rc, force;
    uint32_t            i;
    uint64_t            wait;
    unsigned            k, name, owner;
    thing_t            *t;
    llm_target_call_t   call;

    for (k = 0; k < CALLS && flying[k].used; k++) { /* void */ }

    if (k == CALLS) {
        return;
    }

    name = (unsigned) any(any(3) != 0 ? 6 : NAMES);
    owner = (unsigned) any(OWNERS);
    force = any(10) == 0;

    i = step_find(name);
    t = &things[name];

    if (i == LLM_TARGET_NONE) {
        return;
    }

    if (!force) {
        assert_int_equal(llm_target_look(tg, i, &conf, 0, now, &wait),
                         model_may(t, 0));
    }

    rc = llm_target_start(tg, i, &conf, owner, 0, force, now, &wait, &call);

    assert_int_equal(rc, model_may(t, force));

    if (rc != LLM_OK) {
        assert_true(wait > 0);
        return;
    }

    assert_int_equal(call.probe != 0, !force && t->until != 0);

    if (call.probe != 0) {
        t->call = (int) k;
        t->probed = now;
    }

    t->running[owner]++;
    flying[k].used = 1;
    flying[k].reaped = 0;
    flying[k].name = name;
    flying[k].call = call;
}


static void
model_eject(thing_t *t)
{
    uint64_t  healed, ms;

    if (t->until == 0) {
        healed = (now - t->healthy) / conf.eject_max;
        t->times = healed < t->times ? t->times - (unsigned) healed : 0;
    }

    t->times++;
    ms = (uint64_t) t->times * conf.eject;
    t->until = now + (ms < conf.eject_max ? ms : conf.eject_max);
    t->nended = 0;
    t->call = -1;
}


/* counts all that was written down */

static int
model_ill(const thing_t *t)
{
    uint64_t  width;
    unsigned  i, n, bad, row;

    width = conf.window / 10;
    n = 0;
    bad = 0;
    row = 0;

    for (i = t->nended; i-- > 0; ) {

        if (row == t->nended - 1 - i && t->ended[i].bad) {
            row++;
        }

        if (t->ended[i].time / width + 10 > now / width) {
            n++;
            bad += t->ended[i].bad != 0;
        }
    }

    return row >= conf.consecutive
           || (n >= conf.ratio_min && bad * 100 >= n * conf.ratio);
}


static void
model_end(thing_t *t, int k, llm_target_end_e how, uint64_t started)
{
    int  bad;

    bad = how == LLM_TARGET_BAD || how == LLM_TARGET_SILENT;

    if (t->until != 0) {

        if (t->call != k) {
            return;
        }

        t->call = -1;

        if (bad) {
            model_eject(t);

        } else if (how == LLM_TARGET_GOOD) {
            t->until = 0;
            t->healthy = now;
            t->nended = 0;
        }

        return;
    }

    if (how == LLM_TARGET_LIMITED || how == LLM_TARGET_NEUTRAL
        || (started < t->healthy && t->times != 0))
    {
        return;
    }

    assert_true(t->nended < ENDS);
    t->ended[t->nended].time = now;
    t->ended[t->nended++].bad = bad;

    if (bad && model_ill(t)) {
        model_eject(t);
    }
}


static void
step_end(void)
{
    int                 k;
    int64_t             asked;
    thing_t            *t;
    flying_t           *f;
    llm_target_end_e    how;

    k = (int) any(CALLS);
    f = &flying[k];

    if (!f->used) {
        return;
    }

    t = &things[f->name];

    how = any(2) ? LLM_TARGET_GOOD
                 : (llm_target_end_e) any(LLM_TARGET_SILENT + 1);
    asked = (int64_t) any(3000);

    /* bad times */

    if (now / 50000 % 3 == 0 && any(2)) {
        how = LLM_TARGET_BAD;
    }

    /* reaped but still there: cannot be, it died */

    if (!f->reaped) {
        llm_target_end(tg, t->place, &conf, &f->call, how, asked, -1, now);
        model_end(t, k, how, f->call.started);
        t->running[f->call.owner]--;

        if (how == LLM_TARGET_LIMITED
            && now + (uint64_t) asked > t->cool)
        {
            t->cool = now + (uint64_t) asked;
        }
    }

    f->used = 0;
}


static void
step_reap(void)
{
    unsigned  i, owner;

    owner = (unsigned) any(OWNERS);

    llm_target_reap(tg, owner, now);

    for (i = 0; i < NAMES; i++) {
        things[i].running[owner] = 0;

        if (things[i].call != -1
            && flying[things[i].call].call.owner == owner)
        {
            things[i].call = -1;
        }
    }

    for (i = 0; i < CALLS; i++) {
        if (flying[i].used && flying[i].call.owner == owner) {
            flying[i].reaped = 1;
        }
    }
}


static void
step_reset(void)
{
    unsigned  i;
    uint32_t  place;
    int       known;

    llm_target_reset(tg);

    for (i = 0; i < NAMES; i++) {
        known = things[i].known;
        place = things[i].place;
        model_forget(&things[i]);
        things[i].known = known;
        things[i].place = place;
    }

    /* what was under way ends without being heard */

    for (i = 0; i < CALLS; i++) {
        if (flying[i].used) {
            llm_target_end(tg, things[flying[i].name].place, &conf,
                           &flying[i].call, LLM_TARGET_BAD, 5, 5, now);
            flying[i].used = 0;
        }
    }
}


/* somewhere else in memory, as in another process */

static void
step_move(void)
{
    void           *mem;
    unsigned char  *p;

    mem = malloc(SIZE + 64);
    assert_non_null(mem);

    p = (unsigned char *) mem + (-(uintptr_t) mem & 63);
    memcpy(p, tg, length);

    free(block);
    block = mem;
    tg = (llm_targets_t *) (void *) p;
}


static void
check(void)
{
    unsigned           i, name;
    thing_t           *t;
    llm_target_stat_t  st;

    for (i = 0; i < 3; i++) {
        name = (unsigned) any(NAMES);
        t = &things[name];

        if (!t->known) {
            continue;
        }

        llm_target_stat(tg, t->place, now, &st);

        assert_int_equal(st.running, model_running(t));
        assert_int_equal(st.state, t->until == 0 ? LLM_TARGET_CLOSED
                                   : now < t->until ? LLM_TARGET_OPEN
                                                    : LLM_TARGET_HALF);
    }
}


static void
test_model(void **state)
{
    unsigned  i, round;

    (void) state;

    conf = standard;
    conf.most = 40;
    conf.eject = 3000;
    conf.eject_max = 20000;

    for (round = 1; round <= 10; round++) {
        seed = round * 104729;
        now = 1000;
        tg = make(&block, SIZE);
        length = SIZE - (size_t) ((unsigned char *) tg
                                  - (unsigned char *) block);

        for (i = 0; i < NAMES; i++) {
            model_forget(&things[i]);
        }

        memset(flying, 0, sizeof(flying));

        for (i = 0; i < 30000; i++) {
            now += any(5) == 0 ? any(200) : 0;
            now += any(2000) == 0 ? any(70000) : 0;

            switch (any(any(100) == 0 ? 6 : 3)) {

            case 0:
                step_start();
                break;

            case 3:
                step_reap();
                break;

            case 4:
                if (any(10) == 0) {
                    step_reset();
                }

                break;

            case 5:
                step_move();
                break;

            default:
                step_end();
            }

            check();
        }

        free(block);
    }
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_model)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
