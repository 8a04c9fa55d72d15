
/*
 * Copyright (C) the ngx-llm authors
 *
 * A form with files (multipart/form-data, RFC 7578 and RFC 2046) as it comes
 * in, in pieces of any size: what is found does not depend on how it was
 * cut.  Data is handed out where it lies; only the header of a part is kept.
 */


#ifndef _LLM_MULTIPART_H_INCLUDED_
#define _LLM_MULTIPART_H_INCLUDED_


#include "core/llm_core.h"


#define LLM_MULTIPART_BOUNDARY  70          /* bytes, at most (RFC 2046) */
#define LLM_MULTIPART_PARTS     256         /* more are refused */


/* what llm_multipart_next() found, besides LLM_AGAIN and LLM_ERROR */

typedef enum {
    LLM_MULTIPART_PART = 1,                 /* a part begins */
    LLM_MULTIPART_DATA,                     /* a piece of it, not empty */
    LLM_MULTIPART_PART_END,
    LLM_MULTIPART_END                       /* the form is whole */
} llm_multipart_event_e;


typedef struct {
    /* of the part that began last; they lie in the lent memory */

    llm_str_t             name;             /* decoded, UTF-8, not empty */
    llm_str_t             filename;         /* may be empty, see "file" */
    llm_str_t             type;             /* as sent; empty: none */
    unsigned              file:1;           /* a filename was given */

    unsigned              parts;            /* so far, this one included */

    /* behind LLM_ERROR */

    const char           *error;            /* a sentence's end, ASCII */
    uint64_t              offset;           /* of the byte at fault */

    /* the parser's own */

    uint64_t              taken;            /* bytes in front of this piece */
    unsigned char        *head;
    size_t                size;
    size_t                len;

    unsigned              state;
    size_t                matched;          /* bytes of the delimiter */
    size_t                unreal;           /* of them, no data in any case */
    size_t                delimiter_len;
    unsigned char         delimiter[LLM_MULTIPART_BOUNDARY + 4];
} llm_multipart_t;


/*
 * "type" is the value of Content-Type, and is not needed afterwards; "head"
 * is lent memory that has to hold all header lines of any one part.
 * LLM_DECLINED: it is not multipart/form-data; LLM_ERROR: it is, but its
 * boundary is missing, given twice or no boundary.
 */
int llm_multipart_init(llm_multipart_t *mp, const llm_str_t *type,
    unsigned char *head, size_t size);

/*
 * Takes what came from *pos to "last" and moves *pos.  An event: call again;
 * LLM_AGAIN: all was taken.
 *
 * LLM_MULTIPART_PART: name, filename, file and type are set, and valid until
 * the next part's header begins to come in, so until LLM_MULTIPART_PART_END
 * was given.  LLM_MULTIPART_DATA: "data" lies in what came, or in the parser
 * (where a piece ended inside of what looked like a boundary), and is valid
 * until the next call.  LLM_MULTIPART_END is given again by each further
 * call, which takes all: what follows the last boundary means nothing.
 *
 * LLM_ERROR: "error" and "offset" are set; there is no going on.  A boundary
 * counts at the beginning of a line, and lines end by CR LF alone; a line
 * that goes on behind a boundary, a header that is folded or spelled
 * otherwise, a part without name, and a transfer encoding are refused, as
 * others would read something else.
 */
int llm_multipart_next(llm_multipart_t *mp, const unsigned char **pos,
    const unsigned char *last, llm_str_t *data);

/* nothing more comes: LLM_OK if the form is whole, else LLM_ERROR */
int llm_multipart_eof(llm_multipart_t *mp);


#endif /* _LLM_MULTIPART_H_INCLUDED_ */
