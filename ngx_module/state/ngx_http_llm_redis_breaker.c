
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the workers share of a server.  Everything here is a word of its own
 * and may be stale: at worst a probe too many is sent.
 */


#include "state/ngx_http_llm_redis_connection.h"


/* between two probes of all workers */
#define NGX_HTTP_LLM_REDIS_PROBE_MIN  200
#define NGX_HTTP_LLM_REDIS_PROBE_MAX  1000


void
ngx_http_llm_redis_share(ngx_http_llm_redis_t *rd,
    ngx_http_llm_redis_shared_t *sh)
{
    rd->shared = sh;
}


void
ngx_http_llm_redis_breaker_open(ngx_http_llm_redis_t *rd)
{
    ngx_http_llm_redis_shared_t  *sh;

    sh = rd->shared;

    if (sh->down != 0 || rd->options.beside != NULL) {
        return;
    }

    sh->pause = NGX_HTTP_LLM_REDIS_PROBE_MIN;
    sh->probe = ngx_current_msec + NGX_HTTP_LLM_REDIS_PROBE_MIN;

    /* never 0, which would say that it is closed */
    (void) ngx_atomic_cmp_set(&sh->down, 0, ngx_current_msec | 1);

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis breaker opened");
}


void
ngx_http_llm_redis_breaker_close(ngx_http_llm_redis_t *rd)
{
    if (rd->shared->down == 0 || rd->options.beside != NULL) {
        return;
    }

    rd->shared->down = 0;

    ngx_log_debug0(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis breaker closed");
}


ngx_uint_t
ngx_http_llm_redis_breaker_probe(ngx_http_llm_redis_t *rd)
{
    ngx_msec_t                    pause;
    ngx_atomic_uint_t             probe;
    ngx_http_llm_redis_shared_t  *sh;

    if (rd->options.beside != NULL) {
        return ngx_http_llm_redis_connected(rd->options.beside);
    }

    sh = rd->shared;

    if (sh->down == 0) {
        return 1;
    }

    probe = sh->probe;

    if ((ngx_msec_int_t) (probe - ngx_current_msec) > 0) {
        return 0;
    }

    /* who moves it is the one: the others find it in the future */

    pause = ngx_min(sh->pause * 2, NGX_HTTP_LLM_REDIS_PROBE_MAX);

    if (!ngx_atomic_cmp_set(&sh->probe, probe, ngx_current_msec + pause)) {
        return 0;
    }

    sh->pause = pause;

    ngx_log_debug1(NGX_LOG_DEBUG_EVENT, rd->log, 0,
                   "llm redis probe, the next one in %M", pause);

    return 1;
}


ngx_atomic_t *
ngx_http_llm_redis_known(ngx_http_llm_redis_t *rd)
{
    return rd->options.beside != NULL ? &rd->shared->beside
                                      : &rd->shared->fault;
}


ngx_uint_t
ngx_http_llm_redis_may_log(ngx_http_llm_redis_t *rd, ngx_uint_t max)
{
    ngx_atomic_uint_t             minute, now;
    ngx_http_llm_redis_shared_t  *sh;

    if (rd->options.beside != NULL && max < NGX_HTTP_LLM_REDIS_FAULTS) {
        /* names and moves: the other one says the same */
        return 0;
    }

    sh = rd->shared;

    /* a minute begins with its first line; 1: not a fresh zero */

    now = ngx_current_msec | 1;
    minute = sh->minute;

    if (minute == 0 || now - minute >= 60000) {

        if (ngx_atomic_cmp_set(&sh->minute, minute, now)) {
            sh->lines = 0;
        }
    }

    if (sh->lines >= max) {
        return 0;
    }

    return (ngx_atomic_uint_t) ngx_atomic_fetch_add(&sh->lines, 1) < max;
}
