
/*
 * Copyright (C) the ngx-llm authors
 */


#include "state/ngx_http_llm_count.h"


ngx_uint_t  ngx_http_llm_statuses[NGX_HTTP_LLM_STATUSES] = {
    200, 400, 401, 402, 403, 404, 405, 408, 409, 413, 415, 422, 429,
    499, 500, 501, 502, 503, 504, 0
};


void
ngx_http_llm_count_request(ngx_http_llm_count_t *count, ngx_uint_t endpoint,
    ngx_uint_t status)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_LLM_STATUSES - 1; i++) {
        if (ngx_http_llm_statuses[i] == status) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&count->requests[endpoint][i], 1);
}


ngx_uint_t  ngx_http_llm_task_buckets[NGX_HTTP_LLM_TASK_BUCKETS - 1] = {
    100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 900000,
    3600000, 21600000
};


void
ngx_http_llm_count_task_time(ngx_http_llm_count_task_times_t *times,
    uint64_t ms)
{
    ngx_uint_t  i;

    for (i = 0; i < NGX_HTTP_LLM_TASK_BUCKETS - 1; i++) {
        if (ms <= ngx_http_llm_task_buckets[i]) {
            break;
        }
    }

    (void) ngx_atomic_fetch_add(&times->n[i], 1);
    (void) ngx_atomic_fetch_add(&times->ms, ms);
}


ngx_uint_t
ngx_http_llm_count_provider(ngx_http_llm_count_t *count, ngx_str_t *name)
{
    ngx_uint_t                      i;
    ngx_http_llm_count_provider_t  *cp;

    for (i = 0; i < NGX_HTTP_LLM_PROVIDERS; i++) {
        cp = &count->provider[i];

        if (cp->len == 0) {
            ngx_memcpy(cp->name, name->data, name->len);
            cp->len = name->len;
            return i;
        }

        if (cp->len == name->len
            && ngx_memcmp(cp->name, name->data, name->len) == 0)
        {
            return i;
        }
    }

    return NGX_HTTP_LLM_PROVIDERS;
}
