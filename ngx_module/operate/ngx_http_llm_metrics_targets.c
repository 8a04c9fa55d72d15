
/*
 * Copyright (C) the ngx-llm authors
 *
 * The targets of all routes: how each of them does.
 */


#include "operate/ngx_http_llm_metrics_targets.h"
#include "upstream/ngx_http_llm_choose.h"
#include "state/ngx_http_llm_zone.h"


/* a sample for each family of a target, its name twice as long by escapes */

#define NGX_HTTP_LLM_METRICS_SAMPLE  (64 + 2 * 256)


typedef struct {
    const char                 *name;
    const char                 *type;
    const char                 *help;
    uint64_t                  (*value)(llm_target_stat_t *stat);
} ngx_http_llm_metrics_family_t;


static ngx_uint_t ngx_http_llm_metrics_first(ngx_http_llm_main_conf_t *mcf,
    ngx_uint_t route, ngx_uint_t target);
static uint64_t ngx_http_llm_metrics_state(llm_target_stat_t *stat);
static uint64_t ngx_http_llm_metrics_running(llm_target_stat_t *stat);
static uint64_t ngx_http_llm_metrics_ejections(llm_target_stat_t *stat);
static uint64_t ngx_http_llm_metrics_cooled(llm_target_stat_t *stat);
static uint64_t ngx_http_llm_metrics_retries(llm_target_stat_t *stat);
static uint64_t ngx_http_llm_metrics_paced(llm_target_stat_t *stat);


static ngx_http_llm_metrics_family_t  ngx_http_llm_metrics_families[] = {

    { "llm_target_state", "gauge",
      "A target's breaker: 0 closed, 1 open, 2 half open.",
      ngx_http_llm_metrics_state },

    { "llm_target_running", "gauge",
      "Attempts at a target that are under way.",
      ngx_http_llm_metrics_running },

    { "llm_target_ejections_total", "counter",
      "Times that a target's breaker has opened.",
      ngx_http_llm_metrics_ejections },

    { "llm_target_cooldowns_total", "counter",
      "Times that a target said that it is asked too much.",
      ngx_http_llm_metrics_cooled },

    { "llm_target_retries_total", "counter",
      "Retries that a target was given.",
      ngx_http_llm_metrics_retries },

    { "llm_target_paced_total", "counter",
      "Attempts that had to wait for a target's own limits.",
      ngx_http_llm_metrics_paced },

    { NULL, NULL, NULL, NULL }
};


size_t
ngx_http_llm_metrics_targets_size(ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t             i, n;
    ngx_http_llm_route_t  *route;

    n = 0;
    route = mcf->routes.elts;

    for (i = 0; i < mcf->routes.nelts; i++) {
        n += route[i].targets.nelts;
    }

    return 2048 + n * NGX_HTTP_LLM_METRICS_SAMPLE
                  * (sizeof(ngx_http_llm_metrics_families)
                     / sizeof(ngx_http_llm_metrics_families[0]));
}


void
ngx_http_llm_metrics_targets(llm_prometheus_t *pm,
    ngx_http_llm_main_conf_t *mcf)
{
    ngx_uint_t                      i, k;
    llm_target_stat_t               stat;
    ngx_http_llm_route_t           *route;
    ngx_http_llm_target_t          *target;
    llm_prometheus_label_t          label;
    ngx_http_llm_metrics_family_t  *f;

    llm_prometheus_family(pm, "llm_retry_denied_total", "counter",
                          "Retries that were beyond the budget.");
    llm_prometheus_sample(pm, "llm_retry_denied_total", NULL, 0,
                          mcf->zone->sh->count.retry_denied);

    label.name = "target";
    route = mcf->routes.elts;

    for (f = ngx_http_llm_metrics_families; f->name; f++) {

        llm_prometheus_family(pm, f->name, f->type, f->help);

        for (i = 0; i < mcf->routes.nelts; i++) {
            target = route[i].targets.elts;

            for (k = 0; k < route[i].targets.nelts; k++) {

                if (!ngx_http_llm_metrics_first(mcf, i, k)
                    || ngx_http_llm_choose_stat(mcf, &target[k], &stat)
                       != NGX_OK)
                {
                    continue;
                }

                label.value.data = target[k].name.data;
                label.value.len = target[k].name.len;

                llm_prometheus_sample(pm, f->name, &label, 1,
                                      f->value(&stat));
            }
        }
    }
}


/* several routes may lead to one target */

static ngx_uint_t
ngx_http_llm_metrics_first(ngx_http_llm_main_conf_t *mcf, ngx_uint_t route,
    ngx_uint_t target)
{
    ngx_str_t              *name, *other;
    ngx_uint_t              i, k;
    ngx_http_llm_route_t   *r;
    ngx_http_llm_target_t  *t;

    r = mcf->routes.elts;
    t = r[route].targets.elts;
    name = &t[target].name;

    for (i = 0; i <= route; i++) {
        t = r[i].targets.elts;

        for (k = 0; k < r[i].targets.nelts; k++) {

            if (i == route && k == target) {
                return 1;
            }

            other = &t[k].name;

            if (other->len == name->len
                && ngx_memcmp(other->data, name->data, name->len) == 0)
            {
                return 0;
            }
        }
    }

    return 1;
}


static uint64_t
ngx_http_llm_metrics_state(llm_target_stat_t *stat)
{
    return stat->state;
}


static uint64_t
ngx_http_llm_metrics_running(llm_target_stat_t *stat)
{
    return stat->running;
}


static uint64_t
ngx_http_llm_metrics_ejections(llm_target_stat_t *stat)
{
    return stat->ejections;
}


static uint64_t
ngx_http_llm_metrics_cooled(llm_target_stat_t *stat)
{
    return stat->cooled;
}


static uint64_t
ngx_http_llm_metrics_retries(llm_target_stat_t *stat)
{
    return stat->retries;
}


static uint64_t
ngx_http_llm_metrics_paced(llm_target_stat_t *stat)
{
    return stat->paced;
}
