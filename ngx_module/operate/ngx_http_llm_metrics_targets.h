
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_METRICS_TARGETS_H_INCLUDED_
#define _NGX_HTTP_LLM_METRICS_TARGETS_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_prometheus.h"


/* bytes that are enough for all of it */
size_t ngx_http_llm_metrics_targets_size(ngx_http_llm_main_conf_t *mcf);

void ngx_http_llm_metrics_targets(llm_prometheus_t *pm,
    ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_METRICS_TARGETS_H_INCLUDED_ */
