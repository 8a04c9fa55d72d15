
/*
 * Copyright (C) the ngx-llm authors
 *
 * What bounds the calls to a target that is in trouble: the budget of its
 * retries, and cooling down when it says that it had too many.
 */


#include "core/llm_target_private.h"


#define LLM_TARGET_RETRY     1000
#define LLM_TARGET_RETRIES   10000          /* earned at most */
#define LLM_TARGET_GRANTED   1000           /* far more than there can be */
#define LLM_TARGET_HEDGE     1000
#define LLM_TARGET_HEDGES    10000          /* so many may be saved up */

#define LLM_TARGET_COOL      1000           /* ms, if it does not say */
#define LLM_TARGET_COOL_MAX  30000
#define LLM_TARGET_ASKED     86400000       /* more is no wait */


static void llm_target_budget_roll(llm_target_budget_t *b,
    const llm_target_conf_t *conf, uint64_t now);
static int64_t llm_target_budget_most(const llm_target_conf_t *conf);


void
llm_target_budget_start(llm_target_budget_t *b, const llm_target_conf_t *conf)
{
    int64_t  most;

    if (b->granted != 0) {
        b->granted--;
        return;
    }

    most = llm_target_budget_most(conf);

    b->earned += (int64_t) conf->budget * 10;
    b->earned = b->earned < most ? b->earned : most;

    b->hedges += (int64_t) conf->hedge * 10;
    b->hedges = b->hedges < LLM_TARGET_HEDGES ? b->hedges
                                              : LLM_TARGET_HEDGES;
}


/* the floor first, it comes back by itself */

int
llm_target_budget_retry(llm_target_budget_t *b, const llm_target_conf_t *conf,
    uint64_t now)
{
    llm_target_budget_roll(b, conf, now);

    if (b->floor >= LLM_TARGET_RETRY) {
        b->floor -= LLM_TARGET_RETRY;

    } else if (b->earned >= LLM_TARGET_RETRY) {
        b->earned -= LLM_TARGET_RETRY;

    } else {
        return LLM_DECLINED;
    }

    llm_target_budget_grant(b);

    return LLM_OK;
}


int
llm_target_budget_hedge(llm_target_budget_t *b, int take)
{
    if (b->hedges < LLM_TARGET_HEDGE) {
        return LLM_DECLINED;
    }

    if (take) {
        b->hedges -= LLM_TARGET_HEDGE;
    }

    return LLM_OK;
}


void
llm_target_budget_grant(llm_target_budget_t *b)
{
    if (b->granted < LLM_TARGET_GRANTED) {
        b->granted++;
    }
}


/* not asked, so it takes what there is; its start earns as any other */

void
llm_target_budget_client(llm_target_budget_t *b,
    const llm_target_conf_t *conf, uint64_t now)
{
    int64_t  need;

    llm_target_budget_roll(b, conf, now);

    need = LLM_TARGET_RETRY / 2;

    if (b->earned >= need) {
        b->earned -= need;
        return;
    }

    need -= b->earned;
    b->earned = 0;
    b->floor = b->floor > need ? b->floor - need : 0;
}


static void
llm_target_budget_roll(llm_target_budget_t *b, const llm_target_conf_t *conf,
    uint64_t now)
{
    int64_t   most;
    uint64_t  dt;

    most = (int64_t) conf->budget_floor * LLM_TARGET_RETRY;

    /* "floor" a second is as many thousandths a ms */

    if (b->time == 0) {
        b->floor = most;
        b->time = now;
    }

    if (now > b->time) {
        dt = now - b->time;
        b->time = now;

        b->floor += dt < 1000 ? (int64_t) (dt * conf->budget_floor) : most;
    }

    b->floor = b->floor < most ? b->floor : most;
}


static int64_t
llm_target_budget_most(const llm_target_conf_t *conf)
{
    int64_t  floor;

    floor = (int64_t) conf->budget_floor * LLM_TARGET_RETRY;

    return floor > LLM_TARGET_RETRIES ? floor : LLM_TARGET_RETRIES;
}


/* which calls share a wait is as good as random: it hangs on the ms */

static uint64_t
llm_target_cool_jitter(uint64_t ms, uint64_t now)
{
    uint64_t  hash;

    hash = now * 0x9e3779b97f4a7c15;
    hash = (hash ^ hash >> 29) * 0xbf58476d1ce4e5b9;
    hash = (hash ^ hash >> 32) % 401;

    return ms * (800 + hash) / 1000;
}


int
llm_target_cool_down(llm_target_cool_t *c, uint64_t started, int64_t asked,
    uint64_t now)
{
    int       begins;
    uint64_t  ms, until;

    /* what was started before it began says nothing new */

    begins = c->until == 0 || started >= c->since;

    if (asked >= 0) {
        ms = asked < LLM_TARGET_ASKED ? (uint64_t) asked : LLM_TARGET_ASKED;

    } else if (begins) {
        ms = (uint64_t) LLM_TARGET_COOL << c->doubled;
        ms = ms < LLM_TARGET_COOL_MAX ? ms : LLM_TARGET_COOL_MAX;
        ms = llm_target_cool_jitter(ms, now);

        if (LLM_TARGET_COOL << c->doubled < LLM_TARGET_COOL_MAX) {
            c->doubled++;
        }

    } else {
        return 0;
    }

    until = now + ms;

    if (until > c->until) {
        c->until = until;
    }

    /* after now: a call of the same ms does not tell of what follows */

    if (begins) {
        c->since = now + 1;
    }

    return begins;
}


void
llm_target_cool_good(llm_target_cool_t *c, uint64_t started, uint64_t now)
{
    if (c->doubled != 0 && started >= c->since && now >= c->until) {
        c->doubled = 0;
    }
}
