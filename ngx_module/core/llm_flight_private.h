
/*
 * Copyright (C) the ngx-llm authors
 *
 * The table of flights, for its own files.
 *
 * Rows are of flights or of readers (those who follow), and one index says
 * either: readers come behind the flights.  A number that was given out is a
 * row's use in front of its index and only grows in its row, also over a
 * reset.
 *
 * A flight's log is a chain of blocks with pieces one behind the other, each
 * after four bytes that say its length and kind.  A block counts the readers
 * that stand in it, so that the front of a log that nobody will read any more
 * is found without a search; a reader that has not begun stands in the first
 * block, as soon as there is one.
 *
 * "Shut" is a flight to which nobody can come any more: it has no names, and
 * the front of its log is given up.  A flight that nobody reads, that nobody
 * will read and that has ended is no more.
 *
 * In the list "whole" are the flights that are not shut although that would
 * free a block at once: their front is there for newcomers alone.  Who is
 * first in it has been so for longest.
 *
 * The kept (done, not shut) are in two heaps, the first to be given up on
 * top: those that nobody reads, which also make room, and the others.  What is
 * in the first one, "spare" blocks, is not in the list.
 */


#ifndef _LLM_FLIGHT_PRIVATE_H_INCLUDED_
#define _LLM_FLIGHT_PRIVATE_H_INCLUDED_


#include "core/llm_flight.h"


#define LLM_FLIGHT_NONE        UINT32_MAX
#define LLM_FLIGHT_LEAST       (128 * 1024)

#define LLM_FLIGHT_INDEX_BITS  24
#define LLM_FLIGHT_INDEX_MASK  (((uint64_t) 1 << LLM_FLIGHT_INDEX_BITS) - 1)

/* how the memory is shared */

#define LLM_FLIGHT_SHARE       8192        /* bytes for each flight */
#define LLM_FLIGHT_READERS     8           /* rows for each flight */
#define LLM_FLIGHT_ROWS        (LLM_FLIGHT_INDEX_MASK                        \
                                / (1 + LLM_FLIGHT_READERS))

/* the first follower comes while this much is free, a part of all blocks */

#define LLM_FLIGHT_RESERVE     8
#define LLM_FLIGHT_RESERVED    8           /* blocks, at least */
#define LLM_FLIGHT_CUTS        8           /* for one who wants to come */

/* a piece's first four bytes: its length and, in the low bits, its kind */

#define LLM_FLIGHT_PIECE       sizeof(uint32_t)
#define LLM_FLIGHT_KIND_BITS   3
#define LLM_FLIGHT_KIND_MASK   ((1U << LLM_FLIGHT_KIND_BITS) - 1)
#define LLM_FLIGHT_LONGEST     (UINT32_MAX >> LLM_FLIGHT_KIND_BITS)


typedef enum {
    LLM_FLIGHT_IDLE = 0,                   /* kept, nobody reads */
    LLM_FLIGHT_READ,                       /* kept, somebody does */
    LLM_FLIGHT_HEAPS
} llm_flight_heap_e;


typedef struct {
    uint32_t              prev;
    uint32_t              next;
} llm_flight_link_t;


typedef struct {
    uint32_t              first;
    uint32_t              last;
} llm_flight_list_t;


/* both kinds of rows begin so */

typedef struct {
    llm_flight_id_t       id;              /* the last that was given */
    void                 *data;
    llm_flight_link_t     news;            /* or, of a free row, the next */
    uint32_t              owner;
    uint32_t              used;
    uint32_t              pending;         /* is in its owner's news */
    uint32_t              told;            /* a reader: and has not read */
} llm_flight_party_t;


typedef struct {
    llm_flight_party_t    party;

    uint64_t              keep;            /* ms; 0: is not in a heap */
    uint64_t              order;           /* of the kept, by their end */
    uint64_t              end;             /* bytes ever appended */
    int64_t               note[LLM_FLIGHT_NOTES];
    uint32_t              state;
    uint32_t              last_piece;      /* nothing more is to come */
    uint32_t              shut;
    uint32_t              first;           /* block */
    uint32_t              last;
    uint32_t              fill;            /* of the last block */
    uint32_t              followers;
    uint32_t              peers;           /* first of its readers */
    uint32_t              slot;            /* in the heap */
    uint32_t              listed;          /* in "whole" */
    llm_flight_link_t     whole;
    uint32_t              names;           /* that it has, as bits */
    uint32_t              chain[LLM_FLIGHT_NAMES];
    unsigned char         name[LLM_FLIGHT_NAMES][LLM_FLIGHT_NAME];
} llm_flight_row_t;


typedef struct {
    llm_flight_party_t    party;

    uint64_t              pos;             /* as the flight's "end" */
    llm_flight_link_t     peer;
    uint32_t              flight;          /* NONE: it has lagged */
    uint32_t              block;           /* NONE: has not begun */
    uint32_t              at;              /* in the block */
    uint32_t              left;            /* of a piece */
    uint32_t              kind;            /* of that piece */
} llm_flight_reader_t;


typedef struct {
    uint32_t              next;
    uint32_t              readers;
    unsigned char         data[LLM_FLIGHT_BLOCK - 2 * sizeof(uint32_t)];
} llm_flight_block_t;


#define LLM_FLIGHT_PAYLOAD  sizeof(((llm_flight_block_t *) NULL)->data)


/* the first seven never change */

struct llm_flights_s {
    uint32_t              rows;
    uint32_t              readers;
    uint32_t              mask;            /* of the index of names */
    size_t                reader;          /* offsets */
    size_t                heap;
    size_t                heads;
    size_t                block;

    llm_flight_stat_t     stat;
    uint64_t              order;
    uint32_t              free_row;
    uint32_t              free_reader;
    uint32_t              free_block;
    uint32_t              rows_used;       /* ever, since the last reset */
    uint32_t              readers_used;
    uint32_t              blocks_used;
    uint32_t              kept[LLM_FLIGHT_HEAPS];
    uint64_t              spare;           /* blocks */
    llm_flight_list_t     whole;
    llm_flight_list_t     news[LLM_LEDGER_OWNERS];
};


static inline llm_flight_row_t *
llm_flight_row(const llm_flights_t *fl, uint32_t i)
{
    return (llm_flight_row_t *) (fl + 1) + i;
}


static inline llm_flight_reader_t *
llm_flight_reader(const llm_flights_t *fl, uint32_t i)
{
    return (llm_flight_reader_t *) ((unsigned char *) fl + fl->reader)
           + (i - fl->rows);
}


static inline llm_flight_party_t *
llm_flight_party(const llm_flights_t *fl, uint32_t i)
{
    return i < fl->rows ? &llm_flight_row(fl, i)->party
                        : &llm_flight_reader(fl, i)->party;
}


static inline llm_flight_block_t *
llm_flight_block(const llm_flights_t *fl, uint32_t i)
{
    return (llm_flight_block_t *) ((unsigned char *) fl + fl->block) + i;
}


static inline uint32_t *
llm_flight_heap(const llm_flights_t *fl, llm_flight_heap_e heap)
{
    return (uint32_t *) ((unsigned char *) fl + fl->heap) + heap * fl->rows;
}


static inline uint32_t *
llm_flight_heads(const llm_flights_t *fl)
{
    return (uint32_t *) ((unsigned char *) fl + fl->heads);
}


/* what is left of a reader that reads no more is its row */
void llm_flight_detach(llm_flights_t *fl, uint32_t reader,
    llm_owners_t *wake);

/*
 * Nobody comes any more.  If nobody is there either, the log is given up,
 * and if it has ended the flight is no more.
 */
void llm_flight_shut(llm_flights_t *fl, uint32_t i);


/* llm_flight_row.c */

/* NONE: not known, or a row of the other kind */
uint32_t llm_flight_find(const llm_flights_t *fl, llm_flight_id_t id);
uint32_t llm_flight_find_reader(const llm_flights_t *fl, llm_flight_id_t id);

/* NONE: there is no room; else it is to be numbered */
uint32_t llm_flight_new_row(llm_flights_t *fl);
uint32_t llm_flight_new_reader(llm_flights_t *fl);
void llm_flight_number(llm_flight_party_t *p, uint32_t i,
    const llm_flight_ask_t *ask);

void llm_flight_free_row(llm_flights_t *fl, uint32_t i);
void llm_flight_free_reader(llm_flights_t *fl, uint32_t i);


/* llm_flight_name.c */

uint32_t llm_flight_name_find(const llm_flights_t *fl,
    const unsigned char *name);
/* takes it from whoever has it: 1 and "from", if that has no other name */
int llm_flight_name_take(llm_flights_t *fl, uint32_t i, unsigned k,
    const unsigned char *name, uint32_t *from);
void llm_flight_name_drop(llm_flights_t *fl, uint32_t i, unsigned k);


/* llm_flight_log.c */

/* of one that is not shut */
uint64_t llm_flight_log_blocks(const llm_flight_row_t *f);
void llm_flight_log_trim(llm_flights_t *fl, llm_flight_row_t *f);
void llm_flight_log_free(llm_flights_t *fl, llm_flight_row_t *f);


/* llm_flight_news.c: of a flight's leader or a reader */

void llm_flight_tell(llm_flights_t *fl, uint32_t i, llm_owners_t *wake);
void llm_flight_untell(llm_flights_t *fl, uint32_t i);


/* llm_flight_keep.c */

void llm_flight_keep(llm_flights_t *fl, uint32_t i);
void llm_flight_unkeep(llm_flights_t *fl, uint32_t i);
/* its first reader came or its last one left, "followers" says which */
void llm_flight_rekeep(llm_flights_t *fl, uint32_t i);
/* the one that goes first gives up its room; LLM_DECLINED: there is none */
int llm_flight_evict(llm_flights_t *fl);


/* llm_flight_whole.c */

/* after every change of what the list depends on */
void llm_flight_whole(llm_flights_t *fl, uint32_t i);
/* shuts the first but "except": frees a block; LLM_DECLINED: there is none */
int llm_flight_cut(llm_flights_t *fl, uint32_t except);
/* there is room for the first follower of "i", for which others are cut */
int llm_flight_roomy(llm_flights_t *fl, uint32_t i);


#endif /* _LLM_FLIGHT_PRIVATE_H_INCLUDED_ */
