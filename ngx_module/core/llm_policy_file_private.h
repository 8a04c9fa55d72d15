
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the reader of a tenants file.
 */


#ifndef _LLM_POLICY_FILE_PRIVATE_H_INCLUDED_
#define _LLM_POLICY_FILE_PRIVATE_H_INCLUDED_


#include "core/llm_keyring.h"
#include "core/llm_policy_file.h"
#include "core/llm_policy_parser.h"

#include <stdio.h>
#include <string.h>


/* members of the root, in the order in which they are handed out */

enum {
    LLM_FILE_OF_DEFAULTS = 0,
    LLM_FILE_OF_TEAMS,
    LLM_FILE_OF_KEYS,
    LLM_FILE_OF_OTHERS
};


#define LLM_FILE_AROUND  (64 * 1024)      /* that an error is sought in */
#define LLM_FILE_BEHIND  4096


extern const char *const  llm_file_names[];


/* llm_policy_file.c */

/* up to here all is right, and what follows is so deep in objects */
void llm_file_clean(llm_policy_file_t *f, int first);

/* llm_policy_file_rows.c */

/* goes to the first of these rows, if there is a place for them */
int llm_file_begin(llm_policy_file_t *f, unsigned which, char *err,
    size_t errlen);
/* LLM_ERROR, and says so; "name" NULL: the root itself */
int llm_file_no_object(llm_policy_file_t *f, size_t begin, size_t end,
    const char *name, char *err, size_t errlen);
int llm_file_defaults(llm_policy_file_t *f, char *err, size_t errlen);
int llm_file_rows(llm_policy_file_t *f, size_t bytes, unsigned which,
    char *err, size_t errlen);

/* llm_policy_file_place.c */

/* the tree of a value between these places; NULL: the error is filled */
json_t *llm_file_load(llm_policy_file_t *f, size_t begin, size_t end,
    char *err, size_t errlen);
/* LLM_ERROR: what the library says of the text from f->clean on */
int llm_file_syntax(llm_policy_file_t *f, char *err, size_t errlen);
/* behind the token that was read last */
size_t llm_file_end(const llm_policy_file_t *f);
/* goes on to "pos", counting */
void llm_file_move(const llm_policy_file_t *f, llm_policy_place_t *place,
    size_t pos);
/* LLM_ERROR, and where */
int llm_file_error(const llm_policy_place_t *place, const char *what,
    char *err, size_t errlen);


#endif /* _LLM_POLICY_FILE_PRIVATE_H_INCLUDED_ */
