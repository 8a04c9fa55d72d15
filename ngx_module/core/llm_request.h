
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the gateway needs to know of a request body, found in one pass over
 * its bytes without building a tree, and the canonical bytes for its digest.
 */


#ifndef _LLM_REQUEST_H_INCLUDED_
#define _LLM_REQUEST_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_JSON_DEPTH  64


typedef enum {
    LLM_CHAT = 0,
    LLM_COMPLETIONS,
    LLM_EMBEDDINGS,
    LLM_RESPONSES,
    LLM_ENDPOINTS
} llm_endpoint_e;


typedef enum {
    LLM_CAP_TOKENS = 0,                     /* max_tokens */
    LLM_CAP_COMPLETION,                     /* max_completion_tokens */
    LLM_CAP_OUTPUT,                         /* max_output_tokens */
    LLM_CAPS
} llm_cap_e;


/* what may keep a request from the cache; which of them do is configured */

#define LLM_BYPASS_STORE        0x01        /* store; absent in Responses */
#define LLM_BYPASS_BACKGROUND   0x02
#define LLM_BYPASS_PREVIOUS     0x04        /* goes on from what is stored */
#define LLM_BYPASS_HOSTED       0x08        /* tools the provider runs */
#define LLM_BYPASS_URL          0x10        /* media by URL, not data: */
#define LLM_BYPASS_N            0x20        /* several choices, no seed */
#define LLM_BYPASS_TOOLS        0x40        /* any tools or functions */
#define LLM_BYPASS_TEMPERATURE  0x80        /* not zero, no seed */


/* a member's value in the body; "end" 0: the member is not there */

typedef struct {
    size_t                start;
    size_t                end;
    int64_t               n;                /* -1: null or not there */
} llm_cap_t;


typedef struct {
    llm_endpoint_e        endpoint;
    llm_str_t             body;

    size_t                object_start;     /* behind the first brace */

    llm_str_t             model;            /* escapes decoded */
    size_t                model_start;      /* the value's span in the body, */
    size_t                model_end;        /* quotes included               */

    size_t                stream_options_start;  /* of the value, which may */
    size_t                stream_options_end;    /* be null; 0: absent      */
    size_t                include_usage_start;   /* of the value in there */
    size_t                include_usage_end;

    int64_t               n;                /* 1 unless given; best_of too */
    int64_t               max_tokens;       /* the largest of the caps, -1 */
    llm_cap_t             cap[LLM_CAPS];

    size_t                prompt_bytes;     /* strings of the prompt without
                                               base64 data */
    unsigned              media;            /* images, sounds and files */

    unsigned              stream:1;
    unsigned              include_usage:1;
    unsigned              stream_options_empty:1;  /* {}: no comma needed */
    unsigned              temperature_zero:1;

    unsigned              bypass;           /* LLM_BYPASS_ bits */

    llm_str_t             previous;         /* previous_response_id, escapes
                                               decoded; responses only */

    /* for llm_request_digest() alone */
    void                 *index;
} llm_request_t;


typedef struct {
    const char           *code;             /* "invalid_json", … */
    const char           *param;            /* name of the member or NULL */
    size_t                offset;           /* of the byte at fault */
    char                  text[192];        /* a sentence, ASCII, no prompt */
} llm_request_error_t;


/*
 * Parses a request body: exact JSON (RFC 8259), duplicate member names
 * refused at every depth, depth at most 64, invalid UTF-8 and lone surrogate
 * escapes refused, no byte order mark.  The top value must be an object.
 * "model" must be a string of 1 to 256 bytes without control characters;
 * members this gateway reads must have their documented type.
 *
 * Returns LLM_OK, or LLM_ERROR with "err" filled.  "rq" points into "body"
 * and into the arena: both must outlive it.  "digest" says whether
 * llm_request_digest() will be called (recording costs time and memory).
 */

int llm_request_parse(llm_request_t *rq, llm_endpoint_e endpoint,
    unsigned char *body, size_t len, int digest, llm_arena_t *arena,
    llm_request_error_t *err);


/*
 * Feeds the canonical bytes of the body to "sink", in few calls: members in
 * the order of their decoded names where order has no meaning, as written
 * inside tool parameters and response schemas; white space and spelling of
 * escapes and numbers gone; without what does not change the answer: model
 * (it is keyed as resolved), stream, stream_options, user,
 * safety_identifier, metadata, prompt_cache_*.
 */

typedef void (*llm_sink_pt)(void *data, const unsigned char *p, size_t len);

int llm_request_digest(const llm_request_t *rq, llm_arena_t *arena,
    llm_sink_pt sink, void *data);


#endif /* _LLM_REQUEST_H_INCLUDED_ */
