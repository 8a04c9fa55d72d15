
/*
 * Copyright (C) the ngx-llm authors
 *
 * The shared memory: the ledger of limits, the table of the workers that own
 * its tickets, what was purged, and the counters.
 */


#ifndef _NGX_HTTP_LLM_ZONE_H_INCLUDED_
#define _NGX_HTTP_LLM_ZONE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "core/llm_estimate.h"
#include "core/llm_ledger.h"
#include "state/ngx_http_llm_count.h"
#include "state/ngx_http_llm_generation.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_team.h"


#define NGX_HTTP_LLM_ZONE_MIN  (512 * 1024)


typedef struct ngx_http_llm_quota_sh_s  ngx_http_llm_quota_sh_t;


/*
 * The keys that were revoked with what runs for them: how many since the
 * start, and the last of their names, hashed, with the version of their rows
 * that did it.
 */

#define NGX_HTTP_LLM_REVOKED  64

typedef struct {
    ngx_atomic_t                n;
    struct {
        volatile uint64_t       name;
        volatile uint64_t       version;
    } key[NGX_HTTP_LLM_REVOKED];
} ngx_http_llm_revoked_t;


typedef struct {
    ngx_atomic_t                dirty;      /* somebody is, or died, inside */
    llm_ledger_t               *ledger;
    llm_estimates_t            *estimates;
    ngx_http_llm_generations_t *generations;
    ngx_atomic_t                purged;     /* the greatest of them, or 0 */
    ngx_http_llm_teams_t       *teams;
    ngx_pid_t                   owner[LLM_LEDGER_OWNERS];
    ngx_atomic_t                agent;      /* 1 + place of the owner that
                                               talks to the store; 0: none */
    ngx_atomic_t                told;       /* it knows of so much of
                                               llm_ledger_pending() */
    ngx_http_llm_quota_sh_t    *quota;      /* its own, or NULL */
    ngx_http_llm_redis_shared_t redis;      /* its breaker */
    ngx_http_llm_redis_shared_t redis_cache;
    ngx_http_llm_redis_shared_t redis_tasks;
    ngx_http_llm_revoked_t      revoked;
    ngx_http_llm_count_t        count;
} ngx_http_llm_zone_sh_t;


typedef struct ngx_http_llm_zone_s  ngx_http_llm_zone_t;

struct ngx_http_llm_zone_s {
    ngx_shm_zone_t             *shm_zone;
    ngx_slab_pool_t            *shpool;
    ngx_http_llm_zone_sh_t     *sh;
};


/* the two clocks of limits, as this turn of the event loop has them */

static ngx_inline void
ngx_http_llm_now(llm_now_t *now)
{
    now->ms = ngx_current_msec;
    now->wall = ngx_time();
}


/* adds the zone to the cycle; NULL: an error, already logged */
ngx_http_llm_zone_t *ngx_http_llm_zone_create(ngx_conf_t *cf,
    ngx_str_t *name, ssize_t size, void *tag);

/*
 * The zone's own slab mutex: the only lock that the master frees when its
 * holder dies.  Who then enters next finds "dirty" set and derives the
 * ledger anew.  lock() clears "wake", what is done inside adds the owners
 * whose waiters it started, and unlock() wakes them.
 */
void ngx_http_llm_zone_lock(ngx_http_llm_zone_t *zone, llm_owners_t *wake);
void ngx_http_llm_zone_unlock(ngx_http_llm_zone_t *zone,
    llm_owners_t *wake);


#endif /* _NGX_HTTP_LLM_ZONE_H_INCLUDED_ */
