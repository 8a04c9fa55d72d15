
/*
 * Copyright (C) the ngx-llm authors
 *
 * One target, and calls to it.
 */


#ifndef _TARGET_FIXTURE_H_INCLUDED_
#define _TARGET_FIXTURE_H_INCLUDED_


#include "target_help.h"


#define unit(name)                                                            \
    cmocka_unit_test_setup_teardown(test_ ## name, setup, teardown)


static llm_targets_t      *tg;
static void               *block;
static llm_target_conf_t   conf;
static uint64_t            wait_ms;
static uint32_t            one;


static inline int
setup(void **state)
{
    (void) state;

    tg = make(&block, SIZE);
    conf = standard;
    one = find(tg, "openai:gpt-4o");

    return 0;
}


static inline int
teardown(void **state)
{
    (void) state;

    free(block);

    return 0;
}


static inline int
begin(llm_target_call_t *call, uint64_t now)
{
    return llm_target_start(tg, one, &conf, 3, 0, 0, now, &wait_ms, call);
}


static inline void
end(llm_target_call_t *call, llm_target_end_e how, uint64_t now)
{
    llm_target_end(tg, one, &conf, call, how, LLM_TARGET_UNKNOWN,
                   LLM_TARGET_UNKNOWN, now);
}


static inline void
call(llm_target_end_e how, uint64_t now)
{
    llm_target_call_t  c;

    assert_int_equal(begin(&c, now), LLM_OK);
    end(&c, how, now);
}


static inline llm_target_stat_t
look(uint64_t now)
{
    llm_target_stat_t  st;

    llm_target_stat(tg, one, now, &st);

    return st;
}


static inline uint64_t
eject(uint64_t now)
{
    unsigned  i;

    for (i = 0; i < conf.consecutive; i++) {
        call(LLM_TARGET_BAD, now);
    }

    assert_int_equal(look(now).state, LLM_TARGET_OPEN);

    return look(now).until;
}


#endif /* _TARGET_FIXTURE_H_INCLUDED_ */
