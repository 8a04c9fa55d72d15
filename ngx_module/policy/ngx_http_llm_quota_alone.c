
/*
 * Copyright (C) the ngx-llm authors
 *
 * The agent while Redis is away: this gateway keeps to its part of the limits,
 * and tries again.
 */


#include "policy/ngx_http_llm_quota_private.h"


/* an account that was not used for so long is given back, ms */
#define NGX_HTTP_LLM_QUOTA_IDLE       2000

/* for a worker's first connection */
#define NGX_HTTP_LLM_QUOTA_BEGIN      1000

/* between two tries while Redis is away */
#define NGX_HTTP_LLM_QUOTA_PAUSE      100
#define NGX_HTTP_LLM_QUOTA_PAUSE_MAX  1000

/* of a connection that is being made */
#define NGX_HTTP_LLM_QUOTA_SOON       5

/* lines of the log in a minute */
#define NGX_HTTP_LLM_QUOTA_LINES      10


static ngx_uint_t ngx_http_llm_quota_begins(llm_now_t *now);
static ngx_uint_t ngx_http_llm_quota_set_alone(llm_now_t *now,
    llm_owners_t *wake);
static ngx_msec_t ngx_http_llm_quota_pause(ngx_http_llm_quota_sh_t *sh,
    ngx_uint_t sent);


/*
 * Nobody is to wait any longer: from now on this gateway keeps to its part of
 * the limits.  The batch stays open and is the first that Redis will be told.
 */

void
ngx_http_llm_quota_fail(const char *why)
{
    llm_now_t                    now;
    ngx_uint_t                   gone, sent;
    ngx_msec_t                   retry;
    llm_owners_t                 wake;
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;
    sh = zone->sh->quota;

    ngx_http_llm_now(&now);

    if (ngx_http_llm_quota_begins(&now)) {
        agent->force = 1;
        ngx_http_llm_quota_after(NGX_HTTP_LLM_QUOTA_SOON);
        return;
    }

    sent = ngx_http_llm_redis_connected(agent->conf->redis);

    ngx_http_llm_zone_lock(zone, &wake);

    gone = sh->alone ? 0 : ngx_http_llm_quota_set_alone(&now, &wake);
    retry = ngx_http_llm_quota_pause(sh, sent);

    sh->retry = now.ms + retry;
    zone->sh->told = NGX_MAX_UINT32_VALUE;

    ngx_http_llm_zone_unlock(zone, &wake);

    if (gone) {
        ngx_log_error(NGX_LOG_ERR, agent->log, 0,
                      "llm: redis \"%V\" %s: until it is back this gateway "
                      "keeps to one part of %ui of each limit",
                      ngx_http_llm_redis_name(agent->conf->redis), why,
                      (ngx_uint_t) ngx_max(sh->stat.gateways, sh->gateways));
    }

    ngx_http_llm_quota_after(retry);
}


/*
 * A worker that began just now: its connection is on its way, and unless
 * somebody waits it has the time.
 */

static ngx_uint_t
ngx_http_llm_quota_begins(llm_now_t *now)
{
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;

    return !agent->up && !zone->sh->quota->alone
           && now->ms - agent->claimed
              < (llm_ledger_pending(zone->sh->ledger) > 1
                 ? agent->conf->timeout : NGX_HTTP_LLM_QUOTA_BEGIN);
}


/* without Redis from now on; 1: a line of the log may say so */

static ngx_uint_t
ngx_http_llm_quota_set_alone(llm_now_t *now, llm_owners_t *wake)
{
    ngx_uint_t                log;
    ngx_http_llm_zone_t      *zone;
    ngx_http_llm_quota_sh_t  *sh;

    zone = ngx_http_llm_quota_agent.zone;
    sh = zone->sh->quota;

    /* one that comes and goes is tried less and less */

    if (now->ms - sh->since > NGX_HTTP_LLM_QUOTA_PAUSE_MAX) {
        sh->pause = 0;
    }

    sh->alone = 1;
    sh->since = now->ms;
    sh->stat.alone++;

    log = ngx_http_llm_quota_may_log(sh);

    ngx_http_llm_quota_mode(zone, 0, wake);

    return log;
}


/* to look whether the client has a connection again costs nothing */

static ngx_msec_t
ngx_http_llm_quota_pause(ngx_http_llm_quota_sh_t *sh, ngx_uint_t sent)
{
    if (!sent) {
        return NGX_HTTP_LLM_QUOTA_PAUSE;
    }

    sh->pause = ngx_min(ngx_max(sh->pause * 2, NGX_HTTP_LLM_QUOTA_PAUSE),
                        NGX_HTTP_LLM_QUOTA_PAUSE_MAX);

    return sh->pause;
}


void
ngx_http_llm_quota_mode(ngx_http_llm_zone_t *zone, ngx_uint_t ending,
    llm_owners_t *wake)
{
    llm_now_t                 now;
    llm_quota_conf_t          conf;
    ngx_http_llm_quota_sh_t  *sh;

    sh = zone->sh->quota;

    conf = *llm_ledger_quota(zone->sh->ledger);

    conf.mode = sh->mode;
    conf.ahead = sh->ahead;
    conf.idle = ending ? 0 : ngx_max(2 * sh->ahead, NGX_HTTP_LLM_QUOTA_IDLE);

    if (sh->alone && sh->mode != LLM_QUOTA_LOCAL) {
        conf.mode = LLM_QUOTA_ALONE;
        conf.gateways = ngx_max(sh->stat.gateways, sh->gateways);
    }

    ngx_http_llm_now(&now);

    llm_ledger_mode(zone->sh->ledger, &conf, &now, wake);
}


ngx_uint_t
ngx_http_llm_quota_may_log(ngx_http_llm_quota_sh_t *sh)
{
    if (ngx_current_msec - sh->log_since >= 60000) {
        sh->log_since = ngx_current_msec;
        sh->logged = 0;
    }

    return sh->logged++ < NGX_HTTP_LLM_QUOTA_LINES;
}
