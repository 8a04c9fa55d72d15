
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the agent's files share: what workers know of it together, and
 * what the worker that may be it has of its own.
 */


#ifndef _NGX_HTTP_LLM_QUOTA_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_QUOTA_PRIVATE_H_INCLUDED_


#include "policy/ngx_http_llm_quota.h"

#include <ngx_event.h>


#define NGX_HTTP_LLM_QUOTA_ID  16              /* hex digits */


/* in the zone and under its lock */

struct ngx_http_llm_quota_sh_s {
    u_char                       id[NGX_HTTP_LLM_QUOTA_ID + 1];

    /* what the newest configuration says */
    ngx_uint_t                   mode;
    ngx_uint_t                   gateways;
    ngx_msec_t                   ahead;

    ngx_uint_t                   alone;        /* Redis is away */
    ngx_msec_t                   since;        /* … or back */
    ngx_msec_t                   retry;        /* alone: when to try */
    ngx_msec_t                   pause;        /* … and how long after it */

    ngx_msec_t                   log_since;
    ngx_uint_t                   logged;

    llm_owners_t                 draining;     /* no agent if it can be
                                                  helped */
    llm_owners_t                 left;         /* are about to be gone */

    ngx_http_llm_quota_stat_t    stat;         /* without mode */
};


typedef struct {
    ngx_http_llm_quota_conf_t   *conf;         /* NULL: none of this */
    ngx_http_llm_zone_t         *zone;
    ngx_log_t                   *log;

    ngx_http_llm_redis_op_t     *op;           /* a batch is on its way */
    uint64_t                     seq;          /* of the last one sent */
    ngx_uint_t                   names;        /* … in it */
    ngx_uint_t                   asks;
    ngx_msec_t                   sent;
    ngx_msec_t                   claimed;      /* agent since */
    int64_t                      clock;        /* Redis' against ours, ms */

    ngx_event_t                  event;        /* posted: end of a turn */
    ngx_event_t                  timer;        /* not before */
    ngx_event_t                  tick;
    ngx_connection_t             dummy;
    ngx_uint_t                   ticks;

    unsigned                     up:1;         /* has sent something */
    unsigned                     force:1;      /* a batch even if empty */
    unsigned                     clock_set:1;
    unsigned                     again:1;      /* it was sent before */
    unsigned                     ending:1;     /* the worker's last words */
} ngx_http_llm_quota_agent_t;


extern ngx_http_llm_quota_agent_t  ngx_http_llm_quota_agent;


/* is this worker the agent? */
ngx_uint_t ngx_http_llm_quota_self(void);

/* handler of "event" and "timer": sends a batch if one is due */
void ngx_http_llm_quota_run(ngx_event_t *ev);

/* … sends it in so many ms at the latest */
void ngx_http_llm_quota_after(ngx_msec_t ms);

/* the batch could not be sent, or was not answered; "why": for the log */
void ngx_http_llm_quota_fail(const char *why);

/* a line about Redis, of which there are few in a minute */
ngx_uint_t ngx_http_llm_quota_may_log(ngx_http_llm_quota_sh_t *sh);

/* under the lock: the ledger's mode as configuration and Redis want it;
   "ending": all that is kept for later is to be given back */
void ngx_http_llm_quota_mode(ngx_http_llm_zone_t *zone, ngx_uint_t ending,
    llm_owners_t *wake);


#endif /* _NGX_HTTP_LLM_QUOTA_PRIVATE_H_INCLUDED_ */
