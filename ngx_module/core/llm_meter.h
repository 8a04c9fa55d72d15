
/*
 * Copyright (C) the ngx-llm authors
 *
 * A meter: what one name (a key, a team) has used, in two buckets per minute
 * and in tallies per day and month, and whether more fits.
 */


#ifndef _LLM_METER_H_INCLUDED_
#define _LLM_METER_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_bucket.h"


#define LLM_UNLIMITED  0               /* of every rate and of concurrency */


/* two clocks: one that never steps, and the one that people read */

typedef struct {
    uint64_t              ms;          /* monotonic */
    int64_t               wall;        /* s since the epoch, UTC */
} llm_now_t;


/* what a request takes; money in micro-dollars */

typedef struct {
    int64_t               requests;
    int64_t               tokens;
    int64_t               money;
} llm_amount_t;


typedef struct {
    uint64_t              rpm;         /* requests per minute */
    uint64_t              burst;       /* of them at once */
    uint64_t              tpm;         /* tokens per minute */
    uint64_t              burst_tokens;
    uint64_t              rpd;         /* requests per day (UTC) */
    uint64_t              tpd;
    uint64_t              budget;      /* micro-dollars */
    uint32_t              month;       /* the budget is for a month */
} llm_rates_t;


typedef enum {
    LLM_WHY_NONE = 0,
    LLM_WHY_REQUESTS,                  /* requests per minute */
    LLM_WHY_TOKENS,
    LLM_WHY_REQUESTS_DAY,
    LLM_WHY_TOKENS_DAY,
    LLM_WHY_BUDGET,
    LLM_WHY_QUEUE_FULL,
    LLM_WHY_MEMORY,                    /* the ledger itself is full */
    LLM_WHY_BUSY                       /* in the background: no slot now */
} llm_why_e;


/* counted in one day or month; "period" is its number since the epoch + 1 */

typedef struct {
    uint32_t              period;      /* 0: never used */
    int64_t               requests;
    int64_t               tokens;
    int64_t               money;
} llm_tally_t;


/*
 * The tallies of this period and of the one before, by the parity of its
 * number: a clock that was wrong for a while finds its count again, and what
 * was reserved before midnight is settled where it was reserved.
 */

typedef struct {
    llm_bucket_t          requests;
    llm_bucket_t          tokens;
    uint64_t              rpm;         /* at which they leaked so far */
    uint64_t              tpm;
    llm_tally_t           day[2];
    llm_tally_t           month[2];
} llm_meter_t;


/* why not, and how long: of the limit that takes longest */

typedef struct {
    llm_why_e             why;         /* LLM_WHY_NONE: it fits */
    int64_t               wait_ms;     /* until it fits, -1: it never will */
    uint64_t              limit;       /* the bucket's burst, the day's … */
    uint64_t              used;        /* of it: may be above in debt */
    uint64_t              need;
} llm_refusal_t;


/* one bucket as x-ratelimit-* tells it; limit 0: unlimited */

typedef struct {
    uint64_t              limit;
    uint64_t              rate;
    uint64_t              remaining;
    uint64_t              reset_ms;
} llm_gauge_t;


/* day and month of a time as llm_tally_t counts them (Gregorian, UTC) */
uint32_t llm_meter_day(int64_t wall);
uint32_t llm_meter_month(int64_t wall);

/* ms from now to the end of that day or month */
int64_t llm_meter_day_left(const llm_now_t *now);
int64_t llm_meter_month_left(const llm_now_t *now);

/* a meter that has seen nothing */
void llm_meter_init(llm_meter_t *m, const llm_now_t *now);

/* lets time pass: the buckets leak, a new day or month begins */
void llm_meter_roll(llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now);

/*
 * Does it fit?  Of a meter rolled to "now".  Nothing is changed.  A need of 0
 * of something asks nothing of it, so that a hit in the cache is served when
 * tokens or money are spent.  A bucket in debt refuses any need above 0.
 */
void llm_meter_check(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_amount_t *need, const llm_now_t *now, llm_refusal_t *rf);

/*
 * The same in the background of others, for whom a quarter of each bucket is
 * kept; a need above three quarters fits into a full bucket alone.  Of days
 * and money nothing is kept.  "used" is without what is kept.
 */
void llm_meter_check_background(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_amount_t *need, const llm_now_t *now, llm_refusal_t *rf);

/*
 * Adds what was taken (may be negative: given back) to all buckets and
 * tallies, fitting or not.  "wall" is when it was reserved: it belongs to the
 * day and month of that time; if those are forgotten by now, to none.
 * Nothing falls below 0.
 */
void llm_meter_add(llm_meter_t *m, const llm_amount_t *amount, int64_t wall);

/* of a meter rolled to "now": what is left of tokens (minute and day) and of
   money; INT64_MAX: unlimited; below 0 in debt */
int64_t llm_meter_tokens_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now);
int64_t llm_meter_money_left(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now);

void llm_meter_gauge_requests(const llm_meter_t *m, const llm_rates_t *rt,
    llm_gauge_t *g);
void llm_meter_gauge_tokens(const llm_meter_t *m, const llm_rates_t *rt,
    llm_gauge_t *g);

/* 1: nothing in it that must be remembered at this time (rolled): buckets
   empty and no tally of this day or month that one of the rates limits */
int llm_meter_idle(const llm_meter_t *m, const llm_rates_t *rt,
    const llm_now_t *now);


#endif /* _LLM_METER_H_INCLUDED_ */
