
/*
 * Copyright (C) the ngx-llm authors
 *
 * How many tokens a request will take, before anybody has counted them:
 * bytes times a ratio that each model's reported usage corrects, and for the
 * answer the cap it names or what nine of ten answers stay below.
 */


#ifndef _LLM_ESTIMATE_H_INCLUDED_
#define _LLM_ESTIMATE_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_answer.h"


typedef struct llm_estimates_s  llm_estimates_t;


/*
 * A table in memory that workers share, under their lock: rows by the hash of
 * a model's name (any good 64-bit hash), in sets of eight, of which the least
 * lately used goes for a new one.  NULL: too small (a few KB will do; 8-byte
 * aligned).
 */
llm_estimates_t *llm_estimates_create(void *mem, size_t size);


/* tokens of a prompt: its bytes, and media parts (images, sounds, files) */
int64_t llm_estimate_prompt(llm_estimates_t *es, uint64_t model,
    size_t bytes, unsigned media);

/*
 * Tokens of an answer without a cap: the P90 of what was seen, at most a
 * quarter of "limit" (0: unlimited), at least 1.
 */
int64_t llm_estimate_output(llm_estimates_t *es, uint64_t model,
    uint64_t limit);

/* tokens of so much generated text */
int64_t llm_estimate_text(llm_estimates_t *es, uint64_t model, size_t bytes);


/*
 * What really was: usage as reported (-1: not), and what it was of.  "media"
 * above 0 teaches nothing of the prompt; text_bytes 0 nothing of the answer's
 * ratio.
 */
void llm_estimate_learn(llm_estimates_t *es, uint64_t model,
    const llm_usage_t *usage, size_t prompt_bytes, unsigned media,
    size_t text_bytes);


#endif /* _LLM_ESTIMATE_H_INCLUDED_ */
