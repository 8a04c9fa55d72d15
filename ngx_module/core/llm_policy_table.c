
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is asked of a policy's names and patterns.
 */


#include "core/llm_policy_private.h"
#include "core/llm_route.h"


static int llm_policy_listed(const llm_str_t *models, unsigned n,
    const llm_str_t *model);


int
llm_policy_allows(const llm_key_t *key, const llm_str_t *model)
{
    if (!llm_policy_listed(key->models, key->nmodels, model)) {
        return 0;
    }

    return key->team == NULL
           || llm_policy_listed(key->team->models, key->team->nmodels, model);
}


uint32_t
llm_policy_hash(const llm_str_t *name)
{
    size_t    i;
    uint32_t  h;

    h = 2166136261u;

    for (i = 0; i < name->len; i++) {
        h = (h ^ name->data[i]) * 16777619u;
    }

    /* tables take the low bits: let the high ones have their say */

    h ^= h >> 16;
    h *= 0x7feb352du;
    h ^= h >> 15;

    return h;
}


static int
llm_policy_listed(const llm_str_t *models, unsigned n, const llm_str_t *model)
{
    unsigned  i;

    if (n == 0) {
        return 1;
    }

    for (i = 0; i < n; i++) {
        if (llm_route_match(&models[i], model)) {
            return 1;
        }
    }

    return 0;
}
