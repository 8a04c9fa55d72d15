
/*
 * Copyright (C) the ngx-llm authors
 *
 * What providers say in their own way, in the API's shape.
 */


#ifndef _LLM_DIALECT_H_INCLUDED_
#define _LLM_DIALECT_H_INCLUDED_


#include "core/llm_core.h"


/* an error, as some provider worded it; len 0: not told */

typedef struct {
    llm_str_t             message;          /* JSON, escaped, without quotes */
    llm_str_t             type;             /* the same */
    llm_str_t             code;             /* the same; numbers as text */
    llm_str_t             param;            /* the same */
    int64_t               wait;             /* ms it asks us to wait, in the
                                               body; -1: it does not */
    unsigned              known:1;          /* some known shape */
    unsigned              right:1;          /* the API's own, whole: nothing
                                               to do behind the blanks */
    unsigned              quota:1;          /* money or credit is spent: no
                                               waiting helps */
    unsigned              context:1;        /* the prompt is too long for the
                                               model */
    unsigned              filtered:1;       /* content filter */
} llm_dialect_error_t;


/*
 * Reads an error's body (or the data of an error event): the API's shape,
 * integer codes (vLLM, llama.cpp, OpenRouter), Azure's without type and param,
 * {"error": "text"} (Ollama), an array around it (Gemini, with RetryInfo),
 * the bare object (Mistral), {"message"}, {"detail": text or list} (FastAPI),
 * {"statusCode","message"}, text or HTML, nothing at all.  White space and a
 * byte order mark in front do not matter, nor does an end that is missing; 64
 * KB are looked at.  "status" is the answer's, 200 for an event.  Points into
 * the body.  quota: by code, by 402, or by words; words do not count where the
 * body says how long to wait (Gemini has the same ones for its rates).
 */
void llm_dialect_error(llm_dialect_error_t *e, unsigned status,
    unsigned char *body, size_t len);

/*
 * The same in the API's shape, for a client: {"error":{"message","type",
 * "param","code"}}, "size" from llm_dialect_size().  Returns the end.
 * "status" is the provider's own (below 400: an event, or a good answer that
 * was none), which says the type and the message if nothing was told.  A code
 * that is not told, or is a number, gives way to insufficient_quota,
 * context_length_exceeded or content_filter if that is meant.
 */
size_t llm_dialect_size(const llm_dialect_error_t *e);
unsigned char *llm_dialect_write(const llm_dialect_error_t *e,
    unsigned status, unsigned char *p);

/* the status that a client should see: 529 is 503, 402 is 429, 52x and 499 is
   502; 413 with a rate limit stays 413; below 400 the code, if it is such a
   number, or 502 */
unsigned llm_dialect_status(const llm_dialect_error_t *e, unsigned status);

/*
 * Events and bodies of 200 answers: takes "error":null out of an object (an
 * event's data, or a JSON body), in place, top level only; some clients take
 * it for an error.  Returns the new length.
 */
size_t llm_dialect_clean(unsigned char *p, size_t len);

/* bytes of white space and byte order mark in front of a JSON body */
size_t llm_dialect_blank(const unsigned char *p, size_t len);


/*
 * A header that tells of the provider's limits: x-ratelimit-{limit,remaining,
 * reset}-{requests,tokens} and their kin (azure, anthropic-ratelimit-*,
 * x-ratelimit-limit-req-minute …).  "name" in lower case.  *tokens: 1 of
 * tokens, 0 of requests; not set for NOTHING.  Limits of a day or an hour
 * beside those of a minute, of input or of a project are NOTHING.
 */

typedef enum {
    LLM_DIALECT_LIMIT = 0,
    LLM_DIALECT_REMAINING,
    LLM_DIALECT_RESET,
    LLM_DIALECT_NOTHING                     /* no such header */
} llm_dialect_header_e;

llm_dialect_header_e llm_dialect_header(const llm_str_t *name, int *tokens);

/*
 * Its value: a number; for RESET in ms: "1s", "6m0s", "33.023s", "120ms", a
 * bare number of seconds, an ISO time or one since the epoch against "now"
 * (s); at most a day.  -1: unknown; so are a LIMIT of 0 and a RESET of a bare
 * 0.
 */
int64_t llm_dialect_value(llm_dialect_header_e header, const llm_str_t *value,
    int64_t now);


#endif /* _LLM_DIALECT_H_INCLUDED_ */
