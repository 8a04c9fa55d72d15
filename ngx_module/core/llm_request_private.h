
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the two files of the request parser: the scan and its members.
 */


#ifndef _LLM_REQUEST_PRIVATE_H_INCLUDED_
#define _LLM_REQUEST_PRIVATE_H_INCLUDED_


#include "core/llm_request.h"
#include "core/llm_json.h"
#include "core/llm_member.h"


/* the members that are read; each is one bit of "seen" */

typedef enum {
    LLM_PARAM_OTHER = 0,
    LLM_PARAM_MODEL,
    LLM_PARAM_MESSAGES,
    LLM_PARAM_PROMPT,
    LLM_PARAM_INPUT,
    LLM_PARAM_INSTRUCTIONS,
    LLM_PARAM_TOOLS,
    LLM_PARAM_STREAM,
    LLM_PARAM_STREAM_OPTIONS,
    LLM_PARAM_N,
    LLM_PARAM_MAX_TOKENS,
    LLM_PARAM_MAX_COMPLETION_TOKENS,
    LLM_PARAM_MAX_OUTPUT_TOKENS,
    LLM_PARAM_TEMPERATURE,
    LLM_PARAM_STORE,
    LLM_PARAM_BACKGROUND,
    LLM_PARAM_PREVIOUS,
    LLM_PARAM_CONVERSATION,
    LLM_PARAM_SEARCH,
    LLM_PARAM_BEST_OF,
    LLM_PARAM_SEED,
    LLM_PARAM_FUNCTIONS
} llm_param_e;


/* how deep the object of a message's part is, and the one that it holds */

#define LLM_DEPTH_PART  5
#define LLM_DEPTH_HELD  6


/* the string that follows in a part of the prompt */

typedef enum {
    LLM_PART_TEXT = 0,
    LLM_PART_TYPE,                          /* may tell that it is media */
    LLM_PART_DATA                           /* is base64 */
} llm_part_e;


typedef struct {
    llm_json_t            js;
    llm_request_t        *rq;
    llm_request_error_t  *err;
    llm_members_t        *members;

    llm_param_e           param;            /* whose value is being read */
    llm_part_e            part;
    uint32_t              seen;             /* those that are not null */

    unsigned              prompt:1;         /* its strings count */
    unsigned              watch:1;          /* the next value matters */
    unsigned              typed:1;          /* the tool told its type */
    unsigned              media:1;          /* the open part is no text */
    unsigned              bad:1;            /* "err" is set */

    uint32_t              base[LLM_JSON_DEPTH + 1];
} llm_request_scan_t;


/* which top-level member is this? */
llm_param_e llm_request_param(const llm_member_t *m);

const char *llm_request_param_name(llm_param_e param);

/* do strings below this member belong to the prompt? */
int llm_request_param_prompt(llm_param_e param);

/* the value of the top-level member "sc->param" begins or is read */
void llm_request_top(llm_request_scan_t *sc, llm_json_token_e token);

/* a deeper value that "sc->watch" waited for */
void llm_request_inner(llm_request_scan_t *sc, llm_json_token_e token);

/* what is the member of a part of the prompt, at that depth or deeper? */
llm_part_e llm_request_part(const llm_member_t *m, unsigned depth);

/* a string of the prompt */
void llm_request_string(llm_request_scan_t *sc);


/* "what" and "more" make the sentence; an empty one: the member is missing */
void llm_request_bad(llm_request_scan_t *sc, const char *code,
    const char *param, const char *what, const char *more);

int llm_request_complex(llm_request_scan_t *sc);


#endif /* _LLM_REQUEST_PRIVATE_H_INCLUDED_ */
