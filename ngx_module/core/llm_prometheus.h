
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


#endif /* _LLM_PROMETHEUS_H_INCLUDED_ */
