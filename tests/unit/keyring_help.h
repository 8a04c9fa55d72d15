
/*
 * Copyright (C) the ngx-llm authors
 *
 * Keyrings for tests, and what must always be true of one.
 */


#ifndef _KEYRING_HELP_H_INCLUDED_
#define _KEYRING_HELP_H_INCLUDED_


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_keyring_private.h"


static unsigned char  room[256 * 1024];
static llm_arena_t    arena;


static inline llm_arena_t *
fresh_arena(void)
{
    memset(&arena, 0, sizeof(llm_arena_t));
    arena.pos = room;
    arena.end = room + sizeof(room);

    return &arena;
}


static inline llm_str_t
str(const char *s)
{
    llm_str_t  t;

    t.data = (unsigned char *) s;
    t.len = strlen(s);

    return t;
}


/* a secret's digest: any bytes, in one of few buckets if "n" is small */

static inline void
secret(unsigned char *sha256, unsigned n)
{
    memset(sha256, 0, 32);
    memcpy(sha256, &n, sizeof(n));
    sha256[31] = (unsigned char) (n * 7);
}


static inline llm_policy_row_t
key_row(const char *name, const char *team, unsigned n, uint64_t version)
{
    llm_policy_row_t  row;

    llm_policy_row_clear(&row, LLM_ROW_KEY);
    row.name = str(name);
    row.team = str(team);
    row.version = version;
    secret(row.sha256, n);

    return row;
}


static inline llm_policy_row_t
team_row(const char *name, uint64_t version)
{
    llm_policy_row_t  row;

    llm_policy_row_clear(&row, LLM_ROW_TEAM);
    row.name = str(name);
    row.version = version;

    return row;
}


/* NULL, or what is wrong: all of the table is looked at */

static inline const char *
keyring_wrong(const llm_keyring_t *kr)
{
    uint32_t                    i, k, n, used, linked, heads, dynamic[2];
    const llm_keyring_block_t  *b;

    used = 0;
    heads = 0;
    linked = 0;
    dynamic[0] = 0;
    dynamic[1] = 0;

    for (i = kr->free, n = 0; i != 0; n++) {
        b = llm_keyring_block(kr, i);

        if (n > kr->size || i >= kr->fresh || b->kind != LLM_KEYRING_IS_FREE) {
            return "the list of free blocks";
        }

        i = b->link;
    }

    if (n != kr->fresh - 1 - kr->used) {
        return "the number of free blocks";
    }

    for (i = 1; i < kr->fresh; i++) {
        b = llm_keyring_block(kr, i);

        if (b->kind == LLM_KEYRING_IS_FREE) {
            continue;
        }

        used++;

        if (b->kind == LLM_KEYRING_IS_MORE) {
            continue;
        }

        heads += b->kind != LLM_KEYRING_IS_ALIAS;
        heads += b->kind != LLM_KEYRING_IS_TEAM;

        if (b->kind != LLM_KEYRING_IS_ALIAS
            && (b->flags & LLM_KEYRING_F_DYNAMIC))
        {
            dynamic[b->kind == LLM_KEYRING_IS_KEY]++;
        }

        if (b->kind == LLM_KEYRING_IS_ALIAS
            && llm_keyring_block(kr, b->other)->other != i)
        {
            return "an alias without its key";
        }

        k = i;

        for (n = 1; n < llm_keyring_need(b->len); n++) {
            k = llm_keyring_block(kr, k)->link;

            if (k == 0
                || llm_keyring_block(kr, k)->kind != LLM_KEYRING_IS_MORE)
            {
                return "a row's chain";
            }
        }

        if (llm_keyring_block(kr, k)->link != 0) {
            return "a row's end";
        }
    }

    if (used != kr->used) {
        return "the number of used blocks";
    }

    if (dynamic[0] != kr->dynamic[0] || dynamic[1] != kr->dynamic[1]) {
        return "the number of dynamic rows";
    }

    for (n = 0; n <= kr->mask; n++) {

        for (i = *llm_keyring_names(kr, n); i != 0; i = b->name) {
            b = llm_keyring_block(kr, i);

            if ((b->kind != LLM_KEYRING_IS_KEY
                 && b->kind != LLM_KEYRING_IS_TEAM)
                || (b->hash & kr->mask) != n || ++linked > heads)
            {
                return "a bucket of names";
            }
        }

        for (i = ((uint32_t *) (void *) ((unsigned char *) kr
                                         + kr->secrets))[n];
             i != 0;
             i = b->secret)
        {
            b = llm_keyring_block(kr, i);

            if ((b->kind != LLM_KEYRING_IS_KEY
                 && b->kind != LLM_KEYRING_IS_ALIAS)
                || ++linked > heads)
            {
                return "a bucket of secrets";
            }
        }
    }

    return linked == heads ? NULL : "a row that is not linked";
}


/* a number that tells all that can be seen */

static inline uint64_t
keyring_sum(const llm_keyring_t *kr)
{
    char                 text[8192];
    size_t               n, k;
    uint64_t             sum, one, cursor;
    unsigned             i, got, kind;
    llm_keyring_item_t   items[LLM_KEYRING_PAGE];

    sum = 0;

    for (kind = LLM_ROW_TEAM; kind <= LLM_ROW_KEY; kind++) {
        cursor = 0;

        do {
            if (llm_keyring_walk(kr, kind, LLM_KEYRING_ALL, &cursor, items,
                                 LLM_KEYRING_PAGE, &got, fresh_arena())
                != LLM_OK)
            {
                abort();
            }

            for (i = 0; i < got; i++) {
                n = llm_policy_row_write(&items[i].row, LLM_POLICY_RECORD,
                                         text, sizeof(text) - 128);
                n += (size_t) snprintf(text + n, 128, "%.*s%d%d%d",
                                       (int) items[i].row.name.len,
                                       items[i].row.name.data,
                                       items[i].dynamic, items[i].shadowed,
                                       items[i].orphan);
                one = 14695981039346656037u + kind;

                for (k = 0; k < n; k++) {
                    one = (one ^ (unsigned char) text[k]) * 1099511628211u;
                }

                sum += one * (one >> 32 | 1);
            }

        } while (cursor != 0);
    }

    return sum + llm_keyring_loaded(kr);
}


#endif /* _KEYRING_HELP_H_INCLUDED_ */
