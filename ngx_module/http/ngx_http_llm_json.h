
/*
 * Copyright (C) the ngx-llm authors
 *
 * Trees of JSON that a client sent.  Without memory jansson calls what is
 * right wrong; here the two are told apart.
 */


#ifndef _NGX_HTTP_LLM_JSON_H_INCLUDED_
#define _NGX_HTTP_LLM_JSON_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "core/llm_tree.h"


/*
 * A tree without names that stand twice.  NGX_DECLINED: it is not JSON,
 * "error" (NULL: not asked for) says why; NGX_ERROR: no memory.
 */
ngx_int_t ngx_http_llm_json_load(ngx_str_t *text, json_t **root,
    json_error_t *error);

/*
 * As json_dumps(), but NULL if there was no memory since one of these or
 * llm_tree_watch() was called last: members may be missing then.
 */
char *ngx_http_llm_json_dump(json_t *json, size_t flags);


#endif /* _NGX_HTTP_LLM_JSON_H_INCLUDED_ */
