
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the workers know together of their targets (a provider with a model),
 * in a block of memory that they share: whether one is ill and left alone,
 * how many retries it may still get, how many calls run, how fast it answers,
 * and how near it is to its own limits.
 *
 * Whoever calls holds the lock; time is in ms of a clock that does not go
 * back.  All links are indices.  If a process dies in the middle,
 * llm_target_reset(): all targets are thought well again.
 */


#ifndef _LLM_TARGET_H_INCLUDED_
#define _LLM_TARGET_H_INCLUDED_


#include "core/llm_core.h"
#include "core/llm_ledger.h"


#define LLM_TARGET_NONE     UINT32_MAX
#define LLM_TARGET_UNKNOWN  ((int64_t) -1)
#define LLM_TARGET_NAME     128             /* longest name */


typedef struct llm_targets_s  llm_targets_t;


/* how it is to be treated: the caller's configuration, given with each call */

typedef struct {
    /* breaker */
    unsigned              consecutive;      /* bad ends; 0: not so */
    unsigned              ratio;            /* % bad of a window; 0: not so */
    unsigned              ratio_min;        /* … of at least so many ends */
    uint32_t              window;           /* ms, in ten steps */
    uint32_t              eject;            /* ms, for the first time */
    uint32_t              eject_max;        /* ms */

    /* retries */
    unsigned              budget;           /* % of first attempts */
    unsigned              budget_floor;     /* retries a second at least */
    unsigned              hedge;            /* % of first attempts; 0: none */

    /* calls at a time */
    unsigned              adaptive:1;       /* AIMD below "most" */
    unsigned              pace:1;           /* by the provider's headers */
    unsigned              windowed:1;       /* its limits come back at once,
                                               not little by little */
    unsigned              limitless:1;      /* it is never told of limits:
                                               starts are not noted for them */
    unsigned              most;             /* calls at a time; 0: any */
    unsigned              margin;           /* requests kept back */
} llm_target_conf_t;


/* how an attempt ended */

typedef enum {
    LLM_TARGET_GOOD = 0,                    /* an answer, also a 4xx */
    LLM_TARGET_BAD,                         /* counts for the breaker: 5xx, no
                                               connection, silence, a broken
                                               stream */
    LLM_TARGET_LIMITED,                     /* 429, 529: cools down */
    LLM_TARGET_NEUTRAL,                     /* cancelled: says nothing */
    LLM_TARGET_SILENT                       /* bad by a timeout: also a sign
                                               of too many calls at a time */
} llm_target_end_e;


typedef enum {
    LLM_TARGET_CLOSED = 0,                  /* well */
    LLM_TARGET_OPEN,                        /* ejected */
    LLM_TARGET_HALF                         /* one probe is under way */
} llm_target_state_e;


/*
 * An attempt, in the caller's memory: filled by llm_target_start(), handed to
 * what is said of the attempt later.  Only "probe" is for the caller to read.
 */

typedef struct {
    int64_t               cost;             /* of this attempt */
    int64_t               level;            /* foreseen, just after it */
    uint64_t              corrected;        /* by tellings, until then */
    uint64_t              taken;            /* with it, since the start */
    int64_t               recent;           /* in the moment before it */
    unsigned              known;
} llm_target_share_t;

typedef struct {
    llm_target_share_t    requests;
    llm_target_share_t    tokens;
    uint64_t              started;          /* ms */
    uint64_t              number;           /* of the target's starts */
    uint32_t              epoch;            /* of the table */
    uint32_t              probe;            /* 0: it is none */
    uint16_t              owner;
    unsigned              running:1;
    unsigned              landed:1;         /* its headers came */
    unsigned              told:1;           /* with its tokens */
} llm_target_call_t;


/* what a provider told of its limits; LLM_TARGET_UNKNOWN: nothing */

typedef struct {
    int64_t               limit;
    int64_t               remaining;
    int64_t               reset;            /* ms until it is full again, or,
                                               windowed, until it begins */
} llm_target_limit_t;


/* what one gateway tells the others of a target */

typedef struct {
    llm_target_limit_t    requests;
    llm_target_limit_t    tokens;
    int64_t               requests_since;   /* that this gateway has started */
    int64_t               tokens_since;     /* since that attempt */
    int64_t               cool;             /* ms that it cools down yet;
                                               LLM_TARGET_UNKNOWN: it does
                                               not */
    uint64_t              age;              /* ms since the attempt began */
} llm_target_news_t;


typedef struct {
    llm_target_state_e    state;
    uint64_t              until;            /* ejected, cooling down until */
    uint32_t              running;          /* calls now, all workers */
    uint32_t              most;             /* the adaptive bound, now */
    int64_t               first_ms;         /* median time to first byte */
    int64_t               first_p95;
    llm_target_limit_t    requests;         /* as foreseen for now */
    llm_target_limit_t    tokens;
    uint64_t              ejections;        /* since the start */
    uint64_t              cooled;
    uint64_t              retries;
    uint64_t              denied;           /* retries beyond the budget */
    uint64_t              paced;            /* calls that waited or went on */
} llm_target_stat_t;


/* NULL: "size" is too small to be of use (less than 64 KB) */
llm_targets_t *llm_target_create(void *mem, size_t size);

/* names keep their places; calls under way are not known any more */
void llm_target_reset(llm_targets_t *tg);

/*
 * The place of a target, by a name that stays over reloads ("openai:gpt-4o");
 * it is given a place if it has none: that of the one that was not used for
 * longest and has no calls, if all are taken.  LLM_TARGET_NONE: no room, or
 * a name that is empty or too long; of such a target nothing is known,
 * everything may start and nothing is counted.
 */
uint32_t llm_target_find(llm_targets_t *tg, const llm_str_t *name,
    uint64_t now);

/* the same, but it gets no place: LLM_TARGET_NONE if it has none */
uint32_t llm_target_seek(llm_targets_t *tg, const llm_str_t *name);

/*
 * May an attempt start now?  "tokens" is what it is estimated to take.
 * LLM_OK: it is counted as running (by this owner) until llm_target_end(); if
 * it is the probe of one that was ejected, call->probe is not 0.  LLM_AGAIN:
 * not before *wait ms (cooling down, paced, or as many calls as may be: then
 * *wait is a guess).  LLM_DECLINED: ejected for *wait ms.  With "force" the
 * breaker and the cooling down are not asked (all others are worse), and the
 * attempt is no probe.
 */
int llm_target_start(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, unsigned owner, int64_t tokens, int force,
    uint64_t now, uint64_t *wait, llm_target_call_t *call);

/* what llm_target_start() would say, without counting anything */
int llm_target_look(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, int64_t tokens, uint64_t now,
    uint64_t *wait);

/*
 * A retry, by the gateway or (weighing half) by a client: LLM_OK, or
 * LLM_DECLINED: the budget is spent.  First attempts fill it: a start that
 * follows an LLM_OK from here does not.
 */
int llm_target_retry(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, uint64_t now);
void llm_target_client_retried(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, uint64_t now);

/*
 * A second attempt beside one at this target that takes its time: LLM_OK, or
 * LLM_DECLINED: the budget is spent.  With "take" it is taken from it.
 */
int llm_target_hedge(llm_targets_t *tg, uint32_t i, int take);

/* the next start is no first attempt that would fill a budget */
void llm_target_grant(llm_targets_t *tg, uint32_t i);

/*
 * ms after which an attempt is one of the slowest twentieth of late;
 * LLM_TARGET_UNKNOWN: too few are known.
 */
int64_t llm_target_late(const llm_targets_t *tg, uint32_t i);

/* the first byte, or event, came after so many ms */
void llm_target_first(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, uint64_t ms, uint64_t now);

/*
 * What the headers of its answer told, as soon as they are there: they age.
 * Either may be NULL.
 */
void llm_target_told(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, llm_target_call_t *call,
    const llm_target_limit_t *requests, const llm_target_limit_t *tokens,
    uint64_t now);

/*
 * The attempt is over; for one that has ended, or never started, a no-op.
 * LIMITED: "asked" is the wait that the provider wants (ms,
 * LLM_TARGET_UNKNOWN: it did not say).  "used" tokens (or UNKNOWN) take the
 * place of the estimate.
 */
void llm_target_end(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, llm_target_call_t *call,
    llm_target_end_e end, int64_t asked, int64_t used, uint64_t now);

/*
 * Is what its headers told, after llm_target_told() with the same, or that it
 * cools down, after llm_target_end(), to be told to other gateways?  1: yes,
 * and "news" says it; 0: it is nothing new, or they know enough.
 */
int llm_target_tell(llm_targets_t *tg, uint32_t i,
    const llm_target_call_t *call, const llm_target_limit_t *requests,
    const llm_target_limit_t *tokens, uint64_t now, llm_target_news_t *news);
int llm_target_tell_cool(llm_targets_t *tg, uint32_t i, uint64_t now,
    llm_target_news_t *news);

/*
 * Another gateway told it, "late" ms ago.  What is known from newer answers
 * stays; a cool-down never gets shorter.
 */
void llm_target_heard(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, const llm_target_news_t *news,
    uint64_t late, uint64_t now);

/* a worker is gone: its calls are */
void llm_target_reap(llm_targets_t *tg, unsigned owner, uint64_t now);

/*
 * The targets one by one: the place from i on that has one, and its name,
 * good as long as the lock; LLM_TARGET_NONE: there are no more.
 */
uint32_t llm_target_next(const llm_targets_t *tg, uint32_t i,
    llm_str_t *name);

/* somebody knows that it is well: neither ejected nor cooling down */
void llm_target_mend(llm_targets_t *tg, uint32_t i, uint64_t now);

void llm_target_stat(const llm_targets_t *tg, uint32_t i, uint64_t now,
    llm_target_stat_t *stat);


#endif /* _LLM_TARGET_H_INCLUDED_ */
