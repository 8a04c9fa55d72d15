
/*
 * Copyright (C) the ngx-llm authors
 *
 * How many calls a target bears at a time: fewer when it complains or gets
 * slow, one more when as many as may be have gone well.
 */


#include "core/llm_target_private.h"


#define LLM_TARGET_BEGIN    64              /* if nothing is configured */
#define LLM_TARGET_TOP      65000
#define LLM_TARGET_LOWER    100             /* ms between two of a reason */
#define LLM_TARGET_EASE     1000


static uint32_t llm_target_bound_get(const llm_target_bound_t *b,
    const llm_target_conf_t *conf);
static void llm_target_bound_lower(llm_target_bound_t *b,
    const llm_target_conf_t *conf, uint32_t percent);


uint32_t
llm_target_bound(llm_target_bound_t *b, const llm_target_conf_t *conf)
{
    if (conf->adaptive) {
        b->bound = llm_target_bound_get(b, conf);
        return b->bound / 1000;
    }

    return conf->most != 0 ? conf->most : UINT32_MAX;
}


void
llm_target_bound_end(llm_target_bound_t *b, const llm_target_conf_t *conf,
    llm_target_end_e end, uint32_t running, uint64_t now)
{
    uint32_t  bound, top;

    if (!conf->adaptive) {
        return;
    }

    bound = llm_target_bound_get(b, conf);

    switch (end) {

    case LLM_TARGET_LIMITED:
    case LLM_TARGET_SILENT:

        if (b->lowered == 0 || now >= b->lowered + LLM_TARGET_LOWER) {
            b->lowered = now != 0 ? now : 1;
            llm_target_bound_lower(b, conf, 90);
        }

        return;

    case LLM_TARGET_GOOD:
        break;

    default:
        return;
    }

    if (running <= bound / 1000 / 2) {
        return;
    }

    if (++b->good < bound / 1000) {
        return;
    }

    top = conf->most != 0 && conf->most < LLM_TARGET_TOP ? conf->most
                                                         : LLM_TARGET_TOP;
    b->good = 0;
    b->bound = bound + 1000 < top * 1000 ? bound + 1000 : top * 1000;
}


void
llm_target_bound_slow(llm_target_bound_t *b, const llm_target_conf_t *conf,
    uint32_t running, uint64_t now)
{
    if (!conf->adaptive
        || running <= llm_target_bound_get(b, conf) / 1000 / 2
        || (b->eased != 0 && now < b->eased + LLM_TARGET_EASE))
    {
        return;
    }

    b->eased = now != 0 ? now : 1;
    llm_target_bound_lower(b, conf, 95);
}


static uint32_t
llm_target_bound_get(const llm_target_bound_t *b,
    const llm_target_conf_t *conf)
{
    uint32_t  most;

    most = conf->most != 0 && conf->most < LLM_TARGET_TOP ? conf->most
                                                          : LLM_TARGET_TOP;

    if (b->bound == 0) {
        return (conf->most != 0 ? most : LLM_TARGET_BEGIN) * 1000;
    }

    return b->bound < most * 1000 ? b->bound : most * 1000;
}


static void
llm_target_bound_lower(llm_target_bound_t *b, const llm_target_conf_t *conf,
    uint32_t percent)
{
    uint32_t  bound;

    bound = llm_target_bound_get(b, conf) / 100 * percent;

    b->bound = bound > 1000 ? bound : 1000;
    b->good = 0;
}
