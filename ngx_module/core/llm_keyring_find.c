
/*
 * Copyright (C) the ngx-llm authors
 *
 * Finding rows, and making of a row what a request meets.
 */


#include "core/llm_keyring_private.h"


static uint32_t llm_keyring_by_secret(const llm_keyring_t *kr,
    const unsigned char *sha256, int64_t now, int64_t *good_until);
static int llm_keyring_is(const llm_keyring_t *kr,
    const llm_keyring_block_t *b, const llm_str_t *name);
static size_t llm_keyring_name_copy(const llm_keyring_t *kr,
    const llm_keyring_block_t *b, unsigned char *to);
static uint32_t llm_keyring_team_of(const llm_keyring_t *kr,
    const llm_str_t *team, uint32_t hash);
static int llm_keyring_shadowed(const llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row);
static int llm_keyring_expand(const llm_keyring_t *kr, uint32_t i,
    int64_t now, llm_keyring_found_t *found, llm_arena_t *arena);
static int llm_keyring_expand_team(const llm_keyring_t *kr, uint32_t i,
    int64_t now, llm_team_t *team, int64_t *good_until, llm_arena_t *arena);
static void llm_keyring_raise(llm_terms_t *terms, const llm_raise_t *raise,
    int64_t now, int64_t *good_until);
static int llm_keyring_item(const llm_keyring_t *kr, uint32_t i,
    llm_keyring_item_t *item, llm_arena_t *arena);


void
llm_keyring_expect(const llm_keyring_t *kr, const unsigned char sha256[32])
{
    __builtin_prefetch(llm_keyring_secrets(kr, sha256));
}


int
llm_keyring_find(const llm_keyring_t *kr, const unsigned char sha256[32],
    int64_t now, llm_keyring_found_t *found, llm_arena_t *arena)
{
    uint32_t  i;

    found->good_until = INT64_MAX;

    i = llm_keyring_by_secret(kr, sha256, now, &found->good_until);

    return i != 0 ? llm_keyring_expand(kr, i, now, found, arena)
                  : LLM_DECLINED;
}


int
llm_keyring_find_name(const llm_keyring_t *kr, const llm_str_t *name,
    int64_t now, llm_keyring_found_t *found, llm_arena_t *arena)
{
    uint32_t                    i;
    const llm_keyring_block_t  *b;

    found->good_until = INT64_MAX;

    i = llm_keyring_lookup(kr, LLM_ROW_KEY, name,
                           llm_keyring_hash(LLM_ROW_KEY, name),
                           llm_keyring_live(kr));

    if (i == 0) {
        i = llm_keyring_lookup(kr, LLM_ROW_KEY, name,
                               llm_keyring_hash(LLM_ROW_KEY, name), 0);
        if (i == 0) {
            return LLM_DECLINED;
        }

        b = llm_keyring_block(kr, i);

        if (llm_keyring_lookup_secret(kr, b->sha256, llm_keyring_live(kr))
            != 0)
        {
            return LLM_DECLINED;
        }
    }

    return llm_keyring_expand(kr, i, now, found, arena);
}


int
llm_keyring_find_team(const llm_keyring_t *kr, const llm_str_t *name,
    int64_t now, llm_team_t *team, llm_arena_t *arena)
{
    int       rc;
    int64_t   good_until;
    uint32_t  i;

    i = llm_keyring_team_of(kr, name, llm_keyring_hash(LLM_ROW_TEAM, name));

    if (i == 0) {
        return LLM_DECLINED;
    }

    good_until = INT64_MAX;

    rc = llm_keyring_expand_team(kr, i, now, team, &good_until, arena);

    if (rc == LLM_OK) {
        llm_policy_terms_of_team(&team->terms);
    }

    return rc;
}


/*
 * The file's key, else the dynamic one whose present or, until its time,
 * older secret it is, if the file knows no key of that name.
 */

static uint32_t
llm_keyring_by_secret(const llm_keyring_t *kr, const unsigned char *sha256,
    int64_t now, int64_t *good_until)
{
    uint32_t                    i, dynamic;
    int64_t                     until;
    uint8_t                     live;
    llm_str_t                   name;
    unsigned char               buf[LLM_POLICY_NAME_MAX + 2];
    const llm_keyring_block_t  *b;

    dynamic = 0;
    live = llm_keyring_live(kr);

    for (i = *llm_keyring_secrets(kr, sha256); i != 0; i = b->secret) {
        b = llm_keyring_block(kr, i);

        __builtin_prefetch(b->data);

        /* the first bytes find the place, and say nothing of the secret */

        if (memcmp(b->sha256, sha256, 8) != 0
            || !llm_keyring_same(b->sha256, sha256))
        {
            continue;
        }

        if (b->kind == LLM_KEYRING_IS_ALIAS) {
            memcpy(&until, b->data, sizeof(int64_t));

            if (until > now && dynamic == 0) {
                dynamic = b->other;
                *good_until = until;
            }

        } else if (b->flags & LLM_KEYRING_F_DYNAMIC) {
            dynamic = i;
            *good_until = INT64_MAX;

        } else if (b->gens & live) {
            *good_until = INT64_MAX;
            return i;
        }
    }

    if (dynamic == 0) {
        return 0;
    }

    b = llm_keyring_block(kr, dynamic);

    name.data = buf + 2;
    name.len = llm_keyring_name_copy(kr, b, buf) - 2;

    return llm_keyring_lookup(kr, LLM_ROW_KEY, &name, b->hash, live) == 0
           ? dynamic : 0;
}


uint32_t
llm_keyring_lookup_secret(const llm_keyring_t *kr,
    const unsigned char *sha256, uint8_t gens)
{
    uint32_t                    i;
    const llm_keyring_block_t  *b;

    for (i = *llm_keyring_secrets(kr, sha256); i != 0; i = b->secret) {
        b = llm_keyring_block(kr, i);

        if (b->kind == LLM_KEYRING_IS_KEY
            && !(b->flags & LLM_KEYRING_F_DYNAMIC)
            && (b->gens & gens)
            && llm_keyring_same(b->sha256, sha256))
        {
            return i;
        }
    }

    return 0;
}


uint32_t
llm_keyring_lookup(const llm_keyring_t *kr, llm_row_e kind,
    const llm_str_t *name, uint32_t hash, uint8_t gens)
{
    uint32_t                    i;
    const llm_keyring_block_t  *b;

    for (i = *llm_keyring_names(kr, hash); i != 0; i = b->name) {
        b = llm_keyring_block(kr, i);

        if (b->hash != hash
            || b->kind != (kind == LLM_ROW_KEY ? LLM_KEYRING_IS_KEY
                                               : LLM_KEYRING_IS_TEAM))
        {
            continue;
        }

        if (gens != 0 ? (b->gens & gens) == 0
                      : (b->flags & LLM_KEYRING_F_DYNAMIC) == 0)
        {
            continue;
        }

        if (llm_keyring_is(kr, b, name)) {
            return i;
        }
    }

    return 0;
}


static int
llm_keyring_is(const llm_keyring_t *kr, const llm_keyring_block_t *b,
    const llm_str_t *name)
{
    unsigned char  buf[LLM_POLICY_NAME_MAX + 2];

    if (b->nname != name->len + 2) {
        return 0;
    }

    if (llm_keyring_name_at(b) + b->nname <= b->data + LLM_KEYRING_FIRST) {
        return memcmp(llm_keyring_name_at(b) + 2, name->data, name->len) == 0;
    }

    (void) llm_keyring_name_copy(kr, b, buf);

    return memcmp(buf + 2, name->data, name->len) == 0;
}


/* "k:name", which may go on in the second block */

static size_t
llm_keyring_name_copy(const llm_keyring_t *kr, const llm_keyring_block_t *b,
    unsigned char *to)
{
    size_t                      n;
    const unsigned char        *p;
    const llm_keyring_block_t  *next;

    p = llm_keyring_name_at(b);
    n = (size_t) (b->data + LLM_KEYRING_FIRST - p);

    if (n >= b->nname) {
        memcpy(to, p, b->nname);
        return b->nname;
    }

    next = llm_keyring_block(kr, b->link);

    memcpy(to, p, n);
    memcpy(to + n, (const unsigned char *) next + LLM_KEYRING_BLOCK
                   - LLM_KEYRING_MORE, b->nname - n);

    return b->nname;
}


void
llm_keyring_name(const llm_keyring_t *kr, uint32_t i, char *name)
{
    size_t         n;
    unsigned char  buf[LLM_POLICY_NAME_MAX + 2];

    n = llm_keyring_name_copy(kr, llm_keyring_block(kr, i), buf) - 2;

    memcpy(name, buf + 2, n);
    name[n] = '\0';
}


/* takes the same time wherever the first difference is */

int
llm_keyring_same(const unsigned char *a, const unsigned char *b)
{
    uint64_t  x, y, diff;
    unsigned  i;

    diff = 0;

    for (i = 0; i < 32; i += 8) {
        memcpy(&x, a + i, 8);
        memcpy(&y, b + i, 8);
        diff |= x ^ y;
    }

    /* the compiler cannot know that one difference is enough */
    __asm__ __volatile__ ("" : "+r" (diff));

    return diff == 0;
}


/* the file's, else the dynamic one */

static uint32_t
llm_keyring_team_of(const llm_keyring_t *kr, const llm_str_t *team,
    uint32_t hash)
{
    uint32_t  i;

    i = llm_keyring_lookup(kr, LLM_ROW_TEAM, team, hash,
                           llm_keyring_live(kr));

    return i != 0 ? i : llm_keyring_lookup(kr, LLM_ROW_TEAM, team, hash, 0);
}


static int
llm_keyring_expand(const llm_keyring_t *kr, uint32_t i, int64_t now,
    llm_keyring_found_t *found, llm_arena_t *arena)
{
    uint32_t                    t;
    llm_key_t                  *key;
    llm_policy_row_t            row;
    const llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);
    key = &found->key;

    if (llm_keyring_row_read(kr, i, &row, &key->limit.name, arena) != LLM_OK) {
        return LLM_ERROR;
    }

    key->name = row.name;
    key->terms = row.terms;
    key->models = row.models;
    key->nmodels = row.nmodels;
    key->expires = row.expires;
    key->enabled = row.enabled;
    key->dynamic = (b->flags & LLM_KEYRING_F_DYNAMIC) != 0;
    key->version = row.version;
    key->team = NULL;

    memcpy(key->sha256, row.sha256, sizeof(key->sha256));

    if (row.team.len != 0) {
        t = llm_keyring_team_of(kr, &row.team, b->thash);

        if (t == 0) {
            key->enabled = 0;

        } else {

            if (llm_keyring_expand_team(kr, t, now, &found->team,
                                        &found->good_until, arena)
                != LLM_OK)
            {
                return LLM_ERROR;
            }

            key->team = &found->team;
        }
    }

    llm_policy_terms_of_key(&key->terms,
                            key->team != NULL ? &found->team.terms : NULL,
                            &kr->defaults[kr->state & LLM_KEYRING_LIVE]);

    if (key->team != NULL) {
        llm_policy_terms_of_team(&found->team.terms);
    }

    if (key->dynamic) {
        llm_keyring_raise(&key->terms, row.raise, now, &found->good_until);
    }

    key->limit.hash = b->hash;
    llm_policy_terms_rates(&key->limit, &key->terms);

    return LLM_OK;
}


static int
llm_keyring_expand_team(const llm_keyring_t *kr, uint32_t i, int64_t now,
    llm_team_t *team, int64_t *good_until, llm_arena_t *arena)
{
    llm_policy_row_t            row;
    const llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);

    if (llm_keyring_row_read(kr, i, &row, &team->limit.name, arena) != LLM_OK)
    {
        return LLM_ERROR;
    }

    team->name = row.name;
    team->terms = row.terms;
    team->models = row.models;
    team->nmodels = row.nmodels;

    if (b->flags & LLM_KEYRING_F_DYNAMIC) {
        llm_keyring_raise(&team->terms, row.raise, now, good_until);
    }

    team->limit.hash = b->hash;
    llm_policy_terms_rates(&team->limit, &team->terms);

    return LLM_OK;
}


static void
llm_keyring_raise(llm_terms_t *terms, const llm_raise_t *raise, int64_t now,
    int64_t *good_until)
{
    unsigned                 i;
    static const uint16_t    offset[LLM_RAISES] = {
        [LLM_RAISE_REQUESTS_PER_MINUTE] =
            offsetof(llm_terms_t, requests_per_minute),
        [LLM_RAISE_TOKENS_PER_MINUTE] =
            offsetof(llm_terms_t, tokens_per_minute),
        [LLM_RAISE_REQUESTS_PER_DAY] =
            offsetof(llm_terms_t, requests_per_day),
        [LLM_RAISE_TOKENS_PER_DAY] = offsetof(llm_terms_t, tokens_per_day),
        [LLM_RAISE_CONCURRENCY] = offsetof(llm_terms_t, concurrency),
        [LLM_RAISE_BUDGET] = offsetof(llm_terms_t, budget_micro_usd)
    };

    for (i = 0; i < LLM_RAISES; i++) {

        if (raise[i].until > now) {
            *(int64_t *) (void *) ((char *) terms + offset[i]) =
                raise[i].value;

            if (raise[i].until < *good_until) {
                *good_until = raise[i].until;
            }
        }
    }
}


int
llm_keyring_get(const llm_keyring_t *kr, llm_row_e kind,
    const llm_str_t *name, int dynamic, llm_keyring_item_t *item,
    llm_arena_t *arena)
{
    uint32_t  i, hash;

    i = 0;
    hash = llm_keyring_hash(kind, name);

    if (dynamic != 1) {
        i = llm_keyring_lookup(kr, kind, name, hash, llm_keyring_live(kr));
    }

    if (i == 0 && dynamic != 0) {
        i = llm_keyring_lookup(kr, kind, name, hash, 0);
    }

    return i != 0 ? llm_keyring_item(kr, i, item, arena) : LLM_DECLINED;
}


static int
llm_keyring_item(const llm_keyring_t *kr, uint32_t i,
    llm_keyring_item_t *item, llm_arena_t *arena)
{
    llm_str_t                   full;
    const llm_keyring_block_t  *b;

    if (llm_keyring_row_read(kr, i, &item->row, &full, arena) != LLM_OK) {
        return LLM_ERROR;
    }

    b = llm_keyring_block(kr, i);

    item->dynamic = (b->flags & LLM_KEYRING_F_DYNAMIC) != 0;
    item->shadowed = item->dynamic
                     && llm_keyring_shadowed(kr, i, &item->row);
    item->orphan = item->row.team.len != 0
                   && llm_keyring_team_of(kr, &item->row.team, b->thash) == 0;

    return LLM_OK;
}


static int
llm_keyring_shadowed(const llm_keyring_t *kr, uint32_t i,
    const llm_policy_row_t *row)
{
    uint8_t                     live;
    const llm_keyring_block_t  *b;

    b = llm_keyring_block(kr, i);
    live = llm_keyring_live(kr);

    return llm_keyring_lookup(kr, row->kind, &row->name, b->hash, live) != 0
           || (row->kind == LLM_ROW_KEY
               && llm_keyring_lookup_secret(kr, row->sha256, live) != 0);
}


/* buckets one after the other: a row's is the same whatever becomes of it */

int
llm_keyring_walk(const llm_keyring_t *kr, llm_row_e kind, unsigned what,
    uint64_t *cursor, llm_keyring_item_t *items, unsigned max, unsigned *n,
    llm_arena_t *arena)
{
    uint32_t                    i, looked;
    uint64_t                    at;
    unsigned                    first;
    const llm_keyring_block_t  *b;

    *n = 0;
    at = *cursor;

    for (looked = 0; at <= kr->mask; at++, looked++) {

        if (looked == LLM_KEYRING_STRIDE) {
            break;
        }

        first = *n;

        for (i = *llm_keyring_names(kr, (uint32_t) at); i != 0; i = b->name) {
            b = llm_keyring_block(kr, i);

            if (b->kind != (kind == LLM_ROW_KEY ? LLM_KEYRING_IS_KEY
                                                : LLM_KEYRING_IS_TEAM)
                || !llm_keyring_visible(kr, b)
                || !(what & (b->flags & LLM_KEYRING_F_DYNAMIC
                             ? LLM_KEYRING_DYNAMIC : LLM_KEYRING_OF_FILE)))
            {
                continue;
            }

            if (*n == max) {

                /* a bucket is not divided: all of it comes next time */

                if (first == 0) {
                    break;
                }

                *n = first;
                *cursor = at;

                return LLM_OK;
            }

            if (llm_keyring_item(kr, i, &items[*n], arena) != LLM_OK) {
                return LLM_ERROR;
            }

            items[(*n)++].place = at;
        }
    }

    *cursor = at > kr->mask ? 0 : at;

    return LLM_OK;
}
