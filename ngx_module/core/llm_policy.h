
/*
 * Copyright (C) the ngx-llm authors
 *
 * The tenants file: an immutable picture of who may do what.
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
} llm_key_t;


typedef struct llm_policy_s  llm_policy_t;


/*
 * Reads a tenants file.  NULL: "err" says path, what was expected and what
 * stood there, or line and column of a syntax error.  Every byte belongs to
 * the policy; free it with llm_policy_destroy().
 */
llm_policy_t *llm_policy_parse(const char *text, size_t len, char *err,
    size_t errlen);

void llm_policy_destroy(llm_policy_t *p);

/* by the SHA-256 of the secret; the last comparison takes constant time */
const llm_key_t *llm_policy_find(const llm_policy_t *p,
    const unsigned char sha256[32]);

const llm_key_t *llm_policy_key(const llm_policy_t *p, unsigned i);
const llm_team_t *llm_policy_team(const llm_policy_t *p, unsigned i);
unsigned llm_policy_keys(const llm_policy_t *p);
unsigned llm_policy_teams(const llm_policy_t *p);

/* of a limit's name, the same in every gateway and build */
uint32_t llm_policy_hash(const llm_str_t *name);

/* may this key use this model? by the key's and its team's patterns */
int llm_policy_allows(const llm_key_t *key, const llm_str_t *model);


#endif /* _LLM_POLICY_H_INCLUDED_ */
