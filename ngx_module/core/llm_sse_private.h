
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

/* might a line of data be more than a piece of a completion?  Bits: */

#define LLM_SSE_SUSPECT  0x100     /* or LLM_SSE_NULLED, or both */

unsigned llm_sse_suspect(const unsigned char *p, const unsigned char *end);

/*
 * Reads an event: its text, its choices and, if "learn", its shape; then
 * LLM_SSE_LEARNED, else 0.
 */

#define LLM_SSE_LEARNED  0x200

unsigned llm_sse_text_read(llm_sse_text_t *text, llm_endpoint_e endpoint,
    const llm_str_t *data, int learn);

/* the shape was learned from the only data of this whole event: all of it */
void llm_sse_text_frame(llm_sse_text_t *text, const unsigned char *event,
    size_t len, const llm_str_t *data);

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
