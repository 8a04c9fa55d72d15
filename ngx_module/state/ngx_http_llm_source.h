
/*
 * Copyright (C) the ngx-llm authors
 *
 * Where a secret of the configuration comes from: never from its text, which
 * would be everybody's to read.
 */


#ifndef _NGX_HTTP_LLM_SOURCE_H_INCLUDED_
#define _NGX_HTTP_LLM_SOURCE_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_LLM_SOURCE_MAX  4096      /* bytes, of a file */


/*
 * Configuration time: "source" is env:VARIABLE or file:PATH (relative to the
 * configuration's folder).  "value" is of the environment, not to be written
 * to, or in memory of cf->pool; line ends behind it are cut off, and it may
 * be empty.  NGX_ERROR: logged, as about "what" of the name "name", without a
 * byte of the value.
 */
ngx_int_t ngx_http_llm_source_read(ngx_conf_t *cf, ngx_str_t *source,
    const char *what, ngx_str_t *name, ngx_str_t *value);


#endif /* _NGX_HTTP_LLM_SOURCE_H_INCLUDED_ */
