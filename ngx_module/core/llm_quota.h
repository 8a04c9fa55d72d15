
/*
 * Copyright (C) the ngx-llm authors
 *
 * Limits that several gateways share through one store.
 *
 * Admission is always the ledger's; the store (Redis) is asked by one agent
 * of the gateway, in batches.  A name's account holds what the store has
 * allowed and was not used yet; it may be negative: used, and the store has
 * yet to hear of it.  It has two sides, since buckets leak and belong to no
 * day while tallies do.  In exact mode a request's need is asked for as it
 * stands and nothing is kept; in leased mode an account is filled ahead by a
 * chunk, so that most requests need no answer.  Slots are shares: so many of
 * the fleet's slots of a name are this gateway's, as long as it says that it
 * lives.  When the store is away each gateway serves its part of each limit
 * from its own meters, which were kept all along.
 *
 * One batch at a time is on its way.  It lies in the shared memory and has a
 * number, the store applies a number once and repeats its reply: so neither a
 * lost reply nor the death of the agent loses or doubles anything.
 */


#ifndef _LLM_QUOTA_H_INCLUDED_
#define _LLM_QUOTA_H_INCLUDED_


#include "core/llm_ledger.h"


#define LLM_QUOTA_NAMES  64            /* of a batch */
#define LLM_QUOTA_ASKS   128


typedef enum {
    LLM_QUOTA_LOCAL = 0,               /* there is no store */
    LLM_QUOTA_EXACT,
    LLM_QUOTA_LEASED,
    LLM_QUOTA_ALONE                    /* the store is away */
} llm_quota_mode_e;


/* part of a ledger's node: durable but for the marked */

typedef struct {
    llm_amount_t          bucket;      /* allowed and not used; < 0: owed */
    llm_amount_t          tally;       /* the same, in the tallies of "day" */
    llm_amount_t          old;         /* … of an earlier day, to be told */
    uint32_t              day;
    uint32_t              month;
    uint32_t              old_day;
    uint32_t              old_month;

    uint64_t              used_at;     /* ms of the last use */
    uint64_t              slots_at;    /* ms, slots were wanted last */
    uint64_t              rate;        /* of use per minute, in 1/1000 of */
    uint64_t              rate_tokens; /* requests, tokens, micro-dollars, */
    uint64_t              rate_money;  /* smoothed; sizes the chunk */
    uint32_t              exact;       /* the store gives nothing ahead */

    /* the fleet's, as the store told them last; their clock is ours */
    llm_bucket_t          fleet_requests;
    llm_bucket_t          fleet_tokens;
    llm_tally_t           fleet_day;
    llm_tally_t           fleet_month;
    uint64_t              told_at;     /* ms, 0: never heard of */
    uint64_t              epoch;       /* of the store that told */

    /* refused by the store until then, for needs of at least that much */
    uint64_t              denied_until;
    uint64_t              denied_at;
    int64_t               denied;      /* of what the refusal is about */
    llm_refusal_t         refusal;

    uint32_t              share;       /* slots of the fleet's that are ours */
    uint32_t              claim;       /* … that the store keeps for us */
    uint32_t              wanted;      /* as told last */
    uint32_t              held;        /* as told last */
    uint32_t              tight;       /* more is wanted than there is */
    uint32_t              wish;        /* for the background, to be told */
    uint32_t              spare;       /* slots that were nobody's … */
    uint64_t              spare_at;    /* … ms, when; 0: not known */
    uint64_t              pressed_at;  /* ms, others were asked for theirs */
    uint64_t              yield_until; /* ms, or 0: the background makes way
                                          for others of the fleet */
    uint32_t              lives;       /* llm_quota_batch_t.lives then */

    uint32_t              dirty;       /* is on the list of what to say */
    uint32_t              urgent;      /* … and somebody waits for it */
    uint32_t              hinted;      /* others wait for what we spare */
    uint32_t              starved;     /* derived: waits for a share */
    uint32_t              next;        /* derived: that list, 1 + row */
    uint32_t              batch;       /* derived: 1 + place in the batch */
} llm_quota_t;


typedef struct {
    uint32_t              node;        /* row of the ledger */
    uint32_t              day;
    uint32_t              month;
    uint32_t              old_day;
    uint32_t              old_month;
    llm_amount_t          bucket;      /* taken (> 0) or given back, told */
    llm_amount_t          tally;
    llm_amount_t          old;
    llm_amount_t          prefetch;    /* wanted ahead: all of it or nothing */
    uint32_t              share;       /* slots wanted: held and waiting */
    uint32_t              held;        /* that it must have, and may use
                                          until the reply is here */
    uint32_t              wish;        /* in all, if enough is nobody's: for
                                          the background; 0: none */
    uint32_t              press;       /* … and others are to hear of it */
    uint32_t              repair;      /* the store may have forgotten */
} llm_quota_name_t;


typedef struct {
    llm_ticket_t          ticket;
    llm_amount_t          need;
    uint32_t              name[LLM_LEDGER_LIMITS];   /* places, or NONE */
    uint32_t              background;  /* must leave a part to others */
} llm_quota_ask_t;


/* the batch on its way; "seq" 0: none */

typedef struct {
    uint64_t              seq;
    uint64_t              epoch;       /* that the gateway knows */
    int64_t               wall;        /* s: asks are counted in its day */
    uint32_t              names;
    uint32_t              asks;
    uint32_t              applied;     /* steps of the reply taken over */
    llm_quota_name_t      name[LLM_QUOTA_NAMES];
    llm_quota_ask_t       ask[LLM_QUOTA_ASKS];

    /* not of the batch: the list of what to say, and the walk over all rows
       after the store or our life in it was lost */
    uint32_t              lives;
    uint32_t              walk;        /* rows still to be looked at */
    uint32_t              first;       /* derived: the list, 1 + row */
    uint32_t              last;        /* derived */
    uint32_t              urgent;      /* derived: of it */
    uint32_t              starved;     /* derived */
} llm_quota_batch_t;


/* how the gateway deals with the store; set by the agent */

typedef struct {
    uint32_t              mode;        /* llm_quota_mode_e */
    uint32_t              gateways;    /* alive, this one included; >= 1 */
    uint64_t              ahead;       /* ms: a chunk is the use of so long */
    uint64_t              idle;        /* ms after which it is given back */
    uint64_t              epoch;       /* the store's: changes if it forgot */
} llm_quota_conf_t;


/*
 * Changes the mode; when the store goes, who waits for it is served alone.
 * May be called again with the same: an agent that takes over does.
 */
void llm_ledger_mode(llm_ledger_t *lg, const llm_quota_conf_t *conf,
    const llm_now_t *now, llm_owners_t *wake);

const llm_quota_conf_t *llm_ledger_quota(llm_ledger_t *lg);

/* what the agent has to say: 0: nothing, 1: something, 2: something that
   somebody waits for; cheap; of what is not on its way yet */
int llm_ledger_pending(llm_ledger_t *lg);

/*
 * The open batch, which is to be sent again as it is, or a new one, or NULL:
 * there is nothing to say.  With "force" a new one is made in any case, as a
 * sign of life.  That is due every second: replies also tell which shares
 * others wait for.
 */
const llm_quota_batch_t *llm_ledger_collect(llm_ledger_t *lg, int force,
    const llm_now_t *now);

/* marks idle accounts with something left, and shares not in use, as to be
   given back; in slices of "rows" rows; every second or so */
void llm_ledger_sweep(llm_ledger_t *lg, unsigned rows, const llm_now_t *now);

/*
 * Takes over the store's reply to the batch "seq" and closes it; a reply to
 * another is ignored.  LLM_ERROR: it makes no sense, the batch stays open.
 * It also stays open, renumbered or with more to say, if the store has
 * forgotten or knows a later number: it is to be sent again then.
 */
int llm_ledger_apply(llm_ledger_t *lg, uint64_t seq, const char *reply,
    size_t len, const llm_now_t *now, llm_owners_t *wake);


/*
 * The batch as KEYS and ARGV of the script quota.lua: "sink" gets each in
 * turn; keys first.  How many of each: *nkeys, *nargs.  "gateway" has no
 * blanks and is another one for each ledger that was ever created.
 */
typedef void (*llm_quota_sink_pt)(void *data, const char *p, size_t len);

void llm_quota_write(llm_ledger_t *lg, const llm_quota_batch_t *b,
    const char *gateway, llm_quota_sink_pt sink, void *data,
    unsigned *nkeys, unsigned *nargs);


#endif /* _LLM_QUOTA_H_INCLUDED_ */
