
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_quiet.h"


int
llm_quiet(llm_quiet_t *qt, uint64_t what, uint64_t now, uint64_t every,
    uint64_t *swallowed)
{
    unsigned           i;
    llm_quiet_slot_t  *slot, *old;

    slot = &qt->slot[what % (LLM_QUIET_SLOTS / LLM_QUIET_WAYS)
                     * LLM_QUIET_WAYS];
    old = NULL;

    for (i = 0; i < LLM_QUIET_WAYS; i++) {

        if (slot[i].what == what) {

            if (slot[i].until > now) {
                slot[i].swallowed++;
                return LLM_DECLINED;
            }

            old = &slot[i];
            break;
        }

        /* a place whose time is over; the one that is so for longest */

        if (slot[i].until <= now
            && (old == NULL || slot[i].until < old->until))
        {
            old = &slot[i];
        }
    }

    if (old == NULL) {
        qt->crowded++;
        return LLM_DECLINED;
    }

    /* what another left untold is told with this one: no count is lost */

    *swallowed = old->swallowed + qt->crowded;

    qt->crowded = 0;

    old->what = what;
    old->until = now + every;
    old->swallowed = 0;

    return LLM_OK;
}
