
/*
 * Copyright (C) the ngx-llm authors
 *
 * Reading a tree of jansson's: what every file of people has in common, and
 * the tenants file's own.
 */


#ifndef _LLM_POLICY_PARSER_H_INCLUDED_
#define _LLM_POLICY_PARSER_H_INCLUDED_


#include "core/llm_policy_private.h"

#include <jansson.h>


/* where a member may stand */

#define LLM_POLICY_DEFAULTS     0x1
#define LLM_POLICY_TEAM         0x2
#define LLM_POLICY_KEY          0x4
#define LLM_POLICY_ALL          0x7
#define LLM_POLICY_STORED       0x8        /* in a record, of either */

#define LLM_POLICY_FILE         0x100      /* how: metadata is not kept */


/* where the reader is, and where its error goes */

typedef struct {
    llm_policy_path_t     path;
    char                 *err;
    size_t                errlen;
} llm_policy_at_t;


typedef struct {
    llm_policy_row_t     *row;             /* NULL: the defaults */
    llm_terms_t          *terms;
    llm_arena_t          *arena;
    unsigned              how;
    llm_policy_at_t       at;
} llm_policy_parser_t;


typedef struct {
    const char           *name;
    unsigned              where;
    int                 (*read)(llm_policy_parser_t *ps, json_t *value,
                                size_t offset);
    size_t                offset;          /* in llm_terms_t */
} llm_policy_member_t;


/* llm_policy_member.c: LLM_ERROR with the error filled */

extern const llm_policy_member_t  llm_policy_members[];

/* llm_policy_stored.c */
extern const llm_policy_member_t  llm_policy_stored[];


/* llm_policy.c */

/*
 * The members of an object, at whose path the reader stands.  LLM_ERROR with
 * the error filled.
 */
int llm_policy_read(llm_policy_parser_t *ps, unsigned where, json_t *object,
    const char *const *others);

/* LLM_ERROR, and says that a key of a team has no weight */
int llm_policy_no_weight(llm_policy_at_t *at);

/* a copy in the arena; LLM_ERROR with the error filled */
int llm_policy_copy(llm_policy_parser_t *ps, llm_str_t *to, json_t *value);


/* llm_policy_tree.c */

/* names stand once; NULL: "err" says line and column, and shows no value */
json_t *llm_policy_load(const char *text, size_t len, char *err,
    size_t errlen);

/* the same for any value; the error stands in "je", "text" without a value */
json_t *llm_policy_load_value(const char *text, size_t len,
    json_error_t *je);

/* a member of a member, at whose path it leaves the reader */
json_t *llm_policy_part(llm_policy_at_t *at, json_t *object,
    const char *name);

/* LLM_ERROR with the error filled: not an object of these members alone */
int llm_policy_only(llm_policy_at_t *at, json_t *object,
    const char *const *names);

/* LLM_ERROR with the error filled: not an integer from min to max */
int llm_policy_range(llm_policy_at_t *at, json_t *value, int64_t min,
    int64_t max, int64_t *n);

/* LLM_ERROR, and says so */
int llm_policy_no_memory(llm_policy_at_t *at);

/* LLM_ERROR: fills the error; "got" NULL: nothing stood there */
int llm_policy_refuse(llm_policy_at_t *at, const char *expected,
    json_t *got);


#endif /* _LLM_POLICY_PARSER_H_INCLUDED_ */
