
/*
 * Copyright (C) the ngx-llm authors
 *
 * The policy: who may do what.  What is said of a team or a key, in the
 * tenants file or by the admin API, is a row; with the defaults and its team a
 * key's row becomes what a request meets.
 */


#ifndef _LLM_POLICY_H_INCLUDED_
#define _LLM_POLICY_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_ledger.h"


typedef enum {
    LLM_SCOPE_TEAM = 0,                    /* a key without team: the key */
    LLM_SCOPE_KEY,
    LLM_SCOPE_GLOBAL
} llm_scope_e;


/* -1: not given */

typedef struct {
    int64_t               requests_per_minute;
    int64_t               requests_per_day;
    int64_t               tokens_per_minute;
    int64_t               tokens_per_day;
    int64_t               burst_requests;
    int64_t               burst_tokens;
    int64_t               concurrency;
    int64_t               budget_micro_usd;
    int                   budget_month;    /* else a day */
    int                   queue_size;
    int64_t               queue_timeout;   /* ms */
    int                   queue_rates;
    int                   priority;
    int                   cache_scope;     /* llm_scope_e or -1 */
    int64_t               cache_ttl;       /* s */
    int                   cache_use;       /* takes and gives answers */
    int                   cache_skip;      /* its Cache-Control counts */
    int                   cut;             /* streams over a limit end */
    int                   clamp;           /* caps go down to what is left */
    int64_t               weight;          /* of slots that are shared */
} llm_terms_t;


typedef struct {
    llm_str_t             name;
    llm_terms_t           terms;
    llm_limit_t           limit;           /* for the ledger: "t:name" */
    llm_str_t            *models;          /* patterns; nmodels 0: any */
    unsigned              nmodels;
} llm_team_t;


typedef struct {
    llm_str_t             name;
    unsigned char         sha256[32];
    llm_terms_t           terms;           /* defaults filled in */
    llm_limit_t           limit;           /* "k:name" */
    const llm_team_t     *team;            /* NULL: none */
    llm_str_t            *models;
    unsigned              nmodels;
    int64_t               expires;         /* s since the epoch, 0: never */
    int                   enabled;
    int                   dynamic;         /* of the admin API, not the file */
    uint64_t              version;         /* then: of its row */
} llm_key_t;


/* a limit's other value, until a time */

typedef enum {
    LLM_RAISE_REQUESTS_PER_MINUTE = 0,
    LLM_RAISE_TOKENS_PER_MINUTE,
    LLM_RAISE_REQUESTS_PER_DAY,
    LLM_RAISE_TOKENS_PER_DAY,
    LLM_RAISE_CONCURRENCY,
    LLM_RAISE_BUDGET,                      /* micro-dollars */
    LLM_RAISES
} llm_raise_e;


typedef struct {
    int64_t               value;
    int64_t               until;           /* s since the epoch, 0: none */
} llm_raise_t;


typedef enum {
    LLM_ROW_TEAM = 0,
    LLM_ROW_KEY
} llm_row_e;


/*
 * A team or a key as somebody wrote it down, without what others fill in.
 * The strings belong to whoever filled the row (its arena, the file's text).
 */

typedef struct {
    llm_row_e             kind;
    llm_str_t             name;            /* without "k:" or "t:" */
    llm_terms_t           terms;           /* its own: see terms_clear() */
    llm_str_t            *models;          /* patterns */
    unsigned              nmodels;

    /* keys alone */

    llm_str_t             team;            /* its name, empty: none */
    unsigned char         sha256[32];
    int64_t               expires;         /* s since the epoch, 0: never */
    int                   enabled;

    /* what the tenants file does not keep */

    llm_str_t             metadata;        /* a JSON object, empty: none */
    llm_str_t             hint;            /* of the secret, for people */
    int64_t               created;         /* s since the epoch, 0: unknown */
    uint64_t              version;         /* grows with each change */
    unsigned char         old_sha256[32];  /* works until … */
    int64_t               old_until;       /* s since the epoch, 0: none */
    llm_raise_t           raise[LLM_RAISES];
} llm_policy_row_t;


#define LLM_POLICY_METADATA  1024          /* bytes of it as JSON */
#define LLM_POLICY_HINT      16


/* how a row is read and written */

#define LLM_POLICY_PATCH     0x1           /* null takes a member away */
#define LLM_POLICY_RECORD    0x2           /* with what the file does not have:
                                              "created", "version", "hint",
                                              "rotation", "raises" and, of a
                                              key, "sha256" */


/* nothing is said: no terms, no strings, enabled */
void llm_policy_row_clear(llm_policy_row_t *row, llm_row_e kind);

/*
 * Reads members of a team or a key into "row", which is clear or, for a
 * patch, what there was.  The text is a JSON object with members as in the
 * tenants file; those named in "others" (up to a NULL; NULL: none) are the
 * caller's own and passed over.  Strings come to lie in the arena.
 * LLM_ERROR: "err" says path, what was expected and what stood there, or line
 * and column of a syntax error; the row is as far as it was read.  *path, if
 * not NULL, is then where in "err" the path ends (0: there is none).
 * Whether the team exists is the caller's question.
 */
int llm_policy_row_parse(llm_policy_row_t *row, const char *text, size_t len,
    unsigned how, const char *const *others, llm_arena_t *arena, char *err,
    size_t errlen, size_t *path);

/*
 * The row's own members as JSON, comma between them, without braces, in "buf"
 * if they fit; their length without a final zero, which is not written.  No
 * name.  With LLM_POLICY_RECORD it is all that the row has, which
 * llm_policy_row_parse() reads back.
 */
size_t llm_policy_row_write(const llm_policy_row_t *row, unsigned how,
    char *buf, size_t size);

/* nothing is said: -1 (a priority: INT_MIN) */
void llm_policy_terms_clear(llm_terms_t *terms);

/* of a limit's name, the same in every gateway and build */
uint32_t llm_policy_hash(const llm_str_t *name);

/* may this key use this model? by the key's and its team's patterns */
int llm_policy_allows(const llm_key_t *key, const llm_str_t *model);


#endif /* _LLM_POLICY_H_INCLUDED_ */
