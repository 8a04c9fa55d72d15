
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of llm_dialect.
 */


#ifndef _LLM_DIALECT_PRIVATE_H_INCLUDED_
#define _LLM_DIALECT_PRIVATE_H_INCLUDED_


#include "core/llm_dialect.h"


/* nobody asks to wait for longer, and nobody would */

#define LLM_DIALECT_DAY   ((int64_t) 86400 * 1000)

/* of a text, for clients and for what is looked for in it */

#define LLM_DIALECT_TEXT  4096


#define llm_dialect_equal(s, text)                                            \
    ((s)->len == sizeof(text) - 1                                             \
     && memcmp((s)->data, text, sizeof(text) - 1) == 0)


/*
 * A span of time at the start of *p, in whole ms, rounded up, at most a day:
 * "1h2m3.5s", "120ms", "45 seconds"; a number without a unit counts "bare"
 * ms, with 0 it is none.  Moves *p behind it.  -1: none.
 */
int64_t llm_dialect_span(const unsigned char **p, const unsigned char *end,
    int64_t bare);

/* "try again in 3.2s", "retry after 45 seconds" anywhere in a text; -1 */
int64_t llm_dialect_hint(const llm_str_t *text);

/* what the words of an error mean: quota, context, filtered */
void llm_dialect_words(llm_dialect_error_t *e, unsigned status,
    const llm_str_t *text, int passing);

/* the status that an error of a 200 answer or of a stream stands for */
unsigned llm_dialect_meant(const llm_dialect_error_t *e, unsigned status);

/* a code that is a number says no more than a status does */
int llm_dialect_numeric(const llm_str_t *code);


#endif /* _LLM_DIALECT_PRIVATE_H_INCLUDED_ */
