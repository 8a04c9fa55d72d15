
/*
 * Copyright (C) the ngx-llm authors
 *
 * Members of the JSON objects that are open: a stack, so that what an object
 * needed is free again when it ends.
 */


#ifndef _LLM_MEMBER_H_INCLUDED_
#define _LLM_MEMBER_H_INCLUDED_


#include <string.h>

#include "core/llm_core.h"


/* up to so many members are compared with each other as they come */

#define LLM_MEMBER_FEW  16


typedef struct {
    const unsigned char  *name;               /* decoded */
    uint32_t              len;
    uint32_t              at;                 /* of the name in the text */
    uint32_t              start;              /* of the value */
    uint32_t              end;
} llm_member_t;


typedef struct {
    llm_member_t         *elts;
    uint32_t              n;
    uint32_t              size;

    llm_member_t         *temp;               /* for sorting, kept */
    uint32_t              temp_size;

    llm_arena_t          *arena;
} llm_members_t;


/* room for one more; LLM_ERROR: no memory */
int llm_members_grow(llm_members_t *ms);

/* decodes the name of a member that is not on the stack yet */
int llm_member_decode(llm_members_t *ms, llm_member_t *m);


/*
 * Puts a name on the stack, quotes included; "text" is where offsets count
 * from.  NULL: no memory.
 */
static inline llm_member_t *
llm_members_push(llm_members_t *ms, const unsigned char *text,
    const unsigned char *start, const unsigned char *end, int escaped)
{
    llm_member_t  *m;

    if (ms->n == ms->size && llm_members_grow(ms) != LLM_OK) {
        return NULL;
    }

    m = &ms->elts[ms->n];

    m->name = start + 1;
    m->len = (uint32_t) (end - start) - 2;
    m->at = (uint32_t) (start - text);

    if (escaped && llm_member_decode(ms, m) != LLM_OK) {
        return NULL;
    }

    ms->n++;

    return m;
}


/*
 * Is the member on top the second of its name among those from "base" on?
 * "first" is set to the first one's offset.  Looks at few members only:
 * with more of them llm_members_check() finds it.
 */
static inline int
llm_members_twice(const llm_members_t *ms, uint32_t base, uint32_t *first)
{
    const llm_member_t  *m, *top;

    top = &ms->elts[ms->n - 1];
    m = &ms->elts[base];

    if (top - m >= LLM_MEMBER_FEW) {
        return 0;
    }

    for ( /* void */ ; m < top; m++) {

        if (m->len == top->len && memcmp(m->name, top->name, top->len) == 0) {
            *first = m->at;
            return 1;
        }
    }

    return 0;
}


/*
 * At the end of an object.  LLM_OK, LLM_ERROR (no memory) or LLM_DECLINED:
 * a name stands twice, "first" and "second" say where.  May sort.
 */
int llm_members_check(llm_members_t *ms, uint32_t base, uint32_t *first,
    uint32_t *second);

/* by decoded name, bytewise; LLM_ERROR: no memory */
int llm_members_sort(llm_members_t *ms, uint32_t base);


#endif /* _LLM_MEMBER_H_INCLUDED_ */
