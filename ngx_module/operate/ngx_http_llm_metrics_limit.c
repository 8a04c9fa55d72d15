
/*
 * Copyright (C) the ngx-llm authors
 *
 * Slots, how limits are shared by several gateways, and the policy.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "policy/ngx_http_llm_keys.h"
#include "policy/ngx_http_llm_quota.h"
#include "state/ngx_http_llm_redis.h"


ngx_int_t
ngx_http_llm_metrics_slots(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    llm_owners_t          wake;
    llm_ledger_stat_t     st;
    ngx_http_llm_zone_t  *zone;

    zone = m->mcf->zone;

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

    return NGX_OK;
}


/* of providers that have "concurrency" */

ngx_int_t
ngx_http_llm_metrics_provider_slots(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    unsigned                   held, waiting;
    llm_owners_t               wake;
    ngx_http_llm_zone_t       *zone;
    llm_prometheus_label_t     label;
    ngx_http_llm_provider_t  **provider;

    static const char  name[] = "llm_provider_slots_in_use";

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "gauge",
                              "Requests that hold a slot of a provider.");
    }

    provider = m->mcf->providers.elts;

    if (at->i == m->mcf->providers.nelts) {
        return NGX_OK;
    }

    provider += at->i++;

    if ((*provider)->limit.name.len == 0) {
        return NGX_AGAIN;
    }

    zone = m->mcf->zone;

    ngx_http_llm_zone_lock(zone, &wake);
    (void) llm_ledger_look(zone->sh->ledger, &(*provider)->limit, &held,
                           &waiting);
    ngx_http_llm_zone_unlock(zone, &wake);

    ngx_http_llm_metrics_label_str(&label, "provider",
                                   (*provider)->name.data,
                                   (*provider)->name.len);
    llm_prometheus_sample(pm, name, &label, 1, held);

    return NGX_AGAIN;
}


ngx_int_t
ngx_http_llm_metrics_policy(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t              i;
    llm_keyring_stat_t      st;
    llm_prometheus_label_t  label;

    static const char  keys[] = "llm_policy_keys";
    static const char  teams[] = "llm_policy_teams";
    static const char  *source[] = { "file", "admin" };

    ngx_http_llm_keys_stat(m->mcf, &st);

    llm_prometheus_family(pm, keys, "gauge",
                          "Keys, by where they come from.");

    for (i = 0; i < 2; i++) {
        ngx_http_llm_metrics_label(&label, "source", source[i]);
        llm_prometheus_sample(pm, keys, &label, 1,
                              i ? st.dynamic_keys : st.keys);
    }

    llm_prometheus_family(pm, teams, "gauge",
                          "Teams, by where they come from.");

    for (i = 0; i < 2; i++) {
        ngx_http_llm_metrics_label(&label, "source", source[i]);
        llm_prometheus_sample(pm, teams, &label, 1,
                              i ? st.dynamic_teams : st.teams);
    }

    ngx_http_llm_metrics_counter(pm, "llm_policy_reload_failures_total",
        "Changes of the tenants file that were not taken over.",
        m->count->policy_failures);
    ngx_http_llm_metrics_gauge(pm, "llm_policy_loaded_timestamp_seconds",
        "When the tenants file in force was read.", m->count->policy_loaded);

    return NGX_OK;
}


/* how the limits of several gateways are kept in step */

ngx_int_t
ngx_http_llm_metrics_shared(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_http_llm_quota_stat_t  st;

    static const char  alone[] = "llm_limits_alone_seconds_total";

    if (m->mcf->redis) {
        ngx_http_llm_metrics_gauge(pm, "llm_redis_up",
            "Whether this worker is connected to Redis.",
            ngx_http_llm_redis_connected(m->mcf->redis) ? 1 : 0);
    }

    if (ngx_http_llm_quota_stat(m->mcf->zone, &st) != NGX_OK) {
        return NGX_OK;
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
    llm_prometheus_family(pm, alone, "counter", "Time without Redis.");
    llm_prometheus_micro(pm, alone, NULL, 0, (int64_t) st.alone_ms * 1000);
    ngx_http_llm_metrics_counter(pm, "llm_limits_clock_jumps_total",
        "Jumps of the clock of Redis.", st.jumps);

    return NGX_OK;
}
