
/*
 * Copyright (C) the ngx-llm authors
 */


#include "operate/ngx_http_llm_metrics.h"
#include "operate/ngx_http_llm_metrics_targets.h"
#include "http/ngx_http_llm_reply.h"
#include "policy/ngx_http_llm_cache.h"
#include "policy/ngx_http_llm_quota.h"
#include "state/ngx_http_llm_redis.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_prometheus.h"


/* all series are bounded, so the page is, too */

#define NGX_HTTP_LLM_METRICS_SIZE  (128 * 1024)
#define NGX_HTTP_LLM_METRICS_TEAM  2048          /* all lines of one team */


static void ngx_http_llm_metrics_requests(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count);
static void ngx_http_llm_metrics_attempts(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count);
static void ngx_http_llm_metrics_results(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count);
static void ngx_http_llm_metrics_cached(llm_prometheus_t *pm,
    ngx_http_llm_main_conf_t *mcf);
static void ngx_http_llm_metrics_store(llm_prometheus_t *pm,
    llm_store_stat_t *st);
static void ngx_http_llm_metrics_flights(llm_prometheus_t *pm,
    llm_flight_stat_t *st);
static size_t ngx_http_llm_metrics_teams_size(ngx_http_llm_zone_t *zone);
static void ngx_http_llm_metrics_teams(llm_prometheus_t *pm,
    ngx_http_llm_zone_t *zone);
static void ngx_http_llm_metrics_charged(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count);
static void ngx_http_llm_metrics_slots(llm_prometheus_t *pm,
    ngx_http_llm_zone_t *zone);
static void ngx_http_llm_metrics_shared(llm_prometheus_t *pm,
    ngx_http_llm_zone_t *zone);
static void ngx_http_llm_metrics_counter(llm_prometheus_t *pm,
    const char *name, const char *help, uint64_t value);
static void ngx_http_llm_metrics_gauge(llm_prometheus_t *pm,
    const char *name, const char *help, uint64_t value);
static void ngx_http_llm_metrics_dollars(llm_prometheus_t *pm,
    const char *name, const llm_prometheus_label_t *label, uint64_t micro);
static void ngx_http_llm_metrics_label(llm_prometheus_label_t *label,
    const char *name, const char *value);


static const char  *ngx_http_llm_metrics_endpoint[] = {
    "chat_completions", "completions", "embeddings", "responses", "other"
};

/*
 * ngx_http_llm_attempt_e, ngx_http_llm_cache_e, ngx_http_llm_parcel_e - 1,
 * ngx_http_llm_refused_e
 */

static const char  *ngx_http_llm_metrics_attempt[] = {
    "ok", "status_4xx", "status_429", "status_5xx", "connect", "timeout",
    "silent", "broken", "cancelled"
};

static const char  *ngx_http_llm_metrics_cache[] = {
    "off", "bypass", "miss", "hit", "reload", "stale", "joined"
};

static const char  *ngx_http_llm_metrics_damage[] = {
    "alien", "sealed", "damaged", "open"
};

static const char  *ngx_http_llm_metrics_refused[] = {
    "key", "model", "requests", "tokens", "requests_day", "tokens_day",
    "budget", "too_large", "queue_full", "queue_timeout", "memory"
};


ngx_int_t
ngx_http_llm_metrics_handler(ngx_http_request_t *r)
{
    size_t                     size;
    ngx_int_t                  rc;
    ngx_str_t                  body;
    llm_prometheus_t           pm;
    llm_prometheus_label_t     label;
    ngx_http_llm_count_t      *count;
    ngx_http_llm_main_conf_t  *mcf;

    static ngx_str_t  type = ngx_string("text/plain; version=0.0.4");

    if (!(r->method & (NGX_HTTP_GET|NGX_HTTP_HEAD))) {
        return NGX_HTTP_NOT_ALLOWED;
    }

    rc = ngx_http_discard_request_body(r);
    if (rc != NGX_OK) {
        return rc;
    }

    mcf = ngx_http_get_module_main_conf(r, ngx_http_llm_module);

    if (mcf->zone == NULL || mcf->zone->sh == NULL) {
        return NGX_HTTP_SERVICE_UNAVAILABLE;
    }

    size = NGX_HTTP_LLM_METRICS_SIZE
           + ngx_http_llm_metrics_teams_size(mcf->zone)
           + ngx_http_llm_metrics_targets_size(mcf);

    body.data = ngx_palloc(r->pool, size);
    if (body.data == NULL) {
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    ngx_memzero(&pm, sizeof(llm_prometheus_t));

    pm.pos = body.data;
    pm.last = body.data + size;

    count = &mcf->zone->sh->count;

    llm_prometheus_family(&pm, "llm_build_info", "gauge",
                          "The version of this module; always 1.");
    ngx_http_llm_metrics_label(&label, "version", NGX_HTTP_LLM_VERSION);
    llm_prometheus_sample(&pm, "llm_build_info", &label, 1, 1);

    ngx_http_llm_metrics_requests(&pm, count);
    ngx_http_llm_metrics_attempts(&pm, count);
    ngx_http_llm_metrics_targets(&pm, mcf);
    ngx_http_llm_metrics_results(&pm, count);
    ngx_http_llm_metrics_cached(&pm, mcf);
    ngx_http_llm_metrics_teams(&pm, mcf->zone);
    ngx_http_llm_metrics_charged(&pm, count);
    ngx_http_llm_metrics_slots(&pm, mcf->zone);
    ngx_http_llm_metrics_shared(&pm, mcf->zone);

    if (mcf->redis) {
        ngx_http_llm_metrics_gauge(&pm, "llm_redis_up",
            "Whether this worker is connected to Redis.",
            ngx_http_llm_redis_connected(mcf->redis) ? 1 : 0);
    }

    if (pm.overflow) {
        ngx_log_error(NGX_LOG_ERR, r->connection->log, 0,
                      "llm: the metrics did not fit into %uz bytes", size);
        return NGX_HTTP_INTERNAL_SERVER_ERROR;
    }

    body.len = pm.pos - body.data;

    return ngx_http_llm_reply_body(r, NGX_HTTP_OK, &type, &body);
}


static void
ngx_http_llm_metrics_requests(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count)
{
    u_char                  text[NGX_INT_T_LEN + 1];
    uint64_t                n;
    ngx_uint_t              e, s;
    llm_prometheus_label_t  label[2];

    llm_prometheus_family(pm, "llm_requests_total", "counter",
                          "Requests answered, by endpoint and status; 499: "
                          "the client left first.");

    for (e = 0; e <= LLM_ENDPOINTS; e++) {
        for (s = 0; s < NGX_HTTP_LLM_STATUSES; s++) {

            n = count->requests[e][s];

            /* what never happened is no series, but success always is */

            if (n == 0 && ngx_http_llm_statuses[s] != NGX_HTTP_OK) {
                continue;
            }

            ngx_http_llm_metrics_label(&label[0], "endpoint",
                                       ngx_http_llm_metrics_endpoint[e]);

            if (ngx_http_llm_statuses[s]) {
                *ngx_sprintf(text, "%ui", ngx_http_llm_statuses[s]) = '\0';
                ngx_http_llm_metrics_label(&label[1], "status",
                                           (char *) text);
            } else {
                ngx_http_llm_metrics_label(&label[1], "status", "other");
            }

            llm_prometheus_sample(pm, "llm_requests_total", label, 2, n);
        }
    }
}


static void
ngx_http_llm_metrics_attempts(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count)
{
    ngx_uint_t                      i, k;
    llm_prometheus_label_t          label[2];
    ngx_http_llm_count_provider_t  *cp;

    llm_prometheus_family(pm, "llm_upstream_attempts_total", "counter",
                          "Attempts at providers, by how they ended.");

    for (i = 0; i < NGX_HTTP_LLM_PROVIDERS; i++) {

        cp = &count->provider[i];

        if (cp->len == 0) {
            break;
        }

        label[0].name = "provider";
        label[0].value.data = cp->name;
        label[0].value.len = cp->len;

        for (k = 0; k < NGX_HTTP_LLM_ATTEMPT_RESULTS; k++) {
            ngx_http_llm_metrics_label(&label[1], "result",
                                       ngx_http_llm_metrics_attempt[k]);
            llm_prometheus_sample(pm, "llm_upstream_attempts_total", label,
                                  2, cp->attempts[k]);
        }
    }
}


static void
ngx_http_llm_metrics_results(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count)
{
    ngx_uint_t              i;
    llm_prometheus_label_t  label;

    llm_prometheus_family(pm, "llm_cache_requests_total", "counter",
                          "Calls of the API, by what the cache said.");

    for (i = 0; i < NGX_HTTP_LLM_CACHE_RESULTS; i++) {
        ngx_http_llm_metrics_label(&label, "result",
                                   ngx_http_llm_metrics_cache[i]);
        llm_prometheus_sample(pm, "llm_cache_requests_total", &label, 1,
                              count->cache[i]);
    }

    ngx_http_llm_metrics_counter(pm, "llm_cache_stored_total",
                                 "Answers given to the cache.",
                                 count->stored);

    llm_prometheus_family(pm, "llm_refusals_total", "counter",
                          "Requests that were not let through, by reason.");

    for (i = 0; i < NGX_HTTP_LLM_REFUSALS; i++) {
        ngx_http_llm_metrics_label(&label, "reason",
                                   ngx_http_llm_metrics_refused[i]);
        llm_prometheus_sample(pm, "llm_refusals_total", &label, 1,
                              count->refused[i]);
    }
}


/* what lies in the caches, and the calls that requests share */

static void
ngx_http_llm_metrics_cached(llm_prometheus_t *pm,
    ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t              i;
    llm_store_stat_t        store;
    llm_flight_stat_t       flight;
    ngx_http_llm_count_t   *count;
    llm_prometheus_label_t  label;

    count = &mcf->zone->sh->count;

    llm_prometheus_family(pm, "llm_cache_damaged_total", "counter",
                          "Entries in Redis that were not taken, by reason.");

    for (i = 0; i < NGX_HTTP_LLM_CACHE_DAMAGES; i++) {
        ngx_http_llm_metrics_label(&label, "reason",
                                   ngx_http_llm_metrics_damage[i]);
        llm_prometheus_sample(pm, "llm_cache_damaged_total", &label, 1,
                              count->cache_damaged[i]);
    }

    ngx_http_llm_metrics_gauge(pm, "llm_cache_generation",
        "The last purge that this gateway knows of; the same in all "
        "gateways of a fleet.", mcf->zone->sh->purged);

    if (ngx_http_llm_cache_stat(mcf, &store, &flight) != NGX_OK) {
        return;
    }

    ngx_http_llm_metrics_store(pm, &store);
    ngx_http_llm_metrics_flights(pm, &flight);
}


static void
ngx_http_llm_metrics_store(llm_prometheus_t *pm, llm_store_stat_t *st)
{
    ngx_http_llm_metrics_gauge(pm, "llm_cache_entries",
        "Answers in shared memory.", st->entries);
    ngx_http_llm_metrics_gauge(pm, "llm_cache_bytes",
        "Shared memory that answers take up.",
        st->blocks * LLM_STORE_BLOCK);
    ngx_http_llm_metrics_gauge(pm, "llm_cache_size_bytes",
        "Shared memory there is for answers.", st->size * LLM_STORE_BLOCK);
    ngx_http_llm_metrics_counter(pm, "llm_cache_put_total",
        "Answers put into shared memory.", st->put);
    ngx_http_llm_metrics_counter(pm, "llm_cache_evictions_total",
        "Answers that left shared memory for want of room.", st->evicted);
    ngx_http_llm_metrics_counter(pm, "llm_cache_expired_total",
        "Answers in shared memory that were found too old.", st->expired);
    ngx_http_llm_metrics_counter(pm, "llm_cache_too_large_total",
        "Answers too large for shared memory.", st->refused);
}


static void
ngx_http_llm_metrics_flights(llm_prometheus_t *pm, llm_flight_stat_t *st)
{
    llm_prometheus_label_t  label;

    llm_prometheus_family(pm, "llm_flights", "gauge",
                          "Calls that requests can join: under way, or ended "
                          "and kept for those who come late.");

    ngx_http_llm_metrics_label(&label, "state", "open");
    llm_prometheus_sample(pm, "llm_flights", &label, 1,
                          st->flights - ngx_min(st->kept, st->flights));

    ngx_http_llm_metrics_label(&label, "state", "kept");
    llm_prometheus_sample(pm, "llm_flights", &label, 1, st->kept);

    ngx_http_llm_metrics_gauge(pm, "llm_flight_followers",
        "Requests that follow another's call.", st->followers);
    ngx_http_llm_metrics_gauge(pm, "llm_flight_bytes",
        "Shared memory that shared calls take up.",
        st->blocks * LLM_FLIGHT_BLOCK);
    ngx_http_llm_metrics_gauge(pm, "llm_flight_size_bytes",
        "Shared memory there is for shared calls.",
        st->size * LLM_FLIGHT_BLOCK);
    ngx_http_llm_metrics_counter(pm, "llm_flight_led_total",
        "Calls that others could join.", st->led);
    ngx_http_llm_metrics_counter(pm, "llm_flight_followed_total",
        "Requests that joined another's call.", st->followed);
    ngx_http_llm_metrics_counter(pm, "llm_flight_full_total",
        "Requests that went alone for want of room.", st->full);
    ngx_http_llm_metrics_counter(pm, "llm_flight_lagged_total",
        "Requests that read another's call too slowly.", st->lagged);
}


static size_t
ngx_http_llm_metrics_teams_size(ngx_http_llm_zone_t *zone)
{
    ngx_uint_t  i;

    i = 0;

    while (ngx_http_llm_team_next(zone, &i)) { /* void */ }

    /* and some that come while the page is written */

    return (i + 64) * NGX_HTTP_LLM_METRICS_TEAM;
}


/* a team without a name: keys that are of none */

static void
ngx_http_llm_metrics_teams(llm_prometheus_t *pm, ngx_http_llm_zone_t *zone)
{
    ngx_uint_t              i, k;
    ngx_http_llm_team_t    *tm;
    llm_prometheus_label_t  label[2];

    static const struct {
        const char  *name;
        size_t       offset;
    } result[] = {
        { "hit", offsetof(ngx_http_llm_team_t, hits) },
        { "joined", offsetof(ngx_http_llm_team_t, joined) },
        { "stale", offsetof(ngx_http_llm_team_t, stale) },
        { "miss", offsetof(ngx_http_llm_team_t, misses) },
        { "bypass", offsetof(ngx_http_llm_team_t, bypassed) }
    };

    label[0].name = "team";

    llm_prometheus_family(pm, "llm_cache_team_requests_total", "counter",
                          "Calls of the API with a cache, by team and what "
                          "the cache said.");

    for (i = 0; (tm = ngx_http_llm_team_next(zone, &i)) != NULL; /* void */) {
        label[0].value.data = tm->name;
        label[0].value.len = tm->len;

        for (k = 0; k < sizeof(result) / sizeof(result[0]); k++) {
            ngx_http_llm_metrics_label(&label[1], "result", result[k].name);
            llm_prometheus_sample(pm, "llm_cache_team_requests_total", label,
                                  2, *(ngx_atomic_t *) ((char *) tm
                                                        + result[k].offset));
        }
    }

    llm_prometheus_family(pm, "llm_cache_saved_tokens_total", "counter",
                          "Tokens that answers from the cache, or of "
                          "another's call, would have taken.");

    for (i = 0; (tm = ngx_http_llm_team_next(zone, &i)) != NULL; /* void */) {
        label[0].value.data = tm->name;
        label[0].value.len = tm->len;

        llm_prometheus_sample(pm, "llm_cache_saved_tokens_total", label, 1,
                              tm->tokens_saved);
    }

    llm_prometheus_family(pm, "llm_cache_saved_usd_total", "counter",
                          "What they would have cost, in dollars.");

    for (i = 0; (tm = ngx_http_llm_team_next(zone, &i)) != NULL; /* void */) {
        label[0].value.data = tm->name;
        label[0].value.len = tm->len;

        ngx_http_llm_metrics_dollars(pm, "llm_cache_saved_usd_total", label,
                                     tm->money_saved);
    }
}


static void
ngx_http_llm_metrics_charged(llm_prometheus_t *pm,
    ngx_http_llm_count_t *count)
{
    llm_prometheus_label_t  label;

    llm_prometheus_family(pm, "llm_tokens_total", "counter",
                          "Tokens charged, by kind; cached ones are part of "
                          "the prompt.");

    ngx_http_llm_metrics_label(&label, "kind", "prompt");
    llm_prometheus_sample(pm, "llm_tokens_total", &label, 1,
                          count->tokens_prompt);

    ngx_http_llm_metrics_label(&label, "kind", "cached");
    llm_prometheus_sample(pm, "llm_tokens_total", &label, 1,
                          count->tokens_cached);

    ngx_http_llm_metrics_label(&label, "kind", "completion");
    llm_prometheus_sample(pm, "llm_tokens_total", &label, 1,
                          count->tokens_completion);

    ngx_http_llm_metrics_counter(pm, "llm_cost_microdollars_total",
        "Money charged, in millionths of a dollar.", count->money);
    ngx_http_llm_metrics_counter(pm, "llm_unpriced_requests_total",
        "Requests for models that llm_prices does not know: charged "
        "nothing.", count->unpriced);
    ngx_http_llm_metrics_counter(pm, "llm_streams_cut_total",
        "Streams ended because their tenant had no more tokens or money.",
        count->cut);
}


static void
ngx_http_llm_metrics_slots(llm_prometheus_t *pm, ngx_http_llm_zone_t *zone)
{
    llm_owners_t       wake;
    llm_ledger_stat_t  st;

    ngx_http_llm_zone_lock(zone, &wake);
    llm_ledger_stat(zone->sh->ledger, &st);
    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_metrics_gauge(pm, "llm_slots_in_use",
                               "Requests that hold a slot.", st.held);
    ngx_http_llm_metrics_gauge(pm, "llm_slots_waiting",
                               "Requests in line for a slot.", st.waiting);
    ngx_http_llm_metrics_gauge(pm, "llm_ledger_tickets_used",
                               "Slots and places in line in use.",
                               st.tickets_used);
    ngx_http_llm_metrics_gauge(pm, "llm_ledger_tickets",
                               "Room for slots and places in line.",
                               st.tickets);
    ngx_http_llm_metrics_gauge(pm, "llm_ledger_nodes_used",
                               "Keys and teams with a state.", st.nodes_used);
    ngx_http_llm_metrics_gauge(pm, "llm_ledger_nodes",
                               "Room for keys and teams.", st.nodes);
}


/* how the limits of several gateways are kept in step */

static void
ngx_http_llm_metrics_shared(llm_prometheus_t *pm, ngx_http_llm_zone_t *zone)
{
    ngx_http_llm_quota_stat_t  st;

    if (ngx_http_llm_quota_stat(zone, &st) != NGX_OK) {
        return;
    }

    ngx_http_llm_metrics_gauge(pm, "llm_limits_shared",
        "How limits are shared: 0 not, 1 exactly, 2 leased, 3 each gateway "
        "alone because Redis is away.", st.mode);
    ngx_http_llm_metrics_gauge(pm, "llm_limits_gateways",
        "Gateways that share the limits, as Redis told last.", st.gateways);
    ngx_http_llm_metrics_counter(pm, "llm_limits_batches_total",
        "Batches of limits that Redis answered.", st.batches);
    ngx_http_llm_metrics_counter(pm, "llm_limits_commands_total",
        "Commands sent to Redis about limits.", st.commands);
    ngx_http_llm_metrics_counter(pm, "llm_limits_asked_total",
        "Requests that Redis was asked for.", st.asks);
    ngx_http_llm_metrics_counter(pm, "llm_limits_late_total",
        "Batches that Redis did not answer in time.", st.late);
    ngx_http_llm_metrics_counter(pm, "llm_limits_errors_total",
        "Batches that Redis refused.", st.errors);
    ngx_http_llm_metrics_counter(pm, "llm_limits_alone_total",
        "Times that Redis went away.", st.alone);
    ngx_http_llm_metrics_counter(pm, "llm_limits_alone_milliseconds_total",
        "Time without Redis.", st.alone_ms);
    ngx_http_llm_metrics_counter(pm, "llm_limits_clock_jumps_total",
        "Jumps of the clock of Redis.", st.jumps);
}


static void
ngx_http_llm_metrics_counter(llm_prometheus_t *pm, const char *name,
    const char *help, uint64_t value)
{
    llm_prometheus_family(pm, name, "counter", help);
    llm_prometheus_sample(pm, name, NULL, 0, value);
}


static void
ngx_http_llm_metrics_gauge(llm_prometheus_t *pm, const char *name,
    const char *help, uint64_t value)
{
    llm_prometheus_family(pm, name, "gauge", help);
    llm_prometheus_sample(pm, name, NULL, 0, value);
}


/* the writer knows whole numbers: the part behind the point is put there */

static void
ngx_http_llm_metrics_dollars(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *label, uint64_t micro)
{
    llm_prometheus_sample(pm, name, label, 1, micro / 1000000);

    if (pm->overflow) {
        return;
    }

    if (pm->last - pm->pos < (ssize_t) sizeof(".000000") - 1) {
        pm->overflow = 1;
        return;
    }

    pm->pos = ngx_sprintf(pm->pos - 1, ".%06uL\n", micro % 1000000);
}


static void
ngx_http_llm_metrics_label(llm_prometheus_label_t *label, const char *name,
    const char *value)
{
    label->name = name;
    label->value.data = (u_char *) value;
    label->value.len = ngx_strlen(value);
}
