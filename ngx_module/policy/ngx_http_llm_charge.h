
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a request is charged: an estimate before, what was used after.
 */


#ifndef _NGX_HTTP_LLM_CHARGE_H_INCLUDED_
#define _NGX_HTTP_LLM_CHARGE_H_INCLUDED_


#include "http/ngx_http_llm.h"

#include "state/ngx_http_llm_zone.h"

#include "core/llm_answer.h"


/*
 * What to reserve, from the body, what the model is known to write, and
 * prices: into ctx->need and the ask; with "clamp_max_tokens" also ctx->clamp.
 * Inside the zone's lock.
 */
void ngx_http_llm_charge_estimate(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_zone_t *zone, llm_now_t *now, llm_ask_t *ask);

/*
 * What the running attempt has streamed so far: text_bytes of generated text.
 * Cheap while the reservation covers it.  NGX_DECLINED: the tenant has no
 * more and wants its streams cut.
 */
ngx_int_t ngx_http_llm_charge_streamed(ngx_http_llm_ctx_t *ctx,
    size_t text_bytes);


/*
 * The end, once: settles the reservation and gives the slots back.  "usage"
 * as the provider reported it (NULL or -1: not), "text_bytes" of generated
 * text came, "asked": a provider has seen the prompt and may bill it.
 */
void ngx_http_llm_charge_settle(ngx_http_llm_ctx_t *ctx,
    const llm_usage_t *usage, size_t text_bytes, ngx_uint_t asked);


/*
 * A batch that its provider ran, once: ctx->usage at the prices of batches,
 * from the money of key and team; ctx->route has the one target.
 */
void ngx_http_llm_charge_batch(ngx_http_llm_ctx_t *ctx);


#endif /* _NGX_HTTP_LLM_CHARGE_H_INCLUDED_ */
