
/*
 * Copyright (C) the ngx-llm authors
 *
 * Counters in shared memory: fixed, bounded, bumped without a lock.
 */


#ifndef _NGX_HTTP_LLM_COUNT_H_INCLUDED_
#define _NGX_HTTP_LLM_COUNT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "core/llm_ledger.h"
#include "core/llm_request.h"


#define NGX_HTTP_LLM_PROVIDERS      32
#define NGX_HTTP_LLM_PROVIDER_NAME  64
#define NGX_HTTP_LLM_STATUSES       20


typedef enum {
    NGX_HTTP_LLM_ATTEMPT_OK = 0,
    NGX_HTTP_LLM_ATTEMPT_4XX,
    NGX_HTTP_LLM_ATTEMPT_429,
    NGX_HTTP_LLM_ATTEMPT_5XX,
    NGX_HTTP_LLM_ATTEMPT_CONNECT,
    NGX_HTTP_LLM_ATTEMPT_CONNECT_TIMEOUT,      /* or the TLS handshake's */
    NGX_HTTP_LLM_ATTEMPT_TIMEOUT,
    NGX_HTTP_LLM_ATTEMPT_SILENT,               /* between events */
    NGX_HTTP_LLM_ATTEMPT_BROKEN,
    NGX_HTTP_LLM_ATTEMPT_CANCELLED,
    NGX_HTTP_LLM_ATTEMPT_RESULTS
} ngx_http_llm_attempt_e;


typedef enum {
    NGX_HTTP_LLM_REFUSED_KEY = 0,
    NGX_HTTP_LLM_REFUSED_MODEL,
    NGX_HTTP_LLM_REFUSED_REQUESTS,
    NGX_HTTP_LLM_REFUSED_TOKENS,
    NGX_HTTP_LLM_REFUSED_REQUESTS_DAY,
    NGX_HTTP_LLM_REFUSED_TOKENS_DAY,
    NGX_HTTP_LLM_REFUSED_BUDGET,
    NGX_HTTP_LLM_REFUSED_TOO_LARGE,
    NGX_HTTP_LLM_REFUSED_QUEUE_FULL,
    NGX_HTTP_LLM_REFUSED_QUEUE_TIMEOUT,
    NGX_HTTP_LLM_REFUSED_MEMORY,
    NGX_HTTP_LLM_REFUSALS
} ngx_http_llm_refused_e;


typedef enum {
    NGX_HTTP_LLM_HEDGE_WON = 0,                /* it gave the answer */
    NGX_HTTP_LLM_HEDGE_LOST,                   /* left */
    NGX_HTTP_LLM_HEDGE_FAILED,
    NGX_HTTP_LLM_HEDGE_DENIED,                 /* there was none */
    NGX_HTTP_LLM_HEDGES
} ngx_http_llm_hedge_e;


typedef enum {
    NGX_HTTP_LLM_TASK_COMPLETED = 0,
    NGX_HTTP_LLM_TASK_ERROR,
    NGX_HTTP_LLM_TASK_CANCELLED,
    NGX_HTTP_LLM_TASK_OUTCOMES
} ngx_http_llm_task_outcome_e;


/* "le" of the histograms of tasks, seconds; the last one is +Inf */

#define NGX_HTTP_LLM_TASK_BUCKETS   14


#define NGX_HTTP_LLM_CACHE_RESULTS  7
#define NGX_HTTP_LLM_CACHE_DAMAGES  4


typedef struct {
    u_char                      name[NGX_HTTP_LLM_PROVIDER_NAME];
    size_t                      len;
    ngx_atomic_t                attempts[NGX_HTTP_LLM_ATTEMPT_RESULTS];
} ngx_http_llm_count_provider_t;


typedef struct {
    ngx_atomic_t                n[NGX_HTTP_LLM_TASK_BUCKETS];
    ngx_atomic_t                ms;              /* sum */
} ngx_http_llm_count_task_times_t;


/* the queue: what ended here, and how the fleet's stood when last looked at */

typedef struct {
    ngx_atomic_t                submitted;       /* accepted here */
    ngx_atomic_t                finished[NGX_HTTP_LLM_TASK_OUTCOMES];
    ngx_atomic_t                retried;
    ngx_atomic_t                held;            /* put back: no room now */
    ngx_atomic_t                lost;            /* ended by another one */
    ngx_atomic_t                webhooks[2];     /* delivered, given up */
    ngx_atomic_t                running[LLM_LEDGER_OWNERS];  /* by owner */
    ngx_http_llm_count_task_times_t  wait;       /* submitted to started */
    ngx_http_llm_count_task_times_t  run;        /* started to ended */

    ngx_atomic_t                looked;          /* ms of the epoch, 0: no */
    ngx_atomic_t                queued;          /* the fleet's, then: */
    ngx_atomic_t                processing;
    ngx_atomic_t                delayed;
    ngx_atomic_t                dead;
    ngx_atomic_t                oldest;          /* ms */
} ngx_http_llm_count_tasks_t;


typedef struct {
    /* the last row: requests that were no call of the API */
    ngx_atomic_t                requests[LLM_ENDPOINTS + 1]
                                        [NGX_HTTP_LLM_STATUSES];
    ngx_atomic_t                cache[NGX_HTTP_LLM_CACHE_RESULTS];
    ngx_atomic_t                stored;
    /* ngx_http_llm_parcel_e - 1 */
    ngx_atomic_t                cache_damaged[NGX_HTTP_LLM_CACHE_DAMAGES];
    ngx_atomic_t                refused[NGX_HTTP_LLM_REFUSALS];
    ngx_atomic_t                unpriced;        /* requests */
    ngx_atomic_t                cut;             /* streams */
    ngx_atomic_t                retry_denied;    /* beyond the budget */
    ngx_atomic_t                hedge[NGX_HTTP_LLM_HEDGES];
    ngx_atomic_t                spans_sent;      /* to the collector */
    ngx_atomic_t                spans_dropped;
    ngx_atomic_t                policy_failures; /* files not taken over */
    ngx_atomic_t                policy_loaded;   /* s since the epoch */
    ngx_atomic_t                started;         /* the same, of the zone */
    ngx_atomic_t                scrape_us;       /* the last page took */
    ngx_http_llm_count_tasks_t  tasks;
    ngx_http_llm_count_provider_t  provider[NGX_HTTP_LLM_PROVIDERS];
} ngx_http_llm_count_t;


/* upper bounds in ms, without the last one */
extern ngx_uint_t  ngx_http_llm_task_buckets[NGX_HTTP_LLM_TASK_BUCKETS - 1];

void ngx_http_llm_count_task_time(ngx_http_llm_count_task_times_t *times,
    uint64_t ms);


/* the statuses that have a counter of their own; 0 is "other" */
extern ngx_uint_t  ngx_http_llm_statuses[NGX_HTTP_LLM_STATUSES];

void ngx_http_llm_count_request(ngx_http_llm_count_t *count,
    ngx_uint_t endpoint, ngx_uint_t status);

/*
 * The slot of a provider's counters, the same over reloads; called where the
 * zone is initialized.  NGX_HTTP_LLM_PROVIDERS: there is no room.
 */
ngx_uint_t ngx_http_llm_count_provider(ngx_http_llm_count_t *count,
    ngx_str_t *name);


#endif /* _NGX_HTTP_LLM_COUNT_H_INCLUDED_ */
