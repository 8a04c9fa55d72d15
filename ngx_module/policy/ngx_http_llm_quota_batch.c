
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_quota_private.h"
#include "state/ngx_http_llm_owner.h"


/* between two batches for which nobody waits, or only for others' slots */
#define NGX_HTTP_LLM_QUOTA_PACE   20

/* between two batches at the most: by them Redis knows that this gateway
   lives; and if it holds slots, hears that another one waits for them */
#define NGX_HTTP_LLM_QUOTA_LIFE   1000
#define NGX_HTTP_LLM_QUOTA_HINTS  100

/* against our own, from one reply to the next */
#define NGX_HTTP_LLM_QUOTA_JUMP   500


/* the words of a command, one behind the other */

typedef struct {
    u_char      *data;
    size_t       len;
    size_t       size;

    ngx_str_t   *argv;
    ngx_uint_t   n;
    ngx_uint_t   max;

    ngx_uint_t   failed;
} ngx_http_llm_quota_words_t;


static const llm_quota_batch_t *ngx_http_llm_quota_collect(
    llm_now_t *now, ngx_msec_t *wait);
static void ngx_http_llm_quota_word(void *data, const char *p, size_t len);
static void *ngx_http_llm_quota_grow(void *old, size_t used, size_t *size,
    size_t need);
static void ngx_http_llm_quota_send(unsigned nkeys);
static void ngx_http_llm_quota_reply(void *data,
    ngx_http_llm_redis_reply_t *reply);
static ngx_int_t ngx_http_llm_quota_apply(ngx_str_t *reply);
static void ngx_http_llm_quota_clock(ngx_str_t *reply);


static ngx_http_llm_quota_words_t  ngx_http_llm_quota_words;


void
ngx_http_llm_quota_run(ngx_event_t *ev)
{
    unsigned                     nkeys, nargs;
    llm_now_t                    now;
    ngx_msec_t                   wait;
    llm_owners_t                 wake;
    ngx_http_llm_zone_t         *zone;
    const llm_quota_batch_t     *batch;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    if (!ngx_http_llm_quota_self() || agent->op != NULL) {
        return;
    }

    zone = agent->zone;
    sh = zone->sh->quota;
    nkeys = 0;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    batch = ngx_http_llm_quota_collect(&now, &wait);

    if (batch != NULL) {
        ngx_http_llm_quota_words.len = 0;
        ngx_http_llm_quota_words.n = 0;
        ngx_http_llm_quota_words.failed = 0;

        llm_quota_write(zone->sh->ledger, batch, (char *) sh->id,
                        ngx_http_llm_quota_word, &ngx_http_llm_quota_words,
                        &nkeys, &nargs);

        agent->again = batch->seq == agent->seq;
        agent->seq = batch->seq;
        agent->names = batch->names;
        agent->asks = batch->asks;
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    if (batch != NULL) {
        ngx_http_llm_quota_send(nkeys);

    } else if (wait) {
        ngx_http_llm_quota_after(wait);
    }
}


/*
 * A batch, or NULL: nothing is to be said, or not yet.  "told" keeps others
 * from waking us for what we know: while a batch is on its way, or Redis
 * away, that is everything.
 */

static const llm_quota_batch_t *
ngx_http_llm_quota_collect(llm_now_t *now, ngx_msec_t *wait)
{
    ngx_msec_t                   passed, life;
    ngx_uint_t                   pending;
    ngx_msec_int_t               left;
    llm_ledger_stat_t            st;
    ngx_http_llm_zone_t         *zone;
    const llm_quota_batch_t     *batch;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;
    sh = zone->sh->quota;

    *wait = 0;

    if (sh->alone) {
        left = (ngx_msec_int_t) (sh->retry - now->ms);

        if (left > 0) {
            zone->sh->told = NGX_MAX_UINT32_VALUE;
            *wait = left;
            return NULL;
        }

        agent->force = 1;
    }

    life = NGX_HTTP_LLM_QUOTA_LIFE;

    if (sh->stat.gateways > 1) {
        llm_ledger_stat(zone->sh->ledger, &st);

        if (st.held) {
            life = NGX_HTTP_LLM_QUOTA_HINTS;
        }
    }

    passed = now->ms - agent->sent;

    if (passed >= life) {
        agent->force = 1;
    }

    pending = llm_ledger_pending(zone->sh->ledger);

    if (pending == 1 && passed < NGX_HTTP_LLM_QUOTA_PACE && !agent->force
        && !agent->ending)
    {
        zone->sh->told = pending;
        *wait = NGX_HTTP_LLM_QUOTA_PACE - passed;
        return NULL;
    }

    batch = llm_ledger_collect(zone->sh->ledger, agent->force, now);

    if (batch == NULL) {
        zone->sh->told = pending;
        *wait = life - passed;
        return NULL;
    }

    agent->force = 0;
    zone->sh->told = NGX_MAX_UINT32_VALUE;

    return batch;
}


static void
ngx_http_llm_quota_word(void *data, const char *p, size_t len)
{
    ngx_http_llm_quota_words_t *words = data;

    void    *mem;
    size_t   size;

    if (words->len + len > words->size) {
        mem = ngx_http_llm_quota_grow(words->data, words->len, &words->size,
                                      words->len + len);
        if (mem == NULL) {
            words->failed = 1;
            return;
        }

        words->data = mem;
    }

    if (words->n == words->max) {
        size = words->max * sizeof(ngx_str_t);

        mem = ngx_http_llm_quota_grow(words->argv, size, &size,
                                      size + sizeof(ngx_str_t));
        if (mem == NULL) {
            words->failed = 1;
            return;
        }

        words->argv = mem;
        words->max = size / sizeof(ngx_str_t);
    }

    if (len) {
        ngx_memcpy(words->data + words->len, p, len);
    }

    words->argv[words->n++].len = len;
    words->len += len;
}


static void *
ngx_http_llm_quota_grow(void *old, size_t used, size_t *size, size_t need)
{
    void    *mem;
    size_t   n;

    for (n = ngx_max(*size * 2, 4096); n < need; n *= 2) { /* void */ }

    mem = ngx_alloc(n, ngx_http_llm_quota_agent.log);
    if (mem == NULL) {
        return NULL;
    }

    if (old != NULL) {
        ngx_memcpy(mem, old, used);
        ngx_free(old);
    }

    *size = n;

    return mem;
}


static void
ngx_http_llm_quota_send(unsigned nkeys)
{
    u_char                      *p;
    ngx_uint_t                   i;
    ngx_http_llm_quota_agent_t  *agent;
    ngx_http_llm_quota_words_t  *words;

    agent = &ngx_http_llm_quota_agent;
    words = &ngx_http_llm_quota_words;

    if (words->failed) {
        ngx_http_llm_quota_fail("cannot be asked: out of memory");
        return;
    }

    p = words->data;

    for (i = 0; i < words->n; i++) {
        words->argv[i].data = p;
        p += words->argv[i].len;
    }

    agent->op = ngx_http_llm_redis_eval(agent->conf->redis,
                                        agent->conf->script, nkeys, words->n,
                                        words->argv, 0,
                                        ngx_http_llm_quota_reply, NULL);

    ngx_log_debug4(NGX_LOG_DEBUG_EVENT, agent->log, 0,
                   "llm quota batch:%uL words:%ui again:%d sent:%d",
                   agent->seq, words->n, agent->again, agent->op != NULL);

    if (agent->op == NULL) {
        ngx_http_llm_quota_fail("is away");
        return;
    }

    agent->up = 1;
    agent->sent = ngx_current_msec;
    agent->zone->sh->quota->stat.commands++;
}


static void
ngx_http_llm_quota_reply(void *data, ngx_http_llm_redis_reply_t *reply)
{
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    sh = agent->zone->sh->quota;

    agent->op = NULL;

    switch (reply->type) {

    case NGX_HTTP_LLM_REDIS_TIMEOUT:
        sh->stat.late++;
        ngx_http_llm_quota_fail("does not answer in time");
        return;

    case NGX_HTTP_LLM_REDIS_GONE:
        sh->stat.late++;
        ngx_http_llm_quota_fail("is gone");
        return;

    case NGX_HTTP_LLM_REDIS_STRING:
        break;

    default:
        sh->stat.errors++;
        ngx_http_llm_quota_fail("refuses");
        return;
    }

    if (ngx_http_llm_quota_apply(&reply->str) != NGX_OK) {
        sh->stat.errors++;
        ngx_http_llm_quota_fail("answers without sense");
        return;
    }

    if (!agent->again) {
        ngx_http_llm_quota_clock(&reply->str);
    }

    /* what was asked in the meantime, and in the rest of this turn */

    ngx_post_event(&agent->event, &ngx_posted_events);
}


static ngx_int_t
ngx_http_llm_quota_apply(ngx_str_t *reply)
{
    ngx_int_t                    rc;
    ngx_msec_t                   away;
    ngx_uint_t                   back;
    llm_now_t                    now;
    llm_owners_t                 wake;
    ngx_http_llm_zone_t         *zone;
    ngx_http_llm_quota_sh_t     *sh;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    zone = agent->zone;
    sh = zone->sh->quota;

    back = 0;
    away = 0;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(zone, &wake);

    rc = llm_ledger_apply(zone->sh->ledger, agent->seq, (char *) reply->data,
                          reply->len, &now, &wake);

    if (rc == LLM_OK) {
        sh->stat.batches++;
        sh->stat.names += agent->names;
        sh->stat.asks += agent->asks;
        sh->stat.gateways = llm_ledger_quota(zone->sh->ledger)->gateways;

        if (sh->alone) {
            away = now.ms - sh->since;
            back = ngx_http_llm_quota_may_log(sh);

            sh->alone = 0;
            sh->since = now.ms;
            sh->stat.alone_ms += away;

            ngx_http_llm_quota_mode(zone, 0, &wake);
        }
    }

    ngx_http_llm_zone_unlock(zone, &wake);

    if (back) {
        ngx_log_error(NGX_LOG_NOTICE, agent->log, 0,
                      "llm: limits are shared again through \"%V\", after "
                      "%M ms, by %ui gateways",
                      ngx_http_llm_redis_name(agent->conf->redis), away,
                      sh->stat.gateways);
    }

    return rc == LLM_OK ? NGX_OK : NGX_ERROR;
}


/*
 * The reply begins with Redis' clock.  All that it counts hangs on it: days,
 * rates and lives, so that a jump is worth a line.
 */

static void
ngx_http_llm_quota_clock(ngx_str_t *reply)
{
    size_t                       i;
    int64_t                      clock, off;
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;
    clock = 0;

    for (i = 0; i < reply->len && i < 18; i++) {
        if (reply->data[i] < '0' || reply->data[i] > '9') {
            break;
        }

        clock = clock * 10 + (reply->data[i] - '0');
    }

    clock -= (int64_t) ngx_current_msec;
    off = clock - agent->clock;

    agent->clock = clock;

    if (!agent->clock_set) {
        agent->clock_set = 1;
        return;
    }

    if (off >= -NGX_HTTP_LLM_QUOTA_JUMP && off <= NGX_HTTP_LLM_QUOTA_JUMP) {
        return;
    }

    agent->zone->sh->quota->stat.jumps++;

    if (ngx_http_llm_quota_may_log(agent->zone->sh->quota)) {
        ngx_log_error(NGX_LOG_WARN, agent->log, 0,
                      "llm: the clock of redis \"%V\" jumped by %L ms",
                      ngx_http_llm_redis_name(agent->conf->redis), off);
    }
}


void
ngx_http_llm_quota_after(ngx_msec_t ms)
{
    ngx_http_llm_quota_agent_t  *agent;

    agent = &ngx_http_llm_quota_agent;

    if (agent->timer.timer_set) {
        ngx_del_timer(&agent->timer);
    }

    ngx_add_timer(&agent->timer, ms);
}
