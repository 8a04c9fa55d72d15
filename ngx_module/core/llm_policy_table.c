
/*
 * Copyright (C) the ngx-llm authors
 *
 * Finding keys and teams in a policy.
 */


#include "core/llm_policy_private.h"
#include "core/llm_route.h"

#include <string.h>


static uint32_t llm_policy_start(const unsigned char *sha256);
static int llm_policy_same(const unsigned char *a, const unsigned char *b);
static int llm_policy_listed(const llm_str_t *models, unsigned n,
    const llm_str_t *model);


void
llm_policy_destroy(llm_policy_t *p)
{
    if (p != NULL) {
        p->free(p);
    }
}


const llm_key_t *
llm_policy_find(const llm_policy_t *p, const unsigned char sha256[32])
{
    uint32_t          slot, i;
    const llm_key_t  *key;

    slot = llm_policy_start(sha256) & p->secrets_mask;

    for ( ;; ) {
        i = p->secrets[slot];

        if (i == LLM_POLICY_NONE) {
            return NULL;
        }

        key = &p->keys[i];

        /* the first bytes find the place, and say nothing of the secret */

        if (memcmp(key->sha256, sha256, 8) == 0
            && llm_policy_same(key->sha256, sha256))
        {
            return key;
        }

        slot = (slot + 1) & p->secrets_mask;
    }
}


const llm_key_t *
llm_policy_key(const llm_policy_t *p, unsigned i)
{
    return i < p->nkeys ? &p->keys[i] : NULL;
}


const llm_team_t *
llm_policy_team(const llm_policy_t *p, unsigned i)
{
    return i < p->nteams ? &p->teams[i] : NULL;
}


unsigned
llm_policy_keys(const llm_policy_t *p)
{
    return p->nkeys;
}


unsigned
llm_policy_teams(const llm_policy_t *p)
{
    return p->nteams;
}


int
llm_policy_allows(const llm_key_t *key, const llm_str_t *model)
{
    if (!llm_policy_listed(key->models, key->nmodels, model)) {
        return 0;
    }

    return key->team == NULL
           || llm_policy_listed(key->team->models, key->team->nmodels, model);
}


llm_policy_t *
llm_policy_create(size_t nteams, size_t nkeys, size_t npatterns, size_t ntext,
    unsigned char **text, void *(*alloc)(size_t size), void (*free)(void *p))
{
    size_t         names, secrets, size;
    llm_policy_t  *p;

    for (names = 2; names < 2 * nteams; names *= 2) { /* void */ }
    for (secrets = 2; secrets < 2 * nkeys; secrets *= 2) { /* void */ }

    /* all but the text keeps to 8 bytes, the smallest index is of two rows */

    size = sizeof(llm_policy_t) + nteams * sizeof(llm_team_t)
           + nkeys * sizeof(llm_key_t) + npatterns * sizeof(llm_str_t)
           + (names + secrets) * sizeof(uint32_t) + ntext;

    p = alloc(size);
    if (p == NULL) {
        return NULL;
    }

    memset(p, 0, size);

    p->teams = (llm_team_t *) (p + 1);
    p->keys = (llm_key_t *) (p->teams + nteams);
    p->patterns = (llm_str_t *) (p->keys + nkeys);
    p->names = (uint32_t *) (p->patterns + npatterns);
    p->secrets = p->names + names;
    p->names_mask = (uint32_t) names - 1;
    p->secrets_mask = (uint32_t) secrets - 1;
    p->free = free;

    memset(p->names, 0xff, (names + secrets) * sizeof(uint32_t));

    *text = (unsigned char *) (p->secrets + secrets);

    return p;
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


const llm_team_t *
llm_policy_team_find(const llm_policy_t *p, const char *name, size_t len)
{
    uint32_t           slot, i;
    llm_str_t          s;
    const llm_team_t  *team;

    s.data = (unsigned char *) name;
    s.len = len;

    slot = llm_policy_hash(&s) & p->names_mask;

    for ( ;; ) {
        i = p->names[slot];

        if (i == LLM_POLICY_NONE) {
            return NULL;
        }

        team = &p->teams[i];

        if (team->name.len == len && memcmp(team->name.data, name, len) == 0) {
            return team;
        }

        slot = (slot + 1) & p->names_mask;
    }
}


void
llm_policy_team_add(llm_policy_t *p, unsigned i)
{
    uint32_t  slot;

    slot = llm_policy_hash(&p->teams[i].name) & p->names_mask;

    while (p->names[slot] != LLM_POLICY_NONE) {
        slot = (slot + 1) & p->names_mask;
    }

    p->names[slot] = i;
}


const llm_key_t *
llm_policy_secret_add(llm_policy_t *p, unsigned i)
{
    uint32_t          slot;
    const llm_key_t  *key;

    slot = llm_policy_start(p->keys[i].sha256) & p->secrets_mask;

    while (p->secrets[slot] != LLM_POLICY_NONE) {
        key = &p->keys[p->secrets[slot]];

        if (llm_policy_same(key->sha256, p->keys[i].sha256)) {
            return key;
        }

        slot = (slot + 1) & p->secrets_mask;
    }

    p->secrets[slot] = i;

    return NULL;
}


/* a digest is as good as random: its first bytes are its hash */

static uint32_t
llm_policy_start(const unsigned char *sha256)
{
    uint32_t  h;

    memcpy(&h, sha256, sizeof(uint32_t));

    return h;
}


/* takes the same time wherever the first difference is */

static int
llm_policy_same(const unsigned char *a, const unsigned char *b)
{
    unsigned                 i;
    volatile unsigned char   diff;

    diff = 0;

    for (i = 0; i < 32; i++) {
        diff |= a[i] ^ b[i];
    }

    return diff == 0;
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
