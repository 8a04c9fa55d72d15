
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_quota_private.h"
#include "state/ngx_http_llm_owner.h"

#include <openssl/rand.h>

/* the script as a C string, made from quota.lua while nginx is built */
#include <ngx_http_llm_quota_lua.h>


#define NGX_HTTP_LLM_QUOTA_TICK     500
#define NGX_HTTP_LLM_QUOTA_GOODBYE  200

/* rows of the ledger that are swept in a second: a million takes a minute */
#define NGX_HTTP_LLM_QUOTA_SWEEP    16384

/* where quota.lua keeps who is alive */
#define NGX_HTTP_LLM_QUOTA_ALIVE    "{llm}:g"


static void ngx_http_llm_quota_tick(ngx_event_t *ev);
static void ngx_http_llm_quota_sweep(ngx_uint_t rows);
static void ngx_http_llm_quota_elect(void);
static ngx_uint_t ngx_http_llm_quota_other(llm_owners_t *but);
static ngx_uint_t ngx_http_llm_quota_lives(ngx_pid_t pid);
static void ngx_http_llm_quota_resign(void);
static void ngx_http_llm_quota_others(llm_owners_t *wake);
static void ngx_http_llm_quota_goodbye(void);
static void ngx_http_llm_quota_bye(void);


static ngx_str_t            ngx_http_llm_quota_lua =
                                       ngx_string(NGX_HTTP_LLM_QUOTA_LUA);

ngx_http_llm_quota_agent_t  ngx_http_llm_quota_agent;


#define ngx_http_llm_quota_bit(owners, i)                                    \
    ((owners)->bits[(i) / 64] & (uint64_t) 1 << (i) % 64)
#define ngx_http_llm_quota_set(owners, i)                                    \
    ((owners)->bits[(i) / 64] |= (uint64_t) 1 << (i) % 64)
#define ngx_http_llm_quota_clear(owners, i)                                  \
    ((owners)->bits[(i) / 64] &= ~((uint64_t) 1 << (i) % 64))


ngx_http_llm_quota_conf_t *
ngx_http_llm_quota_create(ngx_conf_t *cf)
{
    ngx_http_llm_quota_conf_t  *qcf;

    qcf = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_quota_conf_t));
    if (qcf == NULL) {
        return NULL;
    }

    qcf->mode = LLM_QUOTA_EXACT;
    qcf->timeout = 50;
    qcf->ahead = 1000;
    qcf->gateways = 1;

    return qcf;
}


ngx_int_t
ngx_http_llm_quota_check(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_redis_t *redis)
{
    ngx_http_llm_redis_options(redis)->timeout = qcf->timeout;

    qcf->redis = redis;

    if (qcf->mode == LLM_QUOTA_LOCAL) {
        return NGX_OK;
    }

    qcf->script = ngx_http_llm_redis_script(redis, &ngx_http_llm_quota_lua);

    return qcf->script ? NGX_OK : NGX_ERROR;
}


ngx_int_t
ngx_http_llm_quota_init_module(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_zone_t *zone, ngx_cycle_t *cycle)
{
    u_char                    id[NGX_HTTP_LLM_QUOTA_ID / 2];
    ngx_uint_t                shared;
    llm_owners_t              wake;
    ngx_http_llm_quota_sh_t  *sh;

    shared = qcf != NULL && qcf->mode != LLM_QUOTA_LOCAL;
    sh = zone->sh->quota;

    if (sh == NULL) {

        if (!shared) {
            return NGX_OK;
        }

        sh = ngx_slab_calloc(zone->shpool, sizeof(ngx_http_llm_quota_sh_t));

        if (sh == NULL || RAND_bytes(id, sizeof(id)) != 1) {
            ngx_log_error(NGX_LOG_EMERG, cycle->log, 0,
                          "llm: no memory for shared limits");
            return NGX_ERROR;
        }

        (void) ngx_hex_dump(sh->id, id, sizeof(id));

        sh->stat.gateways = 1;
        sh->since = ngx_current_msec;

        zone->sh->quota = sh;
    }

    /* of a reload: draining workers go by the newest configuration, too */

    ngx_http_llm_zone_lock(zone, &wake);

    sh->mode = shared ? qcf->mode : LLM_QUOTA_LOCAL;
    sh->ahead = shared ? qcf->ahead : 0;
    sh->gateways = shared ? qcf->gateways : 1;

    if (!shared) {
        zone->sh->agent = 0;
        sh->alone = 0;
    }

    ngx_http_llm_quota_mode(zone, 0, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_quota_init_process(ngx_http_llm_quota_conf_t *qcf,
    ngx_http_llm_zone_t *zone, ngx_cycle_t *cycle)
{
    ngx_uint_t                   self;
    llm_owners_t                 wake;
    ngx_http_llm_quota_agent_t  *agent;

    if (qcf == NULL || qcf->mode == LLM_QUOTA_LOCAL) {
        return NGX_OK;
    }

    agent = &ngx_http_llm_quota_agent;

    agent->conf = qcf;
    agent->zone = zone;
    agent->log = cycle->log;
    agent->dummy.fd = (ngx_socket_t) -1;

    agent->event.handler = ngx_http_llm_quota_run;
    agent->event.data = &agent->dummy;
    agent->event.log = cycle->log;

    agent->timer = agent->event;
    agent->timer.cancelable = 1;

    agent->tick = agent->timer;
    agent->tick.handler = ngx_http_llm_quota_tick;

    ngx_add_timer(&agent->tick, NGX_HTTP_LLM_QUOTA_TICK);

    self = ngx_http_llm_owner();

    ngx_http_llm_zone_lock(zone, &wake);

    ngx_http_llm_quota_clear(&zone->sh->quota->draining, self);
    ngx_http_llm_quota_clear(&zone->sh->quota->left, self);

    if (zone->sh->agent == self + 1) {
        /* it was another's, who had this place before and died */
        zone->sh->agent = 0;
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_quota_elect();

    return NGX_OK;
}


ngx_uint_t
ngx_http_llm_quota_self(void)
{
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    return agent->conf != NULL
           && agent->zone->sh->agent == ngx_http_llm_owner() + 1;
}


void
ngx_http_llm_quota_wake(void)
{
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    if (agent->conf == NULL) {
        return;
    }

    if (agent->zone->sh->agent == 0) {
        ngx_http_llm_quota_elect();
        return;
    }

    if (ngx_http_llm_quota_self() && agent->op == NULL) {

        /* behind all that this turn has to do: it is one batch */

        ngx_post_event(&agent->event, &ngx_posted_events);
    }
}


static void
ngx_http_llm_quota_tick(ngx_event_t *ev)
{
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    ngx_add_timer(ev, NGX_HTTP_LLM_QUOTA_TICK);

    if (!ngx_http_llm_quota_self()) {
        ngx_http_llm_quota_elect();
        return;
    }

    if (agent->op != NULL) {
        return;
    }

    if (ngx_exiting) {
        ngx_http_llm_quota_resign();

        if (!ngx_http_llm_quota_self()) {
            return;
        }
    }

    if (++agent->ticks % 2 == 0) {
        ngx_http_llm_quota_sweep(NGX_HTTP_LLM_QUOTA_SWEEP);
    }

    ngx_http_llm_quota_run(&agent->event);
}


static void
ngx_http_llm_quota_sweep(ngx_uint_t rows)
{
    llm_now_t             now;
    llm_owners_t          wake;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_quota_agent.zone;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    llm_ledger_sweep(zone->sh->ledger, rows, &now);

    ngx_http_llm_zone_unlock(zone, &wake);
}


/*
 * Whoever finds no agent, or one that is dead, is it.  A worker that drains
 * leaves that to others if there are any.
 */

static void
ngx_http_llm_quota_elect(void)
{
    ngx_uint_t                   self, old;
    llm_owners_t                 wake;
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;
    sh = zone->sh->quota;
    self = ngx_http_llm_owner();

    old = zone->sh->agent;

    if (old && ngx_http_llm_quota_lives(zone->sh->owner[old - 1])) {
        return;
    }

    ngx_http_llm_zone_lock(zone, &wake);

    if (ngx_exiting) {
        ngx_http_llm_quota_set(&sh->draining, self);
    }

    if (zone->sh->agent != old || sh->mode == LLM_QUOTA_LOCAL
        || (ngx_exiting && ngx_http_llm_quota_other(&sh->draining)))
    {
        ngx_http_llm_zone_unlock(zone, &wake);
        return;
    }

    zone->sh->agent = self + 1;
    zone->sh->told = NGX_MAX_UINT32_VALUE;

    ngx_http_llm_quota_mode(zone, 0, &wake);

    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_log_error(NGX_LOG_INFO, agent->log, 0,
                  "llm: gateway %s: this worker is the agent", sh->id);

    /* it may be in the middle of a batch that another has sent */

    agent->force = 1;
    agent->seq = 0;
    agent->claimed = ngx_current_msec;

    ngx_post_event(&agent->event, &ngx_posted_events);
}


/* under the lock: does another worker live that is none of "but"? */

static ngx_uint_t
ngx_http_llm_quota_other(llm_owners_t *but)
{
    ngx_uint_t            i, self;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_quota_agent.zone;
    self = ngx_http_llm_owner();

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {

        if (i != self && !ngx_http_llm_quota_bit(but, i)
            && ngx_http_llm_quota_lives(zone->sh->owner[i]))
        {
            return 1;
        }
    }

    return 0;
}


/* pid 0: nobody's place */

static ngx_uint_t
ngx_http_llm_quota_lives(ngx_pid_t pid)
{
    return pid && (kill(pid, 0) != -1 || ngx_errno != NGX_ESRCH);
}


/* a draining agent: another is to be it from now on */

static void
ngx_http_llm_quota_resign(void)
{
    ngx_uint_t                self;
    llm_owners_t              wake;
    ngx_http_llm_zone_t      *zone;
    ngx_http_llm_quota_sh_t  *sh;

    zone = ngx_http_llm_quota_agent.zone;
    sh = zone->sh->quota;
    self = ngx_http_llm_owner();

    ngx_http_llm_zone_lock(zone, &wake);

    ngx_http_llm_quota_set(&sh->draining, self);

    if (ngx_http_llm_quota_other(&sh->draining)) {
        zone->sh->agent = 0;
        ngx_http_llm_quota_others(&wake);
    }

    ngx_http_llm_zone_unlock(zone, &wake);
}


static void
ngx_http_llm_quota_others(llm_owners_t *wake)
{
    ngx_uint_t            i, self;
    ngx_http_llm_zone_t  *zone;

    zone = ngx_http_llm_quota_agent.zone;
    self = ngx_http_llm_owner();

    for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
        if (zone->sh->owner[i] && i != self) {
            ngx_http_llm_quota_set(wake, i);
        }
    }
}


void
ngx_http_llm_quota_exit_process(void)
{
    ngx_uint_t                   self, last;
    llm_owners_t                 wake;
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    self = ngx_http_llm_owner();

    if (agent->conf == NULL || self == LLM_LEDGER_OWNERS) {
        return;
    }

    zone = agent->zone;
    sh = zone->sh->quota;

    if (agent->tick.timer_set) {
        ngx_del_timer(&agent->tick);
    }

    ngx_http_llm_zone_lock(zone, &wake);

    ngx_http_llm_quota_set(&sh->draining, self);
    ngx_http_llm_quota_set(&sh->left, self);

    last = !ngx_http_llm_quota_other(&sh->left)
           && sh->mode != LLM_QUOTA_LOCAL;

    if (last) {
        zone->sh->agent = self + 1;
        zone->sh->told = NGX_MAX_UINT32_VALUE;

    } else if (zone->sh->agent == self + 1) {
        zone->sh->agent = 0;
        ngx_http_llm_quota_others(&wake);
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    if (last) {
        ngx_http_llm_quota_goodbye();
        zone->sh->agent = 0;
    }

    if (agent->timer.timer_set) {
        ngx_del_timer(&agent->timer);
    }

    if (agent->event.posted) {
        ngx_delete_posted_event(&agent->event);
    }

    agent->conf = NULL;
}


/*
 * The last worker: nobody else will say what is still to be said.  A quiet
 * end turns the loop by hand until all is answered; who is told to stop at
 * once has open connections, which no handler is to see again, and says what
 * goes into one batch.
 */

static void
ngx_http_llm_quota_goodbye(void)
{
    llm_now_t                    now;
    ngx_msec_t                   end;
    llm_owners_t                 wake;
    ngx_msec_int_t               left;
    llm_ledger_stat_t            st;
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;

    if (!ngx_http_llm_redis_connected(agent->conf->redis)) {
        return;
    }

    ngx_time_update();
    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    (void) llm_ledger_reap(zone->sh->ledger, ngx_http_llm_owner(), &now,
                           &wake);

    ngx_http_llm_quota_mode(zone, 1, &wake);

    llm_ledger_stat(zone->sh->ledger, &st);
    llm_ledger_sweep(zone->sh->ledger, (unsigned) st.nodes, &now);

    ngx_http_llm_zone_unlock(zone, &wake);

    agent->ending = 1;
    agent->force = 0;

    end = ngx_current_msec + NGX_HTTP_LLM_QUOTA_GOODBYE;

    for ( ;; ) {
        ngx_http_llm_quota_run(&agent->event);

        left = (ngx_msec_int_t) (end - ngx_current_msec);

        if (agent->op == NULL || left <= 0 || !ngx_exiting) {
            break;
        }

        (void) ngx_process_events((ngx_cycle_t *) ngx_cycle, left,
                                  NGX_UPDATE_TIME);

        ngx_event_process_posted((ngx_cycle_t *) ngx_cycle,
                                 &ngx_posted_events);
    }

    if (agent->op != NULL) {
        ngx_http_llm_redis_detach(agent->op);
        agent->op = NULL;
    }

    ngx_http_llm_quota_bye();
}


/* who is not alive holds no shares; goes out when the client is closed */

static void
ngx_http_llm_quota_bye(void)
{
    ngx_str_t                    argv[3];
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    ngx_str_set(&argv[0], "ZREM");
    ngx_str_set(&argv[1], NGX_HTTP_LLM_QUOTA_ALIVE);
    argv[2].data = agent->zone->sh->quota->id;
    argv[2].len = NGX_HTTP_LLM_QUOTA_ID;

    (void) ngx_http_llm_redis_command(agent->conf->redis, 3, argv, 0, NULL,
                                      NULL);
}


ngx_int_t
ngx_http_llm_quota_stat(ngx_http_llm_zone_t *zone,
    ngx_http_llm_quota_stat_t *st)
{
    ngx_http_llm_quota_sh_t  *sh;

    sh = zone->sh->quota;

    if (sh == NULL) {
        return NGX_DECLINED;
    }

    *st = sh->stat;

    st->mode = sh->mode;

    if (sh->alone) {
        st->mode = LLM_QUOTA_ALONE;
        st->alone_ms += ngx_current_msec - sh->since;
    }

    return NGX_OK;
}
