
/*
 * Copyright (C) the ngx-llm authors
 *
 * Meters, by hand.
 */


#define _GNU_SOURCE

#include <time.h>

#include "meter_help.h"


static void
add(llm_meter_t *m, int64_t requests, int64_t tokens, int64_t money,
    int64_t wall)
{
    llm_amount_t  a = { requests, tokens, money };

    llm_meter_add(m, &a, wall);
}


/* days and months against the C library's */

static void
test_calendar(void **state)
{
    time_t     t;
    unsigned   i;
    int64_t    wall, left;
    struct tm  tm, next;
    llm_now_t  now;

    (void) state;

    seed = 0x9e3779b97f4a7c15;

    assert_int_equal(llm_meter_day(0), 1);
    assert_int_equal(llm_meter_month(0), 1);
    assert_int_equal(llm_meter_day(DAY - 1), 1);
    assert_int_equal(llm_meter_day(DAY), 2);
    assert_int_equal(llm_meter_day(-1), 1);
    assert_int_equal(llm_meter_month(INT64_MIN), 1);
    assert_int_equal(llm_meter_day(INT64_MAX), UINT32_MAX);
    assert_true(llm_meter_month(INT64_MAX) > 12 * 1000000);

    for (i = 0; i < 200000; i++) {

        /* each second day at first, then anything up to the year 9000 */

        wall = i < 100000 ? (int64_t) i * DAY * 2 + (int64_t) any(DAY)
                          : (int64_t) any((uint64_t) DAY * 365 * 7000);
        t = (time_t) wall;

        assert_non_null(gmtime_r(&t, &tm));
        assert_int_equal(llm_meter_month(wall),
                         (tm.tm_year - 70) * 12 + tm.tm_mon + 1);
        assert_int_equal(llm_meter_day(wall), wall / DAY + 1);

        now = at(0, wall);
        left = llm_meter_day_left(&now);
        assert_int_equal(left % 1000, 0);
        assert_int_equal((wall + left / 1000) % DAY, 0);
        assert_true(left > 0 && left <= DAY * 1000);

        left = llm_meter_month_left(&now);
        t = (time_t) (wall + left / 1000);
        assert_non_null(gmtime_r(&t, &next));
        assert_true(next.tm_mday == 1 && next.tm_hour == 0
                    && next.tm_min == 0 && next.tm_sec == 0);
        assert_int_equal(next.tm_mon, (tm.tm_mon + 1) % 12);
        assert_true(left > 0 && left <= (int64_t) 31 * DAY * 1000);
    }
}


static void
test_minute(void **state)
{
    llm_now_t      now = at(5000, WALL);
    llm_meter_t    m;
    llm_gauge_t    g;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0, sizeof(llm_rates_t));
    rt.rpm = 60;
    rt.burst = 2;
    rt.tpm = 6000;
    rt.burst_tokens = 1000;

    llm_meter_init(&m, &now);
    rf = check(&m, &rt, 1, 1000, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    assert_int_equal(rf.wait_ms, 0);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 1000);
    assert_true(llm_meter_money_left(&m, &rt, &now) == INT64_MAX);
    assert_true(llm_meter_idle(&m, &rt, &now));

    add(&m, 2, 900, 0, WALL);
    assert_false(llm_meter_idle(&m, &rt, &now));

    /* the longest wait is told */
    rf = check(&m, &rt, 1, 200, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS);
    assert_int_equal(rf.wait_ms, 1000);
    assert_int_equal(rf.limit, 2);
    assert_int_equal(rf.used, 2);
    assert_int_equal(rf.need, 1);

    rf = check(&m, &rt, 1, 300, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS);
    assert_int_equal(rf.wait_ms, 2000);
    assert_int_equal(rf.limit, 1000);
    assert_int_equal(rf.used, 900);
    assert_int_equal(rf.need, 300);

    /* "never" is the longest of all */
    rf = check(&m, &rt, 1, 1001, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS);
    assert_int_equal(rf.wait_ms, -1);
    rf = check(&m, &rt, 3, 1000, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS);
    assert_int_equal(rf.wait_ms, -1);

    /* nothing asked of it, nothing refused by it */
    rf = check(&m, &rt, 0, 100, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);

    /* debt: told with a sign, refuses one token, not none */
    add(&m, 0, 1100, 0, WALL);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), -1000);
    rf = check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(rf.wait_ms, 10010);
    assert_int_equal(rf.used, 2000);
    rf = check(&m, &rt, 0, 0, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);

    llm_meter_gauge_tokens(&m, &rt, &g);
    assert_int_equal(g.limit, 1000);
    assert_int_equal(g.rate, 6000);
    assert_int_equal(g.remaining, 0);
    assert_int_equal(g.reset_ms, 20000);

    now = at(6000, WALL + 1);
    rf = check(&m, &rt, 1, 0, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    llm_meter_gauge_requests(&m, &rt, &g);
    assert_int_equal(g.remaining, 1);
    assert_int_equal(g.reset_ms, 1000);

    /* given back, and not more than was taken */
    add(&m, -9, -99999, 0, WALL);
    assert_true(llm_meter_idle(&m, &rt, &now));
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 1000);

    rt.rpm = 0;
    rt.tpm = 0;
    llm_meter_gauge_requests(&m, &rt, &g);
    assert_int_equal(g.limit, 0);
    assert_true(llm_meter_tokens_left(&m, &rt, &now) == INT64_MAX);
    rf = check(&m, &rt, INT64_MAX, INT64_MAX, INT64_MAX, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
}


/* a change of the rate: the old one counts until now */

static void
test_rate_changes(void **state)
{
    llm_now_t      now = at(0, WALL);
    llm_meter_t    m;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0, sizeof(llm_rates_t));
    rt.tpm = 60000;
    rt.burst_tokens = 60000;

    llm_meter_init(&m, &now);
    (void) check(&m, &rt, 0, 1, 0, &now);
    add(&m, 0, 60000, 0, WALL);

    now.ms = 10000;
    rt.tpm = 600;
    rt.burst_tokens = 60000;
    (void) check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 10000);

    now.ms = 11000;
    (void) check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 10010);

    /* a smaller burst makes a debt of what was used */
    rt.burst_tokens = 40000;
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), -9990);
    rf = check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(rf.wait_ms, 999100);

    /* the clock steps back: it stands still */
    now.ms = 5000;
    (void) check(&m, &rt, 0, 1, 0, &now);
    now.ms = 11000;
    (void) check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), -9990);

    /* unlimited: nothing is kept, also not for later */
    rt.tpm = 0;
    (void) check(&m, &rt, 0, 1, 0, &now);
    add(&m, 0, 1000000, 0, WALL);
    assert_true(llm_meter_idle(&m, &rt, &now));
    rt.tpm = 60;
    (void) check(&m, &rt, 0, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 40000);
}


static void
test_day(void **state)
{
    llm_now_t      now = at(0, WALL + DAY - 10);
    llm_meter_t    m;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0, sizeof(llm_rates_t));
    rt.rpd = 10;
    rt.tpd = 1000;
    rt.budget = 5000;

    llm_meter_init(&m, &now);
    rf = check(&m, &rt, 10, 1000, 5000, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    add(&m, 9, 1000, 4000, now.wall);

    rf = check(&m, &rt, 1, 0, 1000, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);

    rf = check(&m, &rt, 2, 1, 1000, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS_DAY);
    assert_int_equal(rf.wait_ms, 10000);
    assert_int_equal(rf.limit, 10);
    assert_int_equal(rf.used, 9);
    assert_int_equal(rf.need, 2);
    rf = check(&m, &rt, 1, 1, 1000, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS_DAY);
    rf = check(&m, &rt, 1, 0, 1001, &now);
    assert_int_equal(rf.why, LLM_WHY_BUDGET);
    assert_int_equal(rf.wait_ms, 10000);
    rf = check(&m, &rt, 1, 0, 5001, &now);
    assert_int_equal(rf.wait_ms, -1);

    assert_int_equal(llm_meter_money_left(&m, &rt, &now), 1000);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 0);

    /* the longer of a bucket's and the day's */
    rt.rpm = 1;
    rt.burst = 1;
    (void) check(&m, &rt, 1, 0, 0, &now);
    add(&m, 1, 0, 0, now.wall);
    rf = check(&m, &rt, 1, 0, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS);
    assert_int_equal(rf.wait_ms, 60000);
    now.wall -= 100;
    rf = check(&m, &rt, 1, 0, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS_DAY);
    assert_int_equal(rf.wait_ms, 110000);
    now.wall += 100;
    rt.rpm = 0;

    /* midnight: all is new; what was reserved before is settled there */
    now = at(0, WALL + DAY);
    rf = check(&m, &rt, 10, 1000, 5000, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    assert_true(llm_meter_idle(&m, &rt, &now));
    add(&m, 0, 700, 2000, WALL + DAY - 10);
    add(&m, 1, 7, 0, now.wall);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 993);
    assert_int_equal(llm_meter_money_left(&m, &rt, &now), 5000);
    assert_false(llm_meter_idle(&m, &rt, &now));

    now.wall = WALL + DAY - 10;
    (void) check(&m, &rt, 1, 1, 1, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), -700);
    assert_int_equal(llm_meter_money_left(&m, &rt, &now), -1000);
    rf = check(&m, &rt, 0, 0, 1, &now);
    assert_int_equal(rf.used, 6000);

    /* below nothing there is nothing */
    add(&m, -100, -10000, -10000, now.wall);
    assert_int_equal(llm_meter_money_left(&m, &rt, &now), 5000);
}


static void
test_month(void **state)
{
    llm_now_t      now = at(0, WALL + 27 * DAY);
    llm_meter_t    m;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0, sizeof(llm_rates_t));
    rt.budget = 1000;
    rt.month = 1;

    llm_meter_init(&m, &now);
    (void) check(&m, &rt, 1, 0, 1000, &now);
    add(&m, 1, 0, 1000, now.wall);

    now.wall += DAY;
    rf = check(&m, &rt, 1, 0, 1, &now);
    assert_int_equal(rf.why, LLM_WHY_BUDGET);
    assert_int_equal(rf.wait_ms, 3 * DAY * 1000);
    rf = check(&m, &rt, 1, 0, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);

    /* the budget becomes one for a day, and back: both were counted */
    rt.month = 0;
    assert_int_equal(llm_meter_money_left(&m, &rt, &now), 1000);
    rt.month = 1;
    assert_int_equal(llm_meter_money_left(&m, &rt, &now), 0);
    assert_false(llm_meter_idle(&m, &rt, &now));

    now.wall = WALL + 31 * DAY;
    rf = check(&m, &rt, 1, 0, 1000, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    assert_true(llm_meter_idle(&m, &rt, &now));
}


/* a clock that was wrong for a while */

static void
test_wall_jumps(void **state)
{
    unsigned       i;
    llm_now_t      now = at(0, WALL);
    llm_meter_t    m;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0, sizeof(llm_rates_t));
    rt.tpd = 1000;

    llm_meter_init(&m, &now);
    (void) check(&m, &rt, 1, 1, 0, &now);
    add(&m, 1, 300, 0, now.wall);

    /* a day ahead and back, often: both counts are found again */
    for (i = 0; i < 5; i++) {
        now.wall = WALL + DAY;
        (void) check(&m, &rt, 1, 1, 0, &now);
        assert_int_equal(llm_meter_tokens_left(&m, &rt, &now),
                         1000 - 10 * (int) i);
        add(&m, 1, 10, 0, now.wall);

        now.wall = WALL;
        (void) check(&m, &rt, 1, 1, 0, &now);
        assert_int_equal(llm_meter_tokens_left(&m, &rt, &now),
                         700 - (int) i);
        add(&m, 1, 1, 0, now.wall);
    }

    /* behind both: the clock stands still, nothing is counted anew, and what
       both hold is as it was */
    now.wall = WALL - 3 * DAY;
    rf = check(&m, &rt, 1, 951, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS_DAY);
    add(&m, 1, 500, 0, now.wall);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 950);
    now.wall = WALL;
    (void) check(&m, &rt, 1, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 695);

    /* two days ahead and back: the count of today was given up for it, what
       was used meanwhile goes on as today's */
    now.wall = WALL + 3 * DAY;
    (void) check(&m, &rt, 1, 1, 0, &now);
    add(&m, 1, 40, 0, now.wall);
    now.wall = WALL + DAY;
    (void) check(&m, &rt, 1, 1, 0, &now);
    assert_int_equal(llm_meter_tokens_left(&m, &rt, &now), 960);

    /* years ahead for long: limits hold again at once after it */
    for (i = 0; i < 3; i++) {
        now.wall = WALL + (int64_t) (5000 + i) * DAY;
        (void) check(&m, &rt, 1, 1, 0, &now);
        add(&m, 1, 400, 0, now.wall);
    }

    now.wall = WALL + 2 * DAY;
    (void) check(&m, &rt, 1, 1, 0, &now);
    assert_true(llm_meter_tokens_left(&m, &rt, &now) <= 1000);
    add(&m, 1, 1000, 0, now.wall);
    rf = check(&m, &rt, 1, 1, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS_DAY);
    now.wall += DAY;
    (void) check(&m, &rt, 1, 1, 0, &now);
    add(&m, 1, 1000, 0, now.wall);
    rf = check(&m, &rt, 1, 1, 0, &now);
    assert_int_equal(rf.why, LLM_WHY_TOKENS_DAY);
}


static void
test_extremes(void **state)
{
    llm_now_t      now = at(UINT64_MAX, INT64_MAX);
    llm_meter_t    m;
    llm_rates_t    rt;
    llm_refusal_t  rf;

    (void) state;

    memset(&rt, 0xff, sizeof(llm_rates_t));

    llm_meter_init(&m, &now);
    add(&m, INT64_MAX, INT64_MAX, INT64_MAX, now.wall);
    rf = check(&m, &rt, INT64_MAX, INT64_MAX, INT64_MAX, &now);
    assert_true(rf.wait_ms >= -1);
    add(&m, INT64_MAX, INT64_MAX, INT64_MAX, now.wall);
    add(&m, INT64_MAX, INT64_MAX, INT64_MAX, now.wall);
    (void) check(&m, &rt, INT64_MAX, INT64_MAX, INT64_MAX, &now);
    (void) llm_meter_tokens_left(&m, &rt, &now);
    assert_true(llm_meter_money_left(&m, &rt, &now) > 0);

    rt.budget = 1;
    rt.rpm = 1;
    rt.burst = 1;
    rf = check(&m, &rt, 1, 0, 1, &now);
    assert_int_equal(rf.why, LLM_WHY_REQUESTS);
    assert_true(rf.wait_ms > (int64_t) 1 << 55);
    assert_true(llm_meter_money_left(&m, &rt, &now) < 0);

    add(&m, INT64_MIN, INT64_MIN, INT64_MIN, now.wall);
    assert_true(llm_meter_money_left(&m, &rt, &now) == 1);

    now = at(0, INT64_MIN);
    rf = check(&m, &rt, INT64_MIN, INT64_MIN, INT64_MIN, &now);
    assert_int_equal(rf.why, LLM_WHY_NONE);
    assert_true(llm_meter_day_left(&now) > 0);
    assert_true(llm_meter_month_left(&now) > 0);
}


int
main(void)
{
    const struct CMUnitTest  tests[] = {
        cmocka_unit_test(test_calendar),
        cmocka_unit_test(test_minute),
        cmocka_unit_test(test_rate_changes),
        cmocka_unit_test(test_day),
        cmocka_unit_test(test_month),
        cmocka_unit_test(test_wall_jumps),
        cmocka_unit_test(test_extremes),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
