
/*
 * Copyright (C) the ngx-llm authors
 *
 * What tokens cost: the prices file, by pattern of the model's name.
 */


#ifndef _LLM_PRICE_H_INCLUDED_
#define _LLM_PRICE_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_answer.h"


typedef struct llm_prices_s  llm_prices_t;


/* micro-dollars per million tokens */

typedef struct {
    int64_t               input;
    int64_t               cached_input;    /* as input unless given */
    int64_t               output;
    int64_t               batch_input;     /* half of it unless given */
    int64_t               batch_output;
} llm_price_t;


/*
 * {"gpt-4o*": {"input": 2.5, "cached_input": 1.25, "output": 10}, …} in
 * dollars per million tokens; "*" is the price of models that nobody named.
 * NULL: "err" says path and what was expected, or line and column.
 */
llm_prices_t *llm_prices_parse(const char *text, size_t len, char *err,
    size_t errlen);
void llm_prices_destroy(llm_prices_t *ps);

/* by its own name, else the longest pattern that fits, or NULL */
const llm_price_t *llm_prices_find(const llm_prices_t *ps,
    const llm_str_t *model);

unsigned llm_prices_count(const llm_prices_t *ps);

/* micro-dollars, rounded to the nearest; cached tokens are part of prompt */
int64_t llm_price_cost(const llm_price_t *p, int64_t prompt, int64_t cached,
    int64_t completion);

/* the tokens of an answer that so much money still buys; INT64_MAX: free */
int64_t llm_price_tokens(const llm_price_t *p, int64_t money);


#endif /* _LLM_PRICE_H_INCLUDED_ */
