
/*
 * Copyright (C) the ngx-llm authors
 *
 * What choosing a target and counting its calls have in common.
 */


#ifndef _NGX_HTTP_LLM_CHOOSE_PRIVATE_H_INCLUDED_
#define _NGX_HTTP_LLM_CHOOSE_PRIVATE_H_INCLUDED_


#include "upstream/ngx_http_llm_choose.h"
#include "state/ngx_http_llm_area.h"


/*
 * The targets of the configuration, and the models that are asked for at
 * those which name none.  Names that clients make up cannot drive out what is
 * known of a target.
 */

typedef struct {
    llm_targets_t              *named;
    llm_targets_t              *models;

    /* between gateways */

    uint64_t                    heard;       /* the last letter's number */
    uint64_t                    second;      /* letters of this one */
    ngx_uint_t                  posted;
} ngx_http_llm_tables_t;


/* how a target is to be treated */
void ngx_http_llm_choose_conf(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_target_t *target, llm_target_conf_t *tc);

/* … as a whole, when it names no model: limits and speed are a model's */
void ngx_http_llm_choose_general(llm_target_conf_t *tc);

/* its place; LLM_TARGET_NONE: nothing is known of it */
uint32_t ngx_http_llm_choose_place(ngx_http_llm_tables_t *tb,
    ngx_http_llm_target_t *target);

/* … that of the model asked for, if the target names none and it is known */
uint32_t ngx_http_llm_choose_model(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target);

/* … which becomes known by this */
uint32_t ngx_http_llm_choose_model_new(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target);

/* may it be asked?  as llm_target_look(), of the target and the model */
int ngx_http_llm_choose_look(ngx_http_llm_ctx_t *ctx,
    ngx_http_llm_tables_t *tb, ngx_http_llm_target_t *target, uint64_t *wait);


#endif /* _NGX_HTTP_LLM_CHOOSE_PRIVATE_H_INCLUDED_ */
