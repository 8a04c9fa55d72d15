
/*
 * Copyright (C) the ngx-llm authors
 *
 * Writer of canonical bytes: JSON without white space, where a string is its
 * decoded bytes in quotes and only quotes and backslashes are escaped.  Two
 * texts of different values never give the same bytes.  The text that is
 * written has been found valid before.
 */


#ifndef _LLM_CANON_H_INCLUDED_
#define _LLM_CANON_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_request.h"


#define LLM_CANON_BUFFER  1024


typedef struct {
    const unsigned char  *last;             /* end of the text */
    llm_sink_pt           sink;
    void                 *data;
    size_t                used;
    unsigned char         buf[LLM_CANON_BUFFER];
} llm_canon_t;


void llm_canon_init(llm_canon_t *cn, const unsigned char *last,
    llm_sink_pt sink, void *data);

void llm_canon_put(llm_canon_t *cn, const void *p, size_t len);

/* what the buffer still holds goes to the sink */
void llm_canon_flush(llm_canon_t *cn);

static inline void
llm_canon_byte(llm_canon_t *cn, unsigned char c)
{
    if (cn->used == LLM_CANON_BUFFER) {
        llm_canon_flush(cn);
    }

    cn->buf[cn->used++] = c;
}

/* decoded bytes, quoted, and a colon */
void llm_canon_name(llm_canon_t *cn, const unsigned char *p, size_t len);

/*
 * The value at p as it is written but for white space and spelling.  An
 * integer keeps its text.  Any other number becomes digits without zeros at
 * either end and an exponent: 1.0, 1e0 and 10e-1 are 1e0.  The end of it.
 */
const unsigned char *llm_canon_value(llm_canon_t *cn, const unsigned char *p);

/* the number at p, of which 1 and 1.0 are the same; the end of it */
const unsigned char *llm_canon_real(llm_canon_t *cn, const unsigned char *p);

/* the end of the value at p, or of the string that begins there */
const unsigned char *llm_canon_skip(const unsigned char *p,
    const unsigned char *last);
const unsigned char *llm_canon_skip_string(const unsigned char *p,
    const unsigned char *last);


#endif /* _LLM_CANON_H_INCLUDED_ */
