
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the parts of llm_sse: lines and events, the JSON in them, and what
 * of it is text.
 */


#ifndef _LLM_SSE_PRIVATE_H_INCLUDED_
#define _LLM_SSE_PRIVATE_H_INCLUDED_


#include "core/llm_sse.h"
#include "core/llm_json_inline.h"


/* of an event's name or its data's "type": LLM_SSE_ERROR, LLM_SSE_DONE or 0 */
unsigned llm_sse_type(const unsigned char *p, size_t len);

/* might a line of data be more than a piece of a completion?  Bits: */

#define LLM_SSE_SUSPECT  0x100     /* or LLM_SSE_NULLED, or both */

unsigned llm_sse_suspect(const unsigned char *p, const unsigned char *end);

/* one event's JSON, read once for all that is asked of it */

typedef struct {
    llm_json_t            js;
    llm_endpoint_e        endpoint;
    unsigned              bits;             /* at first of its name */

    llm_sse_text_t       *text;             /* to be added to; or NULL */
    const unsigned char  *start;            /* of the only text, */
    const unsigned char  *end;
    const unsigned char  *last;             /* … and of what belongs to it */
    unsigned              texts;            /* that are not empty */
    unsigned              choices;

    unsigned              telling:1;        /* bits are asked for */
    unsigned              learned:1;        /* its shape, for the next one */
    unsigned              usage:1;          /* there may be one */
} llm_sse_reader_t;


#define llm_sse_is(rd, s)  llm_json_same(&(rd)->js, s, sizeof(s) - 1)


/*
 * Reads an event.  The bits, LLM_SSE_ERROR at most if its JSON is broken.
 * "usage" may be NULL.
 */
unsigned llm_sse_read(llm_sse_reader_t *rd, const llm_str_t *data,
    llm_usage_t *usage);

/* behind a name of its object: to the end of the value; LLM_ERROR: broken */
int llm_sse_member(llm_sse_reader_t *rd);
int llm_sse_text_member(llm_sse_reader_t *rd);

/* the same behind the first token of the value */
int llm_sse_value(llm_sse_reader_t *rd, llm_json_token_e token);

/* the text of an event of Responses, which has it elsewhere */
void llm_sse_text_delta(llm_sse_reader_t *rd, const llm_str_t *data);

/* is the shape of the event that was read one to be known again? then it is */
int llm_sse_text_learn(llm_sse_reader_t *rd, const llm_str_t *data);

/* the shape was learned from the only data of this whole event: all of it */
void llm_sse_text_frame(llm_sse_text_t *text, const unsigned char *event,
    size_t len, const llm_str_t *data);

/*
 * An event of the known shape: adds its text, and gives from where to where
 * its bytes are known.  0: it is none.
 */
int llm_sse_text_same(llm_sse_text_t *text, const llm_str_t *data,
    const unsigned char **known);


#endif /* _LLM_SSE_PRIVATE_H_INCLUDED_ */
