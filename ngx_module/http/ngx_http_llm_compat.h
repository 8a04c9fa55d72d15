
/*
 * Copyright (C) the ngx-llm authors
 *
 * Differences between nginx versions; nginx_version is named here alone.
 */


#ifndef _NGX_HTTP_LLM_COMPAT_H_INCLUDED_
#define _NGX_HTTP_LLM_COMPAT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>
#include <ngx_http.h>


/* since 1.23.0 headers of one name are linked */

#if (nginx_version >= 1023000)
#define ngx_http_llm_header_unlink(h)  (h)->next = NULL
#else
#define ngx_http_llm_header_unlink(h)
#endif


#endif /* _NGX_HTTP_LLM_COMPAT_H_INCLUDED_ */
