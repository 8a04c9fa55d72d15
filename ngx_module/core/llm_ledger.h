
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger: who has taken what.  It lives in one block of memory that the
 * workers share, is always used under the lock of its owner (this file takes
 * none), and is built so that a worker's death loses nothing: every slot held
 * and every place in line is a ticket with an owner in a fixed table, counts
 * and lines are derived from the tickets, and llm_ledger_rebuild() derives
 * them again after a death in the middle of a change.
 */


#ifndef _LLM_LEDGER_H_INCLUDED_
#define _LLM_LEDGER_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_bucket.h"


#define LLM_LEDGER_NAME    96      /* longest "k:name", "t:name" */
#define LLM_LEDGER_LIMITS  2       /* a request's limits: key, team */
#define LLM_LEDGER_OWNERS  128

#define LLM_UNLIMITED      0       /* of a rate or concurrency */


typedef struct llm_ledger_s  llm_ledger_t;
typedef uint64_t             llm_ticket_t;   /* 0: none; never used twice */


/* what the policy says of one key or team; the caller's memory */

typedef struct {
    llm_str_t             name;              /* "k:notebooks", "t:search" */
    uint32_t              hash;              /* of the name, any good hash */
    uint32_t              concurrency;
    uint64_t              rpm;
    uint64_t              burst;             /* requests */
} llm_limit_t;


/* the request's limits: limits[0] is the key, limits[1] its team, if any */

typedef struct {
    const llm_limit_t    *limit[LLM_LEDGER_LIMITS];
    unsigned              n;
} llm_limits_t;


typedef enum {
    LLM_WHY_NONE = 0,
    LLM_WHY_REQUESTS,                        /* a bucket is empty */
    LLM_WHY_QUEUE_FULL,
    LLM_WHY_MEMORY                           /* the ledger itself is full */
} llm_why_e;


/* the tightest of the request's buckets, for errors and x-ratelimit-* */

typedef struct {
    llm_why_e             why;
    unsigned              index;             /* into limits */
    uint64_t              limit;             /* the bucket's burst … */
    uint64_t              rate;              /* … and rate per minute */
    uint64_t              remaining;
    uint64_t              reset_ms;
    int64_t               wait_ms;           /* refused: until it fits */
} llm_reading_t;


typedef struct {
    uint64_t              tickets;           /* room for */
    uint64_t              nodes;
    uint64_t              tickets_used;
    uint64_t              nodes_used;
    uint64_t              held;
    uint64_t              waiting;
} llm_ledger_stat_t;


/* lays a fresh ledger into mem (8-byte aligned); NULL: too small */
llm_ledger_t *llm_ledger_create(void *mem, size_t size);


/*
 * Takes one request from every bucket or, if one is empty, from none.
 * LLM_OK or LLM_DECLINED; "rd" is filled in both cases ("limit" 0: unlimited).
 */
int llm_ledger_take(llm_ledger_t *lg, const llm_limits_t *ls, uint64_t now,
    llm_reading_t *rd);

/* gives the request back: it was refused later on its way */
void llm_ledger_untake(llm_ledger_t *lg, const llm_limits_t *ls,
    uint64_t now);


/*
 * A slot of every limit, or a place in line.  LLM_OK: "*t" holds the slot.
 * LLM_AGAIN: "*t" waits; the owner will find it by llm_ledger_granted().
 * LLM_DECLINED: "rd->why" says why not (the key's line is "queue" long, or
 * the ledger is full).  Nobody overtakes: who arrives while a waiter that
 * could run is in line goes behind it.  Order: score = now + priority * 10 s,
 * so that a lower priority ages.  A waiter that its own key blocks does not
 * block others of its team.  "data" is the owner's own (a pointer).
 * A change of limits[i].concurrency is taken over at each call.
 */
int llm_ledger_enter(llm_ledger_t *lg, const llm_limits_t *ls,
    unsigned owner, void *data, int priority, unsigned queue, uint64_t now,
    llm_ticket_t *t, llm_reading_t *rd);


/*
 * Ends a ticket, holding or waiting; a ticket that has ended is a no-op.
 * Slots that got free are handed to waiters whose turn it is; the owners to
 * be woken are set as bits in "wake" (LLM_LEDGER_OWNERS bits).
 */
typedef struct { uint64_t  bits[LLM_LEDGER_OWNERS / 64]; } llm_owners_t;

void llm_ledger_leave(llm_ledger_t *lg, llm_ticket_t t, llm_owners_t *wake);


/* the next ticket of this owner that got its slot in line: its data, once */
void *llm_ledger_granted(llm_ledger_t *lg, unsigned owner, llm_ticket_t *t);


/* limits changed: takes them over and grants what has become possible */
void llm_ledger_update(llm_ledger_t *lg, const llm_limit_t *limit,
    llm_owners_t *wake);


/* ends all tickets of an owner that died; how many there were */
unsigned llm_ledger_reap(llm_ledger_t *lg, unsigned owner,
    llm_owners_t *wake);


/* derives counts, lines and the index of names from the tables again */
void llm_ledger_rebuild(llm_ledger_t *lg, llm_owners_t *wake);


/* slots in use and waiters of one limit by name, for tests and metrics */
int llm_ledger_look(llm_ledger_t *lg, const llm_limit_t *limit,
    unsigned *held, unsigned *waiting);

void llm_ledger_stat(llm_ledger_t *lg, llm_ledger_stat_t *st);


#endif /* _LLM_LEDGER_H_INCLUDED_ */
