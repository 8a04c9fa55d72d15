
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the two halves of llm_sse: lines and events, and the JSON in them.
 */


#ifndef _LLM_SSE_PRIVATE_H_INCLUDED_
#define _LLM_SSE_PRIVATE_H_INCLUDED_


#include "core/llm_sse.h"


/* of an event's name or its data's "type": LLM_SSE_ERROR, LLM_SSE_DONE or 0 */
unsigned llm_sse_type(const unsigned char *p, size_t len);

/* might a line of data be more than a piece of a completion? */
int llm_sse_suspect(const unsigned char *p, const unsigned char *end);

/* reads an event: its text, its choices and, if "learn", its shape */
void llm_sse_text_read(llm_sse_text_t *text, llm_endpoint_e endpoint,
    const llm_str_t *data, int learn);

/*
 * An event of the known shape: adds its text, and gives from where to where
 * its bytes are known.  0: it is none.
 */
int llm_sse_text_same(llm_sse_text_t *text, const llm_str_t *data,
    const unsigned char **known);

/* the bits of one event whose name gave "type" */
unsigned llm_sse_chunk(llm_endpoint_e endpoint, const llm_str_t *data,
    llm_usage_t *usage, unsigned type);


#endif /* _LLM_SSE_PRIVATE_H_INCLUDED_ */
