
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files that check a batch's lines.
 */


#ifndef _LLM_BATCH_PRIVATE_H_INCLUDED_
#define _LLM_BATCH_PRIVATE_H_INCLUDED_


#include "core/llm_batch.h"
#include "core/llm_json.h"


/* the members of a line that are read */

typedef enum {
    LLM_BATCH_NONE = 0,
    LLM_BATCH_CUSTOM_ID,
    LLM_BATCH_METHOD,
    LLM_BATCH_URL,
    LLM_BATCH_BODY,
    LLM_BATCH_BODY_MODEL,
    LLM_BATCH_BODY_STREAM,
    LLM_BATCH_MEMBERS
} llm_batch_member_e;


/* one of them as it was found, or LLM_JSON_ERROR: it was not */

typedef struct {
    llm_json_token_e      token;
    const unsigned char  *start;
    const unsigned char  *end;
    size_t                size;             /* of a string, decoded */
    int                   escaped;
} llm_batch_value_t;


typedef struct {
    llm_json_t            js;
    llm_batch_member_e    twice;            /* the first that stood twice */
    llm_batch_value_t     value[LLM_BATCH_MEMBERS];
} llm_batch_scan_t;


/* reads a whole line; NULL, or what is wrong, and js.pos is where */
const char *llm_batch_scan(llm_batch_scan_t *sc, const llm_str_t *text);

const char *llm_batch_member_name(llm_batch_member_e member);


#endif /* _LLM_BATCH_PRIVATE_H_INCLUDED_ */
