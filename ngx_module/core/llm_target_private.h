
/*
 * Copyright (C) the ngx-llm authors
 *
 * What lies in the memory of the targets: the header, the buckets of the
 * index of names, a row for each target.  Each concern has its part of a row
 * and a file of its own.
 */


#ifndef _LLM_TARGET_PRIVATE_H_INCLUDED_
#define _LLM_TARGET_PRIVATE_H_INCLUDED_


#include "core/llm_target.h"


#define LLM_TARGET_STEPS    10
#define LLM_TARGET_BUCKETS  32
#define LLM_TARGET_MICRO    1000000          /* parts of a request, a token */
#define LLM_TARGET_USED     0x6c6c6d54
#define LLM_TARGET_PAST     32
#define LLM_TARGET_LIMIT    ((int64_t) 10000000000)
#define LLM_TARGET_MINUTE   60000           /* ms, if no reset is told */


typedef struct {
    uint64_t              step;             /* number of the last one */
    uint64_t              until;            /* ejected; 0: closed */
    uint64_t              healthy;          /* closed since */
    uint64_t              probed;           /* when; 0: no probe */
    uint32_t              width;            /* ms of a step */
    uint32_t              good[LLM_TARGET_STEPS];
    uint32_t              bad[LLM_TARGET_STEPS];
    uint32_t              consecutive;
    uint32_t              times;            /* ejected, less its health */
    uint32_t              probe;            /* the last one's number */
    uint32_t              prober;           /* its owner */
} llm_target_breaker_t;


typedef struct {
    uint64_t              since;            /* the cool-down began */
    uint64_t              until;
    uint32_t              doubled;
} llm_target_cool_t;


/* what the other gateways have been told */

typedef struct {
    uint64_t              told;             /* when */
    uint64_t              cool;             /* until when */
    int64_t               left[2];          /* requests, tokens */
} llm_target_post_t;


typedef struct {
    int64_t               earned;           /* thousandths of a retry */
    int64_t               floor;
    int64_t               hedges;           /* thousandths of one */
    uint64_t              time;
    uint32_t              granted;          /* retries that did not start */
} llm_target_budget_t;


typedef struct {
    uint64_t              lowered;          /* when, for each reason */
    uint64_t              eased;
    uint32_t              bound;            /* thousandths; 0: not begun */
    uint32_t              good;             /* since it was raised */
} llm_target_bound_t;


typedef struct {
    uint64_t              halved;           /* when */
    uint32_t              count[LLM_TARGET_BUCKETS];
    uint32_t              samples;          /* since it was halved */
    uint32_t              warm;
    uint64_t              brief;            /* averages, 1/1024 ms */
    uint64_t              lasting;
} llm_target_latency_t;


/*
 * The model of one limit of the provider; levels are in millionths, rates in
 * thousandths per second, so that rate * ms is millionths.
 */

typedef struct {
    int64_t               limit;            /* units; 0: nothing is known */
    int64_t               level;            /* foreseen to remain, at "time" */
    uint64_t              corrected;        /* sum of corrections, may wrap */
    int64_t               rate;
    int64_t               others;           /* what others take */
    uint64_t              taken;            /* by us, units */
    uint64_t              time;
    uint64_t              until;            /* windowed: it begins anew */
    uint64_t              began;            /* windowed: it has begun anew */
    uint64_t              length;
    uint64_t              heard;            /* start of the newest attempt */
    uint64_t              heard_at;         /* that told, and its answer */
    uint64_t              heard_number;
    int64_t               flying;           /* units, not heard of yet */
    int64_t               drained;          /* for others, not heard of yet */
    uint64_t              last;             /* start */
    uint64_t              woken;            /* when; 0: not of late */
    uint64_t              woken_taken;
    uint64_t              step;
    int64_t               recent[2];        /* taken in this step, before */
    int64_t               foretold;         /* on its way from others, so */
    uint64_t              foretold_at;      /* far that they have told */
    uint64_t              mark;             /* step of the last one of past */
    uint64_t              past[LLM_TARGET_PAST];  /* taken until then */
    uint32_t              depth;            /* how sure the rate is */
    uint32_t              windowed;
} llm_target_pace_t;


typedef struct {
    uint32_t              used;             /* LLM_TARGET_USED: has a name */
    uint32_t              chain;            /* next of the bucket, or free */
    uint32_t              newer;            /* of those without calls */
    uint32_t              older;
    uint32_t              len;
    uint32_t              running;
    unsigned char         name[LLM_TARGET_NAME];

    /* from here on made new by a reset */

    llm_target_breaker_t  breaker;
    llm_target_cool_t     cool;
    llm_target_budget_t   budget;
    llm_target_bound_t    bound;
    llm_target_latency_t  latency;
    llm_target_pace_t     requests;
    llm_target_pace_t     tokens;
    llm_target_post_t     post;

    uint64_t              started;          /* attempts */
    uint64_t              ejections;
    uint64_t              cooled;
    uint64_t              retries;
    uint64_t              denied;
    uint64_t              paced;

    uint16_t              owned[LLM_LEDGER_OWNERS];
} llm_target_row_t;


struct llm_targets_s {
    uint64_t              rows;             /* offset from here */
    uint32_t              size;             /* rows */
    uint32_t              mask;             /* of the index */
    uint32_t              epoch;

    /* from here on made new by a reset */

    uint32_t              fresh;            /* this and behind: never used */
    uint32_t              newest;           /* without calls */
    uint32_t              oldest;
};


#define LLM_TARGET_HEAD   64


static inline llm_target_row_t *
llm_target_at(const llm_targets_t *tg, uint32_t i)
{
    return (llm_target_row_t *) (void *) ((unsigned char *) tg + tg->rows) + i;
}


/* NULL: nothing is known of it */
llm_target_row_t *llm_target_row(const llm_targets_t *tg, uint32_t i);

/* in and out of the list of those that may have to go */
void llm_target_idle(llm_targets_t *tg, uint32_t i);
void llm_target_busy(llm_targets_t *tg, uint32_t i);


/* llm_target_breaker.c */

llm_target_state_e llm_target_breaker_state(const llm_target_breaker_t *b,
    uint64_t now);
/* LLM_OK: well, or a probe may start; LLM_DECLINED: not for *wait ms */
int llm_target_breaker_ask(const llm_target_breaker_t *b, uint64_t now,
    uint64_t *wait);
/* the number of the probe, 0: it is none */
uint32_t llm_target_breaker_start(llm_target_breaker_t *b, unsigned owner,
    uint64_t now);
/* 1: it was ejected by this */
int llm_target_breaker_end(llm_target_breaker_t *b,
    const llm_target_conf_t *conf, const llm_target_call_t *call,
    llm_target_end_e end, uint64_t now);
void llm_target_breaker_reap(llm_target_breaker_t *b, unsigned owner);


/* llm_target_budget.c: retries, and cooling down */

void llm_target_budget_start(llm_target_budget_t *b,
    const llm_target_conf_t *conf);
int llm_target_budget_retry(llm_target_budget_t *b,
    const llm_target_conf_t *conf, uint64_t now);
void llm_target_budget_client(llm_target_budget_t *b,
    const llm_target_conf_t *conf, uint64_t now);
int llm_target_budget_hedge(llm_target_budget_t *b, int take);
void llm_target_budget_grant(llm_target_budget_t *b);

/* 1: a cool-down began */
int llm_target_cool_down(llm_target_cool_t *c, uint64_t started,
    int64_t asked, uint64_t now);
void llm_target_cool_good(llm_target_cool_t *c, uint64_t started,
    uint64_t now);


/* llm_target_bound.c */

/* calls at a time, UINT32_MAX: any */
uint32_t llm_target_bound(llm_target_bound_t *b,
    const llm_target_conf_t *conf);
/* "running" is with the one that ends */
void llm_target_bound_end(llm_target_bound_t *b,
    const llm_target_conf_t *conf, llm_target_end_e end, uint32_t running,
    uint64_t now);
/* answers come later and later */
void llm_target_bound_slow(llm_target_bound_t *b,
    const llm_target_conf_t *conf, uint32_t running, uint64_t now);


/* llm_target_latency.c */

/* 1: much slower than it used to be */
int llm_target_latency_add(llm_target_latency_t *lt, uint64_t ms,
    uint64_t now);
int64_t llm_target_latency_at(const llm_target_latency_t *lt,
    unsigned percent);
/* how many of them it is made of, the older ones less */
uint64_t llm_target_latency_samples(const llm_target_latency_t *lt);


/* llm_target_pace.c */

/* ms until so much may be taken, 0: now */
uint64_t llm_target_pace_wait(llm_target_pace_t *p, int64_t cost,
    int64_t margin, uint64_t now);
void llm_target_pace_take(llm_target_pace_t *p, llm_target_share_t *s,
    int64_t cost, uint64_t now);
void llm_target_pace_told(llm_target_pace_t *p, const llm_target_call_t *call,
    const llm_target_share_t *s, const llm_target_limit_t *told,
    unsigned windowed, uint64_t now);
/* an answer has come, or will not */
void llm_target_pace_landed(llm_target_pace_t *p,
    const llm_target_share_t *s);
/* of so many calls only "left" are left */
void llm_target_pace_lost(llm_target_pace_t *p, uint32_t calls,
    uint32_t left);
/* it took another number than "cost" */
void llm_target_pace_used(llm_target_pace_t *p, const llm_target_share_t *s,
    int64_t used, int told, uint64_t now);
void llm_target_pace_stat(const llm_target_pace_t *p, uint64_t now,
    llm_target_limit_t *limit);

/* … for llm_target_share.c */
void llm_target_pace_roll(llm_target_pace_t *p, uint64_t now);
int64_t llm_target_pace_gain(const llm_target_pace_t *p, uint64_t from,
    uint64_t to);
void llm_target_pace_adopt(llm_target_pace_t *p,
    const llm_target_limit_t *told, unsigned windowed, uint64_t now);
void llm_target_pace_others(llm_target_pace_t *p, int64_t delta,
    uint64_t started);
void llm_target_pace_correct(llm_target_pace_t *p, int64_t delta,
    uint64_t started, uint64_t now);


static inline int64_t
llm_target_pace_clamp(int64_t n, int64_t low, int64_t high)
{
    return n < low ? low : n > high ? high : n;
}


static inline int64_t
llm_target_pace_full(const llm_target_pace_t *p)
{
    return p->limit * LLM_TARGET_MICRO;
}


/* llm_target_share.c */

/* what is left of a difference that an attempt of that time saw */
int64_t llm_target_pace_foretold(const llm_target_pace_t *p, int64_t delta,
    uint64_t started);
/* a start comes: what had been taken when its step began */
void llm_target_pace_mark(llm_target_pace_t *p, uint64_t now);


#endif /* _LLM_TARGET_PRIVATE_H_INCLUDED_ */
