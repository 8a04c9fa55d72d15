
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_METRICS_H_INCLUDED_
#define _NGX_HTTP_LLM_METRICS_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* Prometheus text format */
ngx_int_t ngx_http_llm_metrics_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_METRICS_H_INCLUDED_ */
