
/*
 * Copyright (C) the ngx-llm authors
 *
 * Memory that jansson does not find.
 */


#ifndef _JSON_STARVE_H_INCLUDED_
#define _JSON_STARVE_H_INCLUDED_


#include <stdlib.h>


/* for json_set_alloc_funcs(): the allocation number "failing" gives NULL */

static unsigned long  allocations, failing, living;


static inline void *
counting_malloc(size_t size)
{
    void  *p;

    if (++allocations == failing) {
        return NULL;
    }

    p = malloc(size);
    living += p != NULL;

    return p;
}


static inline void
counting_free(void *p)
{
    living -= p != NULL;
    free(p);
}


#endif /* _JSON_STARVE_H_INCLUDED_ */
