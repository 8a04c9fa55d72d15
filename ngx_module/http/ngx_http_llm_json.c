
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_json.h"


static void *ngx_http_llm_json_alloc(size_t size);


static ngx_uint_t  ngx_http_llm_json_wanted;


ngx_int_t
ngx_http_llm_json_load(ngx_str_t *text, json_t **root, json_error_t *error)
{
    ngx_http_llm_json_watch();

    *root = json_loadb((char *) text->data, text->len, JSON_REJECT_DUPLICATES,
                       error);
    if (*root) {
        return NGX_OK;
    }

    return ngx_http_llm_json_wanted ? NGX_ERROR : NGX_DECLINED;
}


char *
ngx_http_llm_json_dump(json_t *json, size_t flags)
{
    char        *text;
    ngx_uint_t   wanted;

    text = json_dumps(json, flags);

    wanted = ngx_http_llm_json_wanted;
    ngx_http_llm_json_watch();

    if (text && wanted) {
        free(text);
        return NULL;
    }

    return text;
}


ngx_uint_t
ngx_http_llm_json_no_memory(void)
{
    return ngx_http_llm_json_wanted;
}


void
ngx_http_llm_json_watch(void)
{
    json_free_t    release;
    json_malloc_t  allocate;

    json_get_alloc_funcs(&allocate, &release);

    if (allocate != ngx_http_llm_json_alloc) {
        json_set_alloc_funcs(ngx_http_llm_json_alloc, release);
    }

    ngx_http_llm_json_wanted = 0;
}


static void *
ngx_http_llm_json_alloc(size_t size)
{
    void  *p;

    p = malloc(size);

    if (p == NULL) {
        ngx_http_llm_json_wanted = 1;
    }

    return p;
}
