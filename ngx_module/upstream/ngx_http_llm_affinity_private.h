
/*
 * Copyright (C) the ngx-llm authors
 *
 * Between the two files of stored responses.
 */


#ifndef _NGX_HTTP_LLM_AFFINITY_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_AFFINITY_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_affinity.h"
#include "state/ngx_http_llm_secret.h"

#include "core/llm_affinity.h"


struct ngx_http_llm_affinity_s {
    ngx_str_t                   id;
    u_char                      name[NGX_HTTP_LLM_MAC_LEN];
    llm_affinity_t              record;
    unsigned                    found:1;
    unsigned                    down:1;          /* Redis did not say */
};


/*
 * NGX_OK: ctx->affinity->record is there and the client's; NGX_DECLINED: it
 * is not; NGX_ABORT: that cannot be told now; NGX_AGAIN: ctx->wake() is called
 * when it can.  "id" is used by the first call alone.
 */
ngx_int_t ngx_http_llm_affinity_lookup(ngx_http_llm_ctx_t *ctx, u_char *id,
    size_t len);

/* the present attempt's provider has it; does not wait */
void ngx_http_llm_affinity_remember(ngx_http_llm_ctx_t *ctx, llm_str_t *id);

/* the one that was looked up is no more */
void ngx_http_llm_affinity_forget(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_AFFINITY_PRIVATE_H_INCLUDED_ */
