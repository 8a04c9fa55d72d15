
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where in a request the order of members, the spelling of numbers and null
 * carry a meaning.
 */


#ifndef _LLM_DIGEST_H_INCLUDED_
#define _LLM_DIGEST_H_INCLUDED_


#include "core/llm_core.h"


/* what is to become of a value; an array of a kind has elements of another */

typedef enum {
    LLM_KIND_KEEP = 0,                      /* as it is written */
    LLM_KIND_DROP,                          /* does not change the answer */
    LLM_KIND_REAL,                          /* 1 and 1.0 are the same */
    LLM_KIND_TOP,
    LLM_KIND_MESSAGES,
    LLM_KIND_MESSAGE,
    LLM_KIND_PARTS,
    LLM_KIND_PART,
    LLM_KIND_CALLS,
    LLM_KIND_CALL,
    LLM_KIND_TOOLS,
    LLM_KIND_TOOL,
    LLM_KIND_TEXT,
    LLM_KIND_FORMAT,
    LLM_KIND_CHOICE,
    LLM_KIND_FLAT,                          /* order is free at one level */
    LLM_KIND_BIAS,
    LLM_KINDS
} llm_kind_e;


/* has the order of an object's members no meaning? */
int llm_kind_sorted(llm_kind_e kind);

/* of an array's elements */
llm_kind_e llm_kind_element(llm_kind_e kind);

/* of an object's member; "null": is null the same as absent? */
llm_kind_e llm_kind_member(llm_kind_e kind, const unsigned char *name,
    size_t len, int *null);


#endif /* _LLM_DIGEST_H_INCLUDED_ */
