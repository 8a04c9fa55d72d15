
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the files of the form's parser.
 */


#ifndef _LLM_MULTIPART_PRIVATE_H_INCLUDED_
#define _LLM_MULTIPART_PRIVATE_H_INCLUDED_


#include "core/llm_multipart.h"


/* a parameter of a header's value: ; name=value or ; name="value" */

typedef struct {
    llm_str_t             name;
    llm_str_t             value;            /* without quotes, not decoded */
    unsigned              quoted:1;
} llm_multipart_param_t;


/*
 * The parameter at *pos, which is moved behind it.  LLM_OK; LLM_DECLINED:
 * there is none; LLM_ERROR: *pos is at a byte that does not belong there.
 */
int llm_multipart_param(const unsigned char **pos, const unsigned char *last,
    llm_multipart_param_t *param);

/* is it that one? "name" is in lower case */
int llm_multipart_is(const llm_str_t *s, const char *name, size_t len);

/*
 * The header lines of a part, each with its CR LF: sets name, filename, file
 * and type.  NULL, or what is wrong, and *fault is where.
 */
const char *llm_multipart_head(llm_multipart_t *mp, unsigned char *head,
    size_t len, const unsigned char **fault);


#endif /* _LLM_MULTIPART_PRIVATE_H_INCLUDED_ */
