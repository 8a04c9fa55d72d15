
/*
 * Copyright (C) the ngx-llm authors
 *
 * Writer of the Prometheus text format, version 0.0.4.
 */


#ifndef _LLM_PROMETHEUS_H_INCLUDED_
#define _LLM_PROMETHEUS_H_INCLUDED_


#include "core/llm_core.h"


typedef struct {
    unsigned char        *pos;
    unsigned char        *last;
    unsigned              overflow:1;       /* something did not fit */
} llm_prometheus_t;


/*
 * Each of these writes all of its lines or, if they do not fit, none, and sets
 * "overflow"; nothing is written while that is set.
 */

/* "# HELP" and "# TYPE"; type: "counter", "gauge", "histogram" */
void llm_prometheus_family(llm_prometheus_t *pm, const char *name,
    const char *type, const char *help);

/* one sample; labels: n pairs of name, value; values are escaped */
typedef struct {
    const char           *name;
    llm_str_t             value;
} llm_prometheus_label_t;

void llm_prometheus_sample(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n, uint64_t value);

/* the same; value: in millionths, written with all six decimals */
void llm_prometheus_micro(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n, int64_t value);


/*
 * A histogram's row: its buckets (each of "counts" on its own, the text sums
 * them up), _sum and _count.  bounds: millionths of a second, ascending;
 * counts has one more, for what is above all bounds.  name: that of the
 * family; at most LLM_PROMETHEUS_LABELS labels.
 */
#define LLM_PROMETHEUS_LABELS  4

typedef struct {
    const uint64_t       *bounds;
    const uint64_t       *counts;
    unsigned              n;                /* bounds */
    uint64_t              sum;              /* millionths of a second */
} llm_prometheus_histogram_t;

void llm_prometheus_histogram(llm_prometheus_t *pm, const char *name,
    const llm_prometheus_label_t *labels, unsigned n,
    const llm_prometheus_histogram_t *hs);


#endif /* _LLM_PROMETHEUS_H_INCLUDED_ */
