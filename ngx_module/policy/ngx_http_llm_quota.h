
/*
 * Copyright (C) the ngx-llm authors
 *
 * The agent: the one worker of a gateway that keeps the limits in the shared
 * memory in step with Redis, so that several gateways share them.  Requests
 * never talk to Redis about limits: they visit the ledger, the agent is woken
 * if the ledger has something to say, and its batch carries what all workers
 * have to say at that moment.  What a batch says and what its reply means is
 * core/llm_quota.h's business; here are the worker that does it, its clock,
 * and what happens when Redis does not answer.
 */


#ifndef _NGX_HTTP_LLM_QUOTA_H_INCLUDED_
#define _NGX_HTTP_LLM_QUOTA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>

#include "core/llm_quota.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_zone.h"


/* parameters of llm_redis */

typedef struct ngx_http_llm_quota_conf_s  ngx_http_llm_quota_conf_t;

struct ngx_http_llm_quota_conf_s {
    ngx_uint_t                    mode;      /* LLM_QUOTA_EXACT or _LEASED;
                                                _LOCAL: not shared */
    ngx_msec_t                    timeout;   /* of a command */
    ngx_msec_t                    ahead;     /* leased: a chunk is the use of
                                                so long */
    ngx_uint_t                    gateways;  /* at least so many share when
                                                Redis cannot tell */

    /* set by ngx_http_llm_quota_check() */
    ngx_http_llm_redis_t         *redis;
    ngx_http_llm_redis_script_t  *script;
};


/* since the zone was made, of all workers */

typedef struct {
    ngx_uint_t                    mode;      /* llm_quota_mode_e, now */
    ngx_uint_t                    gateways;  /* as Redis told last, >= 1 */
    uint64_t                      commands;  /* sent */
    uint64_t                      batches;   /* answered */
    uint64_t                      names;     /* in them */
    uint64_t                      asks;
    uint64_t                      late;      /* no reply in time, or lost */
    uint64_t                      errors;    /* refused, or no sense */
    uint64_t                      alone;     /* times that Redis went away */
    uint64_t                      alone_ms;  /* in all */
    uint64_t                      jumps;     /* of Redis' clock */
} ngx_http_llm_quota_stat_t;


/* exact, 50 ms, 1 s, 1 gateway; NULL: no memory */
ngx_http_llm_quota_conf_t *ngx_http_llm_quota_create(ngx_conf_t *cf);

/* the directive is complete: Redis gets its timeout and the script */
ngx_int_t ngx_http_llm_quota_check(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_redis_t *redis);

/* in the master, after the zone and wake; "qcf" NULL: there is no Redis */
ngx_int_t ngx_http_llm_quota_init_module(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_zone_t *zone, ngx_cycle_t *cycle);

/* in a worker that is an owner and whose Redis client has begun */
ngx_int_t ngx_http_llm_quota_init_process(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_zone_t *zone, ngx_cycle_t *cycle);

/*
 * Before the worker ceases to be an owner.  The last worker of the gateway
 * tells Redis what is still to be told and gives back what it holds, for at
 * most 200 ms.
 */
void ngx_http_llm_quota_exit_process(void);

/* this worker was woken: perhaps because it is the agent, or is to be it */
void ngx_http_llm_quota_wake(void);

/* NGX_DECLINED: limits are not shared and never were */
ngx_int_t ngx_http_llm_quota_stat(ngx_http_llm_zone_t *zone,
    ngx_http_llm_quota_stat_t *st);


#endif /* _NGX_HTTP_LLM_QUOTA_H_INCLUDED_ */
