
/*
 * Copyright (C) the ngx-llm authors
 *
 * Durations as OpenAI writes them in x-ratelimit-reset-*: "850ms", "6m0s",
 * "1h2m3s"; above one second whole seconds, rounded up.
 */


#ifndef _LLM_DURATION_H_INCLUDED_
#define _LLM_DURATION_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_DURATION_LEN  32

/* writes into buf[LLM_DURATION_LEN], no NUL; the length */
size_t llm_duration_format(unsigned char *buf, uint64_t ms);


#endif /* _LLM_DURATION_H_INCLUDED_ */
