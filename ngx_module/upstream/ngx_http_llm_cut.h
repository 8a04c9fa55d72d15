
/*
 * Copyright (C) the ngx-llm authors
 *
 * Streams that end before the provider has said all: because the tenant has
 * no tokens left, or because the provider broke off.
 */


#ifndef _NGX_HTTP_LLM_CUT_H_INCLUDED_
#define _NGX_HTTP_LLM_CUT_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/* the first event of a stream, in which a response tells its name */
ngx_int_t ngx_http_llm_cut_begin(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len);

/*
 * Asks whether the stream may go on, after text has come.  If not, at->cut is
 * set, at->final are the events that end it for the client, and the provider
 * is left in the next turn.  "event" is the last one that had text; "lf": the
 * line that is sent last has yet to get its line feed.
 */
ngx_int_t ngx_http_llm_cut_check(ngx_http_llm_attempt_t *at, u_char *event,
    size_t len, ngx_uint_t lf);

/*
 * A committed answer that broke off: says so in the stream and does not end
 * it as a whole one would end.  Returns what main is to be finalized with.
 */
ngx_int_t ngx_http_llm_cut_break(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_CUT_H_INCLUDED_ */
