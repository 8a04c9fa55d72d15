
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's tables, for the ledger's own files.
 *
 * What counts is in two tables: the nodes (a limit's name and its bucket) and
 * the tickets.  A row is valid while its "used" or "state" says so, and that
 * word is always written last when a row is made and first when it ends, so
 * that at any moment the rows alone tell what is so.  All other things, marked
 * "derived", are made for speed and can be made again.
 *
 * How a slot finds its waiter without a search: a waiter stands in the line of
 * its key.  The first of a key's line, and only if the key has room, also
 * stands in the "ready" line of its gate: its team, or its key if it has no
 * team.  So whoever is in a ready line waits for the gate alone, and the first
 * there is the next to go.
 */


#ifndef _LLM_LEDGER_PRIVATE_H_INCLUDED_
#define _LLM_LEDGER_PRIVATE_H_INCLUDED_


#include "core/llm_ledger.h"


#define LLM_LEDGER_NONE        UINT32_MAX

/* a ticket's number: its use in front of its index */

#define LLM_LEDGER_INDEX_BITS  24
#define LLM_LEDGER_INDEX_MASK  (((uint64_t) 1 << LLM_LEDGER_INDEX_BITS) - 1)
#define LLM_LEDGER_ID_LAST     (UINT64_MAX - LLM_LEDGER_INDEX_MASK)

#define LLM_LEDGER_AGING       10000       /* ms of a step of priority */


typedef enum {
    LLM_TICKET_FREE = 0,
    LLM_TICKET_WAITING,
    LLM_TICKET_GRANTED,                    /* holds, its owner has yet to
                                              fetch it */
    LLM_TICKET_HOLDING
} llm_ticket_state_e;


/* what a link or a list is of */

typedef enum {
    LLM_LEDGER_LINE = 0,                   /* tickets: a key's line, an owner's
                                              granted ones, the free ones */
    LLM_LEDGER_READY,                      /* tickets: a gate's ready line */
    LLM_LEDGER_IDLE,                       /* nodes: the idle, the free ones */
    LLM_LEDGER_KINDS
} llm_ledger_kind_e;


typedef struct {
    uint32_t              prev;
    uint32_t              next;
} llm_ledger_link_t;


typedef struct {
    uint32_t              first;
    uint32_t              last;
} llm_ledger_list_t;


typedef struct {
    llm_ledger_link_t     line;            /* derived */
    llm_ledger_link_t     ready;           /* derived */

    int64_t               score;
    uint64_t              seq;             /* of equal scores */
    llm_ticket_t          id;
    void                 *data;
    uint32_t              node[LLM_LEDGER_LIMITS];
    uint32_t              owner;
    uint32_t              state;
} llm_ledger_ticket_t;


typedef struct {
    llm_ledger_link_t     idle;            /* derived: without tickets */

    uint64_t              seq;             /* of the last use */
    uint64_t              rpm;
    llm_bucket_t          bucket[2];       /* the one that counts … */
    uint32_t              turn;            /* … and is changed by this word */
    uint32_t              used;
    uint32_t              hash;
    uint32_t              concurrency;

    uint32_t              held;            /* derived */
    uint32_t              waiting;         /* derived */
    uint32_t              chain;           /* derived: next of same hash */
    uint32_t              front;           /* derived: ticket that is ready */
    llm_ledger_list_t     line;            /* derived: a key's waiters */
    llm_ledger_list_t     ready;           /* derived: a gate's */
    uint32_t              todo;            /* derived: next gate to be run */
    uint32_t              due;             /* derived: is on the todo list */

    uint32_t              len;
    unsigned char         name[LLM_LEDGER_NAME];
} llm_ledger_node_t;


struct llm_ledger_s {
    size_t                offset[LLM_LEDGER_KINDS];
    size_t                stride[LLM_LEDGER_KINDS];
    size_t                heads;           /* offset of the index of names */
    uint32_t              mask;

    uint32_t              size;            /* rows of each table */
    uint32_t              nodes;           /* rows ever used */
    uint32_t              tickets;

    /* derived */

    uint64_t              seq;
    uint32_t              nodes_used;
    uint32_t              held;
    uint32_t              waiting;
    uint32_t              free_node;
    uint32_t              free_ticket;
    uint32_t              todo;
    llm_ledger_list_t     idle;            /* the longest idle is first */
    llm_ledger_list_t     granted[LLM_LEDGER_OWNERS];
};


/*
 * The store that makes a row valid or ends it.  Death comes between two
 * instructions of one process, so that it is the compiler alone that must not
 * move other stores over it; other processes come in under a lock.
 */

static inline void
llm_ledger_store(uint32_t *word, uint32_t value)
{
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
    *(volatile uint32_t *) word = value;
    __atomic_signal_fence(__ATOMIC_SEQ_CST);
}


static inline llm_ledger_link_t *
llm_ledger_link(llm_ledger_t *lg, llm_ledger_kind_e kind, uint32_t i)
{
    return (llm_ledger_link_t *) ((unsigned char *) lg + lg->offset[kind]
                                  + lg->stride[kind] * i);
}


static inline llm_ledger_ticket_t *
llm_ledger_ticket(llm_ledger_t *lg, uint32_t i)
{
    return (llm_ledger_ticket_t *) ((unsigned char *) lg
                                    + lg->offset[LLM_LEDGER_LINE]) + i;
}


static inline llm_ledger_node_t *
llm_ledger_node(llm_ledger_t *lg, uint32_t i)
{
    return (llm_ledger_node_t *) ((unsigned char *) lg
                                  + lg->offset[LLM_LEDGER_IDLE]) + i;
}


static inline uint32_t *
llm_ledger_head(llm_ledger_t *lg, uint32_t hash)
{
    return (uint32_t *) ((unsigned char *) lg + lg->heads)
           + (hash & lg->mask);
}


static inline int
llm_ledger_room(const llm_ledger_node_t *n)
{
    return n->concurrency == LLM_UNLIMITED || n->held < n->concurrency;
}


/* of a waiter: the node whose ready line is its own */

static inline uint32_t
llm_ledger_gate(const llm_ledger_ticket_t *t)
{
    return t->node[1] != LLM_LEDGER_NONE ? t->node[1] : t->node[0];
}


/* llm_ledger_list.c */

void llm_ledger_list_reset(llm_ledger_list_t *list);
void llm_ledger_list_append(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i);
void llm_ledger_list_insert(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i);
void llm_ledger_list_remove(llm_ledger_t *lg, llm_ledger_kind_e kind,
    llm_ledger_list_t *list, uint32_t i);
/* a chain that ends with LLM_LEDGER_NONE, "prev" is of no meaning */
uint32_t llm_ledger_list_sort(llm_ledger_t *lg, llm_ledger_kind_e kind,
    uint32_t first);


/* llm_ledger_node.c: LLM_LEDGER_NONE if there is none */

uint32_t llm_ledger_node_find(llm_ledger_t *lg, const llm_limit_t *limit);
/* makes one if need be, in place of an idle one if need be; never of "keep" */
uint32_t llm_ledger_node_get(llm_ledger_t *lg, const llm_limit_t *limit,
    uint64_t now, uint32_t keep);
void llm_ledger_node_derive(llm_ledger_t *lg, uint32_t i);
void llm_ledger_node_touch(llm_ledger_t *lg, uint32_t i);


/* llm_ledger_line.c */

/* makes the ready line of a key's first waiter right after any change */
void llm_ledger_front(llm_ledger_t *lg, uint32_t key);
/* remembers a gate if it can let somebody through */
void llm_ledger_due(llm_ledger_t *lg, uint32_t gate);
/* lets through whoever can go at the remembered gates */
void llm_ledger_run(llm_ledger_t *lg, llm_owners_t *wake);
/* ends a valid ticket; llm_ledger_run() is to follow */
void llm_ledger_end(llm_ledger_t *lg, uint32_t i);
void llm_ledger_free_ticket(llm_ledger_t *lg, uint32_t i);
void llm_ledger_wake(llm_owners_t *wake, unsigned owner);


#endif /* _LLM_LEDGER_PRIVATE_H_INCLUDED_ */
