
/*
 * Copyright (C) the ngx-llm authors
 *
 * From the answer to a stream: the events that a client of a stream reads as
 * the same answer.
 */


#ifndef _LLM_REPLAY_H_INCLUDED_
#define _LLM_REPLAY_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


#define LLM_REPLAY_PIECE  512              /* bytes of text of one chunk */


/*
 * "body" is a whole JSON answer of chat, completions or responses.  "events"
 * become, in the arena, what such a provider streams: for each choice its
 * role, its text and tool arguments in pieces of about LLM_REPLAY_PIECE bytes
 * (never inside an escape or a character), its logprobs beside the first
 * piece, its finish_reason; then, if "usage" is set and the answer tells it,
 * the chunk of usage (the others have "usage":null); [DONE].  Responses: the
 * documented events from response.created to response.completed, numbered,
 * without [DONE].  Members that the gateway does not know are sent once,
 * as they are spelled.
 *
 * LLM_OK; LLM_DECLINED: not an answer that can be told as a stream;
 * LLM_ERROR: no memory.
 */

int llm_replay(llm_endpoint_e endpoint, const llm_str_t *body, int usage,
    llm_arena_t *arena, llm_str_t *events);


#endif /* _LLM_REPLAY_H_INCLUDED_ */
