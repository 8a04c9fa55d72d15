
/*
 * Copyright (C) the ngx-llm authors
 *
 * Writer of canonical bytes.  They are JSON without white space, with a comma
 * behind every value; a string is its decoded bytes in quotes, where only
 * quotes and backslashes are escaped.  So two different texts of values never
 * give the same bytes.
 */


#ifndef _LLM_CANON_H_INCLUDED_
#define _LLM_CANON_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_json.h"


#define LLM_CANON_BUFFER  1024


typedef struct {
    llm_sink_pt           sink;
    void                 *data;
    size_t                used;
    unsigned char         buf[LLM_CANON_BUFFER];
} llm_canon_t;


void llm_canon_init(llm_canon_t *cn, llm_sink_pt sink, void *data);

void llm_canon_byte(llm_canon_t *cn, unsigned char c);
void llm_canon_put(llm_canon_t *cn, const void *p, size_t len);

/* what the buffer still holds goes to the sink */
void llm_canon_flush(llm_canon_t *cn);

/* decoded bytes, quoted, and a colon */
void llm_canon_name(llm_canon_t *cn, const unsigned char *p, size_t len);

/* the NAME or STRING that was read last, quoted */
void llm_canon_string(llm_canon_t *cn, const llm_json_t *js);

/*
 * The NUMBER that was read last, and a comma.  An integer stays as it is
 * written.  Any other number, and if "real" every number, becomes digits
 * without zeros at either end and an exponent: 1.0, 1e0 and 10e-1 are 1e0.
 */
void llm_canon_number(llm_canon_t *cn, const llm_json_t *js, int real);


#endif /* _LLM_CANON_H_INCLUDED_ */
