
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_BODY_H_INCLUDED_
#define _NGX_HTTP_LLM_BODY_H_INCLUDED_


#include "http/ngx_http_llm.h"


/*
 * The request body that nginx has read, in one piece: where it is, if it is
 * in one buffer, else in the request's pool.
 */
ngx_int_t ngx_http_llm_body(ngx_http_request_t *r, ngx_str_t *body);


#endif /* _NGX_HTTP_LLM_BODY_H_INCLUDED_ */
