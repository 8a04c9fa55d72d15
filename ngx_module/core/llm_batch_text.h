
/*
 * Copyright (C) the ngx-llm authors
 *
 * JSON that is written into memory of a given size, and counted where that
 * is not enough: what batches, files and tasks are told in.
 */


#ifndef _LLM_BATCH_TEXT_H_INCLUDED_
#define _LLM_BATCH_TEXT_H_INCLUDED_


#include "core/llm_core.h"


typedef struct {
    unsigned char        *buf;
    size_t                size;
    size_t                len;              /* also of what had no room */
    unsigned              comma:1;          /* in front of the next member */
} llm_batch_text_t;


void llm_batch_text_init(llm_batch_text_t *t, unsigned char *buf,
    size_t size);

/* bytes as they are; from the first that has no room on none is written */
void llm_batch_put(llm_batch_text_t *t, const void *p, size_t len);

#define llm_batch_put_text(t, s)  llm_batch_put(t, s, sizeof(s) - 1)

/* the comma that is due, and a member's name that needs no escapes */
void llm_batch_put_name(llm_batch_text_t *t, const char *name);

/* values */

void llm_batch_put_number(llm_batch_text_t *t, int64_t n);

/* seconds since 1970; 0 or less: null */
void llm_batch_put_stamp(llm_batch_text_t *t, int64_t sec);

/* a string; what is not UTF-8 becomes U+FFFD */
void llm_batch_put_string(llm_batch_text_t *t, const llm_str_t *s);

/* a string, or null if it is empty */
void llm_batch_put_maybe(llm_batch_text_t *t, const llm_str_t *s);

/*
 * A JSON value as it is spelled, its line ends become blanks; what is no
 * JSON is written as a string, and nothing as null.
 */
void llm_batch_put_json(llm_batch_text_t *t, const llm_str_t *json);

/* one character of RFC 3629 at p: how many bytes it has; 0: there is none */
size_t llm_batch_utf8(const unsigned char *p, const unsigned char *last);


#endif /* _LLM_BATCH_TEXT_H_INCLUDED_ */
