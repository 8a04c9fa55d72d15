
/*
 * Copyright (C) the ngx-llm authors
 *
 * The prices file, read by the master and followed by each worker.
 */


#ifndef _NGX_HTTP_LLM_PRICES_H_INCLUDED_
#define _NGX_HTTP_LLM_PRICES_H_INCLUDED_


#include "http/ngx_http_llm.h"


/* reads the file at configuration time; NULL: an error, already logged */
ngx_http_llm_prices_t *ngx_http_llm_prices_create(ngx_conf_t *cf,
    ngx_str_t *file);

/* can the workers' user read the file? an error is logged */
ngx_int_t ngx_http_llm_prices_check(ngx_http_llm_prices_t *prices,
    ngx_conf_t *cf);

/* follows the file: a change counts when it held for two polls */
ngx_int_t ngx_http_llm_prices_init_process(ngx_http_llm_prices_t *prices,
    ngx_cycle_t *cycle);

/* the present prices, until the event loop's next turn; never NULL */
const llm_prices_t *ngx_http_llm_prices(ngx_http_llm_prices_t *prices);


#endif /* _NGX_HTTP_LLM_PRICES_H_INCLUDED_ */
