
/*
 * Copyright (C) the ngx-llm authors
 *
 * From a stream to the answer: the JSON body that the provider would have
 * sent without "stream", put together from its events.
 */


#ifndef _LLM_GATHER_H_INCLUDED_
#define _LLM_GATHER_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_answer.h"


/*
 * "events" are all events of one stream, whole and in order, as a provider
 * sent them; nothing behind the last event.  "body" becomes one line of JSON,
 * in the arena or, of responses, in the events.
 *
 * Chat and completions: deltas are merged as the official clients merge them
 * (strings joined, tool calls by index, logprobs joined, what is sent once
 * kept as spelled); what a provider adds to chunks and deltas is kept, padding
 * ("obfuscation") is not.  Responses: the object of the last event.
 *
 * LLM_OK: whole, and "usage" is set; LLM_DECLINED: not an answer that may be
 * kept (broken off, no finish_reason for some choice, an error event, events
 * that do not fit together); LLM_ERROR: no memory.  The result does not
 * depend on line ends, comments or on how data lines were split.
 */

int llm_gather(llm_endpoint_e endpoint, unsigned char *events, size_t len,
    llm_arena_t *arena, llm_str_t *body, llm_usage_t *usage);


#endif /* _LLM_GATHER_H_INCLUDED_ */
