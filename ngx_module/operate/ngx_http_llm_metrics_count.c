
/*
 * Copyright (C) the ngx-llm authors
 *
 * What is counted one by one in the zone.
 */


#include "operate/ngx_http_llm_metrics_private.h"


/* an array of counters, one for each value of a label; no label: one alone */

typedef struct {
    const char                 *name;
    const char                 *help;
    const char                 *label;
    const char                **values;
    size_t                      offset;
    ngx_uint_t                  n;
} ngx_http_llm_metrics_counts_t;


#define ngx_http_llm_metrics_of(field, values)                               \
    values, offsetof(ngx_http_llm_count_t, field),                           \
    sizeof(values) / sizeof(values[0])

#define ngx_http_llm_metrics_alone(field)                                    \
    NULL, offsetof(ngx_http_llm_count_t, field), 1


static const char  *ngx_http_llm_metrics_endpoint[] = {
    "chat_completions", "completions", "embeddings", "responses", "other"
};

/*
 * ngx_http_llm_attempt_e, ngx_http_llm_cache_e, ngx_http_llm_parcel_e - 1,
 * ngx_http_llm_refused_e
 */

static const char  *ngx_http_llm_metrics_attempt[] = {
    "ok", "status_4xx", "status_429", "status_5xx", "connect",
    "connect_timeout", "timeout", "silent", "broken", "cancelled"
};

/* ngx_http_llm_hedge_e */

static const char  *ngx_http_llm_metrics_hedge[] = {
    "won", "lost", "failed", "denied"
};

static const char  *ngx_http_llm_metrics_result[] = {
    "off", "bypass", "miss", "hit", "reload", "stale", "joined"
};

static const char  *ngx_http_llm_metrics_damage[] = {
    "alien", "sealed", "damaged", "open"
};

static const char  *ngx_http_llm_metrics_refused[] = {
    "key", "model", "requests", "tokens", "requests_day", "tokens_day",
    "budget", "too_large", "queue_full", "queue_timeout", "memory"
};


/* spans_sent and what follows it */

static const char  *ngx_http_llm_metrics_spans[] = { "sent", "dropped" };


/* a new counter needs no more than a row here */

static ngx_http_llm_metrics_counts_t  ngx_http_llm_metrics_counts[] = {

    { "llm_cache_requests_total",
      "Calls of the API, by what the cache said.", "result",
      ngx_http_llm_metrics_of(cache, ngx_http_llm_metrics_result) },

    { "llm_cache_stored_total",
      "Answers given to the cache.",
      NULL, ngx_http_llm_metrics_alone(stored) },

    { "llm_cache_damaged_total",
      "Entries in Redis that were not taken, by reason.", "reason",
      ngx_http_llm_metrics_of(cache_damaged, ngx_http_llm_metrics_damage) },

    { "llm_refusals_total",
      "Requests that were not let through, by reason.", "reason",
      ngx_http_llm_metrics_of(refused, ngx_http_llm_metrics_refused) },

    { "llm_unpriced_requests_total",
      "Requests for models that llm_prices does not know: charged nothing.",
      NULL, ngx_http_llm_metrics_alone(unpriced) },

    { "llm_streams_cut_total",
      "Streams ended because their tenant had no more tokens or money.",
      NULL, ngx_http_llm_metrics_alone(cut) },

    { "llm_retry_denied_total",
      "Retries that were beyond the budget.",
      NULL, ngx_http_llm_metrics_alone(retry_denied) },

    { "llm_hedges_total",
      "Second attempts beside a slow one, by outcome; denied: there was none.",
      "result", ngx_http_llm_metrics_of(hedge, ngx_http_llm_metrics_hedge) },

    { "llm_trace_spans_total",
      "Spans of traces, by what became of them.", "result",
      ngx_http_llm_metrics_of(spans_sent, ngx_http_llm_metrics_spans) },

    { NULL, NULL, NULL, NULL, 0, 0 }
};


ngx_int_t
ngx_http_llm_metrics_build(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    llm_prometheus_label_t  label;

    llm_prometheus_family(pm, "llm_build_info", "gauge",
                          "The version of this module; always 1.");
    ngx_http_llm_metrics_label(&label, "version", NGX_HTTP_LLM_VERSION);
    llm_prometheus_sample(pm, "llm_build_info", &label, 1, 1);

    ngx_http_llm_metrics_gauge(pm, "llm_start_timestamp_seconds",
        "When the shared memory was made: counters begin there.",
        m->count->started);

    return NGX_OK;
}


/* every answer of a gateway's locations, calls of the API or not */

ngx_int_t
ngx_http_llm_metrics_requests(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    u_char                  text[NGX_INT_T_LEN + 1];
    uint64_t                n;
    ngx_uint_t              s;
    llm_prometheus_label_t  label[2];

    static const char  name[] = "llm_http_requests_total";

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "counter",
                              "Requests answered, by endpoint and status; "
                              "499: the client left first.");
    }

    ngx_http_llm_metrics_label(&label[0], "endpoint",
                               ngx_http_llm_metrics_endpoint[at->i]);

    for (s = 0; s < NGX_HTTP_LLM_STATUSES; s++) {

        n = m->count->requests[at->i][s];

        /* what never happened is no series, but success always is */

        if (n == 0 && ngx_http_llm_statuses[s] != NGX_HTTP_OK) {
            continue;
        }

        ngx_http_llm_metrics_label(&label[1], "status", "other");

        if (ngx_http_llm_statuses[s]) {
            *ngx_sprintf(text, "%ui", ngx_http_llm_statuses[s]) = '\0';
            ngx_http_llm_metrics_label(&label[1], "status", (char *) text);
        }

        llm_prometheus_sample(pm, name, label, 2, n);
    }

    return ++at->i <= LLM_ENDPOINTS ? NGX_AGAIN : NGX_OK;
}


ngx_int_t
ngx_http_llm_metrics_attempts(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t                      k;
    llm_prometheus_label_t          label[2];
    ngx_http_llm_count_provider_t  *cp;

    static const char  name[] = "llm_upstream_attempts_total";

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "counter",
                              "Attempts at providers, by how they ended.");
    }

    cp = &m->count->provider[at->i];

    if (cp->len == 0) {
        return NGX_OK;
    }

    ngx_http_llm_metrics_label_str(&label[0], "provider", cp->name, cp->len);

    for (k = 0; k < NGX_HTTP_LLM_ATTEMPT_RESULTS; k++) {
        ngx_http_llm_metrics_label(&label[1], "result",
                                   ngx_http_llm_metrics_attempt[k]);
        llm_prometheus_sample(pm, name, label, 2, cp->attempts[k]);
    }

    return ++at->i < NGX_HTTP_LLM_PROVIDERS ? NGX_AGAIN : NGX_OK;
}


ngx_int_t
ngx_http_llm_metrics_counted(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t                      i;
    ngx_atomic_t                   *n;
    llm_prometheus_label_t          label;
    ngx_http_llm_metrics_counts_t  *c;

    c = &ngx_http_llm_metrics_counts[at->i];
    n = (ngx_atomic_t *) ((u_char *) m->count + c->offset);

    llm_prometheus_family(pm, c->name, "counter", c->help);

    for (i = 0; i < c->n; i++) {

        if (c->label) {
            ngx_http_llm_metrics_label(&label, c->label, c->values[i]);
        }

        llm_prometheus_sample(pm, c->name, &label, c->label ? 1 : 0, n[i]);
    }

    return c[1].name ? (at->i++, NGX_AGAIN) : NGX_OK;
}
