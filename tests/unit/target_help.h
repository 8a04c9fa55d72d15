
/*
 * Copyright (C) the ngx-llm authors
 *
 * What the tests of the targets share.
 */


#ifndef _TARGET_HELP_H_INCLUDED_
#define _TARGET_HELP_H_INCLUDED_


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_target_private.h"
#include "unit_random.h"


#define SIZE  (64 * 1024)


static const llm_target_conf_t  standard = {
    .consecutive = 5,
    .ratio = 50,
    .ratio_min = 20,
    .window = 10000,
    .eject = 30000,
    .eject_max = 300000,
    .budget = 20,
    .budget_floor = 1
};


/* exactly as large as it says, for the address sanitizer */

static inline llm_targets_t *
make(void **mem, size_t size)
{
    llm_targets_t  *tg;

    *mem = malloc(size);
    assert_non_null(*mem);
    memset(*mem, 0xa5, size);

    tg = llm_target_create(*mem, size);
    assert_non_null(tg);

    return tg;
}


static inline uint32_t
find(llm_targets_t *tg, const char *name)
{
    llm_str_t  s;

    s.data = (unsigned char *) name;
    s.len = strlen(name);

    return llm_target_find(tg, &s, 0);
}


#endif /* _TARGET_HELP_H_INCLUDED_ */
