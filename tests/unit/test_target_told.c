
/*
 * Copyright (C) the ngx-llm authors
 *
 * What a target makes of what its provider tells of its limits.
 */


#include "target_help.h"


static llm_targets_t      *tg;
static void               *block;
static llm_target_conf_t   conf;
static uint64_t            wait_ms;
static uint32_t            one;


static int
setup(void **state)
{
    (void) state;

    tg = make(&block, SIZE);
    conf = standard;
    conf.pace = 1;
    one = find(tg, "openai:gpt-4o");

    return 0;
}


static int
teardown(void **state)
{
    (void) state;

    free(block);

    return 0;
}


static int
begin(llm_target_call_t *call, int64_t tokens, uint64_t now)
{
    return llm_target_start(tg, one, &conf, 3, tokens, 0, now, &wait_ms,
                            call);
}


static void
end(llm_target_call_t *call, int64_t used, uint64_t now)
{
    llm_target_end(tg, one, &conf, call, LLM_TARGET_GOOD, LLM_TARGET_UNKNOWN,
                   used, now);
}


static void
told(llm_target_call_t *call, int64_t limit, int64_t remaining,
    int64_t reset, uint64_t now)
{
    llm_target_limit_t  l;

    l.limit = limit;
    l.remaining = remaining;
    l.reset = reset;

    llm_target_told(tg, one, &conf, call, &l, NULL, now);
}


static void
told_tokens(llm_target_call_t *call, int64_t limit, int64_t remaining,
    int64_t reset, uint64_t now)
{
    llm_target_limit_t  l;

    l.limit = limit;
    l.remaining = remaining;
    l.reset = reset;

    llm_target_told(tg, one, &conf, call, NULL, &l, now);
}


static int64_t
remains(uint64_t now)
{
    llm_target_stat_t  st;

    llm_target_stat(tg, one, now, &st);

    return st.requests.remaining;
}


static int64_t
tokens(uint64_t now)
{
    llm_target_stat_t  st;

    llm_target_stat(tg, one, now, &st);

    return st.tokens.remaining;
}


static void
test_nothing(void **state)
{
    llm_target_call_t  c;

    (void) state;

    assert_int_equal(begin(&c, 1000000, 1000), LLM_OK);
    assert_int_equal(remains(1000), LLM_TARGET_UNKNOWN);

    told(&c, -1, 5, 5, 1000);
    told(&c, 100, -1, 5, 1000);
    told(&c, 0, 0, 5, 1000);
    llm_target_told(tg, one, &conf, &c, NULL, NULL, 1000);

    assert_int_equal(remains(1000), LLM_TARGET_UNKNOWN);
    assert_int_equal(begin(&c, 1000000, 1000), LLM_OK);
    assert_int_equal(c.tokens.cost, 1000000);

    /* starts of what is never told of limits are not noted */

    conf.limitless = 1;
    assert_int_equal(begin(&c, 1000000, 1000), LLM_OK);
    assert_int_equal(c.running, 1);
    assert_int_equal(c.tokens.cost, 0);
    end(&c, 1000000, 1000);
}


/* 20 of 600 are there, one comes each 100 ms, 9 are left for others */

static void
test_waits(void **state)
{
    unsigned           i;
    llm_target_call_t  c;
    llm_target_stat_t  st;

    (void) state;

    conf.margin = 9;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 20, 58000, 1000);
    end(&c, -1, 1000);
    assert_int_equal(remains(1000), 20);

    /* and as many as have just been started may not have arrived */

    for (i = 0; begin(&c, 0, 1000) == LLM_OK; i++) {
        end(&c, -1, 1000);
    }

    assert_int_equal(i, 5);
    assert_in_range(wait_ms, 90, 110);

    while (begin(&c, 0, 1200) == LLM_OK) {
        end(&c, -1, 1200);
        i++;
    }

    assert_true(i >= 8);
    assert_true(remains(1200) >= 9);

    llm_target_stat(tg, one, 1000, &st);
    assert_int_equal(st.paced, 2);
    assert_int_equal(llm_target_look(tg, one, &conf, 0, 1200, &wait_ms),
                     LLM_AGAIN);
    llm_target_stat(tg, one, 1000, &st);
    assert_int_equal(st.paced, 2);
    assert_in_range(st.requests.reset, 57000, 60000);
    assert_int_equal(st.requests.limit, 600);

    /* a ms less than the wait that was said is not enough */

    i = 0;

    while (begin(&c, 0, 10000) == LLM_OK) {
        assert_true(++i < 600);
    }

    assert_int_equal(llm_target_look(tg, one, &conf, 0, 10000, &wait_ms),
                     LLM_AGAIN);
    i = (unsigned) wait_ms;

    assert_int_equal(llm_target_look(tg, one, &conf, 0, 9999 + i, &wait_ms),
                     LLM_AGAIN);
    assert_int_equal(llm_target_look(tg, one, &conf, 0, 20000, &wait_ms),
                     LLM_OK);

    /* unless nobody asked for pacing */

    conf.pace = 0;
    assert_int_equal(begin(&c, 0, 10000), LLM_OK);
}


/* what was started since is not counted twice when it is told, too */

static void
test_counts_once(void **state)
{
    unsigned           i;
    llm_target_call_t  c[11];

    (void) state;

    assert_int_equal(begin(&c[0], 0, 1000), LLM_OK);
    told(&c[0], 600, 500, 10000, 1000);

    for (i = 1; i < 11; i++) {
        assert_int_equal(begin(&c[i], 0, 1000), LLM_OK);
    }

    assert_int_equal(remains(1000), 490);

    /* each is told its own: there is nothing to correct */

    for (i = 1; i < 11; i++) {
        told(&c[i], 600, 500 - i, (int64_t) (100 + i) * 100, 1000 + i);
        assert_int_equal(remains(1000), 490);
    }

    /* long after it, while one comes each 100 ms */

    assert_int_equal(remains(2000), 500);
}


/* the first that tell were started when nothing was known */

static void
test_first_ones(void **state)
{
    unsigned           i;
    llm_target_call_t  c[10];

    (void) state;

    for (i = 0; i < 10; i++) {
        assert_int_equal(begin(&c[i], 0, 1000), LLM_OK);
    }

    for (i = 0; i < 10; i++) {
        told(&c[i], 600, 599 - i, (int64_t) (1 + i) * 100, 1000);
        assert_int_equal(remains(1000), 590);
    }
}


/* it took ten seconds to tell what was left when it came */

static void
test_first_is_slow(void **state)
{
    llm_target_call_t  c;

    (void) state;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 300, 30000, 11000);
    assert_in_range(remains(11000), 398, 400);
}


/* a margin that is more than all: when all is there */

static void
test_margin_of_all(void **state)
{
    llm_target_call_t  c;

    (void) state;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 300, 30000, 1000);
    conf.margin = 5000;

    assert_int_equal(begin(&c, 0, 1000), LLM_AGAIN);
    assert_in_range(wait_ms, 29000, 31000);
    assert_int_equal(begin(&c, 0, 1000 + wait_ms), LLM_OK);
}


/* others have been seen: after a silence they may have taken all */

static void
test_wakes(void **state)
{
    unsigned             i;
    llm_target_call_t    c[8], d;
    llm_target_pace_t   *p;

    (void) state;

    conf.margin = 2;
    p = &llm_target_at(tg, one)->requests;

    assert_int_equal(begin(&d, 0, 1000), LLM_OK);
    told(&d, 600, 500, 10000, 1000);
    end(&d, -1, 1000);

    assert_int_equal(begin(&d, 0, 2000), LLM_OK);
    told(&d, 600, 400, 20000, 2000);
    end(&d, -1, 2000);
    assert_true(p->others > 0);

    for (i = 0; begin(&c[i], 0, 5000) == LLM_OK; i++) {
        assert_true(i < 7);
    }

    assert_int_equal(i, 3);
    assert_int_equal(wait_ms, 100);
    assert_int_equal(p->flying, 3);

    /* as much as comes in, or when there is an answer */

    assert_int_equal(begin(&c[3], 0, 5100), LLM_OK);
    assert_int_equal(begin(&c[4], 0, 5100), LLM_AGAIN);
    told(&c[0], 600, 420, 18000, 5100);

    for (i = 4; i < 8; i++) {
        assert_int_equal(begin(&c[i], 0, 5100), LLM_OK);
    }

    assert_int_equal(p->flying, 7);

    /* its worker dies, and with it what is on its way */

    llm_target_reap(tg, 4, 5100);
    assert_int_equal(p->flying, 7);
    llm_target_reap(tg, 3, 5100);
    assert_int_equal(p->flying, 0);
}


/* one telling that there is more does not make the others disappear */

static void
test_others_stay(void **state)
{
    int64_t              others;
    llm_target_call_t    c;
    llm_target_pace_t   *p;

    (void) state;

    p = &llm_target_at(tg, one)->requests;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 500, 10000, 1000);
    end(&c, -1, 1000);
    assert_int_equal(begin(&c, 0, 2000), LLM_OK);
    told(&c, 600, 450, 15000, 2000);
    end(&c, -1, 2000);

    others = p->others;
    assert_in_range(others, 8000, 12000);
    assert_int_equal(p->drained, 0);

    /* what they are supposed to take is taken, for two seconds */

    assert_in_range(remains(4000), 448, 452);
    assert_in_range(remains(9000), 498, 502);
    assert_int_equal(begin(&c, 0, 2500), LLM_OK);
    assert_in_range(p->drained, others * 500, others * 500);
    told(&c, 600, 600, 0, 2500);
    end(&c, -1, 2500);
    assert_in_range(p->others, others * 9 / 10 - 1, others - 1);
}


/* others took 90: all answers on their way tell it, it is taken once */

static void
test_corrects_once(void **state)
{
    unsigned           i;
    llm_target_call_t  c[11];

    (void) state;

    assert_int_equal(begin(&c[0], 0, 1000), LLM_OK);
    told(&c[0], 600, 500, 10000, 1000);

    for (i = 1; i < 11; i++) {
        assert_int_equal(begin(&c[i], 0, 1000), LLM_OK);
    }

    for (i = 1; i < 11; i++) {
        told(&c[i], 600, 410 - i, (int64_t) (190 + i) * 100, 1000);
        assert_int_equal(remains(1000), 400);
    }
}


/* an answer that comes late tells what is known better */

static void
test_overtaken(void **state)
{
    llm_target_call_t  c, d, e;

    (void) state;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 500, 10000, 1000);

    assert_int_equal(begin(&d, 0, 1000), LLM_OK);
    assert_int_equal(begin(&e, 0, 1050), LLM_OK);

    told(&e, 600, 300, 30000, 1060);
    assert_int_equal(remains(1060), 300);
    told(&d, 600, 499, 10100, 1070);
    assert_int_equal(remains(1070), 300);

    /* nor is one believed that has ended */

    assert_int_equal(begin(&c, 0, 1080), LLM_OK);
    end(&c, -1, 1080);
    told(&c, 600, 5, 10100, 1080);
    assert_in_range(remains(1080), 298, 300);
}


/* an answer that took a minute: what came in meanwhile is known */

static void
test_slow_answer(void **state)
{
    unsigned           i;
    llm_target_call_t  c, d;

    (void) state;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 500, 10000, 1000);

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);

    for (i = 0; i < 200; i++) {
        assert_int_equal(begin(&d, 0, 1100 + i * 100), LLM_OK);
        end(&d, -1, 1100);
    }

    assert_in_range(remains(21000), 497, 500);
    told(&c, 600, 499, 10100, 21000);
    assert_in_range(remains(21000), 497, 500);
}


static void
test_tokens(void **state)
{
    llm_target_call_t  c, d;

    (void) state;

    assert_int_equal(begin(&c, 1000, 1000), LLM_OK);
    told_tokens(&c, 60000, 30000, 30000, 1000);
    end(&c, 5000, 1000);

    /* it took more than it was thought to, or was told */

    assert_int_equal(tokens(1000), 26000);

    assert_int_equal(begin(&c, 10000, 1000), LLM_OK);
    assert_int_equal(tokens(1000), 16000);
    end(&c, 200, 1000);
    assert_int_equal(tokens(1000), 25800);

    /* told: what is less is the provider's business */

    assert_int_equal(begin(&c, 1000, 1300), LLM_OK);
    told_tokens(&c, 60000, 25100, 34900, 1300);
    end(&c, 10, 1300);
    assert_int_equal(tokens(1300), 25100);

    /* 1000 a second */

    assert_int_equal(begin(&c, 30100, 2000), LLM_AGAIN);
    assert_in_range(wait_ms, 4200, 4500);
    assert_int_equal(begin(&c, 30100, 2000 + wait_ms), LLM_OK);

    /* more than all: when all is there */

    assert_int_equal(begin(&d, 100000, 10000), LLM_AGAIN);
    assert_in_range(wait_ms, 50000, 60000);
    assert_int_equal(begin(&d, 100000, 10000 + wait_ms), LLM_OK);
    assert_int_equal(tokens(80000), 0);
}


/* nothing comes in before the window's end, then all of it */

static void
test_window(void **state)
{
    llm_target_call_t  c, d;

    (void) state;

    conf.windowed = 1;
    conf.margin = 1;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 100, 3, 20000, 1000);
    end(&c, -1, 1000);

    assert_int_equal(begin(&c, 0, 2000), LLM_OK);
    assert_int_equal(begin(&d, 0, 3000), LLM_OK);
    assert_int_equal(remains(20000), 1);
    assert_int_equal(begin(&d, 0, 20000), LLM_AGAIN);
    assert_int_equal(wait_ms, 1000);

    assert_int_equal(begin(&d, 0, 21000), LLM_OK);
    assert_in_range(remains(21000), 97, 99);

    /* what was started in the old one does not know the new */

    told(&c, 100, 2, 1, 21001);
    assert_in_range(remains(21001), 97, 99);
    told(&d, 100, 99, 60000, 21002);
    assert_int_equal(remains(21002), 99);
}


/* no resets: a minute is supposed; and ten minutes without a word */

static void
test_says_little(void **state)
{
    llm_target_call_t  c;

    (void) state;

    assert_int_equal(begin(&c, 0, 1000), LLM_OK);
    told(&c, 600, 0, LLM_TARGET_UNKNOWN, 1000);
    assert_int_equal(begin(&c, 0, 1000), LLM_AGAIN);
    assert_in_range(wait_ms, 99, 301);
    assert_int_equal(remains(31000), 300);
    assert_int_equal(remains(91000), 600);

    assert_int_equal(remains(600999), 600);
    assert_int_equal(remains(601000), LLM_TARGET_UNKNOWN);
}


/* a limit of the day: the rate is what the headers say */

static void
test_rate(void **state)
{
    uint64_t           now;
    int64_t            gone;
    unsigned           i;
    llm_target_call_t  c;

    (void) state;

    now = 1000;

    for (i = 0; i < 100; i++) {
        assert_int_equal(begin(&c, 0, now), LLM_OK);
        gone = 1 + i;
        told(&c, 14400, 14400 - gone, gone * 6000, now);
        end(&c, -1, now);
        now++;
    }

    assert_in_range(remains(now + 60000), 14307, 14311);
}


/* numbers from a hostile provider */

static void
test_any_numbers(void **state)
{
    uint64_t            now;
    unsigned            i, k;
    llm_target_call_t   c;
    llm_target_limit_t  l[2];

    static const int64_t  n[] = { INT64_MIN, INT64_MIN + 1, -1, 0, 1, 2, 59,
                                  1000000, 9999999999, 10000000000,
                                  10000000001, INT64_MAX - 1, INT64_MAX };

    (void) state;

    seed = 5;
    now = 1;

    for (i = 0; i < 200000; i++) {
        conf.windowed = any(50) == 0 ? !conf.windowed : conf.windowed;
        conf.margin = any(100) == 0 ? UINT32_MAX : 1;

        for (k = 0; k < 2; k++) {
            l[k].limit = n[any(13)];
            l[k].remaining = n[any(13)];
            l[k].reset = n[any(13)];
        }

        if (llm_target_start(tg, one, &conf, 1, n[any(13)], 1, now, &wait_ms,
                             &c) != LLM_OK)
        {
            assert_in_range(wait_ms, 1, 3600000);
            now += any(3) == 0 ? wait_ms : any(1000);
            continue;
        }

        now += any(100) == 0 ? any((uint64_t) 1 << 40) : any(1000);

        llm_target_told(tg, one, &conf, &c, &l[0], &l[1], now);
        now += any(1000);
        llm_target_end(tg, one, &conf, &c, LLM_TARGET_GOOD, n[any(13)],
                       n[any(13)], now);
        assert_true(remains(now) <= 10000000000);
    }
}


int
main(void)
{
#define unit(name)                                                            \
    cmocka_unit_test_setup_teardown(test_ ## name, setup, teardown)

    static const struct CMUnitTest  tests[] = {
        unit(nothing),
        unit(waits),
        unit(counts_once),
        unit(first_ones),
        unit(first_is_slow),
        unit(margin_of_all),
        unit(wakes),
        unit(others_stay),
        unit(corrects_once),
        unit(overtaken),
        unit(slow_answer),
        unit(tokens),
        unit(window),
        unit(says_little),
        unit(rate),
        unit(any_numbers)
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
