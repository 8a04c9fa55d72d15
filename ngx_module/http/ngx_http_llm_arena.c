
/*
 * Copyright (C) the ngx-llm authors
 */


#include "http/ngx_http_llm_arena.h"


void *
ngx_http_llm_arena_alloc(void *pool, size_t size)
{
    return ngx_palloc(pool, size);
}
