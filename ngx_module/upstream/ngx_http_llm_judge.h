
/*
 * Copyright (C) the ngx-llm authors
 *
 * What became of an attempt.
 */


#ifndef _NGX_HTTP_LLM_JUDGE_H_INCLUDED_
#define _NGX_HTTP_LLM_JUDGE_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_dialect.h"


/* how an attempt ended, and whether another may help */

typedef struct {
    ngx_http_llm_attempt_e      result;
    ngx_uint_t                  status;      /* for the client */
    unsigned                    good:1;
    unsigned                    retry:1;
    unsigned                    elsewhere:1; /* rather not here again */
    unsigned                    barred:1;    /* … surely not */
    unsigned                    wrote:1;     /* the error is rewritten */
    unsigned                    own:1;       /* the error is in our words */
    const char                 *code;
    const char                 *message;
    llm_dialect_error_t         error;
} ngx_http_llm_outcome_t;


/* of an attempt of which the client has seen nothing; "an": its body */
void ngx_http_llm_judge(ngx_http_llm_ctx_t *ctx, llm_answer_t *an,
    ngx_http_llm_outcome_t *oc);

/* what a result says of the target's health */
llm_target_end_e ngx_http_llm_judge_health(ngx_http_llm_attempt_e result);

/* tokens, by the provider's own count, or LLM_TARGET_UNKNOWN */
int64_t ngx_http_llm_judge_used(const llm_usage_t *usage);


#endif /* _NGX_HTTP_LLM_JUDGE_H_INCLUDED_ */
