
/*
 * Copyright (C) the ngx-llm authors
 *
 * Budgets of teams, as the limits count them.  They are gathered a page of
 * teams at a time: four families tell of the same moment.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "policy/ngx_http_llm_keys.h"


#define NGX_HTTP_LLM_METRICS_PAGE  LLM_KEYRING_PAGE


typedef struct {
    ngx_str_t                   team;
    int64_t                     budget;          /* micro-dollars */
    int64_t                     used;
    time_t                      resets;
} ngx_http_llm_metrics_spent_t;


struct ngx_http_llm_metrics_budget_s {
    uint64_t                    cursor;
    ngx_array_t                 spent; /* of ngx_http_llm_metrics_spent_t */
};


static ngx_int_t ngx_http_llm_metrics_budget_read(ngx_http_llm_metrics_t *m);
static ngx_int_t ngx_http_llm_metrics_budget_page(ngx_http_llm_metrics_t *m,
    ngx_pool_t *pool);
static ngx_int_t ngx_http_llm_metrics_budget_team(ngx_http_llm_metrics_t *m,
    ngx_pool_t *pool, llm_str_t *name);
static ngx_int_t ngx_http_llm_metrics_budget_write(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);


ngx_int_t
ngx_http_llm_metrics_budgets(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_int_t  rc;

    if (at->part) {
        return ngx_http_llm_metrics_budget_write(m, pm, at);
    }

    rc = ngx_http_llm_metrics_budget_read(m);

    if (rc == NGX_OK) {
        at->part = 1;
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_metrics_budget_read(ngx_http_llm_metrics_t *m)
{
    ngx_int_t                       rc;
    ngx_pool_t                     *pool;
    ngx_http_llm_metrics_budget_t  *b;

    if (m->budget == NULL) {
        b = ngx_pcalloc(m->request->pool,
                        sizeof(ngx_http_llm_metrics_budget_t));
        if (b == NULL) {
            return NGX_ERROR;
        }

        if (ngx_array_init(&b->spent, m->request->pool, 16,
                           sizeof(ngx_http_llm_metrics_spent_t))
            != NGX_OK)
        {
            return NGX_ERROR;
        }

        m->budget = b;
    }

    /* what a page of rows takes is not kept */

    pool = ngx_create_pool(4096, m->request->connection->log);
    if (pool == NULL) {
        return NGX_ERROR;
    }

    rc = ngx_http_llm_metrics_budget_page(m, pool);

    ngx_destroy_pool(pool);

    return rc;
}


/* NGX_OK: that was the last one */

static ngx_int_t
ngx_http_llm_metrics_budget_page(ngx_http_llm_metrics_t *m, ngx_pool_t *pool)
{
    ngx_uint_t           i, n;
    llm_keyring_item_t  *item;

    item = ngx_palloc(pool, NGX_HTTP_LLM_METRICS_PAGE
                            * sizeof(llm_keyring_item_t));

    if (item == NULL
        || ngx_http_llm_keys_walk(m->mcf, LLM_ROW_TEAM, LLM_KEYRING_ALL,
                                  &m->budget->cursor, item,
                                  NGX_HTTP_LLM_METRICS_PAGE, &n, pool)
           != NGX_OK)
    {
        return NGX_ERROR;
    }

    for (i = 0; i < n; i++) {

        if (item[i].shadowed || item[i].row.terms.budget_micro_usd <= 0) {
            continue;
        }

        if (ngx_http_llm_metrics_budget_team(m, pool, &item[i].row.name)
            != NGX_OK)
        {
            return NGX_ERROR;
        }
    }

    return m->budget->cursor == 0 ? NGX_OK : NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_metrics_budget_team(ngx_http_llm_metrics_t *m, ngx_pool_t *pool,
    llm_str_t *name)
{
    llm_now_t                      now;
    ngx_int_t                      rc;
    ngx_str_t                      s;
    llm_team_t                    *team;
    llm_limits_t                   limits;
    llm_owners_t                   wake;
    llm_reading_t                  rd;
    ngx_http_llm_metrics_spent_t  *sp;

    s.data = name->data;
    s.len = name->len;

    rc = ngx_http_llm_keys_find_team(m->mcf, &s, pool, &team);

    if (rc != NGX_OK || team->limit.rates.budget == LLM_UNLIMITED) {
        return rc == NGX_ERROR ? NGX_ERROR : NGX_OK;
    }

    limits.limit[0] = &team->limit;
    limits.n = 1;

    ngx_http_llm_now(&now);

    ngx_http_llm_zone_lock(m->mcf->zone, &wake);
    llm_ledger_peek(m->mcf->zone->sh->ledger, &limits, &now, &rd);
    ngx_http_llm_zone_unlock(m->mcf->zone, &wake);

    sp = ngx_array_push(&m->budget->spent);
    if (sp == NULL) {
        return NGX_ERROR;
    }

    sp->team.len = s.len;
    sp->team.data = ngx_pstrdup(m->request->pool, &s);
    if (sp->team.data == NULL) {
        m->budget->spent.nelts--;
        return NGX_ERROR;
    }

    sp->budget = team->limit.rates.budget;
    sp->used = ngx_max(sp->budget - rd.money_left, 0);
    sp->resets = now.wall + (team->limit.rates.month
                             ? llm_meter_month_left(&now)
                             : llm_meter_day_left(&now)) / 1000;

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_metrics_budget_write(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t                     f;
    llm_prometheus_label_t         label;
    ngx_http_llm_metrics_spent_t  *sp;

    static const struct {
        const char  *name;
        const char  *help;
    } family[] = {
        { "llm_budget_usd",
          "A team's budget for its period, in dollars." },
        { "llm_budget_used_usd",
          "What of it is spent or reserved." },
        { "llm_budget_used_ratio",
          "The same as a part of it: 1 is all of it." },
        { "llm_budget_resets_timestamp_seconds",
          "When its next period begins." }
    };

    f = at->part - 1;
    sp = m->budget->spent.elts;

    if (at->i == 0) {
        llm_prometheus_family(pm, family[f].name, "gauge", family[f].help);
    }

    if (at->i == m->budget->spent.nelts) {
        at->i = 0;
        return ++at->part <= sizeof(family) / sizeof(family[0]) ? NGX_AGAIN
                                                                : NGX_OK;
    }

    sp += at->i++;

    ngx_http_llm_metrics_label_str(&label, "team", sp->team.data,
                                   sp->team.len);

    switch (f) {

    case 0:
        llm_prometheus_micro(pm, family[f].name, &label, 1, sp->budget);
        break;

    case 1:
        llm_prometheus_micro(pm, family[f].name, &label, 1, sp->used);
        break;

    case 2:
        llm_prometheus_micro(pm, family[f].name, &label, 1,
                             (int64_t) ((double) sp->used * 1000000
                                        / sp->budget));
        break;

    default:
        llm_prometheus_sample(pm, family[f].name, &label, 1, sp->resets);
    }

    return NGX_AGAIN;
}
