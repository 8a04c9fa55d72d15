
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger: who has taken what.  It lives in one block of memory that the
 * workers share, is always used under the lock of its owner (this file takes
 * none), and is built so that a worker's death loses nothing: every slot held
 * and every place in line is a ticket with an owner in a fixed table, counts
 * and lines are derived from the tickets, and llm_ledger_rebuild() derives
 * them again after a death in the middle of a change.  What a visit changes
 * in meters and tickets is changed as a whole or, after a death, not at all.
 */


#ifndef _LLM_LEDGER_H_INCLUDED_
#define _LLM_LEDGER_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_meter.h"


#define LLM_LEDGER_NAME    96      /* longest "k:name", "f:3:t:name" */
#define LLM_LEDGER_LIMITS  2       /* a request's limits: key, team */
#define LLM_LEDGER_OWNERS  128


typedef struct llm_ledger_s  llm_ledger_t;
typedef uint64_t             llm_ticket_t;   /* 0: none; never used twice */

typedef struct { uint64_t  bits[LLM_LEDGER_OWNERS / 64]; } llm_owners_t;


/*
 * What the policy says of one name; the caller's memory.  A fair limit shares
 * its slots between the names that stand in line for it (limit[0] of their
 * tickets) by their weights; others serve by score alone.
 */

typedef struct {
    llm_str_t             name;              /* "k:notebooks", "t:search" */
    uint32_t              hash;              /* of the name, any good hash */
    uint32_t              concurrency;
    uint32_t              weight;            /* 1 unless given */
    uint32_t              fair;
    llm_rates_t           rates;
} llm_limit_t;


/*
 * Key and team: limit[0] is the key, limit[1] its team, if any.  Or, for a
 * provider's slots: limit[0] is "f:SLOT:t:team", without limits of its own,
 * limit[1] the provider's ("p:name"), fair.
 */

typedef struct {
    const llm_limit_t    *limit[LLM_LEDGER_LIMITS];
    unsigned              n;
} llm_limits_t;


typedef struct {
    const llm_limits_t   *limits;
    llm_amount_t          need;              /* taken when it starts */
    llm_amount_t          floor;             /* charged if the owner dies */
    void                 *data;              /* the owner's own */
    unsigned              owner;
    int                   priority;
    unsigned              queue;             /* longest line of its key */
    uint64_t              since;             /* ms, arrival; 0: now */
    unsigned              slot:1;            /* else rates alone */
    unsigned              park:1;            /* waits for rates too */
    unsigned              background:1;      /* leaves room to others, and
                                                stands in no line */
} llm_ask_t;


typedef struct {
    int                   verdict;           /* of llm_ledger_granted() */
    int                   asking;            /* 1: waits to hear of the
                                                fleet's limits, not in line;
                                                2: for slots of the fleet */
    unsigned              index;             /* into limits: who refused */
    llm_refusal_t         refusal;
    llm_gauge_t           requests;          /* the tightest of each kind */
    llm_gauge_t           tokens;
    int64_t               tokens_left;       /* minute and day, all limits; */
    int64_t               money_left;        /* INT64_MAX: unlimited */
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


/* fills the reading without taking anything; an unknown name has used 0 */
void llm_ledger_peek(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_now_t *now, llm_reading_t *rd);


/*
 * Takes the need and a slot, or a place in line.
 *
 * LLM_OK: taken; "*t" holds the slot and what was reserved (without "slot",
 * "*t" is 0 and nothing is to be closed or left).
 * LLM_AGAIN: "*t" waits, the owner will find it by llm_ledger_granted() or,
 * if rd->refusal.wait_ms is above 0, is to call llm_ledger_retry() then.
 * LLM_DECLINED: nothing was taken anywhere, rd->refusal says why: a limit
 * (rd->index), the key's line is "queue" long, or the ledger is full.
 *
 * All limits are checked on entry, so that rates refuse at once, and again
 * when a waiter's turn comes: a waiter holds nothing.  With "park" rates make
 * it wait too, behind those who wait already.  Nobody overtakes: who arrives
 * while a waiter that could run is in line goes behind it.  Order: score =
 * since + priority * 10 s, so that a lower priority ages.  A waiter that its
 * own key blocks does not block others of its team.  A change of the limits
 * is taken over at each call.
 *
 * In the background it is taken only if a quarter of each bucket and of each
 * limit's slots (of a limit of one: none) is left to others, and nobody waits
 * there; else it is declined: LLM_WHY_BUSY, of limit rd->index, for slots.
 * LLM_AGAIN is then that the fleet is asked for rates (rd->asking), nothing
 * else.  Who is told busy may have slots of the fleet's when it comes again.
 */
int llm_ledger_enter(llm_ledger_t *lg, const llm_ask_t *ask,
    const llm_now_t *now, llm_ticket_t *t, llm_reading_t *rd);

/* gives back what an ask without slot took: it was refused later */
void llm_ledger_untake(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_amount_t *amount, const llm_now_t *now);


/*
 * Takes what was used without having been asked for, whatever the limits say:
 * it may leave them in debt.  LLM_DECLINED: no memory, nothing was taken.
 */
int llm_ledger_add(llm_ledger_t *lg, const llm_limits_t *ls,
    const llm_amount_t *amount, const llm_now_t *now);


/*
 * The next ticket of this owner whose wait ended: its data, once, or NULL.
 * rd->verdict LLM_OK: it holds its slot and reservation; LLM_DECLINED: its
 * turn came and a limit refused it: it has ended; LLM_AGAIN: it is parked
 * for rd->refusal.wait_ms.
 */
void *llm_ledger_granted(llm_ledger_t *lg, unsigned owner, llm_ticket_t *t,
    llm_reading_t *rd);

/* a parked ticket's time has come: as llm_ledger_enter(), and LLM_DECLINED
   has ended it */
int llm_ledger_retry(llm_ledger_t *lg, llm_ticket_t t, const llm_now_t *now,
    llm_reading_t *rd, llm_owners_t *wake);


/*
 * What a holder has used so far: charged if it dies now.  Beyond what is
 * reserved the reservation grows, if "force" whatever the limits say.
 * LLM_DECLINED: it does not fit, the reservation stays as it was.
 */
int llm_ledger_charge(llm_ledger_t *lg, llm_ticket_t t,
    const llm_amount_t *used, int force, const llm_now_t *now);

/*
 * Ends a ticket, holding or waiting; of one that has ended it is a no-op, so
 * that the ticket is its idempotency key.  Slots that got free are handed to
 * waiters whose turn it is; the owners to be woken are set as bits in "wake".
 *
 * leave: what it reserved stays taken or, with "undo", goes back.
 * close: what it reserved becomes what was used, in the days in which it was
 * reserved.
 */
void llm_ledger_leave(llm_ledger_t *lg, llm_ticket_t t, int undo,
    const llm_now_t *now, llm_owners_t *wake);
void llm_ledger_close(llm_ledger_t *lg, llm_ticket_t t,
    const llm_amount_t *used, const llm_now_t *now, llm_owners_t *wake);


/* limits changed: takes them over and grants what has become possible */
void llm_ledger_update(llm_ledger_t *lg, const llm_limit_t *limit,
    const llm_now_t *now, llm_owners_t *wake);

/* ends all tickets of an owner that died, each charged its floor */
unsigned llm_ledger_reap(llm_ledger_t *lg, unsigned owner,
    const llm_now_t *now, llm_owners_t *wake);

/* derives counts, lines and the index of names from the tables again */
void llm_ledger_rebuild(llm_ledger_t *lg, const llm_now_t *now,
    llm_owners_t *wake);


/* slots in use and waiters of one limit by name, for tests and metrics */
int llm_ledger_look(llm_ledger_t *lg, const llm_limit_t *limit,
    unsigned *held, unsigned *waiting);

/* a name's meter, rolled to now, or NULL: for tests, metrics and state */
const llm_meter_t *llm_ledger_meter(llm_ledger_t *lg,
    const llm_limit_t *limit, const llm_now_t *now);

void llm_ledger_stat(llm_ledger_t *lg, llm_ledger_stat_t *st);


/*
 * What is busy, row by row as below: some "look" rows at a time; no name:
 * none of these.
 */
typedef struct {
    llm_str_t             name;            /* good as long as the lock */
    unsigned              held;
    unsigned              waiting;
    uint32_t              concurrency;     /* LLM_UNLIMITED: any */
} llm_ledger_busy_t;

uint32_t llm_ledger_busy(llm_ledger_t *lg, uint32_t row, unsigned look,
    llm_ledger_busy_t *busy);


/*
 * The tallies, to outlive a restart: walks the rows (row: 0 at first, then
 * what was returned; 0: the end), giving a name and its meter; and puts one
 * back into a fresh ledger (merged: the larger number of equal periods).
 */
uint32_t llm_ledger_walk(llm_ledger_t *lg, uint32_t row, llm_str_t *name,
    const llm_meter_t **m);
int llm_ledger_restore(llm_ledger_t *lg, const llm_str_t *name,
    uint32_t hash, const llm_tally_t day[2], const llm_tally_t month[2],
    const llm_now_t *now);


#endif /* _LLM_LEDGER_H_INCLUDED_ */
