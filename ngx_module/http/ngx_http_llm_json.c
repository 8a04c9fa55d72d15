
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_json.h"


ngx_int_t
ngx_http_llm_json_load(ngx_str_t *text, json_t **root, json_error_t *error)
{
    llm_tree_watch();

    *root = llm_tree_load((char *) text->data, text->len,
                          JSON_REJECT_DUPLICATES, error);
    if (*root) {
        return NGX_OK;
    }

    return llm_tree_no_memory() ? NGX_ERROR : NGX_DECLINED;
}


char *
ngx_http_llm_json_dump(json_t *json, size_t flags)
{
    int    starved;
    char  *text;

    text = json_dumps(json, flags);

    starved = llm_tree_no_memory();
    llm_tree_watch();

    if (text && starved) {
        free(text);
        return NULL;
    }

    return text;
}
