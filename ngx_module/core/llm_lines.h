
/*
 * Copyright (C) the ngx-llm authors
 *
 * The lines of a file that comes in pieces of any size: what is found does
 * not depend on how it was cut.
 */


#ifndef _LLM_LINES_H_INCLUDED_
#define _LLM_LINES_H_INCLUDED_


#include "core/llm_core.h"


typedef struct {
    /* of the line that was given or refused last */

    uint64_t              number;           /* from 1; blank lines count */
    uint64_t              offset;           /* of its first byte */

    /* the reader's own */

    unsigned char        *buf;              /* lent: the front of a line */
    size_t                size;
    size_t                len;
    uint64_t              start;            /* of the line that is open */
    uint64_t              passed;           /* bytes of it */
    uint64_t              ended;            /* lines */
    unsigned              skip:1;           /* it is too long */
} llm_lines_t;


/*
 * "buf" of "size" bytes, at least 2, is lent: a line may have size - 1 bytes
 * without its end, which is LF or CR LF.
 */
void llm_lines_init(llm_lines_t *ln, unsigned char *buf, size_t size);

/*
 * Takes what came from *pos to "last" and moves *pos.  LLM_OK: "line" is the
 * next one, without its end, in what came or in the lent memory, valid until
 * the next call; call again.  Lines of blanks and tabs alone are passed over.
 * LLM_DECLINED: a line was too long and has been passed over to its end,
 * "line" is empty; call again.  LLM_AGAIN: all was taken.
 */
int llm_lines_next(llm_lines_t *ln, const unsigned char **pos,
    const unsigned char *last, llm_str_t *line);

/*
 * Nothing more comes: LLM_OK or LLM_DECLINED if there was a last line without
 * an end, as above, LLM_AGAIN if there was none.  To be called once.
 */
int llm_lines_eof(llm_lines_t *ln, llm_str_t *line);


#endif /* _LLM_LINES_H_INCLUDED_ */
