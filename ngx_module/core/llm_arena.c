
/*
 * Copyright (C) the ngx-llm authors
 */


#include "core/llm_core.h"


#define LLM_ARENA_BLOCK  4096


void *
llm_arena_alloc(llm_arena_t *a, size_t size)
{
    size_t          block;
    unsigned char  *p;

    if (size > SIZE_MAX - 7) {
        return NULL;
    }

    size = (size + 7) & ~(size_t) 7;

    /* the lent block need not be aligned */
    p = (unsigned char *) (((uintptr_t) a->pos + 7) & ~(uintptr_t) 7);

    if (p <= a->end && (size_t) (a->end - p) >= size) {
        a->pos = p + size;
        return p;
    }

    if (a->alloc == NULL || size > a->left) {
        return NULL;
    }

    block = size > LLM_ARENA_BLOCK ? size : LLM_ARENA_BLOCK;

    if (block > a->left) {
        block = a->left;
    }

    p = a->alloc(a->data, block);
    if (p == NULL) {
        a->failed = 1;
        return NULL;
    }

    a->left -= block;
    a->pos = p + size;
    a->end = p + block;

    return p;
}
