
/*
 * Copyright (C) the ngx-llm authors
 *
 * The ledger's tables, for the ledger's own files.
 *
 * What counts is in two tables: the nodes (a limit's name and its meter) and
 * the tickets.  A row is valid while its "used" or "state" says so, and that
 * word is always written last when a row is made and first when it ends, so
 * that at any moment the rows alone tell what is so.  All other things, marked
 * "derived", are made for speed and can be made again.
 *
 * How a slot finds its waiter without a search: a waiter stands in the line of
 * its key.  The first of a key's line, and only if the key has room, also
 * stands in the "ready" line of its gate: its team, or its key if it has no
 * team.  So whoever is in a ready line waits for the gate alone, and the first
 * there is the next to go.  A fair gate's ready line is in order of starts: of
 * each flow (a key of the gate) the next request starts where the last one
 * finished, but not before the gate's round, and takes the longer the less the
 * flow weighs.
 */


#ifndef _LLM_LEDGER_PRIVATE_H_INCLUDED_
#define _LLM_LEDGER_PRIVATE_H_INCLUDED_


#include "core/llm_ledger.h"
#include "core/llm_meter_inline.h"
#include "core/llm_quota.h"


#define LLM_LEDGER_NONE        UINT32_MAX

/* a ticket's number: its use in front of its index */

#define LLM_LEDGER_INDEX_BITS  24
#define LLM_LEDGER_INDEX_MASK  (((uint64_t) 1 << LLM_LEDGER_INDEX_BITS) - 1)
#define LLM_LEDGER_ID_LAST     (UINT64_MAX - LLM_LEDGER_INDEX_MASK)

#define LLM_LEDGER_AGING       10000       /* ms of a step of priority */

/* the needs of all rows together stay below INT64_MAX */

#define LLM_LEDGER_ROWS        (((uint32_t) 1 << 23) - 1)
#define LLM_LEDGER_MOST        ((int64_t) 1 << 40)


/*
 * WAITING stands in line and holds nothing.  PARKED waits for its rates, not
 * in any line; its need counts against who comes later.  ASKING waits for the
 * store's answer and holds its slot, if it wants one.  GRANTED and REFUSED
 * are for the owner to fetch; the refused holds nothing any more.
 */

typedef enum {
    LLM_TICKET_FREE = 0,
    LLM_TICKET_WAITING,
    LLM_TICKET_PARKED,
    LLM_TICKET_ASKING,
    LLM_TICKET_GRANTED,
    LLM_TICKET_REFUSED,
    LLM_TICKET_HOLDING
} llm_ticket_state_e;


/* what a link or a list is of */

typedef enum {
    LLM_LEDGER_LINE = 0,                   /* tickets: a key's line, an owner's
                                              to fetch, the free ones */
    LLM_LEDGER_READY,                      /* tickets: a gate's ready line */
    LLM_LEDGER_AHEAD,                      /* tickets parked by limit[0] … */
    LLM_LEDGER_AHEAD_LAST = LLM_LEDGER_AHEAD + LLM_LEDGER_LIMITS - 1,
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
    llm_ledger_link_t     ahead[LLM_LEDGER_LIMITS];  /* derived */

    int64_t               score;
    uint64_t              seq;             /* of equal scores */
    int64_t               rank;            /* derived: in the ready line */
    llm_ticket_t          id;
    void                 *data;
    llm_amount_t          need;            /* wanted; once taken: reserved */
    llm_amount_t          floor;           /* charged if the owner dies */
    int64_t               wall;            /* s, when it was reserved */
    uint64_t              until;           /* ms, PARKED: its time */
    llm_refusal_t         refusal;         /* REFUSED, PARKED */
    uint32_t              refused_by;      /* index into node */
    uint32_t              blocked;         /* PARKED: bits, by which limits */
    uint32_t              notice;          /* PARKED: to be fetched, too */
    uint32_t              slot;            /* wants or holds one */
    uint32_t              park;
    uint32_t              background;      /* leaves room to others */
    uint32_t              node[LLM_LEDGER_LIMITS];
    uint32_t              owner;
    uint32_t              state;
} llm_ledger_ticket_t;


typedef struct {
    llm_ledger_link_t     idle;            /* derived: without tickets */

    uint64_t              seq;             /* of the last use */
    llm_meter_t           meter;
    llm_quota_t           quota;
    llm_rates_t           rates;           /* as the policy said last */
    uint32_t              used;
    uint32_t              hash;
    uint32_t              concurrency;     /* the policy's; what counts is
                                              llm_ledger_slots() */
    uint32_t              weight;
    uint32_t              fair;

    /* of a fair gate and its flows: lost without harm */

    uint64_t              round;           /* a gate's: start of the last */
    uint64_t              start;           /* a flow's next, 0: not set */
    uint64_t              finish;          /* a flow's last */

    llm_amount_t          parked;          /* derived: needs of the parked */
    llm_ledger_list_t     ahead[LLM_LEDGER_LIMITS];  /* derived: they, as its
                                              key's or team's tickets */
    uint32_t              tickets;         /* derived: of any state */
    uint32_t              held;            /* derived: slots */
    uint32_t              waiting;         /* derived, the parked too */
    uint32_t              chain;           /* derived: next of same hash */
    uint32_t              front;           /* derived: ticket that is ready */
    llm_ledger_list_t     line;            /* derived: a key's waiters */
    llm_ledger_list_t     ready;           /* derived: a gate's */
    uint32_t              todo;            /* derived: next gate to be run */
    uint32_t              due;             /* derived: is on the todo list */

    uint32_t              len;
    unsigned char         name[LLM_LEDGER_NAME];
} llm_ledger_node_t;


/*
 * What a visit is changing, as it was before: written first, "n" last, and
 * "n" is 0 again when the visit's changes are complete.  A rebuild puts back
 * what it finds here, so that meters of key and team and their ticket change
 * together or not at all.
 */

typedef struct {
    uint32_t              node;
    llm_meter_t           meter;
    llm_quota_t           quota;
} llm_ledger_undo_node_t;


typedef struct {
    uint32_t              n;               /* 1 + nodes; 0: not valid */
    uint32_t              shared;          /* the quotas are saved, too */
    uint32_t              ticket;          /* or LLM_LEDGER_NONE */
    uint32_t              state;
    llm_amount_t          need;
    llm_amount_t          floor;
    int64_t               wall;
    uint32_t              applied;         /* of the open batch */
    llm_ledger_undo_node_t  row[LLM_LEDGER_LIMITS];
} llm_ledger_undo_t;


struct llm_ledger_s {
    llm_ledger_undo_t     undo;
    llm_quota_conf_t      conf;
    llm_quota_batch_t     batch;
    uint64_t              batch_seq;       /* of the last one made */
    uint32_t              sweep;           /* next row */

    size_t                offset[LLM_LEDGER_KINDS];
    size_t                stride[LLM_LEDGER_KINDS];
    size_t                heads;           /* offset of the index of names */
    uint32_t              mask;

    uint32_t              size;            /* rows of each table */
    uint32_t              nodes;           /* rows ever used */
    uint32_t              tickets;

    /* derived */

    uint64_t              seq;
    llm_now_t             now;             /* of the last visit */
    uint32_t              nodes_used;
    uint32_t              tickets_used;
    uint32_t              held;            /* slots */
    uint32_t              waiting;
    uint32_t              free_node;
    uint32_t              free_ticket;
    uint32_t              todo;
    uint32_t              dirty;           /* nodes the store is to hear of */
    llm_ledger_list_t     asking;          /* tickets not in a batch yet */
    llm_ledger_list_t     idle;            /* the longest idle is first */
    llm_ledger_list_t     granted[LLM_LEDGER_OWNERS];  /* to be fetched */
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


/* slots that count here: all of them, our share, or our part */

uint32_t llm_ledger_slots(const llm_ledger_t *lg, const llm_ledger_node_t *n);


static inline int
llm_ledger_room(const llm_ledger_t *lg, const llm_ledger_node_t *n)
{
    return n->concurrency == LLM_UNLIMITED
           || n->held < (lg->conf.mode == LLM_QUOTA_LOCAL
                         ? n->concurrency : llm_ledger_slots(lg, n));
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


/* does a ticket hold its slot, does it wait? */

static inline int
llm_ledger_holds(const llm_ledger_ticket_t *t, uint32_t state)
{
    return t->slot && (state == LLM_TICKET_HOLDING
                       || state == LLM_TICKET_GRANTED
                       || state == LLM_TICKET_ASKING);
}


static inline int
llm_ledger_waits(uint32_t state)
{
    return state == LLM_TICKET_WAITING || state == LLM_TICKET_PARKED;
}


/* has it reserved something? */

static inline int
llm_ledger_reserved(const llm_ledger_ticket_t *t)
{
    return t->state == LLM_TICKET_HOLDING || t->state == LLM_TICKET_GRANTED;
}


static inline int64_t
llm_ledger_bound(int64_t n)
{
    return n <= 0 ? 0 : n < LLM_LEDGER_MOST ? n : LLM_LEDGER_MOST;
}


static inline llm_amount_t
llm_ledger_bounded(const llm_amount_t *amount)
{
    llm_amount_t  a;

    a.requests = llm_ledger_bound(amount->requests);
    a.tokens = llm_ledger_bound(amount->tokens);
    a.money = llm_ledger_bound(amount->money);

    return a;
}


/* llm_ledger_node.c: LLM_LEDGER_NONE if there is none */

uint32_t llm_ledger_node_find(llm_ledger_t *lg, const llm_limit_t *limit);
/* makes one if need be, in place of an idle one if need be; never of "keep" */
uint32_t llm_ledger_node_get(llm_ledger_t *lg, const llm_limit_t *limit,
    const llm_now_t *now, uint32_t keep);
/* makes it anew, what is derived, and puts it into the index */
void llm_ledger_node_derive(llm_ledger_t *lg, uint32_t i);
void llm_ledger_node_touch(llm_ledger_t *lg, uint32_t i);
/* takes over what the policy says */
void llm_ledger_adopt(llm_ledger_t *lg, uint32_t i, const llm_limit_t *limit);


/* llm_ledger_line.c */

/* makes the ready line of a key's first waiter right after any change */
void llm_ledger_front(llm_ledger_t *lg, uint32_t key);
/* remembers a gate if it can let somebody through */
void llm_ledger_due(llm_ledger_t *lg, uint32_t gate);
/* lets through whoever can go at the remembered gates */
void llm_ledger_run(llm_ledger_t *lg, const llm_now_t *now,
    llm_owners_t *wake);
/* puts a WAITING ticket into its key's line, or takes it out */
void llm_ledger_line(llm_ledger_t *lg, uint32_t i);
void llm_ledger_unline(llm_ledger_t *lg, uint32_t i);
/* the ready line in order after "fair" has changed */
void llm_ledger_regate(llm_ledger_t *lg, uint32_t gate);
/* a ticket of a fair gate got its slot: its flow's next starts later */
void llm_ledger_serve(llm_ledger_t *lg, const llm_ledger_ticket_t *t);
/* puts a ticket that waited where its new state belongs */
void llm_ledger_place(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake);
/* hands a ticket that is to be fetched to its owner */
void llm_ledger_hand(llm_ledger_t *lg, uint32_t i, llm_owners_t *wake);
void llm_ledger_wake(llm_owners_t *wake, unsigned owner);


/* llm_ledger_park.c: tickets that wait for rates */

/* a place in the order of arrival, and what hinders there */

typedef struct {
    int64_t               score;
    uint64_t              seq;
    uint32_t              blocked;         /* bits: limits that refuse */
    uint32_t              background;
} llm_ledger_turn_t;

/* puts a PARKED ticket among the parked of the limits that refuse it */
void llm_ledger_park(llm_ledger_t *lg, uint32_t i);
void llm_ledger_unpark(llm_ledger_t *lg, uint32_t i);
/* the needs that stand parked before a turn; 0: none */
int llm_ledger_ahead(llm_ledger_t *lg, uint32_t node,
    const llm_ledger_turn_t *turn, llm_amount_t *sum);
/* when a store decides: the parked one that a need must not overtake */
const llm_ledger_ticket_t *llm_ledger_behind(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *need, const llm_ledger_turn_t *turn);


/*
 * llm_ledger_background.c: slots for what runs in the background.
 *
 * leaves: may one more be taken of all nodes?  Of nodes with room.  wish: the
 * fleet is to be asked for a share, since one was refused by these nodes or,
 * if not "refused", since the next one might be.
 */

int llm_ledger_leaves(llm_ledger_t *lg, const uint32_t *node,
    const llm_now_t *now);
void llm_ledger_wish(llm_ledger_t *lg, const uint32_t *node, int refused,
    const llm_now_t *now);
/* fills the reading: why there is no slot */
void llm_ledger_busy_by(llm_ledger_t *lg, const uint32_t *node,
    const llm_now_t *now, llm_reading_t *rd);


/* llm_ledger_ticket.c */

/* LLM_LEDGER_NONE: no row is free */
uint32_t llm_ledger_new_ticket(llm_ledger_t *lg);
void llm_ledger_free_ticket(llm_ledger_t *lg, uint32_t i);
/* the row of a valid ticket, or LLM_LEDGER_NONE */
uint32_t llm_ledger_ticket_find(llm_ledger_t *lg, llm_ticket_t id);
/* counts a ticket whose state was "from" and is now another */
void llm_ledger_shift(llm_ledger_t *lg, uint32_t i, uint32_t from);
/* what follows from the state of a fresh ticket */
void llm_ledger_open(llm_ledger_t *lg, uint32_t i);
/* ends a valid ticket and gives "back" (or NULL) of what it reserved;
   llm_ledger_run() is to follow */
void llm_ledger_end(llm_ledger_t *lg, uint32_t i, const llm_amount_t *back,
    const llm_now_t *now);
/* writes what a refusal makes of a ticket: its state is REFUSED or PARKED */
void llm_ledger_refuse(llm_ledger_ticket_t *t, const llm_refusal_t *refusal,
    unsigned index, uint32_t blocked, const llm_now_t *now);


/*
 * llm_ledger_draw.c: meters, and the undo around their changes.
 *
 * Between begin and commit meters and quotas of these nodes and the durable
 * state of this ticket may be changed; they change together or not at all.
 * rollback: not at all.
 *
 * draw: checks the need against all nodes of a request (node[k] may be NONE)
 * and takes it from all or from none: LLM_OK, LLM_DECLINED (rd->refusal,
 * rd->index), or LLM_AGAIN: the store must be asked.  A check alone is LLM_OK
 * where the store decides.  Force takes it in any case.  "turn" is its place
 * behind the parked, which it must not overtake, and whether it leaves a part
 * to others; NULL: it has started.
 *
 * refund: gives back a part (or takes more, if negative) of what was reserved
 * at "wall".
 */

typedef enum {
    LLM_DRAW_CHECK = 0,
    LLM_DRAW_TAKE,
    LLM_DRAW_FORCE
} llm_ledger_draw_e;

void llm_ledger_begin(llm_ledger_t *lg, const uint32_t *node,
    uint32_t ticket);
void llm_ledger_commit(llm_ledger_t *lg);
void llm_ledger_rollback(llm_ledger_t *lg);
int llm_ledger_draw(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *need, llm_ledger_draw_e how, llm_ledger_turn_t *turn,
    const llm_now_t *now, llm_reading_t *rd);
void llm_ledger_refund(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *back, int64_t wall, const llm_now_t *now);
/* begin and draw for a ticket that waited: LLM_DECLINED has been written into
   it by llm_ledger_refuse(), commit is to follow */
int llm_ledger_turn(llm_ledger_t *lg, uint32_t ticket, llm_ledger_draw_e how,
    const llm_now_t *now);
/* of several refusals the longest wait is told, "never" is the longest */
void llm_ledger_worse(llm_reading_t *rd, const llm_refusal_t *rf, unsigned k);
/* a reading that refuses nothing and knows no limit */
void llm_ledger_blank(llm_reading_t *rd);
/* what is left of a request's nodes; changes nothing */
void llm_ledger_gauge(llm_ledger_t *lg, const uint32_t *node,
    const llm_now_t *now, llm_reading_t *rd);

/*
 * The store's answer to a ticket that is ASKING: LLM_OK: its need has been
 * allowed and is its reservation now, of the day of now->wall; LLM_DECLINED:
 * by "refusal" of node[index].  Called between begin and commit of its nodes
 * and itself, when it is in lg->asking no more.  Wakes its owner;
 * llm_ledger_run() is to follow.
 */

void llm_ledger_answer(llm_ledger_t *lg, uint32_t ticket, int verdict,
    unsigned index, const llm_refusal_t *refusal, const llm_now_t *now,
    llm_owners_t *wake);


/*
 * llm_ledger_quota.c: the seam to the limits that gateways share.  All of it
 * is called in every mode but LLM_QUOTA_LOCAL, between begin and commit.
 *
 * The node's own meter is kept in every mode: it is rolled by the rates of
 * llm_ledger_quota_part() and llm_meter_add() is called for what is taken.
 *
 * quota_draw() in EXACT and LEASED decides: LLM_OK: the accounts have paid;
 * LLM_AGAIN: the store must be asked; LLM_DECLINED: rd->refusal, rd->index.
 * In the background it always is: what was fetched ahead is for others.
 * With "force", and in ALONE, where the caller has checked the need by part
 * and view, it is LLM_OK and the accounts have paid or owe.  What an ASKING
 * ticket is allowed has been paid: llm_ledger_answer() adds it to the meters
 * alone.  refund: as llm_ledger_refund(), of one node.
 */

int llm_ledger_quota_draw(llm_ledger_t *lg, const uint32_t *node,
    const llm_amount_t *need, int force, int background,
    const llm_now_t *now, llm_reading_t *rd);
void llm_ledger_quota_refund(llm_ledger_t *lg, uint32_t node,
    const llm_amount_t *back, int64_t wall, const llm_now_t *now);
/* the rates that count here: in ALONE this gateway's part, else all */
void llm_ledger_quota_part(const llm_ledger_t *lg,
    const llm_ledger_node_t *n, llm_rates_t *part);
/* what is to be checked (ALONE) and shown (all modes) in place of the node's
   own meter, with the rates of part: what is known of the whole fleet */
void llm_ledger_quota_view(const llm_ledger_t *lg,
    const llm_ledger_node_t *n, const llm_now_t *now, llm_meter_t *m);
/* a node's line or slots changed: its share may have to */
void llm_ledger_quota_slots(llm_ledger_t *lg, uint32_t node);
/* a fresh node, and after a rebuild: the derived lists */
void llm_ledger_quota_node(llm_ledger_t *lg, uint32_t node,
    const llm_now_t *now);
void llm_ledger_quota_rebuild(llm_ledger_t *lg);
/* may a node be forgotten? not while it has something to say */
int llm_ledger_quota_idle(const llm_ledger_t *lg,
    const llm_ledger_node_t *n);
/* 1: an ASKING ticket is in the open batch, so not in lg->asking */
int llm_ledger_quota_asked(const llm_ledger_t *lg, llm_ticket_t id);


/* the rates that count here, in "part" if they are not the node's own */

static inline const llm_rates_t *
llm_ledger_rates(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    llm_rates_t *part)
{
    if (lg->conf.mode != LLM_QUOTA_ALONE) {
        return &n->rates;
    }

    llm_ledger_quota_part(lg, n, part);

    return part;
}


/* rolls a node's meter by them; "p" is the period of now->wall */

static inline const llm_rates_t *
llm_ledger_roll(llm_ledger_t *lg, llm_ledger_node_t *n, const llm_now_t *now,
    llm_period_t p, llm_rates_t *part)
{
    const llm_rates_t  *rt;

    rt = llm_ledger_rates(lg, n, part);
    llm_meter_pass(&n->meter, rt, now->ms, p);

    return rt;
}


#endif /* _LLM_LEDGER_PRIVATE_H_INCLUDED_ */
