
/*
 * Copyright (C) the ngx-llm authors
 *
 * Tenants files for the tests of the policy.
 */


#ifndef _POLICY_PARSE_H_INCLUDED_
#define _POLICY_PARSE_H_INCLUDED_


#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/llm_keyring.h"
#include "core/llm_policy_file.h"


#define HEX   "00112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"
#define HEX1  "10112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543210"
#define HEX2  "00112233445566778899aabbccddeeff"                             \
              "0123456789ABCDEFfedcba9876543211"


static char  err[512];


/* a tenants file in a keyring, and its rows as requests meet them */

typedef struct {
    llm_keyring_t        *kr;
    uint64_t              ticket;
    unsigned char        *scratch;
    unsigned              nkeys;
    unsigned              nteams;
    llm_keyring_found_t  *keys;            /* in the order of the file */
    llm_team_t           *teams;
    llm_str_t            *names[2];
    llm_arena_t           arena;
    void                 *blocks[4096];
    unsigned              nblocks;
} llm_policy_t;


static size_t  slice = 64;


static void *
more(void *data, size_t size)
{
    llm_policy_t  *p = data;

    p->blocks[p->nblocks] = malloc(size);

    return p->blocks[p->nblocks++];
}


static int
sink_defaults(void *data, const llm_terms_t *terms)
{
    llm_policy_t  *p = data;

    return llm_keyring_load_defaults(p->kr, p->ticket, terms);
}


static int
sink_row(void *data, const llm_policy_row_t *row, char *other)
{
    int            rc;
    unsigned      *n;
    llm_policy_t  *p = data;

    rc = llm_keyring_load(p->kr, p->ticket, row, other);

    if (rc == LLM_OK) {
        n = row->kind == LLM_ROW_KEY ? &p->nkeys : &p->nteams;

        p->names[row->kind] = realloc(p->names[row->kind],
                                      (*n + 1) * sizeof(llm_str_t));
        p->names[row->kind][*n].len = row->name.len;
        p->names[row->kind][*n].data = malloc(row->name.len);
        memcpy(p->names[row->kind][(*n)++].data, row->name.data,
               row->name.len);
    }

    return rc;
}


static void
llm_policy_destroy(llm_policy_t *p)
{
    unsigned  i;

    if (p == NULL) {
        return;
    }

    for (i = 0; i < p->nblocks; i++) {
        free(p->blocks[i]);
    }

    for (i = 0; i < p->nkeys; i++) {
        free(p->names[LLM_ROW_KEY][i].data);
    }

    for (i = 0; i < p->nteams; i++) {
        free(p->names[LLM_ROW_TEAM][i].data);
    }

    free(p->names[0]);
    free(p->names[1]);
    free(p->keys);
    free(p->teams);
    free(p->kr);
    free(p->scratch);
    free(p);
}


static llm_policy_t *
llm_policy_parse(const char *text, size_t len, char *error, size_t errlen)
{
    int                 rc;
    size_t              size;
    unsigned            i;
    llm_policy_t       *p;
    llm_policy_file_t   f;
    llm_policy_sink_t   sink;

    p = calloc(1, sizeof(llm_policy_t));
    size = (LLM_KEYRING_MIN + 4 * len) & ~(size_t) 127;
    p->kr = llm_keyring_create(aligned_alloc(128, size), size);
    p->scratch = malloc(LLM_POLICY_FILE_SCRATCH);
    p->arena.left = SIZE_MAX;
    p->arena.alloc = more;
    p->arena.data = p;

    (void) llm_keyring_begin(p->kr, &p->ticket);

    sink.data = p;
    sink.defaults = sink_defaults;
    sink.row = sink_row;

    llm_policy_file_init(&f, text, len, p->scratch, &sink);

    do {
        rc = llm_policy_file_step(&f, slice, error, errlen);
    } while (rc == LLM_AGAIN);

    if (rc != LLM_OK || llm_keyring_end(p->kr, p->ticket) != LLM_OK) {
        llm_policy_destroy(p);
        return NULL;
    }

    p->keys = calloc(p->nkeys + 1, sizeof(llm_keyring_found_t));
    p->teams = calloc(p->nteams + 1, sizeof(llm_team_t));

    for (i = 0; i < p->nkeys; i++) {
        if (llm_keyring_find_name(p->kr, &p->names[LLM_ROW_KEY][i], 0,
                                  &p->keys[i], &p->arena)
            != LLM_OK)
        {
            abort();
        }
    }

    for (i = 0; i < p->nteams; i++) {
        if (llm_keyring_find_team(p->kr, &p->names[LLM_ROW_TEAM][i], 0,
                                  &p->teams[i], &p->arena)
            != LLM_OK)
        {
            abort();
        }
    }

    return p;
}


static inline unsigned
llm_policy_keys(const llm_policy_t *p)
{
    return p->nkeys;
}


static inline unsigned
llm_policy_teams(const llm_policy_t *p)
{
    return p->nteams;
}


static inline const llm_key_t *
llm_policy_key(const llm_policy_t *p, unsigned i)
{
    return i < p->nkeys ? &p->keys[i].key : NULL;
}


static inline const llm_team_t *
llm_policy_team(const llm_policy_t *p, unsigned i)
{
    return i < p->nteams ? &p->teams[i] : NULL;
}


/* the one of these keys that is found */

static inline const llm_key_t *
llm_policy_find(llm_policy_t *p, const unsigned char *sha256)
{
    unsigned             i;
    llm_keyring_found_t  found;

    if (llm_keyring_find(p->kr, sha256, 0, &found, &p->arena) != LLM_OK) {
        return NULL;
    }

    for (i = 0; i < p->nkeys; i++) {
        if (found.key.name.len == p->names[LLM_ROW_KEY][i].len
            && memcmp(found.key.name.data, p->names[LLM_ROW_KEY][i].data,
                      found.key.name.len) == 0)
        {
            return &p->keys[i].key;
        }
    }

    abort();
}


static llm_policy_t *
parse(const char *text)
{
    size_t         len;
    char          *copy;
    llm_policy_t  *p;

    /* a copy of the exact length, so that a byte too far is seen */

    len = strlen(text);
    copy = malloc(len + 1);
    memcpy(copy, text, len);

    err[0] = '\0';
    p = llm_policy_parse(copy, len, err, sizeof(err));

    free(copy);

    return p;
}


#endif /* _POLICY_PARSE_H_INCLUDED_ */
