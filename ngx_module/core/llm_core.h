
/*
 * Copyright (C) the ngx-llm authors
 *
 * What every file of the pure core shares.  The core knows no nginx: time,
 * memory and randomness come in as arguments, nothing is logged and nothing
 * is allocated behind the caller's back.
 */


#ifndef _LLM_CORE_H_INCLUDED_
#define _LLM_CORE_H_INCLUDED_


#include <stddef.h>
#include <stdint.h>


/* the values are nginx's own, so that glue can pass them on unchanged */

#define LLM_OK         0
#define LLM_ERROR     -1
#define LLM_AGAIN     -2
#define LLM_DECLINED  -5


/* layout of ngx_str_t: the bytes belong to somebody else */

typedef struct {
    size_t                len;
    unsigned char        *data;
} llm_str_t;


#define llm_string(s)     { sizeof(s) - 1, (unsigned char *) s }


/*
 * Scratch memory.  A caller lends a first block (often on its stack) and,
 * if it wishes, a way to get more, up to "limit" bytes in all.  Nothing is
 * freed one by one: what alloc() returned belongs to the caller's pool.
 */

typedef struct {
    unsigned char        *pos;
    unsigned char        *end;
    size_t                left;            /* bytes alloc() may still give */
    void               *(*alloc)(void *data, size_t size);
    void                 *data;
    unsigned              failed;          /* alloc() did; set to 0 before */
} llm_arena_t;


/* NULL: the limit is reached or alloc() failed; aligned to 8 bytes */

void *llm_arena_alloc(llm_arena_t *a, size_t size);


#endif /* _LLM_CORE_H_INCLUDED_ */
