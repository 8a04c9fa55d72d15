
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between ngx_http_llm_metrics*.c: the page is a row of sections, each of
 * them written piece by piece.
 */


#ifndef _NGX_HTTP_LLM_METRICS_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_METRICS_PRIVATE_H_INCLUDED_


#include "http/ngx_http_llm.h"
#include "state/ngx_http_llm_zone.h"

#include "core/llm_prometheus.h"


/* the largest piece must fit into one of them: a histogram's row */

#define NGX_HTTP_LLM_METRICS_BUFFER   (32 * 1024)
#define NGX_HTTP_LLM_METRICS_BUFFERS  8


/* where a section goes on: all 0 at its beginning */

typedef struct {
    ngx_uint_t                  part;
    ngx_uint_t                  i;
    ngx_uint_t                  k;
} ngx_http_llm_metrics_at_t;


typedef struct ngx_http_llm_metrics_usage_s   ngx_http_llm_metrics_usage_t;
typedef struct ngx_http_llm_metrics_budget_s  ngx_http_llm_metrics_budget_t;


typedef struct {
    ngx_http_request_t         *request;
    ngx_http_llm_main_conf_t   *mcf;
    ngx_http_llm_count_t       *count;

    ngx_uint_t                  section;
    ngx_http_llm_metrics_at_t   at;

    ngx_chain_t                *free;
    ngx_chain_t                *busy;
    ngx_uint_t                  buffers;         /* made so far */
    ngx_event_t                 next;            /* the next turn */
    uint64_t                    start;           /* us */
    ngx_http_llm_metrics_usage_t   *usage;
    ngx_http_llm_metrics_budget_t  *budget;
    unsigned                    waiting:1;       /* for the client */
} ngx_http_llm_metrics_t;


/*
 * Writes one piece and moves "at" on: NGX_AGAIN, there is more, or NGX_OK,
 * that was the last one.  A piece that does not fit (pm->overflow) is asked
 * for once more, from the same place, with a fresh buffer.
 */
typedef ngx_int_t (*ngx_http_llm_metrics_pt)(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);


/* the sections, in their order on the page */

ngx_int_t ngx_http_llm_metrics_build(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_requests(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_attempts(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_counted(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_targets(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_routes(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_cache(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_teams(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_slots(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_provider_slots(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_budgets(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_tasks(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_policy(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_shared(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_usage(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);
ngx_int_t ngx_http_llm_metrics_times(ngx_http_llm_metrics_t *m,
    llm_prometheus_t *pm, ngx_http_llm_metrics_at_t *at);


static ngx_inline void
ngx_http_llm_metrics_label(llm_prometheus_label_t *label, const char *name,
    const char *value)
{
    label->name = name;
    label->value.data = (u_char *) value;
    label->value.len = ngx_strlen(value);
}


static ngx_inline void
ngx_http_llm_metrics_label_str(llm_prometheus_label_t *label,
    const char *name, const u_char *data, size_t len)
{
    label->name = name;
    label->value.data = (u_char *) data;
    label->value.len = len;
}


/* families of a single sample without labels */

static ngx_inline void
ngx_http_llm_metrics_counter(llm_prometheus_t *pm, const char *name,
    const char *help, uint64_t value)
{
    llm_prometheus_family(pm, name, "counter", help);
    llm_prometheus_sample(pm, name, NULL, 0, value);
}


static ngx_inline void
ngx_http_llm_metrics_gauge(llm_prometheus_t *pm, const char *name,
    const char *help, uint64_t value)
{
    llm_prometheus_family(pm, name, "gauge", help);
    llm_prometheus_sample(pm, name, NULL, 0, value);
}


#endif /* _NGX_HTTP_LLM_METRICS_PRIVATE_H_INCLUDED_ */
