
/*
 * Copyright (C) the ngx-llm authors
 *
 * The queue of tasks: what it did here, and how it stood when a runner looked
 * at it last.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "tasks/ngx_http_llm_tasks.h"


/* who looks does so more often: what is older is not shown any more */

#define NGX_HTTP_LLM_METRICS_LOOKED  30000           /* ms */


static void ngx_http_llm_metrics_tasks_state(llm_prometheus_t *pm,
    ngx_http_llm_count_tasks_t *ct);
static void ngx_http_llm_metrics_tasks_ended(llm_prometheus_t *pm,
    ngx_http_llm_count_tasks_t *ct);
static void ngx_http_llm_metrics_tasks_times(llm_prometheus_t *pm,
    const char *name, const char *help, ngx_http_llm_count_task_times_t *t);


/* ngx_http_llm_task_outcome_e */

static const char  *ngx_http_llm_metrics_outcome[] = {
    "completed", "error", "cancelled"
};

static const char  *ngx_http_llm_metrics_webhook[] = {
    "delivered", "given_up"
};


ngx_int_t
ngx_http_llm_metrics_tasks(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t                   i, running;
    ngx_http_llm_count_tasks_t  *ct;

    if (!ngx_http_llm_tasks_conf(m->mcf)->on) {
        return NGX_OK;
    }

    ct = &m->count->tasks;

    switch (at->part++) {

    case 0:
        ngx_http_llm_metrics_tasks_state(pm, ct);
        return NGX_AGAIN;

    case 1:
        running = 0;

        for (i = 0; i < LLM_LEDGER_OWNERS; i++) {
            running += ct->running[i];
        }

        ngx_http_llm_metrics_gauge(pm, "llm_tasks_running",
                                   "Tasks that run in this gateway.",
                                   running);
        ngx_http_llm_metrics_tasks_ended(pm, ct);
        return NGX_AGAIN;

    case 2:
        ngx_http_llm_metrics_tasks_times(pm, "llm_task_wait_duration_seconds",
            "From a task's submission until it was started.", &ct->wait);
        return NGX_AGAIN;

    default:
        ngx_http_llm_metrics_tasks_times(pm, "llm_task_run_duration_seconds",
            "From a task's last start until its end.", &ct->run);
        return NGX_OK;
    }
}


/* of the fleet; nobody knows it while Redis is away */

static void
ngx_http_llm_metrics_tasks_state(llm_prometheus_t *pm,
    ngx_http_llm_count_tasks_t *ct)
{
    uint64_t                looked, now;
    ngx_uint_t              i;
    ngx_time_t             *tp;
    llm_prometheus_label_t  label;

    static const char  name[] = "llm_tasks";
    static const char  age[] = "llm_tasks_oldest_age_seconds";

    struct {
        const char    *state;
        ngx_atomic_t  *n;
    } states[] = {
        { "queued", &ct->queued },
        { "processing", &ct->processing },
        { "delayed", &ct->delayed },
        { "dead", &ct->dead }
    };

    tp = ngx_timeofday();
    now = (uint64_t) tp->sec * 1000 + tp->msec;
    looked = ct->looked;

    if (looked == 0 || now > looked + NGX_HTTP_LLM_METRICS_LOOKED) {
        return;
    }

    llm_prometheus_family(pm, name, "gauge",
                          "Tasks of all gateways; delayed ones are queued, "
                          "too.");

    for (i = 0; i < sizeof(states) / sizeof(states[0]); i++) {
        ngx_http_llm_metrics_label(&label, "state", states[i].state);
        llm_prometheus_sample(pm, name, &label, 1, *states[i].n);
    }

    llm_prometheus_family(pm, age, "gauge",
                          "How long the task that is next has waited.");
    llm_prometheus_micro(pm, age, NULL, 0, (int64_t) ct->oldest * 1000);
}


static void
ngx_http_llm_metrics_tasks_ended(llm_prometheus_t *pm,
    ngx_http_llm_count_tasks_t *ct)
{
    ngx_uint_t              i;
    llm_prometheus_label_t  label;

    static const char  finished[] = "llm_tasks_finished_total";
    static const char  webhooks[] = "llm_task_webhooks_total";

    ngx_http_llm_metrics_counter(pm, "llm_tasks_submitted_total",
                                 "Tasks that were accepted.", ct->submitted);

    llm_prometheus_family(pm, finished, "counter",
                          "Tasks that have ended, by their outcome.");

    for (i = 0; i < NGX_HTTP_LLM_TASK_OUTCOMES; i++) {
        ngx_http_llm_metrics_label(&label, "outcome",
                                   ngx_http_llm_metrics_outcome[i]);
        llm_prometheus_sample(pm, finished, &label, 1, ct->finished[i]);
    }

    ngx_http_llm_metrics_counter(pm, "llm_tasks_retried_total",
                                 "Attempts that failed, to be made again.",
                                 ct->retried);
    ngx_http_llm_metrics_counter(pm, "llm_tasks_held_total",
                                 "Tasks put back since there was no room.",
                                 ct->held);
    ngx_http_llm_metrics_counter(pm, "llm_tasks_lost_total",
                                 "Tasks that somebody else had taken over.",
                                 ct->lost);

    llm_prometheus_family(pm, webhooks, "counter",
                          "Webhooks, by what became of them.");

    for (i = 0; i < 2; i++) {
        ngx_http_llm_metrics_label(&label, "result",
                                   ngx_http_llm_metrics_webhook[i]);
        llm_prometheus_sample(pm, webhooks, &label, 1, ct->webhooks[i]);
    }
}


static void
ngx_http_llm_metrics_tasks_times(llm_prometheus_t *pm, const char *name,
    const char *help, ngx_http_llm_count_task_times_t *t)
{
    uint64_t                    bounds[NGX_HTTP_LLM_TASK_BUCKETS - 1];
    uint64_t                    counts[NGX_HTTP_LLM_TASK_BUCKETS];
    ngx_uint_t                  i;
    llm_prometheus_histogram_t  histogram;

    for (i = 0; i < NGX_HTTP_LLM_TASK_BUCKETS; i++) {
        counts[i] = t->n[i];

        if (i < NGX_HTTP_LLM_TASK_BUCKETS - 1) {
            bounds[i] = (uint64_t) ngx_http_llm_task_buckets[i] * 1000;
        }
    }

    histogram.bounds = bounds;
    histogram.counts = counts;
    histogram.n = NGX_HTTP_LLM_TASK_BUCKETS - 1;
    histogram.sum = (uint64_t) t->ms * 1000;

    llm_prometheus_family(pm, name, "histogram", help);
    llm_prometheus_histogram(pm, name, NULL, 0, &histogram);
}
