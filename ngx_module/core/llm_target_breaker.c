
/*
 * Copyright (C) the ngx-llm authors
 *
 * The breaker of a target.  Only what was started while it was closed, and
 * the probe, have a say: what ends late must not eject once more.
 */


#include <string.h>

#include "core/llm_target_private.h"


#define LLM_TARGET_PROBE  60000             /* ms a probe may take */
#define LLM_TARGET_TURN   1000              /* ms, to ask again for one */


static int llm_target_breaker_ill(llm_target_breaker_t *b,
    const llm_target_conf_t *conf, int bad, uint64_t now);
static void llm_target_breaker_eject(llm_target_breaker_t *b,
    const llm_target_conf_t *conf, uint64_t now);
static void llm_target_breaker_clear(llm_target_breaker_t *b);


llm_target_state_e
llm_target_breaker_state(const llm_target_breaker_t *b, uint64_t now)
{
    if (b->until == 0) {
        return LLM_TARGET_CLOSED;
    }

    return now < b->until ? LLM_TARGET_OPEN : LLM_TARGET_HALF;
}


int
llm_target_breaker_ask(const llm_target_breaker_t *b, uint64_t now,
    uint64_t *wait)
{
    uint64_t  left;

    switch (llm_target_breaker_state(b, now)) {

    case LLM_TARGET_CLOSED:
        return LLM_OK;

    case LLM_TARGET_OPEN:
        *wait = b->until - now;
        return LLM_DECLINED;

    default: /* LLM_TARGET_HALF */
        break;
    }

    if (b->probed == 0 || now >= b->probed + LLM_TARGET_PROBE) {
        return LLM_OK;
    }

    left = b->probed + LLM_TARGET_PROBE - now;
    *wait = left < LLM_TARGET_TURN ? left : LLM_TARGET_TURN;

    return LLM_DECLINED;
}


uint32_t
llm_target_breaker_start(llm_target_breaker_t *b, unsigned owner,
    uint64_t now)
{
    if (b->until == 0) {
        return 0;
    }

    b->probed = now != 0 ? now : 1;
    b->prober = owner;
    b->probe++;

    if (b->probe == 0) {
        b->probe = 1;
    }

    return b->probe;
}


int
llm_target_breaker_end(llm_target_breaker_t *b, const llm_target_conf_t *conf,
    const llm_target_call_t *call, llm_target_end_e end, uint64_t now)
{
    int  bad;

    bad = end == LLM_TARGET_BAD || end == LLM_TARGET_SILENT;

    if (b->until != 0) {

        /* of all that end now only the probe is asked */

        if (call->probe == 0 || b->probed == 0 || call->probe != b->probe) {
            return 0;
        }

        b->probed = 0;

        if (bad) {
            llm_target_breaker_eject(b, conf, now);
            return 1;
        }

        if (end == LLM_TARGET_GOOD) {
            b->until = 0;
            b->healthy = now;
            llm_target_breaker_clear(b);
        }

        return 0;
    }

    if (!bad && end != LLM_TARGET_GOOD) {
        return 0;
    }

    /* started before it was ejected last: it has had its say */

    if (call->started < b->healthy && b->times != 0) {
        return 0;
    }

    if (!llm_target_breaker_ill(b, conf, bad, now)) {
        return 0;
    }

    llm_target_breaker_eject(b, conf, now);

    return 1;
}


void
llm_target_breaker_reap(llm_target_breaker_t *b, unsigned owner)
{
    if (b->prober == owner) {
        b->probed = 0;
    }
}


/* counts an end; 1: that was too much */

static int
llm_target_breaker_ill(llm_target_breaker_t *b, const llm_target_conf_t *conf,
    int bad, uint64_t now)
{
    uint32_t  width;
    uint64_t  step, good, ill;
    unsigned  i;

    width = conf->window / LLM_TARGET_STEPS;
    width = width != 0 ? width : 1;
    step = now / width;

    if (width != b->width || step >= b->step + LLM_TARGET_STEPS) {
        memset(b->good, 0, sizeof(b->good));
        memset(b->bad, 0, sizeof(b->bad));
        b->width = width;
        b->step = step;
    }

    while (b->step < step) {
        b->step++;
        b->good[b->step % LLM_TARGET_STEPS] = 0;
        b->bad[b->step % LLM_TARGET_STEPS] = 0;
    }

    if (!bad) {
        b->good[b->step % LLM_TARGET_STEPS]++;
        b->consecutive = 0;
        return 0;
    }

    b->bad[b->step % LLM_TARGET_STEPS]++;
    b->consecutive++;

    if (conf->consecutive != 0 && b->consecutive >= conf->consecutive) {
        return 1;
    }

    if (conf->ratio == 0) {
        return 0;
    }

    good = 0;
    ill = 0;

    for (i = 0; i < LLM_TARGET_STEPS; i++) {
        good += b->good[i];
        ill += b->bad[i];
    }

    return good + ill >= conf->ratio_min
           && ill * 100 >= (good + ill) * conf->ratio;
}


static void
llm_target_breaker_eject(llm_target_breaker_t *b,
    const llm_target_conf_t *conf, uint64_t now)
{
    uint64_t  ms, healed;

    if (b->until == 0 && conf->eject_max != 0 && now > b->healthy) {
        healed = (now - b->healthy) / conf->eject_max;
        b->times = healed < b->times ? b->times - (uint32_t) healed : 0;
    }

    if (b->times < UINT32_MAX) {
        b->times++;
    }

    ms = (uint64_t) conf->eject * b->times;

    if (conf->eject_max != 0 && ms > conf->eject_max) {
        ms = conf->eject_max;
    }

    /* 0 means closed */

    b->until = now + (ms != 0 ? ms : 1);
    b->probed = 0;

    llm_target_breaker_clear(b);
}


static void
llm_target_breaker_clear(llm_target_breaker_t *b)
{
    b->consecutive = 0;
    memset(b->good, 0, sizeof(b->good));
    memset(b->bad, 0, sizeof(b->bad));
}
