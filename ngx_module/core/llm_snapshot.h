
/*
 * Copyright (C) the ngx-llm authors
 *
 * A file of tallies: what each name used in its days and months, written and
 * read piece by piece, so that a long one blocks nobody; versioned and
 * checked as a whole, since it may be old, cut or damaged.
 */


#ifndef _LLM_SNAPSHOT_H_INCLUDED_
#define _LLM_SNAPSHOT_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_meter.h"


#define LLM_SNAPSHOT_NAME   96             /* bytes of a name, at least 1 */
#define LLM_SNAPSHOT_ROWS   (1u << 24)     /* at most, in one file */

#define LLM_SNAPSHOT_HEAD   16             /* bytes at the beginning */
#define LLM_SNAPSHOT_END    21             /* and at the end */
#define LLM_SNAPSHOT_PIECE  210            /* the longest row: 2 + 96 + 112 */


typedef struct {
    llm_str_t             name;
    llm_tally_t           day[2];          /* period 0: none */
    llm_tally_t           month[2];
} llm_snapshot_row_t;


/* of a writer or of a reader; the caller's memory */

typedef struct {
    uint64_t              sum[2];
    uint64_t              generation;
    uint64_t              offset;          /* bytes written or read */
    const char           *error;           /* what is wrong, of a reader */
    uint32_t              rows;
    uint32_t              state;
} llm_snapshot_t;


/*
 * Writing: the head, rows, the end.  Each writes one piece to p and returns
 * where it ended; p has room for LLM_SNAPSHOT_PIECE bytes.  A row is refused
 * by NULL, and nothing was written: a name that is empty or too long, a
 * number below 0, too many rows.  Equal rows make equal files.
 */
unsigned char *llm_snapshot_write_head(llm_snapshot_t *sn,
    uint64_t generation, unsigned char *p);
unsigned char *llm_snapshot_write_row(llm_snapshot_t *sn,
    const llm_snapshot_row_t *row, unsigned char *p);
unsigned char *llm_snapshot_write_end(llm_snapshot_t *sn, unsigned char *p);


/*
 * Reading: read() takes from the bytes between *p and end and moves *p on.
 *
 * LLM_OK: a row; its name points to the bytes.
 * LLM_AGAIN: what is left at *p is no whole piece, come again with more; at
 * most LLM_SNAPSHOT_PIECE bytes are needed.
 * LLM_DECLINED: the end, and the checksum is right.
 * LLM_ERROR: damaged, sn->error says how, sn->offset about where.
 *
 * Rows are not to be believed before the end was seen, so a file is read
 * twice.  finish(): there are no more bytes: LLM_OK after the end, else
 * LLM_ERROR.
 */
void llm_snapshot_read_init(llm_snapshot_t *sn);
int llm_snapshot_read(llm_snapshot_t *sn, unsigned char **p,
    unsigned char *end, llm_snapshot_row_t *row);
int llm_snapshot_finish(llm_snapshot_t *sn);

/* the generation alone, of LLM_SNAPSHOT_HEAD bytes; 0: this is no head */
uint64_t llm_snapshot_generation(const unsigned char *p);


#endif /* _LLM_SNAPSHOT_H_INCLUDED_ */
