
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where a stored response lies and whose it is: the record that is kept under
 * its id, and the id in what a provider sends.
 */


#ifndef _LLM_AFFINITY_H_INCLUDED_
#define _LLM_AFFINITY_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_AFFINITY_ID   256               /* longest id, bytes */
#define LLM_AFFINITY_MAX  1024              /* longest record, bytes */


typedef struct {
    llm_str_t             owner;            /* "t:team" or "k:key" */
    llm_str_t             provider;
    llm_str_t             model;            /* as the provider calls it */
} llm_affinity_t;


/* bytes of the record, at most LLM_AFFINITY_MAX; 0: it would be longer */
size_t llm_affinity_size(const llm_affinity_t *af);

/* writes llm_affinity_size() bytes */
void llm_affinity_encode(const llm_affinity_t *af, unsigned char *p);

/* "af" points into "p"; LLM_DECLINED: not what was written */
int llm_affinity_decode(llm_affinity_t *af, unsigned char *p, size_t len);


/*
 * The id in a response object, or in the event that begins its stream (there
 * it is in "response").  What follows the id may be missing.  LLM_DECLINED:
 * none of 1 to LLM_AFFINITY_ID bytes, or one that is spelled with escapes.
 */
int llm_affinity_id(unsigned char *body, size_t len, llm_str_t *id);


#endif /* _LLM_AFFINITY_H_INCLUDED_ */
