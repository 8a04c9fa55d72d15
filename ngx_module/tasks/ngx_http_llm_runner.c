
/*
 * Copyright (C) the ngx-llm authors
 *
 * A worker's runner: when it looks for work, how much it takes on, and its
 * life.  What others are told is gathered for some milliseconds, so that a
 * call to Redis is about many tasks.
 */


#include "tasks/ngx_http_llm_runner_private.h"
#include "http/ngx_http_llm_id.h"
#include "policy/ngx_http_llm_flight.h"
#include "state/ngx_http_llm_inbox.h"
#include "state/ngx_http_llm_owner.h"


#define NGX_HTTP_LLM_RUNNER_LETTER  "t "
#define NGX_HTTP_LLM_RUNNER_LETTERS 20         /* ms between two */


static ngx_int_t ngx_http_llm_runner_name(void);
static void ngx_http_llm_runner_tick(ngx_event_t *ev);
static void ngx_http_llm_runner_turn(ngx_event_t *ev);
static void ngx_http_llm_runner_comes(void);
static void ngx_http_llm_runner_beat(ngx_event_t *ev);
static ngx_msec_t ngx_http_llm_runner_jitter(ngx_msec_t ms);
static ngx_int_t ngx_http_llm_runner_letter(ngx_str_t *letter);
static void ngx_http_llm_runner_post(void);


ngx_http_llm_runner_t  ngx_http_llm_runner;


ngx_int_t
ngx_http_llm_runner_init_process(ngx_cycle_t *cycle,
    ngx_http_llm_main_conf_t *mcf)
{
    ngx_core_conf_t            *ccf;
    ngx_http_llm_runner_t      *rn;
    ngx_http_llm_tasks_conf_t  *tcf;

    rn = &ngx_http_llm_runner;
    tcf = ngx_http_llm_tasks_conf(mcf);

    ngx_memzero(rn, sizeof(ngx_http_llm_runner_t));

    rn->mcf = mcf;
    rn->tcf = tcf;
    rn->count = &mcf->zone->sh->count.tasks;
    rn->log = cycle->log;

    ngx_queue_init(&rn->tasks);
    ngx_queue_init(&rn->outbox);
    ngx_queue_init(&rn->batches);

    ngx_http_llm_todo_init();

    if (ngx_http_llm_runner_name() != NGX_OK) {
        return NGX_ERROR;
    }

    ccf = (ngx_core_conf_t *) ngx_get_conf(cycle->conf_ctx, ngx_core_module);

    rn->most = tcf->in_flight / ngx_max(ccf->worker_processes, 1);
    rn->most = ngx_max(rn->most, 1);
    rn->limit = ngx_min(rn->most, NGX_HTTP_LLM_RUNNER_BEGIN);

    rn->dummy.fd = (ngx_socket_t) -1;

    rn->tick.handler = ngx_http_llm_runner_tick;
    rn->tick.data = &rn->dummy;
    rn->tick.log = cycle->log;
    rn->tick.cancelable = 1;

    /* while there is something to tell the worker does not end */

    rn->turn = rn->tick;
    rn->turn.handler = ngx_http_llm_runner_turn;
    rn->turn.cancelable = 0;

    rn->beat = rn->turn;
    rn->beat.handler = ngx_http_llm_runner_beat;

    /* of one who had this place and was killed */

    rn->count->running[ngx_http_llm_owner()] = 0;

    ngx_http_llm_fleet_work = ngx_http_llm_runner_letter;

    ngx_add_timer(&rn->tick, ngx_http_llm_runner_jitter(
                                                 NGX_HTTP_LLM_RUNNER_BLIND));

    return NGX_OK;
}


void
ngx_http_llm_runner_exit_process(void)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (rn->mcf == NULL) {
        return;
    }

    ngx_http_llm_fleet_work = NULL;

    ngx_http_llm_runner_end_exit();
    ngx_http_llm_runner_claim_exit();
    ngx_http_llm_runner_look_exit();
    ngx_http_llm_todo_exit();

    rn->count->running[ngx_http_llm_owner()] = 0;

    if (rn->tick.timer_set) {
        ngx_del_timer(&rn->tick);
    }

    if (rn->turn.timer_set) {
        ngx_del_timer(&rn->turn);
    }

    if (rn->turn.posted) {
        ngx_delete_posted_event(&rn->turn);
    }

    if (rn->beat.timer_set) {
        ngx_del_timer(&rn->beat);
    }

    rn->mcf = NULL;
}


/* new with each process: what a dead one held is never taken for ours */

static ngx_int_t
ngx_http_llm_runner_name(void)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (ngx_http_llm_queue_token(rn->text) != NGX_OK) {
        return NGX_ERROR;
    }

    rn->name.data = rn->text;
    rn->name.len = ngx_sprintf(rn->text + 16, "-%P", ngx_pid) - rn->text;

    return NGX_OK;
}


static void
ngx_http_llm_runner_tick(ngx_event_t *ev)
{
    ngx_msec_t              next;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (ngx_exiting || ngx_quit || ngx_terminate) {
        return;
    }

    next = rn->mcf->inbox ? NGX_HTTP_LLM_RUNNER_TICK
                          : NGX_HTTP_LLM_RUNNER_BLIND;

    ngx_add_timer(ev, ngx_http_llm_runner_jitter(next));

    if (!ngx_http_llm_redis_connected(rn->tcf->redis)) {
        return;
    }

    ngx_http_llm_runner_look();

    if (!rn->tcf->run) {
        return;
    }

    rn->want = 1;
    rn->now = 1;

    ngx_http_llm_todo_look();
    ngx_http_llm_runner_soon(0);
}


/* workers that were started together do not ask together */

static ngx_msec_t
ngx_http_llm_runner_jitter(ngx_msec_t ms)
{
    return ms - ms / 8 + ngx_http_llm_random() % (ms / 4 + 1);
}


void
ngx_http_llm_runner_soon(ngx_msec_t delay)
{
    ngx_event_t  *ev;

    ev = &ngx_http_llm_runner.turn;

    if (ev->posted) {
        return;
    }

    if (delay == 0) {

        if (ev->timer_set) {
            ngx_del_timer(ev);
        }

        ngx_post_event(ev, &ngx_posted_events);
        return;
    }

    if (ev->timer_set) {

        if ((ngx_msec_int_t) (ev->timer.key - ngx_current_msec)
            <= (ngx_msec_int_t) delay)
        {
            return;
        }

        ngx_del_timer(ev);
    }

    ngx_add_timer(ev, delay);
}


/* ends go before the claim, since they make room for it */

static void
ngx_http_llm_runner_turn(ngx_event_t *ev)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (rn->calls) {
        NGX_HTTP_LLM_FAULT("after-dispatch");
    }

    ngx_http_llm_runner_post();
    ngx_http_llm_runner_send();
    ngx_http_llm_todo_send();
    ngx_http_llm_runner_comes();
    ngx_http_llm_runner_claim();
    ngx_http_llm_runner_busy();
}


/* what this worker gave back for a moment is claimed when that is over */

static void
ngx_http_llm_runner_comes(void)
{
    ngx_msec_int_t          left;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (!rn->waits || ngx_exiting) {
        return;
    }

    left = (ngx_msec_int_t) (rn->due - ngx_current_msec);

    if (left > 0) {
        ngx_http_llm_runner_soon(left);
        return;
    }

    rn->waits = 0;
    rn->want = 1;
    rn->now = 1;
}


void
ngx_http_llm_runner_busy(void)
{
    ngx_msec_t              ms;
    ngx_uint_t              busy;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    busy = rn->held || rn->claim || rn->lost || ngx_http_llm_todo_busy();

    if (!busy) {

        if (rn->beat.timer_set) {
            ngx_del_timer(&rn->beat);
        }

        return;
    }

    if (!rn->beat.timer_set) {
        ms = rn->tcf->lease / 4;
        ms = ngx_min(ms, NGX_HTTP_LLM_RUNNER_TICK);

        ngx_add_timer(&rn->beat, ngx_max(ms, 50));
    }
}


/* keeps the leases, and the worker alive until what it holds is told */

static void
ngx_http_llm_runner_beat(ngx_event_t *ev)
{
    ngx_http_llm_runner_beats();
    ngx_http_llm_runner_turn(ev);
}


int64_t
ngx_http_llm_runner_wall(void)
{
    ngx_time_t  *tp;

    tp = ngx_timeofday();

    return (int64_t) tp->sec * 1000 + tp->msec;
}


void
ngx_http_llm_runner_running(ngx_int_t n)
{
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    rn->calls += n;
    rn->count->running[ngx_http_llm_owner()] = rn->calls;
}


void
ngx_http_llm_runner_complain(const char *what,
    ngx_http_llm_redis_reply_t *reply)
{
    size_t                  len;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    /* that it does not answer is told by its client */

    if (reply->type == NGX_HTTP_LLM_REDIS_TIMEOUT
        || reply->type == NGX_HTTP_LLM_REDIS_GONE
        || (rn->complained && ngx_current_msec - rn->logged
                              < NGX_HTTP_LLM_RUNNER_QUIET))
    {
        return;
    }

    rn->complained = 1;
    rn->logged = ngx_current_msec;

    len = reply->type == NGX_HTTP_LLM_REDIS_ERROR
          ? ngx_min(reply->str.len, 128) : 0;

    ngx_log_error(NGX_LOG_ERR, rn->log, 0,
                  "llm tasks: Redis refuses \"%s\": \"%*s\"", what, len,
                  reply->str.data);
}


void
ngx_http_llm_runner_wake(ngx_http_llm_main_conf_t *mcf)
{
    ngx_msec_t              since;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (rn->mcf == NULL) {
        return;
    }

    since = ngx_current_msec - rn->told;

    if (rn->tcf->run && !ngx_exiting) {
        rn->want = 1;
        rn->now = 1;

        ngx_http_llm_todo_look();
    }

    rn->letter = 1;

    ngx_http_llm_runner_soon(since < NGX_HTTP_LLM_RUNNER_LETTERS
                             ? NGX_HTTP_LLM_RUNNER_GATHER : 0);
}


/* to all others; of many in a row, one */

static void
ngx_http_llm_runner_post(void)
{
    ngx_msec_t              since;
    ngx_str_t               piece[2];
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;

    if (!rn->letter) {
        return;
    }

    since = ngx_current_msec - rn->told;

    if (since < NGX_HTTP_LLM_RUNNER_LETTERS) {
        ngx_http_llm_runner_soon(NGX_HTTP_LLM_RUNNER_LETTERS - since);
        return;
    }

    rn->letter = 0;
    rn->told = ngx_current_msec;

    if (rn->mcf->inbox) {
        ngx_str_set(&piece[0], NGX_HTTP_LLM_RUNNER_LETTER);
        piece[1] = rn->name;

        (void) ngx_http_llm_inbox_post_all(rn->mcf->inbox, piece, 2);
    }
}


static ngx_int_t
ngx_http_llm_runner_letter(ngx_str_t *letter)
{
    size_t                  len;
    ngx_http_llm_runner_t  *rn;

    rn = &ngx_http_llm_runner;
    len = sizeof(NGX_HTTP_LLM_RUNNER_LETTER) - 1;

    if (letter->len < len
        || ngx_memcmp(letter->data, NGX_HTTP_LLM_RUNNER_LETTER, len) != 0)
    {
        return NGX_DECLINED;
    }

    if (!rn->tcf->run || ngx_exiting
        || (letter->len - len == rn->name.len
            && ngx_memcmp(letter->data + len, rn->name.data, rn->name.len)
               == 0))
    {
        return NGX_OK;
    }

    rn->want = 1;
    rn->now = 1;

    ngx_http_llm_todo_look();
    ngx_http_llm_runner_soon(0);

    return NGX_OK;
}
