
/*
 * Copyright (C) the ngx-llm authors
 */


#ifndef _NGX_HTTP_LLM_ARENA_H_INCLUDED_
#define _NGX_HTTP_LLM_ARENA_H_INCLUDED_


#include <ngx_config.h>
#include <ngx_core.h>


/* "alloc" of an arena of the core whose "data" is a pool */
void *ngx_http_llm_arena_alloc(void *pool, size_t size);


#endif /* _NGX_HTTP_LLM_ARENA_H_INCLUDED_ */
