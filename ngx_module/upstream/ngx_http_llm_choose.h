
/*
 * Copyright (C) the ngx-llm authors
 *
 * Which of a route's targets is asked, and what is known of them: the ill are
 * left alone, those near their limits spared.
 */


#ifndef _NGX_HTTP_LLM_CHOOSE_H_INCLUDED_
#define _NGX_HTTP_LLM_CHOOSE_H_INCLUDED_


#include "upstream/ngx_http_llm_attempt.h"


#define NGX_HTTP_LLM_CHOOSE_MET  0x40000000


/* postconfiguration: the shared memory */
ngx_int_t ngx_http_llm_choose_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

/* a worker is gone: its calls are */
void ngx_http_llm_choose_reaped(ngx_http_llm_main_conf_t *mcf,
    ngx_uint_t owner);

/*
 * Sets ctx->target.  NGX_AGAIN: not before ctx->choose_wait ms; NGX_DECLINED:
 * all have been tried.
 */
ngx_int_t ngx_http_llm_choose(ngx_http_llm_ctx_t *ctx);

/* another target that could be asked at once?  "ill": or is but ill */
ngx_uint_t ngx_http_llm_choose_other(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t ill);

/* … its index; NGX_AGAIN, NGX_DECLINED: none; "panic": all are ill */
ngx_int_t ngx_http_llm_choose_beside(ngx_http_llm_ctx_t *ctx,
    ngx_uint_t *panic);

/* the present target is not asked again for this request */
void ngx_http_llm_choose_bar(ngx_http_llm_ctx_t *ctx);

/* of the targets left only those with a larger window than the present one's
   are; NGX_DECLINED: there is none */
ngx_int_t ngx_http_llm_choose_larger(ngx_http_llm_ctx_t *ctx);

/*
 * An attempt at ctx->target is about to start.  NGX_OK: it is counted until
 * ngx_http_llm_choose_end(); NGX_AGAIN: not before ctx->choose_wait ms;
 * NGX_DECLINED: it has become ill meanwhile.
 */
ngx_int_t ngx_http_llm_choose_start(ngx_http_llm_ctx_t *ctx);

/*
 * The same for an attempt at ctx->target beside "slow", which takes its time:
 * NGX_OK, or NGX_DECLINED if it would have to wait or the budget is spent.
 */
ngx_int_t ngx_http_llm_choose_hedge(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_call_t *slow);

/* does the budget of retries allow one at ctx->target? */
ngx_int_t ngx_http_llm_choose_retry(ngx_http_llm_ctx_t *ctx);

/* what a provider's header says of its limits is kept in the attempt */
void ngx_http_llm_choose_header(ngx_http_llm_attempt_t *at,
    ngx_table_elt_t *h);

/* … and told to all when the last of them has been seen; the header is good */
void ngx_http_llm_choose_told(ngx_http_llm_attempt_t *at);

/* for those who watch; NGX_DECLINED: nothing is known of it */
ngx_int_t ngx_http_llm_choose_stat(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_target_t *target, llm_target_stat_t *stat);

/*
 * All targets that are known, one by one: *place is 0 at first, or CHOOSE_MET
 * for the models alone that were met at targets which name none.  name->data
 * is the caller's, of LLM_TARGET_NAME bytes.  NGX_DECLINED: no more.
 */
ngx_int_t ngx_http_llm_choose_next(ngx_http_llm_main_conf_t *mcf,
    uint32_t *place, llm_str_t *name, llm_target_stat_t *stat);

/* the target of this name, or all with NULL, is thought well: how many */
ngx_uint_t ngx_http_llm_choose_mend(ngx_http_llm_main_conf_t *mcf,
    llm_str_t *name);

/*
 * How ctx->attempt ended, and the tokens that it took (LLM_TARGET_UNKNOWN);
 * harmless when it was not counted.
 */
void ngx_http_llm_choose_end(ngx_http_llm_ctx_t *ctx, llm_target_end_e end,
    int64_t used);


#endif /* _NGX_HTTP_LLM_CHOOSE_H_INCLUDED_ */
