
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a gateway's location answers to.
 */


#ifndef _NGX_HTTP_LLM_GATEWAY_H_INCLUDED_
#define _NGX_HTTP_LLM_GATEWAY_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* the content handler */
ngx_int_t ngx_http_llm_gateway_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_GATEWAY_H_INCLUDED_ */
