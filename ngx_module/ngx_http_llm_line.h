
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_LINE_H_INCLUDED_
#define _NGX_HTTP_LLM_LINE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* the content handler of a gateway's location */
ngx_int_t ngx_http_llm_line_handler(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_LINE_H_INCLUDED_ */
