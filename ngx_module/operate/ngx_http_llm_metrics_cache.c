
/*
 * Copyright (C) the ngx-llm authors
 *
 * What lies in the caches, the calls that requests share, and what both did
 * for each team.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "policy/ngx_http_llm_cache.h"


static void ngx_http_llm_metrics_store(llm_prometheus_t *pm,
    llm_store_stat_t *st);
static void ngx_http_llm_metrics_flights(llm_prometheus_t *pm,
    llm_flight_stat_t *st);


ngx_int_t
ngx_http_llm_metrics_cache(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    llm_store_stat_t   store;
    llm_flight_stat_t  flight;

    ngx_http_llm_metrics_gauge(pm, "llm_cache_generation",
        "The last purge that this gateway knows of; the same in all "
        "gateways of a fleet.", m->mcf->zone->sh->purged);

    if (ngx_http_llm_cache_stat(m->mcf, &store, &flight) == NGX_OK) {
        ngx_http_llm_metrics_store(pm, &store);
        ngx_http_llm_metrics_flights(pm, &flight);
    }

    return NGX_OK;
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


/* a team without a name: keys that are of none */

ngx_int_t
ngx_http_llm_metrics_teams(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t              k;
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

    static const struct {
        const char  *name;
        const char  *help;
    } family[] = {
        { "llm_cache_team_requests_total",
          "Calls of the API with a cache, by team and what the cache said." },
        { "llm_cache_saved_tokens_total",
          "Tokens that answers from the cache, or of another's call, would "
          "have taken." },
        { "llm_cache_saved_usd_total",
          "What they would have cost, in dollars." }
    };

    if (at->i == 0) {
        llm_prometheus_family(pm, family[at->part].name, "counter",
                              family[at->part].help);
    }

    tm = ngx_http_llm_team_next(m->mcf->zone, &at->i);

    if (tm == NULL) {
        at->i = 0;
        return ++at->part < sizeof(family) / sizeof(family[0]) ? NGX_AGAIN
                                                               : NGX_OK;
    }

    ngx_http_llm_metrics_label_str(&label[0], "team", tm->name, tm->len);

    switch (at->part) {

    case 0:
        for (k = 0; k < sizeof(result) / sizeof(result[0]); k++) {
            ngx_http_llm_metrics_label(&label[1], "result", result[k].name);
            llm_prometheus_sample(pm, family[0].name, label, 2,
                                  *(ngx_atomic_t *) ((char *) tm
                                                     + result[k].offset));
        }
        break;

    case 1:
        llm_prometheus_sample(pm, family[1].name, label, 1,
                              tm->tokens_saved);
        break;

    default:
        llm_prometheus_micro(pm, family[2].name, label, 1, tm->money_saved);
    }

    return NGX_AGAIN;
}
