
/*
 * Copyright (C) the ngx-llm authors
 *
 * The targets one by one, for those who watch, and by hand.
 */


#include <string.h>

#include "core/llm_target_private.h"


uint32_t
llm_target_next(const llm_targets_t *tg, uint32_t i, llm_str_t *name)
{
    llm_target_row_t  *row;

    for ( /* void */ ; i < tg->size && i < tg->fresh; i++) {

        row = llm_target_row(tg, i);

        if (row) {
            name->data = row->name;
            name->len = row->len;

            return i;
        }
    }

    return LLM_TARGET_NONE;
}


void
llm_target_mend(llm_targets_t *tg, uint32_t i, uint64_t now)
{
    llm_target_row_t      *row;
    llm_target_breaker_t  *b;

    row = llm_target_row(tg, i);

    if (row == NULL) {
        return;
    }

    b = &row->breaker;

    /* "times" lets those who were started before have no say */

    b->until = 0;
    b->probed = 0;
    b->consecutive = 0;
    b->healthy = now;
    b->times = b->times ? 1 : 0;
    memset(b->good, 0, sizeof(b->good));
    memset(b->bad, 0, sizeof(b->bad));

    memset(&row->cool, 0, sizeof(llm_target_cool_t));
}
