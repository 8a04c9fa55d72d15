
/*
 * Copyright (C) the ngx-llm authors
 *
 * A stream's event comes when other streams and the kernel have had the
 * processor's caches since the one before.
 */


#ifndef _NGX_HTTP_LLM_AHEAD_H_INCLUDED_
#define _NGX_HTTP_LLM_AHEAD_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


/*
 * From here on what an event of this attempt looks at is fetched into the
 * caches while the kernel copies the event.  At the commit of a stream.
 */
void ngx_http_llm_ahead(ngx_http_llm_attempt_t *at);


#endif /* _NGX_HTTP_LLM_AHEAD_H_INCLUDED_ */
