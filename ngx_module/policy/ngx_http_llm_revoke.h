
/*
 * Copyright (C) the ngx-llm authors
 *
 * Revoking a key with all that runs for it: each worker knows its requests
 * by their key's name and ends those whose key was revoked in this way, as
 * if their time were up, but with the error of a disabled key.
 */


#ifndef _NGX_HTTP_LLM_REVOKE_H_INCLUDED_
#define _NGX_HTTP_LLM_REVOKE_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* a request whose key is known begins, and ends: harmless if it did not */
void ngx_http_llm_revoke_enter(ngx_http_llm_ctx_t *ctx);
void ngx_http_llm_revoke_leave(ngx_http_llm_ctx_t *ctx);

/*
 * Tells all workers; they hear of it within a quarter of a second, and end
 * what began with this version of the key's row or an earlier one.
 */
void ngx_http_llm_revoke(ngx_http_llm_main_conf_t *mcf, ngx_str_t *name,
    uint64_t version);

/* from time to time in each worker; the first time says where to begin */
void ngx_http_llm_revoke_check(ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_REVOKE_H_INCLUDED_ */
