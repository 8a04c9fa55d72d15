
/*
 * Copyright (C) the ngx-llm authors
 *
 * The accounts: requests by team, model, provider and status, and of the same
 * moment tokens and money by team and model; times by provider and model.
 *
 * Rows are read once, some at a time, and their lines written.  What is told
 * without provider and status is summed up meanwhile in a table of our own,
 * as lines of one name must stand together: 64 bytes for each pair, and half
 * of the table is free.
 */


#include "operate/ngx_http_llm_metrics_private.h"
#include "policy/ngx_http_llm_usage.h"


#define NGX_HTTP_LLM_METRICS_BATCH  64      /* rows in one visit */
#define NGX_HTTP_LLM_METRICS_LOOK   512
#define NGX_HTTP_LLM_METRICS_PAIRS  256     /* at first, a power of two */


/* names are the book's own: equal when they lie at the same place */

typedef struct {
    u_char                     *team;
    u_char                     *model;
    uint16_t                    team_len;
    uint16_t                    model_len;
    uint32_t                    used;            /* 0: a free place */
    int64_t                     tokens[4];
    int64_t                     money;
} ngx_http_llm_metrics_pair_t;


struct ngx_http_llm_metrics_usage_s {
    uint64_t                      cursor;
    ngx_uint_t                    n;             /* rows in "row" */
    ngx_uint_t                    pairs;
    ngx_uint_t                    size;          /* of the table */
    ngx_http_llm_metrics_pair_t  *pair;
    llm_book_row_t                row[NGX_HTTP_LLM_METRICS_BATCH];
};


static ngx_int_t ngx_http_llm_metrics_usage_begin(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm);
static ngx_int_t ngx_http_llm_metrics_usage_requests(
    ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at);
static ngx_int_t ngx_http_llm_metrics_usage_read(ngx_http_llm_metrics_t *m);
static ngx_http_llm_metrics_pair_t *ngx_http_llm_metrics_usage_pair(
    ngx_http_llm_metrics_usage_t *u, u_char *team, u_char *model);
static ngx_int_t ngx_http_llm_metrics_usage_grow(ngx_http_llm_metrics_t *m,
    ngx_http_llm_metrics_usage_t *u);
static ngx_int_t ngx_http_llm_metrics_usage_tokens(
    ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at);
static ngx_int_t ngx_http_llm_metrics_usage_money(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
static ngx_http_llm_metrics_pair_t *ngx_http_llm_metrics_usage_next(
    ngx_http_llm_metrics_usage_t *u, ngx_http_llm_metrics_at_t *at,
    llm_prometheus_label_t *label);
static ngx_int_t ngx_http_llm_metrics_usage_stat(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm);
static void ngx_http_llm_metrics_times_row(llm_prometheus_t *pm,
    const char *name, llm_book_hist_e which, llm_book_hists_t *hs);


ngx_int_t
ngx_http_llm_metrics_usage(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    ngx_int_t  rc;

    switch (at->part) {

    case 0:
        rc = ngx_http_llm_metrics_usage_begin(m, pm);

        if (rc == NGX_DECLINED) {
            return NGX_OK;
        }
        break;

    case 1:
        rc = ngx_http_llm_metrics_usage_requests(m, pm, at);
        break;

    case 2:
        rc = ngx_http_llm_metrics_usage_tokens(m, pm, at);
        break;

    case 3:
        rc = ngx_http_llm_metrics_usage_money(m, pm, at);
        break;

    default:
        return ngx_http_llm_metrics_usage_stat(m, pm);
    }

    if (rc == NGX_OK) {
        at->part++;
        at->i = 0;
    }

    return rc == NGX_ERROR ? NGX_ERROR : NGX_AGAIN;
}


/* all that was recorded until now is posted here, and only here */

static ngx_int_t
ngx_http_llm_metrics_usage_begin(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm)
{
    llm_book_t                    *bk;
    ngx_http_llm_metrics_usage_t  *u;

    if (m->usage == NULL) {
        bk = ngx_http_llm_usage_lock(m->mcf);
        if (bk == NULL) {
            return NGX_DECLINED;
        }

        ngx_http_llm_usage_unlock(m->mcf);

        u = ngx_pcalloc(m->request->pool,
                        sizeof(ngx_http_llm_metrics_usage_t));
        if (u == NULL) {
            return NGX_ERROR;
        }

        m->usage = u;
    }

    llm_prometheus_family(pm, "llm_requests_total", "counter",
                          "Calls of the API as they were answered; no "
                          "provider: none was asked.");

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_metrics_usage_requests(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    u_char                         text[NGX_INT_T_LEN + 1];
    llm_book_row_t                *row;
    llm_prometheus_label_t         label[4];
    ngx_http_llm_metrics_usage_t  *u;

    u = m->usage;

    if (at->i == u->n) {
        at->i = 0;
        return ngx_http_llm_metrics_usage_read(m);
    }

    row = &u->row[at->i++];

    if (row->sums.requests == 0) {
        return NGX_AGAIN;
    }

    label[0].name = "team";
    label[0].value = row->name[LLM_BOOK_TEAM];
    label[1].name = "model";
    label[1].value = row->name[LLM_BOOK_MODEL];
    label[2].name = "provider";
    label[2].value = row->name[LLM_BOOK_PROVIDER];

    *ngx_sprintf(text, "%uD", row->status) = '\0';
    ngx_http_llm_metrics_label(&label[3], "status", (char *) text);

    llm_prometheus_sample(pm, "llm_requests_total", label, 4,
                          row->sums.requests);

    return NGX_AGAIN;
}


/* the next rows; NGX_OK: there are none */

static ngx_int_t
ngx_http_llm_metrics_usage_read(ngx_http_llm_metrics_t *m)
{
    ngx_uint_t                     i;
    llm_book_t                    *bk;
    llm_book_row_t                *row;
    ngx_http_llm_metrics_pair_t   *p;
    ngx_http_llm_metrics_usage_t  *u;

    u = m->usage;
    u->n = 0;

    if (u->cursor == LLM_BOOK_END) {
        return NGX_OK;
    }

    if ((u->pairs + NGX_HTTP_LLM_METRICS_BATCH) * 2 > u->size
        && ngx_http_llm_metrics_usage_grow(m, u) != NGX_OK)
    {
        return NGX_ERROR;
    }

    bk = ngx_http_llm_usage_lock_next(m->mcf);
    u->n = llm_book_rows(bk, LLM_BOOK_TOTAL, &u->cursor, 0,
                         NGX_HTTP_LLM_METRICS_LOOK, u->row,
                         NGX_HTTP_LLM_METRICS_BATCH);
    ngx_http_llm_usage_unlock(m->mcf);

    for (i = 0; i < u->n; i++) {
        row = &u->row[i];

        p = ngx_http_llm_metrics_usage_pair(u,
                                            row->name[LLM_BOOK_TEAM].data,
                                            row->name[LLM_BOOK_MODEL].data);

        if (!p->used) {
            p->used = 1;
            p->team = row->name[LLM_BOOK_TEAM].data;
            p->team_len = row->name[LLM_BOOK_TEAM].len;
            p->model = row->name[LLM_BOOK_MODEL].data;
            p->model_len = row->name[LLM_BOOK_MODEL].len;
            u->pairs++;
        }

        p->tokens[0] += row->sums.prompt;
        p->tokens[1] += row->sums.cached;
        p->tokens[2] += row->sums.completion;
        p->tokens[3] += row->sums.reasoning;
        p->money += row->sums.money;
    }

    return NGX_AGAIN;
}


/* the place of a pair, or the free one where it belongs */

static ngx_http_llm_metrics_pair_t *
ngx_http_llm_metrics_usage_pair(ngx_http_llm_metrics_usage_t *u,
    u_char *team, u_char *model)
{
    uint64_t    hash;
    ngx_uint_t  i;

    hash = (uint64_t) (uintptr_t) team * 0x9e3779b97f4a7c15ULL
           ^ (uint64_t) (uintptr_t) model * 0xc2b2ae3d27d4eb4fULL;
    hash ^= hash >> 29;

    for (i = hash & (u->size - 1);
         u->pair[i].used
         && (u->pair[i].team != team || u->pair[i].model != model);
         i = (i + 1) & (u->size - 1))
    {
        /* void */
    }

    return &u->pair[i];
}


static ngx_int_t
ngx_http_llm_metrics_usage_grow(ngx_http_llm_metrics_t *m,
    ngx_http_llm_metrics_usage_t *u)
{
    ngx_uint_t                    i, size;
    ngx_http_llm_metrics_pair_t  *old;

    old = u->pair;
    size = u->size;

    u->size = size ? size * 2 : NGX_HTTP_LLM_METRICS_PAIRS;
    u->pair = ngx_pcalloc(m->request->pool,
                          u->size * sizeof(ngx_http_llm_metrics_pair_t));

    if (u->pair == NULL) {
        u->pair = old;
        u->size = size;
        return NGX_ERROR;
    }

    for (i = 0; i < size; i++) {
        if (old[i].used) {
            *ngx_http_llm_metrics_usage_pair(u, old[i].team, old[i].model)
                = old[i];
        }
    }

    if (old) {
        ngx_pfree(m->request->pool, old);
    }

    return NGX_OK;
}


static ngx_int_t
ngx_http_llm_metrics_usage_tokens(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    ngx_uint_t                    k;
    llm_prometheus_label_t        label[3];
    ngx_http_llm_metrics_pair_t  *p;

    static const char  name[] = "llm_tokens_total";
    static const char  *type[] = {
        "prompt", "cached", "completion", "reasoning"
    };

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "counter",
                              "Tokens charged, by type; cached ones are part "
                              "of the prompt, those for reasoning of the "
                              "completion.");
    }

    p = ngx_http_llm_metrics_usage_next(m->usage, at, label);

    if (p == NULL) {
        return NGX_OK;
    }

    for (k = 0; k < 4; k++) {

        /* most never have these: they come with their first token */

        if (p->tokens[k] == 0 && k % 2) {
            continue;
        }

        ngx_http_llm_metrics_label(&label[2], "type", type[k]);
        llm_prometheus_sample(pm, name, label, 3, p->tokens[k]);
    }

    return NGX_AGAIN;
}


static ngx_int_t
ngx_http_llm_metrics_usage_money(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at)
{
    llm_prometheus_label_t        label[2];
    ngx_http_llm_metrics_pair_t  *p;

    static const char  name[] = "llm_cost_usd_total";

    if (at->i == 0) {
        llm_prometheus_family(pm, name, "counter",
                              "Money charged, in dollars.");
    }

    p = ngx_http_llm_metrics_usage_next(m->usage, at, label);

    if (p == NULL) {
        return NGX_OK;
    }

    llm_prometheus_micro(pm, name, label, 2, p->money);

    return NGX_AGAIN;
}


/* the next pair in the table; gaps are few enough */

static ngx_http_llm_metrics_pair_t *
ngx_http_llm_metrics_usage_next(ngx_http_llm_metrics_usage_t *u,
    ngx_http_llm_metrics_at_t *at, llm_prometheus_label_t *label)
{
    ngx_http_llm_metrics_pair_t  *p;

    while (at->i < u->size) {
        p = &u->pair[at->i++];

        if (p->used) {
            ngx_http_llm_metrics_label_str(&label[0], "team", p->team,
                                           p->team_len);
            ngx_http_llm_metrics_label_str(&label[1], "model", p->model,
                                           p->model_len);
            return p;
        }
    }

    return NULL;
}


static ngx_int_t
ngx_http_llm_metrics_usage_stat(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm)
{
    llm_book_t       *bk;
    llm_book_stat_t   st;

    bk = ngx_http_llm_usage_lock_next(m->mcf);
    llm_book_stat(bk, &st);
    ngx_http_llm_usage_unlock(m->mcf);

    ngx_http_llm_metrics_gauge(pm, "llm_usage_rows",
                               "Rows of the accounts in use.", st.rows);
    ngx_http_llm_metrics_gauge(pm, "llm_usage_bytes",
                               "Shared memory that the accounts take up.",
                               st.used);
    ngx_http_llm_metrics_gauge(pm, "llm_usage_size_bytes",
                               "Shared memory there is for the accounts.",
                               st.size);
    ngx_http_llm_metrics_counter(pm, "llm_usage_folded_total",
        "Requests that were counted under \"other\" for want of room.",
        st.folded);

    return NGX_OK;
}


ngx_int_t
ngx_http_llm_metrics_times(ngx_http_llm_metrics_t *m, llm_prometheus_t *pm,
    ngx_http_llm_metrics_at_t *at)
{
    int                rc;
    uint64_t           cursor;
    llm_book_t        *bk;
    llm_book_hists_t   hs;

    static const struct {
        const char       *name;
        const char       *help;
        llm_book_hist_e   which;
    } family[] = {
        { "llm_request_duration_seconds",
          "Time of a request that a provider was asked for, in all.",
          LLM_BOOK_LATENCY },
        { "llm_time_to_first_token_seconds",
          "Time from a request to the first bytes of its answer.",
          LLM_BOOK_FIRST },
        { "llm_time_between_events_seconds",
          "Time between two events of a stream.",
          LLM_BOOK_BETWEEN },
        { "llm_queue_duration_seconds",
          "Time in line for a slot.",
          LLM_BOOK_QUEUED }
    };

    if (m->usage == NULL) {
        return NGX_OK;
    }

    cursor = at->i;

    bk = ngx_http_llm_usage_lock_next(m->mcf);
    rc = llm_book_hists(bk, &cursor, &hs);
    ngx_http_llm_usage_unlock(m->mcf);

    if (at->i == 0) {
        llm_prometheus_family(pm, family[at->part].name, "histogram",
                              family[at->part].help);
    }

    if (rc != LLM_OK) {
        at->i = 0;
        return ++at->part < sizeof(family) / sizeof(family[0]) ? NGX_AGAIN
                                                               : NGX_OK;
    }

    at->i = cursor;

    ngx_http_llm_metrics_times_row(pm, family[at->part].name,
                                   family[at->part].which, &hs);

    return NGX_AGAIN;
}


/* of the book's milliseconds; its last bucket is above all bounds */

static void
ngx_http_llm_metrics_times_row(llm_prometheus_t *pm, const char *name,
    llm_book_hist_e which, llm_book_hists_t *hs)
{
    ngx_uint_t                  i, k;
    uint64_t                    bounds[LLM_BOOK_BUCKETS];
    uint64_t                    counts[LLM_BOOK_BUCKETS];
    llm_prometheus_label_t      label[2];
    llm_prometheus_histogram_t  histogram;

    for (i = 0; i < LLM_BOOK_BUCKETS - 1 && llm_book_bound[which][i]; i++) {
        bounds[i] = (uint64_t) llm_book_bound[which][i] * 1000;
        counts[i] = hs->hist[which].n[i];
    }

    counts[i] = 0;

    for (k = i; k < LLM_BOOK_BUCKETS; k++) {
        counts[i] += hs->hist[which].n[k];
    }

    label[0].name = "provider";
    label[0].value = hs->provider;
    label[1].name = "model";
    label[1].value = hs->model;

    histogram.bounds = bounds;
    histogram.counts = counts;
    histogram.n = i;
    histogram.sum = hs->hist[which].sum * 1000;

    llm_prometheus_histogram(pm, name, label, 2, &histogram);
}
