
/*
 * Copyright (C) the ngx-llm authors
 */


#include <stdarg.h>
#include <setjmp.h>
#include <stdio.h>
#include <string.h>
#include <stdlib.h>
#include <cmocka.h>

#include "core/llm_quiet.h"


static void
test_once(void **state)
{
    unsigned      i;
    uint64_t      left;
    llm_quiet_t   qt;

    (void) state;

    memset(&qt, 0, sizeof(qt));

    assert_int_equal(llm_quiet(&qt, 7, 1000, 500, &left), LLM_OK);
    assert_int_equal(left, 0);

    for (i = 0; i < 10; i++) {
        assert_int_equal(llm_quiet(&qt, 7, 1000 + i, 500, &left),
                         LLM_DECLINED);
    }

    /* another thing is not kept back by the first, though a neighbour */

    assert_int_equal(llm_quiet(&qt, 7 + LLM_QUIET_SLOTS, 1400, 500, &left),
                     LLM_OK);
    assert_int_equal(left, 0);

    assert_int_equal(llm_quiet(&qt, 7, 1499, 500, &left), LLM_DECLINED);
    assert_int_equal(llm_quiet(&qt, 7, 1500, 500, &left), LLM_OK);
    assert_int_equal(left, 11);

    assert_int_equal(llm_quiet(&qt, 7, 1999, 500, &left), LLM_DECLINED);
    assert_int_equal(llm_quiet(&qt, 7, 9000, 500, &left), LLM_OK);
    assert_int_equal(left, 1);
}


/* whoever makes up names is bounded, and every line is counted once */

static void
test_flood(void **state)
{
    uint64_t     i, left, said, told, now;
    llm_quiet_t  qt;

    (void) state;

    memset(&qt, 0, sizeof(qt));

    said = 0;
    told = 0;
    now = 0;

    for (i = 1; i <= 100000; i++) {

        now = i / 10;

        if (llm_quiet(&qt, i * 0x9e3779b97f4a7c15, now, 1000, &left)
            == LLM_OK)
        {
            said++;
            told += left;
        }
    }

    assert_true(said >= LLM_QUIET_SLOTS);
    assert_true(said <= 11 * LLM_QUIET_SLOTS);

    for (i = 0; i < LLM_QUIET_SLOTS; i++) {
        told += qt.slot[i].swallowed;
    }

    assert_int_equal(said + told + qt.crowded, 100000);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_once),
        cmocka_unit_test(test_flood)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
