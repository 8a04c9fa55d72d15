
/*
 * Copyright (C) the ngx-llm authors
 *
 * A provider's events on their way to the client, whole and in order.
 */


#ifndef _NGX_HTTP_LLM_STREAM_H_INCLUDED_
#define _NGX_HTTP_LLM_STREAM_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/* the body filter of an attempt whose answer is a stream */
ngx_int_t ngx_http_llm_stream_events(ngx_http_llm_attempt_t *at,
    ngx_chain_t *in);

/*
 * The end of a committed answer, once its attempt has ended: the last bytes
 * if it is whole, else an error event and no clean end.  Returns what main is
 * to be finalized with.
 */
ngx_int_t ngx_http_llm_stream_finish(ngx_http_llm_ctx_t *ctx);

/* has the provider said all it had to say? */
ngx_uint_t ngx_http_llm_stream_complete(ngx_http_llm_attempt_t *at);


#endif /* _NGX_HTTP_LLM_STREAM_H_INCLUDED_ */
