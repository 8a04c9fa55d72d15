
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_LINE_H_INCLUDED_
#define _NGX_HTTP_LLM_LINE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/*
 * Behind the endpoints of calls: models, streams to be taken up again,
 * comparisons of models, stored responses, tasks, batches, files, and one
 * that is sent, and a provider's own files and batches; ctx->api has these,
 * too.
 */

#define NGX_HTTP_LLM_MODELS   LLM_ENDPOINTS
#define NGX_HTTP_LLM_STREAMS  (LLM_ENDPOINTS + 1)
#define NGX_HTTP_LLM_COMPARE  (LLM_ENDPOINTS + 2)
#define NGX_HTTP_LLM_STORED   (LLM_ENDPOINTS + 3)
#define NGX_HTTP_LLM_TASKS    (LLM_ENDPOINTS + 4)
#define NGX_HTTP_LLM_BATCHES  (LLM_ENDPOINTS + 5)
#define NGX_HTTP_LLM_FILES    (LLM_ENDPOINTS + 6)
#define NGX_HTTP_LLM_UPLOAD   (LLM_ENDPOINTS + 7)
#define NGX_HTTP_LLM_NATIVE   (LLM_ENDPOINTS + 8)


/*
 * Begins the life of a call of the API, or of what is none.  Returns what a
 * content handler is to return.
 */
ngx_int_t ngx_http_llm_line_start(ngx_http_request_t *r, ngx_uint_t endpoint);

/* gives a request that was redirected inside its context again, if any */
void ngx_http_llm_line_recover(ngx_http_request_t *r);


#endif /* _NGX_HTTP_LLM_LINE_H_INCLUDED_ */
