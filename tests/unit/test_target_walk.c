
/*
 * Copyright (C) the ngx-llm authors
 *
 * The targets one by one, and one that somebody says is well.
 */


#include "target_fixture.h"


static void
test_walk(void **state)
{
    uint32_t   i, n, two, seen;
    llm_str_t  name;

    (void) state;

    two = find(tg, "azure:gpt-4o");
    assert_int_not_equal(one, two);

    n = 0;
    seen = 0;

    for (i = llm_target_next(tg, 0, &name);
         i != LLM_TARGET_NONE;
         i = llm_target_next(tg, i + 1, &name))
    {
        assert_true(++n <= 2);

        if (i == one) {
            assert_int_equal(name.len, 13);
            assert_memory_equal(name.data, "openai:gpt-4o", 13);
            seen |= 1;
        }

        if (i == two) {
            assert_int_equal(name.len, 12);
            assert_memory_equal(name.data, "azure:gpt-4o", 12);
            seen |= 2;
        }
    }

    assert_int_equal(n, 2);
    assert_int_equal(seen, 3);

    /* nor is there anything behind the last */

    assert_true(llm_target_next(tg, tg->size, &name) == LLM_TARGET_NONE);
    assert_true(llm_target_next(tg, LLM_TARGET_NONE, &name)
                == LLM_TARGET_NONE);
}


static void
test_walk_none(void **state)
{
    void           *mem;
    llm_str_t       name;
    llm_targets_t  *empty;

    (void) state;

    empty = make(&mem, SIZE);
    assert_true(llm_target_next(empty, 0, &name) == LLM_TARGET_NONE);
    free(mem);
}


static void
test_mend(void **state)
{
    unsigned           i;
    uint64_t           until;
    llm_target_call_t  old;

    (void) state;

    conf.ratio = 0;

    assert_int_equal(begin(&old, 1000), LLM_OK);

    until = eject(1000);
    assert_true(until > 2000);
    assert_int_equal(begin(&old, 2000), LLM_DECLINED);

    llm_target_mend(tg, one, 2000);
    assert_int_equal(look(2000).state, LLM_TARGET_CLOSED);

    /* it has to be as ill as before, and is then out for the second time */

    call(LLM_TARGET_BAD, 2000);
    assert_int_equal(look(2000).state, LLM_TARGET_CLOSED);
    call(LLM_TARGET_GOOD, 2000);
    assert_int_equal(eject(2100), 2100 + 2 * conf.eject);

    /* one that is not quite ill begins anew, too */

    llm_target_mend(tg, one, 2200);

    for (i = 0; i < conf.consecutive - 1; i++) {
        call(LLM_TARGET_BAD, 2200);
    }

    llm_target_mend(tg, one, 2300);
    call(LLM_TARGET_BAD, 2300);
    assert_int_equal(look(2300).state, LLM_TARGET_CLOSED);
    call(LLM_TARGET_GOOD, 2300);

    /* however often it has been */

    llm_target_mend(tg, one, 3000);
    assert_int_equal(eject(3000), 3000 + 2 * conf.eject);
}


static void
test_mend_before(void **state)
{
    unsigned           i;
    llm_target_call_t  old[10];

    (void) state;

    conf.ratio = 0;

    for (i = 0; i < conf.consecutive; i++) {
        assert_int_equal(begin(&old[i], 1000), LLM_OK);
    }

    eject(1000);
    llm_target_mend(tg, one, 2000);

    /* they were under way when it was ill */

    for (i = 0; i < conf.consecutive; i++) {
        end(&old[i], LLM_TARGET_BAD, 2100);
    }

    assert_int_equal(look(2100).state, LLM_TARGET_CLOSED);
}


static void
test_mend_none(void **state)
{
    (void) state;

    eject(1000);
    llm_target_mend(tg, LLM_TARGET_NONE, 2000);
    assert_int_equal(look(2000).state, LLM_TARGET_OPEN);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        unit(walk),
        unit(walk_none),
        unit(mend),
        unit(mend_before),
        unit(mend_none),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
