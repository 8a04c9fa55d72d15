
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


/* since 1.27.3 an upstream block may have a resolver of its own */

#if (nginx_version >= 1027003 && NGX_HTTP_UPSTREAM_ZONE)
#define ngx_http_llm_upstream_resolver(us)  (us)->resolver
#define ngx_http_llm_upstream_resolver_timeout(us)  (us)->resolver_timeout
#else
#define ngx_http_llm_upstream_resolver(us)  NULL
#define ngx_http_llm_upstream_resolver_timeout(us)  NGX_CONF_UNSET_MSEC
#endif


#endif /* _NGX_HTTP_LLM_COMPAT_H_INCLUDED_ */
