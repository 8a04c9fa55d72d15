
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_HEALTH_H_INCLUDED_
#define _NGX_HTTP_LLM_HEALTH_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* /healthz: this worker answers; /readyz: it can serve, and Redis's state */
ngx_int_t ngx_http_llm_health_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_HEALTH_H_INCLUDED_ */
