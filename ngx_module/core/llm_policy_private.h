
/*
 * Copyright (C) the ngx-llm authors
 *
 * Terms, errors and values, for the policy's own files.
 */


#ifndef _LLM_POLICY_PRIVATE_H_INCLUDED_
#define _LLM_POLICY_PRIVATE_H_INCLUDED_


#include "core/llm_policy.h"

#include <limits.h>


#define LLM_POLICY_NAME_MAX  64            /* + "k:" fits LLM_LEDGER_NAME */
#define LLM_POLICY_SHOW      40            /* bytes of a value in an error */
#define LLM_POLICY_TIME      32
#define LLM_POLICY_UNSET     INT_MIN       /* of a priority: -1 is one */


/* where in the file: "teams", "search", "models", with index "[2]" */

typedef struct {
    const char           *name[4];
    unsigned              depth;
    int                   index;           /* -1: none */
} llm_policy_path_t;


/* llm_policy_terms.c */

/* a key's terms: what it, its team (or NULL) and the defaults say */
void llm_policy_terms_of_key(llm_terms_t *terms, const llm_terms_t *team,
    const llm_terms_t *defaults);
/* a team's, once its keys have theirs */
void llm_policy_terms_of_team(llm_terms_t *terms);
/* what the ledger is to know, all but name and hash */
void llm_policy_terms_rates(llm_limit_t *limit, const llm_terms_t *terms);


/* llm_policy_error.c */

/* "path: expected …, got …" or, if "got" is NULL, "path: …" */
void llm_policy_error(char *err, size_t errlen, const llm_policy_path_t *path,
    const char *expected, const char *got);
/* a string of the file in quotes; its length if it is long or a secret */
void llm_policy_show(char *buf, size_t size, const char *s, size_t len);


/* llm_policy_write.c */

extern const char *const  llm_policy_raise_names[LLM_RAISES];


/* llm_policy_value.c */

/* 1 to 64 letters, digits, ".", "_", "-" */
int llm_policy_is_name(const char *s, size_t len);

/* 64 hexadecimal digits into 32 bytes */
int llm_policy_read_hex(const char *s, size_t len, unsigned char *bytes);

/* RFC 3339, 5.6, to seconds since the epoch; what is before it becomes 1 */
int llm_policy_read_stamp(const char *s, size_t len, int64_t *time);

/* … and back, "2027-01-01T00:00:00Z", with its zero; years to 9999 */
void llm_policy_show_stamp(char text[LLM_POLICY_TIME], int64_t time);


#endif /* _LLM_POLICY_PRIVATE_H_INCLUDED_ */
