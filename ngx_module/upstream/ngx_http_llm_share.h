
/*
 * Copyright (C) the ngx-llm authors
 *
 * What providers tell one gateway of their limits, and that they want to be
 * left alone, is told to the others in letters to all.
 */


#ifndef _NGX_HTTP_LLM_SHARE_H_INCLUDED_
#define _NGX_HTTP_LLM_SHARE_H_INCLUDED_


#include "upstream/ngx_http_llm_choose_private.h"


/* postconfiguration, behind the cache: the inbox, if there is a Redis */
ngx_int_t ngx_http_llm_share_create(ngx_conf_t *cf,
    ngx_http_llm_main_conf_t *mcf);

/* a worker's life: before the first letter is read */
void ngx_http_llm_share_init_process(ngx_http_llm_main_conf_t *mcf);

/*
 * Under the lock of the targets: what llm_target_told() has just been given
 * for a call at "place" of "tg", or that this place cools down, becomes a
 * letter, if it is worth one.
 */
void ngx_http_llm_share_told(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place,
    llm_target_call_t *call, ngx_http_llm_attempt_t *at);
void ngx_http_llm_share_cool(ngx_http_llm_main_conf_t *mcf,
    ngx_http_llm_tables_t *tb, llm_targets_t *tg, uint32_t place);

/* behind the lock: the letter, if there is one, goes out */
void ngx_http_llm_share_post(ngx_http_llm_main_conf_t *mcf);


#endif /* _NGX_HTTP_LLM_SHARE_H_INCLUDED_ */
