
/*
 * Copyright (C) the ngx-llm authors
 *
 * What lies in the memory of a book, one behind the other: this header with
 * the redo log, the journals, tables of names, and pools of rows.
 *
 * A pool is a ring of rows in the order in which they were made, which is
 * about the order of their periods: the oldest is the next to go.  Rows are
 * found by hash chains.
 */


#ifndef _LLM_BOOK_PRIVATE_H_INCLUDED_
#define _LLM_BOOK_PRIVATE_H_INCLUDED_


#include "core/llm_book.h"


#define LLM_BOOK_REDO      256             /* words that one step may change */

#define LLM_BOOK_RUN       8               /* records posted in one step */

/* latencies as the history keeps them: by steps of a fifth */
#define LLM_BOOK_STEPS     80


/* pools behind those of llm_book_kind_e */

typedef enum {
    LLM_BOOK_ALL_MINUTE = LLM_BOOK_KINDS,  /* sums and latencies of all */
    LLM_BOOK_ALL_HOUR,
    LLM_BOOK_MODEL_MINUTE,                 /* latencies of a model */
    LLM_BOOK_MODEL_HOUR,
    LLM_BOOK_HIST,                         /* histograms */
    LLM_BOOK_POOLS
} llm_book_pool_e;


/* a word to be written; "at" counts 4 bytes from the book's beginning */

typedef struct {
    uint32_t              at;
    uint32_t              size;            /* 4 or 8 */
    uint64_t              value;
} llm_book_write_t;


typedef struct {
    uint32_t              period;
    uint32_t              status;
    uint32_t              name[LLM_BOOK_NAMES];
} llm_book_key_t;


typedef struct {
    llm_book_key_t        key;
    uint32_t              chain;           /* index of the next + 1, 0: none */
    uint32_t              hash;
    uint64_t              changed;
    uint64_t              v[1];            /* as many as the pool has words */
} llm_book_cell_t;

#define LLM_BOOK_CELL  offsetof(llm_book_cell_t, v)


typedef struct {
    uint64_t              cells;           /* offsets from the book */
    uint64_t              index;
    uint64_t              head;            /* numbers of rows: the oldest … */
    uint64_t              tail;            /* … and the next new one */
    uint32_t              room;            /* rows */
    uint32_t              mask;            /* of the index */
    uint32_t              stride;          /* bytes of a row */
    uint32_t              reserve;         /* rows for "other" */
    uint32_t              keep;            /* periods; 0: for ever */
    uint32_t              lost;            /* period of the latest evicted */
} llm_book_pool_t;


typedef struct {
    uint64_t              rows;
    uint64_t              index;
    uint32_t              room;
    uint32_t              mask;
    uint32_t              used;
    uint32_t              unused;
} llm_book_names_t;


typedef struct {
    uint32_t              hash;
    uint8_t               len;
    unsigned char         text[LLM_BOOK_NAME + 4];
} llm_book_text_t;


/* what lies in a journal: a request, or the pauses of a stream */

typedef struct {
    uint32_t              between;         /* 1: pauses */
    uint32_t              model;
    uint32_t              provider;
    uint32_t              unused;
    union {
        llm_book_record_t   record;
        llm_book_between_t  pauses;
    } u;
} llm_book_entry_t;


/* the reader's word and the writer's each have a line of the cache */

typedef struct {
    uint64_t              head;
    uint64_t              unused0[7];
    uint64_t              tail;
    uint64_t              unused1[7];
    llm_book_entry_t      entry[1];
} llm_book_journal_t;


struct llm_book_s {
    uint64_t              size;
    uint64_t              used;            /* bytes behind which is nothing */
    uint64_t              seed[2];

    uint64_t              change;
    uint64_t              folded;
    uint64_t              evicted;
    uint64_t              posted;

    uint64_t              journals;
    uint32_t              njournals;
    uint32_t              slots;           /* of a journal */

    llm_book_names_t      names[LLM_BOOK_NAMES];
    llm_book_pool_t       pool[LLM_BOOK_POOLS];

    uint32_t              nredo;           /* 0: nothing is under way */
    uint32_t              unused;
    llm_book_write_t      redo[LLM_BOOK_REDO];
};


/* how large each part is to be; for small books of tests, too */

typedef struct {
    uint32_t              journals;
    uint32_t              slots;           /* a power of two */
    uint32_t              names[LLM_BOOK_NAMES];
    uint32_t              rows[LLM_BOOK_POOLS];
} llm_book_shape_t;

/* NULL: it does not fit; "mem" is aligned to 64 bytes */
llm_book_t *llm_book_form(void *mem, size_t size,
    const llm_book_shape_t *shape, const uint64_t seed[2]);

size_t llm_book_size(const llm_book_shape_t *shape);

/* words of a pool's rows */
extern const uint32_t  llm_book_words[LLM_BOOK_POOLS];


/*
 * A step: words are written down, then all changed together.  Until then
 * the book shows the old ones.  No word may be put twice.
 */

typedef struct {
    llm_book_t           *book;
    uint32_t              n;
} llm_book_step_t;

static inline void
llm_book_begin(llm_book_step_t *st, llm_book_t *bk)
{
    st->book = bk;
    st->n = 0;
}

static inline void
llm_book_put(llm_book_step_t *st, void *p, uint32_t size, uint64_t value)
{
    llm_book_write_t  *w;

    w = &st->book->redo[st->n++];

    w->at = (uint32_t) (((unsigned char *) p - (unsigned char *) st->book)
                        / 4);
    w->size = size;
    w->value = value;
}

static inline void
llm_book_put4(llm_book_step_t *st, uint32_t *p, uint32_t value)
{
    llm_book_put(st, p, 4, value);
}

static inline void
llm_book_put8(llm_book_step_t *st, uint64_t *p, uint64_t value)
{
    llm_book_put(st, p, 8, value);
}

void llm_book_commit(llm_book_step_t *st);


static inline void *
llm_book_at(const llm_book_t *bk, uint64_t offset)
{
    return (unsigned char *) bk + offset;
}

/* the row with this number */

static inline llm_book_cell_t *
llm_book_cell(const llm_book_t *bk, const llm_book_pool_t *pl, uint64_t i)
{
    return (llm_book_cell_t *) llm_book_at(bk, pl->cells
                                               + i % pl->room * pl->stride);
}

static inline llm_book_journal_t *
llm_book_journal(const llm_book_t *bk, unsigned i)
{
    size_t  size;

    size = offsetof(llm_book_journal_t, entry)
           + bk->slots * sizeof(llm_book_entry_t);

    return (llm_book_journal_t *) llm_book_at(bk, bk->journals + i * size);
}

/* NULL: there is none */
llm_book_cell_t *llm_book_lookup(const llm_book_t *bk,
    const llm_book_pool_t *pl, const llm_book_key_t *key);

/* the row, an empty one if there was none; NULL: no room beside its period;
   "other": it may have what is kept for such */
llm_book_cell_t *llm_book_make(llm_book_t *bk, llm_book_pool_t *pl,
    const llm_book_key_t *key, int other);

/*
 * The rows that a record goes into, for those behind it: good under one lock,
 * as long as nothing but llm_book_rows_find() with it makes rows.  "there" is
 * 0 at first.
 */

#define LLM_BOOK_ASKED  0x100              /* a provider's answer was timed */
#define LLM_BOOK_STOOD  0x200              /* … and the place in line */

typedef struct {
    int                   there;
    int                   folded;
    unsigned              marks;
    uint32_t              status;
    uint32_t              name[LLM_BOOK_NAMES];
    int64_t               from;            /* the minute's start, s */
    llm_book_cell_t      *kind[LLM_BOOK_KINDS];
    llm_book_cell_t      *all[2];
    llm_book_cell_t      *model[2];
    llm_book_cell_t      *hist;
} llm_book_rows_t;

/* finds or makes them, unless "rows" has them */
void llm_book_rows_find(llm_book_t *bk, const llm_book_record_t *rec,
    llm_book_rows_t *rows);

/* 1: this record goes into these rows, too */
int llm_book_rows_same(const llm_book_rows_t *rows,
    const llm_book_record_t *rec);

/* posts 1 to LLM_BOOK_RUN records of these rows in one step, and "head", of a
   journal, goes on with it; NULL: none */
void llm_book_apply(llm_book_t *bk, const llm_book_rows_t *rows,
    const llm_book_record_t *const *rec, unsigned n, uint64_t *head);
void llm_book_apply_between(llm_book_t *bk, uint32_t model,
    uint32_t provider, const llm_book_between_t *bt, uint64_t *head);

/* which sums are not 0: they go into seven rows; how many there are */
unsigned llm_book_given(const llm_book_sums_t *sums, uint8_t *given);
void llm_book_put_cell(llm_book_step_t *st, llm_book_cell_t *c,
    const llm_book_sums_t *sums, const uint8_t *given, unsigned n);

/* which bucket of a histogram a time is in */
unsigned llm_book_bucket(llm_book_hist_e of, uint32_t ms);

/* which step of the history a time is in */
unsigned llm_book_step(uint32_t ms);
extern const uint32_t  llm_book_steps[LLM_BOOK_STEPS];


#endif /* _LLM_BOOK_PRIVATE_H_INCLUDED_ */
