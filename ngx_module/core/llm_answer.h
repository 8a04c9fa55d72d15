
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the gateway needs to know of a provider's JSON body.
 */


#ifndef _LLM_ANSWER_H_INCLUDED_
#define _LLM_ANSWER_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


typedef struct {
    int64_t               prompt_tokens;      /* -1: not reported */
    int64_t               cached_tokens;
    int64_t               completion_tokens;
    int64_t               reasoning_tokens;
    int64_t               total_tokens;
} llm_usage_t;


typedef struct {
    llm_usage_t           usage;

    llm_str_t             error_message;      /* still escaped, or len 0 */
    llm_str_t             error_type;
    llm_str_t             error_code;         /* raw token: may be a number */

    unsigned              valid:1;            /* one JSON object, RFC 8259 */
    unsigned              error:1;            /* a top-level "error" that is
                                                 not null, or "object" is
                                                 "error" */
    unsigned              error_shape:1;      /* {"error":{"message": string,
                                                 "type","param","code"}} with
                                                 code a string or null */
    unsigned              complete:1;         /* chat, completions: there is a
                                                 choice and each has a
                                                 finish_reason; embeddings:
                                                 "data" is not empty;
                                                 responses: status is
                                                 "completed" */
    unsigned              error_null:1;       /* a top-level "error" is null */
} llm_answer_t;


/*
 * One pass over a whole body.  Never fails: what could not be read is not
 * valid; white space and a byte order mark in front are passed over.  Usage
 * per endpoint as the API documents it (chat: prompt_tokens …, responses:
 * input_tokens …).  "endpoint" LLM_ENDPOINTS: any.
 */

void llm_answer_scan(llm_answer_t *an, llm_endpoint_e endpoint,
    unsigned char *body, size_t len);


#endif /* _LLM_ANSWER_H_INCLUDED_ */
