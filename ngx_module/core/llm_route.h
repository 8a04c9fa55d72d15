
/*
 * Copyright (C) the ngx-llm authors
 *
 * Patterns for model names.
 */


#ifndef _LLM_ROUTE_H_INCLUDED_
#define _LLM_ROUTE_H_INCLUDED_


#include "core/llm_core.h"


/* "*" stands for any run of bytes, also none; all else for itself */
int llm_route_match(const llm_str_t *pattern, const llm_str_t *model);

/* does the pattern name one model only? */
int llm_route_literal(const llm_str_t *pattern);


#endif /* _LLM_ROUTE_H_INCLUDED_ */
