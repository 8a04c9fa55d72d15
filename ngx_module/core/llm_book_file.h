
/*
 * Copyright (C) the ngx-llm authors
 *
 * A file of accounts: rows of hours, days and months, written and read piece
 * by piece, versioned and checked as a whole, as core/llm_snapshot.h.
 */


#ifndef _LLM_BOOK_FILE_H_INCLUDED_
#define _LLM_BOOK_FILE_H_INCLUDED_


#include "core/llm_book.h"


#define LLM_BOOK_FILE_HEAD   16            /* bytes at the beginning */
#define LLM_BOOK_FILE_END    21            /* and at the end */
#define LLM_BOOK_FILE_PIECE  602           /* the longest row */
#define LLM_BOOK_FILE_ROWS   (1u << 28)    /* at most */


/* of a writer or of a reader; the caller's memory */

typedef struct {
    uint64_t              sum[2];
    uint64_t              generation;
    uint64_t              offset;          /* bytes written or read */
    const char           *error;           /* what is wrong, of a reader */
    uint32_t              rows;
    uint32_t              state;
} llm_book_file_t;


/*
 * Writing: the head, rows, the end.  Each writes one piece to p, which has
 * room for LLM_BOOK_FILE_PIECE bytes, and returns where it ended.  A row is
 * refused by NULL: it is of no hour, day or month, or of too many.  Equal
 * rows make equal files.
 */
unsigned char *llm_book_file_head(llm_book_file_t *f, uint64_t generation,
    unsigned char *p);
unsigned char *llm_book_file_row(llm_book_file_t *f,
    const llm_book_row_t *row, unsigned char *p);
unsigned char *llm_book_file_end(llm_book_file_t *f, unsigned char *p);


/*
 * Reading: read() takes from the bytes between *p and end and moves *p on.
 *
 * LLM_OK: a row; its names point to the bytes.
 * LLM_AGAIN: what is left at *p is no whole piece, come again with more.
 * LLM_DECLINED: the end, and the checksum is right.
 * LLM_ERROR: damaged, f->error says how, f->offset about where.
 *
 * Rows are not to be believed before the end was seen.  finish(): there are
 * no more bytes: LLM_OK after the end, else LLM_ERROR.
 */
void llm_book_file_init(llm_book_file_t *f);
int llm_book_file_read(llm_book_file_t *f, unsigned char **p,
    unsigned char *end, llm_book_row_t *row);
int llm_book_file_finish(llm_book_file_t *f);

/* the generation alone, of LLM_BOOK_FILE_HEAD bytes; 0: this is no head */
uint64_t llm_book_file_generation(const unsigned char *p);


#endif /* _LLM_BOOK_FILE_H_INCLUDED_ */
