
/*
 * Copyright (C) the ngx-llm authors
 *
 * When an attempt is late, and how many second ones there may be.
 */


#include "target_fixture.h"


/* who only looks gives nobody a place */

static void
test_seek(void **state)
{
    char       text[32];
    uint32_t   i;
    llm_str_t  name;

    (void) state;

    name.data = (unsigned char *) text;

    name.len = (size_t) snprintf(text, sizeof(text), "openai:gpt-4o");
    assert_int_equal(llm_target_seek(tg, &name), one);

    name.len = (size_t) snprintf(text, sizeof(text), "made:up");
    assert_int_equal(llm_target_seek(tg, &name), LLM_TARGET_NONE);
    name.len = 0;
    assert_int_equal(llm_target_seek(tg, &name), LLM_TARGET_NONE);

    /* who is looked for stays, the others go */

    for (i = 0; i < 3 * tg->size; i++) {
        snprintf(text, sizeof(text), "other:%u", i);
        find(tg, text);

        name.data = (unsigned char *) text;
        name.len = (size_t) snprintf(text, sizeof(text), "openai:gpt-4o");
        assert_int_equal(llm_target_seek(tg, &name), one);
    }
}


static void
test_hedges(void **state)
{
    uint32_t  i, two;

    (void) state;

    two = find(tg, "other:gpt-4o");
    conf.hedge = 20;

    /* one of five, and none at the start */

    for (i = 1; i <= 4; i++) {
        assert_int_equal(llm_target_hedge(tg, one, 1), LLM_DECLINED);
        call(LLM_TARGET_GOOD, i);
    }

    assert_int_equal(llm_target_hedge(tg, one, 1), LLM_DECLINED);
    call(LLM_TARGET_GOOD, 5);

    assert_int_equal(llm_target_hedge(tg, one, 0), LLM_OK);
    assert_int_equal(llm_target_hedge(tg, one, 0), LLM_OK);
    assert_int_equal(llm_target_hedge(tg, two, 0), LLM_DECLINED);
    assert_int_equal(llm_target_hedge(tg, one, 1), LLM_OK);
    assert_int_equal(llm_target_hedge(tg, one, 0), LLM_DECLINED);

    /* what is granted fills nothing */

    for (i = 0; i < 50; i++) {
        llm_target_grant(tg, one);
        call(LLM_TARGET_GOOD, 6);
        assert_int_equal(llm_target_hedge(tg, one, 0), LLM_DECLINED);
    }

    /* ten are saved up, not more */

    for (i = 0; i < 500; i++) {
        call(LLM_TARGET_GOOD, 7);
    }

    for (i = 0; i < 10; i++) {
        assert_int_equal(llm_target_hedge(tg, one, 1), LLM_OK);
    }

    assert_int_equal(llm_target_hedge(tg, one, 1), LLM_DECLINED);

    /* none where there are none */

    conf.hedge = 0;

    for (i = 0; i < 500; i++) {
        call(LLM_TARGET_GOOD, 8);
    }

    assert_int_equal(llm_target_hedge(tg, one, 1), LLM_DECLINED);
}


static void
test_late(void **state)
{
    uint32_t  i;

    (void) state;

    for (i = 0; i < 19; i++) {
        llm_target_first(tg, one, &conf, 100, 1000);
        assert_int_equal(llm_target_late(tg, one), LLM_TARGET_UNKNOWN);
    }

    llm_target_first(tg, one, &conf, 100, 1000);
    assert_in_range(llm_target_late(tg, one), 90, 128);

    for (i = 0; i < 5; i++) {
        llm_target_first(tg, one, &conf, 4000, 1000);
    }

    assert_in_range(llm_target_late(tg, one), 2800, 6000);

    /* what is long ago is forgotten */

    llm_target_first(tg, one, &conf, 10, 1000 + 3600000);
    assert_int_equal(llm_target_late(tg, one), LLM_TARGET_UNKNOWN);
}


int
main(void)
{
    static const struct CMUnitTest  tests[] = {
        unit(seek),
        unit(hedges),
        unit(late)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
