
/*
 * Copyright (C) the ngx-llm authors
 *
 * Changes of a request body that leave all other bytes as the client wrote
 * them: the body is sent in pieces, with the changes in between.
 */


#ifndef _LLM_SPLICE_H_INCLUDED_
#define _LLM_SPLICE_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


#define LLM_SPLICE_EDITS   6
#define LLM_SPLICE_PIECES  (2 * LLM_SPLICE_EDITS + 1)
#define LLM_SPLICE_CAP     56      /* a member's name and its number */


/* instead of the bytes start to end of the body; equal: in between */

typedef struct {
    size_t                start;
    size_t                end;
    llm_str_t             text;
} llm_edit_t;


/* zeroed at first; kept in order of "start", equal ones as they came */

typedef struct {
    unsigned              n;
    llm_edit_t            edit[LLM_SPLICE_EDITS];
} llm_splice_t;


/* another model; "name" needs no escapes, and outlives the pieces */
void llm_splice_model(llm_splice_t *sp, const llm_request_t *rq,
    const llm_str_t *name);

/* asks for the usage at the end of a stream, of chat and completions */
void llm_splice_usage(llm_splice_t *sp, const llm_request_t *rq);

/*
 * At most "most" tokens for each answer: caps that are larger are replaced,
 * and the endpoint's own is inserted if none that it knows is given.  "buf"
 * of LLM_SPLICE_CAP bytes is for the text, and outlives the pieces.
 */
void llm_splice_cap(llm_splice_t *sp, const llm_request_t *rq, int64_t most,
    unsigned char *buf);

/*
 * The body's pieces, none empty, into piece[LLM_SPLICE_PIECES]: how many, and
 * their length in all.
 */
unsigned llm_splice_pieces(const llm_splice_t *sp, const llm_request_t *rq,
    llm_str_t *piece, size_t *len);


#endif /* _LLM_SPLICE_H_INCLUDED_ */
