
/*
 * Copyright (C) the ngx-llm authors
 *
 * The targets of all routes: how each of them does, and how many of a route's
 * are left.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "upstream/ngx_http_llm_choose.h"


/* models shown: names are clients', and their number has no end */

#define NGX_HTTP_LLM_METRICS_MET  100


typedef struct {
    const char                 *name;
    const char                 *type;
    const char                 *help;
    uint64_t                  (*value)(llm_target_stat_t *stat);
} ngx_http_llm_metrics_family_t;


static ngx_int_t ngx_http_llm_metrics_met(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
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


ngx_int_t
ngx_http_llm_metrics_targets(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    llm_target_stat_t               stat;
    ngx_http_llm_route_t           *route;
    ngx_http_llm_target_t          *target;
    llm_prometheus_label_t          label;
    ngx_http_llm_metrics_family_t  *f;

    f = &ngx_http_llm_metrics_families[at->part];

    if (at->i == 0 && at->k == 0) {
        llm_prometheus_family(pm, f->name, f->type, f->help);
    }

    if (at->i == m->mcf->routes.nelts) {

        if (ngx_http_llm_metrics_met(m, pm, at) == NGX_OK) {
            return NGX_AGAIN;
        }

        at->i = 0;
        at->k = 0;

        return f[1].name ? (at->part++, NGX_AGAIN) : NGX_OK;
    }

    route = m->mcf->routes.elts;
    route += at->i;
    target = route->targets.elts;
    target += at->k;

    if (ngx_http_llm_metrics_first(m->mcf, at->i, at->k)
        && ngx_http_llm_choose_stat(m->mcf, target, &stat) == NGX_OK)
    {
        ngx_http_llm_metrics_label_str(&label, "target", target->name.data,
                                       target->name.len);
        llm_prometheus_sample(pm, f->name, &label, 1, f->value(&stat));
    }

    if (++at->k >= route->targets.nelts) {
        at->k = 0;
        at->i++;
    }

    return NGX_AGAIN;
}


/* the next model that was asked for at a target which names none */

static ngx_int_t
ngx_http_llm_metrics_met(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    u_char                          text[LLM_TARGET_NAME];
    uint32_t                        place;
    llm_str_t                       name;
    llm_target_stat_t               stat;
    llm_prometheus_label_t          label;
    ngx_http_llm_metrics_family_t  *f;

    name.data = text;
    place = NGX_HTTP_LLM_CHOOSE_MET + (uint32_t) at->k;

    if (at->k >= NGX_HTTP_LLM_METRICS_MET
        || ngx_http_llm_choose_next(m->mcf, &place, &name, &stat) != NGX_OK)
    {
        return NGX_DECLINED;
    }

    f = &ngx_http_llm_metrics_families[at->part];
    at->k = place - NGX_HTTP_LLM_CHOOSE_MET;

    ngx_http_llm_metrics_label_str(&label, "target", text, name.len);
    llm_prometheus_sample(pm, f->name, &label, 1, f->value(&stat));

    return NGX_OK;
}


/* one that is not known yet is not ill */

ngx_int_t
ngx_http_llm_metrics_routes(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t               k, n[3];
    llm_target_stat_t        stat;
    ngx_http_llm_route_t    *route;
    ngx_http_llm_target_t   *target;
    llm_prometheus_label_t   label[2];

    static const char  name[] = "llm_route_targets";
    static const char  *state[] = { "closed", "open", "half_open" };

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "gauge",
                              "Targets of a route, by the state of their "
                              "breakers.");
    }

    if (at->i == m->mcf->routes.nelts) {
        return NGX_OK;
    }

    route = m->mcf->routes.elts;
    route += at->i++;
    target = route->targets.elts;

    ngx_memzero(n, sizeof(n));

    for (k = 0; k < route->targets.nelts; k++) {

        if (ngx_http_llm_choose_stat(m->mcf, &target[k], &stat) != NGX_OK) {
            stat.state = LLM_TARGET_CLOSED;
        }

        n[ngx_min((ngx_uint_t) stat.state, 2)]++;
    }

    ngx_http_llm_metrics_label_str(&label[0], "route", route->pattern.data,
                                   route->pattern.len);

    for (k = 0; k < 3; k++) {
        ngx_http_llm_metrics_label(&label[1], "state", state[k]);
        llm_prometheus_sample(pm, name, label, 2, n[k]);
    }

    return NGX_AGAIN;
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
