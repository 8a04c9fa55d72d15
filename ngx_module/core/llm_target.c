
/*
 * Copyright (C) the ngx-llm authors
 */


#include <string.h>

#include "core/llm_target_private.h"


#define LLM_TARGET_GUESS  50                /* ms, if all calls run */
#define LLM_TARGET_FEW    20                /* samples that tell no 5 % */


static int llm_target_ask(llm_target_row_t *row,
    const llm_target_conf_t *conf, int64_t tokens, int force, uint64_t now,
    uint64_t *wait);
static void llm_target_landed(llm_target_row_t *row, llm_target_call_t *call);
static void llm_target_drop(llm_targets_t *tg, uint32_t i, unsigned owner);


int
llm_target_start(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    unsigned owner, int64_t tokens, int force, uint64_t now, uint64_t *wait,
    llm_target_call_t *call)
{
    int                rc;
    llm_target_row_t  *row;

    memset(call, 0, sizeof(llm_target_call_t));
    *wait = 0;

    row = llm_target_row(tg, i);

    if (row == NULL || owner >= LLM_LEDGER_OWNERS) {
        return LLM_OK;
    }

    rc = llm_target_ask(row, conf, tokens, force, now, wait);

    if (rc != LLM_OK) {
        return rc;
    }

    if (!force) {
        call->probe = llm_target_breaker_start(&row->breaker, owner, now);
    }

    llm_target_budget_start(&row->budget, conf);

    if (!conf->limitless) {
        llm_target_pace_take(&row->requests, &call->requests, 1, now);
        llm_target_pace_take(&row->tokens, &call->tokens, tokens, now);
    }

    call->started = now;
    call->number = ++row->started;
    call->epoch = tg->epoch;
    call->owner = (uint16_t) owner;
    call->running = 1;

    if (row->running == 0) {
        llm_target_busy(tg, i);
    }

    row->running++;
    row->owned[owner]++;

    return LLM_OK;
}


int
llm_target_look(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    int64_t tokens, uint64_t now, uint64_t *wait)
{
    int                rc;
    uint64_t           paced;
    llm_target_row_t  *row;

    *wait = 0;

    row = llm_target_row(tg, i);

    if (row == NULL) {
        return LLM_OK;
    }

    paced = row->paced;
    rc = llm_target_ask(row, conf, tokens, 0, now, wait);
    row->paced = paced;

    return rc;
}


int
llm_target_retry(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    uint64_t now)
{
    int                rc;
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL) {
        return LLM_OK;
    }

    rc = llm_target_budget_retry(&row->budget, conf, now);

    if (rc == LLM_OK) {
        row->retries++;

    } else {
        row->denied++;
    }

    return rc;
}


void
llm_target_client_retried(llm_targets_t *tg, uint32_t i,
    const llm_target_conf_t *conf, uint64_t now)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row != NULL) {
        llm_target_budget_client(&row->budget, conf, now);
    }
}


int
llm_target_hedge(llm_targets_t *tg, uint32_t i, int take)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    return row == NULL ? LLM_DECLINED
                       : llm_target_budget_hedge(&row->budget, take);
}


void
llm_target_grant(llm_targets_t *tg, uint32_t i)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row != NULL) {
        llm_target_budget_grant(&row->budget);
    }
}


int64_t
llm_target_late(const llm_targets_t *tg, uint32_t i)
{
    const llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL
        || llm_target_latency_samples(&row->latency) < LLM_TARGET_FEW)
    {
        return LLM_TARGET_UNKNOWN;
    }

    return llm_target_latency_at(&row->latency, 95);
}


void
llm_target_first(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    uint64_t ms, uint64_t now)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL) {
        return;
    }

    if (llm_target_latency_add(&row->latency, ms, now)) {
        llm_target_bound_slow(&row->bound, conf, row->running, now);
    }
}


void
llm_target_told(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    llm_target_call_t *call, const llm_target_limit_t *requests,
    const llm_target_limit_t *tokens, uint64_t now)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL || !call->running || call->epoch != tg->epoch) {
        return;
    }

    llm_target_landed(row, call);

    if (requests != NULL) {
        llm_target_pace_told(&row->requests, call, &call->requests, requests,
                             conf->windowed, now);
    }

    if (tokens != NULL) {
        llm_target_pace_told(&row->tokens, call, &call->tokens, tokens,
                             conf->windowed, now);
        call->told = tokens->limit > 0 && tokens->remaining >= 0;
    }
}


void
llm_target_end(llm_targets_t *tg, uint32_t i, const llm_target_conf_t *conf,
    llm_target_call_t *call, llm_target_end_e end, int64_t asked,
    int64_t used, uint64_t now)
{
    llm_target_row_t  *row;

    row = llm_target_row(tg, i);

    if (row == NULL || !call->running || call->epoch != tg->epoch) {
        call->running = 0;
        return;
    }

    call->running = 0;
    llm_target_landed(row, call);

    if (llm_target_breaker_end(&row->breaker, conf, call, end, now)) {
        row->ejections++;
    }

    llm_target_bound_end(&row->bound, conf, end, row->running, now);

    if (end == LLM_TARGET_LIMITED) {
        row->cooled += llm_target_cool_down(&row->cool, call->started, asked,
                                            now);

    } else if (end == LLM_TARGET_GOOD) {
        llm_target_cool_good(&row->cool, call->started, now);
    }

    if (used >= 0) {
        llm_target_pace_used(&row->tokens, &call->tokens, used, call->told,
                             now);
    }

    llm_target_drop(tg, i, call->owner);
}


void
llm_target_reap(llm_targets_t *tg, unsigned owner, uint64_t now)
{
    uint32_t           i, calls;
    llm_target_row_t  *row;

    (void) now;

    if (owner >= LLM_LEDGER_OWNERS) {
        return;
    }

    for (i = 0; i < tg->size; i++) {
        row = llm_target_row(tg, i);

        if (row == NULL) {
            continue;
        }

        llm_target_breaker_reap(&row->breaker, owner);

        calls = row->running;

        while (row->owned[owner] != 0) {
            llm_target_drop(tg, i, owner);
        }

        if (row->running != calls) {
            llm_target_pace_lost(&row->requests, calls, row->running);
            llm_target_pace_lost(&row->tokens, calls, row->running);
        }
    }
}


void
llm_target_stat(const llm_targets_t *tg, uint32_t i, uint64_t now,
    llm_target_stat_t *stat)
{
    const llm_target_row_t  *row;

    memset(stat, 0, sizeof(llm_target_stat_t));

    stat->first_ms = LLM_TARGET_UNKNOWN;
    stat->first_p95 = LLM_TARGET_UNKNOWN;
    stat->requests.limit = LLM_TARGET_UNKNOWN;
    stat->requests.remaining = LLM_TARGET_UNKNOWN;
    stat->requests.reset = LLM_TARGET_UNKNOWN;
    stat->tokens = stat->requests;

    row = llm_target_row(tg, i);

    if (row == NULL) {
        return;
    }

    stat->state = llm_target_breaker_state(&row->breaker, now);
    stat->until = stat->state == LLM_TARGET_OPEN ? row->breaker.until : 0;

    if (row->cool.until > now && row->cool.until > stat->until) {
        stat->until = row->cool.until;
    }

    stat->running = row->running;
    stat->most = row->bound.bound / 1000;
    stat->first_ms = llm_target_latency_at(&row->latency, 50);
    stat->first_p95 = llm_target_latency_at(&row->latency, 95);

    llm_target_pace_stat(&row->requests, now, &stat->requests);
    llm_target_pace_stat(&row->tokens, now, &stat->tokens);

    stat->ejections = row->ejections;
    stat->cooled = row->cooled;
    stat->retries = row->retries;
    stat->denied = row->denied;
    stat->paced = row->paced;
}


/* in the order of how long the answer holds */

static int
llm_target_ask(llm_target_row_t *row, const llm_target_conf_t *conf,
    int64_t tokens, int force, uint64_t now, uint64_t *wait)
{
    int64_t   first;
    uint64_t  requests;

    if (!force) {

        if (llm_target_breaker_ask(&row->breaker, now, wait) != LLM_OK) {
            return LLM_DECLINED;
        }

        if (now < row->cool.until) {
            *wait = row->cool.until - now;
            return LLM_AGAIN;
        }
    }

    if (conf->pace) {
        requests = llm_target_pace_wait(&row->requests, 1, conf->margin, now);
        *wait = llm_target_pace_wait(&row->tokens, tokens, 0, now);
        *wait = *wait > requests ? *wait : requests;

        if (*wait != 0) {
            row->paced++;
            return LLM_AGAIN;
        }
    }

    /* one of them ends when an answer's time has passed as often as it runs */

    if (row->running >= llm_target_bound(&row->bound, conf)) {
        first = llm_target_latency_at(&row->latency, 50);
        *wait = first > 0 ? (uint64_t) first / row->running + 1
                          : LLM_TARGET_GUESS;
        return LLM_AGAIN;
    }

    return LLM_OK;
}


static void
llm_target_landed(llm_target_row_t *row, llm_target_call_t *call)
{
    if (!call->landed) {
        call->landed = 1;
        llm_target_pace_landed(&row->requests, &call->requests);
        llm_target_pace_landed(&row->tokens, &call->tokens);
    }
}


static void
llm_target_drop(llm_targets_t *tg, uint32_t i, unsigned owner)
{
    llm_target_row_t  *row;

    row = llm_target_at(tg, i);

    /* it was reaped */

    if (row->owned[owner] == 0) {
        return;
    }

    row->owned[owner]--;
    row->running--;

    if (row->running == 0) {
        llm_target_idle(tg, i);
    }
}
