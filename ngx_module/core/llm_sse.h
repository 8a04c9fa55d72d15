
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
#define LLM_SSE_NULLED    0x40     /* some name "error" has the value null:
                                      llm_sse_clean() */


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
 * The generated text of a stream's events so far, all zeros at the start:
 * content, tool arguments, refusals, reasoning.  The shape of the last event
 * is remembered, since the next one's is nearly always the same.
 */

#define LLM_SSE_HEAD  288
#define LLM_SSE_TAIL  64

typedef struct {
    size_t                bytes;            /* escapes as they are spelled */
    uint64_t              begun;            /* choices, one bit for each */
    uint64_t              finished;         /* index; the first 64         */

    unsigned              offset;           /* of the text; 0: no shape */
    unsigned short        head_len;         /* bytes in front of the text */
    unsigned short        tail_len;         /* … and behind it */
    unsigned char         lead_len;         /* … of its line before these, */
    unsigned char         rest_len;         /* its event after; 0: unknown */
    unsigned short        several;          /* set by the caller: n > 1, an
                                               event may be of any choice */
    unsigned char         tail[LLM_SSE_TAIL];      /* and then the rest */
    unsigned char         head[LLM_SSE_HEAD];
} llm_sse_text_t;


/*
 * At the front of an event: one that is whole and that differs from one before
 * by its text alone.  Adds the text and returns the length of the event, whose
 * bits are LLM_SSE_DATA; 0: it is to be found by llm_sse_next() and read by
 * llm_sse_classify(), which would come to the same.
 */

size_t llm_sse_same(const unsigned char *p, size_t len, llm_sse_text_t *text);


/*
 * What one whole event says, as LLM_SSE_* bits.  Looks for "error",
 * "finish_reason", "usage" and [DONE] by search and reads JSON only where
 * one was found or the shape is a new one.  "usage" (may be NULL) is set when
 * LLM_SSE_USAGE is; "text" (may be NULL) is added to.
 */

unsigned llm_sse_classify(llm_endpoint_e endpoint, unsigned char *event,
    size_t len, llm_usage_t *usage, llm_sse_text_t *text);


/*
 * Puts the event's data (its data: lines joined by LF) into "data": points
 * into the event if there is one line, else into the arena.  LLM_DECLINED if
 * there is none.
 */

int llm_sse_data(unsigned char *event, size_t len, llm_arena_t *arena,
    llm_str_t *data);


/* is an event's data "[DONE]"?  Blanks behind it do not matter */
int llm_sse_done(const llm_str_t *data);


/*
 * Takes "error":null out of an event's data (llm_dialect_clean()); blanks
 * behind the data take its place, so that the event keeps its length.  Data
 * in several lines stays as it is.  LLM_OK, or LLM_DECLINED: nothing changed.
 */

int llm_sse_clean(unsigned char *event, size_t len);


/*
 * What all chunks of a stream have in common, as JSON spells it (quotes
 * included); len 0: not there.  Points into the data.
 */

typedef struct {
    llm_str_t             id;
    llm_str_t             object;
    llm_str_t             created;
    llm_str_t             model;
    llm_str_t             service_tier;
    llm_str_t             fingerprint;
    int64_t               sequence;         /* responses; -1: not there */
} llm_sse_stamp_t;

/* found in one event's data; of responses inside the "response" object */
void llm_sse_stamp(llm_sse_stamp_t *st, llm_endpoint_e endpoint,
    const llm_str_t *data);


/*
 * The last events of a stream that the gateway ends for want of tokens: a
 * chunk that gives all choices of the bits "open" the finish_reason "length",
 * the usage if the client asked for it, and [DONE]; or response.incomplete.
 * "buf" has room for llm_sse_final_size() bytes.  Returns the end.
 */

size_t llm_sse_final_size(const llm_sse_stamp_t *st);

unsigned char *llm_sse_final(unsigned char *buf, llm_endpoint_e endpoint,
    const llm_sse_stamp_t *st, uint64_t open, int usage,
    int64_t prompt_tokens, int64_t completion_tokens);


#endif /* _LLM_SSE_H_INCLUDED_ */
