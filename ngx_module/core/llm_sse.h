
/*
 * Copyright (C) the ngx-llm authors
 *
 * Server-sent events (WHATWG HTML, 9.2.6) as they come from a provider: where
 * an event ends, and what it means for a completion.
 */


#ifndef _LLM_SSE_H_INCLUDED_
#define _LLM_SSE_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"
#include "core/llm_answer.h"


#define LLM_SSE_DATA      0x01     /* has data: not only comments or blanks */
#define LLM_SSE_ERROR     0x02     /* an error object, or event: error,
                                      response.failed */
#define LLM_SSE_DONE      0x04     /* [DONE], response.completed/incomplete:
                                      nothing more is to come */
#define LLM_SSE_FINISH    0x08     /* some choice got its finish_reason */
#define LLM_SSE_USAGE     0x10     /* carries usage that is not null */
#define LLM_SSE_USAGE_ONLY  0x20   /* and no choice: the chunk that is sent
                                      for stream_options.include_usage */


/*
 * Length of the first whole event in p[0..len), its blank line included, or
 * 0 while it is not whole.  LF, CRLF and CR end a line; a stream may change
 * its mind.  "*scan" starts at 0 and remembers, for the same p[0], how far
 * the search came, so that bytes that trickle in are looked at once; set it
 * back to 0 behind a whole event.  A line feed whose carriage return ended
 * the event before is a blank line at the front of the next: blank lines and
 * comment lines in front of an event belong to it.  A comment and its blank
 * line make an event of their own (without LLM_SSE_DATA).
 */

size_t llm_sse_next(const unsigned char *p, size_t len, size_t *scan);


/*
 * What one whole event says, as LLM_SSE_* bits.  Looks for "error",
 * "finish_reason", "usage" and [DONE] by search and reads JSON only where
 * one was found.  "usage" (may be NULL) is set when LLM_SSE_USAGE is.
 */

unsigned llm_sse_classify(llm_endpoint_e endpoint, unsigned char *event,
    size_t len, llm_usage_t *usage);


/*
 * Puts the event's data (its data: lines joined by LF) into "data": points
 * into the event if there is one line, else into the arena.  LLM_DECLINED if
 * there is none.
 */

int llm_sse_data(unsigned char *event, size_t len, llm_arena_t *arena,
    llm_str_t *data);


#endif /* _LLM_SSE_H_INCLUDED_ */
