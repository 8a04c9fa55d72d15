
/*
 * Copyright (C) the ngx-llm authors
 *
 * The policy's tables, for the policy's own files.
 */


#ifndef _LLM_POLICY_PRIVATE_H_INCLUDED_
#define _LLM_POLICY_PRIVATE_H_INCLUDED_


#include "core/llm_policy.h"

#include <limits.h>


#define LLM_POLICY_NONE      UINT32_MAX
#define LLM_POLICY_NAME_MAX  64            /* + "k:" fits LLM_LEDGER_NAME */
#define LLM_POLICY_SHOW      40            /* bytes of a value in an error */
#define LLM_POLICY_UNSET     INT_MIN       /* of a priority: -1 is one */


/*
 * One block of memory holds it all: this, the arrays, the indices (powers of
 * two, at most half full) and the text that the names and patterns point to.
 */

struct llm_policy_s {
    llm_team_t           *teams;
    llm_key_t            *keys;
    llm_str_t            *patterns;
    uint32_t             *secrets;         /* keys by the hash of a secret */
    uint32_t             *names;           /* teams by name */
    uint32_t              secrets_mask;
    uint32_t              names_mask;
    unsigned              nteams;
    unsigned              nkeys;
    void                (*free)(void *p);
};


/* where in the file: "teams", "search", "models", with index "[2]" */

typedef struct {
    const char           *name[4];
    unsigned              depth;
    int                   index;           /* -1: none */
} llm_policy_path_t;


/* llm_policy_table.c */

/* an empty policy with room; the text is behind it, NULL: no memory */
llm_policy_t *llm_policy_create(size_t nteams, size_t nkeys, size_t npatterns,
    size_t ntext, unsigned char **text, void *(*alloc)(size_t size),
    void (*free)(void *p));


/* by name without "t:"; NULL: there is none */
const llm_team_t *llm_policy_team_find(const llm_policy_t *p,
    const char *name, size_t len);
void llm_policy_team_add(llm_policy_t *p, unsigned i);

/* NULL, or the key that has the same secret */
const llm_key_t *llm_policy_secret_add(llm_policy_t *p, unsigned i);


/* llm_policy_terms.c */

void llm_policy_terms_clear(llm_terms_t *terms);
/* a key's terms: what it, its team (or NULL) and the defaults say */
void llm_policy_terms_of_key(llm_terms_t *terms, const llm_terms_t *team,
    const llm_terms_t *defaults);
/* a team's, once its keys have theirs */
void llm_policy_terms_of_team(llm_terms_t *terms);
/* what the ledger is to know; the name is set already */
void llm_policy_terms_limit(llm_limit_t *limit, const llm_terms_t *terms);


/* llm_policy_error.c */

/* "path: expected …, got …" or, if "got" is NULL, "path: …" */
void llm_policy_error(char *err, size_t errlen, const llm_policy_path_t *path,
    const char *expected, const char *got);
/* a string of the file in quotes; its length if it is long or a secret */
void llm_policy_show(char *buf, size_t size, const char *s, size_t len);


/* llm_policy_value.c */

/* 1 to 64 letters, digits, ".", "_", "-" */
int llm_policy_is_name(const char *s, size_t len);

/* 64 hexadecimal digits into 32 bytes */
int llm_policy_read_hex(const char *s, size_t len, unsigned char *bytes);

/* RFC 3339, 5.6, to seconds since the epoch; what is before it becomes 1 */
int llm_policy_read_time(const char *s, size_t len, int64_t *time);


#endif /* _LLM_POLICY_PRIVATE_H_INCLUDED_ */
