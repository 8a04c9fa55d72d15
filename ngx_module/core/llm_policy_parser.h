
/*
 * Copyright (C) the ngx-llm authors
 *
 * Reading the tenants file's tree, for the policy's files that see jansson.
 */


#ifndef _LLM_POLICY_PARSER_H_INCLUDED_
#define _LLM_POLICY_PARSER_H_INCLUDED_


#include "core/llm_policy_private.h"

#include <jansson.h>


#define LLM_POLICY_DEFAULTS     0x1        /* where a member may stand */
#define LLM_POLICY_TEAM         0x2
#define LLM_POLICY_KEY          0x4
#define LLM_POLICY_ALL          0x7


typedef struct {
    llm_policy_t         *policy;
    llm_str_t            *pattern;         /* the next to be used */
    unsigned char        *text;

    llm_terms_t           defaults;
    llm_terms_t          *terms;           /* being read */
    llm_key_t            *key;             /* NULL: it is not a key */
    llm_team_t           *team;

    llm_policy_path_t     path;
    char                 *err;
    size_t                errlen;
} llm_policy_parser_t;


typedef struct {
    const char           *name;
    unsigned              where;
    int                 (*read)(llm_policy_parser_t *ps, json_t *value,
                                size_t offset);
    size_t                offset;          /* in llm_terms_t */
} llm_policy_member_t;


/* llm_policy_member.c: LLM_ERROR with the parser's error filled */

extern const llm_policy_member_t  llm_policy_members[];

int llm_policy_only(llm_policy_parser_t *ps, json_t *object,
    const char *const *names);
int llm_policy_refuse(llm_policy_parser_t *ps, const char *expected,
    json_t *got);


#endif /* _LLM_POLICY_PARSER_H_INCLUDED_ */
