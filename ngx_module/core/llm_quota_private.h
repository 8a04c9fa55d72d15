
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the files of shared limits share: accounts, the list of what to say,
 * and a reply as it was read.
 */


#ifndef _LLM_QUOTA_PRIVATE_H_INCLUDED_
#define _LLM_QUOTA_PRIVATE_H_INCLUDED_


#include "core/llm_ledger_private.h"


/* the largest integer that the script counts exactly */

#define LLM_QUOTA_MOST     (((int64_t) 1 << 53) - 1)

#define LLM_QUOTA_PREFIX   "{llm}:"
#define LLM_QUOTA_GATEWAY  64            /* longest name of one */
#define LLM_QUOTA_HINTS    32
#define LLM_QUOTA_DENIED   100           /* ms, a refusal is remembered */
#define LLM_QUOTA_RENEW    60000         /* ms, a claim is said again */
#define LLM_QUOTA_YIELD    500           /* ms, no background after a hint */
#define LLM_QUOTA_PRESS    3000          /* ms between wishes that others hear
                                            of: they lose what they spare */


typedef enum {
    LLM_QUOTA_DONE = 0,
    LLM_QUOTA_FORGOT,                    /* the epoch is another */
    LLM_QUOTA_LATE                       /* a later number was there */
} llm_quota_status_e;


typedef enum {
    LLM_QUOTA_ALLOWED = 0,
    LLM_QUOTA_REFUSED,
    LLM_QUOTA_UNJUDGED                   /* the store is full */
} llm_quota_verdict_e;


typedef struct {
    uint32_t              share;
    uint32_t              claim;
    uint32_t              tight;
    uint32_t              ahead;         /* the prefetch was allowed */
    uint32_t              spare;         /* slots that are nobody's */
    int64_t               requests;      /* levels, in parts */
    int64_t               tokens;
    llm_tally_t           day;
    llm_tally_t           month;
} llm_quota_told_t;


typedef struct {
    uint32_t              verdict;
    uint32_t              index;         /* of the ask's names */
    llm_refusal_t         refusal;       /* without "need" */
} llm_quota_answer_t;


typedef struct {
    uint64_t              now;           /* the store's, ms */
    uint64_t              seq;
    uint32_t              status;
    uint32_t              gateways;
    uint64_t              epoch;
    uint32_t              lapsed;        /* our life had ended there */
    uint32_t              names;
    uint32_t              asks;
    uint32_t              hints;
    llm_quota_told_t      name[LLM_QUOTA_NAMES];
    llm_quota_answer_t    ask[LLM_QUOTA_ASKS];
    uint32_t              hint[LLM_QUOTA_HINTS];
} llm_quota_reply_t;


/* llm_quota_wire.c: LLM_ERROR unless it is a whole reply to this batch */

int llm_quota_read(const llm_quota_batch_t *b, const char *p, size_t len,
    llm_quota_reply_t *rp);


static inline int
llm_quota_shared(const llm_ledger_t *lg)
{
    return lg->conf.mode == LLM_QUOTA_EXACT
           || lg->conf.mode == LLM_QUOTA_LEASED;
}


/* is any of a name's rates limited, so that its use is told? */

static inline int
llm_quota_counted(const llm_rates_t *rt)
{
    return (rt->rpm | rt->tpm | rt->rpd | rt->tpd | rt->budget) != 0;
}


static inline int64_t
llm_quota_min(int64_t a, int64_t b)
{
    return a < b ? a : b;
}


static inline int64_t
llm_quota_max(int64_t a, int64_t b)
{
    return a > b ? a : b;
}


/* llm_quota_account.c */

int64_t llm_quota_sum(int64_t a, int64_t b);
void llm_quota_add(llm_amount_t *to, const llm_amount_t *amount, int sign);
int llm_quota_zero(const llm_amount_t *a);

/* makes the account one of the day of "wall" */
void llm_quota_roll(llm_quota_t *q, int64_t wall);
/* adds to both sides, the tally's in the day of "wall" */
void llm_quota_credit(llm_quota_t *q, const llm_amount_t *amount, int sign,
    int64_t wall);
/* adds to the tally of the day that a batch has told */
void llm_quota_credit_day(llm_quota_t *q, const llm_amount_t *amount,
    uint32_t day);

/* how much is allowed ahead; all 0: exact */
void llm_quota_chunk(const llm_ledger_t *lg, const llm_ledger_node_t *n,
    llm_amount_t *chunk);

/* is there something in the account to be told at once? */
int llm_quota_due(const llm_ledger_t *lg, const llm_ledger_node_t *n);
/* counts what is asked for into the rate of use */
void llm_quota_use(llm_quota_t *q, const llm_amount_t *need,
    const llm_now_t *now);


/* llm_quota_draw.c: what of it a refusal of that kind is about */

int64_t llm_quota_needed(const llm_amount_t *need, llm_why_e why);


/* llm_ledger_quota.c */

/* puts a node on the list of what to say */
void llm_quota_dirty(llm_ledger_t *lg, uint32_t node, int urgent);
/* the first of the list, which is not empty, comes off it */
uint32_t llm_quota_shift(llm_ledger_t *lg);
/* how many slots are wanted, and whether waiters wait for a share */
uint32_t llm_quota_wanted(const llm_ledger_node_t *n);
void llm_quota_starved(llm_ledger_t *lg, uint32_t node);


#endif /* _LLM_QUOTA_PRIVATE_H_INCLUDED_ */
