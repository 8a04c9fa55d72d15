
/*
 * Copyright (C) the ngx-llm authors
 *
 * An answer of HTTP/1 as it comes in, in pieces of any size: the head is
 * kept, the body is handed out as it is framed, by length, in chunks or by
 * the end of the connection.
 */


#ifndef _LLM_HTTP_H_INCLUDED_
#define _LLM_HTTP_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_HTTP_END    1                   /* the answer is whole */

#define LLM_HTTP_EXTRA  16384               /* bytes of extensions, trailers */


typedef struct {
    unsigned char        *head;             /* lent by the caller */
    size_t                size;
    size_t                len;

    unsigned              state;
    unsigned              status;           /* 0: the head has not come */
    uint64_t              left;             /* of the body, or of a chunk */
    size_t                extra;
    unsigned              digits;

    unsigned              bodiless:1;       /* set by who asked with HEAD */
    unsigned              chunked:1;
    unsigned              sized:1;          /* by length */
} llm_http_t;


/* "head" has to hold the status line and all header fields */
void llm_http_init(llm_http_t *h, unsigned char *head, size_t size);

/*
 * Takes what came from *pos to "last" and moves *pos.  LLM_OK: "part" is a
 * piece of the body, inside of what came; call again.  LLM_AGAIN: all was
 * taken.  LLM_HTTP_END: the answer is whole, what is behind *pos is not its.
 * LLM_ERROR: it is no answer of HTTP/1, its framing is ambiguous, or its head
 * does not fit; there is no going on.
 */
int llm_http_next(llm_http_t *h, const unsigned char **pos,
    const unsigned char *last, llm_str_t *part);

/* the connection has ended: LLM_HTTP_END if the answer is whole by that */
int llm_http_eof(llm_http_t *h);

/*
 * The first header field of that name, in lower case; the value lies in the
 * head.  LLM_DECLINED: there is none.
 */
int llm_http_header(const llm_http_t *h, const char *name, size_t len,
    llm_str_t *value);


#endif /* _LLM_HTTP_H_INCLUDED_ */
