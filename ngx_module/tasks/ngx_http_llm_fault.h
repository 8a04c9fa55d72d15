
/*
 * Copyright (C) the ngx-llm authors
 *
 * Labelled points at which a build for tests can have a worker die: once,
 * where the file that LLM_FAULT_FILE names holds the label.
 */


#ifndef _NGX_HTTP_LLM_FAULT_H_INCLUDED_
#define _NGX_HTTP_LLM_FAULT_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#if (NGX_HTTP_LLM_FAULTS)

#define NGX_HTTP_LLM_FAULT(label)  ngx_http_llm_fault(label)

void ngx_http_llm_fault(const char *label);

#else

#define NGX_HTTP_LLM_FAULT(label)

#endif


#endif /* _NGX_HTTP_LLM_FAULT_H_INCLUDED_ */
