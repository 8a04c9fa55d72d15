
/*
 * Copyright (C) the ngx-llm authors
 */


#include "policy/ngx_http_llm_file.h"
#include "policy/ngx_http_llm_prices.h"


struct ngx_http_llm_prices_s {
    ngx_http_llm_file_t         file;
    llm_prices_t               *prices;
};


static ngx_int_t ngx_http_llm_prices_take(ngx_http_llm_file_t *f, char *text,
    size_t size, ngx_uint_t first, char *err, size_t errlen);
static void ngx_http_llm_prices_destroy(void *data);


ngx_http_llm_prices_t *
ngx_http_llm_prices_create(ngx_conf_t *cf, ngx_str_t *file)
{
    ngx_pool_cleanup_t     *cln;
    ngx_http_llm_prices_t  *prices;

    prices = ngx_pcalloc(cf->pool, sizeof(ngx_http_llm_prices_t));
    if (prices == NULL) {
        return NULL;
    }

    cln = ngx_pool_cleanup_add(cf->pool, 0);
    if (cln == NULL) {
        return NULL;
    }

    prices->file.directive = "llm_prices";
    prices->file.data = prices;
    prices->file.take = ngx_http_llm_prices_take;

    if (ngx_http_llm_file_read(&prices->file, cf, file) != NGX_OK) {
        return NULL;
    }

    cln->handler = ngx_http_llm_prices_destroy;
    cln->data = prices;

    return prices;
}


ngx_int_t
ngx_http_llm_prices_check(ngx_http_llm_prices_t *prices, ngx_conf_t *cf)
{
    return ngx_http_llm_file_check(&prices->file, cf);
}


ngx_int_t
ngx_http_llm_prices_init_process(ngx_http_llm_prices_t *prices,
    ngx_cycle_t *cycle)
{
    ngx_http_llm_file_follow(&prices->file, cycle);

    return NGX_OK;
}


const llm_prices_t *
ngx_http_llm_prices(ngx_http_llm_prices_t *prices)
{
    return prices->prices;
}


/* from a timer, where nobody looks at the old ones */

static ngx_int_t
ngx_http_llm_prices_take(ngx_http_llm_file_t *f, char *text, size_t size,
    ngx_uint_t first, char *err, size_t errlen)
{
    ngx_http_llm_prices_t *prices = f->data;

    llm_prices_t  *p;

    p = llm_prices_parse(text, size, err, errlen);
    if (p == NULL) {
        return NGX_ERROR;
    }

    if (!first) {
        ngx_log_error(NGX_LOG_NOTICE, f->log, 0,
                      "llm_prices \"%V\": %uD models and patterns", &f->name,
                      (uint32_t) llm_prices_count(p));
    }

    llm_prices_destroy(prices->prices);
    prices->prices = p;

    return NGX_OK;
}


static void
ngx_http_llm_prices_destroy(void *data)
{
    ngx_http_llm_prices_t *prices = data;

    llm_prices_destroy(prices->prices);
}
