
/*
 * Copyright (C) the ngx-llm authors
 *
 * Lines of the error log that clients or providers can cause at will.
 */


#ifndef _NGX_HTTP_LLM_QUIET_H_INCLUDED_
#define _NGX_HTTP_LLM_QUIET_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


#define NGX_HTTP_LLM_QUIET_TIME  5000            /* ms */


typedef enum {
    NGX_HTTP_LLM_QUIET_HTTP = 1,                 /* what is no call */
    NGX_HTTP_LLM_QUIET_BODY,
    NGX_HTTP_LLM_QUIET_FAILED,
    NGX_HTTP_LLM_QUIET_BROKE,
    NGX_HTTP_LLM_QUIET_LARGE,
    NGX_HTTP_LLM_QUIET_CUT,
    NGX_HTTP_LLM_QUIET_RETRY,
    NGX_HTTP_LLM_QUIET_FOLLOW,
    NGX_HTTP_LLM_QUIET_HEART,
    NGX_HTTP_LLM_QUIET_MODELS,
    NGX_HTTP_LLM_QUIET_ROOM,
    NGX_HTTP_LLM_QUIET_REFUSED                   /* + llm_why_e */
} ngx_http_llm_quiet_e;


/*
 * May this worker say a thing of this kind about "who" now?  The same thing
 * is said once in NGX_HTTP_LLM_QUIET_TIME.  NULL: no; else a text for the end
 * of the line, empty or with how many lines were left out, which is good
 * until the next call.
 */
const char *ngx_http_llm_quiet(ngx_uint_t kind, const void *who, size_t len);


#endif /* _NGX_HTTP_LLM_QUIET_H_INCLUDED_ */
